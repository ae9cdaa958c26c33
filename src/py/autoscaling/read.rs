//! Numbers out of Python objects, so that a wrong type is an error of our tree.

use crate::core::error::ConfigError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// A float, from anything that is a number and not a truth value.
pub(super) fn real(value: &Bound<'_, PyAny>) -> Option<f64> {
    if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() }
}

/// A whole number, from anything that is one and not a truth value.
pub(super) fn whole(value: &Bound<'_, PyAny>) -> Option<i64> {
    if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() }
}

/// How a value looks in a message. A huge integer or a broken object has no text.
pub(super) fn shown(value: &Bound<'_, PyAny>) -> String {
    match value.repr() {
        Ok(text) => {
            let text = text.to_string_lossy();
            if text.chars().count() > 80 { text.chars().take(77).chain("...".chars()).collect() } else { text.into() }
        }
        Err(_) => match value.get_type().name() {
            Ok(name) => format!("a {name} too large to show"),
            Err(_) => "an object that cannot be shown".to_owned(),
        },
    }
}

/// The error about a configuration's field.
pub(super) fn refuse(field: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    ConfigError::new(field, shown(value), allowed).into()
}
