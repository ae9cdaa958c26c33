//! A token bucket, exact to the nanosecond: the generic cell rate algorithm told in tokens.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// A token is this many units, so that a rate of 10^-12 a second still adds whole units each nanosecond.
const UNITS: u128 = 1_000_000_000_000_000_000_000;
/// The largest rate and the largest burst.
const LARGEST: f64 = 1e12;

/// How many tokens there are, and when that was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Units that a nanosecond adds.
    fill: u128,
    full: u128,
    units: u128,
    at: Nanos,
}

// A product of at most 10^12 and 10^12 is exact in units as far as the float itself is.
fn scaled(value: f64) -> u128 {
    (value * 1e12).round() as u128
}

fn units(tokens: f64) -> u128 {
    scaled(tokens).saturating_mul(UNITS / 1_000_000_000_000)
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens a second.
    pub fn new(rate: f64, burst: f64) -> Result<TokenBucket, ConfigError> {
        if !(rate.is_finite() && (0.0..=LARGEST).contains(&rate)) {
            return Err(ConfigError::new("rate", rate, "tokens a second from 0 to 1e12"));
        }
        if !(burst.is_finite() && (1e-12..=LARGEST).contains(&burst)) {
            return Err(ConfigError::new("burst", burst, "tokens from 1e-12 to 1e12"));
        }
        let full = units(burst);
        Ok(TokenBucket { fill: scaled(rate), full, units: full, at: Nanos::ZERO })
    }

    /// A clock that goes back adds nothing, and the later instant stays.
    fn fill_up(&mut self, now: Nanos) {
        let added = u128::from(now.since(self.at).0).saturating_mul(self.fill);
        self.units = self.units.saturating_add(added).min(self.full);
        self.at = self.at.max(now);
    }

    /// Takes `tokens` if they are all there.
    pub fn take(&mut self, tokens: f64, now: Nanos) -> Result<bool, ConfigError> {
        let wanted = wanted(tokens)?;
        self.fill_up(now);
        let enough = self.units >= wanted;
        if enough {
            self.units -= wanted;
        }
        Ok(enough)
    }

    /// How many there are.
    pub fn tokens(&mut self, now: Nanos) -> f64 {
        self.fill_up(now);
        self.units as f64 / UNITS as f64
    }

    /// How long until `tokens` are there; `None` if they never are.
    pub fn wait(&mut self, tokens: f64, now: Nanos) -> Result<Option<Nanos>, ConfigError> {
        let wanted = wanted(tokens)?;
        self.fill_up(now);
        let lacking = wanted.saturating_sub(self.units);
        if lacking == 0 {
            return Ok(Some(Nanos::ZERO));
        }
        if wanted > self.full || self.fill == 0 {
            return Ok(None);
        }
        Ok(u64::try_from(lacking.div_ceil(self.fill)).ok().map(Nanos))
    }

    /// What it remembers: units and the instant.
    #[must_use]
    pub fn memory(&self) -> (u128, Nanos) {
        (self.units, self.at)
    }

    /// Takes over what another one remembered.
    pub fn remember(&mut self, units: u128, at: Nanos) {
        (self.units, self.at) = (units.min(self.full), at);
    }
}

fn wanted(tokens: f64) -> Result<u128, ConfigError> {
    if tokens.is_finite() && (0.0..=LARGEST).contains(&tokens) {
        Ok(units(tokens))
    } else {
        Err(ConfigError::new("tokens", tokens, "tokens from 0 to 1e12"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Nanos {
        Nanos::from_secs_f64(seconds)
    }

    #[test]
    fn a_third_of_a_token_comes_three_times() {
        let mut b = TokenBucket::new(1.0 / 3.0, 1.0).unwrap();
        assert!(b.take(1.0, at(0.0)).unwrap());
        assert!(!b.take(1.0, at(2.999)).unwrap());
        // A third as a float is rounded to 10^-12 a second: three seconds lack some 10^-12 of a token.
        assert!(b.wait(1.0, at(3.0)).unwrap().unwrap() <= Nanos(3));
        assert!(b.take(1.0, at(3.000_001)).unwrap());
    }

    #[test]
    fn exact_where_floats_are_not() {
        let mut b = TokenBucket::new(10.0, 1.0).unwrap();
        for k in 0..1000_u64 {
            assert!(b.take(1.0, Nanos(k * 100_000_000)).unwrap(), "{k}");
            assert!(!b.take(1.0, Nanos(k * 100_000_000 + 99_999_999)).unwrap());
        }
    }

    #[test]
    fn time_back_a_rate_of_zero_and_more_than_fits() {
        let mut b = TokenBucket::new(0.0, 2.0).unwrap();
        assert!(b.take(2.0, at(5.0)).unwrap());
        assert!(!b.take(1.0, at(1.0)).unwrap());
        assert_eq!(b.wait(1.0, at(9.0)).unwrap(), None);
        let mut b = TokenBucket::new(1.0, 2.0).unwrap();
        assert_eq!(b.wait(3.0, at(0.0)).unwrap(), None);
        assert!(b.take(0.0, at(0.0)).unwrap());
        assert_eq!(b.tokens(Nanos::MAX), 2.0);
        assert!(TokenBucket::new(f64::NAN, 1.0).is_err());
        assert!(TokenBucket::new(1.0, 0.0).is_err());
        assert!(b.take(-1.0, at(0.0)).is_err());
    }
}
