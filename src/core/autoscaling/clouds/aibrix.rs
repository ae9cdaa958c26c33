//! AIBrix's APA: a tolerance either way, growth and shrinking capped a step, a cooldown before shrinking.
//!
//! Source: vllm-project/aibrix, the pod autoscaler's APA algorithm (restated).

use super::config::Config;
use super::tell::{Tale, value, whole};
use super::{CloudPolicy, Seen, maybe_instant, named};
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::rounding::{ceil_capacity, compare, proportional_need};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::cmp::Ordering;

/// The policy.
#[derive(Clone, Debug)]
pub struct Apa {
    metric: String,
    target: f64,
    up_tolerance: f64,
    down_tolerance: f64,
    up_rate: f64,
    down_rate: f64,
    cooldown: Nanos,
    bounds: Bounds,
    scaled: Option<Nanos>,
    before: Option<(u64, Nanos, Option<Nanos>)>,
    serial: u64,
}

impl Apa {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<Apa, ConfigError> {
        let rate = |name| c.number(name, "a factor of 1 or more", |x| x >= 1.0);
        Ok(Apa {
            metric: c.text("metric")?.to_owned(),
            target: c.positive("target")?,
            up_tolerance: c.number("up_tolerance", "a share of 0 or more", |x| x >= 0.0)?,
            down_tolerance: c.number("down_tolerance", "a share from 0 to 1", |x| (0.0..=1.0).contains(&x))?,
            up_rate: rate("max_scale_up_rate")?,
            down_rate: rate("max_scale_down_rate")?,
            cooldown: c.seconds("scale_down_cooldown")?,
            bounds: c.bounds("min_replicas", "max_replicas")?,
            scaled: None,
            before: None,
            serial: 0,
        })
    }

    /// The rule, and what bound it.
    #[must_use]
    pub fn sized(&self, n: i64, metric: f64) -> (i64, Option<&'static str>) {
        let ratio = metric / self.target;
        let need = ceil_capacity(proportional_need(n, metric, self.target));
        if compare(ratio, 1.0 + self.up_tolerance) == Ordering::Greater {
            let most = ceil_capacity(self.up_rate * n as f64);
            (need.min(most), (need > most).then_some("max_scale_up_rate"))
        } else if compare(ratio, 1.0 - self.down_tolerance) == Ordering::Less {
            let least = whole((n as f64 / self.down_rate).floor()).clamp(0, MAX_CAPACITY);
            (need.max(least), (need < least).then_some("max_scale_down_rate"))
        } else {
            (n, (need != n).then_some("tolerance"))
        }
    }
}

impl CloudPolicy for Apa {
    fn kind(&self) -> &'static str {
        "aibrix_apa"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let metric = value(seen.obs, &self.metric, false)?;
        let asked = seen.obs.asked();
        let mut tale = Tale::new(seen.obs);
        tale.both("ratio", Plain::of(metric, |m| Plain::Real(m / self.target)));
        let mut wanted = asked;
        match metric {
            None => tale.missing(),
            Some(m) => {
                let (n, limit) = self.sized(seen.obs.current, m);
                tale.both("recommended", Plain::Whole(n));
                if let Some(limit) = limit {
                    tale.limit(limit);
                }
                // In the band nothing moves, not even toward what is running.
                wanted = if limit == Some("tolerance") || n == seen.obs.current { asked } else { n };
                let cooling = self.scaled.is_some_and(|at| seen.now.since(at.min(seen.now)) < self.cooldown);
                if wanted < asked && cooling {
                    wanted = asked;
                    tale.limit("scale_down_cooldown");
                }
            }
        }
        let desired = tale.bound(self.bounds, wanted);
        self.serial = self.serial.wrapping_add(1);
        self.scaled = self.scaled.map(|at| at.min(seen.now));
        if desired != asked {
            self.before = Some((self.serial, seen.now, self.scaled));
            self.scaled = Some(seen.now);
        }
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn rejected(&mut self, serial: u64, at: Nanos) {
        if let Some((_, _, scaled)) = self.before.take_if(|(s, t, _)| *s == serial && *t == at) {
            self.scaled = scaled;
        }
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![named("serial", counted(self.serial)), named("scaled", maybe_instant(self.scaled))]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let (serial, scaled) = (f.count("serial")?, f.optional_instant("scaled")?);
        (self.serial, self.scaled, self.before) = (serial, scaled, None);
        Ok(())
    }
}
