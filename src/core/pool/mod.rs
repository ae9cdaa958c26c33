//! The pool, which writes, and the pickers and leases, which read and count.

pub mod budget;
pub mod lease;
mod members;
pub mod options;
pub mod picker;
pub mod report;
pub mod session;
mod split;
pub mod token_bucket;
mod warmth;
mod writer;

pub use budget::RetryBudget;
pub use lease::{LeaseCell, Ledger, Outcome};
pub use options::Options;
pub use picker::{Filter, Picker, State, Taken};
pub use report::{EndpointStats, Report};
pub use session::{LetGo, Standing};
pub use token_bucket::TokenBucket;
pub use writer::Pool;
