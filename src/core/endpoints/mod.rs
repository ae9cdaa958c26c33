//! What is balanced over: endpoints, their counters, and the snapshot that every pick reads.

pub mod counters;
pub mod endpoint;
mod fetch;
pub mod latency;
pub mod meter;
pub mod order;
pub mod signals;
pub mod snapshot;
pub mod table;
pub mod tiers;
pub mod watch;
pub mod work;

pub use counters::{Block, Cell};
pub use endpoint::{Endpoint, Health};
pub use latency::{Averages, Latency};
pub use meter::{Gate, Meter};
pub use order::Order;
pub use snapshot::{Member, Snapshot, Totals, View};
pub use tiers::{Group, Tier, Zones};
pub use work::Work;
