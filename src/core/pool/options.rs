//! What a pool is configured with.

use crate::core::endpoints::Latency;
use crate::core::endpoints::endpoint::MaxFails;
use crate::core::error::ConfigError;
use crate::core::health::breaker::CircuitBreaker;
use crate::core::health::failover::Rules;
use crate::core::health::outlier::OutlierDetection;
use crate::core::health::slow_start::SlowStart;
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// How the ends of requests are watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Watching {
    /// By outlier detection.
    Outliers(OutlierDetection),
    /// By nginx's rule.
    MaxFails(MaxFails),
}

/// The configuration of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Panic and ranks.
    pub rules: Rules,
    /// How endpoints that have just become usable get their share; at once when `None`.
    pub slow_start: Option<SlowStart>,
    /// How the ends of requests are watched; not at all when `None`, but where an endpoint has its own rule.
    pub passive: Option<Watching>,
    /// The circuit breaker of each endpoint.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How latencies are averaged.
    pub latency: Latency,
    /// How long a report about load counts.
    pub report_ttl: Nanos,
    /// After how long a detached lease that nobody gave back is taken back; never when `None`.
    pub lease_timeout: Option<Nanos>,
    /// Where chance starts.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rules: Rules::default(),
            slow_start: None,
            passive: None,
            circuit_breaker: None,
            latency: Latency::default(),
            report_ttl: Nanos(10_000_000_000),
            lease_timeout: None,
            seed: 0,
        }
    }
}

impl Options {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<Options, ConfigError> {
        let Rules { panic_threshold, overprovisioning_factor, .. } = &self.rules;
        if !(0.0..=1.0).contains(panic_threshold) {
            return Err(ConfigError::new("panic_threshold", panic_threshold, "a share from 0 to 1 (0 means never)"));
        }
        if !(overprovisioning_factor.is_finite() && *overprovisioning_factor >= 1.0) {
            return Err(ConfigError::new(
                "overprovisioning_factor",
                overprovisioning_factor,
                "a finite number of at least 1",
            ));
        }
        if self.lease_timeout == Some(Nanos::ZERO) {
            return Err(ConfigError::new("lease_timeout", 0, "a positive number of seconds, or None"));
        }
        self.slow_start.map(SlowStart::check).transpose()?;
        if let Some(Watching::Outliers(config)) = self.passive {
            config.check()?;
        }
        self.circuit_breaker.map(CircuitBreaker::check).transpose()?;
        self.latency.check()?;
        Ok(self)
    }
}
