//! Round robin.

use super::{Attempts, Picks, attempts};
use crate::core::error::ConfigError;
use crate::core::pickers;
use crate::core::pickers::Start;
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::endpoint::{Endpoint, is_whole};
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

picker_class!(
    RoundRobin,
    pickers::RoundRobin,
    "Weighted round robin.",
    |py, policy, kw| {
        kw.set_item("schedule", "smooth")?;
        match policy.start {
            Start::After(n) => kw.set_item("start", n)?,
            Start::Random => kw.set_item("start", PyString::new(py, "random"))?,
        }
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
            if schedule != "smooth" {
                return Err(ConfigError::new("schedule", format!("{schedule:?}"), "\"smooth\" in this version").into());
            }
            let start = match start.filter(|s| !s.is_none()) {
                None => Start::After(0),
                Some(s) if s.extract::<&str>().is_ok_and(|text| text == "random") => Start::Random,
                Some(s) => match s.extract::<u64>() {
                    Ok(n) if is_whole(s) => Start::After(n),
                    _ => {
                        let allowed = "a whole number of picks to start after, not negative, or \"random\"";
                        return Err(ConfigError::new("start", shown(s), allowed).into());
                    }
                },
            };
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(RoundRobin { door: Door::new(endpoints.py(), pool, pickers::RoundRobin { start }) })
        }
    }
);

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<RoundRobin>(m)
}
