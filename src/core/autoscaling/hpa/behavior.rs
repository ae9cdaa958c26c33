//! What becomes of a raw recommendation: the memory of past ones, the rates, and the older path without a behavior.

use crate::core::time::Nanos;

/// What a policy of a direction counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replicas.
    Pods,
    /// Percent of the replicas at the start of the period.
    Percent,
}

/// How much may change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// Its unit.
    pub kind: Change,
    /// How much.
    pub value: i32,
    /// In how long.
    pub period: Nanos,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The smallest.
    Min,
    /// None does: no change in this direction.
    Disabled,
}

/// The rules of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How long past recommendations count.
    pub window: Nanos,
    /// Which policy counts.
    pub select: Select,
    /// The policies.
    pub policies: Vec<RatePolicy>,
    /// How far a ratio may be from 1; None is the controller's.
    pub tolerance: Option<f64>,
}

/// The rules of both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// More replicas.
    pub up: Rules,
    /// Fewer.
    pub down: Rules,
}

/// What was recommended, before anything limited it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Replicas.
    pub replicas: i32,
    /// When.
    pub at: Nanos,
}

/// A change that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// By how many replicas, above 0.
    pub change: i32,
    /// When.
    pub at: Nanos,
    /// Older than every period when that was last looked at: its place may be taken.
    pub outdated: bool,
}

/// What bound a recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing.
    Within,
    /// The lower bound.
    TooFew,
    /// The upper bound.
    TooMany,
    /// The rate of scaling up.
    ScaleUpLimit,
    /// The rate of scaling down.
    ScaleDownLimit,
}

/// A recommendation on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// After past recommendations were looked at.
    pub stabilized: i32,
    /// After the rates.
    pub rated: i32,
    /// After the bounds.
    pub desired: i32,
    /// What bound it.
    pub bound: Bound,
}

fn recent(at: Nanos, window: Nanos, now: Nanos) -> bool {
    // Later than `now - window`, without going below zero.
    at.plus(window) > now
}

/// Puts a recommendation into the place of the last that fits, or at the end.
fn record(list: &mut Vec<Past>, entry: Past, outdated: impl Fn(&Past) -> bool) {
    match list.iter_mut().rev().find(|p| outdated(p)) {
        Some(place) => *place = entry,
        None => list.push(entry),
    }
}

/// The older path: the largest of the window, at most the double.
pub fn legacy(
    list: &mut Vec<Past>,
    current: i32,
    raw: i32,
    (min, max): (i32, i32),
    window: Nanos,
    now: Nanos,
) -> Normalized {
    // Exactly as old as the window still counts here.
    let counts = |p: &Past| p.at.plus(window) >= now;
    let stabilized = list.iter().filter(|p| counts(p)).map(|p| p.replicas).fold(raw, i32::max);
    record(list, Past { replicas: raw, at: now }, |p| !counts(p));
    let up = super::calculator::ceil_i32((2.0 * f64::from(current)).max(4.0));
    let rated = stabilized.min(up);
    let (cap, reason) = if max > up { (up, Bound::ScaleUpLimit) } else { (max, Bound::TooMany) };
    let (desired, bound) = if stabilized < min {
        (min, Bound::TooFew)
    } else if stabilized > cap {
        (cap, reason)
    } else {
        (stabilized, Bound::Within)
    };
    Normalized { stabilized, rated, desired, bound }
}

/// Replicas that came and went in a period.
fn changed(events: &[Event], period: Nanos, now: Nanos) -> i32 {
    events.iter().filter(|e| recent(e.at, period, now)).fold(0_i32, |sum, e| sum.wrapping_add(e.change))
}

impl Behavior {
    /// Looks at past recommendations and takes this one up.
    fn stabilize(&self, list: &mut Vec<Past>, current: i32, raw: i32, now: Nanos) -> i32 {
        let (mut up, mut down) = (raw, raw);
        for past in list.iter() {
            if recent(past.at, self.up.window, now) {
                up = up.min(past.replicas);
            }
            if recent(past.at, self.down.window, now) {
                down = down.max(past.replicas);
            }
        }
        let stabilized = current.max(up).min(down);
        let outdated = |p: &Past| p.at.plus(self.up.window) < now && p.at.plus(self.down.window) < now;
        record(list, Past { replicas: raw, at: now }, outdated);
        stabilized
    }

    fn up_limit(&self, current: i32, ups: &[Event], downs: &[Event], now: Nanos) -> i32 {
        let limits = self.up.policies.iter().map(|p| {
            let start = current.wrapping_sub(changed(ups, p.period, now)).wrapping_add(changed(downs, p.period, now));
            match p.kind {
                Change::Pods => start.wrapping_add(p.value),
                Change::Percent => super::calculator::ceil_i32(f64::from(start) * (1.0 + f64::from(p.value) / 100.0)),
            }
        });
        match self.up.select {
            Select::Max => limits.fold(i32::MIN, i32::max),
            Select::Min => limits.fold(i32::MAX, i32::min),
            Select::Disabled => current,
        }
    }

    fn down_limit(&self, current: i32, ups: &[Event], downs: &[Event], now: Nanos) -> i32 {
        let limits = self.down.policies.iter().map(|p| {
            let start = current.wrapping_sub(changed(ups, p.period, now)).wrapping_add(changed(downs, p.period, now));
            match p.kind {
                Change::Pods => start.wrapping_sub(p.value),
                Change::Percent => (f64::from(start) * (1.0 - f64::from(p.value) / 100.0)) as i32,
            }
        });
        match self.down.select {
            Select::Max => limits.fold(i32::MAX, i32::min),
            Select::Min => limits.fold(i32::MIN, i32::max),
            Select::Disabled => current,
        }
    }

    /// From a raw recommendation to what is allowed now.
    pub fn normalize(
        &self,
        list: &mut Vec<Past>,
        (ups, downs): (&[Event], &[Event]),
        current: i32,
        raw: i32,
        (min, max): (i32, i32),
        now: Nanos,
    ) -> Normalized {
        let x = self.stabilize(list, current, raw, now);
        let answer = |rated, desired, bound| Normalized { stabilized: x, rated, desired, bound };
        if x > current {
            let limit = self.up_limit(current, ups, downs, now).max(current);
            let (cap, reason) = if max > limit { (limit, Bound::ScaleUpLimit) } else { (max, Bound::TooMany) };
            return if x > cap { answer(x.min(limit), cap, reason) } else { answer(x, x, Bound::Within) };
        }
        if x < current {
            let limit = self.down_limit(current, ups, downs, now).min(current);
            let (floor, reason) = if min < limit { (limit, Bound::ScaleDownLimit) } else { (min, Bound::TooFew) };
            return if x < floor { answer(x.max(limit), floor, reason) } else { answer(x, x, Bound::Within) };
        }
        answer(x, x, Bound::Within)
    }

    /// Takes up a change that was made.
    pub fn store(&self, ups: &mut Vec<Event>, downs: &mut Vec<Event>, before: i32, after: i32, now: Nanos) {
        let (list, rules) = if after > before { (ups, &self.up) } else { (downs, &self.down) };
        let longest = rules.policies.iter().map(|p| p.period).max().unwrap_or(Nanos::ZERO);
        for event in list.iter_mut() {
            if event.at.plus(longest) < now {
                event.outdated = true;
            }
        }
        let event = Event { change: after.saturating_sub(before).saturating_abs(), at: now, outdated: false };
        match list.iter_mut().rev().find(|e| e.outdated) {
            Some(place) => *place = event,
            None => list.push(event),
        }
    }
}
