//! Waiting and explaining, of which the work is done in Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Calls `module.function(picker, key, **given)`.
pub(crate) fn call<'py>(
    slf: &Bound<'py, PyAny>,
    module: &str,
    function: &str,
    key: Option<Bound<'py, PyAny>>,
    given: &[(&str, Option<Bound<'py, PyAny>>)],
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let kw = PyDict::new(py);
    for (name, value) in given {
        if let Some(value) = value {
            kw.set_item(name, value)?;
        }
    }
    py.import(module)?.getattr(function)?.call((slf, key), Some(&kw))
}
