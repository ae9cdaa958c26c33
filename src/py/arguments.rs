//! Arguments of one value: each conversion knows the name of its field, so that whatever does not fit (a number beyond
//! a float, a text that is no Unicode, another type) is told in the words of our own errors.

use crate::core::error::ConfigError;
use crate::py::door::shown;
use pyo3::prelude::*;

fn wrong(field: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    ConfigError::new(field, shown(value), allowed).into()
}

pub(crate) fn number(field: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().map_err(|_| wrong(field, value, "a number within the range of a float"))
}

pub(crate) fn whole(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract().map_err(|_| wrong(field, value, "a whole number within 64 bits"))
}

pub(crate) fn truth(field: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| wrong(field, value, "True, False or None"))
}

fn text<'a>(field: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    value.extract().map_err(|_| wrong(field, value, "a str without lone surrogates"))
}

/// The value, or None for None.
fn optional<'a, 'py, T>(
    value: &'a Bound<'py, PyAny>,
    convert: impl FnOnce(&'a Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { convert(value).map(Some) }
}

macro_rules! required {
    ($convert:ident -> $kind:ty: $($name:ident $field:literal),*) => {
        $(#[allow(clippy::needless_lifetimes)] // one kind borrows from the argument
        pub(crate) fn $name<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<$kind> {
            $convert($field, value)
        })*
    };
}

macro_rules! optional {
    ($convert:ident -> $kind:ty: $($name:ident $field:literal),*) => {
        $(#[allow(clippy::needless_lifetimes)] // one kind borrows from the argument
        pub(crate) fn $name<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<$kind>> {
            optional(value, |v| $convert($field, v))
        })*
    };
}

required!(text -> &'a str: address "address", id "id", zone "zone", health "health", on_panic "on_panic",
    failover "failover", ramp "ramp", schedule "schedule", variant "variant", score "score", ties "ties", ring "ring");
required!(number -> f64: weight "weight", panic_threshold "panic_threshold",
    overprovisioning_factor "overprovisioning_factor", bias "bias", decay "latency.decay",
    failure_penalty "latency.failure_penalty", ratio "ratio", min_per_second "min_per_second", start "start",
    blackout_period "blackout_period", weight_expiration_period "weight_expiration_period",
    weight_update_period "weight_update_period", error_utilization_penalty "error_utilization_penalty",
    probe_rate "probe_rate", remove_rate "remove_rate", q_rif "q_rif", delta "delta", max_age "max_age",
    step "seconds", alpha "alpha", tau "tau", value "value", window "window", elapsed "elapsed");
required!(whole -> i64: priority "priority", choices "choices", table_size "table_size", max_attempts "max_attempts",
    pool_size "pool_size", done "done", others "others");
optional!(text -> &'a str: own_id "id", hash "hash", own_ring "ring", own_variant "variant");
optional!(truth -> bool: avalanche "avalanche");
optional!(whole -> i64: max_inflight "max_inflight", requests "requests");
optional!(number -> f64: aggression "aggression", min_weight "min_weight", bounded_load "bounded_load", lease_timeout "lease_timeout", default_rtt "latency.default_rtt", deadline "deadline",
    now "now", inflight "inflight", queue "queue", utilization "utilization", latency "latency",
    gpu_memory "gpu_memory", kv_cache "kv_cache", qps "qps", eps "eps", ttl "ttl");

/// A seed, or None.
pub(crate) fn seed(value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    optional(value, |v| v.extract().map_err(|_| wrong("seed", v, "a whole number from 0 to 2**64-1, or None")))
}

/// The id of a lease.
pub(crate) fn lease_id(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract().map_err(|_| wrong("lease_id", value, "the int of a lease's id"))
}
