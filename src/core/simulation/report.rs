//! What a run measured.

use super::detail::DetailResults;
use super::{Outcome, SimulationError};
use hdrhistogram::Histogram;

/// Latencies are kept with three significant digits, up to about thirty years.
const HIGHEST_NS: u64 = 1_000_000_000_000_000_000;

/// The part of the traffic that a request belongs to, by its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Outside the spike.
    Calm,
    /// Inside the spike.
    Spike,
}

/// What happened to the requests of one phase.
#[derive(Clone, Debug)]
pub struct PhaseResults {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that were served.
    pub served: u64,
    /// Requests that no server took.
    pub rejected: u64,
    /// Requests whose client gave up.
    pub timed_out: u64,
    /// Requests whose server died.
    pub failed: u64,
    /// Served requests whose latency was within the objective.
    pub within_slo: u64,
    /// The exact sum of latencies in nanoseconds; a timed-out request counts with its timeout, a rejected one not at all.
    pub latency_sum: u128,
    /// The exact sum of times before service, in nanoseconds, of the same requests.
    pub wait_sum: u128,
    largest: u64,
    histogram: Histogram<u64>,
}

impl PhaseResults {
    pub(crate) fn new() -> Result<PhaseResults, SimulationError> {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3)
            .map_err(|_| SimulationError::Broken("a histogram's bounds"))?;
        Ok(PhaseResults {
            requests: 0,
            served: 0,
            rejected: 0,
            timed_out: 0,
            failed: 0,
            within_slo: 0,
            latency_sum: 0,
            wait_sum: 0,
            largest: 0,
            histogram,
        })
    }

    #[inline]
    pub(crate) fn record(&mut self, latency: u64, wait: u64, outcome: Outcome, slo: u64) {
        self.requests += 1;
        match outcome {
            Outcome::Rejected => {
                self.rejected += 1;
                return;
            }
            Outcome::Failed | Outcome::Cancelled => {
                self.failed += 1;
                return;
            }
            Outcome::TimedOut => self.timed_out += 1,
            Outcome::Success => {
                self.served += 1;
                self.within_slo += u64::from(latency <= slo);
            }
        }
        self.latency_sum += u128::from(latency);
        self.wait_sum += u128::from(wait);
        self.largest = self.largest.max(latency);
        self.histogram.saturating_record(latency.max(1));
    }

    /// Requests that have a latency: served and timed out.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.served + self.timed_out
    }

    /// The mean latency in seconds; NaN without requests.
    #[must_use]
    pub fn mean_s(&self) -> f64 {
        self.latency_sum as f64 * 1e-9 / self.timed() as f64
    }

    /// The mean time before service in seconds; NaN without requests.
    #[must_use]
    pub fn wait_mean_s(&self) -> f64 {
        self.wait_sum as f64 * 1e-9 / self.timed() as f64
    }

    /// A latency quantile in seconds, within 0.1 %; NaN without requests.
    #[must_use]
    pub fn quantile_s(&self, q: f64) -> f64 {
        if self.timed() == 0 {
            return f64::NAN;
        }
        // The middle of its cell, but no more than any request had: a timeout is reported as what it is.
        let middle = self.histogram.median_equivalent(self.histogram.value_at_quantile(q));
        middle.min(self.largest) as f64 / 1e9
    }

    /// The histogram's cells that hold something: (lowest latency, highest latency, count), in seconds.
    #[must_use]
    pub fn cells(&self) -> Vec<(f64, f64, u64)> {
        let h = &self.histogram;
        h.iter_recorded()
            .map(|cell| {
                let value = cell.value_iterated_to();
                let low = h.lowest_equivalent(value) as f64 * 1e-9;
                (low, h.highest_equivalent(value).saturating_add(1) as f64 * 1e-9, cell.count_since_last_iteration())
            })
            .collect()
    }

    /// Adds what another phase saw.
    pub fn merge(&mut self, other: &PhaseResults) -> Result<(), SimulationError> {
        self.requests += other.requests;
        self.served += other.served;
        self.rejected += other.rejected;
        self.timed_out += other.timed_out;
        self.failed += other.failed;
        self.within_slo += other.within_slo;
        self.latency_sum += other.latency_sum;
        self.wait_sum += other.wait_sum;
        self.largest = self.largest.max(other.largest);
        self.histogram.add(&other.histogram).map_err(|_| SimulationError::Broken("a histogram's bounds"))
    }
}

/// The run on a grid of equal steps. Each value is over the step that ends at `t_s`.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The ends of the steps, in seconds.
    pub t_s: Vec<f64>,
    /// Arrivals a second.
    pub arrivals_per_s: Vec<f64>,
    /// Mean number of servers that took work.
    pub capacity: Vec<f64>,
    /// Servers wanted at the end of the step.
    pub desired: Vec<f64>,
    /// Mean number of requests in service and queued.
    pub in_system: Vec<f64>,
    /// Mean number of busy slots.
    pub busy: Vec<f64>,
    /// What the ready servers could serve, in requests of mean work a second, at the end of the step.
    pub capacity_rps: Vec<f64>,
}

/// One value a request, in order of arrival. Times are nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Instant of arrival.
    pub arrival: Vec<u64>,
    /// Time before service.
    pub wait: Vec<u64>,
    /// Time in service.
    pub service: Vec<u64>,
    /// Time from arrival to the end.
    pub latency: Vec<u64>,
    /// The server, or -1.
    pub server: Vec<i64>,
    /// 0 served, 1 rejected, 2 timed out, 3 failed.
    pub outcome: Vec<u8>,
}

impl Records {
    /// A request arrives; until told otherwise it is rejected.
    pub(crate) fn begin(&mut self, arrival: u64) {
        self.arrival.push(arrival);
        self.wait.push(0);
        self.service.push(0);
        self.latency.push(0);
        self.server.push(-1);
        self.outcome.push(1);
    }

    /// Request number `serial`, counted from 1, has ended.
    pub(crate) fn end(&mut self, serial: u64, wait: u64, latency: u64, server: Option<u32>, outcome: Outcome) {
        let i = (serial - 1) as usize;
        for (column, value) in
            [(&mut self.wait, wait), (&mut self.service, latency - wait), (&mut self.latency, latency)]
        {
            if let Some(cell) = column.get_mut(i) {
                *cell = value;
            }
        }
        if let (Some(cell), Some(server)) = (self.server.get_mut(i), server) {
            *cell = i64::from(server);
        }
        if let Some(cell) = self.outcome.get_mut(i) {
            *cell = match outcome {
                Outcome::Success => 0,
                Outcome::Rejected => 1,
                Outcome::TimedOut => 2,
                Outcome::Failed | Outcome::Cancelled => 3,
            };
        }
    }
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// Requests outside the spike.
    pub calm: PhaseResults,
    /// Requests inside the spike.
    pub spike: PhaseResults,
    /// The run on a grid.
    pub timeline: Timeline,
    /// One value a request, if asked for.
    pub records: Option<Records>,
    /// Mean number of paid servers until the end of the traffic.
    pub servers_mean: f64,
    /// Most servers that were paid at once.
    pub servers_peak: u32,
    /// Servers that were ever launched, by type.
    pub launched: Vec<u32>,
    /// What the servers cost until the end of the traffic.
    pub cost: f64,
    /// Mean number of busy slots over slots until the end of the traffic.
    pub utilization: f64,
    /// Mean number of requests in the system until the end of the traffic.
    pub in_system_mean: f64,
    /// Decisions of the scaling policy.
    pub decisions: u64,
    /// When the run was over, in seconds: at the last request's end, not before the end of the traffic.
    pub end_s: f64,
    /// What only a detailed run measures.
    pub detail: Option<DetailResults>,
}

impl Results {
    pub(crate) fn phases() -> Result<[PhaseResults; 2], SimulationError> {
        Ok([PhaseResults::new()?, PhaseResults::new()?])
    }

    /// Both phases together.
    pub fn all(&self) -> Result<PhaseResults, SimulationError> {
        let mut all = self.calm.clone();
        all.merge(&self.spike)?;
        Ok(all)
    }
}
