//! The token bucket, as Python sees it.

use super::clock::Clock;
use super::door::instant;
use crate::core::error::ConfigError;
use crate::core::pool;
use crate::core::sync::Mutex;
use crate::core::time::Nanos;
use crate::py::door::shown;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A token bucket, which is the generic cell rate algorithm.
#[pyclass(frozen, module = "aibalance", name = "TokenBucket")]
pub(crate) struct TokenBucket {
    core: Mutex<pool::TokenBucket>,
    clock: Clock,
    rate: f64,
    burst: f64,
    given: Option<Py<PyAny>>,
}

fn number(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|_| ConfigError::new(field, shown(value), "a number").into())
}

impl TokenBucket {
    fn at(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<Nanos> {
        now.map_or_else(|| Ok(self.clock.now()), |now| instant(now, "now"))
    }
}

#[pymethods]
impl TokenBucket {
    #[new]
    #[pyo3(signature = (rate, burst, *, clock=None))]
    fn new(
        rate: &Bound<'_, PyAny>,
        burst: &Bound<'_, PyAny>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<TokenBucket> {
        let (rate, burst) = (number("rate", rate)?, number("burst", burst)?);
        let core = Mutex::new(pool::TokenBucket::new(rate, burst)?);
        let given = clock.map(|c| c.clone().unbind());
        Ok(TokenBucket { core, clock: Clock::from_argument(clock)?, rate, burst, given })
    }

    #[pyo3(signature = (tokens=1.0, /, *, now=None))]
    fn take(&self, tokens: f64, now: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let now = self.at(now)?;
        Ok(self.core.lock().take(tokens, now)?)
    }

    #[pyo3(signature = (*, now=None))]
    fn tokens(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<f64> {
        let now = self.at(now)?;
        Ok(self.core.lock().tokens(now))
    }

    #[pyo3(signature = (tokens=1.0, /, *, now=None))]
    fn wait(&self, tokens: f64, now: Option<&Bound<'_, PyAny>>) -> PyResult<f64> {
        let now = self.at(now)?;
        Ok(self.core.lock().wait(tokens, now)?.map_or(f64::INFINITY, |n| n.0 as f64 / 1e9))
    }

    #[getter]
    fn rate(&self) -> f64 {
        self.rate
    }

    #[getter]
    fn burst(&self) -> f64 {
        self.burst
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shown = |x: f64| x.into_pyobject(py).map(|v| v.to_string());
        Ok(format!("TokenBucket({}, {})", shown(self.rate)?, shown(self.burst)?))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((f64, f64), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("clock", self.given.as_ref().map(|c| c.clone_ref(py)))?;
        Ok(((self.rate, self.burst), kw))
    }

    fn __getstate__(&self) -> (u128, u64) {
        let (units, at) = self.core.lock().memory();
        (units, at.0)
    }

    fn __setstate__(&self, state: (u128, u64)) {
        self.core.lock().remember(state.0, Nanos(state.1));
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TokenBucket>()
}
