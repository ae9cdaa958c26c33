//! Configuration, read once by attribute from the Python dataclasses.

use super::super::read::{real, refuse, whole};
use crate::core::autoscaling::hpa::Config;
use crate::core::autoscaling::hpa::behavior::{Behavior, Change, RatePolicy, Rules, Select};
use crate::core::autoscaling::hpa::calculator::{MetricSpec, Source, Target, Tolerance};
use crate::core::autoscaling::hpa::quantity;
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};
use std::sync::Arc;

const QUANTITY: &str = "a number, or a quantity as text such as \"500m\"";
const DURATION: &str = "seconds from 0 to 31536000, a year";

/// A text, or None for anything else.
fn text(value: &Bound<'_, PyAny>) -> Option<String> {
    Some(value.cast::<PyString>().ok()?.to_str().ok()?.to_owned())
}

/// Thousandths, from a number or a quantity.
pub(super) fn milli(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Some(text) = text(value) {
        return match quantity::parse(&text) {
            Ok(q) => Ok(q.milli()),
            Err(e) => Err(refuse(field, value, &e.allowed)),
        };
    }
    real(value).and_then(quantity::milli_of).ok_or_else(|| refuse(field, value, QUANTITY))
}

/// A tolerance: a float as it is, a quantity as the API converts it.
fn tolerance(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let found = match text(value) {
        Some(text) => quantity::parse(&text).ok().map(|q| q.approximate()),
        None => real(value),
    };
    found
        .filter(|t| t.is_finite() && *t >= 0.0)
        .ok_or_else(|| refuse(field, value, "a number or quantity of 0 or more"))
}

/// One tolerance for both directions, or a pair (down, up).
pub(super) fn tolerances(value: &Bound<'_, PyAny>) -> PyResult<Tolerance> {
    if let Ok(pair) = value.cast::<PyTuple>()
        && pair.len() == 2
    {
        let at = |i: usize, name: &str| tolerance(&format!("tolerance ({name})"), &pair.get_item(i)?);
        return Ok(Tolerance { down: at(0, "down")?, up: at(1, "up")? });
    }
    let both = tolerance("tolerance", value)?;
    Ok(Tolerance { down: both, up: both })
}

fn duration(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    match real(value) {
        Some(s) if (0.0..=31_536_000.0).contains(&s) => Ok(Nanos::from_secs_f64(s)),
        _ => Err(refuse(field, value, DURATION)),
    }
}

/// A duration in signed nanoseconds.
pub(super) fn nanoseconds(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    Ok(i64::try_from(duration(field, value)?.0).unwrap_or(i64::MAX))
}

fn count(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i32> {
    let number = whole(value).and_then(|n| i32::try_from(n).ok());
    number.ok_or_else(|| refuse(field, value, "a whole number up to 2147483647"))
}

fn items<'py>(field: &str, value: &Bound<'py, PyAny>, what: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    match value.cast::<PyTuple>() {
        Ok(tuple) => Ok(tuple.iter().collect()),
        Err(_) => Err(refuse(field, value, what)),
    }
}

/// One metric.
pub(super) fn metric(field: &str, item: &Bound<'_, PyAny>) -> PyResult<MetricSpec> {
    let wrong = || refuse(field, item, "a ResourceMetric, PodsMetric, ObjectMetric or ExternalMetric");
    let source = item.getattr("_source").ok().as_ref().and_then(text).ok_or_else(wrong)?;
    let source = match source.as_str() {
        "resource" => Source::Resource,
        "pods" => Source::Pods,
        "object" => Source::Object,
        "external" => Source::External,
        _ => return Err(wrong()),
    };
    let get = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        let value = item.getattr_opt(name)?;
        Ok(value.filter(|v| !v.is_none()))
    };
    let named = |name: &str| {
        let at = format!("{field}.{name}");
        get(name)?.map(|v| text(&v).map(Arc::<str>::from).ok_or_else(|| refuse(&at, &v, "text"))).transpose()
    };
    let name = named("name")?.unwrap_or_else(|| "".into());
    let container = named("container")?;
    let default = || container.as_ref().map_or_else(|| Arc::clone(&name), |c| format!("{c}/{name}").into());
    let key = named("key")?.unwrap_or_else(default);
    let (utilization, average, value) = (get("average_utilization")?, get("average_value")?, get("value")?);
    let target = match (&utilization, &average, &value) {
        (_, Some(_), Some(v)) if source == Source::Object => {
            return Err(refuse(&format!("{field}.value"), v, "only one of value and average_value"));
        }
        // Of two targets this one counts, as there.
        (_, Some(v), _) => Target::AverageValue(milli(&format!("{field}.average_value"), v)?),
        (_, None, Some(v)) => Target::Value(milli(&format!("{field}.value"), v)?),
        (Some(v), None, None) => Target::Utilization(count(&format!("{field}.average_utilization"), v)?),
        (None, None, None) => return Err(refuse(field, item, "a target: average_utilization, average_value or value")),
    };
    Ok(MetricSpec { name, key, source, container, target })
}

fn choice<T: Copy>(field: &str, value: &Bound<'_, PyAny>, choices: &[(&str, T)]) -> PyResult<T> {
    let name = text(value);
    choices.iter().find(|(n, _)| Some(*n) == name.as_deref()).map(|(_, c)| *c).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
        refuse(field, value, &format!("one of {}", names.join(", ")))
    })
}

fn policy(field: &str, item: &Bound<'_, PyAny>) -> PyResult<RatePolicy> {
    let get = |name: &str| item.getattr(name).map_err(|_| refuse(field, item, "a ScalingPolicy"));
    Ok(RatePolicy {
        kind: choice(&format!("{field}.kind"), &get("kind")?, &[("pods", Change::Pods), ("percent", Change::Percent)])?,
        value: count(&format!("{field}.value"), &get("value")?)?,
        period: duration(&format!("{field}.period"), &get("period")?)?,
    })
}

/// One direction: what is not given is the default, policies as a whole list.
fn rules(field: &str, item: &Bound<'_, PyAny>, window: Nanos, policies: Vec<RatePolicy>) -> PyResult<Rules> {
    let mut out = Rules { window, select: Select::Max, policies, tolerance: None };
    if item.is_none() {
        return Ok(out);
    }
    let get = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        let value = item.getattr(name).map_err(|_| refuse(field, item, "ScalingRules, or None for the defaults"))?;
        Ok(Some(value).filter(|v| !v.is_none()))
    };
    if let Some(v) = get("stabilization_window")? {
        out.window = duration(&format!("{field}.stabilization_window"), &v)?;
    }
    if let Some(v) = get("select_policy")? {
        let choices = [("max", Select::Max), ("min", Select::Min), ("disabled", Select::Disabled)];
        out.select = choice(&format!("{field}.select_policy"), &v, &choices)?;
    }
    if let Some(v) = get("policies")? {
        let at = format!("{field}.policies");
        let list = items(&at, &v, "a sequence of ScalingPolicy")?;
        out.policies =
            list.iter().enumerate().map(|(i, p)| policy(&format!("{at}[{i}]"), p)).collect::<PyResult<_>>()?;
    }
    if let Some(v) = get("tolerance")? {
        out.tolerance = Some(tolerance(&format!("{field}.tolerance"), &v)?);
    }
    Ok(out)
}

fn behavior(item: &Bound<'_, PyAny>, window: Nanos) -> PyResult<Option<Behavior>> {
    if item.is_none() {
        return Ok(None);
    }
    let get = |name: &str| item.getattr(name).map_err(|_| refuse("behavior", item, "a Behavior, or None"));
    let rate = |kind, value| RatePolicy { kind, value, period: Nanos(15_000_000_000) };
    let ups = vec![rate(Change::Pods, 4), rate(Change::Percent, 100)];
    // The controller's own window, in whole seconds.
    let window = Nanos(window.0 / 1_000_000_000 * 1_000_000_000);
    Ok(Some(Behavior {
        up: rules("behavior.scale_up", &get("scale_up")?, Nanos::ZERO, ups)?,
        down: rules("behavior.scale_down", &get("scale_down")?, window, vec![rate(Change::Percent, 100)])?,
    }))
}

/// The whole configuration.
pub(super) fn read(config: &Bound<'_, PyAny>) -> PyResult<Config> {
    let get = |name: &str| config.getattr(name);
    let metrics = items("metrics", &get("metrics")?, "a sequence of metrics")?;
    let zero = get("scale_to_zero")?;
    let downscale_window = duration("downscale_stabilization", &get("downscale_stabilization")?)?;
    Ok(Config {
        metrics: metrics
            .iter()
            .enumerate()
            .map(|(i, m)| metric(&format!("metrics[{i}]"), m))
            .collect::<PyResult<_>>()?,
        min: count("min_replicas", &get("min_replicas")?)?,
        max: count("max_replicas", &get("max_replicas")?)?,
        behavior: behavior(&get("behavior")?, downscale_window)?,
        tolerance: tolerance("tolerance", &get("tolerance")?)?,
        downscale_window,
        cpu_initialization: nanoseconds("cpu_initialization_period", &get("cpu_initialization_period")?)?,
        readiness_delay: nanoseconds("initial_readiness_delay", &get("initial_readiness_delay")?)?,
        scale_to_zero: match zero.cast::<PyBool>() {
            Ok(b) => b.is_true(),
            Err(_) => return Err(refuse("scale_to_zero", &zero, "True or False")),
        },
    })
}
