//! The options of `PrefixAware`, each of which belongs to a score or to all.

use crate::core::error::ConfigError;
use crate::core::llm::{Options, Score, Stale};
use crate::core::time::Nanos;
use crate::py::arguments::number;
use crate::py::clock::seconds;
use crate::py::door::shown;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

const SCORES: [&str; 5] = ["ttft", "dynamo", "lmetric", "loadaware", "cache_aware"];

/// Which numbers a score has besides, and what they are unless given.
fn own(score: &str) -> &'static [(&'static str, Option<f64>)] {
    match score {
        "ttft" => &[("fresh_scale", None), ("memory_scale", Some(1.0)), ("crowd_scale", Some(1.0))],
        "dynamo" => &[("prefill_scale", Some(1.0)), ("credit_decay", Some(0.0)), ("request_weight", Some(0.0))],
        "loadaware" => &[("beta", Some(1.0))],
        "cache_aware" => &[("match_threshold", Some(0.5)), ("balance_abs", Some(32.0)), ("balance_rel", Some(1.1))],
        _ => &[],
    }
}

fn text(field: &str, value: &Bound<'_, PyAny>, allowed: &[&'static str]) -> PyResult<&'static str> {
    let given: Option<String> = value.extract().ok();
    allowed.iter().find(|name| given.as_deref() == Some(name)).copied().ok_or_else(|| {
        let names: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
        ConfigError::new(field, shown(value), format!("one of {}", names.join(", "))).into()
    })
}

const ALL: [&str; 6] = ["score", "credits", "temperature", "bounded_load", "max_report_age", "stale"];

/// Refuses a name that is no option's.
pub(super) fn known(given: &Bound<'_, PyDict>) -> PyResult<()> {
    for (name, _) in given {
        let name: String = name.extract()?;
        let of_score = SCORES.iter().any(|score| own(score).iter().any(|(field, _)| *field == name));
        if !of_score && !ALL.contains(&name.as_str()) {
            let text = format!("PrefixAware.__new__() got an unexpected keyword argument '{name}'");
            return Err(PyTypeError::new_err(text));
        }
    }
    Ok(())
}

/// Reads the options that were given.
pub(super) fn read(given: &Bound<'_, PyDict>) -> PyResult<Options> {
    let get = |field: &str| given.get_item(field);
    let score = get("score")?.map_or(Ok("ttft"), |value| text("score", &value, &SCORES))?;
    let mut numbers = [None; 3];
    for (place, &(field, default)) in numbers.iter_mut().zip(own(score)) {
        let value = get(field)?.filter(|v| !v.is_none());
        *place = value.map(|value| number(field, &value)).transpose()?.or(default);
    }
    for other in SCORES {
        for &(field, _) in own(other) {
            if other != score
                && let Some(value) = get(field)?.filter(|v| !v.is_none())
            {
                let allowed = format!("None for score={score:?}: only score={other:?} has it");
                return Err(ConfigError::new(field, shown(&value), allowed).into());
            }
        }
    }
    let [first, ..] = numbers;
    let [a, b, c] = numbers.map(Option::unwrap_or_default);
    let score = match score {
        "ttft" => Score::Ttft { fresh_scale: first, memory_scale: b, crowd_scale: c },
        "dynamo" => Score::Dynamo { prefill_scale: a, credit_decay: b, request_weight: c },
        "lmetric" => Score::Lmetric,
        "loadaware" => Score::Loadaware { beta: a },
        _ => Score::CacheAware { match_threshold: a, balance_abs: b, balance_rel: c },
    };
    let credits = match get("credits")? {
        None => [1.0, 0.75, 0.25],
        Some(value) => value.extract::<[f64; 3]>().map_err(|_| {
            PyErr::from(ConfigError::new("credits", shown(&value), "three numbers: gpu, host and disk"))
        })?,
    };
    let bounded_load = match get("bounded_load")? {
        // Those that pile a hot prefix up while there is little load.
        None => matches!(score, Score::Lmetric | Score::CacheAware { .. }).then_some(1.25),
        Some(value) if value.is_none() => None,
        Some(value) => Some(number("bounded_load", &value)?),
    };
    let max_report_age = match get("max_report_age")? {
        None => Nanos::from_secs_f64(10.0),
        Some(value) if value.is_none() => Nanos::MAX,
        Some(value) => seconds("max_report_age", number("max_report_age", &value)?)?,
    };
    let stale = get("stale")?.map_or(Ok("own"), |value| text("stale", &value, &["own", "saturated"]))?;
    let temperature = get("temperature")?.map_or(Ok(0.0), |value| number("temperature", &value))?;
    let stale = if stale == "own" { Stale::Own } else { Stale::Saturated };
    Ok(Options { score, credits, temperature, bounded_load, max_report_age, stale }.check()?)
}

/// The options as keyword arguments.
pub(super) fn keywords(options: &Options, kw: &Bound<'_, PyDict>) -> PyResult<()> {
    let (score, numbers) = match options.score {
        Score::Dynamo { prefill_scale, credit_decay, request_weight } => {
            ("dynamo", [Some(prefill_scale), Some(credit_decay), Some(request_weight)])
        }
        Score::Ttft { fresh_scale, memory_scale, crowd_scale } => {
            ("ttft", [fresh_scale, Some(memory_scale), Some(crowd_scale)])
        }
        Score::Lmetric => ("lmetric", [None; 3]),
        Score::Loadaware { beta } => ("loadaware", [Some(beta), None, None]),
        Score::CacheAware { match_threshold, balance_abs, balance_rel } => {
            ("cache_aware", [Some(match_threshold), Some(balance_abs), Some(balance_rel)])
        }
    };
    kw.set_item("score", score)?;
    for (&(field, _), value) in own(score).iter().zip(numbers) {
        kw.set_item(field, value)?;
    }
    kw.set_item("credits", options.credits)?;
    kw.set_item("temperature", options.temperature)?;
    kw.set_item("bounded_load", options.bounded_load)?;
    let age = options.max_report_age;
    kw.set_item("max_report_age", (age != Nanos::MAX).then(|| age.as_secs_f64()))?;
    kw.set_item("stale", if options.stale == Stale::Own { "own" } else { "saturated" })
}
