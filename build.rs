//! Tells the binding which interpreter it is built for: without a GIL, `Py_GIL_DISABLED` is set. The core does not ask.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
