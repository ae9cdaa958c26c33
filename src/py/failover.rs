//! SlowStart, and the rules of failover and zones, as Python sees them.

use crate::core::error::ConfigError;
use crate::core::health::failover::{Failover, OnPanic, ZoneRules};
use crate::core::health::slow_start::{Ramp, SlowStart as CoreSlowStart};
use crate::py::arguments;
use crate::py::clock::seconds;
use crate::py::door::{call_text, shown};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;
use std::sync::Arc;

/// How endpoints that have just become usable get their share.
#[pyclass(frozen, module = "aibalance", eq, skip_from_py_object)]
#[derive(Clone, PartialEq)]
pub(crate) struct SlowStart {
    pub core: CoreSlowStart,
    #[pyo3(get)]
    window: f64,
}

impl SlowStart {
    /// From what the core has.
    pub fn of(core: CoreSlowStart) -> SlowStart {
        SlowStart { window: core.window.as_secs_f64(), core }
    }
}

#[pymethods]
impl SlowStart {
    #[new]
    #[pyo3(signature = (window, /, *, ramp="envoy", aggression=None, min_weight=None, requests=None))]
    fn new(
        #[pyo3(from_py_with = arguments::window)] window: f64,
        #[pyo3(from_py_with = arguments::ramp)] ramp: &str,
        #[pyo3(from_py_with = arguments::aggression)] aggression: Option<f64>,
        #[pyo3(from_py_with = arguments::min_weight)] min_weight: Option<f64>,
        #[pyo3(from_py_with = arguments::requests)] requests: Option<i64>,
    ) -> PyResult<SlowStart> {
        let ramp_of = match ramp {
            "envoy" => Ramp::Envoy { aggression: aggression.unwrap_or(1.0), min_weight: min_weight.unwrap_or(0.1) },
            "alb" => Ramp::Alb,
            "haproxy" => Ramp::Haproxy,
            "work" => {
                let allowed = "a whole number of at least 1: with ramp=\"work\" it says when an endpoint is warm";
                let n = requests.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
                let n = n.ok_or_else(|| match requests {
                    Some(n) => ConfigError::new("requests", n, allowed),
                    None => ConfigError::new("requests", "None", allowed),
                })?;
                Ramp::Work { requests: n, min_weight: min_weight.unwrap_or(0.1) }
            }
            other => {
                let allowed = "\"envoy\", \"alb\", \"haproxy\" or \"work\"";
                return Err(ConfigError::new("ramp", format!("{other:?}"), allowed).into());
            }
        };
        let unused = [
            ("aggression", aggression.is_some() && ramp != "envoy"),
            ("min_weight", min_weight.is_some() && !matches!(ramp, "envoy" | "work")),
            ("requests", requests.is_some() && ramp != "work"),
        ];
        if let Some((field, _)) = unused.iter().find(|(_, given)| *given) {
            return Err(ConfigError::new(*field, "given", format!("None: ramp={ramp:?} does not use it")).into());
        }
        let core = CoreSlowStart { window: seconds("window", window)?, ramp: ramp_of }.check()?;
        Ok(SlowStart { core, window })
    }

    #[getter]
    fn ramp(&self) -> &'static str {
        match self.core.ramp {
            Ramp::Envoy { .. } => "envoy",
            Ramp::Alb => "alb",
            Ramp::Haproxy => "haproxy",
            Ramp::Work { .. } => "work",
        }
    }

    #[getter]
    fn aggression(&self) -> Option<f64> {
        match self.core.ramp {
            Ramp::Envoy { aggression, .. } => Some(aggression),
            _ => None,
        }
    }

    #[getter]
    fn min_weight(&self) -> Option<f64> {
        match self.core.ramp {
            Ramp::Envoy { min_weight, .. } | Ramp::Work { min_weight, .. } => Some(min_weight),
            Ramp::Alb | Ramp::Haproxy => None,
        }
    }

    #[getter]
    fn requests(&self) -> Option<u64> {
        match self.core.ramp {
            Ramp::Work { requests, .. } => Some(requests),
            _ => None,
        }
    }

    #[pyo3(signature = (elapsed, /, *, done=0))]
    fn factor(
        &self,
        #[pyo3(from_py_with = arguments::elapsed)] elapsed: f64,
        #[pyo3(from_py_with = arguments::done)] done: i64,
    ) -> PyResult<f64> {
        let done = u64::try_from(done).map_err(|_| ConfigError::new("done", done, "a whole number of at least 0"))?;
        Ok(self.core.factor(seconds("elapsed", elapsed)?, done))
    }

    #[pyo3(signature = (others, /))]
    fn requests_while_warming(&self, #[pyo3(from_py_with = arguments::others)] others: i64) -> PyResult<f64> {
        let n = u32::try_from(others)
            .map_err(|_| ConfigError::new("others", others, "a whole number from 0 to 4294967295"))?;
        Ok(self.core.requests_while_warming(n))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let kw = self.keywords(py)?;
        let rest = call_text("", &kw)?;
        let rest = rest.trim_start_matches('(');
        Ok(format!("SlowStart({}, {rest}", self.window))
    }

    fn __hash__(&self) -> u64 {
        self.window.to_bits()
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((f64,), Bound<'py, PyDict>)> {
        Ok(((self.window,), self.keywords(py)?))
    }
}

impl SlowStart {
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kw = PyDict::new(py);
        kw.set_item("ramp", self.ramp())?;
        kw.set_item("aggression", self.aggression())?;
        kw.set_item("min_weight", self.min_weight())?;
        kw.set_item("requests", self.requests())?;
        Ok(kw)
    }
}

/// A pool's slow start.
pub(crate) fn slow_start(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<SlowStart>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    match value.cast::<SlowStart>() {
        Ok(slow_start) => Ok(Some(slow_start.get().clone())),
        Err(_) => Err(ConfigError::new("slow_start", shown(value), "a SlowStart, or None").into()),
    }
}

pub(crate) fn on_panic(value: &str) -> Result<OnPanic, ConfigError> {
    match value {
        "all" => Ok(OnPanic::All),
        "fail" => Ok(OnPanic::Fail),
        other => Err(ConfigError::new("on_panic", format!("{other:?}"), "\"all\" or \"fail\"")),
    }
}

pub(crate) fn on_panic_text(value: OnPanic) -> &'static str {
    match value {
        OnPanic::All => "all",
        OnPanic::Fail => "fail",
    }
}

pub(crate) fn failover(value: &str) -> Result<Failover, ConfigError> {
    match value {
        "overflow" => Ok(Failover::Overflow),
        "backup" => Ok(Failover::Backup),
        "first_backup" => Ok(Failover::FirstBackup),
        other => {
            let allowed = "\"overflow\", \"backup\" or \"first_backup\"";
            Err(ConfigError::new("failover", format!("{other:?}"), allowed))
        }
    }
}

pub(crate) fn failover_text(value: Failover) -> &'static str {
    match value {
        Failover::Overflow => "overflow",
        Failover::Backup => "backup",
        Failover::FirstBackup => "first_backup",
    }
}

/// How zones share, from `local_zone` and `zone_weights`.
pub(crate) fn zones(
    local_zone: Option<&Bound<'_, PyAny>>,
    zone_weights: Option<&Bound<'_, PyAny>>,
) -> PyResult<ZoneRules> {
    let weights = zone_weights.filter(|v| !v.is_none()).map(weights).transpose()?;
    let Some(local) = local_zone.filter(|v| !v.is_none()) else {
        return Ok(weights.map_or(ZoneRules::None, ZoneRules::Weights));
    };
    match local.cast::<PyString>().ok().and_then(|text| text.to_str().ok()) {
        Some(zone) if !zone.is_empty() => {
            Ok(ZoneRules::Own { zone: zone.into(), callers: weights.unwrap_or_default() })
        }
        _ => Err(ConfigError::new("local_zone", shown(local), "the name of a zone, or None").into()),
    }
}

fn weights(value: &Bound<'_, PyAny>) -> PyResult<HashMap<Arc<str>, f64>> {
    let allowed = "a mapping of zones to numbers from 0 to 1e15, one of them above 0, or None";
    let refuse = || PyErr::from(ConfigError::new("zone_weights", shown(value), allowed));
    let items = value.call_method0("items").and_then(|items| PyDict::from_sequence(&items)).map_err(|_| refuse())?;
    let mut out = HashMap::with_capacity(items.len());
    for (zone, weight) in items {
        let (zone, weight): (String, f64) = (
            zone.extract().map_err(|_| refuse())?,
            weight.extract().ok().filter(|w| (0.0..=1e15).contains(w)).ok_or_else(refuse)?,
        );
        out.insert(zone.into(), weight);
    }
    if out.values().all(|&w| w == 0.0) { Err(refuse()) } else { Ok(out) }
}

/// What `local_zone` and `zone_weights` were.
pub(crate) fn zone_arguments<'py>(
    py: Python<'py>,
    rules: &ZoneRules,
) -> PyResult<(Option<String>, Option<Bound<'py, PyDict>>)> {
    let mapping = |weights: &HashMap<Arc<str>, f64>| {
        let kw = PyDict::new(py);
        for (zone, weight) in weights {
            kw.set_item(&**zone, weight)?;
        }
        PyResult::Ok(kw)
    };
    Ok(match rules {
        ZoneRules::None => (None, None),
        ZoneRules::Weights(weights) => (None, Some(mapping(weights)?)),
        ZoneRules::Own { zone, callers } => {
            (Some(zone.to_string()), if callers.is_empty() { None } else { Some(mapping(callers)?) })
        }
    })
}
