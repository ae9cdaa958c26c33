//! The binding of Kubernetes' Horizontal Pod Autoscaler.

mod config;
mod pods;
mod state;

use super::observation::{Cluster, with_cluster};
use super::read::shown;
use super::recommendation::PyRecommendation;
use super::{instant, plain};
use crate::core::autoscaling::hpa::calculator::{Reading, Setting, Source, propose};
use crate::core::autoscaling::hpa::{self, HorizontalPodAutoscaler, Seen, outcome, quantity};
use crate::core::autoscaling::metric_error;
use crate::core::error::ConfigError;
use crate::core::sync::Mutex;
use crate::core::time::Nanos;
use pods::Pods;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The native half of the policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "HpaEngine")]
pub(crate) struct HpaEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<HorizontalPodAutoscaler>,
}

impl HpaEngine {
    /// The same configuration with an empty memory.
    pub(crate) fn fresh(&self) -> HorizontalPodAutoscaler {
        self.policy.lock().fresh()
    }
}

/// Counts are checked to be from 0 to 2^31 - 1, and their sum may be more.
fn narrow(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn seen<'a>(c: &Cluster<'_, '_>, pods: Option<&'a Bound<'_, Pods>>) -> Seen<'a> {
    let asked = c.desired.unwrap_or_else(|| c.current.saturating_add(c.warming));
    let status = c.status.unwrap_or_else(|| c.current.saturating_add(c.warming));
    Seen {
        current: narrow(c.current),
        asked: narrow(asked),
        status: narrow(status),
        pods: pods.map(|p| p.get().inner()),
    }
}

fn pods_of<'a, 'py>(c: &Cluster<'a, 'py>) -> PyResult<Option<&'a Bound<'py, Pods>>> {
    let Some(value) = c.pods else { return Ok(None) };
    match value.cast::<Pods>() {
        Ok(pods) => Ok(Some(pods)),
        Err(_) => Err(metric_error("pods", shown(value), "a Pods object is allowed, made by Pods(records)").into()),
    }
}

fn reading<'a>(c: &Cluster<'a, '_>, key: &str) -> Reading<'a> {
    c.metrics.iter().find(|(name, _)| *name == key).map_or(Reading::Missing, |(_, v)| v.reading())
}

/// With pods, a metric of theirs has a value each.
fn check_place(c: &Cluster<'_, '_>, source: Source, key: &str) -> PyResult<()> {
    let each = matches!(source, Source::Resource | Source::Pods);
    if each && c.pods.is_some() && !matches!(reading(c, key), Reading::Missing) {
        let allowed = "with pods, a metric of theirs has one value a pod, in Pods(records, metrics=...)";
        return Err(metric_error(key, "one value", allowed).into());
    }
    Ok(())
}

#[pymethods]
impl HpaEngine {
    #[new]
    fn new(config: &Bound<'_, PyAny>) -> PyResult<HpaEngine> {
        Ok(HpaEngine { policy: Mutex::new(HorizontalPodAutoscaler::new(config::read(config)?)?) })
    }

    /// The decision for an observation, at a time in seconds.
    fn recommend(&self, observation: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let decision = with_cluster(observation, |c| {
            let pods = pods_of(c)?;
            let seen = seen(c, pods);
            let mut policy = self.policy.lock();
            for m in &policy.config().metrics {
                check_place(c, m.source, &m.key)?;
            }
            Ok(policy.recommend(&seen, |key| reading(c, key), now))
        })?;
        PyRecommendation::told(decision).ranked(observation, now)
    }

    /// Refused: this policy decides on observations alone.
    fn record(&self, name: &str, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = (value, at);
        let allowed = "this policy keeps no samples: give the value in the observation";
        Err(metric_error(name, "a sample", allowed).into())
    }

    /// Takes back the assumption that the recommendation was carried out.
    fn rejected(&self, recommendation: &PyRecommendation) {
        if let Some((serial, at)) = recommendation.identity() {
            self.policy.lock().rejected(serial, at);
        }
    }

    /// The conditions and the rest of the status, as they are now.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (rows, desired, last) = {
            let policy = self.policy.lock();
            let m = policy.memory();
            (outcome::rows(&m.conditions), m.status_desired, m.last_scale)
        };
        let out = PyDict::new(py);
        out.set_item("conditions", plain::to(py, &rows)?)?;
        out.set_item("desired_replicas", desired)?;
        out.set_item("last_scale", last.map(Nanos::as_secs_f64))?;
        Ok(out)
    }

    /// The memory as a plain dictionary.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = self.policy.lock().memory().clone();
        state::to_dict(py, &memory)
    }

    /// Takes over a memory, or changes nothing.
    fn restore(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let memory = state::from_dict(state)?;
        self.policy.lock().restore(memory);
        Ok(())
    }
}

/// A quantity as (thousandths, whole units, float, canonical text, sign).
#[pyfunction]
#[pyo3(signature = (text, /))]
fn _parse_quantity(text: &Bound<'_, PyAny>) -> PyResult<(i64, i64, f64, String, i64)> {
    let given = text.cast::<PyString>().ok().and_then(|t| t.to_str().ok());
    let Some(given) = given else {
        return Err(ConfigError::new("quantity", shown(text), "a text such as \"1500m\"").into());
    };
    let q = quantity::parse(given)?;
    Ok((q.milli(), q.value(), q.approximate(), q.canonical(), q.sign()))
}

/// One metric to replicas, as (replicas, usage in thousandths, utilization, ratio, within tolerance).
#[pyfunction]
#[pyo3(signature = (metric, observation, /, *, now, tolerance, cpu_initialization_period, initial_readiness_delay))]
fn _hpa_replicas(
    metric: &Bound<'_, PyAny>,
    observation: &Bound<'_, PyAny>,
    now: &Bound<'_, PyAny>,
    tolerance: &Bound<'_, PyAny>,
    cpu_initialization_period: &Bound<'_, PyAny>,
    initial_readiness_delay: &Bound<'_, PyAny>,
) -> PyResult<(i32, i64, Option<i32>, f64, bool)> {
    let now = instant("now", now)?;
    let spec = config::metric("metric", metric)?;
    hpa::check_metric("metric", &spec)?;
    let tolerance = config::tolerances(tolerance)?;
    let cpu_initialization = config::nanoseconds("cpu_initialization_period", cpu_initialization_period)?;
    let readiness_delay = config::nanoseconds("initial_readiness_delay", initial_readiness_delay)?;
    with_cluster(observation, |c| {
        let pods = pods_of(c)?;
        check_place(c, spec.source, &spec.key)?;
        let seen = seen(c, pods);
        let setting = Setting {
            current: seen.asked,
            ready: seen.current,
            status: seen.status,
            pods: seen.pods,
            tolerance,
            cpu_initialization,
            readiness_delay,
            now: i64::try_from(now.0).unwrap_or(i64::MAX),
        };
        match propose(&spec, reading(c, &spec.key), &setting) {
            Ok(p) => Ok((p.replicas, p.usage, p.utilization, p.ratio, p.within)),
            Err(e) => Err(metric_error(&spec.key, "no answer", e.text(&spec.name)).into()),
        }
    })
}

/// Adds this system's classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<HpaEngine>()?;
    m.add_class::<Pods>()?;
    m.add_function(wrap_pyfunction!(_parse_quantity, m)?)?;
    m.add_function(wrap_pyfunction!(_hpa_replicas, m)?)?;
    Ok(())
}
