//! Azure Monitor's autoscale rules: out if any rule says so, in if all do, and never in what would lead out again.
//!
//! Source: Azure Monitor, understand autoscale settings, best practices, flapping (sources of 2024-11 to 2026-08).

use super::config::Config;
use super::filters::{OPS, Op, Trigger, without_flapping};
use super::tell::{Tale, value};
use super::{CloudPolicy, Seen, maybe_instant, named};
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::rounding::percent_of;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY, Observation};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Count,
    Percent,
    Exact,
}

#[derive(Clone, Debug)]
struct Rule {
    metric: String,
    op: Op,
    threshold: f64,
    out: bool,
    change: Change,
    by: i64,
    cooldown: Nanos,
    divide: bool,
}

impl Rule {
    fn read(c: &Config<'_>) -> Result<Rule, ConfigError> {
        let change =
            c.choice("change", &[("count", Change::Count), ("percent", Change::Percent), ("exact", Change::Exact)])?;
        Ok(Rule {
            metric: c.text("metric")?.to_owned(),
            op: c.choice("op", &OPS)?,
            threshold: c.finite("threshold")?,
            out: c.choice("direction", &[("out", true), ("in", false)])?,
            by: c.whole("by", i64::from(change != Change::Exact), MAX_CAPACITY)?,
            change,
            cooldown: c.seconds("cooldown")?,
            divide: c.flag("divide_by_instances")?,
        })
    }

    fn target(&self, n: i64) -> i64 {
        let change = match self.change {
            Change::Exact => return if self.out { self.by.max(n) } else { self.by.min(n) },
            Change::Count => self.by,
            Change::Percent => percent_of(n, self.by),
        };
        if self.out { n.saturating_add(change) } else { n.saturating_sub(change) }
    }

    fn cools(&self, last: Option<Nanos>, now: Nanos) -> bool {
        last.is_some_and(|at| now.since(at) < self.cooldown)
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct Azure {
    rules: Vec<Rule>,
    default: i64,
    bounds: Bounds,
    scaled: Option<Nanos>,
    before: Option<(u64, Nanos, Option<Nanos>)>,
    serial: u64,
}

impl Azure {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<Azure, ConfigError> {
        let bounds = c.bounds("min_capacity", "max_capacity")?;
        let default = c.optional("default_capacity", Config::capacity)?.unwrap_or(bounds.min);
        if bounds.clamp(default).1.is_some() {
            return Err(c.refuse("default_capacity", "from min_capacity to max_capacity"));
        }
        let rules = c.maps("rules")?.iter().map(Rule::read).collect::<Result<_, _>>()?;
        Ok(Azure { rules, default, bounds, scaled: None, before: None, serial: 0 })
    }

    /// The metric of each rule, per instance where it is to be divided.
    fn values(&self, obs: &Observation<'_>, n: i64) -> Result<Vec<Option<f64>>, MetricError> {
        let each = |r: &Rule| {
            let found = value(obs, &r.metric, true)?;
            Ok(found.map(|v| if r.divide { v / n.max(1) as f64 } else { v }))
        };
        self.rules.iter().map(each).collect()
    }
}

impl CloudPolicy for Azure {
    fn kind(&self) -> &'static str {
        "azure"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let (now, n) = (seen.now, seen.obs.asked());
        let values = self.values(seen.obs, n)?;
        let mut tale = Tale::new(seen.obs);
        self.scaled = self.scaled.map(|at| at.min(now));
        let (inside, manual) = self.bounds.clamp(n);
        let told: Vec<(&Rule, Option<f64>)> = self.rules.iter().zip(values).collect();
        let met =
            |out: bool| told.iter().filter(move |(r, v)| r.out == out && v.is_some_and(|v| r.op.holds(v, r.threshold)));
        let of = |out: bool| told.iter().filter(move |(r, _)| r.out == out).count();
        let missing = told.iter().any(|(_, v)| v.is_none());
        let (fires_out, all_in) = (met(true).count() > 0, of(false) > 0 && met(false).count() == of(false));
        tale.both("out", Plain::Flag(fires_out));
        tale.both("in", Plain::Flag(all_in));
        let triggers: Vec<Trigger> = told
            .iter()
            .filter(|(r, _)| r.out)
            .filter_map(|(r, v)| v.map(|value| Trigger { value, op: r.op, threshold: r.threshold }))
            .collect();
        let mut wanted = inside;
        let mut projected = None;
        if manual.is_some() {
            // A count that was set by hand goes back before any rule is looked at; the bound is told below.
        } else if fires_out {
            let ready = met(true).filter(|(r, _)| !r.cools(self.scaled, now));
            match ready.map(|(r, _)| r.target(n)).max() {
                Some(to) => wanted = to,
                None => tale.limit("cooldown"),
            }
        } else if missing {
            tale.missing();
            if self.default > n {
                wanted = self.default;
                tale.limit("default_capacity");
            }
        } else if all_in {
            let hot = met(false).any(|(r, _)| r.cools(self.scaled, now));
            let to = met(false).map(|(r, _)| r.target(n)).max().unwrap_or(n).max(self.bounds.min);
            tale.both("wanted", Plain::Whole(to));
            if hot {
                tale.limit("cooldown");
            } else if to < n {
                wanted = without_flapping(n, to, &triggers).unwrap_or(n);
                if wanted != to {
                    tale.limit("flapping");
                }
                if wanted < n && wanted > 0 {
                    projected = triggers.first().map(|t| t.projected(n, wanted));
                }
            }
        }
        tale.both("projected_metric", Plain::of(projected, Plain::Real));
        let desired = match manual {
            Some(_) => tale.bound(self.bounds, n),
            None => tale.bound(self.bounds, wanted),
        };
        self.serial = self.serial.wrapping_add(1);
        if desired != n && manual.is_none() {
            self.before = Some((self.serial, now, self.scaled));
            self.scaled = Some(now);
        }
        Ok(tale.end(desired, self.serial, now))
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
