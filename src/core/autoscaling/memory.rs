//! What a policy remembers of its own decisions: cooldowns, capacity that warms up, the datapoint it acted on, and how
//! to take the last decision back.

use super::recommendation::{Limit, Recommendation};
use super::{Bounds, MAX_CAPACITY, Observation, Outcome};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// Timers fire this much early, so that a float second that lost its last bit does not cost a whole round.
const SLACK: Nanos = Nanos(1_000);

/// The times of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How long new capacity warms up, counted from the decision; zero leaves it to the observation's `warming`.
    pub warmup: Nanos,
    /// How long after a scale-out what it added counts toward the next one.
    pub scale_out_cooldown: Nanos,
    /// How long after a scale-in there is no other.
    pub scale_in_cooldown: Nanos,
}

/// A running scale-out cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutCooldown {
    /// When it began.
    pub at: Nanos,
    /// The capacity that the next scale-out is measured from.
    pub base: i64,
}

/// Capacity that a decision added and that warms up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// When it was asked for.
    pub at: Nanos,
    /// How much.
    pub count: i64,
}

/// An alarm's datapoint that led to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acted {
    /// The last ended period when it was made.
    pub period: u64,
    /// What was asked for.
    pub desired: i64,
}

/// What a decision changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The scale-out cooldown, if one was begun.
    pub out: Option<OutCooldown>,
    /// When the scale-in cooldown began.
    pub scaled_in: Option<Nanos>,
    /// Capacity warming up, oldest first.
    pub warming: Vec<WarmUp>,
    /// The datapoint acted on.
    pub acted: Option<Acted>,
}

/// The last decision, and what to go back to if it is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The recommendation's number.
    pub serial: u64,
    /// When.
    pub at: Nanos,
    /// What was asked for before.
    pub asked: i64,
    /// What was asked for.
    pub desired: i64,
    /// The effects before it.
    pub prior: Effects,
}

/// All of a policy's memory but its samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The number of the last recommendation.
    pub serial: u64,
    /// What is in effect.
    pub effects: Effects,
    /// The last decision that changed the desired capacity.
    pub last: Option<Last>,
    /// The warm capacity that was last seen: samples taken until the next observation were measured at it.
    pub seen: Option<i64>,
}

/// An observation in the light of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What the group was asked to be.
    pub asked: i64,
    /// Capacity that counts in the metric.
    pub warm: i64,
    /// Capacity that was started and does not.
    pub warming: i64,
    /// The capacity that a scale-out is measured from: `warm`, or less in a scale-out cooldown.
    pub base: i64,
    /// Whether a scale-in cooldown runs.
    pub scale_in_cooldown: bool,
    /// The datapoint that led to the last decision.
    pub acted: Option<Acted>,
}

/// Which way a policy wants to go, and to what capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Hold,
    /// At least this much.
    Out(i64),
    /// At most this much.
    In(i64),
}

fn running(at: Nanos, length: Nanos, now: Nanos) -> bool {
    now.since(at).plus(SLACK) < length
}

impl Effects {
    /// Forgets what has run out.
    fn expire(&mut self, timing: &Timing, now: Nanos) {
        // A clock that was set back: what began "later" began now, and lasts at most its full length again.
        for w in &mut self.warming {
            w.at = w.at.min(now);
        }
        self.warming.retain(|w| running(w.at, timing.warmup, now));
        self.out = self.out.map(|c| OutCooldown { at: c.at.min(now), ..c });
        self.out = self.out.filter(|c| running(c.at, timing.scale_out_cooldown, now));
        self.scaled_in = self.scaled_in.map(|at| at.min(now)).filter(|at| running(*at, timing.scale_in_cooldown, now));
    }
}

impl Memory {
    /// The observation as this policy sees it.
    pub fn view(&mut self, obs: &Observation<'_>, timing: &Timing, now: Nanos) -> View {
        let asked = obs.asked();
        self.effects.expire(timing, now);
        // While an observation shows what was asked for before the last decision, that decision is not carried out
        // yet: the question is the same again, and so is the answer. Its effects stay in memory until it shows.
        let e = match &mut self.last {
            Some(last) if last.asked == asked => {
                last.prior.expire(timing, now);
                &last.prior
            }
            _ => &self.effects,
        };
        // Of what this policy knows to be warming, some is outside `current`: not launched yet, or reported as warming.
        let known: i64 = e.warming.iter().fold(0, |sum, w| sum.saturating_add(w.count));
        let outside = obs.warming.max(asked - obs.current).max(0);
        let inside = (known - outside).clamp(0, obs.current);
        let warm = obs.current - inside;
        self.seen = Some(warm);
        View {
            asked,
            warm,
            warming: obs.warming + inside,
            base: e.out.map_or(warm, |c| c.base.min(warm)),
            scale_in_cooldown: e.scaled_in.is_some(),
            acted: e.acted,
        }
    }

    /// What becomes of a wish: in-flight capacity, blocks, bounds. Gives the capacity, what bound it, and whether the
    /// wish was allowed to be one.
    #[must_use]
    pub fn settle(view: &View, wish: Wish, bounds: Bounds) -> (i64, Option<Limit>, bool) {
        let (capacity, limit, allowed) = match wish {
            Wish::Hold => (view.asked, None, false),
            Wish::Out(to) if to > view.asked => (to, None, true),
            Wish::Out(_) => {
                let limit = if view.base < view.warm { Limit::ScaleOutCooldown } else { Limit::InFlight };
                (view.asked, (view.asked > view.base).then_some(limit), true)
            }
            Wish::In(_) if view.warming > 0 => (view.asked, Some(Limit::Warming), false),
            Wish::In(_) if view.scale_in_cooldown => (view.asked, Some(Limit::ScaleInCooldown), false),
            Wish::In(to) => (to.min(view.asked), None, true),
        };
        let (desired, bound) = bounds.clamp(capacity);
        (desired, bound.or(limit), allowed)
    }

    /// The number of the next recommendation.
    pub fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// The number and the time of a recommendation: those of the last decision if it is the same one again.
    pub fn number(&mut self, again: Option<Acted>, now: Nanos) -> (u64, Nanos) {
        match (again, &self.last) {
            (Some(a), Some(last)) if a.desired == last.desired => (last.serial, last.at),
            _ => (self.next_serial(), now),
        }
    }

    /// Remembers a decision that changes the desired capacity.
    pub fn commit(&mut self, timing: &Timing, own: &Recommendation, outcome: &Outcome) {
        let Outcome { asked, desired, at } = *outcome;
        if asked == desired {
            return;
        }
        if own.repeat && self.effects.acted.is_some_and(|a| a.desired == desired) {
            return;
        }
        // The last decision is not carried out yet, and this one takes its place.
        if let Some(last) = self.last.take_if(|l| l.asked == asked) {
            self.effects = last.prior;
        }
        let prior = self.effects.clone();
        let e = &mut self.effects;
        let voted = own.vote.is_some_and(|v| if desired > asked { v > asked } else { v < asked });
        if desired > asked {
            e.scaled_in = None;
            if timing.warmup > Nanos::ZERO {
                e.warming.push(WarmUp { at, count: desired - asked });
            }
            if voted && timing.scale_out_cooldown > Nanos::ZERO {
                e.out = Some(OutCooldown { at, base: own.base });
            }
        } else if voted && timing.scale_in_cooldown > Nanos::ZERO {
            e.scaled_in = Some(at);
        }
        if let (true, Some(period)) = (voted, own.period) {
            e.acted = Some(Acted { period, desired });
        }
        self.last = Some(Last { serial: own.serial, at: own.at, asked, desired, prior });
    }

    /// Takes the last decision back, if `rec` is that one.
    pub fn rejected(&mut self, rec: &Recommendation) {
        if let Some(last) = self.last.take_if(|l| l.serial == rec.serial && l.at == rec.at) {
            self.effects = last.prior;
        }
    }

    /// Whether every capacity in it is one.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.effects.check("state")?;
        if let Some(seen) = self.seen {
            capacity("state.seen", seen)?;
        }
        if let Some(last) = &self.last {
            capacity("state.last.asked", last.asked)?;
            capacity("state.last.desired", last.desired)?;
            last.prior.check("state.last.prior")?;
        }
        Ok(())
    }
}

impl Effects {
    fn check(&self, at: &str) -> Result<(), ConfigError> {
        if let Some(c) = self.out {
            capacity(&format!("{at}.out_cooldown.base"), c.base)?;
        }
        if let Some(a) = self.acted {
            capacity(&format!("{at}.acted.desired"), a.desired)?;
        }
        self.warming.iter().try_for_each(|w| capacity(&format!("{at}.warming"), w.count))
    }
}

fn capacity(field: &str, value: i64) -> Result<(), ConfigError> {
    if (0..=MAX_CAPACITY).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::new(field, value, format!("a whole number from 0 to {MAX_CAPACITY}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(asked: i64, warm: i64, warming: i64) -> View {
        View { asked, warm, warming, base: warm, scale_in_cooldown: false, acted: None }
    }

    #[test]
    fn in_flight_capacity_counts_and_warming_blocks_scale_in() {
        let bounds = Bounds { min: 0, max: 100 };
        assert_eq!(Memory::settle(&view(11, 10, 1), Wish::Out(11), bounds), (11, Some(Limit::InFlight), true));
        assert_eq!(Memory::settle(&view(11, 10, 1), Wish::Out(13), bounds), (13, None, true));
        assert_eq!(Memory::settle(&view(11, 10, 1), Wish::In(5), bounds), (11, Some(Limit::Warming), false));
        assert_eq!(Memory::settle(&view(30, 32, 0), Wish::In(31), bounds), (30, None, true));
        assert_eq!(Memory::settle(&view(11, 10, 0), Wish::Out(500), bounds), (100, Some(Limit::MaxCapacity), true));
        assert_eq!(Memory::settle(&view(200, 10, 0), Wish::Hold, bounds), (100, Some(Limit::MaxCapacity), false));
    }

    #[test]
    fn own_scale_outs_are_known_to_warm_up() {
        let timing = Timing { warmup: Nanos(100_000), ..Timing::default() };
        let mut m = Memory::default();
        m.effects.warming.push(WarmUp { at: Nanos(0), count: 3 });
        let obs = |current, desired, warming| Observation { current, desired: Some(desired), warming, metrics: &[] };
        // All three run already, two of them, none; or the caller says so itself.
        let warm = |m: &mut Memory, o: Observation<'_>| {
            let v = m.view(&o, &timing, Nanos(50_000));
            (v.warm, v.warming)
        };
        assert_eq!(warm(&mut m, obs(13, 13, 0)), (10, 3));
        assert_eq!(warm(&mut m, obs(12, 13, 0)), (10, 2));
        assert_eq!(warm(&mut m, obs(10, 13, 0)), (10, 0));
        assert_eq!(warm(&mut m, obs(10, 13, 3)), (10, 3));
        let v = m.view(&obs(13, 13, 0), &timing, Nanos(100_000));
        assert_eq!((v.warm, v.warming), (13, 0));
    }
}
