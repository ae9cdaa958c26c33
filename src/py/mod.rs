//! The binding: it converts, detaches and raises, and holds no policy.

use pyo3::prelude::*;

mod autoscaling;
mod errors;

/// The native half of aibalance.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    autoscaling::register(m)?;
    Ok(())
}
