//! Simple scaling: one adjustment when an alarm sounds, then nothing until it is done and a cooldown has passed.
//!
//! Source: EC2 Auto Scaling user guide, simple scaling and cooldowns: the cooldown begins when the last instance has
//! finished launching or terminating, and nothing else of the policy happens until then.

use super::config::Config;
use super::tell::{Tale, value};
use super::{CloudPolicy, Seen, maybe_instant, named};
use crate::core::autoscaling::alarm::{Datapoint, Datapoints, Samples};
use crate::core::autoscaling::plain::{Reader, counted, instant};
use crate::core::autoscaling::rounding::{compare, percent_of};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{AdjustmentType, Bounds, MAX_CAPACITY, Metric, Observation, check_metric, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::cmp::Ordering;

/// The last change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    serial: u64,
    at: Nanos,
    asked: i64,
    desired: i64,
    done: bool,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct SimpleScaling {
    metric: String,
    threshold: f64,
    high: bool,
    adjustment: i64,
    adjustment_type: AdjustmentType,
    least: i64,
    cooldown: Nanos,
    alarm: Option<Datapoints>,
    bounds: Bounds,
    samples: Samples,
    last: Option<Last>,
    cooling: Option<Nanos>,
    serial: u64,
}

impl SimpleScaling {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<SimpleScaling, ConfigError> {
        let types = [
            ("change_in_capacity", AdjustmentType::ChangeInCapacity),
            ("percent_change_in_capacity", AdjustmentType::PercentChangeInCapacity),
            ("exact_capacity", AdjustmentType::ExactCapacity),
        ];
        let adjustment_type = c.choice("adjustment_type", &types)?;
        let percent = adjustment_type == AdjustmentType::PercentChangeInCapacity;
        let lowest = if adjustment_type == AdjustmentType::ExactCapacity { 0 } else { -MAX_CAPACITY };
        let least = c.optional("min_adjustment_magnitude", |c, n| c.whole(n, 1, MAX_CAPACITY))?;
        if least.is_some() && !percent {
            return Err(
                c.refuse("min_adjustment_magnitude", "None unless adjustment_type is percent_change_in_capacity")
            );
        }
        let alarm = match c.is_none("alarm") {
            true => None,
            false => match c.wholes("alarm")?.as_slice() {
                [m, n] => Some(Datapoints::new("alarm", *m, *n)?),
                _ => {
                    return Err(
                        c.refuse("alarm", "a pair (m, n) of whole numbers, or None to decide on each observation")
                    );
                }
            },
        };
        let period = c.seconds("period")?;
        if period == Nanos::ZERO {
            return Err(c.refuse("period", "seconds above 0"));
        }
        Ok(SimpleScaling {
            metric: c.text("metric")?.to_owned(),
            threshold: c.finite("threshold")?,
            high: c.choice("direction", &[("high", true), ("low", false)])?,
            adjustment: c.whole("adjustment", lowest, MAX_CAPACITY)?,
            adjustment_type,
            least: least.unwrap_or(0),
            cooldown: c.seconds("cooldown")?,
            bounds: c.bounds("min_capacity", "max_capacity")?,
            samples: Samples::new(period, alarm.map_or(0, |a| a.n)),
            alarm,
            last: None,
            cooling: None,
            serial: 0,
        })
    }

    fn breaches(&self, value: f64) -> bool {
        let order = compare(value, self.threshold);
        order == Ordering::Equal || (order == Ordering::Greater) == self.high
    }

    /// Whether the alarm sounds; `None` without data.
    fn sounds(&mut self, obs: &Observation<'_>, now: Nanos) -> Option<bool> {
        let given = obs.metric(&self.metric);
        match self.alarm {
            None => match given {
                Metric::Value(v) => Some(self.breaches(v)),
                Metric::Missing => None,
                Metric::Absent => self.samples.recent(now).map(|p| self.breaches(p.average())),
            },
            Some(alarm) => {
                if let Metric::Value(v) = given {
                    self.samples.record(v, now, None);
                }
                self.samples.breached(alarm, now, |p| self.breaches(p.average()))
            }
        }
    }

    fn change(&self, base: i64) -> i64 {
        match self.adjustment_type {
            AdjustmentType::ChangeInCapacity => self.adjustment,
            AdjustmentType::ExactCapacity => self.adjustment - base,
            AdjustmentType::PercentChangeInCapacity => {
                let change = percent_of(base, self.adjustment);
                change.signum() * change.abs().max(if change == 0 { 0 } else { self.least })
            }
        }
    }

    /// What keeps the policy from acting now, having seen where the last change has got to.
    fn held(&mut self, obs: &Observation<'_>, now: Nanos) -> Option<(&'static str, i64)> {
        let asked = obs.asked();
        let running = obs.warming > 0 || asked != obs.current;
        self.cooling = self.cooling.map(|at| at.min(now));
        if let Some(last) = &mut self.last {
            last.at = last.at.min(now);
            if !last.done && last.asked == asked && last.desired != asked {
                // Not carried out yet: the same answer, until a whole cooldown has passed without.
                if now.since(last.at) < self.cooldown {
                    return Some(("in_progress", last.desired));
                }
                self.last = None;
            } else if !last.done && !running {
                last.done = true;
                self.cooling = Some(now);
            }
        }
        if running {
            return Some(("in_progress", asked));
        }
        self.cooling = self.cooling.filter(|at| now.since(*at) < self.cooldown);
        self.cooling.map(|_| ("cooldown", asked))
    }
}

impl CloudPolicy for SimpleScaling {
    fn kind(&self) -> &'static str {
        "simple_scaling"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let now = seen.now;
        let metric = value(seen.obs, &self.metric, true)?;
        let sounds = self.sounds(seen.obs, now);
        let asked = seen.obs.asked();
        let mut tale = Tale::new(seen.obs);
        tale.both("metric", Plain::of(metric, Plain::Real));
        tale.both("alarm", Plain::of(sounds, Plain::Flag));
        let held = self.held(seen.obs, now);
        let since = self.cooling.map(|at| at.plus(self.cooldown).as_secs_f64());
        tale.detail("cooldown_until", Plain::of(since, Plain::Real));
        self.serial = self.serial.wrapping_add(1);
        let (mut serial, mut at) = (self.serial, now);
        let mut wanted = asked;
        match (sounds, held) {
            (_, Some((_, to))) if to != asked => {
                wanted = to;
                if let Some(last) = &self.last {
                    (serial, at) = (last.serial, last.at);
                }
            }
            (None, _) => tale.missing(),
            (Some(true), Some((why, _))) => tale.limit(why),
            (Some(true), None) => {
                let change = self.change(asked);
                tale.both("adjustment", Plain::Whole(change));
                wanted = asked.saturating_add(change);
            }
            (Some(false), _) => {}
        }
        let desired = tale.bound(self.bounds, wanted);
        if desired != asked && serial == self.serial {
            self.last = Some(Last { serial, at, asked, desired, done: false });
        }
        Ok(tale.end(desired, serial, at))
    }

    fn record(&mut self, name: &str, value: Option<f64>, at: Nanos) -> Result<(), MetricError> {
        if name != self.metric {
            return Err(metric_error(name, "a sample", format!("this policy reads {}", self.metric)));
        }
        if let Some(v) = value {
            check_metric(name, v, true)?;
            self.samples.record(v, at, None);
        }
        Ok(())
    }

    fn rejected(&mut self, serial: u64, at: Nanos) {
        if let Some(last) = self.last.take_if(|l| l.serial == serial && l.at == at)
            && last.done
        {
            self.cooling = None;
        }
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        let point = |p: &Datapoint| {
            Plain::List(vec![
                counted(p.period),
                counted(p.count),
                Plain::Real(p.sum),
                Plain::Real(p.min),
                Plain::Real(p.max),
            ])
        };
        let last = Plain::of(self.last, |l| {
            Plain::Map(vec![
                named("serial", counted(l.serial)),
                named("at", instant(l.at)),
                named("asked", Plain::Whole(l.asked)),
                named("desired", Plain::Whole(l.desired)),
                named("done", Plain::Flag(l.done)),
            ])
        });
        vec![
            named("serial", counted(self.serial)),
            named("period", instant(self.samples.period())),
            named("datapoints", Plain::List(self.samples.points().iter().map(point).collect())),
            named("cooling", maybe_instant(self.cooling)),
            named("last", last),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let serial = f.count("serial")?;
        let period = f.count("period")?;
        if Nanos(period) != self.samples.period() {
            return Err(f.error("period", period, format!("this policy's period, {}", self.samples.period().0)));
        }
        let cooling = f.optional_instant("cooling")?;
        let mut points = Vec::new();
        let real = |v: &Plain| match v {
            Plain::Real(x) => *x,
            Plain::Whole(n) => *n as f64,
            _ => f64::NAN,
        };
        for row in f.rows("datapoints", 5)? {
            match row.as_slice() {
                [Plain::Whole(period), Plain::Whole(count), sum, min, max] if *period >= 0 && *count > 0 => {
                    let (period, count) = (period.unsigned_abs(), count.unsigned_abs());
                    let (sum, min, max) = (real(sum), real(min), real(max));
                    points.push(Datapoint { period, count, sum, min, max, placed: 0.0, work: 0.0 });
                }
                _ => return Err(f.error("datapoints", "another row", "[period, count, sum, min, max]")),
            }
        }
        self.samples.check(&points)?;
        let capacity = |r: &Reader<'_>, name: &str| {
            let n = r.whole(name)?;
            if (0..=MAX_CAPACITY).contains(&n) { Ok(n) } else { Err(r.error(name, n, "a capacity")) }
        };
        let last = match f.optional_map("last")? {
            None => None,
            Some(l) => Some(Last {
                serial: l.count("serial")?,
                at: Nanos(l.count("at")?),
                asked: capacity(&l, "asked")?,
                desired: capacity(&l, "desired")?,
                done: l.flag("done")?,
            }),
        };
        self.samples.replace(points);
        (self.serial, self.cooling, self.last) = (serial, cooling, last);
        Ok(())
    }
}
