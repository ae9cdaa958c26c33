//! Where a request goes before anybody picks: rules to targets, sessions to endpoints, names to addresses.

pub mod dns;
pub mod glob;
pub mod location;
pub mod request;
pub mod rules;
pub mod sticky;
pub mod targets;
pub mod uri;

pub use location::Location;
pub use request::{Refusal, Request};
pub use rules::{Decision, Options, Priority, Router, Rule};
pub use sticky::{StickyTable, WhenFull};
pub use targets::Weighted;
