//! From health, weight and rank to who may be picked; averages of what is observed.

pub mod breaker;
pub mod ewma;
pub mod failover;
pub mod leftover;
pub mod max_fails;
pub mod outlier;
#[cfg(test)]
mod outlier_tests;
pub mod slow_start;
pub mod state;
pub mod target_group;

pub use ewma::{Ewma, TimeWeightedEwma};
