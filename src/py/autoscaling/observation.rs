//! Observations: the class, and the plain mapping that may stand for it.

use super::read::{real, shown, whole};
use crate::core::autoscaling::{MAX_CAPACITY, Observation, metric_error};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};

/// What a policy gets to see.
///
/// `current`: capacity in service, terminating instances included, warming ones not.
/// `desired`: what the group was last asked to be; None is `current + warming`.
/// `status`: the replicas that a controller last reported, for policies that tell them from `current`.
/// `warming`: capacity that was started and does not count in the metrics yet.
/// `metrics`: values by name; None is a missing value, a name left out leaves it to what was recorded.
/// `pods`: one record an instance, for policies that look at each.
/// The AWS policies read neither `status` nor `pods`. Counts are whole numbers from 0 to 2^31 - 1.
/// Raises MetricError for anything else. A plain mapping with these keys does as well wherever this is taken.
///
/// >>> from aibalance.autoscaling import Observation
/// >>> Observation(10, warming=2, metrics={"cpu": 71.5}).metrics["cpu"]
/// 71.5
#[pyclass(frozen, module = "aibalance.autoscaling", name = "Observation")]
pub(crate) struct PyObservation {
    current: i64,
    desired: Option<i64>,
    status: Option<i64>,
    warming: i64,
    metrics: Vec<(String, Option<f64>)>,
    pods: Option<Py<PyAny>>,
}

fn refuse(name: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    metric_error(name, shown(value), allowed).into()
}

fn count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    match whole(value) {
        Some(n) if (0..=MAX_CAPACITY).contains(&n) => Ok(n),
        _ => Err(refuse(name, value, &format!("a whole number from 0 to {MAX_CAPACITY} is allowed"))),
    }
}

fn optional_count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if value.is_none() { Ok(None) } else { count(name, value).map(Some) }
}

/// The value of a metric; None is missing.
pub(super) fn metric_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() {
        return Ok(None);
    }
    real(value)
        .map(Some)
        .ok_or_else(|| refuse(name, value, "a finite number up to 2^360 is allowed, and None for a missing value"))
}

/// The items of a mapping, dictionaries first.
fn each<'py>(
    field: &str,
    value: &Bound<'py, PyAny>,
    mut take: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(dict) = value.cast::<PyDict>() {
        for (k, v) in dict.iter() {
            take(&k, &v)?;
        }
        return Ok(());
    }
    let Ok(mapping) = value.cast::<PyMapping>() else {
        return Err(refuse(field, value, "a mapping is needed"));
    };
    for item in mapping.items()?.iter() {
        let (k, v): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
        take(&k, &v)?;
    }
    Ok(())
}

type Metrics<'py> = Vec<(Bound<'py, PyString>, Option<f64>)>;

fn metrics<'py>(value: &Bound<'py, PyAny>) -> PyResult<Metrics<'py>> {
    let mut found = Vec::new();
    each("metrics", value, |k, v| {
        let Ok(name) = k.cast::<PyString>() else { return Err(refuse("metrics", k, "names of metrics are text")) };
        let text = name.to_str().map_err(|_| refuse("metrics", k, "names of metrics are valid Unicode"))?;
        let value = metric_value(text, v)?;
        found.push((name.clone(), value));
        Ok(())
    })?;
    Ok(found)
}

/// Calls `f` with what `value` says, an Observation or a mapping.
pub(super) fn with_observation<T>(value: &Bound<'_, PyAny>, f: impl FnOnce(&Observation<'_>) -> T) -> PyResult<T> {
    if let Ok(seen) = value.cast::<PyObservation>() {
        let seen = seen.get();
        let metrics: Vec<(&str, Option<f64>)> = seen.metrics.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let (current, desired, warming) = (seen.current, seen.desired, seen.warming);
        return Ok(f(&Observation { current, desired, warming, metrics: &metrics }));
    }
    let (mut current, mut desired, mut warming, mut named) = (None, None, 0, Vec::new());
    each("observation", value, |k, v| {
        match k.cast::<PyString>().ok().and_then(|s| s.to_str().ok()) {
            Some("current") => current = Some(count("current", v)?),
            Some("desired") => desired = optional_count("desired", v)?,
            Some("status") => drop(optional_count("status", v)?),
            Some("warming") => warming = count("warming", v)?,
            Some("metrics") => named = metrics(v)?,
            Some("pods") => {}
            _ => {
                let allowed = "the keys are current, desired, status, warming, metrics and pods";
                return Err(refuse("observation", k, allowed));
            }
        }
        Ok(())
    })?;
    let Some(current) = current else { return Err(refuse("observation", value, "the key current is needed")) };
    let mut borrowed: Vec<(&str, Option<f64>)> = Vec::with_capacity(named.len());
    for (name, v) in &named {
        borrowed.push((name.to_str()?, *v));
    }
    Ok(f(&Observation { current, desired, warming, metrics: &borrowed }))
}

#[pymethods]
impl PyObservation {
    #[new]
    #[pyo3(signature = (current, *, desired=None, status=None, warming=None, metrics=None, pods=None),
           text_signature = "(current, *, desired=None, status=None, warming=0, metrics={}, pods=None)")]
    fn new(
        current: &Bound<'_, PyAny>,
        desired: Option<&Bound<'_, PyAny>>,
        status: Option<&Bound<'_, PyAny>>,
        warming: Option<&Bound<'_, PyAny>>,
        metrics: Option<&Bound<'_, PyAny>>,
        pods: Option<Py<PyAny>>,
    ) -> PyResult<PyObservation> {
        let mut named = Vec::new();
        for (name, value) in metrics.map_or_else(|| Ok(Vec::new()), self::metrics)? {
            named.push((name.to_str()?.to_owned(), value));
        }
        Ok(PyObservation {
            current: count("current", current)?,
            desired: desired.map(|v| count("desired", v)).transpose()?,
            status: status.map(|v| count("status", v)).transpose()?,
            warming: warming.map_or(Ok(0), |v| count("warming", v))?,
            metrics: named,
            pods,
        })
    }

    /// Capacity in service, terminating instances included, warming ones not.
    #[getter]
    fn current(&self) -> i64 {
        self.current
    }

    /// What the group was last asked to be; None is `current + warming`.
    #[getter]
    fn desired(&self) -> Option<i64> {
        self.desired
    }

    /// The replicas that a controller last reported.
    #[getter]
    fn status(&self) -> Option<i64> {
        self.status
    }

    /// Capacity that was started and does not count in the metrics yet.
    #[getter]
    fn warming(&self) -> i64 {
        self.warming
    }

    /// Values by name; None is a missing value.
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, value) in &self.metrics {
            out.set_item(name, value)?;
        }
        Ok(out)
    }

    /// One record an instance, if given.
    #[getter]
    fn pods(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.pods.as_ref().map(|p| p.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("Observation({}", self.current);
        for (name, value) in [("desired", self.desired), ("status", self.status)] {
            if let Some(v) = value {
                text.push_str(&format!(", {name}={v}"));
            }
        }
        if self.warming != 0 {
            text.push_str(&format!(", warming={}", self.warming));
        }
        if !self.metrics.is_empty() {
            text.push_str(&format!(", metrics={}", self.metrics(py)?.repr()?));
        }
        if let Some(pods) = &self.pods {
            text.push_str(&format!(", pods={}", pods.bind(py).repr()?));
        }
        text.push(')');
        Ok(text)
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<PyObservation>() else { return Ok(py.NotImplemented()) };
        let other = other.get();
        let counts = |o: &PyObservation| (o.current, o.desired, o.status, o.warming);
        let same = counts(self) == counts(other)
            && self.metrics(py)?.eq(other.metrics(py)?)?
            && match (&self.pods, &other.pods) {
                (Some(a), Some(b)) => a.bind(py).eq(b.bind(py))?,
                (None, None) => true,
                _ => false,
            };
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        named.set_item("desired", self.desired)?;
        named.set_item("status", self.status)?;
        named.set_item("warming", self.warming)?;
        named.set_item("metrics", self.metrics(py)?)?;
        named.set_item("pods", self.pods(py))?;
        Ok((PyTuple::new(py, [self.current])?, named))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(pods) = &self.pods {
            visit.call(pods)?;
        }
        Ok(())
    }
}
