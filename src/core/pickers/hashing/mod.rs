//! Consistent hashing: the same key goes to the same endpoint, and few keys move when endpoints come and go.

pub mod maglev;
pub mod ring;
