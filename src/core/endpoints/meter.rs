//! What passive health counts of one slot, without a lock; and the gates through which probes go.

use crate::core::sync::{AtomicU64, Mode, Ordering};

/// A number of permits, or open for everybody: how many more requests may go to an endpoint that is on probation.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Gate {
    word: AtomicU64,
}

crate::words! { Gate { word } }

/// Set while permits count.
const COUNTS: u64 = 1 << 32;

impl Gate {
    /// Everybody may pass.
    pub fn open(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// So many may pass from now on.
    pub fn allow(&self, permits: u32) {
        self.word.store(COUNTS | u64::from(permits), Ordering::Release);
    }

    /// Passes, if that is allowed. `Some(left)` says how many more may; `None` inside for any number.
    #[must_use]
    pub fn pass(&self) -> Option<Option<u32>> {
        let mut before = self.word.load(Ordering::Acquire);
        loop {
            if before & COUNTS == 0 {
                return Some(None);
            }
            let left = (before as u32).checked_sub(1)?;
            let after = COUNTS | u64::from(left);
            match self.word.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Some(left)),
                Err(now) => before = now,
            }
        }
    }

    /// Gives a permit back, to at most so many; nothing when everybody may pass.
    pub fn give(&self, most: u32) {
        let mut before = self.word.load(Ordering::Acquire);
        while before & COUNTS != 0 && (before as u32) < most {
            match self.word.compare_exchange_weak(before, before + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
    }

    /// Whether somebody could pass.
    #[must_use]
    pub fn passable(&self) -> bool {
        let now = self.word.load(Ordering::Acquire);
        now & COUNTS == 0 || now as u32 > 0
    }
}

/// The counters of one slot. Two cache lines.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Meter {
    /// Not zero: somebody looks closer at each pick and each end.
    pub alert: AtomicU64,
    /// Requests that were answered well, since the last tick.
    pub successes: AtomicU64,
    /// Requests that were not.
    pub failures: AtomicU64,
    /// Requests that never got an answer, where those are counted apart.
    pub unreached: AtomicU64,
    /// Failures in a row.
    pub in_a_row: AtomicU64,
    /// Gateway failures in a row.
    pub gateway_in_a_row: AtomicU64,
    /// Unreached ones in a row, where those are counted apart.
    pub unreached_in_a_row: AtomicU64,
    /// How much of its weight nginx's smooth schedule withholds, in units of weight.
    pub worn: AtomicU64,
    /// The gate of the circuit breaker.
    pub breaker: Gate,
    /// The gate of `max_fails`.
    pub retry: Gate,
}

crate::words! { Meter {
    alert, successes, failures, unreached, in_a_row, gateway_in_a_row, unreached_in_a_row, worn, breaker, retry,
} }

impl Meter {
    /// A request was answered well.
    #[inline(always)]
    pub fn success<M: Mode>(&self) {
        M::add(&self.successes, 1);
        for streak in [&self.in_a_row, &self.gateway_in_a_row, &self.unreached_in_a_row] {
            if streak.load(Ordering::Relaxed) != 0 {
                streak.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A request was answered badly; how many such, and how many of gateways, have come in a row.
    pub fn failure<M: Mode>(&self, gateway: bool, answered: bool) -> (u64, u64) {
        M::add(&self.failures, 1);
        if answered {
            self.unreached_in_a_row.store(0, Ordering::Relaxed);
        }
        let in_a_row = M::add(&self.in_a_row, 1).wrapping_add(1);
        let of_gateways = if gateway {
            M::add(&self.gateway_in_a_row, 1).wrapping_add(1)
        } else {
            self.gateway_in_a_row.store(0, Ordering::Relaxed);
            0
        };
        (in_a_row, of_gateways)
    }

    /// A request got no answer, where those are counted apart; how many have come in a row.
    pub fn miss<M: Mode>(&self) -> u64 {
        M::add(&self.unreached, 1);
        M::add(&self.unreached_in_a_row, 1).wrapping_add(1)
    }

    /// Ends all streaks.
    pub fn calm(&self) {
        for streak in [&self.in_a_row, &self.gateway_in_a_row, &self.unreached_in_a_row] {
            streak.store(0, Ordering::Relaxed);
        }
    }

    /// Forgets what the slot's former endpoint did.
    pub fn forget(&self) {
        self.calm();
        for count in [&self.alert, &self.successes, &self.failures, &self.unreached, &self.worn] {
            count.store(0, Ordering::Relaxed);
        }
        self.breaker.open();
        self.retry.open();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::sync::Exclusive;

    #[test]
    fn a_gate_lets_through_as_many_as_it_was_told() {
        let gate = Gate::default();
        assert_eq!(gate.pass(), Some(None));
        gate.allow(2);
        assert_eq!([gate.pass(), gate.pass(), gate.pass()], [Some(Some(1)), Some(Some(0)), None]);
        assert!(!gate.passable());
        gate.give(1);
        gate.give(1);
        assert_eq!([gate.pass(), gate.pass()], [Some(Some(0)), None]);
        gate.open();
        gate.give(9);
        assert_eq!(gate.pass(), Some(None));
    }

    #[test]
    fn an_answer_ends_a_streak_and_another_kind_of_failure_that_of_gateways() {
        let meter = Meter::default();
        assert_eq!(meter.failure::<Exclusive>(true, true), (1, 1));
        assert_eq!(meter.failure::<Exclusive>(false, true), (2, 0));
        assert_eq!(meter.miss::<Exclusive>(), 1);
        meter.success::<Exclusive>();
        assert_eq!(meter.failure::<Exclusive>(true, true), (1, 1));
        assert_eq!(meter.miss::<Exclusive>(), 1);
        meter.forget();
        assert_eq!(meter.failures.load(Ordering::Relaxed), 0);
    }
}
