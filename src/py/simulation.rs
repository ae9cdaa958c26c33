//! The simulator's binding: Python gives plain values, an object that balances and one that scales; it gets plain values
//! and arrays back. `aibalance.simulation` is the face that people see.

use super::errors;
use super::fastcall::PickerClass;
use super::llm::PrefixAware;
use super::pickers::{
    ClientSideWeightedRoundRobin, First, IpHash, JoinIdleQueue, JumpBackHash, JumpHash, LeastConnections, LeastRequest,
    LeastTime, Maglev, MementoHash, ModuloHash, MultiProbeHash, PeakEwma, Prequal, Rendezvous, RingHash, RoundRobin,
    SourceHash, WeightedRandom,
};
use super::simulation_detail::{self, DetailArgs, DispatcherArgs, TokenArgs, detail};
use crate::core::error::ConfigError;
use crate::core::health::slow_start::{Ramp, SlowStart};
use crate::core::llm::Prompt;
use crate::core::simulation::report::PhaseResults;
use crate::core::simulation::testing::{Rule, TestBalancer};
use crate::core::simulation::{
    Balancer, Engine, FleetConfig, FleetView, Grant, Hears, LaunchOrder, Law, Outcome, PoolBalancer, PrefixBalancer,
    RateProfile, Records, Results, Scaler, ServerReport, ServerSpec, ServerType, SimulationConfig, SimulationError,
    Spike, Trace, Traffic, Work, streams,
};
use crate::core::time::Nanos;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, OnceLock};

impl From<SimulationError> for PyErr {
    fn from(e: SimulationError) -> PyErr {
        match e {
            SimulationError::Config(e) => e.into(),
            SimulationError::Broken(_) => errors::InternalError::new_err(e.to_string()),
            _ => errors::SimulationError::new_err(e.to_string()),
        }
    }
}

/// Float seconds, the nearest to the exact value: 60 s are 60.0.
fn seconds(t: Nanos) -> f64 {
    t.0 as f64 / 1e9
}

/// The first exception that a Python balancer or policy raised; the engine stops at it.
type Raised = Arc<OnceLock<PyErr>>;

fn raised(cell: &Raised, error: PyErr, stop: fn(String) -> SimulationError) -> SimulationError {
    let text = error.to_string();
    let _ = cell.set(error);
    stop(text)
}

/// A balancer written in Python: an object with `add`, `drain`, `remove`, `acquire` and `release`.
struct PyBalancer {
    object: Py<PyAny>,
    leases: Vec<Option<Py<PyAny>>>,
    free: Vec<u64>,
    /// Whether it may be told of prompts.
    prompts: bool,
    raised: Raised,
}

impl PyBalancer {
    fn call<T>(&self, f: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, SimulationError> {
        Python::attach(|py| f(self.object.bind(py))).map_err(|e| raised(&self.raised, e, SimulationError::Balancer))
    }

    /// Keeps the lease of what was granted.
    fn granted(
        &mut self,
        ask: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Option<(u32, Py<PyAny>)>>,
    ) -> Result<Option<Grant>, SimulationError> {
        let granted = self.call(ask)?;
        let Some((server, lease)) = granted else { return Ok(None) };
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.leases.push(None);
            self.leases.len() as u64 - 1
        });
        if let Some(cell) = self.leases.get_mut(ticket as usize) {
            *cell = Some(lease);
        }
        Ok(Some(Grant { server, ticket }))
    }
}

impl Balancer for PyBalancer {
    fn add(&mut self, server: u32, spec: &ServerSpec, now: Nanos) -> Result<(), SimulationError> {
        let args = (server, spec.kind.as_str(), spec.weight, spec.max_inflight, seconds(now));
        self.call(|object| object.call_method1(intern!(object.py(), "add"), args).map(drop))
    }

    fn drain(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.call(|object| object.call_method1(intern!(object.py(), "drain"), (server, seconds(now))).map(drop))
    }

    fn remove(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.call(|object| object.call_method1(intern!(object.py(), "remove"), (server, seconds(now))).map(drop))
    }

    fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError> {
        self.granted(|object| {
            object.call_method1(intern!(object.py(), "acquire"), (key, cost, seconds(now)))?.extract()
        })
    }

    fn hears(&self) -> Option<Hears> {
        self.prompts.then(Hears::default)
    }

    fn acquire_for(
        &mut self,
        prompt: Prompt<'_>,
        key: Option<u64>,
        cost: f64,
        now: Nanos,
    ) -> Result<Option<Grant>, SimulationError> {
        self.granted(|object| {
            let blocks = PyArray1::from_slice(object.py(), prompt.blocks);
            let args = (key, cost, seconds(now), blocks, prompt.tokens);
            object.call_method1(intern!(object.py(), "acquire"), args)?.extract()
        })
    }

    fn first_token(&mut self, grant: Grant, now: Nanos) -> Result<(), SimulationError> {
        let lease = self.leases.get(grant.ticket as usize).and_then(Option::as_ref);
        let lease = lease.ok_or(SimulationError::Broken("a lease"))?;
        self.call(|object| object.call_method1(intern!(object.py(), "first_token"), (lease, seconds(now))).map(drop))
    }

    fn release(&mut self, grant: Grant, latency: Nanos, outcome: Outcome, now: Nanos) -> Result<(), SimulationError> {
        let lease = self.leases.get_mut(grant.ticket as usize).and_then(Option::take);
        let lease = lease.ok_or(SimulationError::Broken("a lease"))?;
        self.free.push(grant.ticket);
        let outcome = match outcome {
            Outcome::Success => "success",
            Outcome::Rejected => "rejected",
            Outcome::TimedOut => "timeout",
            Outcome::Failed => "failure",
            Outcome::Cancelled => "cancelled",
        };
        let args = (lease, outcome, seconds(latency), seconds(now));
        self.call(|object| object.call_method1(intern!(object.py(), "release"), args).map(drop))
    }

    fn report(&mut self, server: u32, of: &ServerReport, _: bool, now: Nanos) -> Result<(), SimulationError> {
        let args = (server, of.in_flight, of.latency, of.utilization, of.qps, seconds(now));
        self.call(|object| object.call_method1(intern!(object.py(), "report"), args).map(drop))
    }
}

/// A policy written in Python: a callable of (now in seconds, what it sees) that gives a number of servers or None.
struct PyScaler {
    object: Py<PyAny>,
    raised: Raised,
}

impl Scaler for PyScaler {
    fn decide(&mut self, now: Nanos, view: &FleetView) -> Result<Option<u32>, SimulationError> {
        Python::attach(|py| {
            let seen = PyDict::new(py);
            seen.set_item("as_of", seconds(view.as_of))?;
            seen.set_item("desired", view.desired)?;
            seen.set_item("ready", view.ready)?;
            seen.set_item("warming", view.warming)?;
            seen.set_item("draining", view.draining)?;
            seen.set_item("utilization", view.utilization)?;
            seen.set_item("in_flight", view.in_flight)?;
            seen.set_item("queue_per_server", view.queue_per_server)?;
            seen.set_item("arrivals_per_s", view.arrivals_per_s)?;
            seen.set_item("servers", view.servers)?;
            let wanted: Option<i64> = self.object.bind(py).call1((seconds(now), seen))?.extract()?;
            Ok(wanted.map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX)))
        })
        .map_err(|e| raised(&self.raised, e, SimulationError::Scaler))
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct TypeArgs {
    name: String,
    speed: f64,
    weight: f64,
    concurrency: u32,
    price_per_hour: f64,
    share: f64,
    max: Option<u32>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct FleetArgs {
    min: u32,
    max: u32,
    initial: u32,
    queue_limit: Option<u32>,
    cold_start_s: f64,
    decision_interval_s: f64,
    metric_delay_s: f64,
    metric_period_s: f64,
    launch: String,
    types: Vec<TypeArgs>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct TrafficArgs {
    kind: String,
    points: Vec<(f64, f64)>,
    linear: bool,
    spike: Option<(f64, f64, f64, f64, f64)>,
    rate_scale: f64,
    rotate: bool,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct ServiceArgs {
    pub(super) kind: String,
    pub(super) a: Vec<f64>,
    b: Vec<f64>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Args {
    duration_s: f64,
    discard_s: f64,
    timeout_s: Option<f64>,
    slo_s: f64,
    spike: Option<(f64, f64)>,
    keys: Option<(u32, f64)>,
    cost_is_work: bool,
    timeline_steps: u32,
    traffic: TrafficArgs,
    service: ServiceArgs,
    fleet: FleetArgs,
    detail: Option<DetailArgs>,
    dispatchers: Option<DispatcherArgs>,
    slow_start_s: Option<f64>,
}

fn one(values: &[f64], name: &str) -> Result<f64, ConfigError> {
    values.first().copied().ok_or_else(|| ConfigError::new(name, "nothing", "expected a number"))
}

pub(super) fn work(service: &ServiceArgs) -> Result<Work, ConfigError> {
    let (a, b) = (&service.a, &service.b);
    let kind = service.kind.as_str();
    if kind == "given" {
        return Work::given(one(a, "service.noise_cv")?);
    }
    Ok(Work::Drawn(match kind {
        "empirical" => Law::empirical(a)?,
        "hyperexponential" => Law::hyper_exponential(a, b)?,
        _ => {
            let first = one(a, "service")?;
            let second = a.get(1).copied().unwrap_or(f64::NAN);
            match kind {
                "deterministic" => Law::deterministic(first)?,
                "exponential" => Law::exponential(first)?,
                "uniform" => Law::uniform(first, second)?,
                "lognormal" => Law::log_normal(first, second)?,
                "lognormal_cv" => Law::log_normal_cv(first, second)?,
                "gamma" => Law::gamma(first, second)?,
                "bounded_pareto" => Law::bounded_pareto(first, second, a.get(2).copied().unwrap_or(f64::NAN))?,
                _ => return Err(ConfigError::new("service.kind", kind, "expected a known law")),
            }
        }
    }))
}

fn traffic(args: &Args, arrival_s: &[f64], work_s: &[f64]) -> Result<Traffic, ConfigError> {
    let of = &args.traffic;
    let spike = of.spike.map(|(factor, start_s, ramp_s, hold_s, ramp_down_s)| Spike {
        factor,
        start_s,
        ramp_s,
        hold_s,
        ramp_down_s,
    });
    let base = of.points.first().map_or(f64::NAN, |point| point.1);
    Ok(match (of.kind.as_str(), spike) {
        ("trace", _) => {
            Traffic::Trace(Trace::new(arrival_s, work_s, of.rate_scale, spike, of.rotate, args.duration_s)?)
        }
        ("poisson", _) => Traffic::Poisson(RateProfile::constant(base, args.duration_s)?),
        ("piecewise", _) => Traffic::Poisson(RateProfile::points(&of.points, of.linear, args.duration_s)?),
        ("spike", Some(spike)) => Traffic::Poisson(RateProfile::spike(base, spike, args.duration_s)?),
        (kind, _) => return Err(ConfigError::new("traffic.kind", kind, "expected poisson, piecewise, spike or trace")),
    })
}

fn config(
    args: &Args,
    traffic: Traffic,
    tokens: Option<&TokenArgs<'_>>,
    seed: u64,
    records: bool,
) -> Result<SimulationConfig, ConfigError> {
    let launch = match args.fleet.launch.as_str() {
        "share" => LaunchOrder::Share,
        "order" => LaunchOrder::Order,
        other => return Err(ConfigError::new("fleet.launch", other, "expected share or order")),
    };
    let types = args.fleet.types.iter().map(|t| ServerType {
        name: t.name.clone(),
        speed: t.speed,
        weight: t.weight,
        concurrency: t.concurrency,
        price_per_hour: t.price_per_hour,
        share: t.share,
        max: t.max.unwrap_or(u32::MAX),
    });
    Ok(SimulationConfig {
        duration: Nanos::from_secs_f64(args.duration_s),
        discard: Nanos::from_secs_f64(args.discard_s),
        timeout: args.timeout_s.map(Nanos::from_secs_f64),
        slo: Nanos::from_secs_f64(args.slo_s),
        spike: args.spike.map(|(a, b)| (Nanos::from_secs_f64(a), Nanos::from_secs_f64(b))),
        traffic,
        work: work(&args.service)?,
        keys: args.keys,
        cost_is_work: args.cost_is_work,
        fleet: FleetConfig {
            min: args.fleet.min,
            max: args.fleet.max,
            initial: args.fleet.initial,
            queue_limit: args.fleet.queue_limit,
            cold_start: Nanos::from_secs_f64(args.fleet.cold_start_s),
            decision_interval: Nanos::from_secs_f64(args.fleet.decision_interval_s),
            metric_delay: Nanos::from_secs_f64(args.fleet.metric_delay_s),
            metric_period: Nanos::from_secs_f64(args.fleet.metric_period_s),
            types: types.collect(),
            launch,
        },
        seed,
        timeline_steps: args.timeline_steps,
        records,
        detail: args.detail.as_ref().map(|of| detail(of, tokens)).transpose()?,
    })
}

/// The policy of a picker of class `C` as a balancer that never attaches; None when `given` is of another class.
fn native<C: PickerClass>(
    given: &Bound<'_, PyAny>,
    seed: u64,
    slow_start: Option<SlowStart>,
) -> PyResult<Option<Box<dyn Balancer + Send>>> {
    let Ok(picker) = given.cast_exact::<C>() else { return Ok(None) };
    let policy = picker.get().door().picker.policy().clone();
    Ok(Some(Box::new(PoolBalancer::with(policy, seed, slow_start)?)))
}

/// A `PrefixAware` as a balancer with an index of its own; `cache_events` is how many seconds late it hears of caches.
fn prompts(
    given: &Bound<'_, PyAny>,
    seed: u64,
    slow_start: Option<SlowStart>,
) -> PyResult<Option<Box<dyn Balancer + Send>>> {
    let Ok((picker, cache_events, growth)) = given.extract::<(Bound<'_, PyAny>, Option<f64>, bool)>() else {
        return Ok(None);
    };
    let Ok(picker) = picker.cast_exact::<PrefixAware>() else { return Ok(None) };
    let policy = picker.get().policy().afresh()?;
    let delay = cache_events.map_or(Nanos::ZERO, Nanos::from_secs_f64);
    let hears = Hears { cache: cache_events.is_some(), growth };
    Ok(Some(Box::new(PrefixBalancer::new(policy, seed, slow_start, hears, delay)?)))
}

/// The balancer of a run, and whether it runs without Python.
///
/// A picker of one of our classes lends its policy: the run gives it a pool of its own. A class that is not listed here
/// still works, through Python, as any object that drives a pool does.
fn balancer(
    given: &Bound<'_, PyAny>,
    seed: u64,
    slow_start: Option<SlowStart>,
    raised: &Raised,
) -> PyResult<(Box<dyn Balancer + Send>, bool)> {
    let own = crate::core::rng::stream(seed, streams::BALANCER);
    let known = [
        native::<RoundRobin>,
        native::<WeightedRandom>,
        native::<LeastRequest>,
        native::<JoinIdleQueue>,
        native::<PeakEwma>,
        native::<LeastTime>,
        native::<Prequal>,
        native::<ClientSideWeightedRoundRobin>,
        native::<RingHash>,
        native::<Maglev>,
        native::<LeastConnections>,
        native::<First>,
        native::<ModuloHash>,
        native::<IpHash>,
        native::<SourceHash>,
        native::<Rendezvous>,
        native::<JumpHash>,
        native::<JumpBackHash>,
        native::<MementoHash>,
        native::<MultiProbeHash>,
    ];
    for make in known {
        if let Some(found) = make(given, own, slow_start)? {
            return Ok((found, true));
        }
    }
    if let Some(found) = prompts(given, own, slow_start)? {
        return Ok((found, true));
    }
    if let Ok(name) = given.extract::<&str>() {
        let rule = match name {
            "test:random" => Rule::Random,
            "test:round_robin" => Rule::RoundRobin,
            "test:power_of_two" => Rule::PowerOfTwo,
            "test:least" => Rule::Least,
            other => return Err(ConfigError::new("balancer", other, "expected a known balancer").into()),
        };
        return Ok((Box::new(TestBalancer::new(rule, own)), true));
    }
    let object = given.clone().unbind();
    let prompts = given.hasattr(intern!(given.py(), "first_token"))?;
    let (leases, free, raised) = (Vec::new(), Vec::new(), raised.clone());
    Ok((Box::new(PyBalancer { object, leases, free, prompts, raised }), false))
}

pub(super) fn phase<'py>(py: Python<'py>, results: &PhaseResults) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("requests", results.requests)?;
    out.set_item("served", results.served)?;
    out.set_item("rejected", results.rejected)?;
    out.set_item("timed_out", results.timed_out)?;
    out.set_item("failed", results.failed)?;
    out.set_item("within_slo", results.within_slo)?;
    out.set_item("mean_s", results.mean_s())?;
    out.set_item("wait_mean_s", results.wait_mean_s())?;
    for (name, q) in [("p50_s", 0.5), ("p90_s", 0.9), ("p95_s", 0.95), ("p99_s", 0.99), ("p99_9_s", 0.999)] {
        out.set_item(name, results.quantile_s(q))?;
    }
    let cells = results.cells();
    out.set_item("low_s", PyArray1::from_iter(py, cells.iter().map(|c| c.0)))?;
    out.set_item("high_s", PyArray1::from_iter(py, cells.iter().map(|c| c.1)))?;
    out.set_item("counts", PyArray1::from_iter(py, cells.iter().map(|c| c.2)))?;
    Ok(out)
}

fn records(py: Python<'_>, of: Records) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let times = |column: Vec<u64>| PyArray1::from_iter(py, column.iter().map(|&t| seconds(Nanos(t))));
    out.set_item("arrival", times(of.arrival))?;
    out.set_item("wait", times(of.wait))?;
    out.set_item("service", times(of.service))?;
    out.set_item("latency", times(of.latency))?;
    out.set_item("server", PyArray1::from_vec(py, of.server))?;
    out.set_item("outcome", PyArray1::from_vec(py, of.outcome))?;
    Ok(out)
}

fn to_python(py: Python<'_>, results: Results) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("all", phase(py, &results.all()?)?)?;
    out.set_item("calm", phase(py, &results.calm)?)?;
    out.set_item("spike", phase(py, &results.spike)?)?;
    let timeline = PyDict::new(py);
    for (name, column) in [
        ("t_s", results.timeline.t_s),
        ("arrivals_per_s", results.timeline.arrivals_per_s),
        ("capacity", results.timeline.capacity),
        ("desired", results.timeline.desired),
        ("in_system", results.timeline.in_system),
        ("busy", results.timeline.busy),
        ("capacity_rps", results.timeline.capacity_rps),
    ] {
        timeline.set_item(name, PyArray1::from_vec(py, column))?;
    }
    out.set_item("timeline", timeline)?;
    out.set_item("records", results.records.map(|of| records(py, of)).transpose()?)?;
    out.set_item("servers_mean", results.servers_mean)?;
    out.set_item("servers_peak", results.servers_peak)?;
    out.set_item("launched", results.launched)?;
    out.set_item("cost", results.cost)?;
    out.set_item("utilization", results.utilization)?;
    out.set_item("in_system_mean", results.in_system_mean)?;
    out.set_item("decisions", results.decisions)?;
    out.set_item("end_s", results.end_s)?;
    out.set_item("detail", results.detail.as_ref().map(|of| simulation_detail::to_python(py, of)).transpose()?)?;
    Ok(out)
}

/// An exception of a Python balancer or policy as the caller should see it: ours and interrupts as they are, any other as
/// the cause of a SimulationError.
fn surface(py: Python<'_>, stopped: SimulationError, cell: &Raised) -> PyErr {
    let Some(cause) = cell.get().map(|e| e.clone_ref(py)) else { return stopped.into() };
    let ours = py.import("aibalance._errors").and_then(|m| m.getattr("AibalanceError")).ok();
    let plain =
        cause.is_instance_of::<PyException>(py) && !ours.is_some_and(|class| cause.matches(py, class).unwrap_or(false));
    if !plain {
        return cause;
    }
    let error: PyErr = stopped.into();
    error.set_cause(py, Some(cause));
    error
}

/// One run. `args` holds plain values, see `aibalance.simulation`; `balancer` is an object with `add`, `drain`, `remove`,
/// `acquire` and `release`; `scaler` a callable or None; `progress` a callable of the fraction done, or None.
#[pyfunction]
#[pyo3(signature = (args, balancer, scaler, *, seed, records, progress, arrival_s, work_s, tokens=None))]
#[allow(clippy::too_many_arguments)]
fn _simulate<'py>(
    py: Python<'py>,
    args: Args,
    balancer: &Bound<'py, PyAny>,
    scaler: Option<Py<PyAny>>,
    seed: u64,
    records: bool,
    progress: Option<Py<PyAny>>,
    arrival_s: Option<PyReadonlyArray1<'py, f64>>,
    work_s: Option<PyReadonlyArray1<'py, f64>>,
    tokens: Option<TokenArgs<'py>>,
) -> PyResult<Bound<'py, PyDict>> {
    let column = |given: &Option<PyReadonlyArray1<'py, f64>>| {
        given.as_ref().map_or_else(Vec::new, |array| array.as_array().iter().copied().collect())
    };
    let traffic = traffic(&args, &column(&arrival_s), &column(&work_s))?;
    let config = config(&args, traffic, tokens.as_ref(), seed, records)?;
    let raised: Raised = Arc::default();
    let slow_start = args.slow_start_s.map(|window| SlowStart {
        window: Nanos::from_secs_f64(window),
        ramp: Ramp::Envoy { aggression: 1.0, min_weight: 0.1 },
    });
    let (balancer, native) = match &args.dispatchers {
        None => self::balancer(balancer, seed, slow_start, &raised)?,
        Some(of) => {
            let (mut all, mut native) = (Vec::new(), true);
            for (i, one) in (0u64..).zip(balancer.try_iter()?) {
                let (one, plain) = self::balancer(&one?, seed.wrapping_add(i << 32), slow_start, &raised)?;
                all.push(one);
                native &= plain;
            }
            (Box::new(simulation_detail::dispatchers(of, all, seed)?) as Box<dyn Balancer + Send>, native)
        }
    };
    let native = native && scaler.is_none();
    let scaler = scaler.map(|object| Box::new(PyScaler { object, raised: raised.clone() }) as Box<dyn Scaler + Send>);
    let mut engine = Engine::new(config, balancer, scaler).map_err(|e| surface(py, e, &raised))?;
    // A slice lasts some hundredths of a second, so that an interrupt is heard and a progress bar moves.
    let slice: u64 = if native { 200_000 } else { 10_000 };
    let mut told = 0.0;
    loop {
        let stepped = if native { py.detach(|| engine.run(slice)) } else { engine.run(slice) };
        let done = stepped.map_err(|e| surface(py, e, &raised))?;
        py.check_signals()?;
        if let Some(progress) = &progress
            && (done || engine.progress() >= told + 0.005)
        {
            told = engine.progress();
            progress.call1(py, (told,))?;
        }
        if done {
            break;
        }
    }
    to_python(py, engine.finish()?)
}

/// The seed of a run's balancer, so that a picker that is driven through Python draws what it would draw natively.
#[pyfunction]
fn _simulate_balancer_seed(seed: u64) -> u64 {
    crate::core::rng::stream(seed, streams::BALANCER)
}

/// The sums over the first `n` works of a seed's run of each of (x - mean), (x² - second) and, for every level q,
/// max(x - q, 0): what a test needs to take the luck of the drawn work out of a heavy-tailed estimate.
#[pyfunction]
fn _simulate_work_sums(py: Python<'_>, args: Args, seed: u64, n: u64, levels: Vec<f64>) -> PyResult<Vec<f64>> {
    let work = work(&args.service)?;
    py.detach(|| {
        let mut rng = crate::core::rng::Rng::new(crate::core::rng::stream(seed, streams::WORK));
        let mut sums = vec![0.0; levels.len() + 2];
        for _ in 0..n {
            let x = work.sample(1.0, &mut rng);
            let terms = [x, x * x].into_iter().chain(levels.iter().map(|q| (x - q).max(0.0)));
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        Ok(sums)
    })
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_simulate, m)?)?;
    m.add_function(wrap_pyfunction!(_simulate_balancer_seed, m)?)?;
    m.add_function(wrap_pyfunction!(_simulate_work_sums, m)?)
}
