//! The latency estimate of an endpoint: a peak-sensitive moving average that reading never changes.
//!
//! After Finagle's and linkerd's Peak EWMA, with three differences. Idle estimates decay towards the mean of the whole
//! pool and not towards zero, so that an idle endpoint does not become the most attractive one. An endpoint without an
//! estimate counts as the mean. A failure never makes an endpoint look fast: it counts at least as much as the penalty.

use super::counters::Cell;
use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;

/// The longest wait that a server's own hint (Retry-After) can add to its estimate, in seconds, as in linkerd.
pub const MAX_HINT: f64 = 300.0;

/// How latencies are averaged.
#[derive(Clone, Copy, Debug, PartialEq)]
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

    /// The estimate of an endpoint at an instant, in seconds. `mean` is the pool's mean as float bits.
    #[inline(always)]
    #[must_use]
    pub fn estimate(&self, cell: &Cell, mean: f64, now: Nanos) -> f64 {
        let rest = match self.default_rtt {
            Some(rtt) if mean == 0.0 => rtt,
            _ => mean,
        };
        let bits = cell.rtt.load(Ordering::Relaxed);
        if bits == 0 {
            return self.default_rtt.unwrap_or(rest);
        }
        let value = f64::from_bits(bits);
        let age = now.since(Nanos(cell.rtt_at.load(Ordering::Relaxed)));
        if age.0 == 0 { value } else { rest + (value - rest) * exp_neg(age.as_secs_f64() / self.decay) }
    }

    /// Takes a latency of a success in, in seconds.
    pub fn observe(&self, cell: &Cell, mean: &AtomicU64, seconds: f64, now: Nanos) {
        let pool_mean = f64::from_bits(mean.load(Ordering::Relaxed));
        let known = cell.rtt.load(Ordering::Relaxed) != 0;
        let current = self.estimate(cell, pool_mean, now);
        let next = if !known || seconds > current {
            seconds
        } else {
            let value = f64::from_bits(cell.rtt.load(Ordering::Relaxed));
            let age = now.since(Nanos(cell.rtt_at.load(Ordering::Relaxed)));
            let w = exp_neg(age.as_secs_f64() / self.decay);
            value * w + seconds * (1.0 - w)
        };
        store(cell, next, now);
        let mean_next = if pool_mean == 0.0 { seconds } else { pool_mean + (seconds - pool_mean) * (1.0 / 32.0) };
        mean.store(mean_next.to_bits(), Ordering::Relaxed);
    }

    /// Takes a failure in: it counts as its own latency, the penalty, the server's hint or the estimate so far,
    /// whichever is longest. The pool's mean is left alone.
    pub fn observe_failure(&self, cell: &Cell, mean: &AtomicU64, seconds: f64, hint: Option<f64>, now: Nanos) {
        let current = self.estimate(cell, f64::from_bits(mean.load(Ordering::Relaxed)), now);
        let hint = hint.unwrap_or(0.0).clamp(0.0, MAX_HINT);
        store(cell, seconds.max(self.failure_penalty).max(hint).max(current), now);
    }
}

fn store(cell: &Cell, seconds: f64, now: Nanos) {
    // Zero bits mean "no estimate", so a latency of nothing becomes the smallest one there is.
    cell.rtt.store(seconds.max(1e-9).to_bits(), Ordering::Relaxed);
    // Time that goes backwards does not make the estimate older than it is.
    if now.0 > cell.rtt_at.load(Ordering::Relaxed) {
        cell.rtt_at.store(now.0, Ordering::Relaxed);
    }
}

/// e^-x for x >= 0, to a relative 4e-6, by a polynomial: the same bits on every machine, and cheaper than a call.
#[inline(always)]
#[must_use]
pub fn exp_neg(x: f64) -> f64 {
    let y = x * std::f64::consts::LOG2_E;
    // NaN and negative numbers come here only through a clock gone wrong: no decay.
    if y.is_nan() || y <= 0.0 {
        return 1.0;
    }
    if y >= 1000.0 {
        return 0.0;
    }
    let whole = (y + 0.5) as i64;
    let t = (whole as f64 - y) * std::f64::consts::LN_2;
    let p = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0)))));
    p * f64::from_bits(((1023 - whole) as u64) << 52)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_the_exponential() {
        for i in 0..40_000 {
            let x = f64::from(i) * 0.017;
            let (got, want) = (exp_neg(x), (-x).exp());
            assert!((got - want).abs() <= want * 4e-6 + 1e-300, "{x}: {got} {want}");
        }
        assert_eq!(exp_neg(f64::NAN), 1.0);
        assert_eq!(exp_neg(f64::INFINITY), 0.0);
    }

    #[test]
    fn reading_changes_nothing_and_a_failure_never_looks_fast() {
        let (cell, mean, config) = (Cell::default(), AtomicU64::new(0), Latency::default());
        config.observe(&cell, &mean, 0.2, Nanos(1));
        let at = |s: f64| Nanos::from_secs_f64(s);
        let first = config.estimate(&cell, 0.1, at(30.0));
        assert_eq!(first, config.estimate(&cell, 0.1, at(30.0)));
        assert!(first > 0.1 && first < 0.2, "decays towards the mean, not to zero: {first}");
        config.observe_failure(&cell, &mean, 0.001, None, at(30.0));
        assert_eq!(config.estimate(&cell, 0.1, at(30.0)), 5.0);
        config.observe_failure(&cell, &mean, 0.001, Some(1e9), at(30.0));
        assert_eq!(config.estimate(&cell, 0.1, at(30.0)), MAX_HINT);
    }

    #[test]
    fn peaks_replace_and_lower_values_blend_in() {
        let (cell, mean, config) = (Cell::default(), AtomicU64::new(0), Latency::default());
        config.observe(&cell, &mean, 0.1, Nanos::ZERO);
        config.observe(&cell, &mean, 0.4, Nanos::from_secs_f64(1.0));
        assert_eq!(f64::from_bits(cell.rtt.load(Ordering::Relaxed)), 0.4);
        config.observe(&cell, &mean, 0.1, Nanos::from_secs_f64(11.0));
        let got = f64::from_bits(cell.rtt.load(Ordering::Relaxed));
        let w = (-1.0f64).exp();
        assert!((got - (0.4 * w + 0.1 * (1.0 - w))).abs() < 1e-6, "{got}");
    }
}
