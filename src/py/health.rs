//! The state of one endpoint as checks see it, and ALB's rules for target groups.

use crate::core::error::ConfigError;
use crate::core::health::leftover;
use crate::core::health::state::{
    Damping, HealthState as Core, Memory, Outcome, Start, Status, Thresholds, deregistration_delay,
};
use crate::core::health::target_group::{Failover, Minimum, Mode};
use crate::core::time::Nanos;
use crate::py::clock::{Clock, seconds};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::PoisonError;

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// A memory as a tuple: counter, untried, flags, instants, penalty.
type Saved = (u64, Option<u32>, [bool; 6], Option<u64>, Option<u64>, f64, u64, u64);

fn start(value: &str) -> Result<Start, ConfigError> {
    Ok(match value {
        "initial" => Start::Initial,
        "up" => Start::Up,
        "fully-up" => Start::FullyUp,
        "down" => Start::Down,
        "fully-down" => Start::FullyDown,
        other => {
            let allowed = "\"initial\", \"up\", \"fully-up\", \"down\" or \"fully-down\"";
            return Err(ConfigError::new("start", format!("{other:?}"), allowed));
        }
    })
}

fn outcome(value: &str) -> Result<Outcome, ConfigError> {
    Ok(match value {
        "pass" => Outcome::Pass,
        "degraded" => Outcome::Degraded,
        "warming" => Outcome::Warming,
        "fail" => Outcome::Fail,
        other => {
            let allowed = "\"pass\", \"degraded\", \"warming\" or \"fail\"";
            return Err(ConfigError::new("outcome", format!("{other:?}"), allowed));
        }
    })
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Initial => "initial",
        Status::Warming => "warming",
        Status::Healthy => "healthy",
        Status::Degraded => "degraded",
        Status::Unhealthy => "unhealthy",
        Status::Draining => "draining",
        Status::Unused => "unused",
        Status::Unavailable => "unavailable",
    }
}

/// Seconds as they were given: a division rounds once, where a product of 1e-9 shows.
fn shown(duration: Nanos) -> f64 {
    duration.0 as f64 / 1e9
}

fn threshold(field: &str, value: i64) -> Result<u32, ConfigError> {
    u32::try_from(value).map_err(|_| ConfigError::new(field, value, "a whole number from 1 to 4294967295"))
}

/// When an endpoint that comes and goes is held back.
#[pyclass(frozen, eq, module = "aibalance.health", skip_from_py_object)]
#[derive(Clone, PartialEq)]
pub(crate) struct FlapDamping(Damping);

#[pymethods]
impl FlapDamping {
    #[new]
    #[pyo3(signature = (*, half_life=60.0, suppress=3.0, reuse=1.0, max_hold=300.0))]
    fn new(half_life: f64, suppress: f64, reuse: f64, max_hold: f64) -> PyResult<FlapDamping> {
        let (half_life, max_hold) = (seconds("half_life", half_life)?, seconds("max_hold", max_hold)?);
        Ok(FlapDamping(Damping { half_life, suppress, reuse, max_hold }.check()?))
    }

    #[getter]
    fn half_life(&self) -> f64 {
        shown(self.0.half_life)
    }
    #[getter]
    fn suppress(&self) -> f64 {
        self.0.suppress
    }
    #[getter]
    fn reuse(&self) -> f64 {
        self.0.reuse
    }
    #[getter]
    fn max_hold(&self) -> f64 {
        shown(self.0.max_hold)
    }

    fn __repr__(&self) -> String {
        let (half_life, max_hold) = (self.half_life(), self.max_hold());
        let Damping { suppress, reuse, .. } = self.0;
        format!("FlapDamping(half_life={half_life}, suppress={suppress}, reuse={reuse}, max_hold={max_hold})")
    }

    fn __hash__(&self) -> u64 {
        self.0.half_life.0 ^ self.0.max_hold.0.rotate_left(32) ^ self.0.suppress.to_bits()
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("half_life", self.half_life())?;
        kw.set_item("suppress", self.0.suppress)?;
        kw.set_item("reuse", self.0.reuse)?;
        kw.set_item("max_hold", self.max_hold())?;
        Ok(((), kw))
    }
}

/// One endpoint's state machine.
#[pyclass(frozen, module = "aibalance.health")]
pub(crate) struct HealthState {
    core: Lock<Core>,
    clock: Clock,
    clock_object: Option<Py<PyAny>>,
    start: String,
}

impl HealthState {
    fn at(&self, now: Option<f64>) -> PyResult<Nanos> {
        Ok(match now {
            Some(now) => seconds("now", now)?,
            None => self.clock.now(),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        work(&mut self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl HealthState {
    #[new]
    #[pyo3(signature = (*, healthy_threshold=2, unhealthy_threshold=3, start="initial", warm_up=false, warming_timeout=None, damping=None, clock=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        healthy_threshold: i64,
        unhealthy_threshold: i64,
        start: &str,
        warm_up: bool,
        warming_timeout: Option<f64>,
        damping: Option<PyRef<'_, FlapDamping>>,
        clock: Option<Bound<'_, PyAny>>,
    ) -> PyResult<HealthState> {
        let core = Core::new(Thresholds {
            healthy: threshold("healthy_threshold", healthy_threshold)?,
            unhealthy: threshold("unhealthy_threshold", unhealthy_threshold)?,
            start: self::start(start)?,
            warm_up,
            warming_timeout: warming_timeout.map(|t| seconds("warming_timeout", t)).transpose()?,
            damping: damping.map(|d| d.0),
        })?;
        let clock_now = Clock::from_argument(clock.as_ref())?;
        Ok(HealthState {
            core: Lock::new(core),
            clock: clock_now,
            clock_object: clock.map(Bound::unbind),
            start: start.into(),
        })
    }

    #[pyo3(signature = (outcome, /, *, model_loaded=None, inference_test=None, now=None))]
    fn report(
        &self,
        outcome: &str,
        model_loaded: Option<bool>,
        inference_test: Option<bool>,
        now: Option<f64>,
    ) -> PyResult<&'static str> {
        let (outcome, now) = (self::outcome(outcome)?, self.at(now)?);
        Ok(word(self.with(|core| core.report(outcome, model_loaded, inference_test, now))))
    }

    #[pyo3(signature = (now=None))]
    fn state(&self, now: Option<f64>) -> PyResult<&'static str> {
        let now = self.at(now)?;
        Ok(word(self.with(|core| core.status(now))))
    }

    #[getter]
    fn counter(&self) -> u64 {
        self.with(|core| core.counter())
    }

    #[getter]
    fn warm(&self) -> bool {
        self.with(|core| core.memory().warm)
    }

    #[pyo3(signature = (now=None))]
    fn penalty(&self, now: Option<f64>) -> PyResult<f64> {
        let now = self.at(now)?;
        Ok(self.with(|core| core.penalty(now)))
    }

    #[pyo3(signature = (*, deadline=None, now=None))]
    fn drain(&self, deadline: Option<f64>, now: Option<f64>) -> PyResult<()> {
        let now = self.at(now)?;
        let end = match deadline {
            Some(after) => now.plus(seconds("deadline", after)?),
            None => Nanos::MAX,
        };
        self.with(|core| core.drain(end, now));
        Ok(())
    }

    #[pyo3(signature = (*, delay=300.0, now=None))]
    fn deregister(&self, delay: f64, now: Option<f64>) -> PyResult<()> {
        let (now, delay) = (self.at(now)?, deregistration_delay(delay)?);
        self.with(|core| core.drain(now.plus(delay), now));
        Ok(())
    }

    #[pyo3(signature = (*, now=None))]
    fn undrain(&self, now: Option<f64>) -> PyResult<()> {
        let now = self.at(now)?;
        self.with(|core| core.undrain(now));
        Ok(())
    }

    #[pyo3(signature = (*, now=None))]
    fn disable(&self, now: Option<f64>) -> PyResult<()> {
        let now = self.at(now)?;
        self.with(|core| core.disable(true, now));
        Ok(())
    }

    #[pyo3(signature = (*, now=None))]
    fn enable(&self, now: Option<f64>) -> PyResult<()> {
        let now = self.at(now)?;
        self.with(|core| core.disable(false, now));
        Ok(())
    }

    fn __repr__(&self) -> String {
        let now = self.clock.now();
        let (status, counter) = self.with(|core| (core.status(now), core.counter()));
        format!("<HealthState {}, counter {counter}>", word(status))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let rules = self.with(|core| *core.rules());
        let kw = PyDict::new(py);
        kw.set_item("healthy_threshold", rules.healthy)?;
        kw.set_item("unhealthy_threshold", rules.unhealthy)?;
        kw.set_item("start", &self.start)?;
        kw.set_item("warm_up", rules.warm_up)?;
        kw.set_item("warming_timeout", rules.warming_timeout.map(shown))?;
        kw.set_item("damping", rules.damping.map(FlapDamping))?;
        kw.set_item("clock", self.clock_object.as_ref())?;
        Ok(((), kw))
    }

    fn __getstate__(&self) -> Saved {
        let m = self.with(|core| *core.memory());
        let flags = [m.degraded, m.loaded, m.inferred, m.warm, m.disabled, m.suppressed];
        let (warming, drain) = (m.warming_since.map(|n| n.0), m.drain.map(|n| n.0));
        (m.counter, m.untried, flags, warming, drain, m.penalty, m.penalty_at.0, m.seen.0)
    }

    fn __setstate__(&self, state: Saved) {
        let (counter, untried, flags, warming, drain, penalty, penalty_at, seen) = state;
        let [degraded, loaded, inferred, warm, disabled, suppressed] = flags;
        let memory = Memory {
            counter,
            untried,
            degraded,
            loaded,
            inferred,
            warm,
            warming_since: warming.map(Nanos),
            drain: drain.map(Nanos),
            disabled,
            penalty,
            penalty_at: Nanos(penalty_at),
            suppressed,
            seen: Nanos(seen),
        };
        self.with(|core| core.restore(memory));
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Normal => "normal",
        Mode::RoutingFailover => "routing_failover",
        Mode::FailOpen => "fail_open",
    }
}

type Given = (Option<i64>, Option<f64>);

fn minimum(what: &str, (count, percent): Given) -> PyResult<Minimum> {
    Ok(Minimum { count: count.map(|c| threshold(&format!("{what}_count"), c)).transpose()?, percent })
}

fn failover(dns: Given, routing: Given) -> PyResult<Failover> {
    let (dns, routing) = (minimum("dns_failover", dns)?, minimum("routing_failover", routing)?);
    Ok(Failover { dns, routing }.check()?)
}

/// Whether zones are in DNS, and to whom their requests go.
#[pyfunction]
pub(crate) fn _target_group_zones(
    dns: Given,
    routing: Given,
    zones: Vec<(u64, u64)>,
    cross_zone: bool,
) -> PyResult<Vec<(bool, &'static str, u64)>> {
    let seen = failover(dns, routing)?.zones(&zones, cross_zone);
    Ok(seen.into_iter().map(|z| (z.dns_healthy, mode(z.mode), z.routable)).collect())
}

/// How many of the requests in flight are expected to be left.
#[pyfunction]
#[pyo3(signature = (ages, /, *, latencies, remaining))]
pub(crate) fn expected_left(ages: Vec<f64>, latencies: Vec<f64>, remaining: f64) -> PyResult<f64> {
    seconds("remaining", remaining)?;
    Ok(leftover::expected_left(&ages, &latencies, remaining))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<FlapDamping>()?;
    m.add_class::<HealthState>()?;
    m.add_function(wrap_pyfunction!(_target_group_zones, m)?)?;
    m.add_function(wrap_pyfunction!(expected_left, m)?)?;
    Ok(())
}
