//! The prefix index as a class.

use super::prompt::Read;
use crate::core::error::ConfigError;
use crate::core::llm::policy::Shared;
use crate::core::llm::{Held, Saved, Tier};
use crate::core::time::Nanos;
use crate::py::arguments;
use crate::py::door::{instant, shown};
use crate::py::endpoint::{Endpoint, is_whole};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::sync::Arc;

const TIERS: [(&str, Tier); 3] = [("gpu", Tier::Gpu), ("host", Tier::Host), ("disk", Tier::Disk)];

fn tier(value: &Bound<'_, PyAny>) -> PyResult<Tier> {
    let text: Option<String> = value.extract().ok();
    let found = TIERS.iter().find(|(name, _)| text.as_deref() == Some(name));
    found
        .map(|&(_, tier)| tier)
        .ok_or_else(|| ConfigError::new("tier", shown(value), "\"gpu\", \"host\" or \"disk\"").into())
}

fn some_tier(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Tier>> {
    value.filter(|v| !v.is_none()).map(tier).transpose()
}

/// The id of an endpoint, or of what stands for one.
fn id(value: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    if let Ok(endpoint) = value.cast::<Endpoint>() {
        return Ok(endpoint.get().id(value.py()).to_str()?.into());
    }
    let text = value.cast::<PyString>().ok().and_then(|text| text.to_str().ok());
    text.map(Arc::from).ok_or_else(|| ConfigError::new("endpoint", shown(value), "an endpoint or its id").into())
}

/// The latest instant that the index heard of, unless one is named.
fn at(now: Option<&Bound<'_, PyAny>>) -> PyResult<Nanos> {
    now.filter(|now| !now.is_none()).map_or(Ok(Nanos::ZERO), |now| instant(now, "now"))
}

pub(super) fn whole(field: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = value.extract::<u64>().ok().filter(|_| is_whole(value));
    number.ok_or_else(|| ConfigError::new(field, shown(value), "a whole number of at least 1").into())
}

fn capacity_of(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    // What is too much for 32 bits is too much for the index, which says how much may be.
    Ok(whole("capacity", value)?.min(u64::from(u32::MAX)) as u32)
}

/// How much of a prompt an endpoint has.
#[pyclass(frozen, module = "aibalance", eq, skip_from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrefixMatch(pub Held);

#[pymethods]
impl PrefixMatch {
    #[new]
    #[pyo3(signature = (*, gpu=0, host=0, disk=0, active=0))]
    fn new(gpu: u32, host: u32, disk: u32, active: u32) -> PrefixMatch {
        PrefixMatch(Held { gpu, host, disk, active })
    }

    #[getter]
    fn gpu(&self) -> u32 {
        self.0.gpu
    }

    #[getter]
    fn host(&self) -> u32 {
        self.0.host
    }

    #[getter]
    fn disk(&self) -> u32 {
        self.0.disk
    }

    #[getter]
    fn active(&self) -> u32 {
        self.0.active
    }

    #[getter]
    fn blocks(&self) -> u32 {
        self.0.blocks()
    }

    fn __hash__(&self) -> u64 {
        let Held { gpu, host, disk, active } = self.0;
        [gpu, host, disk, active].iter().fold(0, |sum, &n| crate::core::rng::mix64(sum ^ u64::from(n)))
    }

    fn __repr__(&self) -> String {
        let Held { gpu, host, disk, active } = self.0;
        format!("PrefixMatch(gpu={gpu}, host={host}, disk={disk}, active={active})")
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("gpu", self.0.gpu)?;
        kw.set_item("host", self.0.host)?;
        kw.set_item("disk", self.0.disk)?;
        kw.set_item("active", self.0.active)?;
        Ok((PyTuple::empty(py), kw))
    }
}

/// Which endpoint has which prefix in its cache.
#[pyclass(frozen, module = "aibalance", weakref)]
pub(crate) struct PrefixIndex {
    pub shared: Arc<Shared>,
}

impl PrefixIndex {
    fn block(&self) -> u64 {
        self.shared.block_tokens()
    }

    fn read(&self, prompt: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        Ok(Read::new(Some(prompt), self.block())?.into_blocks())
    }

    fn ttl_seconds(&self) -> Option<f64> {
        let ttl = self.shared.index().ttl();
        (ttl != Nanos::MAX).then(|| ttl.as_secs_f64())
    }
}

/// One array of a snapshot.
fn array<'py, T: numpy::Element>(
    record: &Bound<'py, PyDict>,
    id: &str,
    field: &str,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    let name = format!("snapshot[{id:?}][{field:?}]");
    let value = record.get_item(field)?.ok_or_else(|| missing(&name))?;
    value.extract().map_err(|_| ConfigError::new(&name, shown(&value), "an array as snapshot() made it").into())
}

fn missing(name: &str) -> PyErr {
    ConfigError::new(name, "missing", "a dict as snapshot() made it").into()
}

fn saved(id: &Bound<'_, PyAny>, record: &Bound<'_, PyAny>) -> PyResult<Saved> {
    let id: String = id.extract().map_err(|_| missing("snapshot"))?;
    let record = record.cast::<PyDict>().map_err(|_| missing(&format!("snapshot[{id:?}]")))?;
    let capacity = record.get_item("capacity")?.ok_or_else(|| missing(&format!("snapshot[{id:?}]['capacity']")))?;
    let (told, tiers) = (array::<u64>(record, &id, "told")?, array::<u8>(record, &id, "tiers")?);
    let (guesses, left) = (array::<u64>(record, &id, "guesses")?, array::<f64>(record, &id, "left")?);
    let (told, tiers, guesses, left) = (told.as_array(), tiers.as_array(), guesses.as_array(), left.as_array());
    let refuse = |field: &str, value: String, allowed: &str| -> PyErr {
        ConfigError::new(format!("snapshot[{id:?}][{field:?}]"), value, allowed).into()
    };
    if told.len() != tiers.len() || guesses.len() != left.len() {
        return Err(refuse("tiers", format!("{} of {}", tiers.len(), told.len()), "as many as there are blocks"));
    }
    if let Some(wrong) = tiers.iter().find(|&&t| !(1..=7).contains(&t)) {
        return Err(refuse("tiers", wrong.to_string(), "sums of 1 (gpu), 2 (host) and 4 (disk)"));
    }
    if let Some(wrong) = left.iter().find(|&&t| t.is_nan() || t < 0.0) {
        return Err(refuse("left", wrong.to_string(), "seconds, not negative, or inf"));
    }
    let until = |&left: &f64| if left.is_infinite() { Nanos::MAX } else { Nanos::from_secs_f64(left) };
    Ok(Saved {
        capacity: capacity_of(&capacity)?,
        told: told.iter().copied().zip(tiers.iter().copied()).collect(),
        guesses: guesses.iter().copied().zip(left.iter().map(until)).collect(),
        id: id.as_str().into(),
    })
}

#[pymethods]
impl PrefixIndex {
    #[new]
    #[pyo3(signature = (*, block_size=None, capacity=None, ttl=Some(120.0)), text_signature = "(*, block_size=16, capacity=31250, ttl=120.0)")]
    fn new(
        block_size: Option<&Bound<'_, PyAny>>,
        capacity: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::ttl)] ttl: Option<f64>,
    ) -> PyResult<PrefixIndex> {
        let block = block_size.map_or(Ok(16), |value| whole("block_size", value))?;
        let capacity = capacity.map_or(Ok(31_250), capacity_of)?;
        let ttl = match ttl {
            None => Nanos::MAX,
            Some(seconds) => crate::py::clock::seconds("ttl", seconds)?,
        };
        Ok(PrefixIndex { shared: Shared::new(block, capacity, ttl)? })
    }

    #[getter]
    fn block_size(&self) -> u64 {
        self.block()
    }

    #[getter]
    fn capacity(&self) -> u32 {
        self.shared.index().capacity()
    }

    #[getter]
    fn ttl(&self) -> Option<f64> {
        self.ttl_seconds()
    }

    #[getter]
    fn endpoints<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let mut ids: Vec<Arc<str>> = self.shared.index().ids().cloned().collect();
        ids.sort();
        PyTuple::new(py, ids.iter().map(|id| &**id))
    }

    fn __len__(&self) -> usize {
        self.shared.index().len()
    }

    #[pyo3(signature = (prompt, /))]
    fn blocks<'py>(&self, prompt: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(PyArray1::from_vec(prompt.py(), self.read(prompt)?))
    }

    #[pyo3(signature = (prompt, /, *, now=None))]
    fn matches<'py>(&self, prompt: &Bound<'py, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        let (blocks, now) = (self.read(prompt)?, at(now)?);
        let mut found = self.shared.index().matches(&blocks, now);
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let out = PyDict::new(prompt.py());
        for (id, held) in found {
            out.set_item(&*id, PrefixMatch(held))?;
        }
        Ok(out)
    }

    #[pyo3(signature = (endpoint, blocks, /, *, tier=None, now=None), text_signature = "($self, endpoint, blocks, /, *, tier='gpu', now=None)")]
    fn stored(
        &self,
        endpoint: &Bound<'_, PyAny>,
        blocks: &Bound<'_, PyAny>,
        tier: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (id, blocks, tier, now) = (id(endpoint)?, self.read(blocks)?, some_tier(tier)?, at(now)?);
        self.shared.index().stored(&id, &blocks, tier.unwrap_or_default(), now);
        Ok(())
    }

    #[pyo3(signature = (endpoint, blocks, /, *, tier=None, now=None))]
    fn removed(
        &self,
        endpoint: &Bound<'_, PyAny>,
        blocks: &Bound<'_, PyAny>,
        tier: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (id, blocks, tier, now) = (id(endpoint)?, self.read(blocks)?, some_tier(tier)?, at(now)?);
        self.shared.index().removed(&id, &blocks, tier, now);
        Ok(())
    }

    #[pyo3(signature = (endpoint, /, *, tier=None, now=None))]
    fn cleared(
        &self,
        endpoint: &Bound<'_, PyAny>,
        tier: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (id, tier, now) = (id(endpoint)?, some_tier(tier)?, at(now)?);
        self.shared.index().cleared(&id, tier, now);
        Ok(())
    }

    #[pyo3(signature = (endpoint, prompt, /, *, now=None))]
    fn predict(
        &self,
        endpoint: &Bound<'_, PyAny>,
        prompt: &Bound<'_, PyAny>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (id, blocks, now) = (id(endpoint)?, self.read(prompt)?, at(now)?);
        self.shared.index().predict(&id, &blocks, now);
        Ok(())
    }

    #[pyo3(signature = (endpoint, /))]
    fn forget(&self, endpoint: &Bound<'_, PyAny>) -> PyResult<()> {
        let id = id(endpoint)?;
        self.shared.index().forget(&id);
        Ok(())
    }

    #[pyo3(signature = (endpoint, capacity, /))]
    fn set_capacity(&self, endpoint: &Bound<'_, PyAny>, capacity: &Bound<'_, PyAny>) -> PyResult<()> {
        let (id, capacity) = (id(endpoint)?, capacity_of(capacity)?);
        Ok(self.shared.index().set_capacity(&id, capacity)?)
    }

    #[pyo3(signature = (endpoint, /))]
    fn held(&self, endpoint: &Bound<'_, PyAny>) -> PyResult<(usize, usize)> {
        let id = id(endpoint)?;
        Ok(self.shared.index().held_by(&id))
    }

    #[pyo3(signature = (*, now=None))]
    fn snapshot<'py>(&self, py: Python<'py>, now: Option<&Bound<'_, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        let now = at(now)?;
        let saved = self.shared.index().save(now);
        let endpoints = PyDict::new(py);
        for one in saved {
            let record = PyDict::new(py);
            let (told, tiers): (Vec<u64>, Vec<u8>) = one.told.into_iter().unzip();
            let seconds = |left: Nanos| if left == Nanos::MAX { f64::INFINITY } else { left.as_secs_f64() };
            let (guesses, left): (Vec<u64>, Vec<f64>) =
                one.guesses.into_iter().map(|(block, left)| (block, seconds(left))).unzip();
            record.set_item("capacity", one.capacity)?;
            record.set_item("told", PyArray1::from_vec(py, told))?;
            record.set_item("tiers", PyArray1::from_vec(py, tiers))?;
            record.set_item("guesses", PyArray1::from_vec(py, guesses))?;
            record.set_item("left", PyArray1::from_vec(py, left))?;
            endpoints.set_item(&*one.id, record)?;
        }
        let out = PyDict::new(py);
        out.set_item("version", 1)?;
        out.set_item("block_size", self.block())?;
        out.set_item("endpoints", endpoints)?;
        Ok(out)
    }

    #[pyo3(signature = (snapshot, /, *, now=None))]
    fn restore(&self, snapshot: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let now = at(now)?;
        let parts = snapshot.cast::<PyDict>().map_err(|_| missing("snapshot"))?;
        let part = |name: &str| parts.get_item(name)?.ok_or_else(|| missing(&format!("snapshot[{name:?}]")));
        for (name, wanted) in [("version", 1), ("block_size", self.block())] {
            let value = part(name)?;
            if value.extract::<u64>().ok() != Some(wanted) {
                return Err(ConfigError::new(format!("snapshot[{name:?}]"), shown(&value), wanted.to_string()).into());
            }
        }
        let endpoints = part("endpoints")?;
        let endpoints = endpoints.cast::<PyDict>().map_err(|_| missing("snapshot[\"endpoints\"]"))?;
        let saved = endpoints.iter().map(|(id, record)| saved(&id, &record)).collect::<PyResult<Vec<Saved>>>()?;
        Ok(self.shared.index().load_saved(&saved, now)?)
    }

    fn __repr__(&self) -> String {
        let ttl = self.ttl_seconds().map_or("None".into(), |ttl| format!("{ttl:?}"));
        let index = self.shared.index();
        format!("PrefixIndex(block_size={}, capacity={}, ttl={ttl})", self.block(), index.capacity())
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("block_size", self.block())?;
        kw.set_item("capacity", self.capacity())?;
        kw.set_item("ttl", self.ttl_seconds())?;
        Ok((PyTuple::empty(py), kw))
    }

    fn __getstate__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.snapshot(py, None)
    }

    fn __setstate__(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        self.restore(state, None)
    }
}
