//! The binding of KEDA's scaled objects.

use super::config::{choice, flag, float, integer, optional_integer, seconds, text};
use super::kept::{self, instant};
use super::knative::small;
use super::observation::{metric_value, with_observation};
use super::read::{real, refuse, whole};
use super::recommendation::PyRecommendation;
use crate::core::autoscaling::keda::milli;
use crate::core::autoscaling::keda::{
    Behavior, ExecutorConfig, FallbackConfig, FallbackInput, Formula, FormulaError, Health, KedaConfig, KedaPolicy,
    Modifiers, TargetType, Trigger, fallback, formula,
};
use crate::core::error::ConfigError;
use crate::core::sync::{Mutex, MutexGuard};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

impl From<FormulaError> for PyErr {
    fn from(e: FormulaError) -> PyErr {
        crate::core::error::ConfigError::new("formula", e.message, "a formula that gives a number").into()
    }
}

const TYPES: [(&str, TargetType); 2] = [("AverageValue", TargetType::AverageValue), ("Value", TargetType::Value)];

const BEHAVIORS: [(&str, Behavior); 5] = [
    ("static", Behavior::Static),
    ("currentReplicas", Behavior::CurrentReplicas),
    ("currentReplicasIfHigher", Behavior::CurrentReplicasIfHigher),
    ("currentReplicasIfLower", Behavior::CurrentReplicasIfLower),
    ("scalingModifiers", Behavior::ScalingModifiers),
];

fn optional_small(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Option<i32>> {
    if config.getattr(field)?.is_none() { Ok(None) } else { small(config, field).map(Some) }
}

fn fallback_config(value: &Bound<'_, PyAny>) -> PyResult<Option<FallbackConfig>> {
    if value.is_none() {
        return Ok(None);
    }
    Ok(Some(FallbackConfig {
        failure_threshold: integer(value, "failure_threshold")?,
        replicas: integer(value, "replicas")?,
        behavior: choice(value, "behavior", &BEHAVIORS)?,
    }))
}

fn read(config: &Bound<'_, PyAny>) -> PyResult<KedaConfig> {
    let given = config.getattr("triggers")?;
    let items = given.cast::<PyTuple>().map_err(|_| refuse("triggers", &given, "a sequence of Trigger"))?;
    let mut triggers = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        if !item.hasattr("activation_threshold")? {
            return Err(refuse(&format!("triggers[{i}]"), &item, "a Trigger"));
        }
        let kind = text(&item, "type")?;
        triggers.push(Trigger {
            name: text(&item, "name")?,
            threshold: float(&item, "threshold")?,
            activation_threshold: float(&item, "activation_threshold")?,
            target_type: choice(
                &item,
                "metric_type",
                &[TYPES[0], TYPES[1], ("Utilization", TargetType::AverageValue)],
            )?,
            resource: kind == "cpu" || kind == "memory",
        });
    }
    let fallback = fallback_config(&config.getattr("fallback")?)?;
    let given = config.getattr("modifiers")?;
    let modifiers = if given.is_none() {
        None
    } else {
        let names = triggers.iter().map(|t| t.name.clone()).collect();
        Some(Modifiers {
            formula: Formula::new(&text(&given, "formula")?, names)?,
            target: given.getattr("target")?.str()?.to_string(),
            activation_target: float(&given, "activation_target")?,
            target_type: choice(&given, "metric_type", &TYPES)?,
        })
    };
    let created = config.getattr("created")?;
    Ok(KedaConfig {
        triggers,
        max: small(config, "max_replicas")?,
        executor: ExecutorConfig {
            min: optional_small(config, "min_replicas")?,
            idle: optional_small(config, "idle_replicas")?,
            cooldown: seconds(config, "cooldown_period")?,
            initial_cooldown: seconds(config, "initial_cooldown_period")?,
            fallback_replicas: fallback.map(|f| f.replicas),
            paused: flag(config, "paused")? || optional_integer(config, "paused_replicas")?.is_some(),
            paused_scale_in: flag(config, "paused_scale_in")?,
            paused_scale_out: flag(config, "paused_scale_out")?,
            force_activation: flag(config, "force_activation")?,
        },
        fallback,
        modifiers,
        paused_replicas: optional_small(config, "paused_replicas")?,
        created: if created.is_none() { None } else { Some(instant("created", &created)?) },
    })
}

/// The native half of the policy: its configuration as read once, and its memory behind a short lock.
#[pyclass(frozen, module = "aibalance._core", name = "KedaEngine")]
pub(crate) struct KedaEngine {
    // Held for one decision, without Python inside.
    policy: Mutex<KedaPolicy>,
}

impl KedaEngine {
    fn lock(&self) -> MutexGuard<'_, KedaPolicy> {
        self.policy.lock()
    }
}

#[pymethods]
impl KedaEngine {
    #[new]
    fn new(config: &Bound<'_, PyAny>) -> PyResult<KedaEngine> {
        Ok(KedaEngine { policy: Mutex::new(KedaPolicy::new(read(config)?)?) })
    }

    fn recommend(&self, observation: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let told = with_observation(observation, |obs| self.lock().recommend(obs, now))??;
        PyRecommendation::told(told).ranked(observation, now)
    }

    fn decide(
        &self,
        active: bool,
        error: bool,
        observation: &Bound<'_, PyAny>,
        now: &Bound<'_, PyAny>,
    ) -> PyResult<PyRecommendation> {
        let now = instant("now", now)?;
        let told = with_observation(observation, |obs| self.lock().decide(active, error, obs, now))??;
        PyRecommendation::told(told).ranked(observation, now)
    }

    fn record(&self, name: &str, value: &Bound<'_, PyAny>, at: &Bound<'_, PyAny>) -> PyResult<()> {
        instant("at", at)?;
        let value = metric_value(name, value)?;
        Ok(self.lock().record(name, value)?)
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

/// A formula over triggers, in the expression language of expr-lang.
#[pyclass(frozen, module = "aibalance.autoscaling.keda", name = "Formula")]
pub(crate) struct PyFormula {
    inner: Formula,
}

impl PyFormula {
    fn result(&self, values: &Bound<'_, PyDict>) -> PyResult<Option<f64>> {
        let mut found: Vec<(String, Option<i64>)> = Vec::with_capacity(values.len());
        for (k, v) in values.iter() {
            let name: String = k.extract().map_err(|_| refuse("values", &k, "names of triggers"))?;
            if !self.inner.names().contains(&name) {
                let allowed = format!("names of triggers: {}", self.inner.names().join(", "));
                return Err(refuse("values", &k, &allowed));
            }
            found.push((name.clone(), metric_value(&name, &v)?.map(milli)));
        }
        if let Some(missing) = self.inner.names().iter().find(|n| !found.iter().any(|(f, _)| f == *n)) {
            return Err(
                ConfigError::new("values", format!("no {missing:?}"), "a value, or None, for each trigger").into()
            );
        }
        let value = |name: &str| found.iter().find(|(n, _)| n == name).and_then(|(_, v)| *v);
        Ok(self.inner.evaluate(value)?)
    }
}

#[pymethods]
impl PyFormula {
    #[new]
    #[pyo3(signature = (text, names, /))]
    fn new(text: &Bound<'_, PyString>, names: &Bound<'_, PyAny>) -> PyResult<PyFormula> {
        let text = text.to_str().map_err(|_| refuse("text", text, "text that is valid Unicode"))?;
        let mut found = Vec::new();
        if names.is_instance_of::<PyString>() {
            return Err(refuse("names", names, "a sequence of names"));
        }
        for name in names.try_iter().map_err(|_| refuse("names", names, "a sequence of names"))? {
            let name = name?;
            found.push(name.extract::<String>().map_err(|_| refuse("names", &name, "names that are text"))?);
        }
        Ok(PyFormula { inner: Formula::new(text, found)? })
    }

    #[getter]
    fn text(&self) -> &str {
        self.inner.text()
    }

    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.names())
    }

    #[pyo3(signature = (values, /))]
    fn evaluate(&self, values: &Bound<'_, PyDict>) -> PyResult<Option<f64>> {
        self.result(values)
    }

    #[pyo3(signature = (values, /))]
    fn milli(&self, values: &Bound<'_, PyDict>) -> PyResult<Option<i64>> {
        Ok(self.result(values)?.map(formula::in_milli))
    }

    fn __repr__(&self) -> String {
        let names: Vec<String> = self.inner.names().iter().map(|n| format!("{n:?}")).collect();
        format!("Formula({:?}, [{}])", self.inner.text(), names.join(", "))
    }

    fn __eq__(&self, other: &PyFormula) -> bool {
        self.inner.text() == other.inner.text() && self.inner.names() == other.inner.names()
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut h = DefaultHasher::new();
        self.inner.text().hash(&mut h);
        self.inner.names().hash(&mut h);
        h.finish()
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> PyResult<(&str, Bound<'py, PyTuple>)> {
        Ok((self.inner.text(), self.names(py)?))
    }
}

type Served = (Option<i64>, bool, bool, bool, Option<i64>, Option<&'static str>);

/// One trigger's value, or what stands for it: thousandths, composite, by fallback, placeholder, failures, health.
#[pyfunction]
#[pyo3(signature = (config, value, failures, target, target_type, modifiers, current, ready))]
#[allow(clippy::too_many_arguments)]
fn _keda_fallback(
    config: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    failures: &Bound<'_, PyAny>,
    target: &Bound<'_, PyAny>,
    target_type: &str,
    modifiers: Option<(String, String)>,
    current: &Bound<'_, PyAny>,
    ready: &Bound<'_, PyAny>,
) -> PyResult<Served> {
    let config = fallback_config(config)?;
    let kind = |field: &str, name: &str| match TYPES.iter().find(|(n, _)| *n == name) {
        Some((_, kind)) => Ok(*kind),
        None => Err(PyErr::from(ConfigError::new(field, format!("{name:?}"), "one of AverageValue, Value"))),
    };
    let count = |field: &str, value: &Bound<'_, PyAny>| match whole(value) {
        Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok(n),
        _ => Err(refuse(field, value, "a whole number from 0 to 2147483647")),
    };
    let goal = real(target).filter(|t| t.is_finite() && *t >= 0.0);
    let input = FallbackInput {
        target: goal.ok_or_else(|| refuse("target", target, "a finite number of 0 or more"))?,
        target_type: kind("target_type", target_type)?,
        modifiers: match &modifiers {
            None => None,
            Some((target, name)) => Some((target.as_str(), kind("modifiers.metric_type", name)?)),
        },
        current: count("current", current)?,
        ready: count("ready", ready)?,
    };
    let s = fallback::serve(config.as_ref(), metric_value("value", value)?, count("failures", failures)?, &input);
    let health = s.health.map(|h| match h {
        Health::Happy => "Happy",
        Health::Failing => "Failing",
    });
    Ok((s.milli, s.composite, s.fallback, s.placeholder, s.failures, health))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<KedaEngine>()?;
    m.add_class::<PyFormula>()?;
    m.add_function(wrap_pyfunction!(_keda_fallback, m)?)?;
    Ok(())
}
