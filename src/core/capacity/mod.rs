//! What capacity costs, and how likely it is there.

pub mod cost;
