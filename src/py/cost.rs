//! The binding of the closed forms of cost.

use crate::core::capacity::cost;
use crate::core::error::ConfigError;
use pyo3::prelude::*;

fn servers(field: &str, n: i64) -> PyResult<u32> {
    match u32::try_from(n) {
        Ok(n) if n <= cost::MAX_SERVERS => Ok(n),
        _ => Err(ConfigError::new(field, n, format!("a whole number from 0 to {}", cost::MAX_SERVERS)).into()),
    }
}

#[pyfunction]
fn _availability(rate: f64, hours: f64) -> PyResult<f64> {
    Ok(cost::availability(rate, hours)?)
}

/// The probability that `need` of `n` are up, and the capacity that is missing on average.
#[pyfunction]
fn _capacity_chance(n: i64, up: f64, need: i64) -> PyResult<(f64, f64)> {
    let (n, need) = (servers("spot", n)?, servers("need", need)?);
    Ok((cost::at_least(n, up, need), cost::shortfall(n, up, need)))
}

/// The probabilities of each capacity when whole pools fall together.
#[pyfunction]
fn _pooled_capacity(sizes: Vec<i64>, up: f64) -> PyResult<Vec<f64>> {
    let sizes: Vec<u32> = sizes.into_iter().map(|n| servers("pools", n)).collect::<PyResult<_>>()?;
    servers("servers", sizes.iter().map(|&n| i64::from(n)).sum())?;
    Ok(cost::pooled(&sizes, up))
}

/// (on-demand, spot, cost, achieved) of the cheapest mix.
#[pyfunction]
fn _cheapest_mix(
    py: Python<'_>,
    need: i64,
    up: f64,
    price: f64,
    spot_price: f64,
    slo: f64,
) -> PyResult<(u32, u32, f64, f64)> {
    let need = servers("need", need)?;
    let mix = py.detach(|| cost::cheapest_mix(need, up, price, spot_price, slo));
    Ok((mix.on_demand, mix.spot, mix.cost, mix.achieved))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_availability, m)?)?;
    m.add_function(wrap_pyfunction!(_capacity_chance, m)?)?;
    m.add_function(wrap_pyfunction!(_pooled_capacity, m)?)?;
    m.add_function(wrap_pyfunction!(_cheapest_mix, m)?)
}
