//! Pool, as Python sees it.

use crate::core::endpoints::Health;
use crate::core::error::ConfigError;
use crate::core::health::failover::Rules;
use crate::core::pool::{Options, Outcome, Pool as CorePool, Report, Watching};
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;
use crate::py::Counting;
use crate::py::arguments;
use crate::py::clock::{Clock, seconds};
use crate::py::door::{Ending, instant, shown};
use crate::py::endpoint::{Endpoint, Latency, Payload};
use crate::py::failover::{self, SlowStart};
use crate::py::fork::detached;
use crate::py::joint_pool::{self, Home};
use crate::py::passive;
use crate::py::stats::EndpointStats;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::sync::{Arc, PoisonError, Weak};

/// How often, at most, a release starts a rebuild that was put off.
const REBUILD_EVERY: Nanos = Nanos(1_000_000_000);

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// The endpoints of a pickled pool, and the health of each and how many seconds its drain has left: infinity for no
/// deadline, None for no drain.
pub(crate) type Saved<'py> = (Bound<'py, PyTuple>, Vec<(String, Option<f64>)>);

/// A lease to close, the endpoint that has it, and the one that lacks it.
type Moved = (u64, Py<Endpoint>, Py<Endpoint>);

/// Pools without a seed of their own: a forked child starts their chance again.
static UNSEEDED: Lock<Vec<Weak<CorePool<Counting, Payload>>>> = Lock::new(Vec::new());

/// A set of endpoints.
#[pyclass(frozen, module = "aibalance", weakref)]
pub(crate) struct Pool {
    pub core: Arc<CorePool<Counting, Payload>>,
    pub clock: Clock,
    clock_object: Option<Py<PyAny>>,
    seed: Option<u64>,
    lease_timeout: Option<f64>,
    latency: Option<Latency>,
    slow_start: Option<SlowStart>,
    passive: Option<Py<PyAny>>,
    circuit_breaker: Option<Py<PyAny>>,
    /// The endpoints of the current snapshot. The collector visits these and nothing else, and they change only while
    /// attached, so that it never sees one object twice or half of a change.
    visible: Lock<Vec<Payload>>,
    rebuilt: AtomicU64,
    /// Where several processes have it in common.
    pub(super) home: Option<Arc<Home>>,
}

fn entropy(py: Python<'_>) -> PyResult<u64> {
    let bytes: [u8; 8] = py.import("os")?.call_method1("urandom", (8,))?.extract()?;
    Ok(u64::from_le_bytes(bytes))
}

fn health(value: &str) -> Result<Health, ConfigError> {
    match value {
        "healthy" => Ok(Health::Healthy),
        "degraded" => Ok(Health::Degraded),
        "unhealthy" => Ok(Health::Unhealthy),
        other => Err(ConfigError::new("health", format!("{other:?}"), "\"healthy\", \"degraded\" or \"unhealthy\"")),
    }
}

pub(crate) fn health_text(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    }
}

fn endpoints_of(items: &Bound<'_, PyAny>) -> PyResult<Vec<crate::core::endpoints::Endpoint<Payload>>> {
    let refuse = || ConfigError::new("endpoints", shown(items), "an iterable of Endpoint or addresses (str)");
    if items.is_instance_of::<PyString>() {
        return Err(refuse().into());
    }
    let iterator = items.try_iter().map_err(|_| PyErr::from(refuse()))?;
    iterator.enumerate().map(|(i, item)| Endpoint::to_core(&item?, &format!("endpoints[{i}]"))).collect()
}

impl Pool {
    /// A pool from a picker's first argument: the pool itself, or one made of the endpoints.
    pub fn from_argument(
        argument: &Bound<'_, PyAny>,
        seed: Option<u64>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Pool>> {
        if let Ok(pool) = argument.cast::<Pool>() {
            if seed.is_some() || clock.is_some() {
                let field = if seed.is_some() { "seed" } else { "clock" };
                let allowed = "None when a Pool is given: the pool has a seed and a clock of its own";
                return Err(ConfigError::new(field, "given", allowed).into());
            }
            return Ok(pool.clone().unbind());
        }
        let py = argument.py();
        let kw = PyDict::new(py);
        kw.set_item("seed", seed)?;
        kw.set_item("clock", clock)?;
        Ok(py.get_type::<Pool>().call((argument,), Some(&kw))?.cast_into::<Pool>()?.unbind())
    }

    /// The clock that it was given.
    pub fn given_clock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.clock_object.as_ref().map(|clock| clock.clone_ref(py))
    }

    pub(super) fn show(&self) {
        let mut visible = self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        // Read inside the lock, so that of two changes at once the later one is what stays.
        let now = self.core.snapshot().payload.clone();
        let before = std::mem::replace(&mut *visible, now);
        // What goes may run any code when it is dropped, so the lock is given back first.
        drop(visible);
        drop(before);
    }

    /// Lets those who wait for this pool look again. What goes wrong there goes wrong for them alone.
    #[inline]
    pub fn wake(&self, py: Python<'_>) {
        if self.core.waited().any() {
            self.tell_waiters(py);
        }
    }

    #[cold]
    fn tell_waiters(&self, py: Python<'_>) {
        let told = py.import("aibalance._queue").and_then(|queue| queue.call_method1("_wake", (self._key(),)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    fn change<E: Into<PyErr> + Send>(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&CorePool<Counting, Payload>) -> Result<(), E> + Send,
    ) -> PyResult<()> {
        if let Some(home) = &self.home {
            self.change_jointly(py, home, change)?;
        } else {
            let core = &self.core;
            detached(py, || change(core)).map_err(Into::into)?;
        }
        self.show();
        self.wake(py);
        Ok(())
    }

    fn at(&self, now: Option<f64>) -> PyResult<Nanos> {
        Ok(match now {
            Some(now) => seconds("now", now)?,
            None => self.clock.now(),
        })
    }

    /// Rebuilds what was put off, at most once a second.
    #[cold]
    pub fn rebuild(&self, py: Python<'_>) {
        let now = self.clock.now();
        let last = Nanos(self.rebuilt.load(Ordering::Relaxed));
        if now.since(last) >= REBUILD_EVERY {
            self.rebuilt.store(now.0, Ordering::Relaxed);
            detached(py, || self.core.rebuild());
        }
    }

    /// Ends a lease that the ledger knows.
    pub fn end_entered(&self, id: u64, ending: Ending) -> Result<(), crate::core::error::LeaseError> {
        let entry = self.core.leave(id)?;
        let now = ending.now.unwrap_or_else(|| self.clock.now());
        let latency = match ending.latency {
            Some(given) => Some(given),
            None if entry.measured && self.core.tracks_latency() => Some(now.since(entry.start).as_secs_f64()),
            None => None,
        };
        self.core.settle(entry.slot, entry.units, ending.outcome, latency, ending.hint, now);
        if self.core.watched() {
            self.core.note(entry.slot, ending.outcome, ending.status, ending.hint, Some(entry.start), now);
        }
        Ok(())
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (endpoints, /, *, passive=None, slow_start=None, circuit_breaker=None, panic_threshold=0.5, on_panic="all", failover="overflow", overprovisioning_factor=1.4, local_zone=None, zone_weights=None, latency=None, lease_timeout=None, clock=None, seed=None, shared=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        endpoints: &Bound<'_, PyAny>,
        passive: Option<&Bound<'_, PyAny>>,
        slow_start: Option<&Bound<'_, PyAny>>,
        circuit_breaker: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::panic_threshold)] panic_threshold: f64,
        #[pyo3(from_py_with = arguments::on_panic)] on_panic: &str,
        #[pyo3(from_py_with = arguments::failover)] failover: &str,
        #[pyo3(from_py_with = arguments::overprovisioning_factor)] overprovisioning_factor: f64,
        local_zone: Option<&Bound<'_, PyAny>>,
        zone_weights: Option<&Bound<'_, PyAny>>,
        latency: Option<PyRef<'_, Latency>>,
        #[pyo3(from_py_with = arguments::lease_timeout)] lease_timeout: Option<f64>,
        clock: Option<Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
        shared: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Pool> {
        let wanted = joint_pool::wanted(shared)?;
        let watching = passive::watching(passive)?;
        let breaker = passive::circuit_breaker(circuit_breaker)?;
        let kept = |value: Option<&Bound<'_, PyAny>>| value.filter(|v| !v.is_none()).map(|v| v.clone().unbind());
        let (passive, circuit_breaker) = (kept(passive), kept(circuit_breaker));
        let timed = matches!(watching, Some(Watching::Outliers(o)) if o.latency_factor.is_some());
        let slow_start = failover::slow_start(slow_start)?;
        let latency = latency.map(|l| Latency(l.0));
        let options = Options {
            rules: Rules {
                panic_threshold,
                on_panic: failover::on_panic(on_panic)?,
                overprovisioning_factor,
                failover: failover::failover(failover)?,
                zones: failover::zones(local_zone, zone_weights)?,
            },
            slow_start: slow_start.as_ref().map(|s| s.core),
            passive: watching,
            circuit_breaker: breaker,
            latency: latency.as_ref().map(|l| l.0).unwrap_or_default(),
            lease_timeout: lease_timeout.map(|t| seconds("lease_timeout", t)).transpose()?,
            seed: match seed {
                Some(seed) => seed,
                None => entropy(py)?,
            },
            ..Options::default()
        };
        let endpoints = endpoints_of(endpoints)?;
        let (core, home, fresh) = match wanted {
            None => (CorePool::new(endpoints, options)?, None, true),
            Some(wanted) => joint_pool::enter(py, wanted, Some((endpoints, options)), 0)?,
        };
        if latency.is_some() || timed {
            core.track_latency();
        }
        if seed.is_none() {
            let mut unseeded = UNSEEDED.lock().unwrap_or_else(PoisonError::into_inner);
            unseeded.retain(|pool| pool.strong_count() > 0);
            unseeded.push(Arc::downgrade(&core));
        }
        let pool = Pool {
            core,
            clock: Clock::from_argument(clock.as_ref())?,
            clock_object: clock.map(Bound::unbind),
            seed,
            lease_timeout,
            latency,
            slow_start,
            passive,
            circuit_breaker,
            visible: Lock::new(Vec::new()),
            rebuilt: AtomicU64::new(0),
            home,
        };
        if fresh {
            pool.core.watch_from(pool.clock.now());
        }
        pool.show();
        Ok(pool)
    }

    #[getter]
    fn endpoints<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.keep_up(py);
        let visible = self.visible.lock().unwrap_or_else(PoisonError::into_inner);
        let items: Vec<Py<Endpoint>> = visible.iter().map(|p| p.clone_ref(py)).collect();
        // Making a tuple may run the collector, which wants the lock.
        drop(visible);
        PyTuple::new(py, items)
    }

    /// Opens a shared pool that some process has.
    #[staticmethod]
    #[pyo3(signature = (name, /, *, clock=None, seed=None))]
    fn open(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        clock: Option<Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
    ) -> PyResult<Pool> {
        let own = match seed {
            Some(seed) => seed,
            None => entropy(py)?,
        };
        let (core, home, _) = joint_pool::enter(py, joint_pool::named(name)?, None, own)?;
        let options = core.options().clone();
        let pool = Pool {
            core,
            clock: Clock::from_argument(clock.as_ref())?,
            clock_object: clock.map(Bound::unbind),
            seed,
            lease_timeout: options.lease_timeout.map(Nanos::as_secs_f64),
            latency: Some(Latency(options.latency)),
            slow_start: options.slow_start.map(SlowStart::of),
            passive: None,
            circuit_breaker: None,
            visible: Lock::new(Vec::new()),
            rebuilt: AtomicU64::new(0),
            home,
        };
        pool.show();
        Ok(pool)
    }

    /// Gives up the memory of a name.
    #[staticmethod]
    #[pyo3(signature = (name, /))]
    fn unlink(name: &Bound<'_, PyAny>) -> PyResult<()> {
        joint_pool::unlink(name)
    }

    #[getter]
    pub fn shared(&self) -> Option<&str> {
        self.home.as_ref().map(|home| home.name.as_str())
    }

    #[getter]
    fn clock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.clock_object {
            Some(clock) => Ok(clock.clone_ref(py)),
            None => Ok(py.get_type::<super::clock::SystemClock>().call0()?.unbind()),
        }
    }

    #[pyo3(signature = (endpoints, /, *, now=None))]
    fn update(
        &self,
        py: Python<'_>,
        endpoints: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<()> {
        let endpoints = endpoints_of(endpoints)?;
        self.carry(py, &endpoints)?;
        let now = self.at(now)?;
        self.change(py, |core| core.update(endpoints, now))
    }

    #[pyo3(signature = (endpoint, /, *, now=None))]
    fn add(
        &self,
        py: Python<'_>,
        endpoint: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<()> {
        let endpoint = Endpoint::to_core(endpoint, "endpoint")?;
        self.carry(py, std::slice::from_ref(&endpoint))?;
        let now = self.at(now)?;
        self.change(py, |core| core.add(endpoint, now))
    }

    #[pyo3(signature = (id, /))]
    fn remove(&self, py: Python<'_>, #[pyo3(from_py_with = arguments::id)] id: &str) -> PyResult<()> {
        self.change(py, |core| core.remove(id))
    }

    #[pyo3(signature = (id, weight, /))]
    fn set_weight(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::id)] id: &str,
        #[pyo3(from_py_with = arguments::weight)] weight: f64,
    ) -> PyResult<()> {
        let weight = crate::core::endpoints::endpoint::check_weight("weight", weight)?;
        self.keep_up(py);
        loop {
            let snapshot = self.core.snapshot();
            let old = snapshot
                .ids
                .get(id)
                .and_then(|&i| snapshot.payload.get(i as usize))
                .ok_or_else(|| ConfigError::new("id", format!("{id:?}"), "the id of an endpoint of this pool"))?;
            let fresh = Arc::new(old.get().with_weight(py, weight)?);
            // Somebody may have replaced the endpoint in the meantime: then the new one is to have the weight.
            let same = |now: &Payload| Arc::ptr_eq(now, old).then_some(fresh);
            let mut done = false;
            self.change(py, |core| core.set_weight(id, weight, same).map(|changed| done = changed))?;
            if done {
                return Ok(());
            }
        }
    }

    #[pyo3(signature = (id, health, /, *, now=None))]
    fn set_health(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::id)] id: &str,
        #[pyo3(from_py_with = arguments::health)] health: &str,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<()> {
        let health = self::health(health)?;
        let now = self.at(now)?;
        self.change(py, |core| core.set_health(id, health, now))
    }

    #[pyo3(signature = (id, /, *, deadline=None, now=None))]
    fn drain(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::id)] id: &str,
        #[pyo3(from_py_with = arguments::deadline)] deadline: Option<f64>,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<()> {
        let until = match deadline {
            Some(after) => self.at(now)?.plus(seconds("deadline", after)?),
            None => Nanos::MAX,
        };
        self.change(py, |core| core.drain(id, until))
    }

    #[pyo3(signature = (id, /))]
    fn undrain(&self, py: Python<'_>, #[pyo3(from_py_with = arguments::id)] id: &str) -> PyResult<()> {
        self.change(py, |core| core.undrain(id))
    }

    #[pyo3(signature = (id, /, *, now=None))]
    fn is_drained(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::id)] id: &str,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<bool> {
        self.keep_up(py);
        let now = self.at(now)?;
        Ok(detached(py, || self.core.is_drained(id, now))?)
    }

    #[pyo3(signature = (id, /))]
    fn drained<'py>(
        slf: &Bound<'py, Self>,
        #[pyo3(from_py_with = arguments::id)] id: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Asks once, so that a wrong id is told at the call and not at the await.
        slf.get().is_drained(slf.py(), id, None)?;
        slf.py().import("aibalance.endpoints")?.call_method1("_wait_until_drained", (slf, id))
    }

    #[pyo3(signature = (id, /, *, inflight=None, queue=None, utilization=None, latency=None, gpu_memory=None, kv_cache=None, qps=None, eps=None, now=None))]
    #[allow(clippy::too_many_arguments)]
    fn observe(
        &self,
        #[pyo3(from_py_with = arguments::id)] id: &str,
        #[pyo3(from_py_with = arguments::inflight)] inflight: Option<f64>,
        #[pyo3(from_py_with = arguments::queue)] queue: Option<f64>,
        #[pyo3(from_py_with = arguments::utilization)] utilization: Option<f64>,
        #[pyo3(from_py_with = arguments::latency)] latency: Option<f64>,
        #[pyo3(from_py_with = arguments::gpu_memory)] gpu_memory: Option<f64>,
        #[pyo3(from_py_with = arguments::kv_cache)] kv_cache: Option<f64>,
        #[pyo3(from_py_with = arguments::qps)] qps: Option<f64>,
        #[pyo3(from_py_with = arguments::eps)] eps: Option<f64>,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<()> {
        let report = Report { inflight, queue, utilization, latency, gpu_memory, kv_cache, qps, eps };
        let now = self.at(now)?;
        self.core.observe(id, report, now).map_err(|e| match e {
            Ok(config) => config.into(),
            Err(metric) => metric.into(),
        })
    }

    #[pyo3(signature = (now=None))]
    fn advance(&self, py: Python<'_>, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<()> {
        self.keep_up(py);
        let now = self.at(now)?;
        self.take_back();
        // Counters are changed attached, one thread at a time; only the rebuilding goes on without.
        detached(py, || self.core.rebuild());
        self.core.expire(now);
        self.wake(py);
        Ok(())
    }

    #[pyo3(signature = (now=None))]
    fn stats(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<Vec<EndpointStats>> {
        self.keep_up(py);
        let now = self.at(now)?;
        // As a pick does: who is due back by now is back.
        if self.core.watched() && now >= self.core.next_change() {
            detached(py, || self.core.expire(now));
        }
        Ok(detached(py, || self.core.stats(now)).into_iter().map(EndpointStats).collect())
    }

    #[pyo3(signature = (lease_id, /, outcome=None, *, status=None, latency=None, retry_after=None, now=None))]
    #[allow(clippy::too_many_arguments)]
    fn release(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::lease_id)] lease_id: u64,
        outcome: Option<&Bound<'_, PyAny>>,
        status: Option<&Bound<'_, PyAny>>,
        latency: Option<&Bound<'_, PyAny>>,
        retry_after: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let ending = Ending::from_arguments(outcome, status, latency, retry_after, now)?;
        self.end_entered(lease_id, ending)?;
        self.look_around();
        self.wake(py);
        Ok(())
    }

    #[pyo3(signature = (lease_id, /))]
    fn cancel(&self, py: Python<'_>, #[pyo3(from_py_with = arguments::lease_id)] lease_id: u64) -> PyResult<()> {
        self.end_entered(lease_id, Ending::plain(Outcome::Cancelled))?;
        self.wake(py);
        Ok(())
    }

    #[pyo3(signature = (max_moves, /, *, min_age=0.0, now=None))]
    fn rebalance<'py>(
        slf: &Bound<'py, Self>,
        max_moves: &Bound<'py, PyAny>,
        min_age: f64,
        now: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("aibalance._explain")?.call_method1("_rebalance", (slf, max_moves, min_age, now))
    }

    #[pyo3(signature = (max_moves, /, *, min_age=0.0, now=None))]
    fn _rebalance(
        &self,
        py: Python<'_>,
        max_moves: usize,
        min_age: f64,
        #[pyo3(from_py_with = arguments::now)] now: Option<f64>,
    ) -> PyResult<Vec<Moved>> {
        let (age, now) = (seconds("min_age", min_age)?, self.at(now)?);
        let snapshot = self.core.snapshot();
        let moves = detached(py, || self.core.rebalance(&snapshot, max_moves, age, now));
        let at = |i: u32| snapshot.payload.get(i as usize).map(|p| p.clone_ref(py));
        Ok(moves.iter().filter_map(|m| Some((m.lease, at(m.from)?, at(m.to)?))).collect())
    }

    /// What `_wake` calls this pool: no other one that is there at the same time.
    fn _key(&self) -> usize {
        Arc::as_ptr(&self.core).addr()
    }

    /// Begins to measure how long leases last, for the estimates of a queue.
    fn _measure(&self) {
        self.core.track_latency();
    }

    /// Somebody waits in one more queue, or in one less.
    fn _waiting(&self, more: bool) {
        if more { self.core.waited().enter() } else { self.core.waited().leave() }
    }

    /// How many requests could be taken now, None for any number; and how many end in a second, None when not known.
    #[pyo3(signature = (now=None))]
    fn _room(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<(Option<u64>, Option<f64>)> {
        let room = self.core.room(&self.core.snapshot().view, &|_| true, self.at(now)?);
        Ok((room.free, room.rate))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.keep_up(py);
        self.core.snapshot().payload.len()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.keep_up(py);
        let totals = self.core.snapshot().view.totals;
        let mut out = format!("<Pool of {}", totals.total);
        for (n, what) in
            [(totals.unhealthy, "unhealthy"), (totals.draining, "draining"), (totals.zero_weight, "of weight 0")]
        {
            if n > 0 {
                out += &format!(", {n} {what}");
            }
        }
        if let Some(home) = &self.home {
            out += &format!(", shared as {:?}", home.name);
        }
        out + ">"
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        joint_pool::reduced(slf)
    }

    pub fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let rules = &self.core.options().rules;
        let (local_zone, zone_weights) = failover::zone_arguments(py, &rules.zones)?;
        let kw = PyDict::new(py);
        kw.set_item("panic_threshold", rules.panic_threshold)?;
        kw.set_item("on_panic", failover::on_panic_text(rules.on_panic))?;
        kw.set_item("failover", failover::failover_text(rules.failover))?;
        kw.set_item("local_zone", local_zone)?;
        kw.set_item("zone_weights", zone_weights)?;
        kw.set_item("slow_start", self.slow_start.clone())?;
        kw.set_item("passive", self.passive.as_ref())?;
        kw.set_item("circuit_breaker", self.circuit_breaker.as_ref())?;
        kw.set_item("overprovisioning_factor", rules.overprovisioning_factor)?;
        kw.set_item("latency", self.latency.clone())?;
        kw.set_item("lease_timeout", self.lease_timeout)?;
        kw.set_item("clock", self.clock_object.as_ref())?;
        kw.set_item("seed", self.seed)?;
        // The endpoints travel in the state: one of them may have this pool in its data.
        Ok((PyTuple::new(py, [PyTuple::empty(py)])?, kw))
    }

    pub fn __getstate__<'py>(&self, py: Python<'py>) -> PyResult<Saved<'py>> {
        let states = detached(py, || self.core.states());
        let now = self.clock.now();
        // What is left of it, since the clock that reads this may count from elsewhere.
        let left = |end: Nanos| if end == Nanos::MAX { f64::INFINITY } else { end.since(now).as_secs_f64() };
        let states = states.into_iter().map(|(health, drain)| (health_text(health).into(), drain.map(left))).collect();
        Ok((self.endpoints(py)?, states))
    }

    fn __setstate__(&self, py: Python<'_>, state: Saved<'_>) -> PyResult<()> {
        let (endpoints, states) = state;
        let core_endpoints = endpoints_of(endpoints.as_any())?;
        self.change(py, |core| core.fill(core_endpoints))?;
        for (endpoint, (health, drain)) in endpoints.iter().zip(states) {
            let id = endpoint.cast::<Endpoint>()?.get().id(py).to_str()?.to_owned();
            if health != "healthy" {
                self.set_health(py, &id, &health, None)?;
            }
            if let Some(left) = drain {
                self.drain(py, &id, left.is_finite().then_some(left), None)?;
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(visible) = self.visible.try_lock() {
            for payload in visible.iter() {
                visit.call(&**payload)?;
            }
        }
        visit.call(&self.clock_object)
    }
}

/// Starts chance again in a forked child, for pools that have no seed of their own.
#[pyfunction]
pub(crate) fn _reseed_after_fork(py: Python<'_>) -> PyResult<()> {
    let pools: Vec<_> =
        UNSEEDED.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    for pool in pools {
        pool.reseed(entropy(py)?);
    }
    Ok(())
}

/// The instant that an optional `now=` names, or else the clock's.
pub(crate) fn instant_or(pool: &Pool, now: Option<&Bound<'_, PyAny>>) -> PyResult<Nanos> {
    match now {
        Some(now) if !now.is_none() => instant(now, "now"),
        _ => Ok(pool.clock.now()),
    }
}
