//! Moving averages that weigh the latest most: by the sample, and by time.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// The exponentially weighted moving average of a series: each sample takes the share `alpha`, whenever it comes. The
/// first sets it. After Roberts, "Control chart tests based on geometric moving averages", Technometrics 1959.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    alpha: f64,
    value: Option<f64>,
}

fn finite(value: f64) -> Result<f64, ConfigError> {
    // Far from where a difference of two would overflow.
    if value.abs() <= 1e300 {
        Ok(value)
    } else {
        Err(ConfigError::new("value", value, "a finite number from -1e300 to 1e300"))
    }
}

impl Ewma {
    /// An average of nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] for a share outside (0, 1].
    pub fn new(alpha: f64) -> Result<Ewma, ConfigError> {
        if alpha > 0.0 && alpha <= 1.0 {
            Ok(Ewma { alpha, value: None })
        } else {
            Err(ConfigError::new("alpha", alpha, "a share above 0, up to 1"))
        }
    }

    /// The share that a sample takes.
    #[must_use]
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The average; `None` before the first sample.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    /// Takes a sample in and gives the average after it.
    ///
    /// # Errors
    /// [`ConfigError`] for a sample that is not finite; then nothing has changed.
    pub fn update(&mut self, sample: f64) -> Result<f64, ConfigError> {
        let sample = finite(sample)?;
        let next = self.value.map_or(sample, |value| value + self.alpha * (sample - value));
        self.value = Some(next);
        Ok(next)
    }

    /// Sets the average, as a copy needs it.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that is not finite.
    pub fn restore(&mut self, value: Option<f64>) -> Result<(), ConfigError> {
        self.value = value.map(finite).transpose()?;
        Ok(())
    }
}

/// The same for samples at any instants: after a time `tau` an old value has 1/e of its weight left. The first sample
/// sets it; reading never changes it. After Finagle's `Ema`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeWeightedEwma {
    tau: f64,
    last: Option<(f64, Nanos)>,
}

impl TimeWeightedEwma {
    /// An average of nothing yet, with a time constant in seconds.
    ///
    /// # Errors
    /// [`ConfigError`] for a time that is not positive and finite.
    pub fn new(tau: f64) -> Result<TimeWeightedEwma, ConfigError> {
        if tau.is_finite() && tau > 0.0 {
            Ok(TimeWeightedEwma { tau, last: None })
        } else {
            Err(ConfigError::new("tau", tau, "a positive number of seconds"))
        }
    }

    /// The time constant in seconds.
    #[must_use]
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// In how many seconds an old value loses half of its weight.
    #[must_use]
    pub fn half_life(&self) -> f64 {
        self.tau * std::f64::consts::LN_2
    }

    /// The average; `None` before the first sample.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.last.map(|(value, _)| value)
    }

    /// The average and the instant of the latest sample.
    #[must_use]
    pub fn last(&self) -> Option<(f64, Nanos)> {
        self.last
    }

    /// Takes a sample in and gives the average after it. A sample that is not later than the one before it has no time
    /// to its name: it changes nothing.
    ///
    /// # Errors
    /// [`ConfigError`] for a sample that is not finite; then nothing has changed.
    pub fn update(&mut self, sample: f64, at: Nanos) -> Result<f64, ConfigError> {
        let sample = finite(sample)?;
        let next = match self.last {
            None => (sample, at),
            Some((value, before)) => {
                let left = (-at.since(before).as_secs_f64() / self.tau).exp();
                (sample * (1.0 - left) + value * left, at.max(before))
            }
        };
        self.last = Some(next);
        Ok(next.0)
    }

    /// Sets the average, as a copy needs it.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that is not finite.
    pub fn restore(&mut self, last: Option<(f64, Nanos)>) -> Result<(), ConfigError> {
        self.last = last.map(|(value, at)| finite(value).map(|value| (value, at))).transpose()?;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_sets_it_and_each_next_takes_its_share() {
        let mut average = Ewma::new(0.25).unwrap();
        assert_eq!(average.value(), None);
        assert_eq!(average.update(8.0), Ok(8.0));
        assert_eq!(average.update(0.0), Ok(6.0));
        assert!(average.update(f64::NAN).is_err() && average.update(f64::INFINITY).is_err());
        assert_eq!(average.value(), Some(6.0));
        let mut last = Ewma::new(1.0).unwrap();
        assert_eq!((last.update(1e300), last.update(-1e300)), (Ok(1e300), Ok(-1e300)));
        for wrong in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Ewma::new(wrong).is_err());
        }
    }

    #[test]
    fn time_alone_decides_how_much_a_sample_counts() {
        let at = Nanos::from_secs_f64;
        let mut average = TimeWeightedEwma::new(5.0).unwrap();
        assert_eq!(average.update(10.0, at(0.0)), Ok(10.0));
        let one = average.update(0.0, at(1.0)).unwrap();
        assert!((one - 10.0 * (-0.2f64).exp()).abs() < 1e-12);
        assert_eq!(average.value(), Some(one));
        assert_eq!(average.update(7.0, at(1.0)), Ok(one), "at the same instant");
        assert_eq!(average.update(7.0, at(0.5)), Ok(one), "earlier");
        let half = average.update(0.0, at(1.0 + average.half_life())).unwrap();
        assert!((half - one / 2.0).abs() < 1e-8);
        assert_eq!(average.update(3.0, Nanos::MAX), Ok(3.0));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(TimeWeightedEwma::new(wrong).is_err());
        }
    }
}
