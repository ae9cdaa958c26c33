//! What any policy's outcome tells, as plain values, so that each system keeps its own words.

use super::recommendation::Action;
use crate::core::time::Nanos;
use std::fmt;

/// A plain value.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// Nothing.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// Any number.
    Real(f64),
    /// A text.
    Text(String),
    /// Several values.
    List(Vec<Plain>),
    /// Named values.
    Map(Vec<(String, Plain)>),
}

impl Plain {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Plain {
        Plain::Text(text.into())
    }

    /// A value or nothing.
    #[must_use]
    pub fn of<T>(value: Option<T>, convert: impl FnOnce(T) -> Plain) -> Plain {
        value.map_or(Plain::Nothing, convert)
    }
}

/// The outcome of a decision. Everything but the numbers is made when it is asked for.
pub trait Outcome: Send + Sync + fmt::Debug {
    /// The capacity in service when it was made.
    fn current(&self) -> i64;
    /// The capacity that there should be.
    fn desired(&self) -> i64;
    /// What it does.
    fn action(&self) -> Action;
    /// What kept it from being what the metrics alone ask for.
    fn limited_by(&self) -> Option<&str>;
    /// One sentence.
    fn reason(&self) -> String;
    /// The stages in order, each with its value after it.
    fn trace(&self) -> Vec<(String, Plain)>;
    /// What the policy's own system would show.
    fn details(&self) -> Vec<(String, Plain)>;
    /// Its number among its policy's recommendations.
    fn serial(&self) -> u64;
    /// When it was made.
    fn at(&self) -> Nanos;
}

/// An outcome that was written down: what is left after a journey between processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// See [`Outcome::current`].
    pub current: i64,
    /// See [`Outcome::desired`].
    pub desired: i64,
    /// See [`Outcome::action`].
    pub action: Action,
    /// See [`Outcome::limited_by`].
    pub limited_by: Option<String>,
    /// See [`Outcome::reason`].
    pub reason: String,
    /// See [`Outcome::trace`].
    pub trace: Vec<(String, Plain)>,
    /// See [`Outcome::details`].
    pub details: Vec<(String, Plain)>,
    /// See [`Outcome::serial`].
    pub serial: u64,
    /// See [`Outcome::at`].
    pub at: Nanos,
}

impl Written {
    /// Writes an outcome down.
    #[must_use]
    pub fn of(outcome: &dyn Outcome) -> Written {
        Written {
            current: outcome.current(),
            desired: outcome.desired(),
            action: outcome.action(),
            limited_by: outcome.limited_by().map(str::to_owned),
            reason: outcome.reason(),
            trace: outcome.trace(),
            details: outcome.details(),
            serial: outcome.serial(),
            at: outcome.at(),
        }
    }
}

impl Outcome for Written {
    fn current(&self) -> i64 {
        self.current
    }

    fn desired(&self) -> i64 {
        self.desired
    }

    fn action(&self) -> Action {
        self.action
    }

    fn limited_by(&self) -> Option<&str> {
        self.limited_by.as_deref()
    }

    fn reason(&self) -> String {
        self.reason.clone()
    }

    fn trace(&self) -> Vec<(String, Plain)> {
        self.trace.clone()
    }

    fn details(&self) -> Vec<(String, Plain)> {
        self.details.clone()
    }

    fn serial(&self) -> u64 {
        self.serial
    }

    fn at(&self) -> Nanos {
        self.at
    }
}
