//! What the engine asks of a balancer.

use super::SimulationError;
use crate::core::llm::Prompt;
use crate::core::time::Nanos;

/// What a balancer may know about a server when it joins.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSpec {
    /// The name of the server's type.
    pub kind: String,
    /// The share of work it should get, relative to the others.
    pub weight: f64,
    /// How many requests it serves at once.
    pub concurrency: u32,
    /// How many requests it holds at most, in service and queued; `None` when its queue has no limit.
    pub max_inflight: Option<u32>,
    /// How fast it works; 1 is the reference. A balancer that uses it knows more than real ones do.
    pub speed: f64,
}

/// Where a request goes, and the balancer's own mark for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The engine's dense id of the server.
    pub server: u32,
    /// Whatever the balancer needs to find this request again.
    pub ticket: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was served.
    Success,
    /// No server could take it, or the chosen server's queue was full.
    Rejected,
    /// The client gave up while it waited or was served.
    TimedOut,
    /// Its server died.
    Failed,
    /// It is no longer needed: another attempt was answered, or the balancer is asked again.
    Cancelled,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerReport {
    /// Requests in service and queued there.
    pub in_flight: f64,
    /// Its estimate of the latency of a request that came now, in seconds: the median of the recent ones that met about as
    /// many requests (Prequal). `None` when there were none.
    pub latency: Option<f64>,
    /// Busy slots over slots since the last report.
    pub utilization: f64,
    /// Answers a second since the last report.
    pub qps: f64,
    /// Of a server that generates text: requests that wait there, and the share of its KV cache that requests use.
    pub engine: Option<(f64, f64)>,
}

/// What a balancer that goes by prompts wants to hear of beside first tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hears {
    /// What servers' prefix caches take in and throw out.
    pub cache: bool,
    /// Answers that have grown by a block.
    pub growth: bool,
}

/// What has changed in a server's prefix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheChange {
    /// These blocks are cached now.
    Stored(Vec<u64>),
    /// These no longer.
    Removed(Vec<u64>),
    /// Nothing is.
    Cleared,
}

/// Decides which server gets a request. The engine calls it in the order of virtual time.
pub trait Balancer {
    /// The server is ready for work.
    fn add(&mut self, server: u32, spec: &ServerSpec, now: Nanos) -> Result<(), SimulationError>;
    /// The server gets no new work; what it has will be finished.
    fn drain(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError>;
    /// The server is gone; nothing is in flight on it.
    fn remove(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError>;
    /// The server for a request, or `None` when none may get it.
    fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError>;
    /// The request of this grant has ended. `latency` is the time since its arrival.
    fn release(&mut self, grant: Grant, latency: Nanos, outcome: Outcome, now: Nanos) -> Result<(), SimulationError>;

    /// Whether [`Balancer::observe`] is understood, and is all that it goes by.
    fn observes(&self) -> bool {
        false
    }

    /// The server has this many requests, whoever sent them.
    fn observe(&mut self, _server: u32, _requests: u32, _now: Nanos) -> Result<(), SimulationError> {
        Err(SimulationError::Balancer("it cannot be told how many requests a server has".into()))
    }

    /// What it wants to hear if it goes by prompts; `None` when it does not.
    fn hears(&self) -> Option<Hears> {
        None
    }

    /// The same as [`Balancer::acquire`] for a request with a prompt.
    fn acquire_for(
        &mut self,
        _prompt: Prompt<'_>,
        key: Option<u64>,
        cost: f64,
        now: Nanos,
    ) -> Result<Option<Grant>, SimulationError> {
        self.acquire(key, cost, now)
    }

    /// The prompt of this grant's request has been read.
    fn first_token(&mut self, _grant: Grant, _now: Nanos) -> Result<(), SimulationError> {
        Ok(())
    }

    /// The answer of this grant's request has grown by so many tokens.
    fn grew(&mut self, _grant: Grant, _tokens: u32, _now: Nanos) -> Result<(), SimulationError> {
        Ok(())
    }

    /// A server's prefix cache has changed.
    fn cached(&mut self, _server: u32, _change: &CacheChange, _now: Nanos) -> Result<(), SimulationError> {
        Ok(())
    }

    /// How many servers it would have probed for each request.
    fn probes(&self) -> f64 {
        0.0
    }

    /// What a server says of itself: the answer to a probe for the request that was acquired last, or a report to all.
    fn report(
        &mut self,
        _server: u32,
        _report: &ServerReport,
        _probe: bool,
        _now: Nanos,
    ) -> Result<(), SimulationError> {
        Ok(())
    }
}
