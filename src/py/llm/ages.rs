//! How old what engines reported is.

use crate::py::pool::{Pool, instant_or};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Seconds since each endpoint's last report of load or KV cache to `pool.observe`, by id; who has not reported is left
/// out. A report of the future has age 0.
#[pyfunction]
#[pyo3(signature = (pool, /, *, now))]
pub(super) fn _report_ages<'py>(
    py: Python<'py>,
    pool: &Bound<'py, Pool>,
    now: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let now = instant_or(pool.get(), now)?;
    let snapshot = pool.get().core.snapshot();
    let view = &snapshot.view;
    let out = PyDict::new(py);
    for (id, &slot) in view.ids.iter().zip(&view.slots) {
        if let Some(engine) = view.block.signals(slot).and_then(|signals| signals.engine()) {
            out.set_item(&**id, now.since(engine.at).as_secs_f64())?;
        }
    }
    Ok(out)
}
