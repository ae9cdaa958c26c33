//! Pickers that look at load and latency.

use super::round_robin::{start, start_keyword};
use super::{Attempts, Picks, attempts, choice, name_of};
use crate::core::error::ConfigError;
use crate::core::pickers;
use crate::core::pickers::least_request::Ties;
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::endpoint::Endpoint;
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

const TIES: [(&str, Ties); 6] = [
    ("random", Ties::Random),
    ("first", Ties::First),
    ("last", Ties::Last),
    ("rotate", Ties::Rotate),
    ("heaviest", Ties::Heaviest),
    ("last_drawn", Ties::LastDrawn),
];

const SCORES: [(&str, bool); 2] = [("after", true), ("before", false)];

picker_class!(
    LeastRequest,
    pickers::LeastRequest,
    "Least requests in flight.",
    |py, policy, kw| {
        kw.set_item("choices", policy.choices)?;
        kw.set_item("full_scan", policy.full_scan)?;
        kw.set_item("replace", policy.replace)?;
        kw.set_item("bias", policy.bias)?;
        kw.set_item("score", name_of(policy.after, &SCORES))?;
        kw.set_item("ties", name_of(policy.ties, &TIES))?;
        if let Some(start) = policy.edf {
            kw.set_item("schedule", "edf")?;
            start_keyword(&kw, py, start)?;
        }
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, choices=2, full_scan=false, replace=false, schedule=None, bias=1.0, score="after", ties="random", start=None, seed=None, clock=None))]
        #[allow(clippy::too_many_arguments)]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::choices)] choices: i64,
            full_scan: bool,
            replace: bool,
            schedule: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::bias)] bias: f64,
            #[pyo3(from_py_with = arguments::score)] score: &str,
            #[pyo3(from_py_with = arguments::ties)] ties: &str,
            start: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let edf = match schedule.filter(|s| !s.is_none()) {
                None if start.is_some_and(|s| !s.is_none()) => {
                    let allowed = "None, or a start together with schedule=\"edf\"";
                    return Err(ConfigError::new("start", start.map_or(String::new(), shown), allowed).into());
                }
                None => None,
                Some(s) if s.extract::<&str>().is_ok_and(|text| text == "edf") => Some(self::start(start)?),
                Some(s) => return Err(ConfigError::new("schedule", shown(s), "\"edf\" or None").into()),
            };
            let choices = u32::try_from(choices).unwrap_or(0);
            let (after, ties) = (choice("score", score, &SCORES)?, choice("ties", ties, &TIES)?);
            let policy = pickers::LeastRequest { choices, full_scan, replace, bias, after, ties, edf }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(LeastRequest { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(PeakEwma, pickers::PeakEwma, "Latency times requests in flight, best of two.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(PeakEwma { door: Door::new(endpoints.py(), pool, pickers::PeakEwma) })
    }
});

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<LeastRequest>(m)?;
    super::add::<PeakEwma>(m)
}
