//! Pickers that draw, and look at next to nothing.

use super::{Attempts, Picks, attempts};
use crate::core::pickers;
use crate::py::arguments;
use crate::py::endpoint::{Endpoint, not_yet};
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

picker_class!(WeightedRandom, pickers::WeightedRandom, "Any endpoint, by weight.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, ring=None, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        ring: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        not_yet("ring", ring, "None")?;
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(WeightedRandom { door: Door::new(endpoints.py(), pool, pickers::WeightedRandom) })
    }
});

picker_class!(JoinIdleQueue, pickers::JoinIdleQueue, "An idle endpoint, else power of two.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(JoinIdleQueue { door: Door::new(endpoints.py(), pool, pickers::JoinIdleQueue::default()) })
    }
});

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<WeightedRandom>(m)?;
    super::add::<JoinIdleQueue>(m)
}
