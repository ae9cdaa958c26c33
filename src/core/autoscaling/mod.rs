//! How many servers there should be: AWS's target tracking and step scaling, and how several policies combine.
//!
//! A policy is configuration plus a little memory. [`Policy::recommend`] takes what is observed and the time, and is
//! a pure function of those and of the memory; there is no clock and no chance in here.

pub mod alarm;
pub mod clouds;
pub mod combined;
pub mod forecasting;
pub mod hpa;
pub mod keda;
pub mod knative;
pub mod memory;
pub mod plain;
pub mod proportional;
pub mod recommendation;
pub mod rounding;
pub mod state;
pub mod step;
pub mod target_tracking;
pub mod told;

use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::fmt;

pub use combined::{Combined, CombinedConfig};
pub use recommendation::{Action, Limit, Recommendation, Signal, StageValue};
pub use state::PolicyState;
pub use step::{AdjustmentType, Aggregation, Direction, Step, StepConfig, StepScaling};
pub use target_tracking::{TargetTracking, TargetTrackingConfig};

/// The largest capacity, which is also AWS's: a signed 32-bit integer.
pub const MAX_CAPACITY: i64 = i32::MAX as i64;

/// The largest magnitude of a metric or a target, which is CloudWatch's: 2^360.
pub const MAX_METRIC: f64 = f64::from_bits((1023 + 360) << 52);

/// The smallest and the largest capacity that a policy may recommend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
}

impl Bounds {
    /// Bounds with `0 <= min <= max <= MAX_CAPACITY`.
    pub fn new(min: i64, max: i64) -> Result<Bounds, ConfigError> {
        if !(0..=MAX_CAPACITY).contains(&min) {
            return Err(ConfigError::new("min_capacity", min, format!("a whole number from 0 to {MAX_CAPACITY}")));
        }
        if !(min..=MAX_CAPACITY).contains(&max) {
            let allowed = format!("a whole number from min_capacity ({min}) to {MAX_CAPACITY}");
            return Err(ConfigError::new("max_capacity", max, allowed));
        }
        Ok(Bounds { min, max })
    }

    /// The nearest capacity that is allowed, and which bound moved it.
    #[must_use]
    pub fn clamp(self, capacity: i64) -> (i64, Option<Limit>) {
        if capacity > self.max {
            (self.max, Some(Limit::MaxCapacity))
        } else if capacity < self.min {
            (self.min, Some(Limit::MinCapacity))
        } else {
            (capacity, None)
        }
    }
}

/// What an observation says about one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// The observation does not speak of it: what was recorded before counts.
    Absent,
    /// The observation says that there is no value.
    Missing,
    /// Its value.
    Value(f64),
}

/// What a policy gets to see.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Capacity in service, terminating instances included, warming ones not.
    pub current: i64,
    /// What the group was last asked to be; `None` is `current + warming`.
    pub desired: Option<i64>,
    /// Capacity that was started and does not count in the metric yet.
    pub warming: i64,
    /// Metrics by name; `None` is a missing value.
    pub metrics: &'a [(&'a str, Option<f64>)],
}

impl Observation<'_> {
    /// What was asked for, explicitly or by default.
    #[must_use]
    pub fn asked(&self) -> i64 {
        self.desired.unwrap_or_else(|| self.current.saturating_add(self.warming))
    }

    /// What it says about `name`.
    #[must_use]
    pub fn metric(&self, name: &str) -> Metric {
        match self.metrics.iter().find(|(n, _)| *n == name) {
            None => Metric::Absent,
            Some((_, None)) => Metric::Missing,
            Some((_, Some(v))) => Metric::Value(*v),
        }
    }

    /// Whether its counts are in range.
    pub fn check(&self) -> Result<(), MetricError> {
        let counts = [("current", Some(self.current)), ("desired", self.desired), ("warming", Some(self.warming))];
        for (name, value) in counts {
            if let Some(v) = value
                && !(0..=MAX_CAPACITY).contains(&v)
            {
                return Err(metric_error(name, v, format!("a whole number from 0 to {MAX_CAPACITY} is allowed")));
            }
        }
        Ok(())
    }
}

/// The error about a metric or a field of an observation.
pub fn metric_error(name: &str, value: impl ToString, allowed: impl Into<String>) -> MetricError {
    MetricError { name: name.to_owned(), value: value.to_string(), allowed: allowed.into() }
}

/// Whether `value` is a number that CloudWatch would take, and not negative where it may not be.
pub fn check_metric(name: &str, value: f64, negative: bool) -> Result<(), MetricError> {
    if !value.is_finite() || value.abs() > MAX_METRIC {
        return Err(metric_error(name, value, "a finite number up to 2^360 is allowed, and None for a missing value"));
    }
    if value < 0.0 && !negative {
        return Err(metric_error(name, value, "target tracking needs a metric of 0 or more"));
    }
    Ok(())
}

/// What became of the proposals of one decision, told to every policy that took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the group was asked to be before.
    pub asked: i64,
    /// What it is asked to be now.
    pub desired: i64,
    /// When.
    pub at: Nanos,
}

/// How a policy's wish to scale in counts beside other policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleInVote {
    /// Only if all policies of this kind wish it (target tracking).
    Unanimous,
    /// By itself (step scaling).
    Alone,
    /// Never (target tracking with scale-in disabled).
    Never,
}

/// A scaling policy: the simulator and the binding both call this.
pub trait Policy: Send + fmt::Debug {
    /// The decision for what is observed now. The memory assumes that it is carried out; see [`Policy::rejected`].
    fn recommend(&mut self, obs: &Observation<'_>, now: Nanos) -> Result<Recommendation, MetricError> {
        self.check(obs)?;
        let rec = self.propose(obs, now);
        let outcome = Outcome { asked: rec.asked, desired: rec.desired, at: now };
        self.commit(&rec, &outcome);
        Ok(rec)
    }

    /// Whether this policy can use the observation. Changes nothing.
    fn check(&self, obs: &Observation<'_>) -> Result<(), MetricError>;

    /// What this policy would do with a checked observation. Takes up samples, remembers no action.
    fn propose(&mut self, obs: &Observation<'_>, now: Nanos) -> Recommendation;

    /// Remembers what was decided in the end; `own` is what this policy proposed for it.
    fn commit(&mut self, own: &Recommendation, outcome: &Outcome);

    /// Whether [`Policy::record`] would take this value of a metric that it reads. Changes nothing.
    fn check_value(&self, name: &str, value: f64) -> Result<(), MetricError>;

    /// Takes up one sample of a metric; `None` is a gap.
    fn record(&mut self, name: &str, value: Option<f64>, at: Nanos) -> Result<(), MetricError>;

    /// Takes back the assumption that the recommendation was carried out. Does nothing for one that changed nothing,
    /// that was taken back already, or after which this policy acted again.
    fn rejected(&mut self, rec: &Recommendation);

    /// Whether [`Policy::record`] takes this name.
    fn reads(&self, name: &str) -> bool;

    /// The names it reads, for messages.
    fn metric_names(&self) -> Vec<&str>;

    /// How its wish to scale in counts beside others.
    fn scale_in_vote(&self) -> ScaleInVote;

    /// Its bounds.
    fn bounds(&self) -> Bounds;

    /// The memory, as a plain value.
    fn state(&self) -> PolicyState;

    /// Whether the memory fits this policy's configuration. Changes nothing.
    fn check_state(&self, state: &PolicyState) -> Result<(), ConfigError>;

    /// Takes over a memory, or changes nothing.
    fn restore(&mut self, state: PolicyState) -> Result<(), ConfigError>;

    /// The same configuration with an empty memory.
    fn fresh(&self) -> Box<dyn Policy>;
}
