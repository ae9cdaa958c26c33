//! Proportional scaling with the usual filters: tolerance, stabilization, limits on each change, a cooldown.
//!
//! The order of the stages is: raw need, tolerance, bounds, stabilization, limit of growth, limit of shrinking, cooldown,
//! and bounds once more. Every stage but the first and the last can be left out.

use super::plain::{Reader, instant};
use super::recommendation::Action;
use super::told::{Outcome, Plain};
use super::{Bounds, Metric, Observation, check_metric};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::collections::VecDeque;
use std::sync::Arc;

const VERSION: i64 = 1;
const KIND: &str = "proportional";
/// Floats that are this near to a whole number, relatively, are it.
const NEAR: f64 = 1e-9;

/// What the metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// A mean over the servers, to be held at a target: `servers * metric / target`.
    Average {
        /// The target.
        target: f64,
        /// How far the metric may be from it, relatively, without action.
        tolerance: f64,
        /// The metric that says how many servers the mean is over; without one, those in service.
        measured: Option<String>,
    },
    /// A sum over the servers: `metric / target`.
    Total {
        /// What one server takes.
        target: f64,
        /// How far the metric per desired server may be from it, relatively, without action.
        tolerance: f64,
    },
    /// A change for each range of the metric: the first range that holds it counts.
    Steps(Vec<Range>),
}

/// `low <= metric < high` changes the capacity by `change`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The lower bound, which belongs to the range.
    pub low: f64,
    /// The upper bound, which does not.
    pub high: f64,
    /// What it adds.
    pub change: i64,
}

/// How a policy is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct ProportionalConfig {
    /// The metric's name.
    pub metric: String,
    /// What it asks for.
    pub need: Need,
    /// Bounds of every recommendation.
    pub bounds: Bounds,
    /// A scale-in goes no lower than the highest recommendation of this time.
    pub stabilization: Nanos,
    /// One decision grows to this many times the capacity...
    pub growth_factor: Option<f64>,
    /// ...or by this much, whichever is more.
    pub growth_step: Option<i64>,
    /// One decision gives up this share at most.
    pub shrink_share: Option<f64>,
    /// No change for this long after a change.
    pub cooldown: Nanos,
}

fn positive(field: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 && value <= super::MAX_METRIC {
        Ok(())
    } else {
        Err(ConfigError::new(field, value, "a finite number above 0"))
    }
}

impl ProportionalConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match &self.need {
            Need::Average { target, tolerance, .. } | Need::Total { target, tolerance } => {
                positive("target", *target)?;
                if !(0.0..1.0).contains(tolerance) {
                    return Err(ConfigError::new("tolerance", tolerance, "a number from 0, below 1"));
                }
            }
            Need::Steps(ranges) => {
                if ranges.is_empty() {
                    return Err(ConfigError::new("steps", "nothing", "at least one (low, high, change)"));
                }
                for (i, r) in ranges.iter().enumerate() {
                    if r.low.is_nan() || r.high.is_nan() || r.low >= r.high {
                        let shown = format!("({}, {}, {})", r.low, r.high, r.change);
                        return Err(ConfigError::new(format!("steps[{i}]"), shown, "low below high"));
                    }
                }
            }
        }
        if let Some(factor) = self.growth_factor
            && !(factor.is_finite() && (1.0..=1e9).contains(&factor))
        {
            return Err(ConfigError::new("growth_factor", factor, "a number from 1 to 1e9, or None"));
        }
        if let Some(step) = self.growth_step
            && step < 1
        {
            return Err(ConfigError::new("growth_step", step, "a whole number of 1 or more, or None"));
        }
        if let Some(share) = self.shrink_share
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(ConfigError::new("shrink_share", share, "a share above 0, up to 1, or None"));
        }
        if self.growth_factor == Some(1.0) && self.growth_step.is_none() {
            return Err(ConfigError::new(
                "growth_factor",
                1.0,
                "more than 1 without a growth_step: it could never grow",
            ));
        }
        Ok(())
    }
}

/// A float as a whole number of servers that is enough.
fn enough(need: f64) -> i64 {
    let near = need.round();
    let whole = if (need - near).abs() <= NEAR * near.abs().max(1.0) { near } else { need.ceil() };
    // The cast saturates.
    whole.clamp(0.0, super::MAX_CAPACITY as f64) as i64
}

/// The policy and its memory.
#[derive(Clone, Debug)]
pub struct Proportional {
    config: Arc<ProportionalConfig>,
    recent: VecDeque<(Nanos, i64)>,
    changed: Option<Nanos>,
    /// The last change's number, and the change before it.
    last: Option<(u64, Option<Nanos>)>,
    serial: u64,
}

/// What it recommends, and why.
#[derive(Clone, Debug)]
pub struct Proposed {
    config: Arc<ProportionalConfig>,
    current: i64,
    asked: i64,
    metric: Option<f64>,
    need: Option<f64>,
    wanted: i64,
    bounded: i64,
    stabilized: i64,
    limited: i64,
    desired: i64,
    limit: Option<&'static str>,
    serial: u64,
    at: Nanos,
}

impl Proportional {
    /// A policy with an empty memory.
    pub fn new(config: ProportionalConfig) -> Result<Proportional, ConfigError> {
        config.check()?;
        let config = Arc::new(config);
        Ok(Proportional { config, recent: VecDeque::new(), changed: None, last: None, serial: 0 })
    }

    /// The same configuration with an empty memory.
    #[must_use]
    pub fn fresh(&self) -> Proportional {
        let config = self.config.clone();
        Proportional { config, recent: VecDeque::new(), changed: None, last: None, serial: 0 }
    }

    /// What the metric alone asks for, before and after rounding; `None` within the tolerance.
    fn raw(&self, value: f64, obs: &Observation<'_>) -> Result<(Option<f64>, Option<i64>), MetricError> {
        let asked = obs.asked();
        Ok(match &self.config.need {
            Need::Average { target, tolerance, measured } => {
                let servers = match measured.as_deref().map(|name| (name, obs.metric(name))) {
                    Some((name, Metric::Value(v))) => {
                        check_metric(name, v, false)?;
                        v
                    }
                    _ => obs.current as f64,
                };
                let need = if servers == 0.0 && value > 0.0 { 1.0 } else { value * servers / target };
                let keep =
                    servers > 0.0 && (value / target - 1.0).abs() <= tolerance + NEAR * f64::from(*tolerance > 0.0);
                (Some(need), (!keep).then(|| enough(need)))
            }
            Need::Total { target, tolerance } => {
                let each = value / (target * asked as f64);
                let keep = asked > 0 && (each - 1.0).abs() <= tolerance + NEAR * f64::from(*tolerance > 0.0);
                let need = value / target;
                (Some(need), (!keep).then(|| enough(need)))
            }
            Need::Steps(ranges) => {
                let found = ranges.iter().find(|r| r.low <= value && value < r.high);
                (None, found.map(|r| asked.saturating_add(r.change)))
            }
        })
    }

    /// The decision. The memory assumes that it is carried out.
    pub fn recommend(&mut self, obs: &Observation<'_>, now: Nanos) -> Result<Proposed, MetricError> {
        obs.check()?;
        let config = self.config.clone();
        let asked = obs.asked();
        let value = match obs.metric(&config.metric) {
            Metric::Value(v) => {
                check_metric(&config.metric, v, false)?;
                Some(v)
            }
            Metric::Absent | Metric::Missing => None,
        };
        let (need, wanted) = match value {
            Some(v) => self.raw(v, obs)?,
            None => (None, None),
        };
        let mut limit = if value.is_some() && wanted.is_none() { Some("tolerance") } else { None };
        let wanted = wanted.unwrap_or(asked);
        let (bounded, bound) = config.bounds.clamp(wanted);
        if let Some(bound) = bound {
            limit = Some(bound.name());
        }
        let stabilized = if value.is_some() { self.stabilize(bounded, asked, now) } else { bounded };
        if stabilized != bounded {
            limit = Some("stabilization");
        }
        let mut limited = stabilized;
        if let Some(most) = most(&config, asked)
            && limited > most
        {
            (limited, limit) = (most, Some("scale_up_limit"));
        }
        if let Some(share) = config.shrink_share {
            let least = enough(asked as f64 * (1.0 - share));
            if limited < least {
                (limited, limit) = (least, Some("scale_down_limit"));
            }
        }
        let (inside, bound) = config.bounds.clamp(limited);
        let mut desired = inside;
        if let Some(bound) = bound {
            limit = Some(bound.name());
        }
        let cooling = self.changed.is_some_and(|at| now.since(at) < config.cooldown);
        let (kept, outside) = config.bounds.clamp(asked);
        if cooling && desired != asked && outside.is_none() {
            (desired, limit) = (kept, Some("cooldown"));
        }
        self.serial = self.serial.wrapping_add(1);
        if desired != asked {
            self.last = Some((self.serial, self.changed));
            self.changed = Some(now);
        }
        let (current, serial) = (obs.current, self.serial);
        Ok(Proposed {
            config,
            current,
            asked,
            metric: value,
            need,
            wanted,
            bounded,
            stabilized,
            limited,
            desired,
            limit,
            serial,
            at: now,
        })
    }

    /// The highest recommendation of the window, now included, when this one is lower than what is there.
    fn stabilize(&mut self, bounded: i64, asked: i64, now: Nanos) -> i64 {
        let window = self.config.stabilization;
        if window == Nanos::ZERO {
            return bounded;
        }
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) >= window && *at < now) {
            self.recent.pop_front();
        }
        // Of equal instants and of smaller older ones nothing can become the highest.
        while self.recent.back().is_some_and(|(_, n)| *n <= bounded) {
            self.recent.pop_back();
        }
        self.recent.push_back((now, bounded));
        if bounded < asked { self.recent.front().map_or(bounded, |(_, n)| *n) } else { bounded }
    }

    /// Takes back the assumption that the change of this number was carried out, if it was the last one.
    pub fn rejected(&mut self, serial: u64) {
        if let Some((number, before)) = self.last
            && number == serial
        {
            (self.changed, self.last) = (before, None);
        }
    }

    /// The metric that it reads.
    #[must_use]
    pub fn metric(&self) -> &str {
        &self.config.metric
    }

    /// The memory as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        let recent = self.recent.iter().map(|(at, n)| Plain::List(vec![instant(*at), Plain::Whole(*n)]));
        let last = self.last.map(|(n, before)| Plain::List(vec![Plain::Whole(n as i64), Plain::of(before, instant)]));
        Plain::Map(vec![
            ("version".to_owned(), Plain::Whole(VERSION)),
            ("kind".to_owned(), Plain::text(KIND)),
            ("serial".to_owned(), Plain::Whole(self.serial as i64)),
            ("changed".to_owned(), Plain::of(self.changed, instant)),
            ("last".to_owned(), Plain::of(last, |l| l)),
            ("recent".to_owned(), Plain::List(recent.collect())),
        ])
    }

    /// Takes over a memory, or changes nothing.
    pub fn restore(&mut self, state: &Plain) -> Result<(), ConfigError> {
        let r = Reader::new("state", state)?;
        r.check(VERSION, KIND)?;
        let mut recent = VecDeque::new();
        for row in r.rows("recent", 2)? {
            match row.as_slice() {
                [Plain::Whole(at), Plain::Whole(n)] if *at >= 0 => recent.push_back((Nanos(at.unsigned_abs()), *n)),
                _ => return Err(ConfigError::new("state.recent", "a row", "pairs of an instant and a capacity")),
            }
        }
        let last = match r.get("last")? {
            Plain::Nothing => None,
            Plain::List(pair) => match pair.as_slice() {
                [Plain::Whole(n), Plain::Nothing] => Some((n.unsigned_abs(), None)),
                [Plain::Whole(n), Plain::Whole(at)] if *at >= 0 => {
                    Some((n.unsigned_abs(), Some(Nanos(at.unsigned_abs()))))
                }
                _ => return Err(ConfigError::new("state.last", "a pair", "a number and an instant")),
            },
            _ => return Err(ConfigError::new("state.last", "another value", "a pair or None")),
        };
        let (changed, serial) = (r.optional_instant("changed")?, r.count("serial")?);
        (self.recent, self.changed, self.last, self.serial) = (recent, changed, last, serial);
        Ok(())
    }
}

/// The most that one decision may grow to.
fn most(config: &ProportionalConfig, asked: i64) -> Option<i64> {
    // Down to whole servers, unless it is whole but for the float.
    let by_factor = config.growth_factor.map(|f| {
        let most = asked as f64 * f;
        let near = most.round();
        if (most - near).abs() <= NEAR * near.max(1.0) { near as i64 } else { most.floor() as i64 }
    });
    let by_step = config.growth_step.map(|s| asked.saturating_add(s));
    match (by_factor, by_step) {
        // From nothing, any factor stays at nothing: one server may always come.
        (Some(a), None) => Some(a.max(asked.saturating_add(1))),
        (a, b) => a.max(b),
    }
}

impl Outcome for Proposed {
    fn current(&self) -> i64 {
        self.current
    }

    fn desired(&self) -> i64 {
        self.desired
    }

    fn action(&self) -> Action {
        match self.desired.cmp(&self.asked) {
            std::cmp::Ordering::Greater => Action::ScaleOut,
            std::cmp::Ordering::Less => Action::ScaleIn,
            std::cmp::Ordering::Equal if self.metric.is_none() => Action::InsufficientData,
            std::cmp::Ordering::Equal => Action::None,
        }
    }

    fn limited_by(&self) -> Option<&str> {
        self.limit
    }

    fn reason(&self) -> String {
        let name = &self.config.metric;
        let seen = self.metric.map_or_else(|| format!("no data for {name}"), |m| format!("{name} is {m}"));
        let change = if self.desired == self.asked {
            format!("stays at {}", self.desired)
        } else {
            format!("{} to {}", self.asked, self.desired)
        };
        let because = self.limit.map_or_else(String::new, |l| format!(" ({})", l.replace('_', " ")));
        format!("{seen}: {change}{because}")
    }

    fn trace(&self) -> Vec<(String, Plain)> {
        let whole = Plain::Whole;
        [
            ("current", whole(self.current)),
            ("asked", whole(self.asked)),
            ("metric", Plain::of(self.metric, Plain::Real)),
            ("need", Plain::of(self.need, Plain::Real)),
            ("wanted", whole(self.wanted)),
            ("bounded", whole(self.bounded)),
            ("stabilized", whole(self.stabilized)),
            ("limited", whole(self.limited)),
            ("limited_by", Plain::of(self.limit, Plain::text)),
            ("desired", whole(self.desired)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn details(&self) -> Vec<(String, Plain)> {
        vec![
            ("metric".to_owned(), Plain::of(self.metric, Plain::Real)),
            ("need".to_owned(), Plain::of(self.need, Plain::Real)),
            ("wanted".to_owned(), Plain::Whole(self.wanted)),
        ]
    }

    fn serial(&self) -> u64 {
        self.serial
    }

    fn at(&self) -> Nanos {
        self.at
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(need: Need) -> ProportionalConfig {
        ProportionalConfig {
            metric: "m".to_owned(),
            need,
            bounds: Bounds::new(1, 100).unwrap(),
            stabilization: Nanos::ZERO,
            growth_factor: None,
            growth_step: None,
            shrink_share: None,
            cooldown: Nanos::ZERO,
        }
    }

    fn average(target: f64, tolerance: f64) -> Need {
        Need::Average { target, tolerance, measured: None }
    }

    fn at(policy: &mut Proportional, asked: i64, m: Option<f64>, seconds: f64) -> Proposed {
        let metrics = [("m", m)];
        let obs = Observation { current: asked, desired: Some(asked), warming: 0, metrics: &metrics };
        policy.recommend(&obs, Nanos::from_secs_f64(seconds)).unwrap()
    }

    fn once(config: ProportionalConfig, asked: i64, m: f64) -> (i64, Option<&'static str>) {
        let p = at(&mut Proportional::new(config).unwrap(), asked, Some(m), 0.0);
        (p.desired, p.limit)
    }

    #[test]
    fn needs_and_bounds() {
        assert_eq!(once(config(average(0.5, 0.0)), 4, 0.75), (6, None));
        assert_eq!(once(config(average(0.1, 0.0)), 1, 0.3), (3, None)); // not 2.9999999999999996 nor 4
        assert_eq!(once(config(average(0.5, 0.1)), 10, 0.55), (10, Some("tolerance")));
        assert_eq!(once(config(average(0.5, 0.1)), 10, 0.56), (12, None));
        assert_eq!(once(config(Need::Total { target: 5.0, tolerance: 0.0 }), 1, 41.0), (9, None));
        assert_eq!(once(config(average(0.5, 0.0)), 90, 1.0), (100, Some("max_capacity")));
        assert_eq!(once(config(average(0.5, 0.0)), 90, 0.0), (1, Some("min_capacity")));
        let steps =
            vec![Range { low: 0.0, high: 5.0, change: -1 }, Range { low: 20.0, high: f64::INFINITY, change: 4 }];
        for (m, expected) in [(4.9, 2), (5.0, 3), (19.0, 3), (20.0, 7), (1e9, 7)] {
            assert_eq!(once(config(Need::Steps(steps.clone())), 3, m).0, expected, "{m}");
        }
    }

    #[test]
    fn from_zero_it_may_grow() {
        let mut c = config(average(0.5, 0.0));
        c.bounds = Bounds::new(0, 10).unwrap();
        c.growth_factor = Some(2.0);
        assert_eq!(once(c.clone(), 0, 0.1).0, 1);
        assert_eq!(once(c, 0, 0.0).0, 0);
    }

    #[test]
    fn each_filter_alone() {
        let base = || config(average(0.5, 0.0));
        let growth = ProportionalConfig { growth_factor: Some(1.5), ..base() };
        assert_eq!(once(growth.clone(), 3, 1.0), (4, Some("scale_up_limit")));
        assert_eq!(once(ProportionalConfig { growth_step: Some(2), ..growth }, 3, 1.0).0, 5);
        let shrink = ProportionalConfig { shrink_share: Some(0.5), ..base() };
        assert_eq!(once(shrink, 9, 0.0), (5, Some("scale_down_limit")));
        let mut p = Proportional::new(ProportionalConfig { cooldown: Nanos::from_secs_f64(60.0), ..base() }).unwrap();
        assert_eq!(at(&mut p, 2, Some(1.0), 0.0).desired, 4);
        let held = at(&mut p, 4, Some(1.0), 59.9);
        assert_eq!((held.desired, held.limit), (4, Some("cooldown")));
        assert_eq!(at(&mut p, 4, Some(1.0), 60.0).desired, 8);
        let mut p =
            Proportional::new(ProportionalConfig { stabilization: Nanos::from_secs_f64(30.0), ..base() }).unwrap();
        at(&mut p, 4, Some(0.5), 0.0);
        assert_eq!(at(&mut p, 4, Some(0.25), 29.9).desired, 4);
        assert_eq!(at(&mut p, 4, Some(0.25), 30.0).desired, 2);
    }

    #[test]
    fn a_rejected_change_starts_no_cooldown() {
        let c = ProportionalConfig { cooldown: Nanos::from_secs_f64(60.0), ..config(average(0.5, 0.0)) };
        let mut p = Proportional::new(c).unwrap();
        let first = at(&mut p, 2, Some(1.0), 0.0);
        p.rejected(first.serial);
        assert_eq!(at(&mut p, 2, Some(1.0), 1.0).desired, 4);
        p.rejected(first.serial);
        assert_eq!(at(&mut p, 4, Some(1.0), 2.0).desired, 4);
    }

    #[test]
    fn no_data_is_no_action_and_memory_travels() {
        let c = ProportionalConfig { stabilization: Nanos::from_secs_f64(30.0), ..config(average(0.5, 0.0)) };
        let mut p = Proportional::new(c).unwrap();
        assert_eq!(at(&mut p, 3, None, 0.0).action(), Action::InsufficientData);
        at(&mut p, 4, Some(1.0), 1.0);
        let mut q = p.fresh();
        q.restore(&p.state()).unwrap();
        assert_eq!(q.state(), p.state());
        assert_eq!(at(&mut p, 8, Some(0.1), 5.0).desired, at(&mut q, 8, Some(0.1), 5.0).desired);
        assert!(q.restore(&Plain::Nothing).is_err());
    }

    #[test]
    fn what_cannot_be() {
        let bad = [
            config(average(0.0, 0.0)),
            config(average(f64::NAN, 0.0)),
            config(average(0.5, 1.0)),
            config(Need::Steps(vec![])),
            config(Need::Steps(vec![Range { low: 1.0, high: 1.0, change: 1 }])),
            ProportionalConfig { growth_factor: Some(0.9), ..config(average(0.5, 0.0)) },
            ProportionalConfig { growth_factor: Some(1.0), ..config(average(0.5, 0.0)) },
            ProportionalConfig { growth_step: Some(0), ..config(average(0.5, 0.0)) },
            ProportionalConfig { shrink_share: Some(0.0), ..config(average(0.5, 0.0)) },
        ];
        for c in bad {
            assert!(Proportional::new(c.clone()).is_err(), "{c:?}");
        }
    }
}
