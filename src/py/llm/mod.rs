//! Language models: prompts in, endpoints out.

use pyo3::prelude::*;

mod ages;
mod index;
mod options;
mod picker;
mod prompt;

pub(crate) use picker::PrefixAware;

/// Adds the classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<index::PrefixIndex>()?;
    m.add_class::<index::PrefixMatch>()?;
    m.add_class::<picker::PrefixAware>()?;
    m.add_function(wrap_pyfunction!(ages::_report_ages, m)?)?;
    Ok(())
}
