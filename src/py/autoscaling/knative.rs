//! The binding of Knative's pod autoscaler.

use super::config::{choice, flag, float, integer, optional_integer, seconds};
use super::kept::{self, instant};
use super::observation::{metric_value, with_observation};
use super::read::{real, refuse, shown, whole};
use super::recommendation::PyRecommendation;
use crate::core::autoscaling::knative::{
    Activity, Aggregation, KnativeConfig, KnativePolicy, MaxWindow, ScaleInput, ScalingMetric, Window, scaler,
};
use crate::core::autoscaling::plain::{Reader, seconds as in_seconds};
use crate::core::autoscaling::{MAX_METRIC, metric_error};
use crate::core::error::ConfigError;
use crate::core::sync::{Mutex, MutexGuard};
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

pub(super) fn small(config: &Bound<'_, PyAny>, field: &str) -> PyResult<i32> {
    let n = integer(config, field)?;
    i32::try_from(n).map_err(|_| ConfigError::new(field, n, "a whole number that fits in 32 bits").into())
}

fn optional_float(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Option<f64>> {
    if config.getattr(field)?.is_none() { Ok(None) } else { float(config, field).map(Some) }
}

fn read(config: &Bound<'_, PyAny>) -> PyResult<KnativeConfig> {
    let metrics = [("concurrency", ScalingMetric::Concurrency), ("rps", ScalingMetric::Rps)];
    let metric = choice(config, "metric", &metrics)?;
    let aggregations = [("linear", Aggregation::Linear), ("weighted_exponential", Aggregation::WeightedExponential)];
    let default_target = match metric {
        ScalingMetric::Concurrency => 100.0,
        ScalingMetric::Rps => 200.0,
    };
    Ok(KnativeConfig {
        metric,
        container_concurrency: optional_integer(config, "container_concurrency")?.unwrap_or(0),
        target: optional_float(config, "target")?,
        default_target: optional_float(config, "default_target")?.unwrap_or(default_target),
        target_utilization: float(config, "target_utilization")?,
        stable_window: seconds(config, "stable_window")?,
        panic_window_percentage: float(config, "panic_window_percentage")?,
        panic_threshold_percentage: float(config, "panic_threshold_percentage")?,
        max_scale_up_rate: float(config, "max_scale_up_rate")?,
        max_scale_down_rate: float(config, "max_scale_down_rate")?,
        target_burst_capacity: float(config, "target_burst_capacity")?,
        activator_capacity: float(config, "activator_capacity")?,
        activation_scale: small(config, "activation_scale")?,
        scale_down_delay: seconds(config, "scale_down_delay")?,
        aggregation: choice(config, "aggregation", &aggregations)?,
        reachable: flag(config, "reachable")?,
        min_scale: small(config, "min_scale")?,
        max_scale: small(config, "max_scale")?,
        initial_scale: small(config, "initial_scale")?,
        enable_scale_to_zero: flag(config, "enable_scale_to_zero")?,
        scale_to_zero_grace_period: seconds(config, "scale_to_zero_grace_period")?,
        scale_to_zero_pod_retention_period: seconds(config, "scale_to_zero_pod_retention_period")?,
        progress_deadline: seconds(config, "progress_deadline")?,
    })
}

/// A duration in seconds that is an argument.
fn duration(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    match real(value) {
        Some(s) if (0.0..=1e9).contains(&s) => Ok(Nanos::from_secs_f64(s)),
        _ => Err(refuse(field, value, "seconds from 0 to 1e9")),
    }
}

fn count(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    match whole(value) {
        Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok(n),
        _ => Err(refuse(field, value, "a whole number from 0 to 2147483647")),
    }
}

fn signed(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i32> {
    let n = whole(value).and_then(|n| i32::try_from(n).ok());
    n.ok_or_else(|| refuse(field, value, "a whole number that fits in 32 bits"))
}

fn activity(value: &Bound<'_, PyAny>) -> PyResult<Activity> {
    let text: Option<String> = value.extract().ok();
    let found = Activity::ALL.into_iter().find(|a| Some(a.name()) == text.as_deref());
    found.ok_or_else(|| refuse("activity", value, "one of active, activating, inactive"))
}

/// The native half of the policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "KnativeEngine")]
pub(crate) struct KnativeEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<KnativePolicy>,
}

impl KnativeEngine {
    fn lock(&self) -> MutexGuard<'_, KnativePolicy> {
        self.policy.lock()
    }
}

#[pymethods]
impl KnativeEngine {
    #[new]
    fn new(config: &Bound<'_, PyAny>) -> PyResult<KnativeEngine> {
        Ok(KnativeEngine { policy: Mutex::new(KnativePolicy::new(read(config)?)?) })
    }

    fn recommend(&self, observation: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let told = with_observation(observation, |obs| self.lock().recommend(obs, now))??;
        PyRecommendation::told(told).ranked(observation, now)
    }

    #[pyo3(signature = (name, value, at, proxied=None))]
    fn record(
        &self,
        name: &str,
        value: &Bound<'_, PyAny>,
        at: &Bound<'_, PyAny>,
        proxied: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let at = instant("at", at)?;
        let proxied = proxied.map_or(Ok(None), |p| metric_value("proxied", p))?.unwrap_or(0.0);
        match metric_value(name, value)? {
            Some(v) => Ok(self.lock().record(name, v, proxied, at)?),
            // A gap is what a window sees when nothing is recorded.
            None => Ok(()),
        }
    }

    fn start(&self, ready: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let (ready, at) = (count("ready", ready)?, instant("at", at)?);
        self.lock().start(ready, at);
        Ok(())
    }

    /// Nothing in the memory assumes that a recommendation was carried out.
    fn rejected(&self, recommendation: &PyRecommendation) {
        let _ = recommendation;
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.lock().state();
        kept::to(py, &state)
    }

    fn restore(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = kept::from("state", state)?;
        Ok(self.lock().restore(&state)?)
    }

    fn adopt(&self, state: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<()> {
        let (state, now) = (kept::from("state", state)?, instant("now", now)?);
        Ok(self.lock().adopt(&state, now)?)
    }

    /// What follows from the configuration: total, target, panic window, panic threshold.
    fn resolved(&self) -> (f64, f64, f64, f64) {
        let policy = self.lock();
        let (total, target) = policy.config().total_and_target();
        (total, target, in_seconds(policy.config().panic_window()), policy.config().panic_threshold())
    }

    fn activators(&self, ready: &Bound<'_, PyAny>) -> PyResult<i64> {
        let ready = count("ready", ready)?;
        Ok(self.lock().config().activators(ready))
    }

    #[allow(clippy::too_many_arguments)]
    fn scale<'py>(
        &self,
        py: Python<'py>,
        desired: &Bound<'py, PyAny>,
        replicas: &Bound<'py, PyAny>,
        activity_now: &Bound<'py, PyAny>,
        held: &Bound<'py, PyAny>,
        initialized: bool,
        mode: &str,
        proxied: &Bound<'py, PyAny>,
        probe_ok: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let input = ScaleInput {
            desired: signed("desired", desired)?,
            replicas: signed("replicas", replicas)?,
            activity: activity(activity_now)?,
            held: duration("held", held)?,
            initialized,
            proxying: match mode {
                "proxy" => true,
                "serve" => false,
                other => return Err(ConfigError::new("mode", format!("{other:?}"), "one of serve, proxy").into()),
            },
            proxied: if proxied.is_none() { None } else { Some(duration("proxied", proxied)?) },
            probe_ok,
        };
        let out = scaler::scale(self.lock().config(), &input);
        let told = PyDict::new(py);
        told.set_item("want", out.want)?;
        told.set_item("patch", out.patch)?;
        told.set_item("requeue_after", out.requeue_after.map(in_seconds))?;
        told.set_item("probed", out.probed)?;
        told.set_item("keep_probing", out.keep_probing)?;
        told.set_item("limited_by", out.limit)?;
        Ok(told)
    }

    fn next_activity(
        &self,
        before: &Bound<'_, PyAny>,
        initialized: bool,
        want: &Bound<'_, PyAny>,
        ready: &Bound<'_, PyAny>,
    ) -> PyResult<(&'static str, bool, &'static str)> {
        let (before, want, ready) = (activity(before)?, signed("want", want)?, count("ready", ready)?);
        let (after, reached, reason) = scaler::next_activity(self.lock().config(), before, initialized, want, ready);
        Ok((after.name(), reached, reason))
    }
}

/// The average of a metric over the last seconds, as Knative computes it.
#[pyclass(frozen, module = "aibalance.autoscaling.knative", name = "Window")]
pub(crate) struct PyWindow {
    inner: Mutex<Window>,
}

#[pymethods]
impl PyWindow {
    #[new]
    #[pyo3(signature = (window, /, *, granularity=None, weighted=false),
           text_signature = "(window, /, *, granularity=1.0, weighted=False)")]
    fn new(window: &Bound<'_, PyAny>, granularity: Option<&Bound<'_, PyAny>>, weighted: bool) -> PyResult<PyWindow> {
        let granularity = granularity.map_or(Ok(Nanos(1_000_000_000)), |g| duration("granularity", g))?;
        Ok(PyWindow { inner: Mutex::new(Window::new(duration("window", window)?, granularity, weighted)?) })
    }

    #[pyo3(signature = (value, /, *, at))]
    fn record(&self, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let at = instant("at", at)?;
        match real(value) {
            Some(v) if v.is_finite() && v.abs() <= MAX_METRIC => {
                self.inner.lock().record(at, v);
                Ok(())
            }
            _ => Err(metric_error("value", shown(value), "a finite number up to 2^360 is allowed").into()),
        }
    }

    #[pyo3(signature = (*, now))]
    fn average(&self, now: &Bound<'_, PyAny>) -> PyResult<f64> {
        let now = instant("now", now)?;
        Ok(self.inner.lock().average(now))
    }

    #[pyo3(signature = (*, now))]
    fn is_empty(&self, now: &Bound<'_, PyAny>) -> PyResult<bool> {
        let now = instant("now", now)?;
        Ok(self.inner.lock().is_empty(now))
    }

    #[pyo3(signature = (window, /, *, now))]
    fn resize(&self, window: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<()> {
        let (window, now) = (duration("window", window)?, instant("now", now)?);
        Ok(self.inner.lock().resize(window, now)?)
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.inner.lock().state();
        kept::to(py, &state)
    }

    #[classmethod]
    #[pyo3(signature = (state, /))]
    fn from_state(_cls: &Bound<'_, PyType>, state: &Bound<'_, PyAny>) -> PyResult<PyWindow> {
        let state = kept::from("state", state)?;
        Ok(PyWindow { inner: Mutex::new(Window::from_state(&Reader::new("state", &state)?)?) })
    }

    fn __repr__(&self) -> String {
        let w = self.inner.lock();
        let weighted = if w.weighted() { ", weighted=True" } else { "" };
        format!("Window({}, granularity={}{weighted})", in_seconds(w.length()), in_seconds(w.granularity()))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        Ok((slf.get_type().getattr("from_state")?, (slf.get().state(slf.py())?,)))
    }
}

/// The largest of the values of the last seconds: Knative's scale-down delay.
#[pyclass(frozen, module = "aibalance.autoscaling.knative", name = "MaxWindow")]
pub(crate) struct PyMaxWindow {
    inner: Mutex<MaxWindow>,
}

#[pymethods]
impl PyMaxWindow {
    #[new]
    #[pyo3(signature = (window, /, *, granularity=None), text_signature = "(window, /, *, granularity=2.0)")]
    fn new(window: &Bound<'_, PyAny>, granularity: Option<&Bound<'_, PyAny>>) -> PyResult<PyMaxWindow> {
        let granularity = granularity.map_or(Ok(Nanos(2_000_000_000)), |g| duration("granularity", g))?;
        Ok(PyMaxWindow { inner: Mutex::new(MaxWindow::new(duration("window", window)?, granularity)?) })
    }

    #[pyo3(signature = (value, /, *, at))]
    fn record(&self, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let at = instant("at", at)?;
        let value = signed("value", value)?;
        self.inner.lock().record(at, value);
        Ok(())
    }

    #[getter]
    fn current(&self) -> Option<i32> {
        self.inner.lock().current()
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.inner.lock().state();
        kept::to(py, &state)
    }

    #[classmethod]
    #[pyo3(signature = (state, /))]
    fn from_state(_cls: &Bound<'_, PyType>, state: &Bound<'_, PyAny>) -> PyResult<PyMaxWindow> {
        let state = kept::from("state", state)?;
        Ok(PyMaxWindow { inner: Mutex::new(MaxWindow::from_state(&Reader::new("state", &state)?)?) })
    }

    fn __repr__(&self) -> String {
        let current = self.current().map_or_else(|| "None".to_owned(), |v| v.to_string());
        format!("<MaxWindow, current={current}>")
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        Ok((slf.get_type().getattr("from_state")?, (slf.get().state(slf.py())?,)))
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<KnativeEngine>()?;
    m.add_class::<PyWindow>()?;
    m.add_class::<PyMaxWindow>()?;
    Ok(())
}
