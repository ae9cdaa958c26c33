//! Round robin, by schedule.

pub mod smooth;

pub use smooth::{RoundRobin, Start};
