//! From health, weight and rank to who may be picked.

pub mod failover;
pub mod slow_start;
