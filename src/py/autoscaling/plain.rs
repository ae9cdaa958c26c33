//! Plain values between the core and Python.

use super::read::{real, refuse};
use crate::core::autoscaling::told::Plain;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple};

/// As a Python value: lists are tuples, maps dictionaries.
pub(super) fn to<'py>(py: Python<'py>, value: &Plain) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Plain::Nothing => py.None().into_bound(py),
        Plain::Flag(b) => PyBool::new(py, *b).to_owned().into_any(),
        Plain::Whole(n) => n.into_pyobject(py)?.into_any(),
        Plain::Real(x) => x.into_pyobject(py)?.into_any(),
        Plain::Text(t) => PyString::new(py, t).into_any(),
        Plain::List(items) => {
            let items: Vec<_> = items.iter().map(|i| to(py, i)).collect::<PyResult<_>>()?;
            PyTuple::new(py, items)?.into_any()
        }
        Plain::Map(items) => to_dict(py, items)?.into_any(),
    })
}

/// Named values as a dictionary.
pub(super) fn to_dict<'py>(py: Python<'py>, items: &[(String, Plain)]) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for (name, value) in items {
        out.set_item(name, to(py, value)?)?;
    }
    Ok(out)
}

fn from(value: &Bound<'_, PyAny>) -> PyResult<Plain> {
    if value.is_none() {
        return Ok(Plain::Nothing);
    }
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(Plain::Flag(b.is_true()));
    }
    if let Ok(t) = value.cast::<PyString>() {
        return Ok(Plain::Text(t.to_str()?.to_owned()));
    }
    if let Ok(items) = value.cast::<PyTuple>() {
        return Ok(Plain::List(items.iter().map(|i| from(&i)).collect::<PyResult<_>>()?));
    }
    if let Ok(items) = value.cast::<PyDict>() {
        return Ok(Plain::Map(from_dict(items)?));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(Plain::Whole(value.extract()?));
    }
    real(value).map(Plain::Real).ok_or_else(|| refuse("value", value, "what a pickled Recommendation holds"))
}

/// Back from a dictionary.
pub(super) fn from_dict(items: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Plain)>> {
    items.iter().map(|(k, v)| Ok((k.extract()?, from(&v)?))).collect()
}
