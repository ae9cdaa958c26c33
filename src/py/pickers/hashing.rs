//! Hashing pickers.

use super::{Attempts, Picks, attempts, choice, name_of, positive};
use crate::core::error::ConfigError;
use crate::core::pickers;
use crate::core::pickers::hashing::ring::{PointHash, RingSize};
use crate::py::arguments;
use crate::py::endpoint::{Endpoint, not_yet};
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

const POINT_HASHES: [(&str, PointHash); 2] = [("xxh64", PointHash::Xxh64), ("murmur2", PointHash::Murmur2)];

picker_class!(
    RingHash,
    pickers::RingHash,
    "Consistent hashing on a ring.",
    |py, policy, kw| {
        kw.set_item("ring", "envoy")?;
        match policy.size {
            RingSize::Points(points) => kw.set_item("points", points)?,
            RingSize::Bounds { min, max } => {
                kw.set_item("min_size", min)?;
                kw.set_item("max_size", max)?;
            }
        }
        kw.set_item("hash", name_of(policy.hash, &POINT_HASHES))?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, ring="envoy", points=None, min_size=None, max_size=None, hash="xxh64", avalanche=None, bounded_load=None, seed=None, clock=None))]
        #[allow(clippy::too_many_arguments)]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::ring)] ring: &str,
            points: Option<&Bound<'_, PyAny>>,
            min_size: Option<&Bound<'_, PyAny>>,
            max_size: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::hash)] hash: &str,
            avalanche: Option<&Bound<'_, PyAny>>,
            bounded_load: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            if ring != "envoy" {
                return Err(ConfigError::new("ring", format!("{ring:?}"), "\"envoy\" in this version").into());
            }
            not_yet("avalanche", avalanche, "None")?;
            not_yet("bounded_load", bounded_load, "None")?;
            let size = |field: &str, value: Option<&Bound<'_, PyAny>>| {
                value.filter(|v| !v.is_none()).map(|v| positive(field, v)).transpose()
            };
            let (points, min, max) =
                (size("points", points)?, size("min_size", min_size)?, size("max_size", max_size)?);
            let size = match (points, min, max) {
                (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                    let allowed = "None when min_size or max_size is given: they say how large the ring is";
                    return Err(ConfigError::new("points", points.unwrap_or(0), allowed).into());
                }
                (points, None, None) => RingSize::Points(points.unwrap_or(512)),
                // Envoy's own defaults for the bound that is not given.
                (None, min, max) => {
                    let max = max.unwrap_or(pickers::hashing::ring::MAX_RING);
                    RingSize::Bounds { min: min.unwrap_or(1024.min(max)), max }
                }
            };
            let policy = pickers::RingHash { size, hash: choice("hash", hash, &POINT_HASHES)? }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(RingHash { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

picker_class!(
    Maglev,
    pickers::Maglev,
    "Maglev hashing.",
    |py, policy, kw| {
        kw.set_item("table_size", policy.table_size)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, table_size=65537, bounded_load=None, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::table_size)] table_size: i64,
            bounded_load: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            not_yet("bounded_load", bounded_load, "None")?;
            let policy = pickers::Maglev { table_size: u64::try_from(table_size).unwrap_or(0) }.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(Maglev { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<RingHash>(m)?;
    super::add::<Maglev>(m)
}
