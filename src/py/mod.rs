//! The binding: it converts, detaches and raises, and holds no policy.

use pyo3::prelude::*;

mod arguments;
mod autoscaling;
mod averages;
mod capacity;
mod clock;
mod concurrency;
mod cost;
mod door;
mod endpoint;
mod errors;
mod failover;
mod fastcall;
mod fluid;
mod forecasting;
mod fork;
mod group;
mod health;
mod home;
mod joint_pool;
mod keys;
mod llm;
mod passive;
mod pickers;
mod pool;
mod retry_budget;
mod routing;
#[cfg(unix)]
mod shared;
#[cfg(not(unix))]
#[path = "shared/absent.rs"]
mod shared;
mod simulation;
mod simulation_detail;
mod stats;
mod token_bucket;

/// How counters are counted here: where there is a GIL, one thread at a time is attached to the interpreter.
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) type Counting = crate::core::sync::Exclusive;

/// How counters are counted here: without a GIL all threads are attached at once.
#[cfg(Py_GIL_DISABLED)]
pub(crate) type Counting = crate::core::sync::Shared;

/// The native half of aibalance. It needs no GIL where there is none: a build for an interpreter with one counts without
/// atomics, and no other interpreter loads that build.
#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<clock::SystemClock>()?;
    m.add_class::<clock::ManualClock>()?;
    m.add_class::<endpoint::Endpoint>()?;
    m.add_class::<endpoint::Latency>()?;
    m.add_class::<failover::SlowStart>()?;
    m.add_function(wrap_pyfunction!(passive::_check_passive, m)?)?;
    m.add_class::<keys::Hashed>()?;
    m.add_function(wrap_pyfunction!(keys::envoy_hash, m)?)?;
    m.add_class::<pool::Pool>()?;
    m.add_class::<stats::EndpointStats>()?;
    m.add_class::<retry_budget::RetryBudget>()?;
    m.add_function(wrap_pyfunction!(fork::_before_fork, m)?)?;
    m.add_function(wrap_pyfunction!(fork::_after_fork, m)?)?;
    m.add_function(wrap_pyfunction!(pool::_reseed_after_fork, m)?)?;
    m.add_function(wrap_pyfunction!(joint_pool::_rejoin_after_fork, m)?)?;
    pickers::register(m)?;
    fastcall::register(m)?;
    averages::register(m)?;
    concurrency::register(m)?;
    autoscaling::register(m)?;
    capacity::register(m)?;
    group::register(m)?;
    routing::register(m)?;
    health::register(m)?;
    simulation::register(m)?;
    cost::register(m)?;
    fluid::register(m)?;
    forecasting::register(m)?;
    token_bucket::register(m)?;
    llm::register(m)?;
    Ok(())
}
