//! What the autoscaler remembers, as a plain value.

use super::behavior::{Event, Past};
use super::conditions::{Conditions, Reason};
use crate::core::time::Nanos;

/// The memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Past recommendations, raw.
    pub recommendations: Vec<Past>,
    /// Changes that were made: more replicas.
    pub ups: Vec<Event>,
    /// Fewer.
    pub downs: Vec<Event>,
    /// The conditions.
    pub conditions: Conditions,
    /// What the status says is desired.
    pub status_desired: i32,
    /// When it last scaled.
    pub last_scale: Option<Nanos>,
    /// How many recommendations there were.
    pub serial: u64,
    /// What the last change replaced.
    pub last: Option<Box<Undo>>,
}

/// What a change replaced, for the case that it is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    /// The number of its recommendation.
    pub serial: u64,
    /// When it was made.
    pub at: Nanos,
    /// The changes before.
    pub ups: Vec<Event>,
    /// The changes before.
    pub downs: Vec<Event>,
    /// The condition ScaledToZero before.
    pub zero: Option<Reason>,
    /// The status before.
    pub status_desired: i32,
    /// When it had last scaled before.
    pub last_scale: Option<Nanos>,
}
