//! How much work a request brings, in seconds on a server of speed 1.

use super::{MAX_SECONDS, check_range};
use crate::core::error::ConfigError;
use crate::core::rng::Rng;
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal};

const POSITIVE: &str = "expected a number of seconds above 0 and at most 1e9";

/// A distribution of work, in seconds.
///
/// Transcendental functions come from `libm`, not from the system, so that a seed gives the same run everywhere.
#[derive(Clone, Debug)]
pub struct Law(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Deterministic(f64),
    Exponential(f64),
    Uniform { low: f64, width: f64 },
    LogNormal { mu: f64, sigma: f64 },
    Gamma { law: Gamma<f64>, mean: f64 },
    HyperExponential { parts: Vec<(f64, f64)> },
    BoundedPareto { low: f64, high: f64, alpha: f64, cut: f64 },
    Empirical(Vec<f64>),
}

impl Law {
    /// Always `value` seconds.
    pub fn deterministic(value: f64) -> Result<Law, ConfigError> {
        Ok(Law(Kind::Deterministic(check_range(
            "service.value_s",
            value,
            0.0,
            MAX_SECONDS,
            "expected 0 to 1e9 seconds",
        )?)))
    }

    /// Exponential with this mean.
    pub fn exponential(mean: f64) -> Result<Law, ConfigError> {
        Ok(Law(Kind::Exponential(positive("service.mean_s", mean)?)))
    }

    /// Uniform between `low` and `high`.
    pub fn uniform(low: f64, high: f64) -> Result<Law, ConfigError> {
        check_range("service.low_s", low, 0.0, MAX_SECONDS, "expected 0 to 1e9 seconds")?;
        check_range("service.high_s", high, low, MAX_SECONDS, "expected at least low_s and at most 1e9 seconds")?;
        Ok(Law(Kind::Uniform { low, width: high - low }))
    }

    /// Log-normal with this mean, and `sigma` the standard deviation of the logarithm.
    pub fn log_normal(mean: f64, sigma: f64) -> Result<Law, ConfigError> {
        positive("service.mean_s", mean)?;
        check_range("service.sigma", sigma, 0.0, 10.0, "expected 0 to 10")?;
        Ok(Law(Kind::LogNormal { mu: libm::log(mean) - 0.5 * sigma * sigma, sigma }))
    }

    /// Log-normal with this mean and coefficient of variation.
    pub fn log_normal_cv(mean: f64, cv: f64) -> Result<Law, ConfigError> {
        check_range("service.cv", cv, 0.0, 1e6, "expected 0 to 1e6")?;
        Law::log_normal(mean, libm::sqrt(libm::log1p(cv * cv)))
    }

    /// Gamma with this shape and mean; a whole shape k is Erlang-k.
    pub fn gamma(shape: f64, mean: f64) -> Result<Law, ConfigError> {
        check_range("service.shape", shape, 1e-3, 1e6, "expected 0.001 to 1e6")?;
        positive("service.mean_s", mean)?;
        let law = Gamma::new(shape, mean / shape)
            .map_err(|_| ConfigError::new("service.shape", shape, "expected a shape and a mean above 0"))?;
        Ok(Law(Kind::Gamma { law, mean }))
    }

    /// A mixture of exponentials: with probability `p[i]`, exponential with mean `means[i]`.
    pub fn hyper_exponential(p: &[f64], means: &[f64]) -> Result<Law, ConfigError> {
        if p.is_empty() || p.len() != means.len() {
            let what = format!("{} probabilities and {} means", p.len(), means.len());
            return Err(ConfigError::new("service.p", what, "expected as many as means_s, at least one"));
        }
        let mut parts = Vec::with_capacity(p.len());
        let mut sum = 0.0;
        for (&chance, &mean) in p.iter().zip(means) {
            sum += check_range("service.p", chance, 0.0, 1.0, "expected probabilities from 0 to 1")?;
            parts.push((sum, positive("service.means_s", mean)?));
        }
        if (sum - 1.0).abs() > 1e-9 {
            return Err(ConfigError::new("service.p", sum, "expected probabilities that add up to 1"));
        }
        Ok(Law(Kind::HyperExponential { parts }))
    }

    /// Pareto with exponent `alpha`, cut to `low..high`.
    pub fn bounded_pareto(alpha: f64, low: f64, high: f64) -> Result<Law, ConfigError> {
        check_range("service.alpha", alpha, 1e-3, 100.0, "expected 0.001 to 100")?;
        positive("service.low_s", low)?;
        check_range("service.high_s", high, low, MAX_SECONDS, "expected at least low_s and at most 1e9 seconds")?;
        Ok(Law(Kind::BoundedPareto { low, high, alpha, cut: 1.0 - libm::pow(low / high, alpha) }))
    }

    /// Each of these values with equal chance.
    pub fn empirical(values: &[f64]) -> Result<Law, ConfigError> {
        if values.is_empty() {
            return Err(ConfigError::new("service.values_s", "an empty list", "expected at least one value"));
        }
        for &value in values {
            check_range("service.values_s", value, 0.0, MAX_SECONDS, "expected 0 to 1e9 seconds")?;
        }
        Ok(Law(Kind::Empirical(values.to_vec())))
    }

    /// The mean, in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match &self.0 {
            Kind::Deterministic(value) => *value,
            Kind::Exponential(mean) | Kind::Gamma { mean, .. } => *mean,
            Kind::Uniform { low, width } => low + 0.5 * width,
            Kind::LogNormal { mu, sigma } => libm::exp(mu + 0.5 * sigma * sigma),
            Kind::HyperExponential { parts } => {
                let mut last = 0.0;
                let mut mean = 0.0;
                for &(sum, m) in parts {
                    mean += (sum - last) * m;
                    last = sum;
                }
                mean
            }
            Kind::BoundedPareto { low, high, alpha, cut } => {
                if high <= low {
                    *low
                } else if (alpha - 1.0).abs() < 1e-9 {
                    low / cut * libm::log(high / low)
                } else {
                    alpha / (alpha - 1.0) * low / cut * (1.0 - libm::pow(low / high, alpha - 1.0))
                }
            }
            Kind::Empirical(values) => values.iter().sum::<f64>() / values.len().max(1) as f64,
        }
    }

    /// One draw, in seconds.
    #[inline]
    pub fn sample(&self, rng: &mut Rng) -> f64 {
        match &self.0 {
            Kind::Deterministic(value) => *value,
            Kind::Exponential(mean) => mean * exp1(rng),
            Kind::Uniform { low, width } => low + width * rng.next_f64(),
            Kind::LogNormal { mu, sigma } => {
                let normal: f64 = StandardNormal.sample(rng);
                libm::exp(mu + sigma * normal)
            }
            Kind::Gamma { law, .. } => law.sample(rng),
            Kind::HyperExponential { parts } => {
                let u = rng.next_f64();
                let mean = parts.iter().find(|part| u < part.0).or(parts.last()).map_or(0.0, |part| part.1);
                mean * exp1(rng)
            }
            Kind::BoundedPareto { low, alpha, cut, .. } => {
                // Inversion; a logarithm and an exponential cost half of a power.
                low * libm::exp(libm::log1p(-rng.next_f64() * cut) / -alpha)
            }
            Kind::Empirical(values) => {
                let n = u32::try_from(values.len()).unwrap_or(u32::MAX);
                values.get(rng.below(n) as usize).copied().unwrap_or(0.0)
            }
        }
    }
}

/// One draw of the exponential distribution with mean 1.
#[inline]
pub(crate) fn exp1(rng: &mut Rng) -> f64 {
    Exp1.sample(rng)
}

fn positive(field: &str, value: f64) -> Result<f64, ConfigError> {
    if value > 0.0 {
        check_range(field, value, 0.0, MAX_SECONDS, POSITIVE)
    } else {
        Err(ConfigError::new(field, value, POSITIVE))
    }
}

/// Where a request's work comes from.
#[derive(Clone, Debug)]
pub enum Work {
    /// Drawn from a law.
    Drawn(Law),
    /// Given with the arrival (a trace), times log-normal noise of mean 1.
    Given {
        /// The noise; a law of mean 1.
        noise: Law,
    },
}

impl Work {
    /// Work that comes with each arrival, times log-normal noise of mean 1 and this coefficient of variation.
    pub fn given(noise_cv: f64) -> Result<Work, ConfigError> {
        check_range("service.noise_cv", noise_cv, 0.0, 1e6, "expected 0 to 1e6")?;
        Ok(Work::Given { noise: Law::log_normal_cv(1.0, noise_cv)? })
    }

    /// The work of one request in seconds; `given` is what came with the arrival.
    #[inline]
    pub fn sample(&self, given: f64, rng: &mut Rng) -> f64 {
        match self {
            Work::Drawn(law) => law.sample(rng),
            Work::Given { noise } => given * noise.sample(rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_agree_with_draws() {
        let laws = [
            Law::deterministic(2.0).unwrap(),
            Law::exponential(0.5).unwrap(),
            Law::uniform(1.0, 4.0).unwrap(),
            Law::log_normal(3.0, 0.7).unwrap(),
            Law::log_normal_cv(3.0, 0.4).unwrap(),
            Law::gamma(4.0, 2.0).unwrap(),
            Law::gamma(0.4, 2.0).unwrap(),
            Law::hyper_exponential(&[0.8, 0.2], &[0.5, 3.0]).unwrap(),
            Law::bounded_pareto(2.5, 0.6, 600.0).unwrap(),
            Law::bounded_pareto(1.0, 1.0, 10.0).unwrap(),
            Law::empirical(&[1.0, 2.0, 6.0]).unwrap(),
        ];
        for law in &laws {
            let mut rng = Rng::new(7);
            let n = 400_000;
            let mut sum = 0.0;
            let mut square = 0.0;
            for _ in 0..n {
                let x = law.sample(&mut rng);
                sum += x;
                square += x * x;
            }
            let mean = sum / f64::from(n);
            let error = ((square / f64::from(n) - mean * mean).max(0.0) / f64::from(n)).sqrt();
            assert!((mean - law.mean()).abs() <= 4.5 * error + 1e-12, "{law:?}: {mean} against {}", law.mean());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for bad in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            assert_eq!(Law::exponential(bad).unwrap_err().field, "service.mean_s");
        }
        assert_eq!(Law::uniform(2.0, 1.0).unwrap_err().field, "service.high_s");
        assert_eq!(Law::empirical(&[]).unwrap_err().field, "service.values_s");
        assert_eq!(Law::hyper_exponential(&[0.5, 0.4], &[1.0, 1.0]).unwrap_err().field, "service.p");
        assert_eq!(Law::bounded_pareto(1.5, 1.0, f64::NAN).unwrap_err().field, "service.high_s");
    }
}
