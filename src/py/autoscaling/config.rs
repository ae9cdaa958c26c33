//! Configuration, read once by attribute from the Python dataclasses. Defaults live there.

use super::read::{real, refuse, whole};
use crate::core::autoscaling::alarm::Datapoints;
use crate::core::autoscaling::memory::Timing;
use crate::core::autoscaling::{
    AdjustmentType, Aggregation, Bounds, Direction, Step, StepConfig, TargetTrackingConfig,
};
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};

pub(super) fn float(config: &Bound<'_, PyAny>, field: &str) -> PyResult<f64> {
    let value = config.getattr(field)?;
    real(&value).ok_or_else(|| refuse(field, &value, "a number"))
}

pub(super) fn integer(config: &Bound<'_, PyAny>, field: &str) -> PyResult<i64> {
    let value = config.getattr(field)?;
    whole(&value).ok_or_else(|| refuse(field, &value, "a whole number that fits in 64 bits"))
}

pub(super) fn optional_integer(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Option<i64>> {
    if config.getattr(field)?.is_none() { Ok(None) } else { integer(config, field).map(Some) }
}

pub(super) fn flag(config: &Bound<'_, PyAny>, field: &str) -> PyResult<bool> {
    let value = config.getattr(field)?;
    match value.cast::<PyBool>() {
        Ok(b) => Ok(b.is_true()),
        Err(_) => Err(refuse(field, &value, "True or False")),
    }
}

pub(super) fn text(config: &Bound<'_, PyAny>, field: &str) -> PyResult<String> {
    let value = config.getattr(field)?;
    match value.cast::<PyString>() {
        Ok(s) => Ok(s.to_str().map_err(|_| refuse(field, &value, "text that is valid Unicode"))?.to_owned()),
        Err(_) => Err(refuse(field, &value, "text")),
    }
}

pub(super) fn seconds(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Nanos> {
    let value = config.getattr(field)?;
    match real(&value) {
        Some(s) if (0.0..=31_536_000.0).contains(&s) => Ok(Nanos::from_secs_f64(s)),
        _ => Err(refuse(field, &value, "seconds from 0 to 31536000, a year")),
    }
}

fn datapoints(config: &Bound<'_, PyAny>, field: &str) -> PyResult<Option<Datapoints>> {
    let value = config.getattr(field)?;
    if value.is_none() {
        return Ok(None);
    }
    let pair = value.cast::<PyTuple>().ok().filter(|t| t.len() == 2);
    let numbers = pair.and_then(|t| Some((whole(&t.get_item(0).ok()?)?, whole(&t.get_item(1).ok()?)?)));
    match numbers {
        Some((m, n)) => Ok(Some(Datapoints::new(field, m, n)?)),
        None => Err(refuse(field, &value, "a pair (m, n) of whole numbers, or None to decide on each observation")),
    }
}

pub(super) fn choice<T: Copy>(config: &Bound<'_, PyAny>, field: &str, choices: &[(&str, T)]) -> PyResult<T> {
    let value = config.getattr(field)?;
    let name = value.cast::<PyString>().ok().and_then(|s| s.to_str().ok());
    match choices.iter().find(|(n, _)| Some(*n) == name) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
            Err(refuse(field, &value, &format!("one of {}", names.join(", "))))
        }
    }
}

pub(super) fn bounds(config: &Bound<'_, PyAny>) -> PyResult<Bounds> {
    Ok(Bounds::new(integer(config, "min_capacity")?, integer(config, "max_capacity")?)?)
}

pub(super) fn optional_bounds(config: &Bound<'_, PyAny>) -> PyResult<(Option<i64>, Option<i64>)> {
    Ok((optional_integer(config, "min_capacity")?, optional_integer(config, "max_capacity")?))
}

pub(super) fn target_tracking(config: &Bound<'_, PyAny>) -> PyResult<TargetTrackingConfig> {
    Ok(TargetTrackingConfig {
        metric: text(config, "metric")?,
        target: float(config, "target")?,
        bounds: bounds(config)?,
        disable_scale_in: flag(config, "disable_scale_in")?,
        scale_in_ratio: float(config, "scale_in_ratio")?,
        high_alarm: datapoints(config, "high_alarm")?,
        low_alarm: datapoints(config, "low_alarm")?,
        period: seconds(config, "period")?,
        timing: Timing {
            warmup: seconds(config, "warmup")?,
            scale_out_cooldown: seconds(config, "scale_out_cooldown")?,
            scale_in_cooldown: seconds(config, "scale_in_cooldown")?,
        },
        scale_from_zero: flag(config, "scale_from_zero")?,
    })
}

fn step(i: usize, item: &Bound<'_, PyAny>) -> PyResult<Step> {
    let field = |name: &str| format!("steps[{i}].{name}");
    let get = |name: &str| item.getattr(name).map_err(|_| refuse(&format!("steps[{i}]"), item, "a Step"));
    let bound = |name: &str| {
        let value = get(name)?;
        if value.is_none() {
            return Ok(None);
        }
        real(&value).map(Some).ok_or_else(|| refuse(&field(name), &value, "a number, or None for infinity"))
    };
    let adjustment = get("adjustment")?;
    Ok(Step {
        lower: bound("lower")?,
        upper: bound("upper")?,
        adjustment: whole(&adjustment)
            .ok_or_else(|| refuse(&field("adjustment"), &adjustment, "a whole number that fits in 64 bits"))?,
    })
}

pub(super) fn step_scaling(config: &Bound<'_, PyAny>) -> PyResult<StepConfig> {
    let steps = config.getattr("steps")?;
    let items = steps.cast::<PyTuple>().map_err(|_| refuse("steps", &steps, "a sequence of Step"))?;
    let cooldown = seconds(config, "cooldown")?;
    Ok(StepConfig {
        metric: text(config, "metric")?,
        threshold: float(config, "threshold")?,
        direction: choice(config, "direction", &[("high", Direction::High), ("low", Direction::Low)])?,
        steps: items.iter().enumerate().map(|(i, s)| step(i, &s)).collect::<PyResult<_>>()?,
        adjustment_type: choice(
            config,
            "adjustment_type",
            &[
                ("change_in_capacity", AdjustmentType::ChangeInCapacity),
                ("percent_change_in_capacity", AdjustmentType::PercentChangeInCapacity),
                ("exact_capacity", AdjustmentType::ExactCapacity),
            ],
        )?,
        min_adjustment_magnitude: optional_integer(config, "min_adjustment_magnitude")?,
        aggregation: choice(
            config,
            "aggregation",
            &[("average", Aggregation::Average), ("minimum", Aggregation::Minimum), ("maximum", Aggregation::Maximum)],
        )?,
        alarm: datapoints(config, "alarm")?,
        period: seconds(config, "period")?,
        bounds: bounds(config)?,
        timing: Timing {
            warmup: seconds(config, "warmup")?,
            scale_out_cooldown: cooldown,
            scale_in_cooldown: cooldown,
        },
    })
}
