//! Whom a recommendation would take away first.

use super::kept;
use crate::core::autoscaling::metric_error;
use crate::core::capacity::removal::{Criterion, Removable, rank};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use pyo3::prelude::*;

/// The instances of an observation.
pub(super) fn instances(value: &Bound<'_, PyAny>) -> PyResult<Vec<Removable>> {
    let plain = kept::from("instances", value).map_err(|_| {
        metric_error("instances", super::read::shown(value), "a sequence of mappings of plain values is allowed")
    })?;
    let refuse = |e: ConfigError| metric_error(&e.field, e.value, format!("{} is allowed", e.allowed));
    Ok(Removable::read_all("instances", &plain).map_err(refuse)?)
}

/// So many that `desired` are left, by the usual criteria.
pub(super) fn first(instances: &[Removable], desired: i64, now: Nanos) -> Vec<String> {
    let many = instances.len().saturating_sub(usize::try_from(desired).unwrap_or(0));
    let places = rank(instances, &Criterion::USUAL, now);
    places.into_iter().take(many).filter_map(|i| instances.get(i)).map(|r| r.id.clone()).collect()
}

/// The ids of all that may go, in order.
#[pyfunction]
pub(super) fn _rank_removals(
    instances: &Bound<'_, PyAny>,
    order: Vec<String>,
    now: &Bound<'_, PyAny>,
) -> PyResult<Vec<String>> {
    let now = kept::instant("now", now)?;
    let all = Removable::read_all("instances", &kept::from("instances", instances)?)?;
    let mut criteria = Vec::with_capacity(order.len());
    for (n, word) in order.iter().enumerate() {
        let found = Criterion::NAMES.iter().find(|(name, _)| name == word).map(|(_, c)| *c);
        let names: Vec<&str> = Criterion::NAMES.iter().map(|(name, _)| *name).collect();
        let wrong =
            || ConfigError::new(format!("order[{n}]"), format!("{word:?}"), format!("one of {}", names.join(", ")));
        criteria.push(found.ok_or_else(wrong)?);
    }
    let places = rank(&all, &criteria, now);
    Ok(places.into_iter().filter_map(|i| all.get(i)).map(|r| r.id.clone()).collect())
}
