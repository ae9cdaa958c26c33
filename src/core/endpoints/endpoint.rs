//! The description of one endpoint.

use crate::core::error::ConfigError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is known of an endpoint's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// It gets its full share.
    #[default]
    Healthy,
    /// It gets work only when no healthy endpoint of its rank can take it.
    Degraded,
    /// It gets no work, except in panic.
    Unhealthy,
}

/// nginx's `max_fails` and `fail_timeout`; the rule is in `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxFails {
    /// After how many failures it is left alone; 0 for never.
    pub max_fails: u32,
    /// For how many seconds, and within how many the failures must come.
    pub fail_timeout: u64,
}

/// The largest weight: beyond it sums of weights would lose whole numbers.
pub const MAX_WEIGHT: f64 = 1e15;

/// One endpoint of a pool, with the payload of the host language.
#[derive(Clone, Debug)]
pub struct Endpoint<P> {
    /// What the pool knows it by; unique in the pool.
    pub id: Arc<str>,
    /// The text that hashing pickers place it by.
    pub hash_key: Arc<str>,
    /// Its share relative to the others; 0 means no new work.
    pub weight: f64,
    /// Lower ones get requests first.
    pub priority: u32,
    /// Where it stands; empty when that is not known.
    pub zone: Arc<str>,
    /// Used only when no primary can be had.
    pub backup: bool,
    /// The most requests it may have in flight; `u32::MAX` for any number.
    pub max_inflight: u32,
    /// A rule of its own for what failures make of it; the pool's when `None`.
    pub passive: Option<MaxFails>,
    /// Carried along, never looked at.
    pub payload: P,
}

/// Checks a weight: a finite number, not negative, at most [`MAX_WEIGHT`].
///
/// # Errors
/// [`ConfigError`] naming `field`.
pub fn check_weight(field: &str, weight: f64) -> Result<f64, ConfigError> {
    if weight.is_finite() && (0.0..=MAX_WEIGHT).contains(&weight) {
        Ok(weight)
    } else {
        Err(ConfigError::new(field, weight, "a weight is a finite number from 0 to 1e15 (0 means no new work)"))
    }
}
