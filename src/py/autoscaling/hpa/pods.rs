//! Pods and their metrics, read once so that a decision over them runs without Python.

use super::super::read::{real, shown};
use super::config::milli;
use crate::core::autoscaling::hpa::pods::{self as core, Container, Phase, Pod, Ready, Sample, Series};
use crate::core::autoscaling::metric_error;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString, PyTuple};
use std::sync::Arc;

/// Long before and long after anything else, far enough from the ends that durations may be added.
const LONG_AGO: i64 = i64::MIN / 2;
const FRESH: i64 = i64::MAX / 2;
/// The window of a custom metric that does not say.
const WINDOW: i64 = 60_000_000_000;

/// Pods as an autoscaler sees them, with the metrics that have one value a pod, read once.
#[pyclass(frozen, eq, module = "aibalance.autoscaling", name = "Pods")]
#[derive(PartialEq)]
pub(crate) struct Pods {
    inner: core::Pods,
}

impl Pods {
    pub(super) fn inner(&self) -> &core::Pods {
        &self.inner
    }
}

fn refuse(name: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    metric_error(name, shown(value), allowed).into()
}

fn text(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    let found = value.cast::<PyString>().ok().and_then(|t| t.to_str().ok());
    found.map(Arc::from).ok_or_else(|| refuse(field, value, "a text is needed"))
}

fn flag(field: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.cast::<PyBool>().map(|b| b.is_true()).map_err(|_| refuse(field, value, "True or False is needed"))
}

/// Seconds of the policy's clock, also negative ones.
fn instant(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    match real(value) {
        // The cast saturates; durations are added saturating too.
        Some(s) if s.is_finite() => Ok((s * 1e9).round() as i64),
        _ => Err(refuse(field, value, "finite seconds are needed")),
    }
}

fn quantity(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    milli(field, value).map_err(|_| refuse(field, value, "a number or a quantity such as \"500m\" is needed"))
}

fn each<'py>(
    field: &str,
    value: &Bound<'py, PyAny>,
    mut take: impl FnMut(&str, &Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let Ok(mapping) = value.cast::<PyMapping>() else { return Err(refuse(field, value, "a mapping is needed")) };
    for item in mapping.items()?.iter() {
        let (k, v): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
        take(&text(field, &k)?, &k, &v)?;
    }
    Ok(())
}

fn requests(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<(Arc<str>, i64)>> {
    let mut out = Vec::new();
    if value.is_none() {
        return Ok(out);
    }
    each(field, value, |name, _, v| {
        out.push((Arc::from(name), quantity(&format!("{field}[{name:?}]"), v)?));
        Ok(())
    })?;
    Ok(out)
}

fn container(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Container> {
    let mut out = Container { name: "".into(), requests: Vec::new(), init: false, sidecar: false };
    each(field, value, |key, k, v| {
        let at = format!("{field}.{key}");
        match key {
            "name" => out.name = text(&at, v)?,
            "requests" => out.requests = requests(&at, v)?,
            "init" => out.init = flag(&at, v)?,
            "sidecar" => out.sidecar = flag(&at, v)?,
            _ => return Err(refuse(field, k, "the keys are name, requests, init and sidecar")),
        }
        Ok(())
    })?;
    if out.sidecar && !out.init {
        return Err(refuse(&format!("{field}.sidecar"), value, "a sidecar is an init container: init=True is needed"));
    }
    Ok(out)
}

fn pod(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Pod> {
    let mut out = Pod {
        name: "".into(),
        phase: Phase::Running,
        deleted: false,
        ready: Some(Ready::True),
        ready_since: LONG_AGO,
        started: Some(LONG_AGO),
        containers: Vec::new(),
        requests: Vec::new(),
    };
    let mut named = false;
    each(field, value, |key, k, v| {
        let at = format!("{field}.{key}");
        match key {
            "name" => (out.name, named) = (text(&at, v)?, true),
            "phase" => {
                let name = text(&at, v)?;
                let known = Phase::ALL.into_iter().find(|p| p.name() == &*name);
                out.phase = known
                    .ok_or_else(|| refuse(&at, v, "one of pending, running, succeeded, failed, unknown is needed"))?;
            }
            "deleted" => out.deleted = flag(&at, v)?,
            "ready" if v.is_none() => out.ready = None,
            "ready" if v.is_instance_of::<PyString>() && &*text(&at, v)? == "unknown" => {
                out.ready = Some(Ready::Unknown)
            }
            "ready" => match v.cast::<PyBool>() {
                Ok(b) => out.ready = Some(if b.is_true() { Ready::True } else { Ready::False }),
                Err(_) => return Err(refuse(&at, v, "True, False, \"unknown\" or None is needed")),
            },
            "ready_since" => out.ready_since = instant(&at, v)?,
            "started" => out.started = if v.is_none() { None } else { Some(instant(&at, v)?) },
            "requests" => out.requests = requests(&at, v)?,
            "containers" => {
                for (i, c) in v.try_iter().map_err(|_| refuse(&at, v, "a list is needed"))?.enumerate() {
                    out.containers.push(container(&format!("{at}[{i}]"), &c?)?);
                }
            }
            _ => {
                let allowed = "the keys are name, phase, deleted, ready, ready_since, started, containers and requests";
                return Err(refuse(field, k, allowed));
            }
        }
        Ok(())
    })?;
    if !named {
        return Err(refuse(field, value, "the key name is needed"));
    }
    Ok(out)
}

/// A value, or (value, at), or (value, at, window).
fn sample(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Sample> {
    let Ok(parts) = value.cast::<PyTuple>() else {
        return Ok(Sample { value: quantity(field, value)?, at: FRESH, window: WINDOW });
    };
    if !(1..=3).contains(&parts.len()) {
        return Err(refuse(field, value, "a value, or (value, at seconds, window seconds) is needed"));
    }
    let at = if parts.len() > 1 { instant(field, &parts.get_item(1)?)? } else { FRESH };
    let window = if parts.len() > 2 { instant(field, &parts.get_item(2)?)? } else { WINDOW };
    Ok(Sample { value: quantity(field, &parts.get_item(0)?)?, at, window })
}

fn values(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<core::Values>> {
    if value.is_none() {
        return Ok(None);
    }
    let mut out = Vec::new();
    each(field, value, |name, _, v| {
        if !v.is_none() {
            out.push((Arc::from(name), sample(&format!("{field}[{name:?}]"), v)?));
        }
        Ok(())
    })?;
    Ok(Some(out))
}

type PackedContainer = (String, Vec<(String, i64)>, bool, bool);
type PackedPod = (String, String, bool, Option<String>, i64, Option<i64>, Vec<PackedContainer>, Vec<(String, i64)>);
type Packed = (Vec<PackedPod>, Vec<PackedSeries>);
type PackedSeries = (String, Option<Vec<(String, i64, i64, i64)>>);

fn pack_requests(all: &[(Arc<str>, i64)]) -> Vec<(String, i64)> {
    all.iter().map(|(n, v)| (n.to_string(), *v)).collect()
}

fn unpack_requests(all: Vec<(String, i64)>) -> Vec<(Arc<str>, i64)> {
    all.into_iter().map(|(n, v)| (n.into(), v)).collect()
}

fn pack_series(pods: &[Pod], series: &Series) -> Vec<(String, i64, i64, i64)> {
    let own = pods.iter().zip(&series.samples).filter_map(|(p, s)| Some((&p.name, (*s)?)));
    let strangers = series.strangers.iter().map(|(n, s)| (n, *s));
    own.chain(strangers).map(|(n, s)| (n.to_string(), s.value, s.at, s.window)).collect()
}

#[pymethods]
impl Pods {
    #[new]
    #[pyo3(signature = (records, /, *, metrics=None), text_signature = "(records, /, *, metrics={})")]
    fn new(records: &Bound<'_, PyAny>, metrics: Option<&Bound<'_, PyAny>>) -> PyResult<Pods> {
        let items = records.try_iter().map_err(|_| refuse("pods", records, "an iterable of mappings is needed"))?;
        let mut all = Vec::new();
        for (i, item) in items.enumerate() {
            all.push(pod(&format!("pods[{i}]"), &item?)?);
        }
        let mut series = Vec::new();
        if let Some(metrics) = metrics.filter(|m| !m.is_none()) {
            each("metrics", metrics, |name, _, v| {
                series.push((Arc::from(name), values(&format!("metrics[{name:?}]"), v)?));
                Ok(())
            })?;
        }
        match core::Pods::new(all, series) {
            Ok(inner) => Ok(Pods { inner }),
            Err(name) => Err(metric_error("pods", name, "a name that only one of them has is needed").into()),
        }
    }

    fn __len__(&self) -> usize {
        self.inner.pods().len()
    }

    /// How many run and are ready.
    #[getter]
    fn ready(&self) -> usize {
        self.inner.ready()
    }

    /// Their names, in order.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.pods().iter().map(|p| &*p.name))
    }

    /// How many pods have a value, by metric; None for a metric that could not be had.
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, series) in self.inner.series() {
            let count = series.as_ref().map(|s| s.samples.iter().flatten().count() + s.strangers.len());
            out.set_item(&**name, count)?;
        }
        Ok(out)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let metrics = if self.inner.series().is_empty() {
            String::new()
        } else {
            format!(", values: {}", self.metrics(py)?.repr()?)
        };
        Ok(format!("<Pods: {}, {} ready{metrics}>", self.inner.pods().len(), self.inner.ready()))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Packed)> {
        let inner = &slf.get().inner;
        let container = |c: &Container| (c.name.to_string(), pack_requests(&c.requests), c.init, c.sidecar);
        let ready = |r: Ready| match r {
            Ready::True => "true".to_owned(),
            Ready::False => "false".to_owned(),
            Ready::Unknown => "unknown".to_owned(),
        };
        let pods = inner.pods().iter().map(|p| {
            let containers = p.containers.iter().map(container).collect();
            let (name, phase, requests) = (p.name.to_string(), p.phase.name().to_owned(), pack_requests(&p.requests));
            (name, phase, p.deleted, p.ready.map(ready), p.ready_since, p.started, containers, requests)
        });
        let series =
            inner.series().iter().map(|(n, s)| (n.to_string(), s.as_ref().map(|s| pack_series(inner.pods(), s))));
        Ok((slf.get_type().getattr("_rebuild")?, (pods.collect(), series.collect())))
    }

    /// Makes them again from what `__reduce__` wrote.
    #[staticmethod]
    fn _rebuild(pods: Vec<PackedPod>, series: Vec<PackedSeries>) -> PyResult<Pods> {
        let pods =
            pods.into_iter().map(|(name, phase, deleted, ready, ready_since, started, containers, requests)| Pod {
                name: name.into(),
                phase: Phase::ALL.into_iter().find(|p| p.name() == phase).unwrap_or(Phase::Unknown),
                deleted,
                ready: ready.map(|r| match r.as_str() {
                    "true" => Ready::True,
                    "false" => Ready::False,
                    _ => Ready::Unknown,
                }),
                ready_since,
                started,
                containers: containers
                    .into_iter()
                    .map(|(name, requests, init, sidecar)| Container {
                        name: name.into(),
                        requests: unpack_requests(requests),
                        init,
                        sidecar,
                    })
                    .collect(),
                requests: unpack_requests(requests),
            });
        let sample = |(name, value, at, window): (String, i64, i64, i64)| (name.into(), Sample { value, at, window });
        let series = series.into_iter().map(|(n, s)| (n.into(), s.map(|s| s.into_iter().map(sample).collect())));
        match core::Pods::new(pods.collect(), series.collect()) {
            Ok(inner) => Ok(Pods { inner }),
            Err(name) => Err(metric_error("pods", name, "what pickled Pods hold").into()),
        }
    }
}
