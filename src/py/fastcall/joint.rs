//! The same door for a pool that several processes have in common. A pick that goes through it looks first whether
//! another process has changed the pool, and once in a while whether one has died.
#![allow(unsafe_code)]

#[cfg(Py_GIL_DISABLED)]
use super::CoreState;
use super::cached::{self, Cached};
use super::keys::plain_key;
use super::lease::lease_jointly;
use super::{CorePicker, Door, ONE, PickerClass, Raw, Refuse, acquire_slowly, pick_slowly};
use crate::core::pickers::{Key, Policy};
use crate::core::pool::Picker;
use crate::core::sync::Joint;
use crate::core::time::Nanos;
use crate::py::fork::detached;
use crate::py::pool::Pool;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::Arc;

/// What a door has for a pool of several processes.
pub(crate) struct Half<L: Policy> {
    pub picker: Arc<CorePicker<L, Joint>>,
    cached: Cached<L, Joint>,
}

impl<L: Policy> Half<L> {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.cached.traverse(visit)?;
        self.picker.retired(|state| cached::show(state, visit))
    }
}

impl<L: Policy> Door<L> {
    /// A picker on a pool of several processes.
    pub(super) fn jointly(py: Python<'_>, pool: Py<Pool>, policy: L) -> Door<L> {
        let core = &pool.get().core;
        let nobody = Picker::of_nobody(core, policy.clone());
        let picker = detached(py, || Picker::jointly(core, policy));
        let half = Half { cached: Cached::new(&picker), picker };
        Door { cached: Cached::new(&nobody), picker: nobody, pool, shared: Some(Box::new(half)) }
    }

    pub(super) fn local_jointly(&self, py: Python<'_>, half: &Half<L>) -> Door<L> {
        let nobody = Picker::of_nobody(&self.pool.get().core, half.picker.given_policy().clone());
        let picker = detached(py, || half.picker.local());
        let half = Half { cached: Cached::new(&picker), picker };
        Door {
            cached: Cached::new(&nobody),
            picker: nobody,
            pool: self.pool.clone_ref(py),
            shared: Some(Box::new(half)),
        }
    }
}

/// What a call with nothing but a key goes on with, after a look at what other processes have changed.
///
/// # Safety
/// `args` is as in [`super::pick`].
#[inline(always)]
unsafe fn quickly<'a, C: PickerClass>(
    py: Python<'a>,
    door: &'a Door<C::Policy>,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
    now: Nanos,
) -> Option<(&'a Half<C::Policy>, Option<Key<'a>>)> {
    let half = door.shared.as_deref().filter(|_| kwnames.is_null() && count <= 1)?;
    door.pool.get().keep_up_at(py, now);
    if count == 0 || !C::Policy::KEYED {
        return Some((half, None));
    }
    // SAFETY: `count` is 1, so that `args` has one argument, an object.
    let key = unsafe { plain_key(py, half.picker.policy(), *args) }?;
    Some((half, Some(key)))
}

/// `pick` with nothing but a key.
#[inline(never)]
pub(super) unsafe fn pick<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
    now: Nanos,
) -> Raw {
    // SAFETY: as for `super::pick`, which passes on what it got.
    unsafe {
        let py = Python::assume_attached();
        let door = super::self_of::<C>(py, &slf).door();
        let Some((half, key)) = quickly::<C>(py, door, args, count, kwnames, now) else {
            return pick_slowly::<C, R>(py, door, args, count, kwnames);
        };
        let state = half.cached.state(&half.picker);
        #[cfg(Py_GIL_DISABLED)]
        let state: &CoreState<_, Joint> = &state;
        if let Some(choice) = half.picker.pick(state, key, now)
            && let Some(object) = half.cached.endpoint(state, choice.index)
        {
            return object;
        }
        pick_slowly::<C, R>(py, door, args, count, kwnames)
    }
}

/// `acquire` with nothing but a key.
#[inline(never)]
pub(super) unsafe fn acquire<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
    now: Nanos,
) -> Raw {
    // SAFETY: as for `super::acquire`, which passes on what it got.
    unsafe {
        let py = Python::assume_attached();
        let door = super::self_of::<C>(py, &slf).door();
        let Some((half, key)) = quickly::<C>(py, door, args, count, kwnames, now) else {
            return acquire_slowly::<C, R>(py, door, args, count, kwnames);
        };
        let state = half.cached.state(&half.picker);
        #[cfg(Py_GIL_DISABLED)]
        let state: &CoreState<_, Joint> = &state;
        if let Some(taken) = half.picker.acquire(state, key, ONE, now) {
            return lease_jointly(py, &state.snapshot, &door.pool, taken, now);
        }
        acquire_slowly::<C, R>(py, door, args, count, kwnames)
    }
}
