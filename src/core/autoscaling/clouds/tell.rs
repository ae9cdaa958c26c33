//! Putting an outcome into words, the same way for all of these policies.

use super::named;
use crate::core::autoscaling::recommendation::Action;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, Limit, Metric, Observation, check_metric};
use crate::core::error::MetricError;
use crate::core::time::Nanos;
use std::cmp::Ordering;

/// An outcome in the making.
#[derive(Debug)]
pub struct Tale<'a> {
    obs: &'a Observation<'a>,
    stages: Vec<(String, Plain)>,
    details: Vec<(String, Plain)>,
    limited_by: Option<String>,
    missing: bool,
}

impl<'a> Tale<'a> {
    /// Begins with what is there.
    #[must_use]
    pub fn new(obs: &'a Observation<'a>) -> Tale<'a> {
        let stages = vec![named("current", Plain::Whole(obs.current)), named("asked", Plain::Whole(obs.asked()))];
        Tale { obs, stages, details: Vec::new(), limited_by: None, missing: false }
    }

    /// A stage of the decision.
    pub fn stage(&mut self, name: &str, value: Plain) {
        self.stages.push(named(name, value));
    }

    /// Something that the policy's own system would show.
    pub fn detail(&mut self, name: &str, value: Plain) {
        self.details.push(named(name, value));
    }

    /// Both.
    pub fn both(&mut self, name: &str, value: Plain) {
        self.stage(name, value.clone());
        self.detail(name, value);
    }

    /// What bound the decision; the last one told counts.
    pub fn limit(&mut self, name: &str) {
        self.limited_by = Some(name.to_owned());
    }

    /// There is no metric to decide on.
    pub fn missing(&mut self) {
        self.missing = true;
    }

    /// The nearest capacity within bounds, which are told if they bind.
    pub fn bound(&mut self, bounds: Bounds, capacity: i64) -> i64 {
        let (bounded, limit) = bounds.clamp(capacity);
        if let Some(limit) = limit {
            self.limit(Limit::name(limit));
        }
        self.stage("bounded", Plain::Whole(bounded));
        bounded
    }

    /// The outcome.
    #[must_use]
    pub fn end(mut self, desired: i64, serial: u64, at: Nanos) -> Written {
        let asked = self.obs.asked();
        let action = match desired.cmp(&asked) {
            Ordering::Greater => Action::ScaleOut,
            Ordering::Less => Action::ScaleIn,
            Ordering::Equal if self.missing => Action::InsufficientData,
            Ordering::Equal => Action::None,
        };
        self.stage("limited_by", Plain::of(self.limited_by.as_deref(), Plain::text));
        self.stage("desired", Plain::Whole(desired));
        let what = match action {
            Action::ScaleOut => format!("from {asked} to {desired}"),
            Action::ScaleIn => format!("from {asked} down to {desired}"),
            Action::InsufficientData => format!("{asked} stays: there is no metric to decide on"),
            Action::None => format!("{asked} stays"),
        };
        let why = self.limited_by.as_deref().map_or_else(String::new, |l| format!("; bound by {l}"));
        Written {
            current: self.obs.current,
            desired,
            action,
            limited_by: self.limited_by,
            reason: format!("{what}{why}"),
            trace: self.stages,
            details: self.details,
            serial,
            at,
        }
    }
}

/// The value of a metric, if there is one. Raises for one that is no number, or is negative where it may not be.
pub fn value(obs: &Observation<'_>, name: &str, negative: bool) -> Result<Option<f64>, MetricError> {
    match obs.metric(name) {
        Metric::Value(v) => check_metric(name, v, negative).map(|()| Some(v)).map_err(|e| MetricError {
            allowed: if v < 0.0 && v.is_finite() { "a number of 0 or more is allowed".to_owned() } else { e.allowed },
            ..e
        }),
        Metric::Absent | Metric::Missing => Ok(None),
    }
}

/// A whole number out of a float that was rounded already.
#[must_use]
pub fn whole(x: f64) -> i64 {
    // The cast saturates, and NaN is 0.
    x as i64
}
