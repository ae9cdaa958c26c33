//! What a run may have beyond plain servers and one balancer: other disciplines, a shared queue, retries, hedging, network
//! delay, classes of requests, closed loops, failures, antagonists.
//!
//! The engine's own loop stays as it is; a run that asks for any of this goes through [`Detail`], which keeps requests
//! apart from their attempts: a retried or hedged request has several.

mod batch;
mod config;
mod faults;
mod flow;
mod report;
mod serve;
mod signals;
mod station;
mod table;
#[cfg(test)]
mod tests;

pub use batch::BatchModel;
pub use config::{
    Antagonists, Class, DetailConfig, Discipline, Failures, Hedge, Lengths, Pull, Reports, Retry, Tokens, Users, WarmUp,
};
pub(crate) use flow::Detail;
pub use report::{ClassResults, DetailResults};

/// An attempt's place in the table, and which of those that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId {
    pub(crate) at: u32,
    pub(crate) generation: u32,
}
