//! A retry budget: retries may be a share of requests, and a few more when there are few requests.

use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Mutex, Ordering};
use crate::core::time::Nanos;

/// After Finagle's retry budget: every request puts `ratio` of a token in, every retry takes one out, and a floor of
/// `min_per_second` retries is always there. Tokens do not pile up beyond `window` seconds' worth of the floor plus
/// what the last `burst` requests put in.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    min_per_second: f64,
    cap: f64,
    state: Mutex<(f64, Option<Nanos>)>,
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
        Ok(RetryBudget { ratio, min_per_second, cap, state: Mutex::new((min_per_second.min(cap), None)) })
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

    fn earn(&self, state: &mut (f64, Option<Nanos>), now: Nanos) {
        // The first call only starts the clock: its origin says nothing about how long the budget exists.
        if let Some(before) = state.1 {
            state.0 = (state.0 + now.since(before).as_secs_f64() * self.min_per_second).min(self.cap);
        }
        state.1 = state.1.max(Some(now));
    }
}

/// Envoy's retry budget: retries in flight may be a share of all requests in flight, and a few when there are few.
#[derive(Debug)]
pub struct ActiveBudget {
    ratio: f64,
    least: u32,
    retries: AtomicU64,
}

impl ActiveBudget {
    /// A budget that nobody uses yet.
    ///
    /// # Errors
    /// [`ConfigError`] for a ratio outside 0..=1.
    pub fn new(ratio: f64, least: u32) -> Result<ActiveBudget, ConfigError> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(ConfigError::new("ratio", ratio, "a share of the requests in flight from 0 to 1"));
        }
        Ok(ActiveBudget { ratio, least, retries: AtomicU64::new(0) })
    }

    /// Begins a retry while so many requests are in flight, retries among them; false when there are enough.
    pub fn enter(&self, inflight: u64) -> bool {
        // Envoy cuts the share to a whole number.
        let most = ((self.ratio * inflight as f64) as u64).max(u64::from(self.least));
        let more = |n: u64| (n < most).then_some(n + 1);
        self.retries.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Ends a retry.
    pub fn leave(&self) {
        let _ = self.retries.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
    }

    /// Retries in flight.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn active_retries_are_a_share_with_a_floor() {
        let budget = ActiveBudget::new(0.2, 3).unwrap();
        assert_eq!((0..9).filter(|_| budget.enter(14)).count(), 3);
        // A fifth of 24 is 4.8, cut to 4.
        assert_eq!((0..9).filter(|_| budget.enter(24)).count(), 1);
        assert!(!budget.enter(0));
        budget.leave();
        assert!(!budget.enter(15));
        assert!(budget.enter(20));
        assert!(!ActiveBudget::new(0.5, 0).unwrap().enter(1));
        let fresh = ActiveBudget::new(1.0, 0).unwrap();
        fresh.leave();
        assert_eq!((fresh.retries(), fresh.enter(1), fresh.retries()), (0, true, 1));
        assert!([-0.1, 1.1, f64::NAN].iter().all(|&ratio| ActiveBudget::new(ratio, 3).is_err()));
    }

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
