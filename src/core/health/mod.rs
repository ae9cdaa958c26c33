//! From health, weight and rank to who may be picked; averages of what is observed.

pub mod ewma;
pub mod failover;

pub use ewma::{Ewma, TimeWeightedEwma};
