//! Ray Serve's request autoscaler: the default policy, scaling factors, delays, target capacity, gangs.
//!
//! Source: Ray 2.60.0, `serve/autoscaling_policy.py`, `serve/_private/autoscaling_state.py`,
//! `serve/_private/gang_scheduling_autoscaling_policy.py`. The order of operations on floats is Ray's.

use super::config::Config;
use super::tell::{Tale, value, whole};
use super::{CloudPolicy, Seen, maybe_instant, named};
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

/// Ray compares elapsed time with a delay up to a millionth of a second.
const SLACK: Nanos = Nanos(1000);

/// `current + factor * (desired - current)`, rounded up, and at least one fewer where `desired` is fewer.
#[must_use]
pub fn apply_factor(desired: f64, current: i64, upscaling: f64, downscaling: f64) -> i64 {
    if current == 0 {
        return whole(desired.ceil());
    }
    let delta = desired - current as f64;
    let factor = if delta > 0.0 { upscaling } else { downscaling };
    let scaled = whole((current as f64 + factor * delta).ceil());
    if whole(desired.ceil()) < current && scaled == current { scaled.saturating_sub(1) } else { scaled }
}

/// A number of replicas at a share of the capacity: rounded half up, and 0 only of or by 0.
#[must_use]
pub fn at_capacity(replicas: i64, percent: Option<f64>) -> i64 {
    match percent {
        None => replicas,
        Some(100.0) => replicas,
        Some(p) if p == 0.0 || replicas == 0 => 0,
        Some(p) => {
            let hundredths = replicas as f64 * p;
            // The remainder of floats is exact, so a half is a half.
            let rest = hundredths % 100.0;
            let down = whole((hundredths - rest) / 100.0);
            (if rest >= 50.0 { down.saturating_add(1) } else { down }).max(1)
        }
    }
}

/// The next multiple of the gang's size.
#[must_use]
pub fn whole_gangs(replicas: i64, size: i64) -> i64 {
    if size <= 1 || replicas <= 0 {
        return replicas;
    }
    let gangs = replicas / size + i64::from(replicas % size != 0);
    gangs.saturating_mul(size)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct RayServe {
    metric: String,
    target: f64,
    upscaling: f64,
    downscaling: f64,
    upscale_delay: Nanos,
    downscale_delay: Nanos,
    to_zero_delay: Nanos,
    replicas: Bounds,
    bounds: Bounds,
    gang: i64,
    // What is wanted, and since when without a break.
    waiting: Option<(Direction, Nanos)>,
    serial: u64,
}

impl RayServe {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<RayServe, ConfigError> {
        let replicas = c.bounds("min_replicas", "max_replicas")?;
        if replicas.max == 0 {
            return Err(c.refuse("max_replicas", format!("a whole number from 1 to {MAX_CAPACITY}")));
        }
        let initial = c.optional("initial_replicas", Config::capacity)?;
        if initial.is_some_and(|n| n < replicas.min || n > replicas.max) {
            return Err(c.refuse("initial_replicas", "from min_replicas to max_replicas, or None"));
        }
        let percent = |c: &Config<'_>, name: &str| {
            c.number(name, "percent from 0 to 100, or None", |x| (0.0..=100.0).contains(&x))
        };
        let capacity = c.optional("target_capacity", percent)?;
        let rising =
            c.optional("target_capacity_direction", |c, name| c.choice(name, &[("up", true), ("down", false)]))?;
        if rising.is_some() && capacity.is_none() {
            return Err(c.refuse("target_capacity_direction", "None while target_capacity is None"));
        }
        let gang = c.whole("gang_size", 1, MAX_CAPACITY)?;
        for name in ["min_replicas", "max_replicas"] {
            if c.whole(name, 0, MAX_CAPACITY)? % gang != 0 {
                return Err(c.refuse(name, format!("a multiple of gang_size ({gang})")));
            }
        }
        let low = if rising == Some(true) { initial.unwrap_or(replicas.min) } else { replicas.min };
        let downscale_delay = c.seconds("downscale_delay")?;
        Ok(RayServe {
            metric: c.text("metric")?.to_owned(),
            target: c.positive("target_ongoing_requests")?,
            upscaling: c.positive("upscaling_factor")?,
            downscaling: c.positive("downscaling_factor")?,
            upscale_delay: c.seconds("upscale_delay")?,
            to_zero_delay: c.optional("downscale_to_zero_delay", Config::seconds)?.unwrap_or(downscale_delay),
            downscale_delay,
            bounds: Bounds { min: at_capacity(low, capacity), max: at_capacity(replicas.max, capacity) },
            replicas,
            gang,
            waiting: None,
            serial: 0,
        })
    }

    /// What the delays make of what is desired.
    fn delayed(&mut self, desired: i64, target: i64, now: Nanos) -> (i64, bool) {
        let (direction, delay, wanted) = if desired > target {
            (Direction::Up, self.upscale_delay, desired)
        } else if desired < target {
            // Only one replica goes to none; more go to one first.
            let (delay, least) = if target == 1 { (self.to_zero_delay, 0) } else { (self.downscale_delay, 1) };
            (Direction::Down, delay, desired.max(least))
        } else {
            self.waiting = None;
            return (target, false);
        };
        let since = match self.waiting {
            // A clock that was set back: the wait began now.
            Some((d, at)) if d == direction => at.min(now),
            _ => now,
        };
        if now.since(since).plus(SLACK) >= delay {
            self.waiting = None;
            (wanted, false)
        } else {
            self.waiting = Some((direction, since));
            (target, true)
        }
    }
}

impl CloudPolicy for RayServe {
    fn kind(&self) -> &'static str {
        "ray_serve"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let total = value(seen.obs, &self.metric, false)?;
        let mut tale = Tale::new(seen.obs);
        let (current, asked) = (seen.obs.current, seen.obs.asked());
        self.serial = self.serial.wrapping_add(1);
        let Some(total) = total else {
            // Nothing is known, so nothing waits on.
            self.waiting = None;
            tale.missing();
            let bounded = tale.bound(self.bounds, asked);
            return Ok(tale.end(bounded, self.serial, seen.now));
        };
        let to_one = self.gang > 1 && self.replicas.min == 0 && asked == self.gang;
        let target = if to_one { 1 } else { asked };
        tale.both("total_requests", Plain::Real(total));
        let (raw, scaled, decision, waits);
        if current == 0 {
            (raw, scaled, waits) = (None, None, false);
            decision = if total > 0.0 { whole(self.upscaling.ceil()).max(target) } else { target };
            if total > 0.0 {
                tale.detail("cold_start", Plain::Flag(true));
            } else if target == 0 {
                // Nothing runs and nothing is wanted: that is a hold, and ends what waited.
                self.waiting = None;
            }
        } else {
            let running = current as f64;
            let need = running * (total / (self.target * running));
            let n = apply_factor(need, current, self.upscaling, self.downscaling);
            (raw, scaled) = (Some(need), Some(n));
            (decision, waits) = self.delayed(n.max(0), target, seen.now);
        }
        tale.both("raw", Plain::of(raw, Plain::Real));
        tale.both("scaled", Plain::of(scaled, Plain::Whole));
        if waits {
            tale.limit(if self.waiting.is_some_and(|(d, _)| d == Direction::Up) {
                "upscale_delay"
            } else {
                "downscale_delay"
            });
        }
        let decision = whole_gangs(decision, self.gang);
        tale.both("policy_decision", Plain::Whole(decision));
        let since = self.waiting.map(|(_, at)| at.as_secs_f64());
        tale.detail("waiting_since", Plain::of(since, Plain::Real));
        let bounded = tale.bound(self.bounds, decision);
        Ok(tale.end(bounded, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![
            named("serial", counted(self.serial)),
            named("direction", Plain::of(self.waiting, |(d, _)| Plain::text(d.name()))),
            named("since", maybe_instant(self.waiting.map(|(_, at)| at))),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let since = f.optional_instant("since")?;
        let direction = match f.get("direction")? {
            Plain::Nothing => None,
            Plain::Text(t) if t == "up" => Some(Direction::Up),
            Plain::Text(t) if t == "down" => Some(Direction::Down),
            _ => return Err(f.error("direction", "another word", "up, down or None")),
        };
        if direction.is_some() != since.is_some() {
            return Err(f.error("since", "half of a wait", "both direction and since, or neither"));
        }
        let serial = f.count("serial")?;
        self.serial = serial;
        self.waiting = direction.zip(since);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_round_up_and_never_get_stuck() {
        assert_eq!(apply_factor(20.0, 10, 0.5, 1.0), 15);
        assert_eq!(apply_factor(9.0, 10, 1.0, 0.5), 9);
        assert_eq!(apply_factor(9.99, 10, 1.0, 1.0), 10);
        assert_eq!(apply_factor(99.0, 100, 1.0, 0.001), 99);
        assert_eq!(apply_factor(0.0, 10, 1.0, 1.5), -5);
        assert_eq!(apply_factor(2.3, 0, 3.0, 1.0), 3);
    }

    #[test]
    fn capacity_rounds_half_up() {
        assert_eq!(at_capacity(3, Some(50.0)), 2);
        assert_eq!(at_capacity(7, Some(35.0)), 2);
        assert_eq!(at_capacity(10, Some(5.0)), 1);
        assert_eq!(at_capacity(10, Some(0.1)), 1);
        assert_eq!(at_capacity(10, Some(0.0)), 0);
        assert_eq!(at_capacity(0, Some(50.0)), 0);
        assert_eq!(at_capacity(7, None), 7);
        assert_eq!(at_capacity(MAX_CAPACITY, Some(99.999)), 2_147_462_172);
    }

    #[test]
    fn gangs_are_whole() {
        assert_eq!([0, 1, 4, 5, -3].map(|n| whole_gangs(n, 4)), [0, 4, 4, 8, -3]);
        assert_eq!(whole_gangs(7, 1), 7);
    }
}
