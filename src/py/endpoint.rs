//! Endpoint: a frozen description with a payload of the user's.

use crate::core::endpoints::endpoint::{MaxFails, check_weight};
use crate::core::endpoints::{Endpoint as CoreEndpoint, Latency as CoreLatency};
use crate::core::error::ConfigError;
use crate::core::pool::Guest;
use crate::py::arguments;
use crate::py::door::shown;
use crate::py::passive;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};
use std::sync::{Arc, OnceLock};

/// The largest priority, Envoy's own.
const MAX_PRIORITY: u32 = 128;

/// The Python object of an endpoint, shared by all snapshots that have it. Holding it behind one more pointer lets
/// snapshots be copied without touching reference counts, which only an attached thread may.
pub(crate) type Payload = Arc<Py<Endpoint>>;

/// What the garbage collector may take away.
#[allow(clippy::disallowed_types)]
type Slot = std::sync::Mutex<Option<Py<PyAny>>>;

/// One endpoint.
#[pyclass(frozen, module = "aibalance", weakref)]
pub(crate) struct Endpoint {
    #[pyo3(get)]
    address: Py<PyString>,
    #[pyo3(get)]
    id: Py<PyString>,
    #[pyo3(get)]
    weight: f64,
    #[pyo3(get)]
    zone: Py<PyString>,
    #[pyo3(get)]
    priority: u32,
    #[pyo3(get)]
    backup: bool,
    #[pyo3(get)]
    max_inflight: Option<u32>,
    hash_key: Option<HashKey>,
    own: Option<MaxFails>,
    passive: Option<Py<PyAny>>,
    tags: Slot,
    data: Slot,
    /// How it travels to other processes, once it has had to.
    note: OnceLock<Arc<str>>,
}

#[derive(Clone, FromPyObject, IntoPyObject, PartialEq)]
enum HashKey {
    Text(String),
    Number(i64),
}

fn hash_key(value: &Bound<'_, PyAny>) -> PyResult<Option<HashKey>> {
    if value.is_none() {
        return Ok(None);
    }
    let allowed = "a str without lone surrogates, an int from -2**63 to 2**63-1, or None";
    let refuse = |_| ConfigError::new("hash_key", shown(value), allowed).into();
    value.extract().map(Some).map_err(refuse)
}

fn cleared(slot: &Slot) -> Option<Py<PyAny>> {
    // Dropped by the caller, after the lock: what runs then may be anything.
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

fn read(slot: &Slot, py: Python<'_>) -> Option<Py<PyAny>> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref().map(|v| v.clone_ref(py))
}

#[pymethods]
impl Endpoint {
    #[new]
    #[pyo3(signature = (address, /, *, id=None, weight=1.0, zone="", priority=0, backup=false, max_inflight=None, hash_key=None, passive=None, tags=None, data=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::address)] address: &str,
        #[pyo3(from_py_with = arguments::own_id)] id: Option<&str>,
        #[pyo3(from_py_with = arguments::weight)] weight: f64,
        #[pyo3(from_py_with = arguments::zone)] zone: &str,
        #[pyo3(from_py_with = arguments::priority)] priority: i64,
        backup: bool,
        #[pyo3(from_py_with = arguments::max_inflight)] max_inflight: Option<i64>,
        #[pyo3(from_py_with = hash_key)] hash_key: Option<HashKey>,
        passive: Option<&Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        data: Option<Py<PyAny>>,
    ) -> PyResult<Endpoint> {
        if address.is_empty() {
            return Err(
                ConfigError::new("address", "\"\"", "a text that is not empty, such as \"10.0.0.1:8080\"").into()
            );
        }
        if id == Some("") {
            return Err(ConfigError::new("id", "\"\"", "a text that is not empty").into());
        }
        check_weight("weight", weight)?;
        let priority = match u32::try_from(priority) {
            Ok(priority) if priority <= MAX_PRIORITY => priority,
            _ => {
                let allowed = format!("a whole number from 0 (first) to {MAX_PRIORITY}");
                return Err(ConfigError::new("priority", priority, allowed).into());
            }
        };
        let max_inflight = match max_inflight {
            None => None,
            Some(n) if (1..i64::from(u32::MAX)).contains(&n) => Some(n as u32),
            Some(n) => {
                return Err(ConfigError::new("max_inflight", n, "a whole number from 1 to 4294967294, or None").into());
            }
        };
        let own = passive::own(passive)?;
        let passive = passive.filter(|v| !v.is_none()).map(|v| v.clone().unbind());
        let tags = match tags {
            None => None,
            Some(t) => {
                let copied = t.call_method0("items").and_then(|items| PyDict::from_sequence(&items));
                let refuse = |_| PyErr::from(ConfigError::new("tags", shown(&t), "a mapping, or None"));
                Some(copied.map_err(refuse)?.into_any().unbind())
            }
        };
        let address = PyString::new(py, address);
        Ok(Endpoint {
            id: id.map_or_else(|| address.clone(), |id| PyString::new(py, id)).unbind(),
            address: address.unbind(),
            weight,
            zone: PyString::new(py, zone).unbind(),
            priority,
            backup,
            max_inflight,
            hash_key,
            own,
            passive,
            tags: Slot::new(tags),
            data: Slot::new(data),
            note: OnceLock::new(),
        })
    }

    #[getter]
    fn hash_key(&self) -> Option<HashKey> {
        self.hash_key.clone()
    }

    #[getter]
    fn passive(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.passive.as_ref().map(|v| v.clone_ref(py))
    }

    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match read(&self.tags, py) {
            // A copy: the endpoint stays frozen whatever the caller does with it.
            Some(tags) => Ok(tags.into_bound(py).cast_into::<PyDict>()?.copy()?),
            None => Ok(PyDict::new(py)),
        }
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        read(&self.data, py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut out = format!("Endpoint({}", self.address.bind(py).repr()?);
        if !self.id.is(&self.address) {
            out += &format!(", id={}", self.id.bind(py).repr()?);
        }
        if self.weight != 1.0 {
            out += &format!(", weight={}", self.weight);
        }
        if !self.zone.bind(py).to_str()?.is_empty() {
            out += &format!(", zone={}", self.zone.bind(py).repr()?);
        }
        if self.priority != 0 {
            out += &format!(", priority={}", self.priority);
        }
        if self.backup {
            out += ", backup=True";
        }
        if let Some(n) = self.max_inflight {
            out += &format!(", max_inflight={n}");
        }
        if let Some(passive) = &self.passive {
            out += &format!(", passive={}", passive.bind(py).repr()?);
        }
        Ok(out + ")")
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        match other.cast::<Endpoint>() {
            Ok(other) => self.id.bind(other.py()).as_any().eq(other.get().id.bind(other.py())),
            Err(_) => Ok(false),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.id.bind(py).hash()
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::new(py, [&self.address])?, self.keywords(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.tags, &self.data] {
            // The lock is held for moments by attached threads only, so it is free while the collector runs.
            if let Ok(held) = slot.try_lock() {
                visit.call(&*held)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop((cleared(&self.tags), cleared(&self.data)));
    }
}

impl Endpoint {
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kw = PyDict::new(py);
        kw.set_item("id", &self.id)?;
        kw.set_item("weight", self.weight)?;
        kw.set_item("zone", &self.zone)?;
        kw.set_item("priority", self.priority)?;
        kw.set_item("backup", self.backup)?;
        kw.set_item("max_inflight", self.max_inflight)?;
        kw.set_item("hash_key", self.hash_key.clone())?;
        kw.set_item("passive", self.passive(py))?;
        kw.set_item("tags", self.tags(py)?)?;
        kw.set_item("data", self.data(py))?;
        Ok(kw)
    }

    /// Its id.
    pub fn id<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.id.bind(py)
    }

    /// An equal endpoint whose object, and whose texts, are the calling thread's.
    #[cfg(Py_GIL_DISABLED)]
    pub fn copy(&self, py: Python<'_>) -> PyResult<Py<Endpoint>> {
        let text = |text: &Py<PyString>| Ok::<_, PyErr>(PyString::new(py, text.bind(py).to_str()?).unbind());
        let address = text(&self.address)?;
        let id = if self.id.is(&self.address) { address.clone_ref(py) } else { text(&self.id)? };
        Py::new(
            py,
            Endpoint {
                address,
                id,
                weight: self.weight,
                zone: text(&self.zone)?,
                priority: self.priority,
                backup: self.backup,
                max_inflight: self.max_inflight,
                hash_key: self.hash_key.clone(),
                own: self.own,
                passive: self.passive(py),
                tags: Slot::new(read(&self.tags, py)),
                data: Slot::new(read(&self.data, py)),
                note: self.note.clone(),
            },
        )
    }

    /// The same endpoint with another weight.
    pub fn with_weight(&self, py: Python<'_>, weight: f64) -> PyResult<Py<Endpoint>> {
        Py::new(
            py,
            Endpoint {
                address: self.address.clone_ref(py),
                id: self.id.clone_ref(py),
                weight,
                zone: self.zone.clone_ref(py),
                priority: self.priority,
                backup: self.backup,
                max_inflight: self.max_inflight,
                hash_key: self.hash_key.clone(),
                own: self.own,
                passive: self.passive(py),
                tags: Slot::new(read(&self.tags, py)),
                data: Slot::new(read(&self.data, py)),
                note: self.note.clone(),
            },
        )
    }

    /// Makes ready what other processes need to make the same endpoint.
    pub fn carry(&self, py: Python<'_>, field: &str) -> PyResult<()> {
        if self.note.get().is_some() {
            return Ok(());
        }
        if let Some(data) = read(&self.data, py) {
            let allowed = "None in a shared pool: an object of one process is nothing to another";
            return Err(ConfigError::new(format!("{field}.data"), shown(data.bind(py)), allowed).into());
        }
        let tags = self.tags(py)?;
        let json = py.import("json")?;
        let parts = (&self.address, self.hash_key.clone(), &tags);
        let same = |text: &Bound<'_, PyAny>| json.call_method1("loads", (text,))?.get_item(2)?.eq(&tags);
        let text = json.call_method1("dumps", (parts,)).ok().filter(|text| same(text).unwrap_or(false));
        let text = text.ok_or_else(|| {
            let allowed = "what JSON has, with texts as keys, in a shared pool";
            PyErr::from(ConfigError::new(format!("{field}.tags"), shown(&tags), allowed))
        })?;
        let _ = self.note.set(text.extract::<String>()?.into());
        Ok(())
    }

    /// What [`Endpoint::carry`] made ready.
    pub fn note(&self) -> Arc<str> {
        self.note.get().cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// The endpoint that another process has put into a shared pool.
    pub fn from_guest(py: Python<'_>, guest: &Guest) -> PyResult<Payload> {
        let parts = py.import("json")?.call_method1("loads", (&*guest.note,))?;
        let kw = PyDict::new(py);
        kw.set_item("id", &*guest.id)?;
        kw.set_item("weight", guest.weight)?;
        kw.set_item("zone", &*guest.zone)?;
        kw.set_item("priority", guest.priority)?;
        kw.set_item("backup", guest.backup)?;
        kw.set_item("max_inflight", Some(guest.max_inflight).filter(|&n| n != u32::MAX))?;
        kw.set_item("hash_key", parts.get_item(1)?)?;
        kw.set_item("tags", parts.get_item(2)?)?;
        if let Some(rule) = guest.passive {
            kw.set_item("passive", passive::own_object(py, rule)?)?;
        }
        let made = py.get_type::<Endpoint>().call((parts.get_item(0)?,), Some(&kw))?.cast_into::<Endpoint>()?;
        let _ = made.get().note.set(guest.note.clone());
        Ok(Arc::new(made.unbind()))
    }

    /// What the core knows of an endpoint; an address makes an endpoint.
    pub fn to_core(item: &Bound<'_, PyAny>, field: &str) -> PyResult<CoreEndpoint<Payload>> {
        let py = item.py();
        let object: Bound<'_, Endpoint> = match item.cast::<Endpoint>() {
            Ok(endpoint) => endpoint.clone(),
            Err(_) if item.is_instance_of::<PyString>() => {
                py.get_type::<Endpoint>().call1((item,))?.cast_into::<Endpoint>()?
            }
            Err(_) => return Err(ConfigError::new(field, shown(item), "an Endpoint or an address (str)").into()),
        };
        let this = object.get();
        let id: Arc<str> = this.id.bind(py).to_str()?.into();
        let hash_key: Arc<str> = match &this.hash_key {
            Some(HashKey::Text(text)) => text.as_str().into(),
            Some(HashKey::Number(number)) => number.to_string().into(),
            None => this.address.bind(py).to_str()?.into(),
        };
        Ok(CoreEndpoint {
            id,
            hash_key,
            weight: this.weight,
            priority: this.priority,
            zone: this.zone.bind(py).to_str()?.into(),
            backup: this.backup,
            max_inflight: this.max_inflight.unwrap_or(u32::MAX),
            passive: this.own,
            payload: Arc::new(object.unbind()),
        })
    }
}

/// How a pool averages latencies.
#[pyclass(frozen, module = "aibalance", eq, skip_from_py_object)]
#[derive(Clone, PartialEq)]
pub(crate) struct Latency(pub CoreLatency);

#[pymethods]
impl Latency {
    #[new]
    #[pyo3(signature = (*, decay=10.0, default_rtt=None, failure_penalty=5.0))]
    fn new(
        #[pyo3(from_py_with = arguments::decay)] decay: f64,
        #[pyo3(from_py_with = arguments::default_rtt)] default_rtt: Option<f64>,
        #[pyo3(from_py_with = arguments::failure_penalty)] failure_penalty: f64,
    ) -> PyResult<Latency> {
        Ok(Latency(CoreLatency { decay, default_rtt, failure_penalty }.check()?))
    }

    #[getter]
    fn decay(&self) -> f64 {
        self.0.decay
    }

    #[getter]
    fn default_rtt(&self) -> Option<f64> {
        self.0.default_rtt
    }

    #[getter]
    fn failure_penalty(&self) -> f64 {
        self.0.failure_penalty
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let kw = self.keywords(py)?;
        super::door::call_text("Latency", &kw)
    }

    fn __hash__(&self) -> u64 {
        self.0.decay.to_bits() ^ self.0.failure_penalty.to_bits().rotate_left(1)
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        Ok(((), self.keywords(py)?))
    }
}

impl Latency {
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kw = PyDict::new(py);
        kw.set_item("decay", self.0.decay)?;
        kw.set_item("default_rtt", self.0.default_rtt)?;
        kw.set_item("failure_penalty", self.0.failure_penalty)?;
        Ok(kw)
    }
}

/// Whether a Python object is a whole number, and not a truth value.
pub(crate) fn is_whole(item: &Bound<'_, PyAny>) -> bool {
    let has = |name| item.hasattr(name).unwrap_or(false);
    // numpy's integers are no int; an array has __index__ too, and a length.
    !item.is_instance_of::<pyo3::types::PyBool>()
        && (item.is_instance_of::<PyInt>() || (has("__index__") && !has("__len__")))
}
