//! The state that a picker read last, so that a pick costs one comparison instead of a guarded load.
//!
//! With a GIL every access is attached, and so are all others not at the same time. Without one, several threads may be
//! in one picker at once: then only a per-thread handle keeps its state, and only for the thread that made it. Every
//! other access takes a guarded load, which writes nothing that two threads share.
#![allow(unsafe_code)]

use super::{CoreState, Raw};
use crate::core::pickers::Policy;
use crate::core::pool::Picker;
use crate::core::sync::Mode;
use crate::py::Counting;
#[cfg(Py_GIL_DISABLED)]
use crate::py::endpoint::Endpoint;
use crate::py::endpoint::Payload;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Arc;
#[cfg(Py_GIL_DISABLED)]
use std::sync::Weak;

/// An endpoint's object of one thread, and of which endpoint it is. Weak, so that what nobody else holds any more goes,
/// but never gives its address to another.
#[cfg(Py_GIL_DISABLED)]
type Own = Option<(Weak<Py<Endpoint>>, Py<Endpoint>)>;

/// The state that was read last, and the version of which it is.
struct Kept<L: Policy, M: Mode> {
    version: u64,
    state: Arc<CoreState<L, M>>,
}

/// What a cell has: a cell of nobody, which only a build without a GIL knows, never has anything, and so holds back no
/// endpoints that the pool no longer has.
#[cfg(not(Py_GIL_DISABLED))]
type Slot<L, M> = Kept<L, M>;
#[cfg(Py_GIL_DISABLED)]
type Slot<L, M> = Option<Kept<L, M>>;

/// See the top of this file.
pub(super) struct Cached<L: Policy, M: Mode = Counting> {
    kept: UnsafeCell<Slot<L, M>>,
    /// The thread whose the cell is; of nobody when zero.
    #[cfg(Py_GIL_DISABLED)]
    owner: usize,
    /// That thread's objects, by place in the pool: see [`Cached::endpoint`].
    #[cfg(Py_GIL_DISABLED)]
    own: UnsafeCell<Vec<Own>>,
}

// SAFETY: with a GIL, `kept` is touched only while attached, one thread at a time. Without one, it and `own` are by the
// owning thread alone, by the collector, which stops all threads where none is in here, and by whoever drops the picker, which is the
// last to have it.
unsafe impl<L: Policy, M: Mode> Sync for Cached<L, M> {}
// SAFETY: what it holds is an Arc of what is Send and Sync; a thread that is not the owner does not touch it.
unsafe impl<L: Policy, M: Mode> Send for Cached<L, M> {}

/// A number that no two living threads share, and never zero. A thread that came after the owner's end may have its
/// number: by then nobody else is in the cell, and the handle reached that thread through Python, which orders the two.
#[cfg(Py_GIL_DISABLED)]
#[inline(always)]
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| ptr::from_ref(here) as usize)
}

/// A state, borrowed from the cell.
#[cfg(not(Py_GIL_DISABLED))]
pub(super) type Seen<'a, L, M = Counting> = &'a CoreState<L, M>;

/// A state, borrowed from the cell or guarded.
#[cfg(Py_GIL_DISABLED)]
pub(super) enum Seen<'a, L: Policy, M: Mode = Counting> {
    /// From the cell.
    Kept(&'a CoreState<L, M>),
    /// From the picker.
    Loaded(arc_swap::Guard<Arc<CoreState<L, M>>>),
}

#[cfg(Py_GIL_DISABLED)]
impl<L: Policy, M: Mode> std::ops::Deref for Seen<'_, L, M> {
    type Target = CoreState<L, M>;
    #[inline(always)]
    fn deref(&self) -> &CoreState<L, M> {
        match self {
            Seen::Kept(state) => state,
            Seen::Loaded(guard) => guard,
        }
    }
}

/// Shows the collector the endpoints that nothing but this state holds.
pub(super) fn show<L: Policy, M: Mode>(
    state: &Arc<CoreState<L, M>>,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    if Arc::strong_count(state) == 1 && Arc::strong_count(&state.snapshot) == 1 {
        for payload in state.snapshot.payload.iter().filter(|payload| Arc::strong_count(payload) == 1) {
            visit.call(&**payload)?;
        }
    }
    Ok(())
}

impl<L: Policy, M: Mode> Cached<L, M> {
    /// For a picker; the cell of a handle is that of the thread that makes it.
    pub fn new(picker: &Picker<L, M, Payload, Counting>) -> Cached<L, M> {
        #[cfg(not(Py_GIL_DISABLED))]
        let kept = Cached::<L, M>::fresh(picker);
        #[cfg(Py_GIL_DISABLED)]
        let kept = picker.is_local().then(|| Cached::<L, M>::fresh(picker));
        Cached {
            kept: UnsafeCell::new(kept),
            #[cfg(Py_GIL_DISABLED)]
            owner: if picker.is_local() { this_thread() } else { 0 },
            #[cfg(Py_GIL_DISABLED)]
            own: UnsafeCell::new(Vec::new()),
        }
    }

    /// Whether this is the cell of a handle, and the calling thread is the one whose it is.
    #[cfg(Py_GIL_DISABLED)]
    #[inline(always)]
    pub fn is_own(&self) -> bool {
        self.owner == this_thread()
    }

    /// A new reference to the object of an endpoint.
    ///
    /// Without a GIL a reference count is written without an atomic instruction only by the thread that made the object,
    /// and threads that write one count wait for each other's cache line. So a handle gives its thread equal objects that
    /// it made itself.
    ///
    /// # Safety
    /// Attached. Neither the state nor anything else borrowed from the cell is used afterwards.
    #[inline(always)]
    pub unsafe fn endpoint(&self, state: &CoreState<L, M>, index: u32) -> Option<Raw> {
        let payload = state.snapshot.payload.get(index as usize)?;
        // SAFETY: attached; `own` is this thread's.
        unsafe {
            #[cfg(Py_GIL_DISABLED)]
            if self.is_own() {
                if let Some(Some((of, object))) = (&*self.own.get()).get(index as usize)
                    && ptr::eq(of.as_ptr(), Arc::as_ptr(payload))
                {
                    ffi::Py_INCREF(object.as_ptr());
                    return Some(object.as_ptr());
                }
                return self.make_own(payload, state.snapshot.payload.len(), index as usize);
            }
            let object = payload.as_ptr();
            ffi::Py_INCREF(object);
            Some(object)
        }
    }

    /// # Safety
    /// As for [`Cached::endpoint`], in the thread whose cell this is.
    #[cfg(Py_GIL_DISABLED)]
    #[cold]
    unsafe fn make_own(&self, payload: &Payload, length: usize, index: usize) -> Option<Raw> {
        Python::attach(|py| {
            // Making an object runs no Python code. Where there is no memory for one, the shared one will do.
            let Ok(made) = payload.get().copy(py) else { return Some(payload.clone_ref(py).into_ptr()) };
            let object = made.clone_ref(py).into_ptr();
            // SAFETY: this thread's, and not borrowed elsewhere; the borrow ends before anything is dropped.
            let gone = unsafe {
                let own = &mut *self.own.get();
                let gone = (own.len() > length).then(|| own.split_off(length));
                own.resize_with(length, || None);
                (gone, own.get_mut(index).and_then(|place| place.replace((Arc::downgrade(payload), made))))
            };
            // Last, for it may run any code.
            drop(gone);
            Some(object)
        })
    }

    /// The current state.
    ///
    /// # Safety
    /// Attached, and the result is not used after anything that may run Python code.
    #[inline(always)]
    pub unsafe fn state<'a>(&'a self, picker: &'a Picker<L, M, Payload, Counting>) -> Seen<'a, L, M> {
        #[cfg(Py_GIL_DISABLED)]
        if self.owner != this_thread() {
            return Seen::Loaded(picker.load());
        }
        // SAFETY: the caller is attached, and without a GIL this is the owning thread: nothing else touches the cell now.
        let state = match unsafe { self.kept() }.filter(|kept| kept.version == picker.version()) {
            Some(kept) => &kept.state,
            None => self.refresh(picker),
        };
        #[cfg(Py_GIL_DISABLED)]
        return Seen::Kept(state);
        #[cfg(not(Py_GIL_DISABLED))]
        return state;
    }

    /// What is in the cell.
    ///
    /// # Safety
    /// As for [`Cached::state`], in the owning thread or with all others stopped.
    #[inline(always)]
    unsafe fn kept(&self) -> Option<&Kept<L, M>> {
        // SAFETY: as the caller promises.
        let kept = unsafe { &*self.kept.get() };
        #[cfg(Py_GIL_DISABLED)]
        return kept.as_ref();
        #[cfg(not(Py_GIL_DISABLED))]
        return Some(kept);
    }

    fn fresh(picker: &Picker<L, M, Payload, Counting>) -> Kept<L, M> {
        // The version first: a state that is newer than it says is fetched once more.
        let version = picker.version();
        Kept { version, state: picker.state() }
    }

    /// The current state where it is in the cell; `None` where it has to be fetched. Calls nothing.
    ///
    /// # Safety
    /// As for [`Cached::state`].
    #[inline(always)]
    pub unsafe fn at_hand(&self, picker: &Picker<L, M, Payload, Counting>) -> Option<&CoreState<L, M>> {
        #[cfg(Py_GIL_DISABLED)]
        if self.owner != this_thread() {
            return None;
        }
        // SAFETY: as in `state`.
        let kept = unsafe { self.kept() }?;
        (kept.version == picker.version()).then_some(&kept.state)
    }

    #[cold]
    fn refresh(&self, picker: &Picker<L, M, Payload, Counting>) -> &CoreState<L, M> {
        let fresh = Cached::<L, M>::fresh(picker);
        #[cfg(Py_GIL_DISABLED)]
        let fresh = Some(fresh);
        // SAFETY: as in `state`, and no borrow of the cell is alive: its callers do not keep it this long.
        let old = unsafe { ptr::replace(self.kept.get(), fresh) };
        // Dropping the old state may drop endpoints, which may run any code, which may come back here and replace the
        // cell once more. Nothing is borrowed meanwhile.
        // Said to PyO3, which otherwise takes this raw call for a detached thread and puts the dropping off.
        Python::attach(|_| drop(old));
        // SAFETY: as in `state`; the borrow starts after that code has run.
        let kept = unsafe { &*self.kept.get() };
        #[cfg(Py_GIL_DISABLED)]
        // SAFETY: put there above, and nothing takes it away but another of the same.
        let kept = unsafe { kept.as_ref().unwrap_unchecked() };
        &kept.state
    }

    /// Shows the collector the endpoints that nothing but an old state in here holds: it is kept until the next pick.
    /// Those that something else holds too are left out, since none may be shown twice.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs attached, with all other threads stopped, and showing runs no Python code.
        if let Some(kept) = unsafe { self.kept() } {
            show(&kept.state, visit)?;
        }
        // SAFETY: as above.
        #[cfg(Py_GIL_DISABLED)]
        for (_, object) in unsafe { &*self.own.get() }.iter().flatten() {
            visit.call(object)?;
        }
        Ok(())
    }
}
