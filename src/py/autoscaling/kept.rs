//! A memory that the core keeps as a plain value, and the dictionary that Python sees: numbers, text, lists, None.

use super::read::{real, refuse};
use crate::core::autoscaling::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

/// A memory has three levels; a damaged one may have any number.
const DEEPEST: usize = 8;

/// An instant in seconds, to the microsecond: a float of today's seconds holds no more, and edges that are exact in a
/// system's own clock stay exact.
pub(crate) fn instant(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    let Nanos(n) = super::instant(field, value)?;
    Ok(Nanos(n.saturating_add(500) / 1000 * 1000))
}

/// As a Python value. Lists, not tuples, so that JSON gives back what it was given.
pub(crate) fn to<'py>(py: Python<'py>, value: &Plain) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Plain::List(items) => {
            let items: Vec<_> = items.iter().map(|i| to(py, i)).collect::<PyResult<_>>()?;
            PyList::new(py, items)?.into_any()
        }
        Plain::Map(items) => {
            let out = PyDict::new(py);
            for (name, item) in items {
                out.set_item(name, to(py, item)?)?;
            }
            out.into_any()
        }
        other => super::plain::to(py, other)?,
    })
}

/// Back from a Python value.
pub(crate) fn from(at: &str, value: &Bound<'_, PyAny>) -> PyResult<Plain> {
    read(at, value, 0)
}

fn read(at: &str, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Plain> {
    if depth > DEEPEST {
        return Err(ConfigError::new(at, "what nests deeper", "a dictionary, as state() gives").into());
    }
    if value.is_none() {
        return Ok(Plain::Nothing);
    }
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(Plain::Flag(b.is_true()));
    }
    if let Ok(t) = value.cast::<PyString>() {
        let text = t.to_str().map_err(|_| refuse(at, value, "text that is valid Unicode"))?;
        return Ok(Plain::Text(text.to_owned()));
    }
    if let Ok(items) = value.cast::<PyList>() {
        return Ok(Plain::List(items.iter().map(|i| read(at, &i, depth + 1)).collect::<PyResult<_>>()?));
    }
    if let Ok(items) = value.cast::<PyTuple>() {
        return Ok(Plain::List(items.iter().map(|i| read(at, &i, depth + 1)).collect::<PyResult<_>>()?));
    }
    if let Ok(items) = value.cast::<PyDict>() {
        let mut out = Vec::with_capacity(items.len());
        for (k, v) in items.iter() {
            let Ok(name) = k.cast::<PyString>() else { return Err(refuse(at, &k, "names that are text")) };
            let name = name.to_str().map_err(|_| refuse(at, &k, "text that is valid Unicode"))?.to_owned();
            let item = read(&format!("{at}.{name}"), &v, depth + 1)?;
            out.push((name, item));
        }
        return Ok(Plain::Map(out));
    }
    let wrong = || refuse(at, value, "what state() gives");
    if value.is_instance_of::<PyInt>() {
        return value.extract().map(Plain::Whole).map_err(|_| wrong());
    }
    real(value).map(Plain::Real).ok_or_else(wrong)
}
