//! EndpointStats: one record an endpoint.

use crate::core::pool::EndpointStats as CoreStats;
use crate::py::passive::phase_text;
use crate::py::pool::health_text;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What a pool knows of one endpoint.
#[pyclass(frozen, module = "aibalance")]
pub(crate) struct EndpointStats(pub CoreStats);

#[pymethods]
impl EndpointStats {
    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }
    #[getter]
    fn weight(&self) -> f64 {
        self.0.weight
    }
    #[getter]
    fn effective_weight(&self) -> f64 {
        self.0.effective_weight
    }
    #[getter]
    fn share(&self) -> f64 {
        self.0.share
    }
    #[getter]
    fn health(&self) -> &'static str {
        health_text(self.0.health)
    }
    #[getter]
    fn draining(&self) -> bool {
        self.0.draining
    }
    #[getter]
    fn eligible(&self) -> bool {
        self.0.eligible
    }
    #[getter]
    fn inflight(&self) -> u64 {
        self.0.inflight
    }
    #[getter]
    fn load(&self) -> f64 {
        self.0.load
    }
    #[getter]
    fn picks(&self) -> u64 {
        self.0.picks
    }
    #[getter]
    fn successes(&self) -> u64 {
        self.0.successes
    }
    #[getter]
    fn failures(&self) -> u64 {
        self.0.failures
    }
    #[getter]
    fn timeouts(&self) -> u64 {
        self.0.timeouts
    }
    #[getter]
    fn rejected(&self) -> u64 {
        self.0.rejected
    }
    #[getter]
    fn cancelled(&self) -> u64 {
        self.0.cancelled
    }
    #[getter]
    fn dropped(&self) -> u64 {
        self.0.dropped
    }
    #[getter]
    fn latency(&self) -> Option<f64> {
        self.0.latency
    }
    #[getter]
    fn last_latency(&self) -> Option<f64> {
        self.0.last_latency
    }

    #[getter]
    fn ejected_until(&self) -> Option<f64> {
        self.0.ejection.until.map(crate::core::time::Nanos::as_secs_f64)
    }
    #[getter]
    fn ejections(&self) -> u64 {
        self.0.ejection.times
    }
    #[getter]
    fn breaker(&self) -> Option<&'static str> {
        self.0.ejection.breaker.map(phase_text)
    }

    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(r) = self.0.report else { return Ok(None) };
        let out = PyDict::new(py);
        for (name, value) in [
            ("inflight", r.inflight),
            ("queue", r.queue),
            ("utilization", r.utilization),
            ("latency", r.latency),
            ("gpu_memory", r.gpu_memory),
            ("kv_cache", r.kv_cache),
            ("qps", r.qps),
            ("eps", r.eps),
        ] {
            if let Some(value) = value {
                out.set_item(name, value)?;
            }
        }
        Ok(Some(out))
    }

    fn __repr__(&self) -> String {
        let s = &self.0;
        format!(
            "EndpointStats(id={:?}, health={:?}, inflight={}, load={}, picks={}, successes={}, failures={})",
            s.id,
            health_text(s.health),
            s.inflight,
            s.load,
            s.picks,
            s.successes,
            s.failures
        )
    }
}
