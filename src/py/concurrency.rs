//! AdaptiveConcurrency and ActiveRetryBudget: limits that the caller applies.

use crate::core::error::ConfigError;
use crate::core::pool::{ActiveBudget, Gradient, GradientConfig};
use crate::core::time::Nanos;
use crate::py::arguments;
use crate::py::clock::{Clock, seconds};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::PoisonError;

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// A limit that follows from how long requests take.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct AdaptiveConcurrency {
    /// The controller, and requests in flight.
    state: Lock<(Gradient, u64)>,
    config: GradientConfig,
    clock: Clock,
    clock_object: Option<Py<PyAny>>,
    seed: Option<u64>,
}

impl AdaptiveConcurrency {
    fn with<T>(&self, work: impl FnOnce(&mut Gradient, &mut u64) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (gradient, inflight) = &mut *state;
        work(gradient, inflight)
    }

    fn at(&self, now: Option<f64>) -> PyResult<Nanos> {
        Ok(match now {
            Some(now) => seconds("now", now)?,
            None => self.clock.now(),
        })
    }
}

fn count(field: &str, value: i64) -> Result<u32, ConfigError> {
    let allowed = "a whole number from 1 to 4294967295";
    u32::try_from(value).ok().filter(|&n| n > 0).ok_or_else(|| ConfigError::new(field, value, allowed))
}

#[pymethods]
impl AdaptiveConcurrency {
    #[new]
    #[pyo3(signature = (*, update_interval=0.1, percentile=0.5, max_limit=1000, min_limit=3, min_rtt_interval=60.0, min_rtt_requests=50, jitter=0.15, buffer=0.25, clock=None, seed=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        update_interval: f64,
        percentile: f64,
        max_limit: i64,
        min_limit: i64,
        min_rtt_interval: f64,
        min_rtt_requests: i64,
        jitter: f64,
        buffer: f64,
        clock: Option<Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::seed)] seed: Option<u64>,
    ) -> PyResult<AdaptiveConcurrency> {
        let config = GradientConfig {
            update_interval: seconds("update_interval", update_interval)?,
            percentile,
            max_limit: count("max_limit", max_limit)?,
            min_limit: count("min_limit", min_limit)?,
            min_rtt_interval: seconds("min_rtt_interval", min_rtt_interval)?,
            min_rtt_requests: count("min_rtt_requests", min_rtt_requests)?,
            jitter,
            buffer,
        };
        let from = Clock::from_argument(clock.as_ref())?;
        let drawn = match seed {
            Some(seed) => seed,
            None => {
                let bytes: [u8; 8] = py.import("os")?.call_method1("urandom", (8,))?.extract()?;
                u64::from_le_bytes(bytes)
            }
        };
        let gradient = Gradient::new(config, drawn, from.now())?;
        let clock_object = clock.map(Bound::unbind);
        Ok(AdaptiveConcurrency { state: Lock::new((gradient, 0)), config, clock: from, clock_object, seed })
    }

    #[pyo3(signature = (*, now=None))]
    fn try_acquire(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<bool> {
        let now = self.at(now)?;
        Ok(self.with(|gradient, inflight| {
            gradient.advance(now);
            let room = *inflight < u64::from(gradient.limit());
            *inflight += u64::from(room);
            room
        }))
    }

    #[pyo3(signature = (*, latency, now=None))]
    fn release(&self, latency: f64, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<()> {
        self.observe(latency, now)?;
        self.cancel();
        Ok(())
    }

    fn cancel(&self) {
        self.with(|_, inflight| *inflight = inflight.saturating_sub(1));
    }

    #[pyo3(signature = (latency, /, *, now=None))]
    fn observe(&self, latency: f64, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<()> {
        let (took, now) = (seconds("latency", latency)?, self.at(now)?);
        self.with(|gradient, _| gradient.sample(Nanos(now.0.saturating_sub(took.0)), took.as_secs_f64(), now));
        Ok(())
    }

    #[pyo3(signature = (*, now=None))]
    fn advance(&self, #[pyo3(from_py_with = arguments::now)] now: Option<f64>) -> PyResult<()> {
        let now = self.at(now)?;
        self.with(|gradient, _| gradient.advance(now));
        Ok(())
    }

    #[getter]
    fn limit(&self) -> u32 {
        self.with(|gradient, _| gradient.limit())
    }

    #[getter]
    fn inflight(&self) -> u64 {
        self.with(|_, inflight| *inflight)
    }

    #[getter]
    fn min_rtt(&self) -> Option<f64> {
        self.with(|gradient, _| gradient.min_rtt())
    }

    #[getter]
    fn sample_rtt(&self) -> Option<f64> {
        self.with(|gradient, _| gradient.sample_rtt())
    }

    #[getter]
    fn gradient(&self) -> f64 {
        self.with(|gradient, _| gradient.gradient())
    }

    #[getter]
    fn measuring(&self) -> bool {
        self.with(|gradient, _| gradient.measuring())
    }

    fn __repr__(&self) -> String {
        let (limit, inflight) = self.with(|gradient, inflight| (gradient.limit(), *inflight));
        format!("<AdaptiveConcurrency: limit {limit}, {inflight} in flight>")
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let (c, kw) = (&self.config, PyDict::new(py));
        kw.set_item("update_interval", c.update_interval.as_secs_f64())?;
        kw.set_item("percentile", c.percentile)?;
        kw.set_item("max_limit", c.max_limit)?;
        kw.set_item("min_limit", c.min_limit)?;
        kw.set_item("min_rtt_interval", c.min_rtt_interval.as_secs_f64())?;
        kw.set_item("min_rtt_requests", c.min_rtt_requests)?;
        kw.set_item("jitter", c.jitter)?;
        kw.set_item("buffer", c.buffer)?;
        kw.set_item("clock", self.clock_object.as_ref())?;
        kw.set_item("seed", self.seed)?;
        Ok(((), kw))
    }
}

/// A retry budget that is a share of the requests in flight.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct ActiveRetryBudget {
    core: ActiveBudget,
    #[pyo3(get)]
    ratio: f64,
    #[pyo3(get)]
    min_concurrency: u32,
    #[pyo3(get)]
    max_attempts: u32,
}

impl ActiveRetryBudget {
    /// The most attempts of one request.
    pub fn attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Begins a retry, with so many requests in flight.
    pub fn enter(&self, inflight: u64) -> bool {
        self.core.enter(inflight)
    }
}

#[pymethods]
impl ActiveRetryBudget {
    #[new]
    #[pyo3(signature = (*, ratio=0.2, min_concurrency=3, max_attempts=3))]
    fn new(
        #[pyo3(from_py_with = arguments::ratio)] ratio: f64,
        min_concurrency: i64,
        #[pyo3(from_py_with = arguments::max_attempts)] max_attempts: i64,
    ) -> PyResult<ActiveRetryBudget> {
        if !(1..=1_000_000).contains(&max_attempts) {
            return Err(ConfigError::new("max_attempts", max_attempts, "a whole number from 1 to 1000000").into());
        }
        let min_concurrency = u32::try_from(min_concurrency)
            .map_err(|_| ConfigError::new("min_concurrency", min_concurrency, "a whole number from 0 to 4294967295"))?;
        let core = ActiveBudget::new(ratio, min_concurrency)?;
        Ok(ActiveRetryBudget { core, ratio, min_concurrency, max_attempts: max_attempts as u32 })
    }

    #[getter]
    fn retries(&self) -> u64 {
        self.core.retries()
    }

    #[pyo3(signature = (inflight, /))]
    fn try_acquire(&self, inflight: u64) -> bool {
        self.enter(inflight)
    }

    /// Ends a retry.
    pub fn release(&self) {
        self.core.leave();
    }

    fn __repr__(&self) -> String {
        let (ratio, least, most) = (self.ratio, self.min_concurrency, self.max_attempts);
        format!("ActiveRetryBudget(ratio={ratio}, min_concurrency={least}, max_attempts={most})")
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let kw = PyDict::new(py);
        kw.set_item("ratio", self.ratio)?;
        kw.set_item("min_concurrency", self.min_concurrency)?;
        kw.set_item("max_attempts", self.max_attempts)?;
        Ok(((), kw))
    }
}

/// HAProxy's dynamic maxconn.
#[pyfunction]
#[pyo3(signature = (*, least, most, full, inflight, warming=1.0))]
pub(crate) fn dynamic_limit(least: i64, most: i64, full: i64, inflight: u64, warming: f64) -> PyResult<u32> {
    let (least, most) = (count("least", least)?, count("most", most)?);
    if least > most {
        return Err(ConfigError::new("least", least, "a whole number from 1 to `most`").into());
    }
    if !(0.0..=1.0).contains(&warming) {
        return Err(ConfigError::new("warming", warming, "a number from 0 to 1").into());
    }
    Ok(crate::core::pool::limits::dynamic(least, most, count("full", full)?, inflight, warming))
}

/// Adds the classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<AdaptiveConcurrency>()?;
    m.add_class::<ActiveRetryBudget>()?;
    m.add_function(wrap_pyfunction!(dynamic_limit, m)?)
}
