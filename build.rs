//! Tells the binding which interpreter it is built for. The core alone needs nothing of this.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
    #[cfg(not(feature = "python"))]
    println!("cargo:rustc-check-cfg=cfg(Py_GIL_DISABLED)");
}
