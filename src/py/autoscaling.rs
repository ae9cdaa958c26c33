//! The binding of the scaling policies: reads configuration and observations, locks shortly, converts the answer.

mod clouds;
mod config;
mod hpa;
mod keda;
mod kept;
mod knative;
mod observation;
mod plain;
mod proportional;
mod read;
mod recommendation;
mod removal;
mod state;

use crate::core::autoscaling::{Combined, CombinedConfig, Policy, StepScaling, TargetTracking, rounding};
use crate::core::error::ConfigError;
use crate::core::sync::{Mutex, MutexGuard};
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) use hpa::HpaEngine;
pub(crate) use kept::{from as plain_from, instant as moment, to as plain_to};
pub(crate) use observation::PyObservation;
pub(crate) use proportional::ProportionalEngine;
pub(crate) use recommendation::PyRecommendation;

/// The native half of a policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "ScalingEngine")]
pub(crate) struct ScalingEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<Box<dyn Policy>>,
}

impl ScalingEngine {
    fn new(policy: Box<dyn Policy>) -> ScalingEngine {
        ScalingEngine { policy: Mutex::new(policy) }
    }

    /// The same configuration with an empty memory, for whoever runs the policy itself.
    pub(crate) fn fresh(&self) -> Box<dyn Policy> {
        self.lock().fresh()
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Policy>> {
        self.policy.lock()
    }
}

#[pymethods]
impl ScalingEngine {
    /// Target tracking, configured by the attributes of `config`.
    #[staticmethod]
    fn target_tracking(config: &Bound<'_, PyAny>) -> PyResult<ScalingEngine> {
        Ok(ScalingEngine::new(Box::new(TargetTracking::new(config::target_tracking(config)?)?)))
    }

    /// Step scaling, configured by the attributes of `config`.
    #[staticmethod]
    fn step_scaling(config: &Bound<'_, PyAny>) -> PyResult<ScalingEngine> {
        Ok(ScalingEngine::new(Box::new(StepScaling::new(config::step_scaling(config)?)?)))
    }

    /// Several policies as one, each with a memory of its own.
    #[staticmethod]
    fn combined(policies: Vec<Bound<'_, ScalingEngine>>, config: &Bound<'_, PyAny>) -> PyResult<ScalingEngine> {
        let (min_capacity, max_capacity) = config::optional_bounds(config)?;
        let policies = policies.iter().map(|p| p.get().fresh()).collect();
        let combined = Combined::new(CombinedConfig { policies, min_capacity, max_capacity })?;
        Ok(ScalingEngine::new(Box::new(combined)))
    }

    /// The decision for an observation, at a time in seconds.
    fn recommend(&self, observation: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let rec = observation::with_observation(observation, |obs| self.lock().recommend(obs, now))??;
        PyRecommendation::new(rec).ranked(observation, now)
    }

    /// Takes up one sample of a metric.
    fn record(&self, name: &str, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let at = instant("at", at)?;
        let value = observation::metric_value(name, value)?;
        Ok(self.lock().record(name, value, at)?)
    }

    /// Takes back the assumption that the recommendation was carried out.
    fn rejected(&self, recommendation: &PyRecommendation) {
        if let Some(own) = recommendation.inner() {
            self.lock().rejected(own);
        }
    }

    /// The memory as a plain dictionary.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.lock().state();
        state::to_dict(py, &state)
    }

    /// Takes over a memory, or changes nothing.
    fn restore(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = state::from_dict("state", state)?;
        Ok(self.lock().restore(state)?)
    }
}

/// An instant in seconds: finite and not negative.
fn instant(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    match read::real(value) {
        Some(s) if s.is_finite() && s >= 0.0 => Ok(Nanos::from_secs_f64(s)),
        _ => Err(ConfigError::new(field, read::shown(value), "finite seconds of 0 or more").into()),
    }
}

/// AWS's rounding of a fractional change in capacity.
///
/// Zero stays zero, a change of less than one becomes one, a larger one is cut toward zero. A change within one part in
/// 10^9 of a whole number is that number, so that 0.29 * 100 is 29.
/// Raises ConfigError for what is not a finite number. Source: EC2 Auto Scaling user guide, step scaling policies.
///
/// >>> from aibalance.autoscaling import round_percent_change
/// >>> [round_percent_change(x) for x in (12.7, 0.67, -0.58, -6.67)]
/// [12, 1, -1, -6]
#[pyfunction]
#[pyo3(signature = (change, /))]
fn round_percent_change(change: &Bound<'_, PyAny>) -> PyResult<i64> {
    match read::real(change) {
        Some(c) if c.is_finite() && c.abs() < 9e18 => Ok(rounding::round_percent_change(c)),
        _ => Err(ConfigError::new("change", read::shown(change), "a finite number below 9e18").into()),
    }
}

/// Adds this room's classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ScalingEngine>()?;
    m.add_class::<PyObservation>()?;
    m.add_class::<PyRecommendation>()?;
    m.add_function(wrap_pyfunction!(round_percent_change, m)?)?;
    m.add_function(wrap_pyfunction!(removal::_rank_removals, m)?)?;
    clouds::register(m)?;
    hpa::register(m)?;
    keda::register(m)?;
    knative::register(m)?;
    proportional::register(m)?;
    Ok(())
}
