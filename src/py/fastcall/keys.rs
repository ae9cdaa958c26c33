//! Keys straight from their objects, for the way that most picks go.
#![allow(unsafe_code)]

use super::Raw;
use crate::core::pickers::{Key, Policy};
use crate::py::keys::Hashed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::ffi::c_int;

/// The text of a str whose text lies within it as UTF-8, as that of an ASCII one does; `None` for anything else.
///
/// # Safety
/// Attached; `key` is a valid object that outlives the result.
#[inline(always)]
pub(super) unsafe fn ascii_of<'a>(key: Raw) -> Option<&'a str> {
    #[cfg(not(any(feature = "abi3", Py_3_14)))]
    // SAFETY: a valid object; what a compact ASCII str holds follows its head, for as long as the str lives.
    unsafe {
        if ffi::PyUnicode_CheckExact(key) != 0 && ffi::PyUnicode_IS_COMPACT_ASCII(key) != 0 {
            let head = key.cast::<ffi::PyASCIIObject>();
            let bytes = std::slice::from_raw_parts(head.add(1).cast::<u8>(), (*head).length as usize);
            return Some(std::str::from_utf8_unchecked(bytes));
        }
        None
    }
    // The layout of a str is not ours to know.
    #[cfg(any(feature = "abi3", Py_3_14))]
    // SAFETY: as the caller promises.
    unsafe {
        text_of(key)
    }
}

/// The text of a str; `None` for anything else, and for a str with lone surrogates, which the slow path tells.
///
/// # Safety
/// Attached; `key` is a valid object that outlives the result.
#[inline(always)]
unsafe fn text_of<'a>(key: Raw) -> Option<&'a str> {
    // SAFETY: a valid object; the bytes live as long as the str, and the interpreter says that they are UTF-8.
    unsafe {
        if ffi::PyUnicode_CheckExact(key) == 0 {
            return None;
        }
        let mut size: ffi::Py_ssize_t = 0;
        let data = ffi::PyUnicode_AsUTF8AndSize(key, &mut size);
        if data.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast::<u8>(), size as usize)))
    }
}

/// The key that a str, bytes, an int of 64 bits with a sign, or a Hashed is to a policy; `None` for anything else, and
/// for None itself: the slow path has more patience.
///
/// # Safety
/// As for [`text_of`].
#[inline(always)]
pub(super) unsafe fn plain_key<'a, L: Policy>(py: Python<'a>, policy: &L, key: Raw) -> Option<Key<'a>> {
    // SAFETY: as the caller promises.
    match unsafe { text_of::<'a>(key) } {
        Some(text) => Some(Key { hash: policy.text_key(text)?, bytes: text.as_bytes() }),
        // SAFETY: as above.
        None => unsafe { other_key(py, policy, key) },
    }
}

/// The same for all but a str.
///
/// # Safety
/// As for [`text_of`].
#[inline(never)]
unsafe fn other_key<'a, L: Policy>(py: Python<'a>, policy: &L, key: Raw) -> Option<Key<'a>> {
    // SAFETY: a valid object; the bytes of a bytes object do not change and live as long as it does.
    unsafe {
        if ffi::PyBytes_CheckExact(key) != 0 {
            let data = ffi::PyBytes_AsString(key).cast::<u8>();
            let bytes = std::slice::from_raw_parts(data, ffi::PyBytes_Size(key) as usize);
            return Some(Key { hash: policy.bytes_key(bytes)?, bytes });
        }
        // A policy that reads the bytes of its keys would need a place for those of a number.
        if L::RAW {
            return None;
        }
        if ffi::PyLong_CheckExact(key) != 0 {
            let mut overflow: c_int = 0;
            let number = ffi::PyLong_AsLongLongAndOverflow(key, &mut overflow);
            return if overflow == 0 { Some(policy.whole_key(number as u64)?.into()) } else { None };
        }
        let key = Bound::from_borrowed_ptr(py, key);
        let ready = key.cast_exact::<Hashed>().ok()?;
        Some(policy.ready_key(ready.get().0)?.into())
    }
}

/// The hashes of the keys in a list, for policies whose keys are plain.
pub(crate) fn hashes_of(list: &Bound<'_, PyList>) -> PyResult<Vec<u64>> {
    let py = list.py();
    let most = list.len();
    let mut out = Vec::with_capacity(most);
    // The hash of a str runs no Python code; that of anything else may, and may change the list.
    while out.len() < list.len().min(most) {
        // Without a GIL another thread may change the list meanwhile, so that its items must be held.
        #[cfg(Py_GIL_DISABLED)]
        let Ok(held) = list.get_item(out.len()) else { break };
        #[cfg(Py_GIL_DISABLED)]
        let item = held.as_ptr();
        // SAFETY: attached, and the place is in the list; the item lives in it while its hash is made.
        #[cfg(not(Py_GIL_DISABLED))]
        let item = unsafe { item_of(list, out.len()) };
        // SAFETY: as above.
        let hash = match unsafe { text_of(item) } {
            Some(text) => crate::core::hash::xxh64(text.as_bytes()),
            // SAFETY: a valid object, which gets a reference of its own.
            None => crate::py::keys::hashed(&unsafe { Bound::from_borrowed_ptr(py, item) })?,
        };
        out.push(hash);
    }
    Ok(out)
}

/// An item of a list, borrowed.
///
/// # Safety
/// Attached with the GIL, and the place is in the list.
#[cfg(not(Py_GIL_DISABLED))]
#[inline(always)]
unsafe fn item_of(list: &Bound<'_, PyList>, at: usize) -> Raw {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(not(feature = "abi3"))]
        return ffi::PyList_GET_ITEM(list.as_ptr(), at as ffi::Py_ssize_t);
        #[cfg(feature = "abi3")]
        return ffi::PyList_GetItem(list.as_ptr(), at as ffi::Py_ssize_t);
    }
}
