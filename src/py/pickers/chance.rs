//! Pickers that draw, and look at next to nothing.

use super::{Attempts, Picks, attempts, positive};
use crate::core::error::ConfigError;
use crate::core::pickers;
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::endpoint::Endpoint;
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

picker_class!(
    WeightedRandom,
    pickers::WeightedRandom,
    "Any endpoint, by weight.",
    |py, policy, kw| {
        if let Some(ring) = policy.ring {
            kw.set_item("ring", "haproxy")?;
            kw.set_item("choices", ring.choices)?;
        }
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, ring=None, choices=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::own_ring)] ring: Option<&str>,
            choices: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let ring = match (ring, choices) {
                (None, None) => None,
                (None, Some(choices)) => {
                    let allowed = "None without ring=\"haproxy\": LeastRequest draws several and compares their load";
                    return Err(ConfigError::new("choices", shown(choices), allowed).into());
                }
                (Some("haproxy"), choices) => {
                    let choices = choices.map_or(Ok(2), |v| positive("choices", v))?;
                    Some(pickers::RingDraws { choices: u32::try_from(choices).unwrap_or(u32::MAX) }.check()?)
                }
                (Some(other), _) => {
                    let allowed = "\"haproxy\", or None for chances by weight";
                    return Err(ConfigError::new("ring", format!("{other:?}"), allowed).into());
                }
            };
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(WeightedRandom { door: Door::new(endpoints.py(), pool, pickers::WeightedRandom { ring }) })
        }
    }
);

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
