//! The binding of the arithmetic of capacity. Values were checked by the dataclasses that call it.

use crate::core::capacity::{blend, mixed, refresh, warm_pool};
use crate::core::time::Nanos;
use pyo3::prelude::*;

/// Functions of the core under one name; only `aibalance.capacity` calls them.
#[pyclass(frozen, module = "aibalance._core", name = "CapacityRules")]
pub(crate) struct CapacityRules;

#[pymethods]
impl CapacityRules {
    #[staticmethod]
    fn warm_pool_size(max_size: i64, desired: i64, prepared: Option<i64>, min_size: i64) -> i64 {
        warm_pool::size(max_size, desired, prepared, min_size)
    }

    #[staticmethod]
    fn warm_pool_scale_out(available: i64, increase: i64, desired: i64, max_size: i64) -> (i64, i64, i64) {
        warm_pool::scale_out(available, increase, desired, max_size)
    }

    #[staticmethod]
    fn warm_pool_scale_in(decrease: i64, reuse: bool) -> (i64, i64, i64) {
        warm_pool::scale_in(decrease, reuse)
    }

    #[staticmethod]
    fn split(desired: i64, base: i64, percent_above: i64) -> (i64, i64) {
        mixed::split(desired, base, percent_above)
    }

    #[staticmethod]
    fn pools(instance_types: i64, zones: i64, lowest: i64) -> (i64, i64) {
        mixed::pools(instance_types, zones, lowest)
    }

    #[staticmethod]
    fn weighted_after(current: i64, units: i64, weight: i64, max_size: i64) -> (i64, i64) {
        mixed::weighted_after(current, units, weight, max_size)
    }

    #[staticmethod]
    fn rebalance_ceiling(max_size: i64) -> i64 {
        mixed::rebalance_ceiling(max_size)
    }

    #[staticmethod]
    fn batch(desired: i64, min_healthy: i64, max_healthy: Option<i64>) -> i64 {
        refresh::batch(desired, min_healthy, max_healthy)
    }

    #[staticmethod]
    fn checkpoints(desired: i64, percents: Vec<i64>, before: i64, replaced: i64) -> (Vec<i64>, Option<i64>) {
        refresh::checkpoints(desired, &percents, before, replaced)
    }

    #[staticmethod]
    fn timeline(
        desired: i64,
        size: i64,
        percents: Vec<i64>,
        warmup: f64,
        delay: f64,
    ) -> Vec<(f64, i64, i64, Option<i64>)> {
        let (warmup, delay) = (Nanos::from_secs_f64(warmup), Nanos::from_secs_f64(delay));
        let batches = refresh::timeline(desired, size, &percents, warmup.0, delay.0);
        batches.iter().map(|b| (b.at as f64 / 1e9, b.count, b.replaced, b.checkpoint)).collect()
    }

    #[staticmethod]
    fn blended(all_on_demand: f64, on_demand_share: f64, spot_discount: f64) -> f64 {
        blend::blended(all_on_demand, on_demand_share, spot_discount)
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<CapacityRules>()
}
