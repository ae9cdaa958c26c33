//! Passive health and circuit breakers: the configuration is Python's, its meaning and its limits are the core's.

use crate::core::endpoints::endpoint::MaxFails;
use crate::core::error::ConfigError;
use crate::core::health::breaker::{CircuitBreaker, Phase};
use crate::core::health::outlier::{Flavour, OutlierDetection};
use crate::core::pool::Watching;
use crate::core::time::Nanos;
use crate::py::arguments::{number, truth, whole};
use crate::py::clock::seconds;
use crate::py::door::shown;
use pyo3::prelude::*;

/// A configuration object, read field by field.
struct Fields<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'py> Fields<'_, 'py> {
    fn get(&self, field: &str) -> PyResult<Bound<'py, PyAny>> {
        self.0.getattr(field)
    }

    fn number(&self, field: &str) -> PyResult<f64> {
        number(field, &self.get(field)?)
    }

    fn seconds(&self, field: &str) -> PyResult<Nanos> {
        Ok(seconds(field, self.number(field)?)?)
    }

    fn count(&self, field: &str) -> PyResult<u32> {
        let value = self.get(field)?;
        let n = whole(field, &value)?;
        let allowed = "a whole number from 0 to 4294967295";
        Ok(u32::try_from(n).map_err(|_| ConfigError::new(field, n, allowed))?)
    }

    /// Zero for None.
    fn count_or_none(&self, field: &str) -> PyResult<u32> {
        if self.get(field)?.is_none() {
            return Ok(0);
        }
        match self.count(field)? {
            0 => Err(ConfigError::new(field, 0, "a whole number of at least 1, or None for never").into()),
            n => Ok(n),
        }
    }

    fn truth(&self, field: &str) -> PyResult<bool> {
        truth(field, &self.get(field)?)
    }
}

fn is(value: &Bound<'_, PyAny>, class: &str) -> PyResult<bool> {
    value.is_instance(&value.py().import("aibalance.passive")?.getattr(class)?)
}

fn outlier_detection(value: &Bound<'_, PyAny>) -> PyResult<OutlierDetection> {
    let f = Fields(value);
    let flavour = match f.get("flavour")?.extract::<String>().as_deref() {
        Ok("envoy") => Flavour::Envoy,
        Ok("grpc") => Flavour::Grpc,
        Ok("robust") => Flavour::Robust,
        _ => {
            let allowed = "\"envoy\", \"grpc\" or \"robust\"";
            return Err(ConfigError::new("flavour", shown(&f.get("flavour")?), allowed).into());
        }
    };
    let max_ejection_time = match f.get("max_ejection_time")? {
        none if none.is_none() => Nanos(300_000_000_000),
        _ => f.seconds("max_ejection_time")?,
    };
    let latency_factor = match f.get("latency_factor")? {
        none if none.is_none() => None,
        value => Some(number("latency_factor", &value)?),
    };
    let config = OutlierDetection {
        flavour,
        interval: f.seconds("interval")?,
        base_ejection_time: f.seconds("base_ejection_time")?,
        max_ejection_time,
        max_ejection_time_jitter: f.seconds("max_ejection_time_jitter")?,
        max_ejection_percent: f.count("max_ejection_percent")?,
        always_eject_one_host: f.truth("always_eject_one_host")?,
        consecutive_5xx: f.count_or_none("consecutive_5xx")?,
        enforcing_consecutive_5xx: f.count("enforcing_consecutive_5xx")?,
        consecutive_gateway_failure: f.count_or_none("consecutive_gateway_failure")?,
        enforcing_consecutive_gateway_failure: f.count("enforcing_consecutive_gateway_failure")?,
        split_external_local_origin_errors: f.truth("split_external_local_origin_errors")?,
        consecutive_local_origin_failure: f.count_or_none("consecutive_local_origin_failure")?,
        enforcing_consecutive_local_origin_failure: f.count("enforcing_consecutive_local_origin_failure")?,
        enforcing_success_rate: f.count("enforcing_success_rate")?,
        enforcing_local_origin_success_rate: f.count("enforcing_local_origin_success_rate")?,
        success_rate_minimum_hosts: f.count("success_rate_minimum_hosts")?,
        success_rate_request_volume: f.count("success_rate_request_volume")?.into(),
        success_rate_stdev_factor: f.count("success_rate_stdev_factor")?,
        enforcing_failure_percentage: f.count("enforcing_failure_percentage")?,
        enforcing_failure_percentage_local_origin: f.count("enforcing_failure_percentage_local_origin")?,
        failure_percentage_threshold: f.count("failure_percentage_threshold")?,
        failure_percentage_minimum_hosts: f.count("failure_percentage_minimum_hosts")?,
        failure_percentage_request_volume: f.count("failure_percentage_request_volume")?.into(),
        successful_active_health_check_uneject_host: f.truth("successful_active_health_check_uneject_host")?,
        deviations: f.number("deviations")?,
        failure_floor: f.number("failure_floor")?,
        latency_factor,
        latency_floor: f.number("latency_floor")?,
    };
    Ok(config.check()?)
}

fn max_fails(value: &Bound<'_, PyAny>) -> PyResult<MaxFails> {
    let f = Fields(value);
    Ok(MaxFails::new(f.count("max_fails")?, f.number("fail_timeout")?)?)
}

fn breaker(value: &Bound<'_, PyAny>) -> PyResult<CircuitBreaker> {
    let f = Fields(value);
    let failure_share = match f.get("failure_share")? {
        none if none.is_none() => None,
        value => Some(number("failure_share", &value)?),
    };
    let config = CircuitBreaker {
        failures: f.count_or_none("failures")?,
        failure_share,
        window: f.seconds("window")?,
        min_requests: f.count("min_requests")?.into(),
        open_time: f.seconds("open_time")?,
        growth: f.number("growth")?,
        max_open_time: f.seconds("max_open_time")?,
        probes: f.count("probes")?,
        successes: f.count("successes")?,
    };
    Ok(config.check()?)
}

/// Raises ConfigError for a configuration that cannot be.
#[pyfunction]
#[pyo3(signature = (value, /))]
pub(crate) fn _check_passive(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if is(value, "OutlierDetection")? {
        outlier_detection(value).map(drop)
    } else if is(value, "MaxFails")? {
        max_fails(value).map(drop)
    } else {
        breaker(value).map(drop)
    }
}

/// A pool's `passive`.
pub(crate) fn watching(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Watching>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    if is(value, "OutlierDetection")? {
        return Ok(Some(Watching::Outliers(outlier_detection(value)?)));
    }
    if is(value, "MaxFails")? {
        return Ok(Some(Watching::MaxFails(max_fails(value)?)));
    }
    Err(ConfigError::new("passive", shown(value), "an OutlierDetection, a MaxFails, or None").into())
}

/// An endpoint's `passive`.
pub(crate) fn own(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<MaxFails>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    if is(value, "MaxFails")? {
        return max_fails(value).map(Some);
    }
    let allowed = "a MaxFails, or None (an OutlierDetection compares endpoints, so that it is the pool's)";
    Err(ConfigError::new("passive", shown(value), allowed).into())
}

/// The object of an endpoint's own `passive`.
pub(crate) fn own_object(py: Python<'_>, rule: MaxFails) -> PyResult<Bound<'_, PyAny>> {
    let kw = pyo3::types::PyDict::new(py);
    kw.set_item("max_fails", rule.max_fails)?;
    kw.set_item("fail_timeout", rule.fail_timeout as f64)?;
    py.import("aibalance.passive")?.getattr("MaxFails")?.call((), Some(&kw))
}

/// A pool's `circuit_breaker`.
pub(crate) fn circuit_breaker(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<CircuitBreaker>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    if is(value, "CircuitBreaker")? {
        return breaker(value).map(Some);
    }
    Err(ConfigError::new("circuit_breaker", shown(value), "a CircuitBreaker, or None").into())
}

/// The word for where a breaker stands.
pub(crate) fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::Open(_) => "open",
        Phase::HalfOpen(_) => "half_open",
    }
}
