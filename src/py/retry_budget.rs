//! RetryBudget, as Python sees it.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use crate::py::arguments;
use crate::py::clock::{Clock, seconds};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An instant that was given, or the system's.
fn at(now: Option<f64>) -> PyResult<Nanos> {
    Ok(match now {
        Some(now) => seconds("now", now)?,
        None => Clock::System.now(),
    })
}

/// A retry budget.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct RetryBudget {
    core: crate::core::pool::RetryBudget,
    #[pyo3(get)]
    ratio: f64,
    #[pyo3(get)]
    min_per_second: f64,
    #[pyo3(get)]
    max_attempts: u32,
}

#[pymethods]
impl RetryBudget {
    #[new]
    #[pyo3(signature = (*, ratio=0.2, min_per_second=10.0, max_attempts=3))]
    fn new(
        #[pyo3(from_py_with = arguments::ratio)] ratio: f64,
        #[pyo3(from_py_with = arguments::min_per_second)] min_per_second: f64,
        #[pyo3(from_py_with = arguments::max_attempts)] max_attempts: i64,
    ) -> PyResult<RetryBudget> {
        if !(1..=1_000_000).contains(&max_attempts) {
            return Err(ConfigError::new("max_attempts", max_attempts, "a whole number from 1 to 1000000").into());
        }
        let core = crate::core::pool::RetryBudget::new(ratio, min_per_second)?;
        Ok(RetryBudget { core, ratio, min_per_second, max_attempts: max_attempts as u32 })
    }

    #[pyo3(signature = (*, now=None))]
    fn deposit(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<()> {
        self.earn(at(now)?);
        Ok(())
    }

    #[pyo3(signature = (*, now=None))]
    fn withdraw(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<bool> {
        Ok(self.spend(at(now)?))
    }

    #[pyo3(signature = (*, now=None))]
    fn balance(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<f64> {
        Ok(self.core.balance(at(now)?))
    }

    fn __repr__(&self) -> String {
        format!(
            "RetryBudget(ratio={}, min_per_second={}, max_attempts={})",
            self.ratio, self.min_per_second, self.max_attempts
        )
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("ratio", self.ratio)?;
        kw.set_item("min_per_second", self.min_per_second)?;
        kw.set_item("max_attempts", self.max_attempts)?;
        Ok(((), kw))
    }
}

impl RetryBudget {
    /// A first attempt.
    pub fn earn(&self, now: Nanos) {
        self.core.deposit(now);
    }

    /// A retry.
    pub fn spend(&self, now: Nanos) -> bool {
        self.core.withdraw(now)
    }

    /// The most attempts of one request.
    pub fn attempts(&self) -> u32 {
        self.max_attempts
    }
}
