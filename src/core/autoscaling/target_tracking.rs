//! Target tracking: as much capacity as brings a metric to its target.
//!
//! AWS publishes that capacity follows the metric in proportion, and that both directions round to the larger
//! capacity; not the formula. The alarm pair (3 of 3 one-minute points above the target, 15 of 15 below nine tenths
//! of it) is what its fixed alarms were observed to be; since November 2024 EC2 tunes them itself.

use super::alarm::{Datapoint, Datapoints, Samples};
use super::memory::{Memory, Timing, Wish};
use super::recommendation::{Limit, Recommendation, Rule, Signal};
use super::rounding::{ceil_capacity, compare_at, proportional_need};
use super::state::PolicyState;
use super::{Bounds, MAX_METRIC, Metric, Observation, Outcome, Policy, ScaleInVote, check_metric, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::cmp::Ordering;
use std::sync::Arc;

/// Configuration of [`TargetTracking`].
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTrackingConfig {
    /// The metric's name. It must fall as capacity grows.
    pub metric: String,
    /// The value to hold it at.
    pub target: f64,
    /// Bounds.
    pub bounds: Bounds,
    /// Never scales in.
    pub disable_scale_in: bool,
    /// Scales in below this share of the target, above 0 and at most 1.
    pub scale_in_ratio: f64,
    /// When it scales out; `None` decides on each observation.
    pub high_alarm: Option<Datapoints>,
    /// When it scales in; `None` decides on each observation.
    pub low_alarm: Option<Datapoints>,
    /// The length of an alarm's period.
    pub period: Nanos,
    /// Warm-up and cooldowns.
    pub timing: Timing,
    /// At a capacity of 0, a metric above the target asks for 1.
    pub scale_from_zero: bool,
}

/// A target tracking policy.
#[derive(Clone, Debug)]
pub struct TargetTracking {
    config: TargetTrackingConfig,
    name: Arc<str>,
    samples: Samples,
    memory: Memory,
}

impl TargetTracking {
    /// A policy with an empty memory.
    pub fn new(config: TargetTrackingConfig) -> Result<TargetTracking, ConfigError> {
        check_name(&config.metric)?;
        if !(config.target > 0.0 && config.target <= MAX_METRIC) {
            return Err(ConfigError::new("target", config.target, "a number above 0, up to 2^360"));
        }
        if !(config.scale_in_ratio > 0.0 && config.scale_in_ratio <= 1.0) {
            return Err(ConfigError::new("scale_in_ratio", config.scale_in_ratio, "a number above 0, up to 1"));
        }
        check_period(config.period)?;
        let longest = config.high_alarm.map_or(0, |a| a.n).max(config.low_alarm.map_or(0, |a| a.n));
        Ok(TargetTracking {
            name: config.metric.as_str().into(),
            samples: Samples::new(config.period, longest),
            memory: Memory::default(),
            config,
        })
    }

    /// What the metric says.
    fn reading(&mut self, obs: &Observation<'_>, warm: i64, now: Nanos) -> Reading {
        let c = &self.config;
        let given = obs.metric(&self.name);
        if let (Metric::Value(v), true) = (given, c.high_alarm.is_some() || c.low_alarm.is_some()) {
            self.samples.record(v, now, Some(warm));
        }
        let direct = match given {
            Metric::Value(v) => Some((v, None)),
            Metric::Missing => None,
            Metric::Absent => self.samples.recent(now).map(sized),
        };
        let above = |v: f64| compare_at(v, c.target, v.max(c.target)) == Ordering::Greater;
        let floor = c.scale_in_ratio * c.target;
        let below = |v: f64| compare_at(v, floor, v.max(floor)) == Ordering::Less;
        let ended = self.samples.ended(now);
        let newest = |n| self.samples.last(n, now).last().map(sized);
        let reading = |signal, value: Option<(f64, Option<f64>)>, period| Reading {
            signal,
            metric: value.map(|v| v.0),
            measured_at: value.and_then(|v| v.1),
            period,
        };

        let (high, high_value, high_period) = match c.high_alarm {
            None => (direct.map(|v| above(v.0)), direct, None),
            Some(a) => (self.samples.breached(a, now, |p| above(p.average())), newest(a.n), Some(ended)),
        };
        // Without fresh data there is no action, either way.
        let Some(high) = high else { return reading(Signal::InsufficientData, None, None) };
        if high {
            return reading(Signal::High, high_value, high_period);
        }
        let (low, low_value, low_period) = match c.low_alarm {
            None => (direct.map(|v| below(v.0)), direct, None),
            Some(a) => (self.samples.breached(a, now, |p| below(p.average())), newest(a.n), Some(ended)),
        };
        if low == Some(true) {
            reading(Signal::Low, low_value, low_period)
        } else {
            reading(Signal::Ok, high_value, None)
        }
    }
}

/// What the metric says, the value to size with, the capacity at which that was measured if it may be another than the
/// present one, and the period if an alarm decided.
struct Reading {
    signal: Signal,
    metric: Option<f64>,
    measured_at: Option<f64>,
    period: Option<u64>,
}

fn sized(point: &Datapoint) -> (f64, Option<f64>) {
    (point.average(), point.measured_at())
}

impl Policy for TargetTracking {
    fn check(&self, obs: &Observation<'_>) -> Result<(), MetricError> {
        obs.check()?;
        match obs.metric(&self.name) {
            Metric::Value(v) => self.check_value(&self.name, v),
            _ => Ok(()),
        }
    }

    fn propose(&mut self, obs: &Observation<'_>, now: Nanos) -> Recommendation {
        let view = self.memory.view(obs, &self.config.timing, now);
        let Reading { signal, metric, measured_at, period } = self.reading(obs, view.warm, now);
        let c = &self.config;
        let base = if signal == Signal::High { view.base } else { view.warm };
        // A datapoint that was measured at half the capacity speaks of half the work that it would speak of now.
        let share = measured_at.filter(|_| view.warm > 0).map_or(1.0, |at| at / view.warm as f64);
        let need = metric.map(|m| share * proportional_need(base, m, c.target));
        let mut wanted = need.filter(|_| matches!(signal, Signal::High | Signal::Low)).map(ceil_capacity);
        let mut blocked = None;
        if signal == Signal::High && view.warm == 0 {
            if c.scale_from_zero {
                wanted = wanted.map(|w| w.max(1));
            } else if view.asked == 0 {
                blocked = Some(Limit::ZeroCapacity);
            }
        }
        if signal == Signal::Low && c.disable_scale_in {
            blocked = Some(Limit::DisableScaleIn);
        }
        let wish = match (signal, wanted) {
            (Signal::High, Some(w)) => Wish::Out(w),
            (Signal::Low, Some(w)) if !c.disable_scale_in => Wish::In(w),
            _ => Wish::Hold,
        };
        let (mut desired, mut limit, allowed) = Memory::settle(&view, wish, c.bounds);
        // The metric of a datapoint was measured at the capacity before the decision that it led to: using it again
        // with the new capacity would count it twice.
        let acted = view.acted.filter(|a| Some(a.period) == period);
        if let Some(a) = acted {
            desired = match signal {
                Signal::High => a.desired.max(view.asked),
                _ => a.desired.min(view.asked),
            };
            (desired, limit) = c.bounds.clamp(desired);
            blocked = None;
        }
        let (serial, at) = self.memory.number(acted.filter(|_| desired != view.asked), now);
        Recommendation {
            current: obs.current,
            asked: view.asked,
            desired,
            warming: view.warming,
            limited_by: limit.or(blocked),
            signal,
            rule: Rule::TargetTracking(c.target),
            name: Arc::clone(&self.name),
            metric,
            measured_at: measured_at.unwrap_or(view.warm as f64),
            base,
            need,
            wanted,
            step: None,
            adjustment: None,
            vote: allowed.then_some(desired),
            period,
            repeat: acted.is_some(),
            serial,
            at,
            parts: Vec::new(),
        }
    }

    fn commit(&mut self, own: &Recommendation, outcome: &Outcome) {
        self.memory.commit(&self.config.timing, own, outcome);
    }

    fn check_value(&self, name: &str, value: f64) -> Result<(), MetricError> {
        check_metric(name, value, false)
    }

    fn record(&mut self, name: &str, value: Option<f64>, at: Nanos) -> Result<(), MetricError> {
        check_reads(self, name)?;
        if let Some(v) = value {
            self.check_value(name, v)?;
            self.samples.record(v, at, self.memory.seen);
        }
        Ok(())
    }

    fn rejected(&mut self, rec: &Recommendation) {
        self.memory.rejected(rec);
    }

    fn reads(&self, name: &str) -> bool {
        *self.name == *name
    }

    fn metric_names(&self) -> Vec<&str> {
        vec![&self.name]
    }

    fn scale_in_vote(&self) -> ScaleInVote {
        if self.config.disable_scale_in { ScaleInVote::Never } else { ScaleInVote::Unanimous }
    }

    fn bounds(&self) -> Bounds {
        self.config.bounds
    }

    fn state(&self) -> PolicyState {
        one_state("target_tracking", &self.name, &self.samples, &self.memory)
    }

    fn check_state(&self, state: &PolicyState) -> Result<(), ConfigError> {
        check_one("target_tracking", &self.name, &self.samples, state)
    }

    fn restore(&mut self, state: PolicyState) -> Result<(), ConfigError> {
        self.check_state(&state)?;
        restore_one(&mut self.samples, &mut self.memory, state);
        Ok(())
    }

    fn fresh(&self) -> Box<dyn Policy> {
        let samples = Samples::new(self.config.period, self.samples.longest());
        Box::new(TargetTracking { samples, memory: Memory::default(), ..self.clone() })
    }
}

pub(super) fn check_name(metric: &str) -> Result<(), ConfigError> {
    if metric.is_empty() {
        return Err(ConfigError::new("metric", "''", "the name of a metric"));
    }
    Ok(())
}

pub(super) fn check_period(period: Nanos) -> Result<(), ConfigError> {
    // A day is CloudWatch's longest period.
    if !(1_000_000..=86_400_000_000_000).contains(&period.0) {
        return Err(ConfigError::new("period", period.as_secs_f64(), "seconds from 0.001 to 86400"));
    }
    Ok(())
}

pub(super) fn check_reads(policy: &dyn Policy, name: &str) -> Result<(), MetricError> {
    if policy.reads(name) {
        return Ok(());
    }
    Err(metric_error("name", format!("{name:?}"), format!("this policy reads {}", policy.metric_names().join(", "))))
}

pub(super) fn one_state(kind: &'static str, metric: &str, samples: &Samples, memory: &Memory) -> PolicyState {
    PolicyState::One {
        kind,
        metric: metric.to_owned(),
        period: samples.period(),
        datapoints: samples.points().to_vec(),
        memory: Box::new(memory.clone()),
    }
}

pub(super) fn check_one(expected: &str, name: &str, samples: &Samples, state: &PolicyState) -> Result<(), ConfigError> {
    let PolicyState::One { kind, metric, period, datapoints, memory } = state else {
        return Err(ConfigError::new("state.kind", state.kind(), format!("{expected}, as this policy is")));
    };
    if *kind != expected {
        return Err(ConfigError::new("state.kind", kind, format!("{expected}, as this policy is")));
    }
    if metric != name {
        return Err(ConfigError::new("state.metric", metric, format!("{name}, which this policy reads")));
    }
    if *period != samples.period() {
        let allowed = format!("{}, this policy's period", samples.period().as_secs_f64());
        return Err(ConfigError::new("state.period", period.as_secs_f64(), allowed));
    }
    samples.check(datapoints)?;
    memory.check()
}

pub(super) fn restore_one(samples: &mut Samples, memory: &mut Memory, state: PolicyState) {
    if let PolicyState::One { datapoints, memory: m, .. } = state {
        samples.replace(datapoints);
        *memory = *m;
    }
}
