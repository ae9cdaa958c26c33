//! Clocks: the only place where time is read.

use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;
use crate::py::arguments;
use pyo3::prelude::*;
use std::sync::Arc;

/// What a pool asks for the time.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The machine's monotonic clock.
    System,
    /// A clock that stands still until it is moved.
    Manual(Arc<AtomicU64>),
}

/// The machine's monotonic clock in nanoseconds. Asked directly: `Instant` spends more on its own checks than the
/// reading costs.
#[cfg(unix)]
#[inline(always)]
fn monotonic() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(not(unix))]
#[allow(clippy::disallowed_methods)]
fn monotonic() -> u64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    // One at least: zero means "not measured".
    (START.elapsed().as_nanos() as u64).max(1)
}

impl Clock {
    /// The time since the clock's origin.
    #[inline(always)]
    pub fn now(&self) -> Nanos {
        match self {
            // One nanosecond after the origin at least, so that zero stays free to mean "never".
            Clock::System => Nanos(monotonic()),
            Clock::Manual(at) => Nanos(at.load(Ordering::Relaxed)),
        }
    }

    /// The clock of a Python argument; the system's for None.
    pub fn from_argument(clock: Option<&Bound<'_, PyAny>>) -> PyResult<Clock> {
        match clock {
            None => Ok(Clock::System),
            Some(c) if c.cast::<SystemClock>().is_ok() => Ok(Clock::System),
            Some(c) => match c.cast::<ManualClock>() {
                Ok(manual) => Ok(Clock::Manual(manual.get().0.clone())),
                Err(_) => {
                    Err(ConfigError::new("clock", super::door::shown(c), "SystemClock() or ManualClock(...)").into())
                }
            },
        }
    }
}

/// The machine's monotonic clock.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct SystemClock;

#[pymethods]
impl SystemClock {
    #[new]
    fn new() -> SystemClock {
        SystemClock
    }

    /// Seconds of the monotonic clock.
    #[allow(clippy::unused_self)]
    fn now(&self) -> f64 {
        Clock::System.now().as_secs_f64()
    }

    fn __repr__(&self) -> &'static str {
        "SystemClock()"
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<SystemClock>().is_ok()
    }

    fn __hash__(&self) -> u64 {
        0x5157
    }

    fn __getnewargs__(&self) -> ((),) {
        ((),)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, pyo3::types::PyType>, ()) {
        (slf.get_type(), ())
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct ManualClock(Arc<AtomicU64>);

#[pymethods]
impl ManualClock {
    #[new]
    #[pyo3(signature = (start=0.0, /))]
    fn new(#[pyo3(from_py_with = arguments::start)] start: f64) -> PyResult<ManualClock> {
        let start = seconds("start", start)?;
        Ok(ManualClock(Arc::new(AtomicU64::new(start.0))))
    }

    fn now(&self) -> f64 {
        Nanos(self.0.load(Ordering::Relaxed)).as_secs_f64()
    }

    #[pyo3(signature = (seconds, /))]
    fn advance(&self, #[pyo3(from_py_with = arguments::step)] seconds: f64) -> PyResult<()> {
        let step = self::seconds("seconds", seconds)?;
        let now = Nanos(self.0.load(Ordering::Relaxed)).plus(step);
        self.0.store(now.0, Ordering::Relaxed);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("ManualClock({:?})", self.now())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, pyo3::types::PyType>, (f64,)) {
        (slf.get_type(), (slf.get().now(),))
    }
}

/// A duration or an instant in seconds: finite and not negative.
pub(crate) fn seconds(field: &str, value: f64) -> Result<Nanos, ConfigError> {
    if value.is_finite() && (0.0..=1e10).contains(&value) {
        Ok(Nanos::from_secs_f64(value))
    } else {
        Err(ConfigError::new(field, value, "a finite number of seconds from 0 to 1e10"))
    }
}
