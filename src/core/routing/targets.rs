//! Weighted targets: a draw, or a key that always draws the same.

use crate::core::error::ConfigError;
use crate::core::{hash, rng};

/// The largest weight of one target.
pub const MOST: u64 = 1 << 32;

/// Targets by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    weights: Vec<u64>,
    seeds: Vec<u64>,
    total: u64,
}

impl Weighted {
    /// Targets of these names and weights. A name is what places a target for a key.
    ///
    /// # Errors
    /// [`ConfigError`] for no target at all, or a weight beyond `most`.
    pub fn new(field: &str, targets: &[(String, u64)], most: u64) -> Result<Weighted, ConfigError> {
        if targets.is_empty() {
            return Err(ConfigError::new(field, "nothing", "at least one target"));
        }
        if let Some((name, weight)) = targets.iter().find(|(_, weight)| *weight > most.min(MOST)) {
            let allowed = format!("whole numbers from 0 to {}", most.min(MOST));
            return Err(ConfigError::new(format!("{field}[{name:?}]"), weight, allowed));
        }
        let weights: Vec<u64> = targets.iter().map(|(_, weight)| *weight).collect();
        let total = weights.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
        Ok(Weighted { seeds: targets.iter().map(|(name, _)| hash::xxh64(name.as_bytes())).collect(), weights, total })
    }

    /// Each target's share; zeros when no target has any weight.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let total = self.total.max(1) as f64;
        self.weights.iter().map(|&w| w as f64 / total).collect()
    }

    /// The target of a draw of 64 random bits; `None` when no target has any weight.
    #[must_use]
    pub fn draw(&self, bits: u64) -> Option<usize> {
        let mut at = ((u128::from(bits) * u128::from(self.total)) >> 64) as u64;
        self.weights.iter().position(|&weight| match at.checked_sub(weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        })
    }

    /// The target of a key: weighted rendezvous hashing, so that a change of one weight moves no key between others.
    #[must_use]
    pub fn keyed(&self, key: u64) -> Option<usize> {
        let score = |(seed, &weight): (&u64, &u64)| {
            let u = ((rng::mix64(key ^ seed) >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0;
            weight as f64 / -libm::log(u)
        };
        let scores = self.seeds.iter().zip(&self.weights).map(score).enumerate();
        scores.filter(|(_, score)| *score > 0.0).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[u64]) -> Weighted {
        let targets: Vec<(String, u64)> = weights.iter().enumerate().map(|(i, &w)| (format!("t{i}"), w)).collect();
        Weighted::new("to", &targets, 999).unwrap()
    }

    #[test]
    fn draws_and_keys_follow_the_weights_and_weight_0_gets_nothing() {
        let targets = of(&[10, 0, 20]);
        assert_eq!(targets.shares(), [10.0 / 30.0, 0.0, 20.0 / 30.0]);
        for pick in [|t: &Weighted, bits| t.draw(bits), |t: &Weighted, bits| t.keyed(bits)] {
            let mut counts = [0; 3];
            for i in 0..30_000 {
                counts[pick(&targets, rng::draw(7, i)).unwrap()] += 1;
            }
            assert_eq!(counts[1], 0);
            assert!((9_600..10_400).contains(&counts[0]), "{counts:?}");
        }
    }

    #[test]
    fn without_any_weight_there_is_no_target() {
        let none = of(&[0, 0]);
        assert_eq!((none.draw(u64::MAX), none.keyed(3), none.shares()), (None, None, vec![0.0, 0.0]));
        assert_eq!(of(&[0, 5]).draw(0), Some(1));
        assert_eq!(of(&[5, 0]).draw(u64::MAX), Some(0));
    }

    #[test]
    fn a_weight_that_grows_moves_keys_only_to_itself() {
        let (before, after) = (of(&[10, 10, 10]), of(&[10, 10, 40]));
        for key in (0..5_000).map(|i| rng::draw(1, i)) {
            let moved = (before.keyed(key), after.keyed(key));
            assert!(moved.0 == moved.1 || moved.1 == Some(2));
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(Weighted::new("to", &[], 999).is_err());
        let error = Weighted::new("to", &[("a".into(), 1000)], 999).unwrap_err();
        assert_eq!(error.to_string(), "to[\"a\"]: 1000 is not allowed; whole numbers from 0 to 999");
    }
}
