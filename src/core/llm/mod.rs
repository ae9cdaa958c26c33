//! Language models: a request's cost is its tokens and what is already cached, not its count.

pub mod blocks;
pub mod lane;
pub mod load;
pub mod policy;
pub mod prefix_index;
pub mod scores;
pub mod ticket;

#[cfg(all(test, not(loom)))]
mod tests;

pub use policy::{Part, PrefixAware, Prompt};
pub use prefix_index::{Held, PrefixIndex, Saved, Tier};
pub use scores::{Options, Score, Stale};
pub use ticket::Ticket;
