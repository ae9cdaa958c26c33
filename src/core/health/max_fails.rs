//! nginx's `max_fails` and `fail_timeout`, as nginx 1.22 and 1.31 were recorded: time is whole seconds.

pub use crate::core::endpoints::endpoint::MaxFails;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000_000;

impl Default for MaxFails {
    fn default() -> MaxFails {
        MaxFails { max_fails: 1, fail_timeout: 10 }
    }
}

impl MaxFails {
    /// From a number of failures and of seconds.
    ///
    /// # Errors
    /// [`ConfigError`] for a number of seconds that is not whole.
    pub fn new(max_fails: u32, fail_timeout: f64) -> Result<MaxFails, ConfigError> {
        if !(fail_timeout.fract() == 0.0 && (0.0..=1e9).contains(&fail_timeout)) {
            let allowed = "a whole number of seconds from 0 to 1e9, as nginx counts";
            return Err(ConfigError::new("fail_timeout", fail_timeout, allowed));
        }
        Ok(MaxFails { max_fails, fail_timeout: fail_timeout as u64 })
    }

    /// How much of a weight one failure takes away.
    #[must_use]
    pub fn wear(&self, weight: f64) -> u64 {
        (weight as u64).checked_div(u64::from(self.max_fails)).unwrap_or(0)
    }
}

/// nginx's seconds of an instant.
fn second(at: Nanos) -> u64 {
    at.0 / SECOND
}

/// What nginx keeps of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Failures that count.
    pub fails: u32,
    accessed: u64,
    checked: u64,
}

impl Peer {
    /// Whether its failures keep requests away.
    #[must_use]
    pub fn failed(&self, rule: &MaxFails) -> bool {
        rule.max_fails > 0 && self.fails >= rule.max_fails
    }

    fn rested(&self, rule: &MaxFails, now: Nanos) -> bool {
        second(now).saturating_sub(self.checked) > rule.fail_timeout
    }

    /// Whether it may be asked.
    #[must_use]
    pub fn usable(&self, rule: &MaxFails, now: Nanos) -> bool {
        !self.failed(rule) || self.rested(rule, now)
    }

    /// When one that may not be asked may be asked again.
    #[must_use]
    pub fn back(&self, rule: &MaxFails) -> Nanos {
        Nanos(self.checked.saturating_add(rule.fail_timeout).saturating_add(1).saturating_mul(SECOND))
    }

    /// It was picked. Of one that failed this is the probe: there is none other before `fail_timeout` is over again.
    pub fn picked(&mut self, rule: &MaxFails, now: Nanos) {
        if self.rested(rule, now) {
            self.checked = second(now);
        }
    }

    /// A request failed there.
    pub fn failure(&mut self, now: Nanos) {
        self.fails = self.fails.saturating_add(1);
        self.accessed = second(now);
        self.checked = self.accessed;
    }

    /// A request went well there: a probe, or the first after a while, makes the failures forgotten.
    pub fn success(&mut self) {
        if self.accessed < self.checked {
            self.fails = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Nanos {
        Nanos::from_secs_f64(seconds)
    }

    #[test]
    fn a_failed_one_is_back_a_second_after_its_timeout_and_once() {
        let rule = MaxFails { max_fails: 1, fail_timeout: 3 };
        let mut peer = Peer::default();
        peer.failure(at(2.9));
        assert!(!peer.usable(&rule, at(5.99)));
        assert_eq!(peer.back(&rule), at(6.0));
        assert!(peer.usable(&rule, at(6.0)));
        peer.picked(&rule, at(6.2));
        assert!(!peer.usable(&rule, at(6.3)));
        peer.success();
        assert_eq!(peer.fails, 0);
        assert!(peer.usable(&rule, at(6.4)));
    }

    #[test]
    fn a_success_in_the_window_of_a_failure_changes_nothing() {
        let rule = MaxFails { max_fails: 2, fail_timeout: 3 };
        let mut peer = Peer::default();
        peer.failure(at(2.0));
        peer.picked(&rule, at(3.0));
        peer.success();
        assert_eq!(peer.fails, 1);
        peer.picked(&rule, at(6.0));
        peer.success();
        assert_eq!(peer.fails, 0);
    }

    #[test]
    fn zero_means_never_and_wears_nothing_off() {
        let rule = MaxFails { max_fails: 0, fail_timeout: 10 };
        let mut peer = Peer::default();
        peer.failure(at(1.0));
        assert!(peer.usable(&rule, at(1.0)));
        assert_eq!((rule.wear(30.0), MaxFails { max_fails: 4, ..rule }.wear(30.0)), (0, 7));
        assert!(MaxFails::new(1, 0.5).is_err());
        assert!(MaxFails::new(1, f64::NAN).is_err());
    }
}
