//! What endpoints tell of themselves, for pickers that go by it: the last probe and the last rates of each slot, and in
//! which order probes came. Reports are written one at a time; picks read them without waiting. Who reads while a report
//! is written may see parts of two reports of one endpoint, each of which was true.

use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;

/// How many of the latest probes are known by their order.
const RECENT: usize = 128;

/// The requests in flight and the latency that one probe saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Requests there, running or waiting.
    pub inflight: f64,
    /// Seconds; `None` when nothing was said and the pool knows nothing either.
    pub latency: Option<f64>,
    /// When it was told.
    pub at: Nanos,
}

/// How fast an endpoint served, and how full it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Requests a second.
    pub qps: f64,
    /// Utilization, 1 for full.
    pub utilization: f64,
    /// Errors a second.
    pub eps: f64,
    /// When it was told.
    pub at: Nanos,
    /// Since when it has been told without a gap.
    pub since: Nanos,
}

/// What a model's engine reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Engine {
    /// Requests there, running or waiting.
    pub requests: Option<f64>,
    /// Those of them that wait.
    pub waiting: Option<f64>,
    /// The share of its cache in use, 0 to 1.
    pub kv_cache: Option<f64>,
    /// When it was told.
    pub at: Nanos,
    /// Tells it from the reports before.
    pub count: u64,
}

/// What one slot's endpoint told last. Two cache lines.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Signals {
    inflight: AtomicU64,
    latency: AtomicU64,
    /// 0 when there is no probe.
    probed_at: AtomicU64,
    qps: AtomicU64,
    utilization: AtomicU64,
    eps: AtomicU64,
    /// 0 when there are no rates.
    rated_at: AtomicU64,
    rated_since: AtomicU64,
    /// Not a number where nothing was said.
    requests: AtomicU64,
    waiting: AtomicU64,
    kv_cache: AtomicU64,
    engine_at: AtomicU64,
    /// Grows with each report of an engine; odd while the last one counts.
    engine_count: AtomicU64,
}

crate::words! { Signals {
    inflight, latency, probed_at, qps, utilization, eps, rated_at, rated_since, requests, waiting, kv_cache, engine_at,
    engine_count,
} }

fn float(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Ordering::Relaxed))
}

impl Signals {
    /// The last probe.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let at = self.probed_at.load(Ordering::Acquire);
        let latency = float(&self.latency);
        let latency = (latency > 0.0).then_some(latency);
        (at != 0).then(|| Probe { inflight: float(&self.inflight), latency, at: Nanos(at) })
    }

    /// The last rates.
    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        let at = self.rated_at.load(Ordering::Acquire);
        let since = Nanos(self.rated_since.load(Ordering::Relaxed));
        let (qps, utilization, eps) = (float(&self.qps), float(&self.utilization), float(&self.eps));
        (at != 0).then_some(Rates { qps, utilization, eps, at: Nanos(at), since })
    }

    /// Takes a probe in.
    pub fn tell_probe(&self, inflight: f64, latency: Option<f64>, now: Nanos) {
        self.inflight.store(inflight.to_bits(), Ordering::Relaxed);
        self.latency.store(latency.map_or(0.0, |l| l.max(1e-9)).to_bits(), Ordering::Relaxed);
        self.probed_at.fetch_max(now.0.max(1), Ordering::Release);
    }

    /// Takes rates in. After a silence of `gap` they begin anew.
    pub fn tell_rates(&self, qps: f64, utilization: f64, eps: f64, now: Nanos, gap: Nanos) {
        let now = Nanos(now.0.max(1));
        let before = self.rated_at.load(Ordering::Relaxed);
        if before == 0 || now.since(Nanos(before)) >= gap {
            self.rated_since.store(now.0, Ordering::Relaxed);
        }
        self.qps.store(qps.to_bits(), Ordering::Relaxed);
        self.utilization.store(utilization.to_bits(), Ordering::Relaxed);
        self.eps.store(eps.to_bits(), Ordering::Relaxed);
        self.rated_at.fetch_max(now.0, Ordering::Release);
    }

    /// What the engine reported last.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        let count = self.engine_count.load(Ordering::Acquire);
        let told = |cell: &AtomicU64| Some(float(cell)).filter(|number| !number.is_nan());
        // Even: nothing has been told since the slot's former endpoint left.
        (count % 2 == 1).then(|| Engine {
            requests: told(&self.requests),
            waiting: told(&self.waiting),
            kv_cache: told(&self.kv_cache),
            at: Nanos(self.engine_at.load(Ordering::Relaxed)),
            count,
        })
    }

    /// Takes a report of an engine in. Reports come one at a time.
    pub fn tell_engine(&self, requests: Option<f64>, waiting: Option<f64>, kv_cache: Option<f64>, now: Nanos) {
        for (cell, told) in [(&self.requests, requests), (&self.waiting, waiting), (&self.kv_cache, kv_cache)] {
            cell.store(told.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
        }
        self.engine_at.fetch_max(now.0, Ordering::Relaxed);
        let count = self.engine_count.load(Ordering::Relaxed);
        self.engine_count.store((count | 1).wrapping_add(2), Ordering::Release);
    }

    /// Forgets what the slot's former endpoint told.
    pub fn forget(&self) {
        let count = self.engine_count.load(Ordering::Relaxed);
        self.engine_count.store((count | 1).wrapping_add(1), Ordering::Relaxed);
        self.engine_at.store(0, Ordering::Relaxed);
        self.probed_at.store(0, Ordering::Relaxed);
        self.rated_at.store(0, Ordering::Relaxed);
    }
}

/// In which order probes came, and how long reports last, for a whole pool.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Told {
    /// Slots, around and around.
    recent: [AtomicU64; RECENT],
    count: AtomicU64,
    engines: AtomicU64,
    /// The bits of the gap turned over, so that zero stands for the longest.
    gap: AtomicU64,
}

crate::words! { Told { recent, count, engines, gap } }

impl Default for Told {
    fn default() -> Told {
        let [count, engines, gap] = [0, 0, 0].map(AtomicU64::new);
        Told { recent: std::array::from_fn(|_| AtomicU64::new(0)), count, engines, gap }
    }
}

impl Told {
    /// A probe of this slot was told.
    pub fn note(&self, slot: u32) {
        let count = self.count.load(Ordering::Relaxed);
        if let Some(place) = self.recent.get(count as usize % RECENT) {
            place.store(u64::from(slot), Ordering::Relaxed);
        }
        self.count.store(count.wrapping_add(1), Ordering::Release);
    }

    /// An engine has reported.
    pub fn note_engine(&self) {
        self.engines.fetch_add(1, Ordering::Release);
    }

    /// Whether any engine has ever reported.
    #[inline(always)]
    #[must_use]
    pub fn any_engine(&self) -> bool {
        self.engines.load(Ordering::Acquire) != 0
    }

    /// How many probes have been told.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The slots of the probes after the first `seen`, of the latest ones when those are too many. While they are read
    /// one may come in, and stand for the oldest.
    pub fn after(&self, seen: u64) -> impl Iterator<Item = u32> + '_ {
        let count = self.count();
        let from = seen.max(count.saturating_sub(RECENT as u64));
        (from..count).filter_map(|at| Some(self.recent.get(at as usize % RECENT)?.load(Ordering::Relaxed) as u32))
    }

    /// After how long a silence rates begin anew: the shortest that anybody asked for.
    #[must_use]
    pub fn gap(&self) -> Nanos {
        Nanos(!self.gap.load(Ordering::Relaxed))
    }

    /// Asks for a gap.
    pub fn ask_for_gap(&self, gap: Nanos) {
        self.gap.fetch_max(!gap.0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_counts_and_silence_begins_anew() {
        let signals = Signals::default();
        assert_eq!((signals.probe(), signals.rates()), (None, None));
        let (at, gap) = (Nanos::from_secs_f64, Nanos::from_secs_f64(10.0));
        signals.tell_probe(3.0, None, Nanos::ZERO);
        assert_eq!(signals.probe(), Some(Probe { inflight: 3.0, latency: None, at: Nanos(1) }));
        signals.tell_probe(2.0, Some(0.5), at(1.0));
        assert_eq!(signals.probe(), Some(Probe { inflight: 2.0, latency: Some(0.5), at: at(1.0) }));
        signals.tell_rates(10.0, 0.5, 0.0, at(1.0), gap);
        signals.tell_rates(20.0, 0.5, 1.0, at(9.0), gap);
        assert_eq!(signals.rates(), Some(Rates { qps: 20.0, utilization: 0.5, eps: 1.0, at: at(9.0), since: at(1.0) }));
        signals.tell_rates(20.0, 0.5, 1.0, at(4.0), gap);
        assert_eq!(signals.rates().map(|r| (r.at, r.since)), Some((at(9.0), at(1.0))), "time went backwards");
        signals.tell_rates(20.0, 0.5, 1.0, at(19.0), gap);
        assert_eq!(signals.rates().map(|r| r.since), Some(at(19.0)));
        signals.forget();
        assert_eq!((signals.probe(), signals.rates()), (None, None));
    }

    #[test]
    fn the_order_of_the_latest_probes_is_known() {
        let told = Told::default();
        (0..5).for_each(|slot| told.note(slot));
        assert_eq!(told.after(2).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(told.after(5).count(), 0);
        (0..1000).for_each(|slot| told.note(slot));
        assert_eq!(told.count(), 1005);
        assert_eq!(told.after(5).collect::<Vec<_>>(), (872..1000).collect::<Vec<_>>());
        assert_eq!(told.gap(), Nanos::MAX);
        told.ask_for_gap(Nanos(5));
        told.ask_for_gap(Nanos(9));
        assert_eq!(told.gap(), Nanos(5));
    }
}
