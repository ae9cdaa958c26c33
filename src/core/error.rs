//! Errors of the core, one enum an operation. The binding maps each to one class of the Python tree.

use super::time::Nanos;
use thiserror::Error;

/// A value that a configuration cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {value} is not allowed; {allowed}")]
pub struct ConfigError {
    /// The parameter as the caller knows it, such as `weight` or `endpoints[3].id`.
    pub field: String,
    /// What was given.
    pub value: String,
    /// What would have been right.
    pub allowed: String,
}

impl ConfigError {
    /// An error about `field`, which was `value` and should have been `allowed`.
    pub fn new(field: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
        ConfigError { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// Why no endpoint could be picked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickError {
    /// The pool is empty.
    #[error("the pool has no endpoints")]
    NoEndpoints,
    /// Endpoints exist, and none may get work.
    #[error(
        "no endpoint is eligible: {total} in the pool, {unhealthy} unhealthy, {draining} draining, {zero_weight} of weight 0, {excluded} excluded"
    )]
    NoHealthyEndpoint {
        /// How many endpoints the pool has.
        total: usize,
        /// How many are unhealthy.
        unhealthy: usize,
        /// How many are draining.
        draining: usize,
        /// How many have weight zero.
        zero_weight: usize,
        /// How many the caller excluded.
        excluded: usize,
    },
    /// Eligible endpoints exist, and all have as many requests as they may.
    #[error("every eligible endpoint is at its max_inflight")]
    Overloaded {
        /// When a request is likely to have ended, counted from now; `None` when nothing is known of how long they take.
        retry_after: Option<Nanos>,
    },
}

/// Why a lease could not be released or changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// No live lease has this id: it was released, expired, or never given out.
    #[error("lease {0} is not live: it was released, it expired, or this pool never gave it out")]
    NotLive(u64),
    /// The lease was released already.
    #[error("the lease was released already")]
    Released,
}

/// A metric that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name}: {value} is not a usable metric; {allowed}")]
pub struct MetricError {
    /// The metric's name.
    pub name: String,
    /// What was given.
    pub value: String,
    /// What would have been right.
    pub allowed: String,
}
