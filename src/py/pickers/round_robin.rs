//! Round robin.

use super::{Attempts, Picks, attempts, choice, name_of};
use crate::core::error::ConfigError;
use crate::core::pickers;
use crate::core::pickers::{Schedule, Start};
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::endpoint::{Endpoint, is_whole};
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

const SCHEDULES: [(&str, Schedule); 7] = [
    ("smooth", Schedule::Smooth),
    ("edf", Schedule::Edf),
    ("heap", Schedule::Heap),
    ("stride", Schedule::Stride),
    ("fwrr", Schedule::Fwrr),
    ("static-rr", Schedule::StaticRr),
    ("caddy", Schedule::Caddy),
];

/// Where a rotation starts, from an argument.
pub(super) fn start(value: Option<&Bound<'_, PyAny>>) -> PyResult<Start> {
    match value.filter(|s| !s.is_none()) {
        None => Ok(Start::After(0)),
        Some(s) if s.extract::<&str>().is_ok_and(|text| text == "random") => Ok(Start::Random),
        Some(s) => match s.extract::<u64>() {
            Ok(n) if is_whole(s) => Ok(Start::After(n)),
            _ => {
                let allowed = "a whole number of picks to start after, not negative, or \"random\"";
                Err(ConfigError::new("start", shown(s), allowed).into())
            }
        },
    }
}

/// The keyword that gives this start.
pub(super) fn start_keyword(kw: &Bound<'_, PyDict>, py: Python<'_>, start: Start) -> PyResult<()> {
    match start {
        Start::After(n) => kw.set_item("start", n),
        Start::Random => kw.set_item("start", PyString::new(py, "random")),
    }
}

picker_class!(
    RoundRobin,
    pickers::RoundRobin,
    "Weighted round robin.",
    |py, policy, kw| {
        kw.set_item("schedule", name_of(policy.schedule, &SCHEDULES))?;
        start_keyword(&kw, py, policy.start)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, schedule="smooth", start=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::schedule)] schedule: &str,
            start: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let schedule = choice("schedule", schedule, &SCHEDULES)?;
            let policy = pickers::RoundRobin { schedule, start: self::start(start)? }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(RoundRobin { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<RoundRobin>(m)
}
