//! What others say of an endpoint, and what the pool says of it.

use super::passive::Ejection;
use super::writer::Pool;
use crate::core::endpoints::counters::UNITS;
use crate::core::endpoints::{Block, Health, View, Zones};
use crate::core::error::MetricError;
use crate::core::sync::{AtomicU64, Mode, Ordering};
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
        let (Some(signals), Some(told)) = (block.signals(slot), block.told()) else { return };
        if let Some(load) = self.load() {
            signals.tell_probe(load, self.latency.or(known), now);
            told.note(slot);
        }
        if self.load().is_some() || self.kv_cache.is_some() {
            signals.tell_engine(self.load(), self.queue, self.kv_cache, now);
            told.note_engine();
        }
        if let (Some(qps), Some(utilization)) = (self.qps, self.utilization)
            && qps > 0.0
            && utilization > 0.0
        {
            signals.tell_rates(qps, utilization, self.eps.unwrap_or(0.0), now, told.gap());
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
    /// The weight that counts now: less while it starts slowly.
    pub effective_weight: f64,
    /// The part of all requests that it is due by weight, priority, zone and health, as long as nobody is full: 0 to 1.
    pub share: f64,
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
    /// What passive health says of it.
    pub ejection: Ejection,
    /// The last report, while it counts.
    pub report: Option<Report>,
}

/// The part of all requests that each endpoint is due.
pub(super) fn shares(view: &View) -> Vec<f64> {
    let mut shares = vec![0.0; view.slots.len()];
    for tier in &view.tiers {
        let all: f64 = tier.groups.iter().map(|group| group.share).sum();
        for (i, group) in tier.groups.iter().enumerate() {
            let of_tier = match tier.zones {
                Zones::One => 1.0,
                Zones::Turns => group.share / all,
                Zones::Own(kept) if i == 0 => f64::from(kept) / 1e4,
                Zones::Own(kept) => (1.0 - f64::from(kept) / 1e4) * group.share / all.max(f64::MIN_POSITIVE),
            };
            let total: f64 = group.members.iter().map(|m| m.weight).sum();
            for member in &group.members {
                if let Some(share) = shares.get_mut(member.index as usize) {
                    *share += f64::from(tier.percent) / 100.0 * of_tier * member.weight / total;
                }
            }
        }
    }
    shares
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// One record an endpoint, in order.
    pub fn stats(&self, now: Nanos) -> Vec<EndpointStats> {
        let writer = self.writer.lock();
        // A copy: a pick that drops old reports does not wait for the rest of this.
        let reports = self.reports.lock().clone();
        let snapshot = self.current.load_full();
        let shares = shares(&snapshot.view);
        let known = |bits: u64| (bits != 0).then(|| f64::from_bits(bits));
        (0usize..)
            .zip(&writer.places)
            .filter_map(|(i, place)| {
                let cell = writer.block.cell(place.slot)?;
                let read = |c: &AtomicU64| c.load(Ordering::Acquire);
                Some(EndpointStats {
                    id: place.endpoint.id.clone(),
                    weight: place.endpoint.weight,
                    effective_weight: place.endpoint.weight * snapshot.view.warmth.get(i).copied().unwrap_or(1.0),
                    share: shares.get(i).copied().unwrap_or(0.0),
                    health: place.health,
                    draining: place.drain.is_some(),
                    eligible: read(&cell.blocked) == 0 && read(&cell.inflight) < u64::from(place.endpoint.max_inflight),
                    inflight: read(&cell.inflight),
                    load: cell.effective_load() as f64 / UNITS,
                    picks: cell.picks(),
                    successes: read(&cell.successes),
                    failures: read(&cell.failures),
                    timeouts: read(&cell.timeouts),
                    rejected: read(&cell.rejected),
                    cancelled: read(&cell.cancelled),
                    dropped: read(&cell.dropped),
                    latency: self.latencies.estimate(cell, now),
                    last_latency: known(read(&cell.last_latency)),
                    ejection: self.ejection(place.slot),
                    report: reports.get(&place.slot).filter(|(_, until)| *until > now).map(|(report, _)| *report),
                })
            })
            .collect()
    }
}
