//! The pool, which writes, and the pickers and leases, which read and count.

pub mod budget;
mod common;
pub mod gradient;
pub mod joint;
pub mod lease;
pub mod limits;
mod members;
pub mod options;
pub mod passive;
pub mod picker;
mod rebalance;
mod rehearsal;
pub mod report;
pub mod session;
mod split;
pub mod token_bucket;
mod waiting;
mod warmth;
mod writer;

pub use budget::{ActiveBudget, RetryBudget};
pub use gradient::{Gradient, GradientConfig};
pub use joint::{Guest, Joint, Membership};
pub use lease::{LeaseCell, Ledger, Outcome};
pub use options::{Options, Watching};
pub use passive::Ejection;
pub use picker::{Filter, Picker, State, Taken};
pub use rebalance::Move;
pub use report::{EndpointStats, Report};
pub use session::{LetGo, Standing};
pub use token_bucket::TokenBucket;
pub use waiting::{Room, Waited};
pub use writer::Pool;
