//! What every picker class shares on its slow paths: arguments in, errors out.

use crate::core::endpoints::Snapshot;
use crate::core::endpoints::counters::{MAX_COST, UNITS};
use crate::core::error::ConfigError;
use crate::core::pool::Filter;
use crate::core::pool::Outcome;
use crate::core::time::Nanos;
use crate::py::clock::seconds;
use crate::py::endpoint::{Endpoint, Payload};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// A value as a message shows it: its repr, shortened.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map_or_else(|_| format!("<{}>", value.get_type()), |r| r.to_string());
    if text.chars().count() > 80 { text.chars().take(77).chain("...".chars()).collect() } else { text }
}

/// `Name(a=1, b=2)`.
pub(crate) fn call_text(name: &str, kw: &Bound<'_, PyDict>) -> PyResult<String> {
    let mut parts = Vec::new();
    for (key, value) in kw {
        if !value.is_none() {
            parts.push(format!("{key}={}", value.repr()?));
        }
    }
    Ok(format!("{name}({})", parts.join(", ")))
}

/// The cost of a request in units.
pub(crate) fn units(cost: &Bound<'_, PyAny>, field: &str) -> PyResult<u64> {
    let number = cost.extract::<f64>().ok().filter(|c| (0.0..=MAX_COST).contains(c));
    match number {
        Some(cost) => Ok((cost * UNITS).round() as u64),
        None => Err(ConfigError::new(field, shown(cost), "a finite number from 0 to 8e12").into()),
    }
}

/// A number of seconds from an argument.
pub(crate) fn instant(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Nanos> {
    match value.extract::<f64>() {
        Ok(v) => Ok(seconds(field, v)?),
        Err(_) => Err(ConfigError::new(field, shown(value), "a finite number of seconds from 0 to 1e10").into()),
    }
}

fn ids(items: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<String>> {
    const ALLOWED: &str = "endpoints or ids";
    if items.is_instance_of::<PyString>() {
        return Err(ConfigError::new(field, shown(items), "an iterable of endpoints or ids, not one text").into());
    }
    let iterator = items
        .try_iter()
        .map_err(|_| PyErr::from(ConfigError::new(field, shown(items), "an iterable of endpoints or ids")))?;
    let mut out = Vec::new();
    for item in iterator {
        let item = item?;
        out.push(match item.cast::<Endpoint>() {
            Ok(endpoint) => endpoint.get().id(item.py()).to_str()?.to_owned(),
            Err(_) => item.extract().map_err(|_| PyErr::from(ConfigError::new(field, shown(&item), ALLOWED)))?,
        });
    }
    Ok(out)
}

/// What `exclude=` and `subset=` name.
pub(crate) struct Names {
    exclude: Vec<String>,
    subset: Option<Vec<String>>,
}

impl Names {
    /// Reads the arguments, which may run any code.
    pub fn from_arguments(exclude: Option<&Bound<'_, PyAny>>, subset: Option<&Bound<'_, PyAny>>) -> PyResult<Names> {
        let read = |v, field| given(v).map(|v| ids(&v, field)).transpose();
        Ok(Names { exclude: read(exclude, "exclude")?.unwrap_or_default(), subset: read(subset, "subset")? })
    }

    /// Their places in a pool; those that it does not know are left out.
    pub fn places(&self, snapshot: &Snapshot<Payload>) -> Filter {
        let find = |ids: &Vec<String>| {
            let mut out: Vec<u32> = ids.iter().filter_map(|id| snapshot.ids.get(id.as_str()).copied()).collect();
            out.sort_unstable();
            out.dedup();
            out
        };
        Filter { exclude: find(&self.exclude), subset: self.subset.as_ref().map(find) }
    }
}

fn given<'py>(value: Option<&Bound<'py, PyAny>>) -> Option<Bound<'py, PyAny>> {
    value.filter(|v| !v.is_none()).cloned()
}

/// How a request ended, from the arguments of a release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub latency: Option<f64>,
    pub hint: Option<f64>,
    pub now: Option<Nanos>,
}

impl Ending {
    /// An ending without more details.
    pub fn plain(outcome: Outcome) -> Ending {
        Ending { outcome, status: None, latency: None, hint: None, now: None }
    }

    /// From `release(outcome, status=, latency=, retry_after=, now=)`. Without an outcome the HTTP status decides: 429
    /// and a 503 with Retry-After are back-pressure, 5xx is a failure.
    pub fn from_arguments(
        outcome: Option<&Bound<'_, PyAny>>,
        status: Option<&Bound<'_, PyAny>>,
        latency: Option<&Bound<'_, PyAny>>,
        retry_after: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Ending> {
        let status = match given(status) {
            None => None,
            Some(s) => match s.extract::<u16>() {
                Ok(code) if (100..=999).contains(&code) => Some(code),
                _ => return Err(ConfigError::new("status", shown(&s), "an HTTP status from 100 to 999").into()),
            },
        };
        let duration = |v: Option<&Bound<'_, PyAny>>, field| given(v).map(|v| instant(&v, field)).transpose();
        let hint = duration(retry_after, "retry_after")?.map(Nanos::as_secs_f64);
        let outcome = match given(outcome) {
            Some(o) => {
                let text: Option<String> = o.extract().ok();
                match text.as_deref() {
                    Some("success") => Outcome::Success,
                    Some("failure") => Outcome::Failure,
                    Some("timeout") => Outcome::Timeout,
                    Some("rejected") => Outcome::Rejected,
                    _ => {
                        let allowed = "\"success\", \"failure\", \"timeout\" or \"rejected\"";
                        return Err(ConfigError::new("outcome", shown(&o), allowed).into());
                    }
                }
            }
            None => match status {
                Some(429) => Outcome::Rejected,
                Some(503) if hint.is_some() => Outcome::Rejected,
                Some(500..) => Outcome::Failure,
                _ => Outcome::Success,
            },
        };
        let latency = duration(latency, "latency")?.map(Nanos::as_secs_f64);
        let now = duration(now, "now")?;
        Ok(Ending { outcome, status, latency, hint, now })
    }
}
