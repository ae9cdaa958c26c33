//! What a lease may hold besides the units in its endpoint's counters.

use std::fmt::Debug;

/// Work that knows more of a request than its cost, such as its tokens. It is given back when it is dropped, so that it
/// cannot be given back twice or never.
pub trait Work: Debug + Send + Sync {
    /// The answer has begun.
    fn first_token(&self);

    /// The request brings so many units more, or less.
    fn add(&self, units: i64);
}
