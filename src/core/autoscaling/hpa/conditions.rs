//! The conditions that an autoscaler shows, as reasons: the status follows from the reason.

use super::behavior::Bound;
use super::calculator::{MetricSpec, Source};

/// Why a condition is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The scale was read.
    SucceededGetScale,
    /// Nothing holds a change back.
    ReadyForNewScale,
    /// Past recommendations were higher.
    ScaleDownStabilized,
    /// Past recommendations were lower.
    ScaleUpStabilized,
    /// The change was made.
    SucceededRescale,
    /// The change was refused.
    FailedUpdateScale,
    /// Zero replicas: somebody paused it.
    ScalingDisabled,
    /// A metric decided.
    ValidMetricFound,
    /// A resource metric failed.
    FailedGetResourceMetric,
    /// A container's resource metric failed.
    FailedGetContainerResourceMetric,
    /// A metric of the pods failed.
    FailedGetPodsMetric,
    /// A metric of an object failed.
    FailedGetObjectMetric,
    /// An external metric failed.
    FailedGetExternalMetric,
    /// Nothing bounds it.
    DesiredWithinRange,
    /// The lower bound does.
    TooFewReplicas,
    /// The upper bound does.
    TooManyReplicas,
    /// The rate of scaling up does.
    ScaleUpLimit,
    /// The rate of scaling down does.
    ScaleDownLimit,
    /// It scaled to zero.
    ScaledToZero,
    /// It did not.
    NotScaledToZero,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 20] = [
        Reason::SucceededGetScale,
        Reason::ReadyForNewScale,
        Reason::ScaleDownStabilized,
        Reason::ScaleUpStabilized,
        Reason::SucceededRescale,
        Reason::FailedUpdateScale,
        Reason::ScalingDisabled,
        Reason::ValidMetricFound,
        Reason::FailedGetResourceMetric,
        Reason::FailedGetContainerResourceMetric,
        Reason::FailedGetPodsMetric,
        Reason::FailedGetObjectMetric,
        Reason::FailedGetExternalMetric,
        Reason::DesiredWithinRange,
        Reason::TooFewReplicas,
        Reason::TooManyReplicas,
        Reason::ScaleUpLimit,
        Reason::ScaleDownLimit,
        Reason::ScaledToZero,
        Reason::NotScaledToZero,
    ];

    /// Its name, which is Kubernetes'.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::SucceededGetScale => "SucceededGetScale",
            Reason::ReadyForNewScale => "ReadyForNewScale",
            Reason::ScaleDownStabilized => "ScaleDownStabilized",
            Reason::ScaleUpStabilized => "ScaleUpStabilized",
            Reason::SucceededRescale => "SucceededRescale",
            Reason::FailedUpdateScale => "FailedUpdateScale",
            Reason::ScalingDisabled => "ScalingDisabled",
            Reason::ValidMetricFound => "ValidMetricFound",
            Reason::FailedGetResourceMetric => "FailedGetResourceMetric",
            Reason::FailedGetContainerResourceMetric => "FailedGetContainerResourceMetric",
            Reason::FailedGetPodsMetric => "FailedGetPodsMetric",
            Reason::FailedGetObjectMetric => "FailedGetObjectMetric",
            Reason::FailedGetExternalMetric => "FailedGetExternalMetric",
            Reason::DesiredWithinRange => "DesiredWithinRange",
            Reason::TooFewReplicas => "TooFewReplicas",
            Reason::TooManyReplicas => "TooManyReplicas",
            Reason::ScaleUpLimit => "ScaleUpLimit",
            Reason::ScaleDownLimit => "ScaleDownLimit",
            Reason::ScaledToZero => "ScaledToZero",
            Reason::NotScaledToZero => "NotScaledToZero",
        }
    }

    /// Which of the four conditions may have it, by their order in [`Conditions`].
    #[must_use]
    pub fn place(self) -> usize {
        match self {
            Reason::SucceededGetScale
            | Reason::ReadyForNewScale
            | Reason::ScaleDownStabilized
            | Reason::ScaleUpStabilized
            | Reason::SucceededRescale
            | Reason::FailedUpdateScale => 0,
            Reason::ScaledToZero | Reason::NotScaledToZero => 1,
            Reason::DesiredWithinRange
            | Reason::TooFewReplicas
            | Reason::TooManyReplicas
            | Reason::ScaleUpLimit
            | Reason::ScaleDownLimit => 3,
            _ => 2,
        }
    }

    /// Whether the condition is true with this reason.
    #[must_use]
    pub fn status(self) -> bool {
        match self.place() {
            0 => self != Reason::FailedUpdateScale,
            1 => self == Reason::ScaledToZero,
            2 => self == Reason::ValidMetricFound,
            _ => self != Reason::DesiredWithinRange,
        }
    }

    /// The reason of a metric that failed.
    #[must_use]
    pub fn failed(spec: &MetricSpec) -> Reason {
        match spec.source {
            Source::Resource if spec.container.is_some() => Reason::FailedGetContainerResourceMetric,
            Source::Resource => Reason::FailedGetResourceMetric,
            Source::Pods => Reason::FailedGetPodsMetric,
            Source::Object => Reason::FailedGetObjectMetric,
            Source::External => Reason::FailedGetExternalMetric,
        }
    }

    /// The reason of a bound.
    #[must_use]
    pub fn bound(bound: Bound) -> Reason {
        match bound {
            Bound::Within => Reason::DesiredWithinRange,
            Bound::TooFew => Reason::TooFewReplicas,
            Bound::TooMany => Reason::TooManyReplicas,
            Bound::ScaleUpLimit => Reason::ScaleUpLimit,
            Bound::ScaleDownLimit => Reason::ScaleDownLimit,
        }
    }
}

/// The four conditions, in the order of their names; one that was never set is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions(pub [Option<Reason>; 4]);

/// Their names.
pub const NAMES: [&str; 4] = ["AbleToScale", "ScaledToZero", "ScalingActive", "ScalingLimited"];

impl Conditions {
    /// Sets the one that has this reason.
    pub fn set(&mut self, reason: Reason) {
        if let Some(place) = self.0.get_mut(reason.place()) {
            *place = Some(reason);
        }
    }

    /// The reason of one, by its place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<Reason> {
        self.0.get(place).copied().flatten()
    }

    /// Name, status and reason of each.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        NAMES.iter().zip(self.0).filter_map(|(name, reason)| {
            let reason = reason?;
            Some((*name, if reason.status() { "True" } else { "False" }, reason.name()))
        })
    }
}
