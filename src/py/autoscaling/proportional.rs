//! The binding of proportional scaling.

use super::config::{bounds, float, optional_integer, seconds, text};
use super::kept;
use super::observation::with_observation;
use super::read::{real, refuse, whole};
use super::recommendation::PyRecommendation;
use crate::core::autoscaling::metric_error;
use crate::core::autoscaling::proportional::{Need, Proportional, ProportionalConfig, Range};
use crate::core::sync::{Mutex, MutexGuard};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

fn optional_float(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Option<f64>> {
    if config.getattr(field)?.is_none() { Ok(None) } else { float(config, field).map(Some) }
}

fn steps(given: &Bound<'_, PyAny>) -> PyResult<Vec<Range>> {
    let allowed = "(low, high, change): two numbers or None, and a whole number";
    let items = given.cast::<PyTuple>().map_err(|_| refuse("steps", given, "a sequence of (low, high, change)"))?;
    let mut found = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let wrong = || refuse(&format!("steps[{i}]"), &item, allowed);
        let (low, high, change): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
            item.extract().map_err(|_| wrong())?;
        let bound = |v: &Bound<'_, PyAny>, open: f64| if v.is_none() { Some(open) } else { real(v) };
        found.push(Range {
            low: bound(&low, f64::NEG_INFINITY).ok_or_else(wrong)?,
            high: bound(&high, f64::INFINITY).ok_or_else(wrong)?,
            change: whole(&change).ok_or_else(wrong)?,
        });
    }
    Ok(found)
}

fn read(config: &Bound<'_, PyAny>) -> PyResult<ProportionalConfig> {
    let need = if config.hasattr("steps")? {
        Need::Steps(steps(&config.getattr("steps")?)?)
    } else {
        let (target, tolerance) = (float(config, "target")?, float(config, "tolerance")?);
        let kind = text(config, "metric_type")?;
        let measured = config.getattr("measured")?;
        match kind.as_str() {
            "average" => {
                let measured = if measured.is_none() { None } else { Some(text(config, "measured")?) };
                Need::Average { target, tolerance, measured }
            }
            "total" if measured.is_none() => Need::Total { target, tolerance },
            "total" => return Err(refuse("measured", &measured, "None for a total, which is over all servers")),
            _ => return Err(refuse("metric_type", &config.getattr("metric_type")?, "one of average, total")),
        }
    };
    Ok(ProportionalConfig {
        metric: text(config, "metric")?,
        need,
        bounds: bounds(config)?,
        stabilization: seconds(config, "stabilization")?,
        growth_factor: optional_float(config, "growth_factor")?,
        growth_step: optional_integer(config, "growth_step")?,
        shrink_share: optional_float(config, "shrink_share")?,
        cooldown: seconds(config, "cooldown")?,
    })
}

/// The native half of the policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "ProportionalEngine")]
pub(crate) struct ProportionalEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<Proportional>,
}

impl ProportionalEngine {
    fn lock(&self) -> MutexGuard<'_, Proportional> {
        self.policy.lock()
    }

    /// The same configuration with an empty memory.
    pub(crate) fn fresh(&self) -> Proportional {
        self.lock().fresh()
    }
}

#[pymethods]
impl ProportionalEngine {
    #[new]
    fn new(config: &Bound<'_, PyAny>) -> PyResult<ProportionalEngine> {
        Ok(ProportionalEngine { policy: Mutex::new(Proportional::new(read(config)?)?) })
    }

    fn recommend(&self, observation: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<PyRecommendation> {
        let now = super::instant("now", now)?;
        let told = with_observation(observation, |obs| self.lock().recommend(obs, now))??;
        PyRecommendation::told(told).ranked(observation, now)
    }

    /// This policy keeps no samples: it decides on what each observation says.
    fn record(&self, name: &str, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        let (_, _) = (value, at);
        let allowed = "nothing is recorded: put the metric into each observation";
        Err(metric_error(name, "a sample", allowed).into())
    }

    fn rejected(&self, recommendation: &PyRecommendation) {
        if let Some((serial, _)) = recommendation.identity() {
            self.lock().rejected(serial);
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

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ProportionalEngine>()
}
