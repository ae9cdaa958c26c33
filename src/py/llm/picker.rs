//! The picker that goes by prompts.

use super::index::PrefixIndex;
use super::options;
use super::prompt::Read;
use crate::core::endpoints::Work;
use crate::core::error::ConfigError;
use crate::core::llm;
use crate::core::pickers::Choice;
use crate::core::pool::Filter;
use crate::core::time::Nanos;
use crate::py::arguments;
use crate::py::door::{Names, shown, units};
use crate::py::endpoint::{Endpoint, is_whole};
use crate::py::fastcall::{CoreState, Door};
use crate::py::pickers::{Attempts, Picks, attempts, call};
use crate::py::pool::{Pool, instant_or};
use numpy::PyArray1;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;

type State = CoreState<llm::PrefixAware>;

/// Chooses by what is cached and what is to do.
#[pyclass(frozen, module = "aibalance", weakref)]
pub(crate) struct PrefixAware {
    door: Door<llm::PrefixAware>,
    index: Py<PrefixIndex>,
}

/// What one call was given.
struct Call<'py> {
    prompt: Read<'py>,
    units: u64,
    names: Names,
    now: Nanos,
}

impl PrefixAware {
    pub(crate) fn policy(&self) -> &llm::PrefixAware {
        self.door.picker.policy()
    }

    fn prompt<'py>(&self, prompt: Option<&Bound<'py, PyAny>>) -> PyResult<Read<'py>> {
        Read::new(prompt, self.policy().shared().block_tokens())
    }

    fn time(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<Nanos> {
        let pool = self.door.pool.get();
        match now.filter(|now| !now.is_none()) {
            Some(now) => Ok(Door::<llm::PrefixAware>::caught_up(pool, instant_or(pool, Some(now))?)),
            None => Ok(self.door.time(pool)),
        }
    }

    fn chosen(
        &self,
        py: Python<'_>,
        prompt: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Result<Py<Endpoint>, PyErr>> {
        let prompt = self.prompt(prompt)?;
        let now = self.time(now)?;
        let one = |state: &State| {
            let choice = self.door.picker.pick(state, Some(prompt.prompt().key()), now);
            choice.and_then(|c| state.snapshot.payload.get(c.index as usize)).map(|p| p.clone_ref(py))
        };
        let found = one(&self.door.picker.load());
        if let Some(found) = found {
            return Ok(Ok(found));
        }
        let state = self.door.latest(py, &self.door.picker);
        Ok(one(&state).ok_or_else(|| self.door.refusal(&state, &Filter::default()).into()))
    }

    fn taken(&self, py: Python<'_>, call: &Call<'_>) -> PyResult<Result<Py<PyAny>, PyErr>> {
        let prompt = call.prompt.prompt();
        let take = |state: &State, filter: Filter| {
            let charge = |choice: Choice| {
                let ticket = self.policy().charge(&state.snapshot.view, choice, prompt, call.now)?;
                Some(Arc::new(ticket) as Arc<dyn Work>)
            };
            self.door.take_with(py, state, Some(prompt.key()), call.units, filter, call.now, charge)
        };
        let state = self.door.picker.state();
        if let Some(lease) = take(&state, call.names.places(&state.snapshot))? {
            return Ok(Ok(lease));
        }
        let state = self.door.latest(py, &self.door.picker);
        let filter = call.names.places(&state.snapshot);
        Ok(take(&state, filter.clone())?.ok_or_else(|| self.door.refusal(&state, &filter).into()))
    }

    fn call<'py>(
        &self,
        prompt: Option<&Bound<'py, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call<'py>> {
        let mut prompt = self.prompt(prompt)?;
        let units = match cost.filter(|cost| !cost.is_none()) {
            Some(cost) => {
                let units = units(cost, "cost")?;
                prompt.tokens = units.div_ceil(1024);
                units
            }
            None => prompt.tokens.saturating_mul(1024).min(crate::core::endpoints::counters::MAX_COST as u64 * 1024),
        };
        Ok(Call { prompt, units, names: Names::from_arguments(exclude, subset)?, now: self.time(now)? })
    }

    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kw = PyDict::new(py);
        kw.set_item("index", &self.index)?;
        options::keywords(self.policy().options(), &kw)?;
        Ok(kw)
    }
}

#[pymethods]
impl PrefixAware {
    #[new]
    #[pyo3(signature = (endpoints, /, *, index=None, seed=None, clock=None, **options), text_signature = "(endpoints, /, *, index=None, score='ttft', credits=(1.0, 0.75, 0.25), temperature=0.0, bounded_load=..., max_report_age=10.0, stale='own', fresh_scale=None, memory_scale=None, crowd_scale=None, prefill_scale=None, credit_decay=None, request_weight=None, beta=None, match_threshold=None, balance_abs=None, balance_rel=None, seed=None, clock=None)")]
    fn new(
        endpoints: &Bound<'_, PyAny>,
        index: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = endpoints.py();
        let empty = PyDict::new(py);
        let options = options.unwrap_or(&empty);
        options::known(options)?;
        let options = options::read(options)?;
        let index = match index.filter(|index| !index.is_none()) {
            None => py.get_type::<PrefixIndex>().call0()?.cast_into::<PrefixIndex>()?,
            Some(index) => index
                .cast::<PrefixIndex>()
                .map_err(|_| PyErr::from(ConfigError::new("index", shown(index), "a PrefixIndex")))?
                .clone(),
        };
        let policy = llm::PrefixAware::new(&index.get().shared, options)?;
        let pool = Pool::from_argument(endpoints, seed, clock)?;
        if pool.get().core.joint().is_some() {
            let allowed = "a pool of this process alone: what is cached where is not shared";
            return Err(ConfigError::new("endpoints", "a shared pool", allowed).into());
        }
        Ok(PrefixAware { door: Door::new(py, pool, policy), index: index.unbind() })
    }

    #[getter]
    fn pool(&self, py: Python<'_>) -> Py<Pool> {
        self.door.pool.clone_ref(py)
    }

    #[getter]
    fn index(&self, py: Python<'_>) -> Py<PrefixIndex> {
        self.index.clone_ref(py)
    }

    fn local(&self, py: Python<'_>) -> Self {
        PrefixAware { door: self.door.local(py), index: self.index.clone_ref(py) }
    }

    #[pyo3(signature = (key=None, /, *, now=None))]
    fn pick(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Endpoint>> {
        self.chosen(py, key, now)?
    }

    #[pyo3(signature = (key=None, /, *, now=None))]
    fn try_pick(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<Endpoint>>> {
        Ok(self.chosen(py, key, now)?.ok())
    }

    #[pyo3(signature = (key=None, /, *, cost=None, exclude=None, subset=None, now=None), text_signature = "($self, key=None, /, *, cost=None, exclude=(), subset=None, now=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.taken(py, &self.call(key, cost, exclude, subset, now)?)?
    }

    #[pyo3(signature = (key=None, /, *, cost=None, exclude=None, subset=None, now=None), text_signature = "($self, key=None, /, *, cost=None, exclude=(), subset=None, now=None)")]
    fn try_acquire(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.taken(py, &self.call(key, cost, exclude, subset, now)?)?.ok())
    }

    #[pyo3(signature = (key=None, /, *, k, exclude=None, subset=None, now=None), text_signature = "($self, key=None, /, *, k, exclude=(), subset=None, now=None)")]
    fn ranked(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        k: &Bound<'_, PyAny>,
        exclude: Option<&Bound<'_, PyAny>>,
        subset: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Endpoint>>> {
        let wanted = k.extract::<usize>().ok().filter(|_| is_whole(k));
        let wanted =
            wanted.ok_or_else(|| PyErr::from(ConfigError::new("k", shown(k), "a whole number, not negative")))?;
        let call = self.call(key, None, exclude, subset, now)?;
        let state = self.door.latest(py, &self.door.picker);
        let filter = call.names.places(&state.snapshot);
        let ranked = self.door.picker.ranked(&state, Some(call.prompt.prompt().key()), wanted, call.now, filter);
        Ok(endpoints(py, &state, &ranked))
    }

    #[pyo3(signature = (n_or_keys, /, *, hashed=false))]
    fn pick_many(&self, py: Python<'_>, n_or_keys: &Bound<'_, PyAny>, hashed: bool) -> PyResult<Picks> {
        if hashed {
            let allowed = "False: a prompt is an array of hashes, or what they are made of";
            return Err(ConfigError::new("hashed", "True", allowed).into());
        }
        let now = self.time(None)?;
        let state = self.door.latest(py, &self.door.picker);
        let mut out = Vec::new();
        let mut one = |prompt: Option<&Bound<'_, PyAny>>| -> PyResult<()> {
            let prompt = self.prompt(prompt)?;
            let choice = self.door.picker.pick(&state, Some(prompt.prompt().key()), now);
            out.push(choice.ok_or_else(|| PyErr::from(self.door.refusal(&state, &Filter::default())))?.index);
            if out.len().is_multiple_of(1024) {
                py.check_signals()?;
            }
            Ok(())
        };
        if is_whole(n_or_keys) {
            let n = n_or_keys.extract::<u32>();
            let allowed = "a number of picks, or a list of prompts";
            let n = n.map_err(|_| PyErr::from(ConfigError::new("n_or_keys", shown(n_or_keys), allowed)))?;
            (0..n).try_for_each(|_| one(None))?;
        } else {
            let prompts = n_or_keys.try_iter().map_err(|_| {
                PyErr::from(ConfigError::new("n_or_keys", shown(n_or_keys), "a number of picks, or a list of prompts"))
            })?;
            for prompt in prompts {
                one(Some(&prompt?))?;
            }
        }
        let all = PyTuple::new(py, state.snapshot.payload.iter().map(|p| p.clone_ref(py)))?.unbind();
        Ok(Picks::new(PyArray1::from_vec(py, out).unbind(), all))
    }

    #[pyo3(signature = (key=None, /, *, budget))]
    fn attempts(slf: &Bound<'_, Self>, key: Option<Py<PyAny>>, budget: &Bound<'_, PyAny>) -> PyResult<Attempts> {
        attempts(slf.as_any(), &slf.get().door.pool, key, budget)
    }

    #[getter]
    fn queue<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("aibalance._queue")?.call_method1("_queue_of", (slf,))
    }

    #[pyo3(signature = (key=None, /, *, timeout, priority=None, cost=None, exclude=None, subset=None), text_signature = "($self, key=None, /, *, timeout, priority=0, cost=None, exclude=(), subset=None)")]
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
        // The queue's own default is one, which here is a token.
        let cost = match cost.filter(|cost| !cost.is_none()) {
            Some(cost) => Some(cost),
            None => Some(slf.get().prompt(key.as_ref())?.tokens.into_pyobject(slf.py())?.into_any()),
        };
        let given = [
            ("timeout", Some(timeout)),
            ("priority", priority),
            ("cost", cost),
            ("exclude", exclude),
            ("subset", subset),
        ];
        call(slf.as_any(), "aibalance._queue", "_acquire_when_free", key, &given)
    }

    #[pyo3(signature = (key=None, /, *, exclude=None, subset=None, now=None), text_signature = "($self, key=None, /, *, exclude=(), subset=None, now=None)")]
    fn explain<'py>(
        slf: &Bound<'py, Self>,
        key: Option<Bound<'py, PyAny>>,
        exclude: Option<Bound<'py, PyAny>>,
        subset: Option<Bound<'py, PyAny>>,
        now: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(slf.as_any(), "aibalance.llm", "_explain", key, &[("exclude", exclude), ("subset", subset), ("now", now)])
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
        let call = self.call(key, None, exclude, subset, now)?;
        let state = self.door.latest(py, &self.door.picker);
        let filter = call.names.places(&state.snapshot);
        let order = self.door.picker.rehearse(&state, Some(call.prompt.prompt().key()), call.now, filter);
        Ok(endpoints(py, &state, &order))
    }

    /// What a choice would be made of: an id, and the numbers in the order of `PrefixExplanation`.
    #[pyo3(signature = (key, now, /))]
    #[allow(clippy::type_complexity)]
    fn _parts(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(String, f64, (u32, u32, u32, u32), f64, f64, f64, f64, bool, bool, Vec<(&'static str, f64)>)>>
    {
        let call = self.call(key, None, None, None, now)?;
        let state = self.door.latest(py, &self.door.picker);
        let view = &state.snapshot.view;
        let parts = self.policy().parts(view, call.prompt.prompt(), call.now);
        let one = |part: &llm::Part| {
            let (held, seen) = (part.candidate.held, part.candidate.seen);
            let held = (held.gpu, held.host, held.disk, held.active);
            let id = view.ids.get(part.index as usize)?.to_string();
            let (cost, spared) = (part.candidate.cost, part.candidate.spared);
            let terms = part.terms.map_or_else(Vec::new, |terms| llm::scores::TERMS.into_iter().zip(terms).collect());
            Some((id, cost, held, part.fresh, seen.requests, seen.prefill, seen.decode, seen.stale, spared, terms))
        };
        Ok(parts.iter().filter_map(one).collect())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut out = format!("PrefixAware({}", self.door.pool.bind(py).repr()?);
        for (key, value) in self.keywords(py)? {
            out += &format!(", {key}={}", value.repr()?);
        }
        Ok(out + if self.door.picker.is_local() { ").local()" } else { ")" })
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::new(py, [&self.door.pool])?, self.keywords(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.door.pool)?;
        visit.call(&self.index)?;
        self.door.traverse(&visit)
    }
}

fn endpoints(py: Python<'_>, state: &State, choices: &[Choice]) -> Vec<Py<Endpoint>> {
    let payload = |c: &Choice| state.snapshot.payload.get(c.index as usize);
    choices.iter().filter_map(payload).map(|p| p.clone_ref(py)).collect()
}
