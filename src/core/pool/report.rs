//! What others say of an endpoint, and what the pool says of it.

use crate::core::endpoints::{Block, Health};
use crate::core::error::MetricError;
use crate::core::time::Nanos;
use std::sync::Arc;

/// What a report says of an endpoint. `None` is "not said".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in flight there, whoever sent them.
    pub inflight: Option<f64>,
    /// Requests waiting there.
    pub queue: Option<f64>,
    /// Utilization, 1 for full.
    pub utilization: Option<f64>,
    /// Latency in seconds.
    pub latency: Option<f64>,
    /// Share of GPU memory in use.
    pub gpu_memory: Option<f64>,
    /// Share of the KV cache in use.
    pub kv_cache: Option<f64>,
    /// Requests a second.
    pub qps: Option<f64>,
    /// Errors a second.
    pub eps: Option<f64>,
}

impl Report {
    pub(super) fn check(&self) -> Result<(), MetricError> {
        let fields = [
            ("inflight", self.inflight),
            ("queue", self.queue),
            ("utilization", self.utilization),
            ("latency", self.latency),
            ("gpu_memory", self.gpu_memory),
            ("kv_cache", self.kv_cache),
            ("qps", self.qps),
            ("eps", self.eps),
        ];
        for (name, value) in fields {
            if let Some(v) = value
                && !(v.is_finite() && (0.0..=1e12).contains(&v))
            {
                return Err(MetricError {
                    name: name.into(),
                    value: v.to_string(),
                    allowed: "a finite number from 0 to 1e12".into(),
                });
            }
        }
        Ok(())
    }

    /// The load that it tells, in requests.
    pub(super) fn load(&self) -> Option<f64> {
        let told = self.inflight.is_some() || self.queue.is_some();
        told.then(|| self.inflight.unwrap_or(0.0) + self.queue.unwrap_or(0.0))
    }

    /// Tells it to the pickers that go by probes or rates. A load is a probe, with the latency told or else the one
    /// `known`; rates are both of `qps` and `utilization`, above zero (gRPC A58).
    pub(super) fn tell(&self, block: &Block, slot: u32, known: Option<f64>, now: Nanos) {
        let Some(signals) = block.signals(slot) else { return };
        if let Some(load) = self.load() {
            signals.tell_probe(load, self.latency.or(known), now);
            block.told().note(slot);
        }
        if let (Some(qps), Some(utilization)) = (self.qps, self.utilization)
            && qps > 0.0
            && utilization > 0.0
        {
            signals.tell_rates(qps, utilization, self.eps.unwrap_or(0.0), now, block.told().gap());
        }
    }
}

/// One endpoint's record.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStats {
    /// Its id.
    pub id: Arc<str>,
    /// Its weight.
    pub weight: f64,
    /// Its health.
    pub health: Health,
    /// Whether it is draining.
    pub draining: bool,
    /// Whether it may get work now.
    pub eligible: bool,
    /// Requests in flight.
    pub inflight: u64,
    /// The load that picks compare, in requests.
    pub load: f64,
    /// Leases given out.
    pub picks: u64,
    /// Leases that ended well.
    pub successes: u64,
    /// Leases that failed.
    pub failures: u64,
    /// Leases that timed out.
    pub timeouts: u64,
    /// Leases that were refused.
    pub rejected: u64,
    /// Leases that were given up.
    pub cancelled: u64,
    /// Leases that were dropped.
    pub dropped: u64,
    /// The latency estimate in seconds, when there is one.
    pub latency: Option<f64>,
    /// The last latency in seconds, when there is one.
    pub last_latency: Option<f64>,
    /// The last report, while it counts.
    pub report: Option<Report>,
}
