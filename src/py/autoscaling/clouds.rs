//! The binding of the clouds' policies: one engine, configured by a dictionary.

use super::kept::{self, instant};
use super::observation::{metric_value, with_observation};
use super::read::{refuse, whole};
use super::recommendation::PyRecommendation;
use crate::core::autoscaling::clouds::{CloudPolicy, Seen, build, ray_serve};
use crate::core::autoscaling::told::Plain;
use crate::core::autoscaling::{MAX_CAPACITY, MAX_METRIC};
use crate::core::sync::{Mutex, MutexGuard};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Named values, each with its own name in a message.
fn fields(values: &Bound<'_, PyDict>) -> PyResult<Plain> {
    let mut out = Vec::with_capacity(values.len());
    for (name, value) in values.iter() {
        let name: String = name.extract()?;
        let plain = kept::from(&name, &value)
            .map_err(|_| refuse(&name, &value, "a number, a text, True, False, None, or a sequence of those"))?;
        out.push((name, plain));
    }
    Ok(Plain::Map(out))
}

/// The native half of a policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "CloudEngine")]
pub(crate) struct CloudEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<Box<dyn CloudPolicy>>,
}

impl CloudEngine {
    fn lock(&self) -> MutexGuard<'_, Box<dyn CloudPolicy>> {
        self.policy.lock()
    }
}

#[pymethods]
impl CloudEngine {
    #[new]
    fn new(kind: &str, config: &Bound<'_, PyDict>) -> PyResult<CloudEngine> {
        Ok(CloudEngine { policy: Mutex::new(build(kind, &fields(config)?)?) })
    }

    #[pyo3(signature = (observation, now, given=None))]
    fn recommend(
        &self,
        observation: &Bound<'_, PyAny>,
        now: &Bound<'_, PyAny>,
        given: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let given = given.map_or(Ok(Plain::Map(Vec::new())), fields)?;
        let told = with_observation(observation, |obs| {
            obs.check()?;
            self.lock().recommend(&Seen { obs, given: &given, now })
        })??;
        PyRecommendation::told(told).ranked(observation, now)
    }

    /// What an observation says, for who wraps a policy.
    #[staticmethod]
    fn asked(observation: &Bound<'_, PyAny>) -> PyResult<i64> {
        with_observation(observation, |obs| obs.check().map(|()| obs.asked()))?.map_err(Into::into)
    }

    fn record(&self, name: &str, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let (value, at) = (metric_value(name, value)?, instant("at", at)?);
        Ok(self.lock().record(name, value, at)?)
    }

    fn learn(&self, given: &Bound<'_, PyDict>) -> PyResult<()> {
        let given = fields(given)?;
        Ok(self.lock().learn(&given)?)
    }

    fn rejected(&self, recommendation: &PyRecommendation) {
        if let Some((serial, at)) = recommendation.identity() {
            self.lock().rejected(serial, at);
        }
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.lock().state();
        kept::to(py, &state)
    }

    fn restore(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = kept::from("state", state)?;
        Ok(self.lock().restore(&state)?)
    }
}

fn count(field: &str, value: &Bound<'_, PyAny>, low: i64) -> PyResult<i64> {
    let allowed = format!("a whole number from {low} to {MAX_CAPACITY}");
    whole(value).filter(|n| (low..=MAX_CAPACITY).contains(n)).ok_or_else(|| refuse(field, value, &allowed))
}

fn number(field: &str, value: &Bound<'_, PyAny>, allowed: &str, fits: impl Fn(f64) -> bool) -> PyResult<f64> {
    let found = super::read::real(value).filter(|x| x.is_finite() && x.abs() <= MAX_METRIC && fits(*x));
    found.ok_or_else(|| refuse(field, value, allowed))
}

#[pyfunction]
#[pyo3(signature = (desired, current, /, *, upscaling_factor=None, downscaling_factor=None),
       text_signature = "(desired, current, /, *, upscaling_factor=1.0, downscaling_factor=1.0)")]
fn scale_by_factor(
    desired: &Bound<'_, PyAny>,
    current: &Bound<'_, PyAny>,
    upscaling_factor: Option<&Bound<'_, PyAny>>,
    downscaling_factor: Option<&Bound<'_, PyAny>>,
) -> PyResult<i64> {
    let factor = |name: &str, value: Option<&Bound<'_, PyAny>>| {
        value.map_or(Ok(1.0), |v| number(name, v, "a number above 0", |x| x > 0.0))
    };
    let desired = number("desired", desired, "a finite number", |_| true)?;
    let (up, down) = (factor("upscaling_factor", upscaling_factor)?, factor("downscaling_factor", downscaling_factor)?);
    Ok(ray_serve::apply_factor(desired, count("current", current, 0)?, up, down))
}

#[pyfunction]
#[pyo3(signature = (replicas, target_capacity, /))]
fn adjust_to_capacity(replicas: &Bound<'_, PyAny>, target_capacity: Option<&Bound<'_, PyAny>>) -> PyResult<i64> {
    let percent = target_capacity
        .map(|p| number("target_capacity", p, "percent from 0 to 100, or None", |x| (0.0..=100.0).contains(&x)));
    Ok(ray_serve::at_capacity(count("replicas", replicas, 0)?, percent.transpose()?))
}

#[pyfunction]
#[pyo3(signature = (replicas, gang_size, /))]
fn round_to_gangs(replicas: &Bound<'_, PyAny>, gang_size: &Bound<'_, PyAny>) -> PyResult<i64> {
    Ok(ray_serve::whole_gangs(count("replicas", replicas, 0)?, count("gang_size", gang_size, 1)?))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<CloudEngine>()?;
    m.add_function(wrap_pyfunction!(scale_by_factor, m)?)?;
    m.add_function(wrap_pyfunction!(adjust_to_capacity, m)?)?;
    m.add_function(wrap_pyfunction!(round_to_gangs, m)?)?;
    Ok(())
}
