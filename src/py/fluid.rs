//! The binding of the fluid loop.

use super::autoscaling::{HpaEngine, ProportionalEngine, ScalingEngine};
use super::errors;
use crate::core::simulation::{Fluid, FluidConfig, FluidPolicy, FluidTimeline, FluidView, SimulationError};
use crate::core::time::Nanos;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A policy that Python calls: its `recommend`, and the first exception that it raised.
struct Called<'py> {
    recommend: Bound<'py, PyAny>,
    raised: Option<PyErr>,
}

impl Called<'_> {
    fn ask(&self, now: Nanos, view: &FluidView) -> PyResult<Option<i64>> {
        let py = self.recommend.py();
        let metrics = PyDict::new(py);
        for (name, value) in view.metrics() {
            metrics.set_item(name, value)?;
        }
        let observation = PyDict::new(py);
        observation.set_item(intern!(py, "current"), view.ready)?;
        observation.set_item(intern!(py, "desired"), view.desired)?;
        observation.set_item(intern!(py, "warming"), view.starting)?;
        observation.set_item(intern!(py, "metrics"), metrics)?;
        let named = PyDict::new(py);
        named.set_item(intern!(py, "now"), now.0 as f64 / 1e9)?;
        let answer = self.recommend.call((observation,), Some(&named))?.getattr(intern!(py, "desired"))?;
        if answer.is_none() {
            return Ok(None);
        }
        answer.extract().map(Some).map_err(|_| {
            let text = answer.repr().map_or_else(|_| "what has no text".to_owned(), |r| r.to_string());
            errors::SimulationError::new_err(format!(
                "the policy recommended {text}; expected a whole number of servers"
            ))
        })
    }
}

impl FluidPolicy for Called<'_> {
    fn decide(&mut self, now: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError> {
        self.ask(now, view).map_err(|error| {
            let text = error.to_string();
            self.raised = Some(error);
            SimulationError::Scaler(text)
        })
    }
}

/// One run: plain values in, arrays out. `policy` is one of our engines, which run without Python, or a callable as
/// `recommend(observation, now=seconds)`.
#[pyfunction]
#[pyo3(signature = (rates, policy, *, tick_s, capacity, boot_s, period, lag, initial, min, max))]
#[allow(clippy::too_many_arguments)]
fn _simulate_fluid<'py>(
    py: Python<'py>,
    rates: PyReadonlyArray1<'py, f64>,
    policy: &Bound<'py, PyAny>,
    tick_s: f64,
    capacity: f64,
    boot_s: f64,
    period: u64,
    lag: u64,
    initial: i64,
    min: i64,
    max: i64,
) -> PyResult<Bound<'py, PyDict>> {
    let rates: Vec<f64> = rates.as_array().iter().copied().collect();
    let mut fluid = Fluid::new(FluidConfig { tick_s, capacity, boot_s, period, lag, initial, min, max })?;
    if let Ok(engine) = policy.cast::<ScalingEngine>() {
        let mut policy = engine.get().fresh();
        py.detach(|| fluid.run(&rates, &mut policy))?;
    } else if let Ok(engine) = policy.cast::<ProportionalEngine>() {
        let mut policy = engine.get().fresh();
        py.detach(|| fluid.run(&rates, &mut policy))?;
    } else if let Ok(engine) = policy.cast::<HpaEngine>() {
        let mut policy = engine.get().fresh();
        py.detach(|| fluid.run(&rates, &mut policy))?;
    } else {
        let mut called = Called { recommend: policy.clone(), raised: None };
        // In slices, so that an interrupt is heard.
        for slice in rates.chunks(4096) {
            let done = fluid.run(slice, &mut called);
            done.map_err(|e| called.raised.take().unwrap_or_else(|| e.into()))?;
            py.check_signals()?;
        }
    }
    let FluidTimeline { desired, ready, starting, backlog, utilization, changes } = fluid.finish();
    let out = PyDict::new(py);
    for (name, column) in [("desired", desired), ("ready", ready), ("starting", starting)] {
        out.set_item(name, PyArray1::from_vec(py, column))?;
    }
    out.set_item("backlog", PyArray1::from_vec(py, backlog))?;
    out.set_item("utilization", PyArray1::from_vec(py, utilization))?;
    out.set_item("changes", changes)?;
    Ok(out)
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_simulate_fluid, m)?)
}
