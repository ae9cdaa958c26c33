//! What a run depends on.

use super::detail::DetailConfig;
use super::{FleetConfig, MAX_SECONDS, Traffic, Work};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// Everything a run depends on but the balancer and the scaler.
#[derive(Clone, Debug)]
pub struct SimulationConfig {
    /// Traffic stops here; what is in the system is finished.
    pub duration: Nanos,
    /// Requests that arrive earlier are not measured.
    pub discard: Nanos,
    /// A client gives up this long after its arrival.
    pub timeout: Option<Nanos>,
    /// The latency objective.
    pub slo: Nanos,
    /// Requests that arrive in this window are counted apart.
    pub spike: Option<(Nanos, Nanos)>,
    /// When requests arrive.
    pub traffic: Traffic,
    /// How much work they bring.
    pub work: Work,
    /// Distinct keys and their Zipf exponent (0 is uniform); without it every request has a key of its own.
    pub keys: Option<(u32, f64)>,
    /// Tell the balancer each request's work in seconds as its cost; else the cost is 1.
    pub cost_is_work: bool,
    /// The fleet and its scaling loop.
    pub fleet: FleetConfig,
    /// Equal seeds give equal runs.
    pub seed: u64,
    /// Steps of the timeline.
    pub timeline_steps: u32,
    /// Keep one record a request.
    pub records: bool,
    /// What goes beyond plain servers and one balancer.
    pub detail: Option<DetailConfig>,
}

impl SimulationConfig {
    /// An error about the first value that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.fleet.check()?;
        if let Some(detail) = &self.detail {
            detail.check()?;
        }
        let seconds = self.duration.as_secs_f64();
        if self.duration == Nanos::ZERO || seconds > MAX_SECONDS {
            return Err(ConfigError::new("duration_s", seconds, "expected more than 0 and at most 1e9 seconds"));
        }
        if self.discard >= self.duration {
            return Err(ConfigError::new("discard_s", self.discard.as_secs_f64(), "expected less than duration_s"));
        }
        if self.timeout == Some(Nanos::ZERO) {
            return Err(ConfigError::new("timeout_s", 0, "expected more than 0 seconds"));
        }
        if self.timeline_steps == 0 || self.timeline_steps > 100_000 {
            return Err(ConfigError::new("timeline_steps", self.timeline_steps, "expected 1 to 100000"));
        }
        if let Some((n, s)) = self.keys {
            if n == 0 {
                return Err(ConfigError::new("keys.distinct", n, "expected at least 1"));
            }
            if !(s.is_finite() && (0.0..=20.0).contains(&s)) {
                return Err(ConfigError::new("keys.zipf", s, "expected 0 to 20"));
            }
        }
        Ok(())
    }
}
