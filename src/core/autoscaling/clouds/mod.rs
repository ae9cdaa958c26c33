//! How many servers there should be by the rules of AWS's simple, scheduled and predictive scaling, Google's managed
//! instance groups, Azure Monitor, Cloud Run, Ray Serve and AIBrix, and the filters that can be put over any policy.
//!
//! A configuration arrives as a plain map, is read once by [`config::Config`] and checked there. What a policy has to
//! know of a calendar (which schedule is active, which action was due) is worked out by the caller, who has the time
//! zones; the rule for it is here.

pub mod aibrix;
pub mod azure;
pub mod cloud_run;
pub mod config;
pub mod filters;
pub mod mig;
pub mod predictive;
pub mod ray_serve;
pub mod scheduled;
pub mod simple;
pub mod tell;

use super::plain::Reader;
use super::told::{Plain, Written};
use super::{Observation, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use config::Config;
use std::fmt;

/// The layout of every memory in here.
pub(crate) const VERSION: i64 = 1;

/// What is observed, beyond what every policy sees.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Counts and metrics.
    pub obs: &'a Observation<'a>,
    /// What the caller worked out for this one decision, such as the schedules that are active.
    pub given: &'a Plain,
    /// When.
    pub now: Nanos,
}

/// A policy of a cloud.
pub trait CloudPolicy: Send + fmt::Debug {
    /// Its name in a memory.
    fn kind(&self) -> &'static str;

    /// The decision for what is observed.
    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError>;

    /// Takes up one sample of a metric, if it keeps samples.
    fn record(&mut self, name: &str, _value: Option<f64>, _at: Nanos) -> Result<(), MetricError> {
        Err(metric_error(name, "a sample", "this policy keeps none; observations carry its metrics"))
    }

    /// Takes up what is no sample: a forecast.
    fn learn(&mut self, _given: &Plain) -> Result<(), ConfigError> {
        Err(ConfigError::new("forecast", self.kind(), "a policy that reads a forecast"))
    }

    /// Takes back that recommendation of this number and instant was carried out.
    fn rejected(&mut self, _serial: u64, _at: Nanos) {}

    /// The memory beside version and kind.
    fn fields(&self) -> Vec<(String, Plain)>;

    /// Takes over a memory whose version and kind fit, or changes nothing.
    fn take(&mut self, fields: &Reader<'_>) -> Result<(), ConfigError>;

    /// The memory as a plain value.
    fn state(&self) -> Plain {
        let mut all = vec![named("version", Plain::Whole(VERSION)), named("kind", Plain::text(self.kind()))];
        all.extend(self.fields());
        Plain::Map(all)
    }

    /// Takes over what [`CloudPolicy::state`] gave, or changes nothing.
    fn restore(&mut self, state: &Plain) -> Result<(), ConfigError> {
        let reader = Reader::new("state", state)?;
        reader.check(VERSION, self.kind())?;
        self.take(&reader)
    }
}

/// The policy of this name, configured by a plain map.
pub fn build(kind: &str, config: &Plain) -> Result<Box<dyn CloudPolicy>, ConfigError> {
    let c = Config::new("", config)?;
    Ok(match kind {
        "ray_serve" => Box::new(ray_serve::RayServe::new(&c)?),
        "simple_scaling" => Box::new(simple::SimpleScaling::new(&c)?),
        "scheduled_scaling" => Box::new(scheduled::ScheduledScaling::new(&c)?),
        "predictive_scaling" => Box::new(predictive::PredictiveScaling::new(&c)?),
        "managed_instance_group" => Box::new(mig::Mig::new(&c)?),
        "azure" => Box::new(azure::Azure::new(&c)?),
        "cloud_run" => Box::new(cloud_run::CloudRun::new(&c)?),
        "aibrix_apa" => Box::new(aibrix::Apa::new(&c)?),
        "stabilization_window" => Box::new(filters::StabilizationWindow::new(&c)?),
        "scale_in_control" => Box::new(filters::ScaleInControl::new(&c)?),
        "flapping_guard" => Box::new(filters::FlappingGuard::new(&c)?),
        "tolerance" => Box::new(filters::Tolerance::new(&c)?),
        other => return Err(ConfigError::new("kind", other, "a policy of the clouds")),
    })
}

/// A named plain value.
pub(crate) fn named(name: &str, value: Plain) -> (String, Plain) {
    (name.to_owned(), value)
}

/// An instant or nothing, for a memory.
pub(crate) fn maybe_instant(at: Option<Nanos>) -> Plain {
    Plain::of(at, super::plain::instant)
}
