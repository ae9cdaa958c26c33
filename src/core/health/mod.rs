//! From health, weight and rank to who may be picked.

pub mod failover;
pub mod leftover;
pub mod state;
pub mod target_group;
