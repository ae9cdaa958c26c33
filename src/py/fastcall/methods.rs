//! Raw methods as CPython wants them described.
#![allow(unsafe_code)]

use super::{GiveNone, PickerClass, Raise, acquire, pick};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ffi::{CStr, c_int};

const FAST: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

pub(super) fn with_keywords(
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
    ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags: FAST, ml_doc: doc.as_ptr() }
}

pub(super) fn fast(name: &'static CStr, function: ffi::PyCFunctionFast, doc: &'static CStr) -> ffi::PyMethodDef {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunctionFast: function };
    ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags: ffi::METH_FASTCALL, ml_doc: doc.as_ptr() }
}

pub(super) fn plain(
    name: &'static CStr,
    function: ffi::PyCFunction,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunction: function };
    ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags: flags, ml_doc: doc.as_ptr() }
}

/// Puts the raw methods on a picker class. They replace nothing: the class is declared without them.
pub(crate) fn add_methods<C: PickerClass>(py: Python<'_>) -> PyResult<()> {
    let kind = py.get_type::<C>();
    let methods = [
        with_keywords(c"pick", pick::<C, Raise>, c"pick($self, key=None, /, *, now=None)\n--\n\nChoose an endpoint."),
        with_keywords(
            c"try_pick",
            pick::<C, GiveNone>,
            c"try_pick($self, key=None, /, *, now=None)\n--\n\nChoose an endpoint; None when there is none.",
        ),
        with_keywords(
            c"acquire",
            acquire::<C, Raise>,
            c"acquire($self, key=None, /, *, cost=1.0, exclude=(), subset=None, now=None)\n--\n\nChoose an endpoint and take a lease on it.",
        ),
        with_keywords(
            c"try_acquire",
            acquire::<C, GiveNone>,
            c"try_acquire($self, key=None, /, *, cost=1.0, exclude=(), subset=None, now=None)\n--\n\nChoose an endpoint and take a lease on it; None when there is none.",
        ),
    ];
    for method in Box::leak(Box::new(methods)) {
        // SAFETY: the definition lives for ever, and the type is alive.
        let (descriptor, name) = unsafe {
            let descriptor = ffi::PyDescr_NewMethod(kind.as_type_ptr(), method);
            (Bound::from_owned_ptr_or_err(py, descriptor)?, CStr::from_ptr(method.ml_name))
        };
        kind.setattr(PyString::new(py, &name.to_string_lossy()), descriptor)?;
    }
    Ok(())
}
