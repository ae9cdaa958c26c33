//! The binding of routing: rules and requests in, ready Python objects out.

use crate::core::error::ConfigError;
use crate::core::rng::Rng;
use crate::core::routing::{
    Decision, Options, Priority, Refusal, Request, Router, Rule, StickyTable as CoreTable, WhenFull, dns,
};
use crate::core::sync::Mutex;
use crate::core::time::Nanos;
use crate::py::clock::Clock;
use crate::py::door::{self, shown};
use crate::py::fastcall::lease_on;
use crate::py::keys;
use crate::py::pool::{Pool, instant_or};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

/// A rule as the Python side has checked and flattened it: priority (-1 none, -2 the default rule), paths, location,
/// hosts, methods, headers, query, targets.
type Flat = (
    i64,
    Vec<String>,
    Option<String>,
    Vec<String>,
    Vec<String>,
    Vec<(String, Vec<String>)>,
    Vec<Vec<(Option<String>, String)>>,
    Vec<(String, u64)>,
);

/// Why, with which status, and where else to: what a decision says besides the route.
type Explained<'py> = (Option<Bound<'py, PyAny>>, &'static str, u16, Option<String>, Option<usize>);

/// The native half of a router, with the route objects of each rule's targets.
#[pyclass(frozen, module = "aibalance._core")]
pub(crate) struct RouteEngine {
    router: Router,
    routes: Vec<Vec<Py<PyAny>>>,
}

fn bytes<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    if let Ok(text) = value.cast::<PyString>() {
        // A text with lone surrogates was never sent.
        return text.to_str().ok().map(str::as_bytes);
    }
    value.cast::<PyBytes>().ok().map(|b| b.as_bytes())
}

impl RouteEngine {
    fn decide(
        &self,
        target: &Bound<'_, PyAny>,
        method: &Bound<'_, PyAny>,
        host: Option<&Bound<'_, PyAny>>,
        headers: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let key = key.map(keys::hashed).transpose()?;
        let pairs: Option<Vec<(&[u8], &[u8])>> = headers.iter().map(|(n, v)| Some((bytes(n)?, bytes(v)?))).collect();
        let (Some(target), Some(method), Some(headers)) = (bytes(target), bytes(method), pairs) else {
            return Ok(Decision::Refused(Refusal::Target));
        };
        let host = match host.map(bytes) {
            Some(None) => return Ok(Decision::Refused(Refusal::Host)),
            Some(host) => host,
            None => None,
        };
        Ok(match Request::new(method, target, host, &headers) {
            Ok(request) => self.router.route(&request, key),
            Err(refusal) => Decision::Refused(refusal),
        })
    }

    fn object(&self, rule: usize, target: usize) -> Option<&Py<PyAny>> {
        self.routes.get(rule)?.get(target)
    }
}

#[pymethods]
impl RouteEngine {
    #[new]
    #[pyo3(signature = (rules, routes, *, alb_limits, refuse_ambiguous, merge_slashes, redirect, seed))]
    fn new(
        rules: Vec<Flat>,
        routes: Vec<Vec<Py<PyAny>>>,
        alb_limits: bool,
        refuse_ambiguous: bool,
        merge_slashes: bool,
        redirect: bool,
        seed: u64,
    ) -> PyResult<RouteEngine> {
        let rules: Vec<Rule> = rules
            .into_iter()
            .map(|(priority, paths, location, hosts, methods, headers, query, targets)| {
                let priority = match priority {
                    -1 => Priority::Listed,
                    -2 => Priority::Default,
                    number => Priority::Number(u32::try_from(number).unwrap_or(0)),
                };
                Rule { priority, paths, location, hosts, methods, headers, query, targets }
            })
            .collect();
        let options = Options { alb_limits, refuse_ambiguous, merge_slashes, redirect, seed };
        Ok(RouteEngine { router: Router::new(&rules, options)?, routes })
    }

    #[pyo3(signature = (target, method, host, headers, key))]
    fn route<'py>(
        &self,
        py: Python<'py>,
        target: &Bound<'py, PyAny>,
        method: &Bound<'py, PyAny>,
        host: Option<&Bound<'py, PyAny>>,
        headers: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(match self.decide(target, method, host, &headers, key)? {
            Decision::Forward { rule, target } => self.object(rule, target).map(|route| route.clone_ref(py)),
            Decision::Redirect { .. } | Decision::Refused(_) => None,
        })
    }

    #[pyo3(signature = (target, method, host, headers, key))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        target: &Bound<'py, PyAny>,
        method: &Bound<'py, PyAny>,
        host: Option<&Bound<'py, PyAny>>,
        headers: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Explained<'py>> {
        Ok(match self.decide(target, method, host, &headers, key)? {
            Decision::Forward { rule, target } => {
                let route = self.object(rule, target).map(|route| route.bind(py).clone());
                (route, "matched", 200, None, Some(rule))
            }
            Decision::Redirect { rule, to } => (None, "redirect", 301, Some(to), Some(rule)),
            Decision::Refused(why) => (None, why.word(), why.status(), None, None),
        })
    }

    /// The shares of a rule's targets.
    fn shares(&self, rule: usize) -> Vec<f64> {
        self.router.shares(rule)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.routes.iter().flatten().try_for_each(|route| visit.call(route))
    }
}

/// Sessions by key.
#[pyclass(frozen, module = "aibalance.routing")]
pub(crate) struct StickyTable {
    core: CoreTable,
    clock: Clock,
    clock_object: Option<Py<PyAny>>,
    #[pyo3(get)]
    capacity: usize,
    #[pyo3(get)]
    ttl: f64,
    #[pyo3(get)]
    renew: bool,
    when_full: WhenFull,
}

fn name(value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| ConfigError::new("endpoint", shown(value), "the id of an endpoint (str)").into())
}

fn room(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    value.extract().map_err(|_| ConfigError::new("capacity", shown(value), "a whole number of at least 1").into())
}

fn time(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    door::instant(value, "ttl")?;
    // As it was given: a number of nanoseconds does not always give the same float back.
    value.extract()
}

impl StickyTable {
    fn at(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<Nanos> {
        now.map_or_else(|| Ok(self.clock.now()), |now| door::instant(now, "now"))
    }

    fn key(key: &Bound<'_, PyAny>) -> PyResult<u128> {
        match bytes(key) {
            Some(bytes) => Ok(CoreTable::hash(bytes)),
            None => Err(ConfigError::new("key", shown(key), "str without lone surrogates, or bytes").into()),
        }
    }
}

#[pymethods]
impl StickyTable {
    #[new]
    #[pyo3(signature = (*, capacity=100_000, ttl=3600.0, renew=true, when_full="evict", clock=None))]
    fn new(
        #[pyo3(from_py_with = room)] capacity: usize,
        #[pyo3(from_py_with = time)] ttl: f64,
        renew: bool,
        when_full: &str,
        clock: Option<Bound<'_, PyAny>>,
    ) -> PyResult<StickyTable> {
        let full = match when_full {
            "evict" => WhenFull::Evict,
            "refuse" => WhenFull::Refuse,
            other => {
                return Err(ConfigError::new("when_full", format!("{other:?}"), "\"evict\" or \"refuse\"").into());
            }
        };
        let core = CoreTable::new(capacity, Nanos::from_secs_f64(ttl), renew, full)?;
        let clock_read = Clock::from_argument(clock.as_ref())?;
        Ok(StickyTable {
            core,
            clock: clock_read,
            clock_object: clock.map(Bound::unbind),
            capacity,
            ttl,
            renew,
            when_full: full,
        })
    }

    #[getter]
    fn when_full(&self) -> &'static str {
        if self.when_full == WhenFull::Evict { "evict" } else { "refuse" }
    }

    #[getter]
    fn evicted(&self) -> u64 {
        self.core.evicted()
    }

    #[pyo3(signature = (key, /, *, now=None))]
    fn get(&self, key: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
        Ok(self.core.get(Self::key(key)?, self.at(now)?).map(|id| id.as_ref().to_owned()))
    }

    #[pyo3(signature = (key, endpoint, /, *, now=None))]
    fn set(
        &self,
        key: &Bound<'_, PyAny>,
        endpoint: &Bound<'_, PyAny>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        Ok(self.core.set(Self::key(key)?, &name(endpoint)?, self.at(now)?))
    }

    #[pyo3(signature = (key, /))]
    fn remove(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.core.remove(Self::key(key)?))
    }

    #[pyo3(signature = (endpoint, /))]
    fn forget(&self, endpoint: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.core.forget(&name(endpoint)?))
    }

    #[pyo3(signature = (*, now=None))]
    fn expire(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        Ok(self.core.expire(self.at(now)?))
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }

    fn __repr__(&self) -> String {
        format!("<StickyTable: {} of {}, {} s>", self.core.len(), self.capacity, self.ttl)
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("capacity", self.capacity)?;
        kw.set_item("ttl", self.ttl)?;
        kw.set_item("renew", self.renew)?;
        kw.set_item("when_full", self.when_full())?;
        kw.set_item("clock", self.clock_object.as_ref())?;
        Ok(((), kw))
    }
}

/// Draws of a name server.
#[pyclass(frozen, module = "aibalance._core")]
pub(crate) struct DnsDraws(Mutex<Rng>);

#[pymethods]
impl DnsDraws {
    #[new]
    fn new(seed: u64) -> DnsDraws {
        DnsDraws(Mutex::new(Rng::new(seed)))
    }

    fn weighted(&self, weights: Vec<u32>, healthy: Vec<bool>) -> Option<usize> {
        dns::weighted(&weights, &healthy, &mut self.0.lock())
    }

    #[staticmethod]
    fn least(costs: Vec<f64>, healthy: Vec<bool>) -> Option<usize> {
        dns::least(&costs, &healthy)
    }

    #[staticmethod]
    fn failover(primary: bool, secondary: bool) -> usize {
        dns::failover(primary, secondary)
    }

    #[staticmethod]
    fn geolocation(levels: Vec<u8>, healthy: Vec<bool>) -> Option<usize> {
        dns::geolocation(&levels, &healthy)
    }

    fn multivalue(&self, healthy: Vec<bool>) -> Vec<usize> {
        dns::multivalue(&healthy, &mut self.0.lock())
    }
}

/// A lease on the endpoint of this id for a session that it may keep; or a word that says why it lets go.
#[pyfunction]
#[pyo3(signature = (pool, id, /, *, cost, load_factor, now))]
fn _acquire_on<'py>(
    py: Python<'py>,
    pool: &Bound<'py, Pool>,
    id: &str,
    cost: &Bound<'py, PyAny>,
    load_factor: Option<f64>,
    now: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let units = door::units(cost, "cost")?;
    let core = &pool.get().core;
    let at = instant_or(pool.get(), now)?;
    if at >= core.next_change() {
        core.expire(at);
    }
    let snapshot = core.snapshot();
    match core.acquire_on(&snapshot, id, units, load_factor, at) {
        Ok(taken) => {
            let measured = now.is_some() || core.tracks_latency();
            lease_on(py, &snapshot, &pool.clone().unbind(), taken, measured.then_some(at))
        }
        Err(why) => Ok(PyString::new(py, why.word()).into_any()),
    }
}

/// Adds this room's classes to the module.
pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<RouteEngine>()?;
    m.add_class::<StickyTable>()?;
    m.add_class::<DnsDraws>()?;
    m.add_function(wrap_pyfunction!(_acquire_on, m)?)?;
    Ok(())
}
