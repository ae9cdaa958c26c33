//! The pool, which writes, and the pickers and leases, which read and count.

pub mod budget;
pub mod lease;
mod members;
pub mod options;
pub mod passive;
pub mod picker;
pub mod report;
pub mod session;
mod split;
mod warmth;
mod writer;

pub use budget::RetryBudget;
pub use lease::{LeaseCell, Ledger, Outcome};
pub use options::{Options, Watching};
pub use passive::Ejection;
pub use picker::{Filter, Picker, State, Taken};
pub use report::{EndpointStats, Report};
pub use session::{LetGo, Standing};
pub use writer::Pool;
