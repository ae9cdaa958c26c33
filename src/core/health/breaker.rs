//! A circuit breaker: closed, open for a time that grows, then half open for a few probes.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// Parts of a window of shares.
const PARTS: usize = 10;

/// The configuration of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Failures in a row that open it; 0 for never.
    pub failures: u32,
    /// The share of failures that opens it, above 0; `None` for never.
    pub failure_share: Option<f64>,
    /// Over how long the share is taken.
    pub window: Nanos,
    /// The fewest requests of the window for which it is.
    pub min_requests: u64,
    /// For how long it is open the first time.
    pub open_time: Nanos,
    /// By what that grows each time that probes fail.
    pub growth: f64,
    /// The longest that it is open.
    pub max_open_time: Nanos,
    /// The most probes that are out at once while it is half open.
    pub probes: u32,
    /// How many of them must go well in a row before it closes.
    pub successes: u32,
}

impl CircuitBreaker {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<CircuitBreaker, ConfigError> {
        let positive = |field, value: Nanos| match value {
            Nanos::ZERO => Err(ConfigError::new(field, 0, "a positive number of seconds")),
            _ => Ok(()),
        };
        positive("window", self.window)?;
        positive("open_time", self.open_time)?;
        if self.max_open_time < self.open_time {
            let value = self.max_open_time.as_secs_f64();
            return Err(ConfigError::new("max_open_time", value, "at least open_time"));
        }
        if let Some(share) = self.failure_share
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(ConfigError::new("failure_share", share, "a share above 0 and up to 1, or None"));
        }
        if self.failures == 0 && self.failure_share.is_none() {
            return Err(ConfigError::new("failures", "None", "a number, unless there is a failure_share"));
        }
        if !(self.growth.is_finite() && self.growth >= 1.0) {
            return Err(ConfigError::new("growth", self.growth, "a finite number of at least 1"));
        }
        for (field, value) in [("probes", self.probes), ("successes", self.successes)] {
            if value == 0 {
                return Err(ConfigError::new(field, value, "a whole number of at least 1"));
            }
        }
        Ok(self)
    }

    fn open_for(&self, times: u32) -> Nanos {
        let grown = self.open_time.as_secs_f64() * self.growth.powi(times.saturating_sub(1).min(1000) as i32);
        Nanos::from_secs_f64(grown.min(self.max_open_time.as_secs_f64())).min(self.max_open_time)
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Requests go through.
    #[default]
    Closed,
    /// Nothing does, until then.
    Open(Nanos),
    /// Probes do, since then.
    HalfOpen(Nanos),
}

/// How a request ended, as far as a breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Well.
    Good,
    /// In failure.
    Bad,
    /// In neither.
    Neither,
}

/// The breaker of one endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Where it stands.
    pub phase: Phase,
    /// How often it has opened since it was closed for good.
    times: u32,
    in_a_row: u32,
    good_probes: u32,
    /// Successes and failures by parts of the window, and in which part they came.
    parts: [(u64, u64, u64); PARTS],
}

impl Breaker {
    /// Whether the end of a request can change nothing here, if it is good.
    #[must_use]
    pub fn quiet(&self) -> bool {
        self.phase == Phase::Closed && self.in_a_row == 0
    }

    /// A request ended. `start` is when it began, where that is known: while the breaker is half open only what began
    /// since is a probe. Gives whether the phase has changed.
    pub fn end(&mut self, rule: &CircuitBreaker, end: End, start: Option<Nanos>, now: Nanos) -> bool {
        match (self.phase, end) {
            (Phase::Open(_), _) => false,
            (Phase::HalfOpen(since), _) if start.is_none_or(|start| start < since) => false,
            (Phase::HalfOpen(_), End::Bad) => {
                self.open(rule, now);
                true
            }
            (Phase::HalfOpen(_), End::Good) => {
                self.good_probes += 1;
                let done = self.good_probes >= rule.successes;
                if done {
                    *self = Breaker::default();
                }
                done
            }
            (Phase::HalfOpen(_) | Phase::Closed, End::Neither) => false,
            (Phase::Closed, end) => {
                if self.bad(rule, end, now) {
                    self.open(rule, now);
                }
                self.phase != Phase::Closed
            }
        }
    }

    fn bad(&mut self, rule: &CircuitBreaker, end: End, now: Nanos) -> bool {
        let bad = end == End::Bad;
        self.in_a_row = if bad { self.in_a_row.saturating_add(1) } else { 0 };
        if rule.failures > 0 && self.in_a_row >= rule.failures {
            return true;
        }
        let Some(share) = rule.failure_share else { return false };
        let length = (rule.window.0 / PARTS as u64).max(1);
        let part = now.0 / length + PARTS as u64;
        if let Some(place) = self.parts.get_mut(part as usize % PARTS) {
            if place.2 != part {
                *place = (0, 0, part);
            }
            *(if bad { &mut place.1 } else { &mut place.0 }) += 1;
        }
        let fresh = |at: u64| at + PARTS as u64 > part;
        let (good, failed) =
            self.parts.iter().filter(|p| fresh(p.2)).fold((0u64, 0u64), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        bad && good + failed >= rule.min_requests && failed as f64 >= share * (good + failed) as f64
    }

    fn open(&mut self, rule: &CircuitBreaker, now: Nanos) {
        let times = self.times.saturating_add(1);
        let phase = Phase::Open(now.plus(rule.open_for(times)));
        *self = Breaker { phase, times, ..Breaker::default() };
    }

    /// What time alone brings; whether that is new permits for probes: when the open time is over, and again when the
    /// probes of one such time have brought no verdict.
    pub fn tick(&mut self, rule: &CircuitBreaker, now: Nanos) -> bool {
        let due = match self.phase {
            Phase::Closed => false,
            Phase::Open(until) => now >= until,
            Phase::HalfOpen(since) => now >= since.plus(rule.open_for(self.times)),
        };
        if due {
            self.phase = Phase::HalfOpen(now);
        }
        due
    }

    /// When [`Breaker::tick`] has something to do next.
    #[must_use]
    pub fn next(&self, rule: &CircuitBreaker) -> Nanos {
        match self.phase {
            Phase::Closed => Nanos::MAX,
            Phase::Open(until) => until,
            Phase::HalfOpen(since) => since.plus(rule.open_for(self.times)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rule() -> CircuitBreaker {
        CircuitBreaker {
            failures: 3,
            failure_share: None,
            window: Nanos(10 * SECOND),
            min_requests: 4,
            open_time: Nanos(2 * SECOND),
            growth: 2.0,
            max_open_time: Nanos(5 * SECOND),
            probes: 1,
            successes: 2,
        }
    }

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * SECOND)
    }

    fn ends(breaker: &mut Breaker, rule: &CircuitBreaker, ends: &[End], now: u64) {
        ends.iter().for_each(|&end| {
            breaker.end(rule, end, Some(at(now)), at(now));
        });
    }

    #[test]
    fn it_opens_longer_each_time_and_closes_after_good_probes() {
        use End::{Bad, Good, Neither};
        let (rule, mut breaker) = (rule().check().unwrap(), Breaker::default());
        ends(&mut breaker, &rule, &[Bad, Bad, Good, Bad, Neither, Bad], 1);
        assert_eq!(breaker.phase, Phase::Closed);
        ends(&mut breaker, &rule, &[Bad], 1);
        for (now, until) in [(1, 3), (3, 7), (7, 12), (12, 17)] {
            assert_eq!((breaker.phase, breaker.next(&rule)), (Phase::Open(at(until)), at(until)), "{now}");
            assert!(!breaker.tick(&rule, Nanos(until * SECOND - 1)));
            assert!(breaker.tick(&rule, at(until)));
            assert!(!breaker.end(&rule, Bad, Some(at(0)), at(until)), "began before it was half open");
            assert!(!breaker.end(&rule, Bad, None, at(until)));
            ends(&mut breaker, &rule, &[Good, Bad], until);
        }
        assert!(breaker.tick(&rule, at(22)));
        ends(&mut breaker, &rule, &[Good, Neither, Good], 22);
        assert_eq!(breaker.phase, Phase::Closed);
        ends(&mut breaker, &rule, &[Bad, Bad, Bad], 30);
        assert_eq!(breaker.phase, Phase::Open(at(32)), "it has forgotten how often it opened");
    }

    #[test]
    fn a_share_opens_it_over_its_window_and_from_a_number_on() {
        use End::{Bad, Good};
        let rule = CircuitBreaker { failures: 0, failure_share: Some(0.5), ..rule() }.check().unwrap();
        let mut breaker = Breaker::default();
        ends(&mut breaker, &rule, &[Bad, Bad, Bad], 1);
        assert_eq!(breaker.phase, Phase::Closed, "too few");
        ends(&mut breaker, &rule, &[Good, Good, Good, Good], 12);
        ends(&mut breaker, &rule, &[Bad, Bad, Bad], 13);
        assert_eq!(breaker.phase, Phase::Closed, "the first ones are forgotten");
        ends(&mut breaker, &rule, &[Bad], 13);
        assert!(matches!(breaker.phase, Phase::Open(_)));
    }

    #[test]
    fn probes_that_bring_no_verdict_are_followed_by_others() {
        let (rule, mut breaker) = (rule(), Breaker::default());
        ends(&mut breaker, &rule, &[End::Bad; 3], 0);
        assert!(breaker.tick(&rule, at(2)));
        assert!(!breaker.tick(&rule, at(3)));
        assert!(breaker.tick(&rule, at(4)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |edit: &dyn Fn(&mut CircuitBreaker)| {
            let mut rule = rule();
            edit(&mut rule);
            rule.check().is_err()
        };
        assert!(!refused(&|_| ()));
        assert!(refused(&|r| r.failures = 0));
        assert!(refused(&|r| r.failure_share = Some(0.0)));
        assert!(refused(&|r| r.failure_share = Some(f64::NAN)));
        assert!(refused(&|r| r.growth = 0.5));
        assert!(refused(&|r| r.probes = 0));
        assert!(refused(&|r| r.successes = 0));
        assert!(refused(&|r| r.open_time = Nanos::ZERO));
        assert!(refused(&|r| r.max_open_time = Nanos(1)));
    }
}
