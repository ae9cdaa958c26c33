//! Cloud Run: instances for the concurrency and the CPU of the last minute, at a share of what they can take.
//!
//! Source: Google Cloud, about instance autoscaling in Cloud Run services, and custom scaling targets.

use super::config::Config;
use super::tell::{Tale, value};
use super::{CloudPolicy, Seen, named};
use crate::core::autoscaling::Bounds;
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::rounding::{ceil_capacity, proportional_need};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::error::{ConfigError, MetricError};

/// The policy. It remembers nothing but how often it was asked.
#[derive(Clone, Debug)]
pub struct CloudRun {
    concurrency: f64,
    concurrency_target: f64,
    cpu_target: f64,
    metric: String,
    cpu_metric: String,
    bounds: Bounds,
    serial: u64,
}

impl CloudRun {
    /// A policy.
    pub fn new(c: &Config<'_>) -> Result<CloudRun, ConfigError> {
        let target = |name| c.number(name, "a share from 0.1 to 0.95", |x| (0.1..=0.95).contains(&x));
        Ok(CloudRun {
            concurrency: c.whole("max_concurrency", 1, 1000)? as f64,
            concurrency_target: target("concurrency_target")?,
            cpu_target: target("cpu_target")?,
            metric: c.text("metric")?.to_owned(),
            cpu_metric: c.text("cpu_metric")?.to_owned(),
            bounds: c.bounds("min_instances", "max_instances")?,
            serial: 0,
        })
    }
}

impl CloudPolicy for CloudRun {
    fn kind(&self) -> &'static str {
        "cloud_run"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let in_flight = value(seen.obs, &self.metric, false)?;
        let cpu = value(seen.obs, &self.cpu_metric, false)?;
        let mut tale = Tale::new(seen.obs);
        let by_concurrency = in_flight.map(|n| n / (self.concurrency * self.concurrency_target));
        // Without an instance there is no CPU to measure.
        let current = seen.obs.current;
        let by_cpu = cpu.filter(|_| current > 0).map(|u| proportional_need(current, u, self.cpu_target));
        tale.both("by_concurrency", Plain::of(by_concurrency, Plain::Real));
        tale.both("by_cpu", Plain::of(by_cpu, Plain::Real));
        let wanted = by_concurrency.into_iter().chain(by_cpu).map(ceil_capacity).max();
        tale.both("recommended", Plain::of(wanted, Plain::Whole));
        if wanted.is_none() {
            tale.missing();
        }
        let desired = tale.bound(self.bounds, wanted.unwrap_or_else(|| seen.obs.asked()));
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![named("serial", counted(self.serial))]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        self.serial = f.count("serial")?;
        Ok(())
    }
}
