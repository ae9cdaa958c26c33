//! What `__aenter__` and `__aexit__` give.

use pyo3::prelude::*;

/// An awaitable that is done already.
#[pyclass(frozen, module = "aibalance._core", name = "_Ready")]
pub(super) struct Ready {
    pub value: Py<PyAny>,
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        Err(pyo3::exceptions::PyStopIteration::new_err((self.value.clone_ref(py),)))
    }
}
