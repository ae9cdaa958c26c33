//! The binding: it converts, detaches and raises, and holds no policy.

use pyo3::prelude::*;

mod errors;
mod simulation;

/// The native half of aibalance.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    simulation::register(m)?;
    Ok(())
}
