//! Memory for leases.
#![allow(unsafe_code)]

use super::Raw;
use super::lease::LeaseObject;
use pyo3::ffi;
#[cfg(not(Py_GIL_DISABLED))]
use std::{cell::UnsafeCell, ptr};

/// Memory of leases that have gone, for the next ones. Without a GIL there is none: the interpreter's allocator has a
/// heap for each thread already, and must know when memory is free, for other threads may still be looking at it.
#[cfg(not(Py_GIL_DISABLED))]
struct FreeList(UnsafeCell<(usize, [*mut LeaseObject; 64])>);
// SAFETY: touched only while attached, with the GIL one thread at a time.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Sync for FreeList {}
#[cfg(not(Py_GIL_DISABLED))]
static FREE: FreeList = FreeList(UnsafeCell::new((0, [ptr::null_mut(); 64])));

/// Memory for a lease; null when there is none.
///
/// # Safety
/// Attached.
#[inline(always)]
pub(super) unsafe fn allocate() -> *mut LeaseObject {
    // SAFETY: attached.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let free = &mut *FREE.0.get();
            if free.0 > 0 {
                free.0 -= 1;
                return *free.1.get_unchecked(free.0);
            }
        }
        ffi::PyObject_Malloc(size_of::<LeaseObject>()).cast::<LeaseObject>()
    }
}

/// Gives memory from [`allocate`] back.
///
/// # Safety
/// Attached, and nobody uses the memory.
#[inline(always)]
pub(super) unsafe fn deallocate(object: Raw) {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let free = &mut *FREE.0.get();
            if let Some(place) = free.1.get_mut(free.0) {
                *place = object.cast();
                free.0 += 1;
                return;
            }
        }
        ffi::PyObject_Free(object.cast());
    }
}
