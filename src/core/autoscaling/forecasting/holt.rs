//! Holt's linear method.

use super::{check, share};
use crate::core::error::ConfigError;

/// A level and a trend, after each value from the second on.
#[derive(Clone, Debug, PartialEq)]
pub struct Holt {
    /// Levels.
    pub levels: Vec<f64>,
    /// Trends, a step each.
    pub trends: Vec<f64>,
}

impl Holt {
    /// Begins with the first value and the first difference, and is updated from the second value on.
    pub fn new(series: &[f64], alpha: f64, beta: f64) -> Result<Holt, ConfigError> {
        let (alpha, beta) = (share("alpha", alpha)?, share("beta", beta)?);
        check("series", series, false)?;
        let [first, second, ..] = series else {
            return Err(ConfigError::new("series", format!("{} values", series.len()), "two values or more"));
        };
        let (mut level, mut trend) = (*first, second - first);
        let mut found = Holt { levels: Vec::with_capacity(series.len()), trends: Vec::with_capacity(series.len()) };
        for x in series.iter().skip(1) {
            let before = level;
            level = alpha * x + (1.0 - alpha) * (level + trend);
            trend = beta * (level - before) + (1.0 - beta) * trend;
            found.levels.push(level);
            found.trends.push(trend);
        }
        Ok(found)
    }

    /// The value that it expects `steps` after the last one.
    #[must_use]
    pub fn forecast(&self, steps: f64) -> f64 {
        let last = |column: &[f64]| column.last().copied().unwrap_or(0.0);
        last(&self.levels) + steps * last(&self.trends)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_forecasts_itself() {
        let h = Holt::new(&[10.0, 12.0, 14.0, 16.0], 0.3, 0.8).unwrap();
        assert_eq!(h.levels.len(), 3);
        assert!((h.forecast(3.0) - 22.0).abs() < 1e-12);
    }

    #[test]
    fn each_parameter_matters() {
        let xs = [1.0, 2.0, 4.0, 1.0, 9.0];
        let of = |a, b| Holt::new(&xs, a, b).unwrap().forecast(1.0);
        assert_ne!(of(0.5, 0.5), of(0.6, 0.5));
        assert_ne!(of(0.5, 0.5), of(0.5, 0.6));
    }

    #[test]
    fn what_cannot_be() {
        for (xs, a) in [(vec![1.0], 0.5), (vec![], 0.5), (vec![1.0, f64::NAN], 0.5), (vec![1.0, 2.0], 1.5)] {
            assert!(Holt::new(&xs, a, 0.5).is_err());
        }
    }
}
