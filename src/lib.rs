//! aibalance decides: which server gets the next request (`pick`), and how many servers there should be (`recommend`).
//!
//! [`core`] is pure: no Python, no I/O, no clock, no hidden chance. `py`, behind the feature `python`, is the binding.

pub mod core;

#[cfg(feature = "python")]
mod py;
