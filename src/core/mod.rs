//! The pure core. Time and seed are arguments everywhere.
#![deny(unsafe_code)]

pub mod autoscaling;
pub mod capacity;
pub mod endpoints;
pub mod error;
pub mod hash;
pub mod health;
pub mod llm;
pub mod pickers;
pub mod pool;
pub mod rng;
pub mod routing;
pub mod shared;
pub mod simulation;
pub mod sync;
pub mod time;
