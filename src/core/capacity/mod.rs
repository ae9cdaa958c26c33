//! How capacity is made up and renewed: warm pools, on-demand and spot, refreshes, prices. Pure arithmetic in whole
//! numbers wherever counts are whole.
//!
//! Source: EC2 Auto Scaling user guide (warm pools, mixed instances, instance refresh, capacity rebalancing, lifecycle
//! hooks), last public Markdown edition.

pub mod blend;
pub mod cost;
pub mod group;
pub mod mixed;
pub mod offers;
pub mod refresh;
pub mod removal;
pub mod termination;
pub mod warm_pool;
