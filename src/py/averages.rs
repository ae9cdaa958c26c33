//! What `aibalance.health` shows of the core.

use super::arguments;
use super::door::instant;
use crate::core::health;
use crate::core::time::Nanos;
use crate::py::clock::seconds;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::PoisonError;

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// The moving average of a series.
#[pyclass(frozen, module = "aibalance.health")]
pub(crate) struct Ewma(Lock<health::Ewma>);

#[pymethods]
impl Ewma {
    #[new]
    #[pyo3(signature = (*, alpha))]
    fn new(#[pyo3(from_py_with = arguments::alpha)] alpha: f64) -> PyResult<Ewma> {
        Ok(Ewma(Lock::new(health::Ewma::new(alpha)?)))
    }

    #[pyo3(signature = (value, /))]
    fn update(&self, #[pyo3(from_py_with = arguments::value)] value: f64) -> PyResult<f64> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).update(value)?)
    }

    #[getter]
    fn value(&self) -> Option<f64> {
        self.core().value()
    }

    #[getter]
    fn alpha(&self) -> f64 {
        self.core().alpha()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let core = self.core();
        let alpha = core.alpha().into_pyobject(py)?.repr()?.to_string();
        Ok(format!("<Ewma alpha={alpha}: {}>", shown(py, core.value())?))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("alpha", self.core().alpha())?;
        Ok(((), kw))
    }

    fn __getstate__(&self) -> (Option<f64>,) {
        (self.core().value(),)
    }

    fn __setstate__(&self, state: (Option<f64>,)) -> PyResult<()> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).restore(state.0)?)
    }
}

impl Ewma {
    fn core(&self) -> health::Ewma {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moving average of samples at any instants.
#[pyclass(frozen, module = "aibalance.health")]
pub(crate) struct TimeWeightedEwma(Lock<health::TimeWeightedEwma>);

#[pymethods]
impl TimeWeightedEwma {
    #[new]
    #[pyo3(signature = (*, tau))]
    fn new(#[pyo3(from_py_with = arguments::tau)] tau: f64) -> PyResult<TimeWeightedEwma> {
        Ok(TimeWeightedEwma(Lock::new(health::TimeWeightedEwma::new(tau)?)))
    }

    #[pyo3(signature = (value, /, *, now))]
    fn update(&self, #[pyo3(from_py_with = arguments::value)] value: f64, now: &Bound<'_, PyAny>) -> PyResult<f64> {
        let now = instant(now, "now")?;
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).update(value, now)?)
    }

    #[getter]
    fn value(&self) -> Option<f64> {
        self.core().value()
    }

    #[getter]
    fn tau(&self) -> f64 {
        self.core().tau()
    }

    #[getter]
    fn half_life(&self) -> f64 {
        self.core().half_life()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let core = self.core();
        let tau = core.tau().into_pyobject(py)?.repr()?.to_string();
        Ok(format!("<TimeWeightedEwma tau={tau}: {}>", shown(py, core.value())?))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("tau", self.core().tau())?;
        Ok(((), kw))
    }

    fn __getstate__(&self) -> (Option<(f64, u64)>,) {
        (self.core().last().map(|(value, at)| (value, at.0)),)
    }

    fn __setstate__(&self, state: (Option<(f64, u64)>,)) -> PyResult<()> {
        let last = state.0.map(|(value, at)| (value, Nanos(at)));
        if let Some((_, at)) = last {
            seconds("state", at.as_secs_f64())?;
        }
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).restore(last)?)
    }
}

impl TimeWeightedEwma {
    fn core(&self) -> health::TimeWeightedEwma {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(py: Python<'_>, value: Option<f64>) -> PyResult<String> {
    match value {
        None => Ok("nothing yet".into()),
        Some(value) => Ok(value.into_pyobject(py)?.repr()?.to_string()),
    }
}

/// Adds the classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Ewma>()?;
    m.add_class::<TimeWeightedEwma>()
}
