//! The picker classes: configuration in, and what is not worth a raw call.

use crate::core::error::ConfigError;
use crate::core::pickers::{Key, Policy};
use crate::core::sync::Mode;
use crate::core::time::Nanos;
use crate::py::concurrency::ActiveRetryBudget;
use crate::py::door::{Names, shown};
use crate::py::endpoint::{Endpoint, Payload, is_whole};
use crate::py::errors::AnyPickError;
use crate::py::fastcall::{CorePicker, Door, PickerClass, add_methods, hashes_of, on_picker};
use crate::py::keys::{self, Prepared};
use crate::py::pool::{Pool, instant_or};
use crate::py::retry_budget::RetryBudget;
use numpy::{PyArray1, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::exceptions::{PyIndexError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};

/// Picks made in one go between two looks at signals and other threads.
const SLICE: usize = 1 << 16;

/// The most picks of one call.
const MOST_PICKS: usize = 1 << 32;

/// Many picks: places in a tuple of endpoints.
#[pyclass(frozen, module = "aibalance", sequence)]
pub(crate) struct Picks {
    #[pyo3(get)]
    indices: Py<PyArray1<u32>>,
    #[pyo3(get)]
    endpoints: Py<PyTuple>,
}

impl Picks {
    /// From places in endpoints.
    pub fn new(indices: Py<PyArray1<u32>>, endpoints: Py<PyTuple>) -> Picks {
        Picks { indices, endpoints }
    }
}

#[pymethods]
impl Picks {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.indices.bind(py).len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let at: isize = at.extract().map_err(|error: PyErr| {
            if error.is_instance_of::<PyOverflowError>(py) {
                PyIndexError::new_err("index out of range")
            } else {
                error
            }
        })?;
        let index: usize = self.indices.bind(py).as_any().get_item(at)?.extract()?;
        self.endpoints.bind(py).get_item(index)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyIterator>> {
        let py = slf.py();
        let this = slf.get();
        let indices = this.indices.bind(py).as_any().call_method0("tolist")?;
        let get = this.endpoints.bind(py).as_any().getattr("__getitem__")?;
        py.import("builtins")?.call_method1("map", (get, indices))?.try_iter()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Picks: {} of {} endpoints>", self.__len__(py), self.endpoints.bind(py).len()))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let make = py.import("aibalance._core")?.getattr("_picks")?;
        Ok((make, PyTuple::new(py, [self.indices.bind(py).as_any(), self.endpoints.bind(py).as_any()])?))
    }
}

/// Makes Picks again from its parts.
#[pyfunction]
fn _picks(indices: Py<PyArray1<u32>>, endpoints: Py<PyTuple>) -> Picks {
    Picks { indices, endpoints }
}

/// The attempts of one request.
#[pyclass(frozen, module = "aibalance._core", name = "_Attempts")]
pub(crate) struct Attempts {
    acquire: Py<PyAny>,
    key: Option<Py<PyAny>>,
    pool: Py<Pool>,
    budget: Budget,
    most: u32,
    tried: Py<PyList>,
    /// Whether a retry of an active budget is under way.
    retrying: std::sync::atomic::AtomicBool,
}

/// What pays for retries.
enum Budget {
    /// Nothing: there are so many.
    Free,
    /// Tokens that first attempts earn.
    Tokens(Py<RetryBudget>),
    /// A share of what is in flight.
    Active(Py<ActiveRetryBudget>),
}

impl Attempts {
    /// The retry, if one is under way, is over.
    fn ended(&self) {
        if let Budget::Active(budget) = &self.budget
            && self.retrying.swap(false, std::sync::atomic::Ordering::AcqRel)
        {
            budget.get().release();
        }
    }

    /// Whether there may be one more attempt.
    fn paid(&self, first: bool) -> bool {
        let pool = self.pool.get();
        match &self.budget {
            Budget::Free => true,
            Budget::Tokens(budget) if first => {
                budget.get().earn(pool.clock.now());
                true
            }
            Budget::Tokens(budget) => budget.get().spend(pool.clock.now()),
            Budget::Active(_) if first => true,
            Budget::Active(budget) => {
                let paid = budget.get().enter(pool.core.inflight());
                self.retrying.store(paid, std::sync::atomic::Ordering::Release);
                paid
            }
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        self.ended();
    }
}

#[pymethods]
impl Attempts {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let tried = self.tried.bind(py);
        let made = tried.len();
        if made >= self.most as usize {
            return Ok(None);
        }
        self.ended();
        if !self.paid(made == 0) {
            return Ok(None);
        }
        let kw = PyDict::new(py);
        kw.set_item("exclude", tried)?;
        let lease = match self.acquire.bind(py).call((self.key.as_ref(),), Some(&kw)) {
            Ok(lease) => lease,
            // The first attempt says why there is nobody; later ones end when everybody has been tried.
            Err(error) if made > 0 && error.is_instance_of::<AnyPickError>(py) => return Ok(None),
            Err(error) => return Err(error),
        };
        tried.append(lease.getattr("endpoint")?)?;
        Ok(Some(lease))
    }
}

pub(crate) fn attempts(
    slf: &Bound<'_, PyAny>,
    pool: &Py<Pool>,
    key: Option<Py<PyAny>>,
    budget: &Bound<'_, PyAny>,
) -> PyResult<Attempts> {
    let py = slf.py();
    let (budget, most) = if let Ok(b) = budget.cast::<RetryBudget>() {
        (Budget::Tokens(b.clone().unbind()), b.get().attempts())
    } else if let Ok(b) = budget.cast::<ActiveRetryBudget>() {
        (Budget::Active(b.clone().unbind()), b.get().attempts())
    } else {
        match budget.extract::<u32>() {
            Ok(n) if n > 0 && is_whole(budget) => (Budget::Free, n),
            _ => {
                let allowed = "the most attempts (a whole number of at least 1), a RetryBudget or an ActiveRetryBudget";
                return Err(ConfigError::new("budget", shown(budget), allowed).into());
            }
        }
    };
    Ok(Attempts {
        acquire: slf.getattr("acquire")?.unbind(),
        key,
        pool: pool.clone_ref(py),
        budget,
        most,
        tried: PyList::empty(py).unbind(),
        retrying: std::sync::atomic::AtomicBool::new(false),
    })
}

/// A batch of keys: hashes that are made, or those of an array that can be read where it is.
enum Batch<'py> {
    Made(Vec<u64>),
    There(PyReadonlyArray1<'py, u64>),
}

impl<'py> Batch<'py> {
    fn new(keys: &Bound<'py, PyAny>, hashed: bool) -> PyResult<Batch<'py>> {
        if let Ok(list) = keys.cast::<PyList>() {
            if !hashed {
                return hashes_of(list).map(Batch::Made);
            }
            return list.iter().map(|key| keys::ready(&key)).collect::<PyResult<_>>().map(Batch::Made);
        }
        if let Ok(tuple) = keys.cast::<PyTuple>() {
            let one = |key: Bound<'_, PyAny>| if hashed { keys::ready(&key) } else { keys::hashed(&key) };
            return tuple.iter().map(one).collect::<PyResult<_>>().map(Batch::Made);
        }
        let as_is = |k: u64| if hashed { k } else { crate::core::hash::of_u64(k) };
        let made = if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, u64>>() {
            if hashed && array.as_slice().is_ok() {
                return Ok(Batch::There(array));
            }
            array.as_array().iter().map(|&k| as_is(k)).collect()
        } else if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, i64>>() {
            array.as_array().iter().map(|&k| as_is(k as u64)).collect()
        } else if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, u32>>() {
            array.as_array().iter().map(|&k| as_is(u64::from(k))).collect()
        } else if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, i32>>() {
            array.as_array().iter().map(|&k| as_is(i64::from(k) as u64)).collect()
        } else {
            let allowed = "a number of picks, a list of keys, or a one-dimensional array of 32- or 64-bit integers";
            return Err(ConfigError::new("n_or_keys", shown(keys), allowed).into());
        };
        Ok(Batch::Made(made))
    }

    fn hashes(&self) -> &[u64] {
        match self {
            Batch::Made(hashes) => hashes,
            Batch::There(array) => array.as_slice().unwrap_or(&[]),
        }
    }
}

/// Calls `take` with each key of a batch.
fn each<L: Policy>(
    policy: &L,
    keys: &Bound<'_, PyAny>,
    hashed: bool,
    mut take: impl FnMut(Key<'_>) -> PyResult<()>,
) -> PyResult<()> {
    let refuse = |k: u64| PyErr::from(ConfigError::new("n_or_keys", k, policy.keys()));
    let mut object = |key: Bound<'_, PyAny>| {
        let key = if hashed { Prepared::ready(policy, &key)? } else { Prepared::new(policy, &key)? };
        take(key.key())
    };
    if let Ok(list) = keys.cast::<PyList>() {
        return list.iter().try_for_each(object);
    }
    if let Ok(tuple) = keys.cast::<PyTuple>() {
        return tuple.iter().try_for_each(&mut object);
    }
    let mut number = |k: u64| {
        let hash = if hashed { policy.ready_key(k) } else { policy.whole_key(k) };
        take(Key { hash: hash.ok_or_else(|| refuse(k))?, bytes: &k.to_le_bytes() })
    };
    if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, u64>>() {
        return array.as_array().iter().try_for_each(|&k| number(k));
    }
    if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, i64>>() {
        return array.as_array().iter().try_for_each(|&k| number(k as u64));
    }
    if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, u32>>() {
        return array.as_array().iter().try_for_each(|&k| number(u64::from(k)));
    }
    if let Ok(array) = keys.extract::<PyReadonlyArray1<'_, i32>>() {
        return array.as_array().iter().try_for_each(|&k| number(i64::from(k) as u64));
    }
    let allowed = "a number of picks, a list of keys, or a one-dimensional array of 32- or 64-bit integers";
    Err(ConfigError::new("n_or_keys", shown(keys), allowed).into())
}

impl<L: Policy> Door<L> {
    fn many(&self, py: Python<'_>, n_or_keys: &Bound<'_, PyAny>, hashed: bool) -> PyResult<Picks> {
        on_picker!(self, picker => self.many_of(py, picker, n_or_keys, hashed))
    }

    fn many_of<M: Mode>(
        &self,
        py: Python<'_>,
        picker: &CorePicker<L, M>,
        n_or_keys: &Bound<'_, PyAny>,
        hashed: bool,
    ) -> PyResult<Picks> {
        let state = self.latest(py, picker);
        let pool = self.pool.get();
        let now = if L::TIMED { pool.clock.now() } else { Nanos::ZERO };
        let count = if is_whole(n_or_keys) { Some(n_or_keys) } else { None };
        let mut out: Vec<u32>;
        if let Some(count) = count {
            let n = count.extract::<usize>().ok().filter(|&n| n <= MOST_PICKS).ok_or_else(|| {
                PyErr::from(ConfigError::new("n_or_keys", shown(count), "a number of picks from 0 to 2**32"))
            })?;
            out = Vec::new();
            // A request for more than there is must not end the process.
            out.try_reserve_exact(n).map_err(|_| pyo3::exceptions::PyMemoryError::new_err(format!("{n} picks")))?;
            out.resize(n, 0);
            // Who is on probation gets no more than its probes, so that each pick is one by itself.
            let single = self.pool.get().core.on_probation();
            for slice in out.chunks_mut(SLICE) {
                if single {
                    for place in slice {
                        let refusal = || state.snapshot.view.refusal(0, &|_| true);
                        *place = picker.pick(&state, None, now).ok_or_else(refusal)?.index;
                    }
                    continue;
                }
                let cx = picker.context(&state, 1024, now);
                state.fill(picker.policy(), &cx, slice)?;
                if n > SLICE {
                    py.check_signals()?;
                    py.detach(|| {});
                }
            }
        } else {
            if picker.policy().plain_keys() && !self.pool.get().core.on_probation() {
                let batch = Batch::new(n_or_keys, hashed)?;
                let n = batch.hashes().len();
                out = vec![0; n];
                for (slice, from) in out.chunks_mut(SLICE).zip((0..).step_by(SLICE)) {
                    let cx = picker.context(&state, 1024, now);
                    // Looked up anew for each slice: in between others may run.
                    let keys = batch.hashes().get(from..).unwrap_or(&[]);
                    state.fill_keys(picker.policy(), &cx, keys, slice)?;
                    if n > SLICE {
                        py.check_signals()?;
                        py.detach(|| {});
                    }
                }
                return self.picks(py, &state.snapshot.payload, out);
            }
            out = Vec::with_capacity(n_or_keys.len().unwrap_or(0));
            each(picker.policy(), n_or_keys, hashed, |key| {
                let Some(choice) = picker.pick(&state, Some(key), now) else {
                    return Err(pool.core.refusal(&state.snapshot.view, 0, &|_| true, pool.clock.now()).into());
                };
                out.push(choice.index);
                if out.len().is_multiple_of(SLICE) {
                    py.check_signals()?;
                    py.detach(|| {});
                }
                Ok(())
            })?;
        }
        self.picks(py, &state.snapshot.payload, out)
    }

    #[allow(clippy::unused_self)]
    fn picks(&self, py: Python<'_>, payload: &[Payload], out: Vec<u32>) -> PyResult<Picks> {
        let endpoints = PyTuple::new(py, payload.iter().map(|p| p.clone_ref(py)))?.unbind();
        Ok(Picks { indices: PyArray1::from_vec(py, out).unbind(), endpoints })
    }

    fn best(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        k: &Bound<'_, PyAny>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Endpoint>>> {
        let wanted = k
            .extract::<usize>()
            .ok()
            .filter(|_| is_whole(k))
            .ok_or_else(|| PyErr::from(ConfigError::new("k", shown(k), "a whole number, not negative")))?;
        let prepared = self.key_of(key)?;
        let key = prepared.as_ref().map(Prepared::key);
        let names = Names::from_arguments(exclude, subset)?;
        let now = instant_or(self.pool.get(), now)?;
        on_picker!(self, picker => {
            let state = self.latest(py, picker);
            let filter = names.places(&state.snapshot);
            let ranked = picker.ranked(&state, key, wanted, now, filter);
            let payload = |c: &crate::core::pickers::Choice| state.snapshot.payload.get(c.index as usize);
            Ok(ranked.iter().filter_map(payload).map(|p| p.clone_ref(py)).collect())
        })
    }
}

impl<L: Policy> Door<L> {
    /// The order in which the next request would try everybody, with nothing moved.
    fn rehearsed(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Endpoint>>> {
        let prepared = self.key_of(key)?;
        let names = Names::from_arguments(exclude, subset)?;
        let now = instant_or(self.pool.get(), now)?;
        on_picker!(self, picker => {
            let state = self.latest(py, picker);
            let filter = names.places(&state.snapshot);
            let order = picker.rehearse(&state, prepared.as_ref().map(Prepared::key), now, filter);
            let payload = |c: &crate::core::pickers::Choice| state.snapshot.payload.get(c.index as usize);
            Ok(order.iter().filter_map(payload).map(|p| p.clone_ref(py)).collect())
        })
    }
}

macro_rules! picker_class {
    ($name:ident, $policy:ty, $doc:literal, |$py:ident, $policy_ref:ident, $kw:ident| $keywords:block, { $($new:tt)* }) => {
        #[doc = $doc]
        #[pyclass(frozen, module = "aibalance", weakref)]
        pub(crate) struct $name {
            door: Door<$policy>,
        }

        impl PickerClass for $name {
            type Policy = $policy;
            #[inline(always)]
            fn door(&self) -> &Door<$policy> {
                &self.door
            }
        }

        impl $name {
            fn keywords<'py>(&self, $py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                let $kw = PyDict::new($py);
                let $policy_ref = crate::py::fastcall::on_picker!(self.door, picker => picker.given_policy());
                $keywords
                Ok($kw)
            }
        }

        #[pymethods]
        impl $name {
            $($new)*

            #[getter]
            fn pool(&self, py: Python<'_>) -> Py<Pool> {
                self.door.pool.clone_ref(py)
            }

            fn local(&self, py: Python<'_>) -> Self {
                $name { door: self.door.local(py) }
            }

            #[pyo3(signature = (key=None, /, *, k, exclude=None, subset=None, now=None))]
            fn ranked(
                &self,
                py: Python<'_>,
                key: Option<&Bound<'_, PyAny>>,
                k: &Bound<'_, PyAny>,
                exclude: Option<&Bound<'_, PyAny>>,
                subset: Option<&Bound<'_, PyAny>>,
                now: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<Vec<Py<Endpoint>>> {
                self.door.best(py, key, k, exclude, subset, now)
            }

            #[pyo3(signature = (n_or_keys, /, *, hashed=false))]
            fn pick_many(&self, py: Python<'_>, n_or_keys: &Bound<'_, PyAny>, hashed: bool) -> PyResult<Picks> {
                self.door.many(py, n_or_keys, hashed)
            }

            #[pyo3(signature = (key=None, /, *, budget))]
            fn attempts(
                slf: &Bound<'_, Self>,
                key: Option<Py<PyAny>>,
                budget: &Bound<'_, PyAny>,
            ) -> PyResult<Attempts> {
                attempts(slf.as_any(), &slf.get().door.pool, key, budget)
            }

            #[getter]
            fn queue<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                slf.py().import("aibalance._queue")?.call_method1("_queue_of", (slf,))
            }

            #[pyo3(signature = (key=None, /, *, timeout, priority=None, cost=None, exclude=None, subset=None), text_signature = "($self, key=None, /, *, timeout, priority=0, cost=1.0, exclude=(), subset=None)")]
            #[allow(clippy::too_many_arguments)]
            fn acquire_when_free<'py>(
                slf: &Bound<'py, Self>,
                key: Option<Bound<'py, PyAny>>,
                timeout: Bound<'py, PyAny>,
                priority: Option<Bound<'py, PyAny>>,
                cost: Option<Bound<'py, PyAny>>,
                exclude: Option<Bound<'py, PyAny>>,
                subset: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let timeout = Some(timeout);
                let given = [("timeout", timeout), ("priority", priority), ("cost", cost), ("exclude", exclude), ("subset", subset)];
                crate::py::pickers::waiting::call(slf.as_any(), "aibalance._queue", "_acquire_when_free", key, &given)
            }

            #[pyo3(signature = (key=None, /, *, exclude=None, subset=None, now=None), text_signature = "($self, key=None, /, *, exclude=(), subset=None, now=None)")]
            fn explain<'py>(
                slf: &Bound<'py, Self>,
                key: Option<Bound<'py, PyAny>>,
                exclude: Option<Bound<'py, PyAny>>,
                subset: Option<Bound<'py, PyAny>>,
                now: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let given = [("exclude", exclude), ("subset", subset), ("now", now)];
                crate::py::pickers::waiting::call(slf.as_any(), "aibalance._explain", "_explain", key, &given)
            }

            #[pyo3(signature = (key, exclude, subset, now, /))]
            fn _rehearse(
                &self,
                py: Python<'_>,
                key: Option<&Bound<'_, PyAny>>,
                exclude: Option<&Bound<'_, PyAny>>,
                subset: Option<&Bound<'_, PyAny>>,
                now: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<Vec<Py<Endpoint>>> {
                self.door.rehearsed(py, key, exclude, subset, now)
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let mut out = format!("{}({}", stringify!($name), self.door.pool.bind(py).repr()?);
                for (key, value) in self.keywords(py)? {
                    out += &format!(", {key}={}", value.repr()?);
                }
                Ok(out + if crate::py::fastcall::on_picker!(self.door, picker => picker.is_local()) { ").local()" } else { ")" })
            }

            fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
                Ok((PyTuple::new(py, [&self.door.pool])?, self.keywords(py)?))
            }

            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                visit.call(&self.door.pool)?;
                self.door.traverse(&visit)
            }
        }
    };
}

pub(super) fn choice<T: Copy>(field: &str, value: &str, allowed: &[(&str, T)]) -> Result<T, ConfigError> {
    allowed.iter().find(|(name, _)| *name == value).map(|&(_, v)| v).ok_or_else(|| {
        let names: Vec<String> = allowed.iter().map(|(name, _)| format!("{name:?}")).collect();
        ConfigError::new(field, format!("{value:?}"), format!("one of {}", names.join(", ")))
    })
}

pub(super) fn name_of<T: Copy + PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, v)| *v == value).map_or("", |&(name, _)| name)
}

/// A positive whole number from an argument.
pub(super) fn positive(field: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value
        .extract::<u64>()
        .ok()
        .filter(|&n| n > 0 && is_whole(value))
        .ok_or_else(|| ConfigError::new(field, shown(value), "a whole number of at least 1").into())
}

mod chance;
mod connections;
mod hashing;
mod load;
mod reported;
mod round_robin;
mod waiting;

pub(crate) use chance::{JoinIdleQueue, WeightedRandom};
pub(crate) use connections::{First, LeastConnections};
pub(crate) use hashing::{
    IpHash, JumpBackHash, JumpHash, Maglev, MementoHash, ModuloHash, MultiProbeHash, Rendezvous, RingHash, SourceHash,
};
pub(crate) use load::{LeastRequest, PeakEwma};
pub(crate) use reported::{ClientSideWeightedRoundRobin, LeastTime, Prequal};
pub(crate) use round_robin::RoundRobin;
pub(crate) use waiting::call;

/// Adds one class to the module.
fn add<C: PickerClass>(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<C>()?;
    add_methods::<C>(m.py())
}

/// Adds the classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    round_robin::register(m)?;
    chance::register(m)?;
    load::register(m)?;
    reported::register(m)?;
    connections::register(m)?;
    hashing::register(m)?;
    m.add_class::<Picks>()?;
    m.add_function(wrap_pyfunction!(_picks, m)?)?;
    Ok(())
}
