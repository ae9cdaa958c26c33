//! A policy's memory as a plain value, which the binding writes as a dictionary.

use super::alarm::Datapoint;
use super::memory::Memory;
use crate::core::time::Nanos;

/// A policy's memory.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyState {
    /// Of a policy on one metric.
    One {
        /// `target_tracking` or `step_scaling`.
        kind: &'static str,
        /// The metric's name: a memory fits only a policy that reads the same.
        metric: String,
        /// The period's length: datapoints are numbered by it.
        period: Nanos,
        /// The samples.
        datapoints: Vec<Datapoint>,
        /// The rest.
        memory: Box<Memory>,
    },
    /// Of several policies, in order.
    Combined {
        /// The number of the last recommendation.
        serial: u64,
        /// Their memories.
        policies: Vec<PolicyState>,
    },
}

impl PolicyState {
    /// The kind of policy that it belongs to.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            PolicyState::One { kind, .. } => kind,
            PolicyState::Combined { .. } => "combined",
        }
    }
}
