//! The pure core. Time and seed are arguments everywhere.
#![forbid(unsafe_code)]

pub mod autoscaling;
pub mod error;
pub mod rng;
pub mod time;
