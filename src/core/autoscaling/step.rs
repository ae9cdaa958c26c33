//! Step scaling: the farther a metric is beyond an alarm's threshold, the larger the change.

use super::alarm::{Datapoint, Datapoints, Samples};
use super::memory::{Memory, Timing, Wish};
use super::recommendation::{Recommendation, Rule, Signal};
use super::rounding::{compare_at, percent_of};
use super::state::PolicyState;
use super::target_tracking::{check_name, check_one, check_period, check_reads, one_state, restore_one};
use super::{Bounds, MAX_CAPACITY, MAX_METRIC, Metric, Observation, Outcome, Policy, ScaleInVote, check_metric};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::cmp::Ordering;
use std::sync::Arc;

/// What a step's adjustment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustmentType {
    /// So many more or fewer.
    ChangeInCapacity,
    /// So many percent of the current capacity more or fewer.
    PercentChangeInCapacity,
    /// So many.
    ExactCapacity,
}

/// On which side of the threshold the alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// At or above it.
    High,
    /// At or below it.
    Low,
}

/// How samples and datapoints become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Their mean.
    Average,
    /// The smallest.
    Minimum,
    /// The largest.
    Maximum,
}

impl Aggregation {
    fn of(self, p: &Datapoint) -> f64 {
        match self {
            Aggregation::Average => p.average(),
            Aggregation::Minimum => p.min,
            Aggregation::Maximum => p.max,
        }
    }

    fn over(self, points: &[Datapoint]) -> Option<f64> {
        let values = points.iter().map(|p| self.of(p));
        match self {
            // The mean of the running mean and each value stays between them, so nothing overflows.
            Aggregation::Average => {
                let mut n = 0.0;
                values.fold(None, |mean: Option<f64>, v| {
                    n += 1.0;
                    Some(mean.map_or(v, |m| m + (v - m) / n))
                })
            }
            Aggregation::Minimum => values.reduce(f64::min),
            Aggregation::Maximum => values.reduce(f64::max),
        }
    }
}

/// One step. Bounds are relative to the threshold; `None` is infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Where it begins.
    pub lower: Option<f64>,
    /// Where it ends.
    pub upper: Option<f64>,
    /// By how much capacity changes.
    pub adjustment: i64,
}

/// Whether steps are what AWS accepts: no gap, no overlap, at most one without a lower and one without an upper bound,
/// never both in one step; a positive upper bound needs a step without one, a negative lower bound likewise.
pub fn check_steps(steps: &[Step]) -> Result<(), ConfigError> {
    let shown = |s: &Step| {
        let bound = |b: Option<f64>| b.map_or("None".to_owned(), |v| v.to_string());
        format!("({}, {})", bound(s.lower), bound(s.upper))
    };
    let bad = |i: usize, s: &Step, allowed: &str| Err(ConfigError::new(format!("steps[{i}]"), shown(s), allowed));
    if steps.is_empty() {
        return Err(ConfigError::new("steps", "()", "at least one step"));
    }
    for (i, s) in steps.iter().enumerate() {
        match (s.lower, s.upper) {
            (None, None) => return bad(i, s, "a step has a lower bound, an upper bound, or both"),
            (lower, upper) => {
                if [lower, upper].iter().flatten().any(|b| !b.is_finite() || b.abs() > MAX_METRIC) {
                    return bad(i, s, "bounds are finite numbers up to 2^360, or None for infinity");
                }
                if let (Some(l), Some(u)) = (lower, upper)
                    && l >= u
                {
                    return bad(i, s, "the upper bound must exceed the lower");
                }
            }
        }
    }
    let open_below = steps.iter().filter(|s| s.lower.is_none()).count();
    let open_above = steps.iter().filter(|s| s.upper.is_none()).count();
    for (i, s) in steps.iter().enumerate() {
        if s.lower.is_none() && open_below > 1 {
            return bad(i, s, "only one step may have no lower bound");
        }
        if s.upper.is_none() && open_above > 1 {
            return bad(i, s, "only one step may have no upper bound");
        }
        if s.upper.is_some_and(|u| u > 0.0) && open_above == 0 {
            return bad(i, s, "with a positive upper bound, one step must have no upper bound");
        }
        if s.lower.is_some_and(|l| l < 0.0) && open_below == 0 {
            return bad(i, s, "with a negative lower bound, one step must have no lower bound");
        }
    }
    let mut order: Vec<(usize, &Step)> = steps.iter().enumerate().collect();
    let low = |s: &Step| s.lower.unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|(_, a), (_, b)| low(a).total_cmp(&low(b)));
    for ((_, a), (j, b)) in order.iter().zip(order.iter().skip(1)) {
        let end = a.upper.unwrap_or(f64::INFINITY);
        if low(b) > end {
            return bad(*j, b, "there must be no gap to the step below it");
        }
        if low(b) < end {
            return bad(*j, b, "it must not overlap the step below it");
        }
    }
    Ok(())
}

/// Configuration of [`StepScaling`].
#[derive(Clone, Debug, PartialEq)]
pub struct StepConfig {
    /// The metric's name.
    pub metric: String,
    /// The alarm's threshold.
    pub threshold: f64,
    /// The alarm's side.
    pub direction: Direction,
    /// The steps.
    pub steps: Vec<Step>,
    /// What the steps' adjustments mean.
    pub adjustment_type: AdjustmentType,
    /// A percentage changes capacity by at least this much.
    pub min_adjustment_magnitude: Option<i64>,
    /// How values become one.
    pub aggregation: Aggregation,
    /// When the alarm goes off; `None` decides on each observation.
    pub alarm: Option<Datapoints>,
    /// The length of the alarm's period.
    pub period: Nanos,
    /// Bounds.
    pub bounds: Bounds,
    /// Warm-up and cooldowns.
    pub timing: Timing,
}

/// A step scaling policy.
#[derive(Clone, Debug)]
pub struct StepScaling {
    config: StepConfig,
    name: Arc<str>,
    samples: Samples,
    memory: Memory,
}

impl StepScaling {
    /// A policy with an empty memory.
    pub fn new(config: StepConfig) -> Result<StepScaling, ConfigError> {
        check_name(&config.metric)?;
        if !config.threshold.is_finite() || config.threshold.abs() > MAX_METRIC {
            return Err(ConfigError::new("threshold", config.threshold, "a finite number up to 2^360"));
        }
        check_steps(&config.steps)?;
        let exact = config.adjustment_type == AdjustmentType::ExactCapacity;
        for (i, s) in config.steps.iter().enumerate() {
            let lowest = if exact { 0 } else { -MAX_CAPACITY };
            if !(lowest..=MAX_CAPACITY).contains(&s.adjustment) {
                let allowed = format!("a whole number from {lowest} to {MAX_CAPACITY}");
                return Err(ConfigError::new(format!("steps[{i}].adjustment"), s.adjustment, allowed));
            }
        }
        if let Some(m) = config.min_adjustment_magnitude {
            if config.adjustment_type != AdjustmentType::PercentChangeInCapacity {
                let allowed = "only with adjustment_type percent_change_in_capacity";
                return Err(ConfigError::new("min_adjustment_magnitude", m, allowed));
            }
            if !(1..=MAX_CAPACITY).contains(&m) {
                let allowed = format!("a whole number from 1 to {MAX_CAPACITY}");
                return Err(ConfigError::new("min_adjustment_magnitude", m, allowed));
            }
        }
        check_period(config.period)?;
        Ok(StepScaling {
            name: config.metric.as_str().into(),
            samples: Samples::new(config.period, config.alarm.map_or(0, |a| a.n)),
            memory: Memory::default(),
            config,
        })
    }

    /// Compares the metric with a bound relative to the threshold.
    fn beyond(&self, metric: f64, bound: f64) -> Ordering {
        let t = self.config.threshold;
        compare_at(metric - t, bound, metric.abs().max(t.abs()).max(bound.abs()))
    }

    /// The step that a metric falls into.
    fn matching(&self, metric: f64) -> Option<(usize, Step)> {
        let inside = |s: &Step| {
            let low = s.lower.map_or(Ordering::Greater, |b| self.beyond(metric, b));
            let up = s.upper.map_or(Ordering::Less, |b| self.beyond(metric, b));
            match self.config.direction {
                Direction::High => low != Ordering::Less && up == Ordering::Less,
                Direction::Low => low == Ordering::Greater && up != Ordering::Greater,
            }
        };
        self.config.steps.iter().copied().enumerate().find(|(_, s)| inside(s))
    }

    /// Whether a datapoint is at or beyond the threshold.
    fn breaches(&self, value: f64) -> bool {
        match self.config.direction {
            Direction::High => self.beyond(value, 0.0) != Ordering::Less,
            Direction::Low => self.beyond(value, 0.0) != Ordering::Greater,
        }
    }

    fn adjustment(&self, base: i64, step: &Step) -> i64 {
        match self.config.adjustment_type {
            AdjustmentType::ChangeInCapacity => step.adjustment,
            AdjustmentType::ExactCapacity => step.adjustment - base,
            AdjustmentType::PercentChangeInCapacity => {
                let change = percent_of(base, step.adjustment);
                let least = self.config.min_adjustment_magnitude.unwrap_or(0);
                change.signum() * change.abs().max(if change == 0 { 0 } else { least })
            }
        }
    }

    /// The signal, the value that the steps see, and the period if an alarm decided.
    fn signal(&mut self, obs: &Observation<'_>, now: Nanos) -> (Signal, Option<f64>, Option<u64>) {
        let given = obs.metric(&self.name);
        let how = self.config.aggregation;
        let fired = match self.config.direction {
            Direction::High => Signal::High,
            Direction::Low => Signal::Low,
        };
        let Some(alarm) = self.config.alarm else {
            let value = match given {
                Metric::Value(v) => Some(v),
                Metric::Missing => None,
                Metric::Absent => self.samples.recent(now).map(|p| how.of(p)),
            };
            return match value {
                None => (Signal::InsufficientData, None, None),
                Some(v) => (if self.breaches(v) { fired } else { Signal::Ok }, value, None),
            };
        };
        if let Metric::Value(v) = given {
            self.samples.record(v, now, None);
        }
        let value = how.over(self.samples.last(alarm.n, now));
        match self.samples.breached(alarm, now, |p| self.breaches(how.of(p))) {
            None => (Signal::InsufficientData, None, None),
            Some(false) => (Signal::Ok, value, None),
            Some(true) => (fired, value, Some(self.samples.ended(now))),
        }
    }
}

impl Policy for StepScaling {
    fn check(&self, obs: &Observation<'_>) -> Result<(), MetricError> {
        obs.check()?;
        match obs.metric(&self.name) {
            Metric::Value(v) => self.check_value(&self.name, v),
            _ => Ok(()),
        }
    }

    fn propose(&mut self, obs: &Observation<'_>, now: Nanos) -> Recommendation {
        let (signal, metric, period) = self.signal(obs, now);
        let view = self.memory.view(obs, &self.config.timing, now);
        // Without an alarm the steps alone decide; with one, only while it sounds.
        let open = self.config.alarm.is_none() || matches!(signal, Signal::High | Signal::Low);
        let matched = metric.filter(|_| open).and_then(|m| self.matching(m));
        let mut base = view.base;
        let mut change = matched.map_or(0, |(_, s)| self.adjustment(base, &s));
        if change < 0 && base != view.warm {
            // A cooldown after a scale-out is no reason to scale in from less than there is.
            base = view.warm;
            change = matched.map_or(0, |(_, s)| self.adjustment(base, &s));
        }
        let wanted = matched.map(|_| (base + change).max(0));
        let wish = match (wanted, change.signum()) {
            (Some(w), 1) => Wish::Out(w),
            (Some(w), -1) => Wish::In(w),
            _ => Wish::Hold,
        };
        let (mut desired, mut limited_by, allowed) = Memory::settle(&view, wish, self.config.bounds);
        let acted = view.acted.filter(|a| change != 0 && Some(a.period) == period);
        if let Some(a) = acted {
            desired = if change > 0 { a.desired.max(view.asked) } else { a.desired.min(view.asked) };
            (desired, limited_by) = self.config.bounds.clamp(desired);
        }
        // A step that asks for no change is an opinion too: this capacity is right.
        let vote = (allowed || (matched.is_some() && change == 0)).then_some(desired);
        let (serial, at) = self.memory.number(acted.filter(|_| desired != view.asked), now);
        Recommendation {
            current: obs.current,
            asked: view.asked,
            desired,
            warming: view.warming,
            limited_by,
            signal,
            rule: Rule::StepScaling(self.config.threshold),
            name: Arc::clone(&self.name),
            metric,
            measured_at: view.warm as f64,
            base,
            need: None,
            wanted,
            step: matched.map(|(i, _)| i),
            adjustment: Some(change),
            vote,
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
        check_metric(name, value, true)
    }

    fn record(&mut self, name: &str, value: Option<f64>, at: Nanos) -> Result<(), MetricError> {
        check_reads(self, name)?;
        if let Some(v) = value {
            self.check_value(name, v)?;
            self.samples.record(v, at, None);
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
        ScaleInVote::Alone
    }

    fn bounds(&self) -> Bounds {
        self.config.bounds
    }

    fn state(&self) -> PolicyState {
        one_state("step_scaling", &self.name, &self.samples, &self.memory)
    }

    fn check_state(&self, state: &PolicyState) -> Result<(), ConfigError> {
        check_one("step_scaling", &self.name, &self.samples, state)
    }

    fn restore(&mut self, state: PolicyState) -> Result<(), ConfigError> {
        self.check_state(&state)?;
        restore_one(&mut self.samples, &mut self.memory, state);
        Ok(())
    }

    fn fresh(&self) -> Box<dyn Policy> {
        let samples = Samples::new(self.config.period, self.samples.longest());
        Box::new(StepScaling { samples, memory: Memory::default(), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_checked_as_aws_does() {
        let step = |lower, upper| Step { lower, upper, adjustment: 1 };
        let full = [
            step(None, Some(-10.0)),
            step(Some(-10.0), Some(0.0)),
            step(Some(0.0), Some(10.0)),
            step(Some(10.0), None),
        ];
        assert!(check_steps(&full).is_ok());
        let refused = |steps: &[Step], part: &str| {
            let error = check_steps(steps).unwrap_err();
            assert!(error.allowed.contains(part), "{error}");
        };
        refused(&[], "at least one");
        refused(&[step(None, None)], "or both");
        refused(&[step(Some(0.0), Some(10.0)), step(Some(20.0), None)], "gap");
        refused(&[step(Some(0.0), Some(10.0)), step(Some(5.0), None)], "overlap");
        refused(&[step(Some(0.0), Some(10.0))], "positive upper");
        refused(&[step(Some(-1.0), Some(0.0))], "negative lower");
        refused(&[step(Some(f64::NAN), None)], "finite");
    }

    #[test]
    fn an_average_over_datapoints_does_not_overflow() {
        let point = |v| Datapoint { period: 1, count: 1, sum: v, min: v, max: v, placed: 0.0, work: 0.0 };
        let points = [point(MAX_METRIC), point(MAX_METRIC), point(-MAX_METRIC)];
        let mean = Aggregation::Average.over(&points).unwrap();
        assert!((mean / MAX_METRIC - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(Aggregation::Maximum.over(&points), Some(MAX_METRIC));
        assert_eq!(Aggregation::Minimum.over(&[]), None);
    }
}
