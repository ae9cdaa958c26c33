//! The latency estimate of an endpoint: a peak-sensitive moving average that reading never changes.
//!
//! After Finagle's and linkerd's Peak EWMA, with three differences. Idle estimates decay towards the mean of the whole
//! pool and not towards zero, so that an idle endpoint does not become the most attractive one. An endpoint without an
//! estimate counts as the mean. A failure never makes an endpoint look fast: it counts at least as much as the penalty.

use super::counters::Cell;
use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// The longest wait that a server's own hint (Retry-After) can add to its estimate, in seconds, as in linkerd.
pub const MAX_HINT: f64 = 300.0;

/// How latencies are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Seconds in which an old value loses all but 1/e of its weight.
    pub decay: f64,
    /// What an endpoint without an estimate counts as, in seconds; the pool's mean when `None`.
    pub default_rtt: Option<f64>,
    /// What a failure counts as, in seconds, at least.
    pub failure_penalty: f64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { decay: 10.0, default_rtt: None, failure_penalty: 5.0 }
    }
}

impl Latency {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] for a decay that is not positive, or a time that is negative or not finite.
    pub fn check(self) -> Result<Latency, ConfigError> {
        let positive = |field: &str, v: f64| {
            if v.is_finite() && v > 0.0 {
                Ok(())
            } else {
                Err(ConfigError::new(field, v, "a positive number of seconds"))
            }
        };
        positive("latency.decay", self.decay)?;
        if let Some(rtt) = self.default_rtt {
            positive("latency.default_rtt", rtt)?;
        }
        if !(self.failure_penalty.is_finite() && self.failure_penalty >= 0.0) {
            return Err(ConfigError::new(
                "latency.failure_penalty",
                self.failure_penalty,
                "a number of seconds, not negative",
            ));
        }
        Ok(self)
    }
}

/// Into how many steps a decay time is cut for what picks compare: within a step they read a stored number.
const STEPS: u64 = 64;

/// The averages of one pool: the configuration, the mean over all endpoints, and until when the stored estimates hold.
#[derive(Debug)]
pub struct Averages {
    config: Latency,
    mean: AtomicU64,
    shown_until: AtomicU64,
}

impl Averages {
    /// Averages of which nothing is known yet.
    #[must_use]
    pub fn new(config: Latency) -> Averages {
        Averages { config, mean: AtomicU64::new(0), shown_until: AtomicU64::new(0) }
    }

    /// The configuration.
    pub fn config(&self) -> &Latency {
        &self.config
    }

    /// The mean over all endpoints in seconds; 0 when nothing is known.
    #[must_use]
    pub fn mean(&self) -> f64 {
        f64::from_bits(self.mean.load(Ordering::Relaxed))
    }

    /// What an endpoint counts as of which nothing is known, in seconds. While nothing is known at all, the work in
    /// flight decides: then any number will do, if it is the same for all.
    #[inline(always)]
    #[must_use]
    pub fn unknown(&self) -> f64 {
        let known = self.config.default_rtt.unwrap_or_else(|| self.mean());
        if known > 0.0 { known } else { 1.0 }
    }

    /// The estimate of an endpoint at an instant, in seconds; `None` when there is none.
    #[must_use]
    pub fn estimate(&self, cell: &Cell, now: Nanos) -> Option<f64> {
        let bits = cell.rtt.load(Ordering::Relaxed);
        let (value, mean) = (f64::from_bits(bits), self.mean());
        (bits != 0).then(|| mean + (value - mean) * self.left(cell, now))
    }

    /// How much of an estimate's distance from the mean is left.
    fn left(&self, cell: &Cell, now: Nanos) -> f64 {
        let age = now.since(Nanos(cell.rtt_at.load(Ordering::Relaxed)));
        exp2_neg(age.as_secs_f64() * std::f64::consts::LOG2_E / self.config.decay)
    }

    /// The estimate as picks compare it, in seconds: up to a 64th of the decay time old, which is 1.6 % at most.
    #[inline(always)]
    #[must_use]
    pub fn shown(&self, cell: &Cell, unknown: f64) -> f64 {
        let value = f64::from_bits(cell.shown.load(Ordering::Relaxed));
        if value == 0.0 { unknown } else { value }
    }

    /// Whether the stored estimates are too old.
    #[inline(always)]
    #[must_use]
    pub fn stale(&self, now: Nanos) -> bool {
        now.0 >= self.shown_until.load(Ordering::Relaxed)
    }

    /// Stores the estimates of these cells for the next while. It changes what is compared, not what is estimated.
    #[cold]
    pub fn refresh<'a>(&self, cells: impl Iterator<Item = &'a Cell>, now: Nanos) {
        for cell in cells {
            let shown = self.estimate(cell, now).unwrap_or(0.0);
            cell.shown.store(shown.to_bits(), Ordering::Relaxed);
        }
        let step = Nanos((self.config.decay * 1e9) as u64 / STEPS);
        self.shown_until.store(now.plus(step).0, Ordering::Relaxed);
    }

    /// Takes a latency of a success in, in seconds.
    pub fn observe(&self, cell: &Cell, seconds: f64, now: Nanos) {
        let mean = self.mean();
        let next = match self.estimate(cell, now) {
            Some(current) if seconds <= current => {
                let w = self.left(cell, now);
                f64::from_bits(cell.rtt.load(Ordering::Relaxed)) * w + seconds * (1.0 - w)
            }
            _ => seconds,
        };
        if mean == 0.0 {
            // The first that is known at all changes what the unknown ones count as.
            self.shown_until.store(0, Ordering::Relaxed);
        }
        let mean = if mean == 0.0 { seconds } else { mean + (seconds - mean) * (1.0 / 32.0) };
        self.mean.store(mean.to_bits(), Ordering::Relaxed);
        self.store(cell, next, now);
    }

    /// Takes a failure in: it counts as its own latency, the penalty, the server's hint or the estimate so far,
    /// whichever is longest. The pool's mean is left alone.
    pub fn observe_failure(&self, cell: &Cell, seconds: f64, hint: Option<f64>, now: Nanos) {
        let current = self.estimate(cell, now).unwrap_or(0.0);
        let hint = hint.unwrap_or(0.0).clamp(0.0, MAX_HINT);
        self.store(cell, seconds.max(self.config.failure_penalty).max(hint).max(current), now);
    }

    fn store(&self, cell: &Cell, seconds: f64, now: Nanos) {
        // Zero means "no estimate", so a latency of nothing becomes the smallest one there is.
        let bits = seconds.max(1e-9).to_bits();
        cell.rtt.store(bits, Ordering::Relaxed);
        cell.shown.store(bits, Ordering::Relaxed);
        // Time that goes backwards does not make the estimate older than it is.
        if now.0 > cell.rtt_at.load(Ordering::Relaxed) {
            cell.rtt_at.store(now.0, Ordering::Relaxed);
        }
    }
}

/// 2^-y for y >= 0, to a relative 4e-6, by a polynomial: the same bits on every machine, and cheaper than a call. Below
/// 2^-1000 it stays at that.
#[inline(always)]
#[must_use]
pub fn exp2_neg(y: f64) -> f64 {
    // Added to a number up to 2^51, this leaves the nearest whole number in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const ONE: u64 = 1023 << 52;
    use std::f64::consts::LN_2;
    let y = y.min(1000.0);
    let rounded = y + ROUND;
    let t = (rounded - ROUND) - y;
    let t = t * LN_2;
    let p = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0)))));
    p * f64::from_bits(ONE.wrapping_sub(rounded.to_bits() << 52))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::counters::Lone;

    #[test]
    fn the_polynomial_is_the_exponential() {
        for i in 0..60_000 {
            let y = f64::from(i) * 0.0166;
            let (got, want) = (exp2_neg(y), (-y).exp2());
            assert!((got - want).abs() <= want * 4e-6, "{y}: {got} {want}");
        }
        assert_eq!(exp2_neg(0.0), 1.0);
        assert!(exp2_neg(f64::INFINITY) < 1e-300);
    }

    #[test]
    fn reading_changes_nothing_and_a_failure_never_looks_fast() {
        let (cell, other, all) = (Lone::default(), Lone::default(), Averages::new(Latency::default()));
        let at = Nanos::from_secs_f64;
        all.observe(&other, 0.1, Nanos(1));
        all.observe(&cell, 0.2, Nanos(1));
        let first = all.estimate(&cell, at(30.0)).unwrap();
        all.refresh([&*cell, &*other].into_iter(), at(30.0));
        assert_eq!(all.estimate(&cell, at(30.0)), Some(first));
        assert_eq!(all.shown(&cell, 0.0), first);
        assert!(first > 0.1 && first < 0.2, "decays towards the mean, not to zero: {first}");
        all.observe_failure(&cell, 0.001, None, at(30.0));
        assert_eq!(all.estimate(&cell, at(30.0)), Some(5.0));
        all.observe_failure(&cell, 0.001, Some(1e9), at(30.0));
        assert_eq!(all.estimate(&cell, at(30.0)), Some(MAX_HINT));
    }

    #[test]
    fn peaks_replace_and_lower_values_blend_in() {
        let (cell, all) = (Lone::default(), Averages::new(Latency::default()));
        all.observe(&cell, 0.1, Nanos::ZERO);
        all.observe(&cell, 0.4, Nanos::from_secs_f64(1.0));
        assert_eq!(f64::from_bits(cell.rtt.load(Ordering::Relaxed)), 0.4);
        all.observe(&cell, 0.1, Nanos::from_secs_f64(11.0));
        let got = f64::from_bits(cell.rtt.load(Ordering::Relaxed));
        let w = (-1.0f64).exp();
        assert!((got - (0.4 * w + 0.1 * (1.0 - w))).abs() < 1e-5, "{got}");
    }

    #[test]
    fn the_unknown_count_as_the_mean_and_without_a_mean_as_equals() {
        let (cell, fresh, all) = (Lone::default(), Lone::default(), Averages::new(Latency::default()));
        assert_eq!(all.shown(&fresh, all.unknown()), all.shown(&cell, all.unknown()));
        all.observe(&cell, 0.3, Nanos(7));
        assert!(all.stale(Nanos(7)));
        assert_eq!(all.shown(&fresh, all.unknown()), 0.3);
    }
}
