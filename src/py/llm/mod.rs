//! Language models: prompts in, endpoints out.

use pyo3::prelude::*;

mod index;
mod options;
mod picker;
mod prompt;

/// Adds the classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<index::PrefixIndex>()?;
    m.add_class::<index::PrefixMatch>()?;
    m.add_class::<picker::PrefixAware>()?;
    Ok(())
}
