//! Observations: the class, and the plain mapping that may stand for it.

use super::read::{real, shown, whole};
use super::removal;
use crate::core::autoscaling::hpa::calculator::Reading;
use crate::core::autoscaling::hpa::quantity;
use crate::core::autoscaling::{MAX_CAPACITY, Observation, metric_error};
use crate::core::capacity::removal::Removable;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};

/// What a policy gets to see.
///
/// `current`: capacity in service, terminating instances included, warming ones not.
/// `desired`: what the group was last asked to be; None is `current + warming`.
/// `status`: the replicas that a controller last reported, for policies that tell them from `current`.
/// `warming`: capacity that was started and does not count in the metrics yet.
/// `metrics`: values by name; None is a missing value, a name left out leaves it to what was recorded. Kubernetes'
/// policies also take quantities as text ("1500m") and lists of values, which are added up; the AWS policies do not.
/// `pods`: the instances, for policies that look at each: a `Pods`.
/// `instances`: mappings as `aibalance.capacity.rank_removals` takes them; they fill `Recommendation.remove`.
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
    metrics: Vec<(String, Given)>,
    pods: Option<Py<PyAny>>,
    /// The instances as they were given, and as they were read.
    instances: Option<(Py<PyAny>, Vec<Removable>)>,
}

/// Calls `f` with the instances of an observation, if it has some. A mapping was checked before.
pub(super) fn removable<T>(value: &Bound<'_, PyAny>, f: impl FnOnce(&[Removable]) -> T) -> PyResult<Option<T>> {
    if let Ok(seen) = value.cast::<PyObservation>() {
        return Ok(seen.get().instances.as_ref().map(|(_, all)| f(all)));
    }
    let key = pyo3::intern!(value.py(), "instances");
    let found = match value.cast::<PyDict>() {
        Ok(dict) => dict.get_item(key)?,
        Err(_) => value.cast::<PyMapping>().ok().and_then(|m| m.get_item(key).ok()),
    };
    found.filter(|v| !v.is_none()).map(|v| Ok(f(&removal::instances(&v)?))).transpose()
}

/// The value of a metric as it was given.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Missing,
    Real(f64),
    /// A quantity, and what it is in thousandths.
    Text(String, i64),
    /// Several, and what they are in thousandths.
    Many(Vec<Given>, Vec<i64>),
}

impl Given {
    /// For policies that know floats only.
    fn float(&self, name: &str) -> PyResult<Option<f64>> {
        match self {
            Given::Missing => Ok(None),
            Given::Real(v) => Ok(Some(*v)),
            Given::Text(text, _) => Err(metric_error(name, format!("{text:?}"), FINITE).into()),
            Given::Many(..) => Err(metric_error(name, "a list", FINITE).into()),
        }
    }

    /// For policies that count in thousandths. The values were checked when they were read.
    pub(super) fn reading(&self) -> Reading<'_> {
        match self {
            Given::Missing => Reading::Missing,
            Given::Real(v) => quantity::milli_of(*v).map_or(Reading::Missing, Reading::One),
            Given::Text(_, milli) => Reading::One(*milli),
            Given::Many(_, all) => Reading::Many(all),
        }
    }

    fn to_object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self {
            Given::Missing => py.None().into_bound(py),
            Given::Real(v) => v.into_pyobject(py)?.into_any(),
            Given::Text(text, _) => PyString::new(py, text).into_any(),
            Given::Many(items, _) => {
                let items: Vec<_> = items.iter().map(|i| i.to_object(py)).collect::<PyResult<_>>()?;
                PyList::new(py, items)?.into_any()
            }
        })
    }
}

const FINITE: &str = "a finite number up to 2^360 is allowed, and None for a missing value";

/// One value in any form.
fn given(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Given> {
    if value.is_none() {
        return Ok(Given::Missing);
    }
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_str().map_err(|_| refuse(name, value, "a quantity is valid Unicode"))?;
        let parsed = quantity::parse(text).map_err(|e| refuse(name, value, &format!("{} is allowed", e.allowed)))?;
        return Ok(Given::Text(text.to_owned(), parsed.milli()));
    }
    let list: Option<Vec<Bound<'_, PyAny>>> = match (value.cast::<PyList>(), value.cast::<PyTuple>()) {
        (Ok(l), _) => Some(l.iter().collect()),
        (_, Ok(t)) => Some(t.iter().collect()),
        _ => None,
    };
    if let Some(list) = list {
        let (mut items, mut milli) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
        for item in list {
            let one = given(name, &item)?;
            match one.reading() {
                Reading::One(v) => milli.push(v),
                _ => {
                    return Err(refuse(
                        name,
                        &item,
                        "a list holds numbers and quantities, whose thousandths fit in 64 bits",
                    ));
                }
            }
            items.push(one);
        }
        return Ok(Given::Many(items, milli));
    }
    real(value).map(Given::Real).ok_or_else(|| refuse(name, value, FINITE))
}

/// A value for a policy that counts in thousandths: what does not fit is an error, not a gap.
fn check_milli(name: &str, value: &Given) -> PyResult<()> {
    match value {
        Given::Real(v) if quantity::milli_of(*v).is_none() => {
            let allowed = "a finite number whose thousandths fit in 64 bits is allowed, and None for a missing value";
            Err(metric_error(name, v, allowed).into())
        }
        _ => Ok(()),
    }
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
    real(value).map(Some).ok_or_else(|| refuse(name, value, FINITE))
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

type Metrics<'py> = Vec<(Bound<'py, PyString>, Given)>;

fn metrics<'py>(value: &Bound<'py, PyAny>) -> PyResult<Metrics<'py>> {
    let mut found = Vec::new();
    each("metrics", value, |k, v| {
        let Ok(name) = k.cast::<PyString>() else { return Err(refuse("metrics", k, "names of metrics are text")) };
        let text = name.to_str().map_err(|_| refuse("metrics", k, "names of metrics are valid Unicode"))?;
        found.push((name.clone(), given(text, v)?));
        Ok(())
    })?;
    Ok(found)
}

/// Calls `f` with what `value` says, an Observation or a mapping.
pub(super) fn with_observation<T>(value: &Bound<'_, PyAny>, f: impl FnOnce(&Observation<'_>) -> T) -> PyResult<T> {
    if let Ok(seen) = value.cast::<PyObservation>() {
        let seen = seen.get();
        let metrics: Vec<(&str, Option<f64>)> =
            seen.metrics.iter().map(|(n, v)| Ok((n.as_str(), v.float(n)?))).collect::<PyResult<_>>()?;
        let (current, desired, warming) = (seen.current, seen.desired, seen.warming);
        return Ok(f(&Observation { current, desired, warming, metrics: &metrics }));
    }
    let Loose { current, desired, warming, named, .. } = loose(value)?;
    let mut borrowed: Vec<(&str, Option<f64>)> = Vec::with_capacity(named.len());
    for (name, v) in &named {
        let name = name.to_str()?;
        borrowed.push((name, v.float(name)?));
    }
    Ok(f(&Observation { current, desired, warming, metrics: &borrowed }))
}

/// A plain mapping, read.
struct Loose<'py> {
    current: i64,
    desired: Option<i64>,
    status: Option<i64>,
    warming: i64,
    named: Metrics<'py>,
    pods: Option<Bound<'py, PyAny>>,
}

fn loose<'py>(value: &Bound<'py, PyAny>) -> PyResult<Loose<'py>> {
    let (mut current, mut desired, mut status, mut warming) = (None, None, None, 0);
    let (mut named, mut pods) = (Vec::new(), None);
    each("observation", value, |k, v| {
        match k.cast::<PyString>().ok().and_then(|s| s.to_str().ok()) {
            Some("current") => current = Some(count("current", v)?),
            Some("desired") => desired = optional_count("desired", v)?,
            Some("status") => status = optional_count("status", v)?,
            Some("warming") => warming = count("warming", v)?,
            Some("metrics") => named = metrics(v)?,
            Some("pods") => pods = Some(v.clone()).filter(|v| !v.is_none()),
            Some("instances") if v.is_none() => {}
            // Read here to refuse what cannot be before anything is remembered.
            Some("instances") => drop(removal::instances(v)?),
            _ => {
                let allowed = "the keys are current, desired, status, warming, metrics, pods and instances";
                return Err(refuse("observation", k, allowed));
            }
        }
        Ok(())
    })?;
    let Some(current) = current else { return Err(refuse("observation", value, "the key current is needed")) };
    Ok(Loose { current, desired, status, warming, named, pods })
}

/// What a policy of Kubernetes sees: counts, metrics in thousandths, and the pods.
pub(super) struct Cluster<'a, 'py> {
    pub current: i64,
    pub desired: Option<i64>,
    pub status: Option<i64>,
    pub warming: i64,
    pub metrics: &'a [(&'a str, &'a Given)],
    pub pods: Option<&'a Bound<'py, PyAny>>,
}

/// Calls `f` with what `value` says, an Observation or a mapping.
pub(super) fn with_cluster<'py, T>(
    value: &Bound<'py, PyAny>,
    f: impl FnOnce(&Cluster<'_, 'py>) -> PyResult<T>,
) -> PyResult<T> {
    if let Ok(seen) = value.cast::<PyObservation>() {
        let seen = seen.get();
        let metrics: Vec<(&str, &Given)> = seen.metrics.iter().map(|(n, v)| (n.as_str(), v)).collect();
        for (name, v) in &metrics {
            check_milli(name, v)?;
        }
        let pods = seen.pods.as_ref().map(|p| p.bind(value.py()).clone()).filter(|p| !p.is_none());
        let (current, desired, status, warming) = (seen.current, seen.desired, seen.status, seen.warming);
        return f(&Cluster { current, desired, status, warming, metrics: &metrics, pods: pods.as_ref() });
    }
    let Loose { current, desired, status, warming, named, pods } = loose(value)?;
    let mut metrics: Vec<(&str, &Given)> = Vec::with_capacity(named.len());
    for (name, v) in &named {
        let name = name.to_str()?;
        check_milli(name, v)?;
        metrics.push((name, v));
    }
    f(&Cluster { current, desired, status, warming, metrics: &metrics, pods: pods.as_ref() })
}

#[pymethods]
impl PyObservation {
    #[new]
    #[pyo3(signature = (current, *, desired=None, status=None, warming=None, metrics=None, pods=None, instances=None),
           text_signature = "(current, *, desired=None, status=None, warming=0, metrics={}, pods=None, instances=None)")]
    fn new(
        current: &Bound<'_, PyAny>,
        desired: Option<&Bound<'_, PyAny>>,
        status: Option<&Bound<'_, PyAny>>,
        warming: Option<&Bound<'_, PyAny>>,
        metrics: Option<&Bound<'_, PyAny>>,
        pods: Option<Py<PyAny>>,
        instances: Option<Bound<'_, PyAny>>,
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
            instances: instances.map(|v| Ok::<_, PyErr>((v.clone().unbind(), removal::instances(&v)?))).transpose()?,
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
            out.set_item(name, value.to_object(py)?)?;
        }
        Ok(out)
    }

    /// One record an instance, if given.
    #[getter]
    fn pods(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.pods.as_ref().map(|p| p.clone_ref(py))
    }

    /// One mapping an instance, if given.
    #[getter]
    fn instances(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.instances.as_ref().map(|(given, _)| given.clone_ref(py))
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
        if let Some((given, _)) = &self.instances {
            text.push_str(&format!(", instances={}", given.bind(py).repr()?));
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
            }
            && self.instances.as_ref().map(|i| &i.1) == other.instances.as_ref().map(|i| &i.1);
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        named.set_item("desired", self.desired)?;
        named.set_item("status", self.status)?;
        named.set_item("warming", self.warming)?;
        named.set_item("metrics", self.metrics(py)?)?;
        named.set_item("pods", self.pods(py))?;
        named.set_item("instances", self.instances(py))?;
        Ok((PyTuple::new(py, [self.current])?, named))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(pods) = &self.pods {
            visit.call(pods)?;
        }
        if let Some((given, _)) = &self.instances {
            visit.call(given)?;
        }
        Ok(())
    }
}
