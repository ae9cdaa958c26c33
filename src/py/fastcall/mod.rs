//! The raw door: `pick`, `acquire` and `release` as CPython calls them, without conversion or allocation in between.
//!
//! This room is the only one of the binding with unsafe code. Its argument, once for all of it:
//!
//! * Every function here is called by the interpreter attached, and with `self` of the type it was registered on.
//!   [`self_of`] relies on both. With a GIL that means one thread at a time. Without one, several threads may be in the
//!   same function on the same object: pickers and pools are frozen and made of atomics, locks and guarded pointers, and
//!   the two things that are not, the state that a picker keeps and what a lease holds, say below and in their files who
//!   may touch them.
//! * [`Cached`] lets a picker keep the state it read last: any picker with a GIL, a per-thread handle without one, and
//!   then for its own thread only. It is never borrowed across anything that can run Python code: before such code runs,
//!   what is needed of the state has been copied out, or an `Arc` of it is held.
//! * A lease object is written only in `lease`, without a GIL inside a critical section of that object. It owns one
//!   reference to its endpoint and one to its pool, or to what keeps its pool; the pool's block of counters keeps every chunk until the pool goes,
//!   so `cell` is valid for as long as the lease is.
//! * Locks are never held across Python code, an allocation by the interpreter, or anything else at which a thread may
//!   be stopped: whoever waits for one attached waits for a thread that runs.
//! * No panic crosses the boundary: the fast paths have none, and slow paths run inside [`guarded`].
#![allow(unsafe_code)]

use crate::core::endpoints::Work;
use crate::core::error::PickError;
use crate::core::pickers::{Choice, Key, Policy};
use crate::core::pool::{Filter, Joint, Picker, State, Taken};
use crate::core::sync::Mode;
use crate::core::time::Nanos;
use crate::py::Counting;
use crate::py::door;
use crate::py::endpoint::Payload;
use crate::py::errors::InternalError;
use crate::py::fork::detached;
use crate::py::keys::Prepared;
use crate::py::pool::{Pool, instant_or};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::ptr;
use std::sync::Arc;

pub(crate) type CoreState<L, M = Counting> = State<L, M, Payload>;

/// A picker of a pool: `M` is [`Counting`], or `Joint` where several processes have the pool in common.
pub(crate) type CorePicker<L, M = Counting> = Picker<L, M, Payload, Counting>;
type Raw = *mut ffi::PyObject;

mod cached;
mod joint;
mod keys;
mod lease;
mod memory;
mod methods;
use cached::{Cached, Seen};
pub(crate) use keys::hashes_of;
use keys::{ascii_of, plain_key};
#[cfg(Py_GIL_DISABLED)]
use lease::lease_with;
use lease::{lease_in, lease_jointly};
pub(crate) use lease::{lease_on, register};
pub(crate) use methods::add_methods;

/// The work of a request when nothing is said: one, in units.
const ONE: u64 = 1024;

/// When a lease began of which nobody needs to know. Not zero, which is where a manual clock starts.
const UNTIMED: Nanos = Nanos::MAX;

/// A picker with the state that it read last.
pub(crate) struct Door<L: Policy> {
    /// In a pool of several processes, one of nobody.
    pub picker: Arc<CorePicker<L>>,
    pub pool: Py<Pool>,
    cached: Cached<L>,
    /// The one that counts in a pool of several processes.
    pub shared: Option<Box<joint::Half<L>>>,
}

/// Does the same with a door's picker, whichever it is: the body is compiled for both.
macro_rules! on_picker {
    ($door:expr, $picker:ident => $body:expr) => {
        match &$door.shared {
            None => {
                let $picker = &$door.picker;
                $body
            }
            Some(half) => {
                let $picker = &half.picker;
                $body
            }
        }
    };
}
pub(crate) use on_picker;

impl<L: Policy> Door<L> {
    /// A picker on a pool.
    pub fn new(py: Python<'_>, pool: Py<Pool>, policy: L) -> Door<L> {
        let core = &pool.get().core;
        if core.joint().is_some() {
            return Door::jointly(py, pool, policy);
        }
        // Detached: an update of the pool may hold its lock for a while, and nobody else should wait for that.
        let picker = detached(py, || Picker::new(core, policy));
        Door { cached: Cached::new(&picker), picker, pool, shared: None }
    }

    /// A handle for this thread.
    pub fn local(&self, py: Python<'_>) -> Door<L> {
        if let Some(half) = &self.shared {
            return self.local_jointly(py, half);
        }
        let picker = detached(py, || self.picker.local());
        Door { cached: Cached::new(&picker), picker, pool: self.pool.clone_ref(py), shared: None }
    }

    /// The current state.
    ///
    /// # Safety
    /// Attached, and the result is not used after anything that may run Python code.
    #[inline(always)]
    unsafe fn state(&self) -> Seen<'_, L> {
        // SAFETY: as the caller promises.
        unsafe { self.cached.state(&self.picker) }
    }

    /// A lease on what this picker, whose object is `slf`, has taken. That of a handle holds what only the handle's thread
    /// counts the references of: objects of that thread, and the pool by way of the handle.
    ///
    /// # Safety
    /// Attached; neither the state nor anything else borrowed from the cell is used afterwards.
    #[inline(always)]
    unsafe fn lease(&self, py: Python<'_>, slf: Raw, state: &CoreState<L>, taken: Taken, now: Nanos) -> Raw {
        // SAFETY: as the caller promises; an object of a picker holds its pool for as long as it lives.
        unsafe {
            #[cfg(Py_GIL_DISABLED)]
            if self.cached.is_own()
                && let Some(cell) = state.snapshot.view.block.cell(taken.choice.slot).map(ptr::from_ref)
                && let Some(endpoint) = self.cached.endpoint(state, taken.choice.index)
            {
                return lease_with(endpoint, cell, &self.pool, slf, taken, now);
            }
            let _ = slf;
            lease_in(py, &state.snapshot, &self.pool, taken, now)
        }
    }

    /// Shows the collector what only this picker's old state holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.cached.traverse(visit)?;
        if let Some(half) = &self.shared {
            half.traverse(visit)?;
        }
        self.picker.retired(|state| cached::show(state, visit))
    }

    /// The time for a pick that said nothing about it; zero when nothing needs it.
    #[inline(always)]
    pub fn time(&self, pool: &Pool) -> Nanos {
        self.time_here(pool).unwrap_or_else(|now| now)
    }

    /// The same; an error for a pool that several processes have in common: that is not looked at here.
    #[inline(always)]
    fn time_here(&self, pool: &Pool) -> Result<Nanos, Nanos> {
        let next = pool.core.next_change();
        if L::TIMED || next != Nanos::MAX { Self::look(pool, next) } else { Ok(Nanos::ZERO) }
    }

    /// An instant that the caller named: passive health goes by it too.
    pub fn caught_up(pool: &Pool, now: Nanos) -> Nanos {
        if pool.core.watched() && now >= pool.core.next_change() {
            pool.core.expire(now);
        }
        now
    }

    #[inline(always)]
    fn look(pool: &Pool, next: Nanos) -> Result<Nanos, Nanos> {
        let now = pool.clock.now();
        if now >= next {
            return Self::due(pool, now);
        }
        Ok(now)
    }

    /// Does what is due. In a pool of several processes something always is.
    #[inline(never)]
    fn due(pool: &Pool, now: Nanos) -> Result<Nanos, Nanos> {
        if pool.core.joint().is_some() {
            return Err(now);
        }
        pool.core.expire(now);
        Ok(now)
    }

    /// The time for an acquire: also needed when leases measure how long they last. UNTIMED when nothing needs it.
    #[inline(always)]
    fn acquire_time(&self, pool: &Pool) -> Result<Nanos, Nanos> {
        let next = pool.core.next_change();
        if L::TIMED || pool.core.tracks_latency() || next != Nanos::MAX { Self::look(pool, next) } else { Ok(UNTIMED) }
    }

    /// Takes one request with all options given.
    #[allow(clippy::too_many_arguments)]
    fn take<M: Mode>(
        &self,
        py: Python<'_>,
        picker: &CorePicker<L, M>,
        state: &CoreState<L, M>,
        key: Option<Key<'_>>,
        units: u64,
        filter: Filter,
        now: Nanos,
    ) -> PyResult<Option<Py<PyAny>>> {
        let taken = if filter.is_empty() {
            picker.acquire(state, key, units, now)
        } else {
            picker.acquire_from(state, key, units, now, filter)
        };
        let Some(taken) = taken else { return Ok(None) };
        // SAFETY: attached; the pool is one.
        let lease = unsafe {
            if M::JOINT {
                lease_jointly(py, &state.snapshot, &self.pool, taken, now)
            } else {
                lease_in(py, &state.snapshot, &self.pool, taken, now)
            }
        };
        // SAFETY: a new reference, or null with an error set.
        unsafe { Bound::from_owned_ptr_or_err(py, lease) }.map(|l| Some(l.unbind()))
    }

    /// The same with work that `charge` makes of what was taken, and that the lease holds.
    #[allow(clippy::too_many_arguments)]
    pub fn take_with(
        &self,
        py: Python<'_>,
        state: &CoreState<L>,
        key: Option<Key<'_>>,
        units: u64,
        filter: Filter,
        now: Nanos,
        charge: impl FnOnce(Choice) -> Option<Arc<dyn Work>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let taken = if filter.is_empty() {
            self.picker.acquire(state, key, units, now)
        } else {
            self.picker.acquire_from(state, key, units, now, filter)
        };
        let Some(taken) = taken else { return Ok(None) };
        // SAFETY: attached; the pool is one; `hang` gets the lease that was made, which nobody else has seen.
        let lease = unsafe {
            let lease = lease_in(py, &state.snapshot, &self.pool, taken, now);
            if !lease.is_null() {
                lease::hang(lease, charge(taken.choice));
            }
            lease
        };
        // SAFETY: a new reference, or null with an error set.
        unsafe { Bound::from_owned_ptr_or_err(py, lease) }.map(|l| Some(l.unbind()))
    }

    /// Why nothing could be picked.
    pub fn refusal<M: Mode>(&self, state: &CoreState<L, M>, filter: &Filter) -> PickError {
        let left_out = filter.left_out(state.snapshot.payload.len());
        let pool = self.pool.get();
        pool.core.refusal(&state.snapshot.view, left_out, &|index| filter.allows(index), pool.clock.now())
    }

    /// The current state, built now if the pool has changed and the rebuild was put off: those whom the old one knows
    /// may all be gone while others could be had.
    pub fn latest<M: Mode>(&self, py: Python<'_>, picker: &CorePicker<L, M>) -> Arc<CoreState<L, M>> {
        if M::JOINT {
            self.pool.get().keep_up(py);
        }
        let state = picker.state();
        if !picker.behind(&state) {
            return state;
        }
        let core = &self.pool.get().core;
        detached(py, || core.rebuild());
        picker.state()
    }

    /// An optional key as the policy sees it; a policy that has no use for one does not look at it.
    pub fn key_of<'a>(&self, key: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<Prepared<'a>>> {
        let key = key.filter(|k| L::KEYED && !k.is_none());
        key.map(|key| Prepared::new(self.picker.policy(), key)).transpose()
    }
}

/// A picker class.
pub(crate) trait PickerClass: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    /// How it chooses.
    type Policy: Policy;
    /// Its picker.
    fn door(&self) -> &Door<Self::Policy>;
}

/// Self of a method call.
///
/// # Safety
/// Attached, and `object` is an instance of `C` that outlives the result.
#[inline(always)]
unsafe fn self_of<'a, C>(_: Python<'a>, object: &'a Raw) -> &'a C
where
    C: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync,
{
    // SAFETY: as the caller promises; `Py` is a transparent wrapper around a pointer that is not null.
    unsafe { &*ptr::from_ref(object).cast::<Py<C>>() }.get()
}

/// Runs a slow path: errors are raised, and a panic becomes InternalError.
fn guarded(py: Python<'_>, body: impl FnOnce() -> PyResult<Raw>) -> Raw {
    // Said to PyO3 as well, so that what is dropped in there is dropped at once.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Python::attach(|_| body())));
    let error = match result {
        Ok(Ok(object)) => return object,
        Ok(Err(error)) => error,
        Err(_) => InternalError::new_err("a bug in aibalance: please report it"),
    };
    error.restore(py);
    ptr::null_mut()
}

#[inline(always)]
fn none() -> Raw {
    // SAFETY: None is there for as long as the interpreter is.
    unsafe {
        let none = ffi::Py_None();
        ffi::Py_INCREF(none);
        none
    }
}

/// The arguments of one call: positional ones, then named ones in the order of `names`; null for those not given.
///
/// # Safety
/// `args`, `count` and `kwnames` as CPython passes them.
unsafe fn arguments<'py, const N: usize>(
    py: Python<'py>,
    function: &str,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
    positional: usize,
    names: [&str; N],
) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
    let given = count as usize;
    if given > positional {
        return Err(PyTypeError::new_err(format!(
            "{function}() takes at most {positional} positional argument{} ({given} given)",
            if positional == 1 { "" } else { "s" }
        )));
    }
    let mut out = [const { None }; N];
    // SAFETY: CPython passes this many valid objects.
    let at = |i: usize| unsafe { Bound::from_borrowed_ptr(py, *args.add(i)) };
    for (i, place) in out.iter_mut().enumerate().take(given) {
        *place = Some(at(i));
    }
    if !kwnames.is_null() {
        // SAFETY: a tuple of str.
        let kwnames = unsafe { Bound::from_borrowed_ptr(py, kwnames).cast_into_unchecked::<PyTuple>() };
        for (i, name) in kwnames.iter().enumerate() {
            let name = name.cast_into::<PyString>()?;
            let text = name.to_str()?;
            // The first is the subject, which is positional-only; the function's other positional ones have names.
            let which = names.iter().skip(1).position(|n| *n == text).map(|p| p + 1);
            match which.and_then(|w| out.get_mut(w)) {
                Some(place @ None) => *place = Some(at(given + i)),
                Some(_) => {
                    return Err(PyTypeError::new_err(format!("{function}() got two values for argument {text:?}")));
                }
                None => {
                    return Err(PyTypeError::new_err(format!(
                        "{function}() got an unexpected keyword argument {text:?}"
                    )));
                }
            }
        }
    }
    Ok(out)
}

/// What a failing call does: raise, or give None.
trait Refuse {
    const NAME: &'static str;
    fn refuse(error: impl FnOnce() -> PickError) -> PyResult<Raw>;
}
struct Raise;
struct GiveNone;
impl Refuse for Raise {
    const NAME: &'static str = "";
    fn refuse(error: impl FnOnce() -> PickError) -> PyResult<Raw> {
        Err(error().into())
    }
}
impl Refuse for GiveNone {
    const NAME: &'static str = "try_";
    fn refuse(_: impl FnOnce() -> PickError) -> PyResult<Raw> {
        Ok(none())
    }
}

/// `pick(key=None, /, *, now=None)` and `try_pick`: the way that most go. It leaves by its last call wherever it does
/// not lead to a choice, so that there is nothing to save before.
unsafe extern "C" fn pick<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    // SAFETY: CPython calls this attached, with self of the class it is registered on and valid arguments.
    unsafe {
        if !C::Policy::QUICK || !kwnames.is_null() || count > 1 {
            return pick_fully::<C, R>(slf, args, count, kwnames);
        }
        let py = Python::assume_attached();
        let door = self_of::<C>(py, &slf).door();
        // Also while somebody is on probation and has to be asked for a probe.
        if door.pool.get().core.next_change() != Nanos::MAX {
            return pick_in_time::<C, R>(slf, args, count, kwnames);
        }
        let key = if !C::Policy::KEYED {
            Key::default()
        } else if count == 1
            && let Some(text) = ascii_of(*args)
            && let Some(hash) = door.picker.policy().text_key(text)
        {
            Key { hash, bytes: text.as_bytes() }
        } else {
            return pick_fully::<C, R>(slf, args, count, kwnames);
        };
        let Some(state) = door.cached.at_hand(&door.picker) else {
            return pick_fully::<C, R>(slf, args, count, kwnames);
        };
        if let Some(choice) = door.picker.quick(state, key)
            && let Some(object) = door.cached.endpoint(state, choice.index)
        {
            return object;
        }
        pick_on::<C, R>(slf, args, count, kwnames)
    }
}

/// The quick way where time matters, both halves of it.
#[inline(never)]
unsafe extern "C" fn pick_in_time<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    // SAFETY: as for `pick`, which passes on what it got.
    unsafe {
        let py = Python::assume_attached();
        let door = self_of::<C>(py, &slf).door();
        let key = if !C::Policy::KEYED {
            Key::default()
        } else if count == 1
            && let Some(text) = ascii_of(*args)
            && let Some(hash) = door.picker.policy().text_key(text)
        {
            Key { hash, bytes: text.as_bytes() }
        } else {
            return pick_fully::<C, R>(slf, args, count, kwnames);
        };
        // Before the state is read, for it may change the pool.
        let now = match door.time_here(door.pool.get()) {
            Ok(now) => now,
            Err(now) => return joint::pick::<C, R>(slf, args, count, kwnames, now),
        };
        let Some(state) = door.cached.at_hand(&door.picker) else {
            return pick_fully::<C, R>(slf, args, count, kwnames);
        };
        if let Some(choice) = door.picker.quick(state, key).or_else(|| door.picker.go_on(state, key))
            && let Some(choice) = door.picker.admitted(state, key, choice, now)
            && let Some(object) = door.cached.endpoint(state, choice.index)
        {
            return object;
        }
        pick_slowly::<C, R>(py, door, args, count, kwnames)
    }
}

/// Goes on where the quick way ended.
#[inline(never)]
unsafe extern "C" fn pick_on<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    // SAFETY: as for `pick`, which passes on what it got.
    unsafe {
        let py = Python::assume_attached();
        let door = self_of::<C>(py, &slf).door();
        let key = match C::Policy::KEYED {
            true => plain_key(py, door.picker.policy(), *args).unwrap_or_default(),
            false => Key::default(),
        };
        let state = door.state();
        #[cfg(Py_GIL_DISABLED)]
        let state: &CoreState<_> = &state;
        if let Some(choice) = door.picker.go_on(state, key)
            && let Some(object) = door.cached.endpoint(state, choice.index)
        {
            return object;
        }
        pick_slowly::<C, R>(py, door, args, count, kwnames)
    }
}

/// A pick that is not quick: of another policy, with another key, at a time that matters, or the first after an update.
#[inline(never)]
unsafe extern "C" fn pick_fully<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    // SAFETY: CPython calls this attached, with self of the class it is registered on and valid arguments.
    unsafe {
        let py = Python::assume_attached();
        let door = self_of::<C>(py, &slf).door();
        let pool = door.pool.get();
        let key = if !kwnames.is_null() || count > 1 {
            return pick_slowly::<C, R>(py, door, args, count, kwnames);
        } else if count == 0 {
            None
        } else if C::Policy::KEYED {
            match plain_key(py, door.picker.policy(), *args) {
                Some(key) => Some(key),
                None => return pick_slowly::<C, R>(py, door, args, count, kwnames),
            }
        } else {
            // The key of a policy that has no use for one is not looked at.
            None
        };
        let now = match door.time_here(pool) {
            Ok(now) => now,
            Err(now) => return joint::pick::<C, R>(slf, args, count, kwnames, now),
        };
        let state = door.state();
        #[cfg(Py_GIL_DISABLED)]
        let state: &CoreState<_> = &state;
        if let Some(choice) = door.picker.pick(state, key, now)
            && let Some(object) = door.cached.endpoint(state, choice.index)
        {
            return object;
        }
        pick_slowly::<C, R>(py, door, args, count, kwnames)
    }
}

#[inline(never)]
unsafe fn pick_slowly<C: PickerClass, R: Refuse>(
    py: Python<'_>,
    door: &Door<C::Policy>,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    guarded(py, || {
        let name = format!("{}pick", R::NAME);
        // SAFETY: passed on from CPython.
        let [key, now] = unsafe { arguments(py, &name, args, count, kwnames, 1, ["key", "now"])? };
        let pool = door.pool.get();
        let prepared = door.key_of(key.as_ref())?;
        let key = prepared.as_ref().map(Prepared::key);
        let now = match now {
            Some(now) => Door::<C::Policy>::caught_up(pool, instant_or(pool, Some(&now))?),
            None => door.time(pool),
        };
        on_picker!(door, picker => {
            let mut state = if pool.core.joint().is_some() { door.latest(py, picker) } else { picker.state() };
            let mut choice = picker.pick(&state, key, now);
            if choice.is_none() && picker.behind(&state) {
                state = door.latest(py, picker);
                choice = picker.pick(&state, key, now);
            }
            match choice.and_then(|c| state.snapshot.payload.get(c.index as usize)) {
                Some(payload) => Ok(payload.clone_ref(py).into_ptr()),
                None => R::refuse(|| door.refusal(&state, &Filter::default())),
            }
        })
    })
}

/// `acquire(key=None, /, *, cost=1.0, exclude=(), subset=None, now=None)` and `try_acquire`.
unsafe extern "C" fn acquire<C: PickerClass, R: Refuse>(
    slf: Raw,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    // SAFETY: as for `pick`.
    unsafe {
        let py = Python::assume_attached();
        let door = self_of::<C>(py, &slf).door();
        let pool = door.pool.get();
        let key = if !kwnames.is_null() || count > 1 {
            return acquire_slowly::<C, R>(py, door, args, count, kwnames);
        } else if count == 0 {
            None
        } else if C::Policy::KEYED {
            match plain_key(py, door.picker.policy(), *args) {
                Some(key) => Some(key),
                None => return acquire_slowly::<C, R>(py, door, args, count, kwnames),
            }
        } else {
            None
        };
        let now = match door.acquire_time(pool) {
            Ok(now) => now,
            Err(now) => return joint::acquire::<C, R>(slf, args, count, kwnames, now),
        };
        let state = door.state();
        #[cfg(Py_GIL_DISABLED)]
        let state: &CoreState<_> = &state;
        if let Some(taken) = door.picker.acquire(state, key, ONE, now) {
            return door.lease(py, slf, state, taken, now);
        }
        acquire_slowly::<C, R>(py, door, args, count, kwnames)
    }
}

#[inline(never)]
unsafe fn acquire_slowly<C: PickerClass, R: Refuse>(
    py: Python<'_>,
    door: &Door<C::Policy>,
    args: *const Raw,
    count: ffi::Py_ssize_t,
    kwnames: Raw,
) -> Raw {
    guarded(py, || {
        let name = format!("{}acquire", R::NAME);
        let names = ["key", "cost", "exclude", "subset", "now"];
        // SAFETY: passed on from CPython.
        let [key, cost, exclude, subset, now] = unsafe { arguments(py, &name, args, count, kwnames, 1, names)? };
        let pool = door.pool.get();
        let prepared = door.key_of(key.as_ref())?;
        let key = prepared.as_ref().map(Prepared::key);
        let units = cost.map_or(Ok(ONE), |cost| door::units(&cost, "cost"))?;
        let names = door::Names::from_arguments(exclude.as_ref(), subset.as_ref())?;
        let now = match now {
            Some(now) => Door::<C::Policy>::caught_up(pool, instant_or(pool, Some(&now))?),
            None => door.acquire_time(pool).unwrap_or_else(|now| now),
        };
        on_picker!(door, picker => {
            // Places in the pool mean nothing in another state, so the filter and the choice share one.
            let mut state = if pool.core.joint().is_some() { door.latest(py, picker) } else { picker.state() };
            let mut filter = names.places(&state.snapshot);
            let mut lease = door.take(py, picker, &state, key, units, filter.clone(), now)?;
            // Once in a pool of this process alone; in a shared one others may be quicker a few times.
            for _ in 0..16 {
                let late = picker.behind(&state) || pool.core.joint().is_some_and(Joint::behind);
                if lease.is_some() || !late {
                    break;
                }
                state = door.latest(py, picker);
                filter = names.places(&state.snapshot);
                lease = door.take(py, picker, &state, key, units, filter.clone(), now)?;
            }
            match lease {
                Some(lease) => Ok(lease.into_ptr()),
                None => R::refuse(|| door.refusal(&state, &filter)),
            }
        })
    })
}
