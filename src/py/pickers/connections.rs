//! Pickers by connections: fewest, and first that has a place.

use super::{Attempts, Picks, attempts, choice, name_of};
use crate::core::pickers;
use crate::core::pickers::least_connections::Variant;
use crate::py::arguments;
use crate::py::endpoint::Endpoint;
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

const VARIANTS: [(&str, Variant); 2] = [("nginx", Variant::Nginx), ("haproxy", Variant::Haproxy)];

picker_class!(
    LeastConnections,
    pickers::LeastConnections,
    "Fewest requests in flight for its weight, by nginx's or HAProxy's rule.",
    |py, policy, kw| {
        kw.set_item("variant", name_of(policy.variant, &VARIANTS))?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, variant="nginx", seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::variant)] variant: &str,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let policy = pickers::LeastConnections { variant: choice("variant", variant, &VARIANTS)? };
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(LeastConnections { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(First, pickers::First, "The first endpoint that has a free place.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(First { door: Door::new(endpoints.py(), pool, pickers::First) })
    }
});

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<LeastConnections>(m)?;
    super::add::<First>(m)
}
