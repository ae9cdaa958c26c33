//! A retry budget: retries may be a share of requests, and a few more when there are few requests.

use crate::core::error::ConfigError;
use crate::core::sync::Mutex;
use crate::core::time::Nanos;

/// After Finagle's retry budget: every request puts `ratio` of a token in, every retry takes one out, and a floor of
/// `min_per_second` retries is always there. Tokens do not pile up beyond `window` seconds' worth of the floor plus
/// what the last `burst` requests put in.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    min_per_second: f64,
    cap: f64,
    state: Mutex<(f64, Nanos)>,
}

/// Requests whose deposits are kept.
const BURST: f64 = 1000.0;

impl RetryBudget {
    /// A budget that starts with one second's worth of the floor.
    ///
    /// # Errors
    /// [`ConfigError`] for a ratio outside 0..=10 or a rate that is negative or not finite.
    pub fn new(ratio: f64, min_per_second: f64) -> Result<RetryBudget, ConfigError> {
        if !(0.0..=10.0).contains(&ratio) {
            return Err(ConfigError::new("ratio", ratio, "a number of retries a request from 0 to 10"));
        }
        if !(min_per_second.is_finite() && (0.0..=1e9).contains(&min_per_second)) {
            return Err(ConfigError::new("min_per_second", min_per_second, "a rate from 0 to 1e9"));
        }
        let cap = ratio * BURST + min_per_second * 10.0;
        Ok(RetryBudget { ratio, min_per_second, cap, state: Mutex::new((min_per_second.min(cap), Nanos::ZERO)) })
    }

    /// A first attempt: it earns.
    pub fn deposit(&self, now: Nanos) {
        let mut state = self.state.lock();
        self.earn(&mut state, now);
        state.0 = (state.0 + self.ratio).min(self.cap);
    }

    /// A retry: true when the budget allows it, and then it is paid for.
    pub fn withdraw(&self, now: Nanos) -> bool {
        let mut state = self.state.lock();
        self.earn(&mut state, now);
        // Ten deposits of a fifth are two retries, whatever doubles make of the sum.
        let allowed = state.0 >= 1.0 - 1e-9;
        if allowed {
            state.0 = (state.0 - 1.0).max(0.0);
        }
        allowed
    }

    /// How many retries could be paid for now.
    pub fn balance(&self, now: Nanos) -> f64 {
        let mut state = self.state.lock();
        self.earn(&mut state, now);
        state.0
    }

    fn earn(&self, state: &mut (f64, Nanos), now: Nanos) {
        // The first call only starts the clock: its origin says nothing about how long the budget exists.
        if state.1 != Nanos::ZERO {
            state.0 = (state.0 + now.since(state.1).as_secs_f64() * self.min_per_second).min(self.cap);
        }
        state.1 = now.max(state.1).max(Nanos(1));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = RetryBudget::new(0.2, 0.0).unwrap();
        let now = Nanos(5);
        assert!(!budget.withdraw(now));
        (0..10).for_each(|_| budget.deposit(now));
        assert!(budget.withdraw(now) && budget.withdraw(now));
        assert!(!budget.withdraw(now));
    }

    #[test]
    fn the_floor_refills_with_time_and_has_a_cap() {
        let budget = RetryBudget::new(0.0, 2.0).unwrap();
        assert!(budget.withdraw(Nanos(1)) && budget.withdraw(Nanos(1)));
        assert!(!budget.withdraw(Nanos(1)));
        assert!(budget.withdraw(Nanos(1_000_000_001)));
        assert!((budget.balance(Nanos::from_secs_f64(1e6)) - 20.0).abs() < 1e-9);
    }
}
