//! Lease: a small native object, with its memory reused.
#![allow(unsafe_code)]

use super::memory::{allocate, deallocate};
use super::methods::{fast, plain, with_keywords};
use super::{Raw, UNTIMED, arguments, guarded, none, self_of};
use crate::core::endpoints::{Cell, Snapshot, Work};
use crate::core::error::{ConfigError, LeaseError};
use crate::core::pool::lease::Entry;
use crate::core::pool::{Outcome, Taken};
use crate::core::time::Nanos;
use crate::py::door::{self, Ending};
use crate::py::endpoint::Payload;
use crate::py::errors::InternalError;
use crate::py::pool::{Pool, instant_or};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

mod joint;
mod ready;
use joint::gave_up;
pub(super) use joint::lease_jointly;
use ready::Ready;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// Its work is in flight, and dropping it gives the work back.
    Live,
    /// Its work is in flight and its id is known; dropping it gives the work back.
    Entered,
    /// Its work is in flight, and only its id gives it back.
    Detached,
    /// Its work has been given back.
    Done,
    /// Live, in a pool that several processes have in common.
    Joint,
}

#[repr(C)]
pub(super) struct LeaseObject {
    base: ffi::PyObject,
    endpoint: Raw,
    pool: Raw,
    /// Whose reference it owns so that the pool stays: with a GIL the pool itself.
    #[cfg(Py_GIL_DISABLED)]
    keeper: Raw,
    cell: *const Cell,
    units: u64,
    start: u64,
    id: u64,
    slot: u32,
    stage: Stage,
    token: bool,
    /// Of which life of a joint pool it is: of another since a fork, it is the parent's to give back.
    life: u16,
    /// What it holds besides its units, while it is live; then the ledger has it. Nothing when it is deallocated.
    work: Option<Arc<dyn Work>>,
}

static LEASE_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// Runs `body` on a lease while no other thread is in it: the GIL sees to that, or else a critical section. `body` runs
/// no Python code, allocates nothing of the interpreter's and waits for no thread that waits for this one, so that the
/// section is not opened in between.
///
/// # Safety
/// Attached, and `object` is a lease.
#[inline(always)]
unsafe fn with_lease<T>(object: Raw, body: impl FnOnce(&mut LeaseObject) -> T) -> T {
    // SAFETY: as the caller promises, and the only borrow there is.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        return body(&mut *object.cast::<LeaseObject>());
        #[cfg(Py_GIL_DISABLED)]
        {
            let py = Python::assume_attached();
            let lease = Borrowed::from_ptr(py, object);
            pyo3::sync::critical_section::with_critical_section(&lease, || body(&mut *object.cast::<LeaseObject>()))
        }
    }
}

/// A lease on an endpoint that no picker chose. `now` is its start; without one it does not measure how long it lasts.
pub(crate) fn lease_on<'py>(
    py: Python<'py>,
    snapshot: &Snapshot<Payload>,
    pool: &Py<Pool>,
    taken: Taken,
    now: Option<Nanos>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, and what comes back is a new reference, or null with an error set.
    unsafe {
        let now = now.unwrap_or(UNTIMED);
        let lease = match pool.get().core.joint() {
            Some(_) => lease_jointly(py, snapshot, pool, taken, now),
            None => lease_in(py, snapshot, pool, taken, now),
        };
        Bound::from_owned_ptr_or_err(py, lease)
    }
}

/// A new lease, or null with an error set; then the work has been given back.
///
/// # Safety
/// Attached.
#[inline(always)]
pub(super) unsafe fn lease_in(
    py: Python<'_>,
    snapshot: &Snapshot<Payload>,
    pool: &Py<Pool>,
    taken: Taken,
    now: Nanos,
) -> Raw {
    let (Some(payload), Some(cell)) =
        (snapshot.payload.get(taken.choice.index as usize), snapshot.view.block.cell(taken.choice.slot))
    else {
        return guarded(py, || Err(InternalError::new_err("a pick outside its snapshot: please report it")));
    };
    // SAFETY: attached; both are valid.
    unsafe {
        let endpoint = payload.as_ptr();
        ffi::Py_INCREF(endpoint);
        lease_with(endpoint, cell, pool, pool.as_ptr(), taken, now)
    }
}

/// The same from a reference to the endpoint's object, which it takes. `keeper` is what holds the pool: itself, or an
/// object that has it for as long as it lives.
///
/// # Safety
/// Attached; `endpoint` is a reference to an endpoint and `cell` one of the pool's.
#[inline(always)]
pub(super) unsafe fn lease_with(
    endpoint: Raw,
    cell: *const Cell,
    pool: &Py<Pool>,
    keeper: Raw,
    taken: Taken,
    now: Nanos,
) -> Raw {
    // SAFETY: attached; the memory is fresh and of the right size, and every field is set before anyone sees it.
    unsafe {
        let memory = allocate();
        if memory.is_null() {
            gave_up(pool.get(), &*cell, taken);
            ffi::Py_DECREF(endpoint);
            return ffi::PyErr_NoMemory();
        }
        ffi::PyObject_Init(memory.cast(), LEASE_TYPE.load(Ordering::Relaxed));
        let lease = &mut *memory;
        lease.endpoint = endpoint;
        lease.pool = pool.as_ptr();
        ffi::Py_INCREF(keeper);
        #[cfg(Py_GIL_DISABLED)]
        {
            lease.keeper = keeper;
        }
        lease.cell = cell;
        lease.units = taken.units;
        lease.start = now.0;
        lease.id = 0;
        lease.slot = taken.choice.slot;
        lease.stage = Stage::Live;
        lease.token = false;
        lease.life = 0;
        // Not an assignment, which would drop what the memory was before.
        ptr::write(&raw mut lease.work, None);
        memory.cast()
    }
}

/// Hangs work on a lease that nobody has seen yet.
///
/// # Safety
/// Attached, and `object` is a live lease.
pub(super) unsafe fn hang(object: Raw, work: Option<Arc<dyn Work>>) {
    // SAFETY: as the caller promises.
    unsafe { with_lease(object, |lease| lease.work = work) }
}

impl LeaseObject {
    #[inline(always)]
    fn pool(&self) -> &Pool {
        // SAFETY: the lease owns a reference to an instance of Pool, or to what holds one.
        unsafe { self_of::<Pool>(Python::assume_attached(), &self.pool) }
    }

    /// Gives the work back; nothing when that has happened already.
    #[inline(always)]
    fn end(&mut self, ending: Ending) {
        match self.stage {
            Stage::Live => {
                self.stage = Stage::Done;
                let pool = self.pool();
                let measures = self.start != UNTIMED.0 && !self.token && pool.core.tracks_latency();
                let (latency, now) = if ending.latency.is_some() || measures {
                    let now = ending.now.unwrap_or_else(|| pool.clock.now());
                    (ending.latency.or(Some(now.since(Nanos(self.start)).as_secs_f64())), now)
                } else {
                    (None, Nanos::ZERO)
                };
                // SAFETY: the pool is alive, so its cells are.
                let cell = unsafe { &*self.cell };
                pool.core.settle_on(cell, self.units, ending.outcome, latency, ending.hint, now);
                pool.core.order().note(self.slot);
                if pool.core.watched() {
                    self.tell(ending);
                }
                if self.work.is_some() {
                    self.drop_work();
                }
            }
            Stage::Joint => self.end_jointly(ending),
            Stage::Entered | Stage::Detached => {
                self.stage = Stage::Done;
                // Not live any more means that its id gave it back before.
                let _ = self.pool().end_entered(self.id, ending);
            }
            Stage::Done => {}
        }
    }

    /// Gives back what it holds besides its units.
    #[inline(never)]
    fn drop_work(&mut self) {
        self.work = None;
    }

    /// What it holds besides its units, wherever that is now.
    fn work(&self) -> Option<Arc<dyn Work>> {
        match self.stage {
            Stage::Live | Stage::Joint => self.work.clone(),
            Stage::Entered | Stage::Detached => self.pool().core.work(self.id),
            Stage::Done => None,
        }
    }

    /// Tells passive health how it ended.
    #[inline(never)]
    fn tell(&self, ending: Ending) {
        let pool = self.pool();
        let now = ending.now.unwrap_or_else(|| pool.clock.now());
        let start = (self.start != UNTIMED.0).then_some(Nanos(self.start));
        pool.core.note(self.slot, ending.outcome, ending.status, ending.hint, start, now);
    }

    /// Gives the work back, and does what was put off until a release.
    ///
    /// # Safety
    /// Attached, and `object` is a lease.
    #[inline(always)]
    unsafe fn finish(object: Raw, ending: Ending) {
        // SAFETY: as the caller promises. The pool lives as long as the lease, which its caller holds.
        unsafe {
            let waits = with_lease(object, |lease| {
                lease.end(ending);
                let core = &lease.pool().core;
                (core.rebuild_waits() | core.waited().any()).then_some(lease.pool)
            });
            if let Some(pool) = waits {
                Self::attend(pool);
            }
        }
    }

    /// # Safety
    /// Attached, and `pool` is a Pool. The lease is not borrowed: while detached, other threads may use it.
    #[cold]
    unsafe fn attend(pool: Raw) {
        // SAFETY: a reference of its own keeps the pool alive whatever becomes of the lease.
        unsafe {
            let py = Python::assume_attached();
            let pool = Bound::from_borrowed_ptr(py, pool).cast_into_unchecked::<Pool>();
            if pool.get().core.rebuild_waits() {
                pool.get().rebuild(py);
            }
            pool.get().wake(py);
        }
    }

    /// Tells those who wait of a lease that was dropped. An error that is on its way stays as it is.
    ///
    /// # Safety
    /// Attached, and `pool` is a Pool that its caller holds.
    #[cold]
    unsafe fn attend_dropped(pool: Raw) {
        // SAFETY: as the caller promises. The error, if any, is put back as it was; waking leaves none of its own.
        unsafe {
            let py = Python::assume_attached();
            let (mut kind, mut value, mut trace) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            #[allow(deprecated)]
            ffi::PyErr_Fetch(&mut kind, &mut value, &mut trace);
            let pool = Bound::from_borrowed_ptr(py, pool).cast_into_unchecked::<Pool>();
            pool.get().wake(py);
            #[allow(deprecated)]
            ffi::PyErr_Restore(kind, value, trace);
        }
    }

    /// Its id, which from now on stands for it.
    fn enter(&mut self) -> Result<u64, LeaseError> {
        match self.stage {
            Stage::Done => return Err(LeaseError::Released),
            Stage::Joint if !self.is_mine() => return Err(LeaseError::Released),
            Stage::Live | Stage::Joint => {
                let pool = self.pool();
                // A timeout counts from here when nobody looked at the clock before; a latency does not.
                let timed = self.start != UNTIMED.0;
                let start = if timed { Nanos(self.start) } else { pool.clock.now() };
                let measured = timed && !self.token;
                let id = pool.core.enter(Entry { slot: self.slot, units: self.units, start, measured });
                if let Some(work) = self.work.take() {
                    self.pool().core.hang(id, work);
                }
                self.id = id;
                self.stage = Stage::Entered;
            }
            Stage::Entered | Stage::Detached => {}
        }
        Ok(self.id)
    }

    /// The work that it holds now; an error once that has been given back, also by id.
    fn held(&self) -> Result<u64, LeaseError> {
        match self.stage {
            Stage::Live => Ok(self.units),
            Stage::Joint if self.is_mine() => Ok(self.units),
            Stage::Joint => Err(LeaseError::Released),
            Stage::Entered | Stage::Detached => {
                self.pool().core.lease(self.id).map(|e| e.units).ok_or(LeaseError::NotLive(self.id))
            }
            Stage::Done => Err(LeaseError::Released),
        }
    }
}

unsafe extern "C" fn lease_dealloc(object: Raw) {
    // SAFETY: attached, a lease without references, so that nobody else is in it. Counting what was dropped runs no
    // Python code.
    unsafe {
        let lease = &mut *object.cast::<LeaseObject>();
        if matches!(lease.stage, Stage::Live | Stage::Joint | Stage::Entered) {
            lease.end(Ending::plain(Outcome::Dropped));
        }
        if lease.pool().core.waited().any() {
            LeaseObject::attend_dropped(lease.pool);
        }
        #[cfg(not(Py_GIL_DISABLED))]
        let keeper = lease.pool;
        #[cfg(Py_GIL_DISABLED)]
        let keeper = lease.keeper;
        let (endpoint, kind) = (lease.endpoint, ffi::Py_TYPE(object));
        deallocate(object);
        // Last, since they may run any code.
        ffi::Py_DECREF(endpoint);
        ffi::Py_DECREF(keeper);
        ffi::Py_DECREF(kind.cast());
    }
}

/// `release(outcome=None, *, status=None, latency=None, retry_after=None, now=None)`.
unsafe extern "C" fn lease_release(slf: Raw, args: *const Raw, count: ffi::Py_ssize_t, kwnames: Raw) -> Raw {
    // SAFETY: as for `pick`, with self a lease.
    unsafe {
        if count == 0 && kwnames.is_null() {
            LeaseObject::finish(slf, Ending::plain(Outcome::Success));
            return none();
        }
        let py = Python::assume_attached();
        guarded(py, || {
            let ending = lease_ending(py, args, count, kwnames)?;
            LeaseObject::finish(slf, ending);
            Ok(none())
        })
    }
}

unsafe fn lease_ending(py: Python<'_>, args: *const Raw, count: ffi::Py_ssize_t, kwnames: Raw) -> PyResult<Ending> {
    // The outcome may be given by name too, so nothing is positional-only: the first place stays empty.
    let names = ["", "outcome", "status", "latency", "retry_after", "now"];
    if count > 1 {
        return Err(PyTypeError::new_err(format!("release() takes at most 1 positional argument ({count} given)")));
    }
    // SAFETY: passed on from CPython.
    let [first, outcome, status, latency, retry_after, now] =
        unsafe { arguments(py, "release", args, count, kwnames, 1, names)? };
    if first.is_some() && outcome.is_some() {
        return Err(PyTypeError::new_err("release() got two values for argument \"outcome\""));
    }
    let outcome = first.or(outcome);
    Ending::from_arguments(outcome.as_ref(), status.as_ref(), latency.as_ref(), retry_after.as_ref(), now.as_ref())
}

unsafe extern "C" fn lease_cancel(slf: Raw, _: Raw) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe { LeaseObject::finish(slf, Ending::plain(Outcome::Cancelled)) };
    none()
}

unsafe extern "C" fn lease_enter(slf: Raw, _: Raw) -> Raw {
    // SAFETY: attached, a valid object.
    unsafe { ffi::Py_INCREF(slf) };
    slf
}

/// `__exit__(type, value, traceback)`: how the block ended says how the request did.
unsafe extern "C" fn lease_exit(slf: Raw, args: *mut Raw, count: ffi::Py_ssize_t) -> Raw {
    // SAFETY: attached, self is a lease, CPython passes `count` valid objects.
    unsafe {
        let kind = if count > 0 { *args } else { ffi::Py_None() };
        if kind == ffi::Py_None() {
            LeaseObject::finish(slf, Ending::plain(Outcome::Success));
            return none();
        }
        let py = Python::assume_attached();
        guarded(py, || {
            let outcome = outcome_of(&Bound::from_borrowed_ptr(py, kind))?;
            LeaseObject::finish(slf, Ending::plain(outcome));
            Ok(none())
        })
    }
}

fn outcome_of(kind: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let py = kind.py();
    // SAFETY: attached, valid objects.
    let is = |other: Raw| unsafe { ffi::PyErr_GivenExceptionMatches(kind.as_ptr(), other) != 0 };
    // SAFETY: these live as long as the interpreter.
    let (exit, given_up, interrupt, timeout) = unsafe {
        (ffi::PyExc_SystemExit, ffi::PyExc_GeneratorExit, ffi::PyExc_KeyboardInterrupt, ffi::PyExc_TimeoutError)
    };
    if is(exit) || is(given_up) || is(interrupt) {
        return Ok(Outcome::Cancelled);
    }
    if is(timeout) {
        return Ok(Outcome::Timeout);
    }
    // Nothing can be asyncio's CancelledError before asyncio is imported.
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(asyncio) = modules.get_item("asyncio.exceptions")
        && is(asyncio.getattr("CancelledError")?.as_ptr())
    {
        return Ok(Outcome::Cancelled);
    }
    Ok(Outcome::Failure)
}

unsafe extern "C" fn lease_aenter(slf: Raw, _: Raw) -> Raw {
    // SAFETY: attached.
    let py = unsafe { Python::assume_attached() };
    guarded(py, || {
        // SAFETY: a valid object.
        let lease = unsafe { Bound::from_borrowed_ptr(py, slf) }.unbind();
        Ok(Py::new(py, Ready { value: lease })?.into_ptr())
    })
}

unsafe extern "C" fn lease_aexit(slf: Raw, args: *mut Raw, count: ffi::Py_ssize_t) -> Raw {
    // SAFETY: as for `__exit__`.
    unsafe {
        let py = Python::assume_attached();
        let done = lease_exit(slf, args, count);
        if done.is_null() {
            return done;
        }
        let value = Bound::from_owned_ptr(py, done).unbind();
        guarded(py, || Ok(Py::new(py, Ready { value })?.into_ptr()))
    }
}

unsafe extern "C" fn lease_detach(slf: Raw, _: Raw) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || {
            let id = with_lease(slf, |lease| {
                lease.held()?;
                let id = lease.enter()?;
                lease.stage = Stage::Detached;
                Ok::<_, LeaseError>(id)
            })?;
            Ok(id.into_pyobject(py)?.into_any().unbind().into_ptr())
        })
    }
}

unsafe extern "C" fn lease_add(slf: Raw, cost: Raw) -> Raw {
    // SAFETY: attached, self is a lease, a valid argument.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || {
            let cost = Bound::from_borrowed_ptr(py, cost);
            let limit = crate::core::endpoints::counters::MAX_COST;
            let change = cost.extract::<f64>().ok().filter(|c| c.abs() <= limit).ok_or_else(|| {
                PyErr::from(ConfigError::new("cost", door::shown(&cost), "a finite number from -8e12 to 8e12"))
            })?;
            let step = (change * crate::core::endpoints::counters::UNITS).round() as i64;
            // Work cannot become less than nothing, nor more than any request may bring.
            let most = (limit * crate::core::endpoints::counters::UNITS) as u64;
            with_lease(slf, |lease| {
                let before = lease.held()?;
                let after = before.saturating_add_signed(step).min(most);
                match lease.stage {
                    Stage::Live | Stage::Joint => lease.pool().core.adjust(lease.slot, before, after),
                    _ => lease.pool().core.adjust_entered(lease.id, after)?,
                }
                lease.units = after;
                if let Some(work) = lease.work() {
                    work.add(after.wrapping_sub(before) as i64);
                }
                Ok::<_, LeaseError>(())
            })?;
            Ok(none())
        })
    }
}

/// `first_token(*, now=None)`: the time since the acquire is the latency that counts, and the rest is not measured.
unsafe extern "C" fn lease_first_token(slf: Raw, args: *const Raw, count: ffi::Py_ssize_t, kwnames: Raw) -> Raw {
    // SAFETY: as for `pick`, with self a lease.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || {
            let [_, now] = arguments(py, "first_token", args, count, kwnames, 0, ["", "now"])?;
            // The pool lives as long as the lease does. Reading `now` may run any code, so it comes first.
            let pool = with_lease(slf, |lease| lease.pool);
            let now = instant_or(self_of::<Pool>(py, &pool), now.as_ref())?;
            with_lease(slf, |lease| {
                lease.held()?;
                let pool = lease.pool();
                let measured = match lease.stage {
                    Stage::Live | Stage::Joint => lease.start != UNTIMED.0 && !lease.token,
                    _ => pool.core.stop_measuring(lease.id)?,
                };
                if measured && pool.core.tracks_latency() {
                    pool.core.observe_latency(lease.slot, now.since(Nanos(lease.start)).as_secs_f64(), now);
                }
                lease.token = true;
                if let Some(work) = lease.work() {
                    work.first_token();
                }
                Ok::<_, LeaseError>(())
            })?;
            Ok(none())
        })
    }
}

unsafe extern "C" fn lease_id(slf: Raw, _: *mut c_void) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || {
            let id = with_lease(slf, |lease| match lease.stage {
                Stage::Done if lease.id != 0 => Ok(lease.id),
                _ => lease.enter(),
            })?;
            Ok(id.into_pyobject(py)?.into_any().unbind().into_ptr())
        })
    }
}

unsafe extern "C" fn lease_cost(slf: Raw, _: *mut c_void) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe {
        let units = with_lease(slf, |lease| lease.units);
        ffi::PyFloat_FromDouble(units as f64 / crate::core::endpoints::counters::UNITS)
    }
}

unsafe extern "C" fn lease_released(slf: Raw, _: *mut c_void) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe { ffi::PyBool_FromLong(with_lease(slf, |lease| lease.held().is_err()).into()) }
}

unsafe extern "C" fn lease_repr(slf: Raw) -> Raw {
    // SAFETY: attached, self is a lease.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, || {
            let (stage, endpoint) = with_lease(slf, |lease| {
                let stage = match lease.stage {
                    Stage::Done => "released",
                    Stage::Detached => "detached",
                    _ if lease.held().is_err() => "released",
                    _ => "live",
                };
                (stage, lease.endpoint)
            });
            let endpoint = Bound::from_borrowed_ptr(py, endpoint);
            let text = format!("<Lease on {}, {stage}>", endpoint.getattr("id")?.repr()?);
            Ok(PyString::new(py, &text).into_any().unbind().into_ptr())
        })
    }
}

unsafe extern "C" fn lease_reduce(_: Raw, _: Raw) -> Raw {
    // SAFETY: attached.
    let py = unsafe { Python::assume_attached() };
    guarded(py, || Err(PyTypeError::new_err("a lease does not travel: detach it, and send its id")))
}

const RELEASE_DOC: &CStr = c"release($self, /, outcome=None, *, status=None, latency=None, retry_after=None, now=None)\n--\n\nGive the work back.";

/// Makes the type Lease and adds it to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let methods = Box::leak(Box::new([
        with_keywords(c"release", lease_release, RELEASE_DOC),
        plain(
            c"cancel",
            lease_cancel,
            ffi::METH_NOARGS,
            c"cancel($self, /)\n--\n\nGive the work back: neither latency nor failure.",
        ),
        plain(c"detach", lease_detach, ffi::METH_NOARGS, c"detach($self, /)\n--\n\nLeave the lease to its id."),
        plain(c"add", lease_add, ffi::METH_O, c"add($self, cost, /)\n--\n\nCorrect the work that the request brings."),
        with_keywords(
            c"first_token",
            lease_first_token,
            c"first_token($self, /, *, now=None)\n--\n\nThe answer has begun.",
        ),
        plain(c"__enter__", lease_enter, ffi::METH_NOARGS, c"__enter__($self, /)\n--\n\n"),
        fast(c"__exit__", lease_exit, c"__exit__($self, kind, value, traceback, /)\n--\n\n"),
        plain(c"__aenter__", lease_aenter, ffi::METH_NOARGS, c"__aenter__($self, /)\n--\n\n"),
        fast(c"__aexit__", lease_aexit, c"__aexit__($self, kind, value, traceback, /)\n--\n\n"),
        plain(c"__reduce__", lease_reduce, ffi::METH_NOARGS, c"__reduce__($self, /)\n--\n\n"),
        ffi::PyMethodDef::zeroed(),
    ]));
    let getter = |name: &'static CStr, get: ffi::getter, doc: &'static CStr| ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: doc.as_ptr(),
        closure: ptr::null_mut(),
    };
    let getters = Box::leak(Box::new([
        getter(c"id", lease_id, c"The id, good for pool.release()."),
        getter(c"cost", lease_cost, c"The work that the request brings."),
        getter(c"released", lease_released, c"Whether the work has been given back."),
        ffi::PyGetSetDef::default(),
    ]));
    let members = Box::leak(Box::new([
        ffi::PyMemberDef {
            name: c"endpoint".as_ptr(),
            type_code: ffi::Py_T_OBJECT_EX,
            offset: std::mem::offset_of!(LeaseObject, endpoint) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: c"The endpoint.".as_ptr(),
        },
        ffi::PyMemberDef::default(),
    ]));
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let dealloc: ffi::destructor = lease_dealloc;
    let repr: ffi::reprfunc = lease_repr;
    let slots = Box::leak(Box::new([
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_doc, c"What an acquired request holds until it is released.".as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ]));
    let mut spec = ffi::PyType_Spec {
        name: c"aibalance.Lease".as_ptr(),
        basicsize: size_of::<LeaseObject>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete, and what it points to lives for ever.
    let kind = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
    // Every lease counts a reference to its type, and threads that write one count wait for each other.
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: a new type that no other thread has seen, and that lives for ever anyway. This is how CPython 3.13 and 3.14
    // mark what is immortal; a later version that does not know the mark counts from a number too high to reach zero.
    unsafe {
        let object = kind.as_ptr();
        ffi::PyObject_GC_UnTrack(object.cast());
        (*object).ob_tid = 0;
        (*object).ob_ref_local.store(u32::MAX, Ordering::Relaxed);
        (*object).ob_ref_shared.store(0, Ordering::Relaxed);
    }
    LEASE_TYPE.store(kind.as_ptr().cast(), Ordering::Relaxed);
    m.add("Lease", &kind)?;
    // The static keeps the type for as long as the process lives.
    std::mem::forget(kind);
    Ok(())
}
