//! Keys: from Python values to 64 bits, never by Python's own hash.

use crate::core::error::ConfigError;
use crate::core::hash;
use crate::core::pickers::{Key, Policy};
use crate::py::door::shown;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

const ALLOWED: &str = "str, bytes, an int from -2**63 to 2**64-1, or Hashed";

/// A key as a policy sees it.
pub(crate) struct Prepared<'a> {
    hash: u64,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    /// Read where they lie.
    Lent(&'a [u8]),
    /// Those of a number.
    Number([u8; 8]),
}

impl<'a> Prepared<'a> {
    /// From any key.
    pub fn new<L: Policy>(policy: &L, key: &'a Bound<'_, PyAny>) -> PyResult<Prepared<'a>> {
        let refuse = || PyErr::from(ConfigError::new("key", shown(key), policy.keys()));
        let (hash, bytes) = if let Ok(text) = key.cast::<PyString>() {
            let text = text.to_str().map_err(|_| refuse())?;
            (policy.text_key(text), Bytes::Lent(text.as_bytes()))
        } else if let Ok(bytes) = key.cast::<PyBytes>() {
            (policy.bytes_key(bytes.as_bytes()), Bytes::Lent(bytes.as_bytes()))
        } else if let Ok(ready) = key.cast::<Hashed>() {
            (policy.ready_key(ready.get().0), Bytes::Number(ready.get().0.to_le_bytes()))
        } else {
            let number = whole(key).ok_or_else(refuse)?;
            (policy.whole_key(number), Bytes::Number(number.to_le_bytes()))
        };
        Ok(Prepared { hash: hash.ok_or_else(refuse)?, bytes })
    }

    /// From a hash that the caller has already: an int, or Hashed.
    pub fn ready<L: Policy>(policy: &L, key: &Bound<'_, PyAny>) -> PyResult<Prepared<'static>> {
        let number = ready(key)?;
        let refuse = || PyErr::from(ConfigError::new("key", shown(key), policy.keys()));
        let hash = policy.ready_key(number).ok_or_else(refuse)?;
        Ok(Prepared { hash, bytes: Bytes::Number(number.to_le_bytes()) })
    }

    /// The key.
    pub fn key(&self) -> Key<'_> {
        let bytes = match &self.bytes {
            Bytes::Lent(bytes) => bytes,
            Bytes::Number(bytes) => &bytes[..],
        };
        Key { hash: self.hash, bytes }
    }
}

/// A ready 64-bit hash.
#[pyclass(frozen, module = "aibalance", eq, ord, skip_from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hashed(pub u64);

#[pymethods]
impl Hashed {
    #[new]
    #[pyo3(signature = (value, /))]
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Hashed> {
        whole(value)
            .map(Hashed)
            .ok_or_else(|| ConfigError::new("value", shown(value), "a whole number from -2**63 to 2**64-1").into())
    }

    #[getter]
    fn value(&self) -> u64 {
        self.0
    }

    fn __int__(&self) -> u64 {
        self.0
    }

    fn __index__(&self) -> u64 {
        self.0
    }

    fn __hash__(&self) -> u64 {
        self.0
    }

    fn __repr__(&self) -> String {
        format!("Hashed({})", self.0)
    }

    fn __getnewargs__(&self) -> (u64,) {
        (self.0,)
    }
}

fn whole(value: &Bound<'_, PyAny>) -> Option<u64> {
    // Anything with __index__ is a whole number, numpy's integers too; a float has none.
    value.extract::<u64>().ok().or_else(|| value.extract::<i64>().ok().map(|v| v as u64))
}

/// The hash of a key.
pub(crate) fn hashed(key: &Bound<'_, PyAny>) -> PyResult<u64> {
    let refuse = || PyErr::from(ConfigError::new("key", shown(key), ALLOWED));
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(hash::xxh64(text.to_str().map_err(|_| refuse())?.as_bytes()));
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(hash::xxh64(bytes.as_bytes()));
    }
    if let Ok(ready) = key.cast::<Hashed>() {
        return Ok(ready.get().0);
    }
    whole(key).map(hash::of_u64).ok_or_else(refuse)
}

/// A key that is a hash already: an int, or Hashed.
pub(crate) fn ready(key: &Bound<'_, PyAny>) -> PyResult<u64> {
    match key.cast::<Hashed>() {
        Ok(ready) => Ok(ready.get().0),
        Err(_) => whole(key).ok_or_else(|| {
            ConfigError::new("key", shown(key), "an int from -2**63 to 2**64-1 or Hashed, when hashed=True").into()
        }),
    }
}

/// One hash from the values of several hash policies, as Envoy 1.40 combines them.
#[pyfunction]
#[pyo3(signature = (*values))]
pub(crate) fn envoy_hash(values: &Bound<'_, PyTuple>) -> PyResult<Hashed> {
    let mut out: Option<u64> = None;
    for value in values {
        let next = match value.cast::<PyList>() {
            Ok(list) => header(list)?,
            Err(_) => hashed(&value)?,
        };
        out = Some(out.map_or(next, |so_far| hash::envoy_combine(so_far, next)));
    }
    out.map(Hashed).ok_or_else(|| ConfigError::new("values", "()", "at least one value").into())
}

fn header(list: &Bound<'_, PyList>) -> PyResult<u64> {
    let items: Vec<Bound<'_, PyAny>> = list.iter().collect();
    if items.is_empty() {
        return Err(ConfigError::new("values", "[]", "a list of at least one str or bytes").into());
    }
    let mut values = Vec::with_capacity(items.len());
    for item in &items {
        values.push(if let Ok(text) = item.cast::<PyString>() {
            text.to_str().map_err(|_| PyErr::from(ConfigError::new("values", shown(item), "str or bytes")))?.as_bytes()
        } else if let Ok(bytes) = item.cast::<PyBytes>() {
            bytes.as_bytes()
        } else {
            return Err(ConfigError::new("values", shown(item), "str or bytes in a list").into());
        });
    }
    Ok(hash::envoy_header(&mut values))
}
