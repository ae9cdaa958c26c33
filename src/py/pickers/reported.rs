//! Pickers that go by what endpoints report: answer times, probes, rates.

use super::{Attempts, Picks, attempts};
use crate::core::pickers;
use crate::py::Counting;
use crate::py::arguments;
use crate::py::clock::seconds;
use crate::py::endpoint::Endpoint;
use crate::py::fastcall::{Door, PickerClass};
use crate::py::pool::Pool;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

picker_class!(LeastTime, pickers::LeastTime, "The least answer time and fewest requests.", |py, _policy, kw| {}, {
    #[new]
    #[pyo3(signature = (endpoints, /, *, seed=None, clock=None))]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        Ok(LeastTime { door: Door::new(endpoints.py(), pool, pickers::LeastTime) })
    }
});

picker_class!(
    Prequal,
    pickers::Prequal,
    "By probes: the fastest that is not busy, else the least busy.",
    |py, policy, kw| {
        kw.set_item("pool_size", policy.pool_size)?;
        kw.set_item("probe_rate", policy.probe_rate)?;
        kw.set_item("remove_rate", policy.remove_rate)?;
        kw.set_item("q_rif", policy.quantile)?;
        kw.set_item("delta", policy.growth)?;
        kw.set_item("max_age", policy.max_age.as_secs_f64())?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, pool_size=16, probe_rate=3.0, remove_rate=1.0, q_rif=0.84, delta=1.0, max_age=1.0, seed=None, clock=None))]
        #[allow(clippy::too_many_arguments)]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::pool_size)] pool_size: i64,
            #[pyo3(from_py_with = arguments::probe_rate)] probe_rate: f64,
            #[pyo3(from_py_with = arguments::remove_rate)] remove_rate: f64,
            #[pyo3(from_py_with = arguments::q_rif)] q_rif: f64,
            #[pyo3(from_py_with = arguments::delta)] delta: f64,
            #[pyo3(from_py_with = arguments::max_age)] max_age: f64,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let policy = pickers::Prequal {
                pool_size: u32::try_from(pool_size).unwrap_or(0),
                probe_rate,
                remove_rate,
                quantile: q_rif,
                growth: delta,
                max_age: seconds("max_age", max_age)?,
                ..pickers::Prequal::default()
            };
            let policy = policy.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(Prequal { door: Door::new(endpoints.py(), pool, policy) })
        }

        fn probe_targets(&self, py: Python<'_>) -> Vec<Py<Endpoint>> {
            let snapshot = self.door.pool.get().core.snapshot();
            let targets = crate::py::fastcall::on_picker!(self.door, picker => {
                picker.policy().targets::<Counting>(&snapshot.view, picker.draws())
            });
            let payload = |choice: &pickers::Choice| snapshot.payload.get(choice.index as usize);
            targets.iter().filter_map(payload).map(|p| p.clone_ref(py)).collect()
        }
    }
);

picker_class!(
    ClientSideWeightedRoundRobin,
    pickers::ClientSideWeightedRoundRobin,
    "Turns by weights that follow from reports.",
    |py, policy, kw| {
        kw.set_item("blackout_period", policy.blackout.as_secs_f64())?;
        kw.set_item("weight_expiration_period", policy.expiration.as_secs_f64())?;
        kw.set_item("weight_update_period", policy.update_period.as_secs_f64())?;
        kw.set_item("error_utilization_penalty", policy.error_penalty)?;
    },
    {
        #[new]
        #[pyo3(signature = (endpoints, /, *, blackout_period=10.0, weight_expiration_period=180.0, weight_update_period=1.0, error_utilization_penalty=1.0, seed=None, clock=None))]
        fn new(
            endpoints: &Bound<'_, PyAny>,
            #[pyo3(from_py_with = arguments::blackout_period)] blackout_period: f64,
            #[pyo3(from_py_with = arguments::weight_expiration_period)] weight_expiration_period: f64,
            #[pyo3(from_py_with = arguments::weight_update_period)] weight_update_period: f64,
            #[pyo3(from_py_with = arguments::error_utilization_penalty)] error_utilization_penalty: f64,
            #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
            clock: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Self> {
            let policy = pickers::ClientSideWeightedRoundRobin {
                blackout: seconds("blackout_period", blackout_period)?,
                expiration: seconds("weight_expiration_period", weight_expiration_period)?,
                update_period: seconds("weight_update_period", weight_update_period)?,
                error_penalty: error_utilization_penalty,
            };
            let policy = policy.check()?;
            let pool = Pool::from_argument(endpoints, seed, clock)?;
            Ok(ClientSideWeightedRoundRobin { door: Door::new(endpoints.py(), pool, policy) })
        }
    }
);

/// Adds the classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    super::add::<LeastTime>(m)?;
    super::add::<Prequal>(m)?;
    super::add::<ClientSideWeightedRoundRobin>(m)
}
