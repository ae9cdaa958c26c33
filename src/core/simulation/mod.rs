//! A discrete-event simulator of a fleet behind a balancer: arrivals, servers with a concurrency limit and a FIFO queue,
//! an autoscaler in the loop.
//!
//! The engine asks a [`Balancer`] where a request goes and a [`Scaler`] how many servers there should be. Both see only
//! virtual time, so the code that decides in production can be put here unchanged. Equal seeds give equal runs: arrivals,
//! work, keys and the balancer draw from separate streams, so that two balancers under one seed meet the same requests.

pub mod arrivals;
pub mod balancer;
pub mod config;
pub mod detail;
pub mod dispatchers;
pub mod engine;
pub mod fleet;
pub mod fluid;
mod lifecycle;
pub mod pool_balancer;
pub mod prefix_balancer;
pub mod report;
pub mod scaler;
pub mod server;
pub mod service;
pub mod testing;
#[cfg(test)]
mod tests;

pub use arrivals::{RateProfile, Spike, Trace, Traffic};
pub use balancer::{Balancer, CacheChange, Grant, Hears, Outcome, ServerReport, ServerSpec};
pub use config::SimulationConfig;
pub use detail::{DetailConfig, DetailResults, Discipline};
pub use dispatchers::{Assign, Dispatchers, View};
pub use engine::Engine;
pub use fleet::{FleetConfig, LaunchOrder, ServerType};
pub use fluid::{Fluid, FluidConfig, FluidPolicy, FluidTimeline, FluidView};
pub use pool_balancer::PoolBalancer;
pub use prefix_balancer::PrefixBalancer;
pub use report::{Phase, Records, Results, Timeline};
pub use scaler::{FleetView, Scaler};
pub use service::{Law, Work};

use crate::core::error::ConfigError;
use thiserror::Error;

/// Why a simulation could not start or go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SimulationError {
    /// A parameter that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queues grow without bound.
    #[error(
        "more than {0} requests are in the system at once: the fleet cannot keep up; set a timeout, a queue limit or less traffic"
    )]
    TooManyInSystem(u32),
    /// Nobody will ever serve what waits.
    #[error(
        "{0} requests wait at the end, and no server will ever come: give the fleet a minimum, or a policy that scales up"
    )]
    Unserved(u32),
    /// The balancer failed or broke its contract.
    #[error("balancer: {0}")]
    Balancer(String),
    /// The scaling policy failed or broke its contract.
    #[error("scaling policy: {0}")]
    Scaler(String),
    /// A state the engine never should be in: our bug.
    #[error("the simulation engine lost track of {0}")]
    Broken(&'static str),
}

/// Names of the random streams; equal seeds give equal arrivals and work whatever the balancer draws.
pub mod streams {
    /// Times between arrivals.
    pub const ARRIVALS: u64 = 1;
    /// Work per request.
    pub const WORK: u64 = 2;
    /// Whatever the balancer draws.
    pub const BALANCER: u64 = 3;
    /// Keys of requests.
    pub const KEYS: u64 = 4;
    /// Where a trace starts, and which copies of it are kept.
    pub const TRACE: u64 = 5;
    /// Which class a request is of.
    pub const CLASSES: u64 = 6;
    /// Network delays, backoff, think times, an attempt's own work.
    pub const WAITS: u64 = 7;
    /// What goes wrong at servers.
    pub const FAULTS: u64 = 8;
    /// Which of several balancers gets a request.
    pub const DISPATCH: u64 = 9;
    /// Which servers are probed.
    pub const PROBES: u64 = 10;
}

/// The longest time that a simulation handles, in seconds: thirty years.
pub const MAX_SECONDS: f64 = 1e9;

/// `value` when it is finite and within `low..=high`, else an error about `field`.
pub(crate) fn check_range(field: &str, value: f64, low: f64, high: f64, allowed: &str) -> Result<f64, ConfigError> {
    if value.is_finite() && value >= low && value <= high {
        Ok(value)
    } else {
        Err(ConfigError::new(field, value, allowed))
    }
}
