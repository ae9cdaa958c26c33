//! The event loop.
//!
//! Events happen in the order (time, priority, serial). At one instant completions come first, then timeouts, then the
//! fleet (servers that become ready, metric samples, decisions, the grid), then arrivals.

use super::arrivals::Arrivals;
use super::detail::Detail;
use super::fleet::price;
use super::report::PhaseResults;
use super::server::{Life, Server};
use super::{
    Balancer, Grant, Outcome, Records, Results, Scaler, ServerSpec, SimulationConfig, SimulationError, Timeline,
    Traffic, Work, streams,
};
use crate::core::error::ConfigError;
use crate::core::rng::{Rng, stream};
use crate::core::time::Nanos;
use rand_distr::{Distribution, Zipf};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const NEVER: u64 = u64::MAX;
/// An event's word has 22 bits for the job, so no more than this may be in the system at once.
const JOB_BITS: u32 = 22;
const MAX_JOBS: u32 = (1 << JOB_BITS) - 1;

/// What happens to the fleet. The order of the variants is their priority at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Control {
    Ready(u32),
    WindowOpens(u64),
    WindowCloses(u64),
    Decide(u64),
    Grid(u32),
    Horizon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Waiting,
    Served,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    serial: u64,
    arrival: u64,
    started: u64,
    work: f64,
    ticket: u64,
    server: u32,
    stage: Stage,
}

/// Integrals over time of what the fleet does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) at: u64,
    pub(super) arrivals: u64,
    pub(super) busy: u128,
    pub(super) in_system: u128,
    /// Slots of servers that take or finish work.
    pub(super) slots: u128,
    pub(super) ready: u128,
    pub(super) paid: u128,
}

enum Keys {
    Own,
    Uniform { n: u32, rng: Rng },
    Zipf { law: Zipf<f64>, rng: Rng },
}

/// One run. Call [`Engine::run`] until it says that it is done, then [`Engine::finish`].
pub struct Engine {
    pub(super) config: SimulationConfig,
    pub(super) balancer: Box<dyn Balancer + Send>,
    pub(super) scaler: Option<Box<dyn Scaler + Send>>,
    arrivals: Arrivals,
    pub(super) next_arrival: u64,
    pub(super) next_work: f64,
    pub(super) work_rng: Rng,
    keys: Keys,
    pub(super) mean_work: f64,

    pub(super) now: u64,
    pub(super) serial: u64,
    completions: BinaryHeap<Reverse<u128>>,
    timeouts: VecDeque<(u64, u64, u32)>,
    control: BinaryHeap<Reverse<(u64, Control)>>,
    jobs: Vec<Job>,
    free: Vec<u32>,
    pub(super) servers: Vec<Server>,
    pub(super) specs: Vec<ServerSpec>,

    pub(super) duration: u64,
    discard: u64,
    pub(super) timeout: u64,
    pub(super) slo: u64,
    spike: (u64, u64),

    pub(super) busy: u32,
    pub(super) in_system: u32,
    pub(super) slots: u32,
    pub(super) ready: u32,
    pub(super) warming: u32,
    pub(super) draining: u32,
    pub(super) counts: Vec<u32>,
    pub(super) desired: u32,
    pub(super) totals: Totals,
    pub(super) opened: VecDeque<Totals>,
    pub(super) closed: VecDeque<Totals>,
    grid: Totals,
    pub(super) horizon: Option<Totals>,

    phases: [PhaseResults; 2],
    timeline: Timeline,
    records: Option<Records>,
    pub(super) peak: u32,
    pub(super) launched: Vec<u32>,
    pub(super) cost: f64,
    pub(super) decisions: u64,
    /// The sum of times in the system of a detailed run: what the integral over time must agree with.
    pub(super) spent: u128,
    /// Sums of latencies and of waits of requests that are not measured.
    early: (u128, u128),
    /// Servers that became ready and are unknown to a detailed run.
    pub(super) woken: Vec<u32>,
    detail: Option<Box<Detail>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("now", &self.now).field("in_system", &self.in_system).finish_non_exhaustive()
    }
}

impl Engine {
    /// A run at its start: the first servers are ready, nothing has arrived.
    pub fn new(
        config: SimulationConfig,
        balancer: Box<dyn Balancer + Send>,
        scaler: Option<Box<dyn Scaler + Send>>,
    ) -> Result<Engine, SimulationError> {
        config.check()?;
        let seed = config.seed;
        let key_rng = Rng::new(stream(seed, streams::KEYS));
        let keys = match config.keys {
            None => Keys::Own,
            Some((n, 0.0)) => Keys::Uniform { n, rng: key_rng },
            Some((n, s)) => {
                let law =
                    Zipf::new(f64::from(n), s).map_err(|_| ConfigError::new("keys.zipf", s, "expected 0 to 20"))?;
                Keys::Zipf { law, rng: key_rng }
            }
        };
        let mean_work = match (&config.work, &config.traffic) {
            (Work::Drawn(law), _) => law.mean(),
            (Work::Given { .. }, Traffic::Trace(trace)) => trace.mean_work(),
            (Work::Given { .. }, Traffic::Poisson(_)) => {
                return Err(ConfigError::new("service", "work from a trace", "expected traffic that is a trace").into());
            }
        };
        let specs = config
            .fleet
            .types
            .iter()
            .map(|kind| ServerSpec {
                kind: kind.name.clone(),
                weight: kind.weight,
                concurrency: kind.concurrency,
                max_inflight: config.fleet.queue_limit.map(|limit| limit.saturating_add(kind.concurrency)),
                speed: kind.speed,
            })
            .collect();
        let types = config.fleet.types.len();
        let mut engine = Engine {
            arrivals: Arrivals::new(&config.traffic, seed),
            next_arrival: NEVER,
            next_work: 0.0,
            work_rng: Rng::new(stream(seed, streams::WORK)),
            keys,
            mean_work,
            now: 0,
            serial: 0,
            completions: BinaryHeap::new(),
            timeouts: VecDeque::new(),
            control: BinaryHeap::new(),
            jobs: Vec::new(),
            free: Vec::new(),
            servers: Vec::new(),
            specs,
            duration: config.duration.0,
            discard: config.discard.0,
            timeout: config.timeout.map_or(NEVER, |t| t.0),
            slo: config.slo.0,
            spike: config.spike.map_or((NEVER, NEVER), |(a, b)| (a.0, b.0)),
            busy: 0,
            in_system: 0,
            slots: 0,
            ready: 0,
            warming: 0,
            draining: 0,
            counts: vec![0; types],
            desired: config.fleet.initial,
            totals: Totals::default(),
            opened: VecDeque::new(),
            closed: VecDeque::new(),
            grid: Totals::default(),
            horizon: None,
            phases: Results::phases()?,
            timeline: Timeline::default(),
            records: config.records.then(Records::default),
            peak: 0,
            launched: vec![0; types],
            cost: 0.0,
            decisions: 0,
            spent: 0,
            early: (0, 0),
            woken: Vec::new(),
            detail: None,
            config,
            balancer,
            scaler,
        };
        for _ in 0..engine.desired {
            if !engine.launch(true)? {
                break;
            }
        }
        engine.schedule(engine.duration, Control::Horizon);
        engine.schedule_grid(1);
        if engine.scaler.is_some() {
            engine.schedule_decision(1);
            // Windows that would begin before the start have nothing to wait for.
            let interval = engine.config.fleet.decision_interval.0;
            let closes = engine.config.fleet.metric_delay.0 / interval + 1;
            engine.schedule_window(closes, false);
            let opens =
                engine.config.fleet.metric_delay.0.saturating_add(engine.config.fleet.metric_period.0) / interval + 1;
            engine.schedule_window(opens, true);
        }
        engine.fetch_arrival();
        if let Some(detail) = engine.config.detail.clone() {
            engine.detail = Some(Box::new(Detail::new(&mut engine, detail)?));
        }
        Ok(engine)
    }

    /// Handles up to `events` events; true when the run is over.
    pub fn run(&mut self, events: u64) -> Result<bool, SimulationError> {
        if self.detail.is_some() {
            return self.run_detailed(events);
        }
        for _ in 0..events {
            if !self.step()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How much of the traffic has passed, 0 to 1.
    #[must_use]
    pub fn progress(&self) -> f64 {
        (self.now as f64 / self.duration as f64).min(1.0)
    }

    /// What was measured.
    pub fn finish(mut self) -> Result<Results, SimulationError> {
        while !self.run(1 << 20)? {}
        let horizon = self.horizon.ok_or(SimulationError::Broken("the end of the traffic"))?;
        if self.in_system > 0 {
            return Err(SimulationError::Unserved(self.in_system));
        }
        // Little's law, for the whole run and to the nanosecond, and the same for the servers' slots.
        let [calm, spike] = &self.phases;
        let plain = calm.latency_sum + spike.latency_sum + self.early.0;
        let waits = calm.wait_sum + spike.wait_sum + self.early.1;
        if self.totals.in_system != if self.detail.is_some() { self.spent } else { plain } {
            return Err(SimulationError::Broken("Little's law: requests in the system and their times do not agree"));
        }
        if self.detail.is_none() && self.totals.busy + waits != plain {
            return Err(SimulationError::Broken("utilisation: busy slots and times in service do not agree"));
        }
        let detail = self.detail.map(|detail| detail.finish()).transpose()?;
        let seconds = self.duration as f64;
        let [calm, spike] = self.phases;
        Ok(Results {
            calm,
            spike,
            timeline: self.timeline,
            records: self.records,
            servers_mean: horizon.paid as f64 / seconds,
            servers_peak: self.peak,
            launched: self.launched,
            cost: self.cost,
            utilization: if horizon.slots == 0 { 0.0 } else { horizon.busy as f64 / horizon.slots as f64 },
            in_system_mean: horizon.in_system as f64 / seconds,
            decisions: self.decisions,
            end_s: self.now as f64 / 1e9,
            detail,
        })
    }

    #[inline]
    fn step(&mut self) -> Result<bool, SimulationError> {
        let completion = self.completions.peek().map_or(NEVER, |event| (event.0 >> 64) as u64);
        let timeout = self.timeouts.front().map_or(NEVER, |entry| entry.0);
        let control = self.control.peek().map_or(NEVER, |event| event.0.0);
        let arrival = self.next_arrival;
        if completion <= timeout && completion <= control && completion <= arrival {
            if completion == NEVER {
                return Ok(false);
            }
            self.complete()?;
        } else if timeout <= control && timeout <= arrival {
            self.give_up()?;
        } else if control <= arrival {
            self.control()?;
        } else {
            self.advance(arrival);
            self.arrive()?;
        }
        Ok(true)
    }

    fn run_detailed(&mut self, events: u64) -> Result<bool, SimulationError> {
        let Some(mut detail) = self.detail.take() else { return Ok(true) };
        let mut over = false;
        for _ in 0..events {
            if !detail.step(self)? {
                over = true;
                break;
            }
        }
        self.detail = Some(detail);
        Ok(over)
    }

    pub(super) fn next_control(&self) -> u64 {
        self.control.peek().map_or(NEVER, |event| event.0.0)
    }

    /// The fleet's next event happens.
    pub(super) fn control(&mut self) -> Result<(), SimulationError> {
        if let Some(Reverse((at, what))) = self.control.pop() {
            self.advance(at);
            self.act(what)?;
        }
        Ok(())
    }

    /// Whether a request that arrives now is measured.
    pub(super) fn counts_from(&self, arrival: u64) -> bool {
        arrival >= self.discard
    }

    /// Moves time on and adds what the fleet did meanwhile.
    #[inline]
    pub(super) fn advance(&mut self, to: u64) {
        let passed = to.saturating_sub(self.now);
        self.now = to;
        self.totals.busy += u128::from(self.busy) * u128::from(passed);
        self.totals.in_system += u128::from(self.in_system) * u128::from(passed);
    }

    /// The totals of this moment. Those that change only with the fleet are brought up to date here and on every change.
    pub(super) fn tally(&mut self) -> Totals {
        let passed = u128::from(self.now.saturating_sub(self.totals.at));
        self.totals.at = self.now;
        self.totals.slots += u128::from(self.slots) * passed;
        self.totals.ready += u128::from(self.ready) * passed;
        self.totals.paid += u128::from(self.paid()) * passed;
        self.totals
    }

    pub(super) fn paid(&self) -> u32 {
        self.ready.saturating_add(self.warming).saturating_add(self.draining)
    }

    pub(super) fn fetch_arrival(&mut self) {
        match self.arrivals.next() {
            Some((at, work)) if at.0 < self.duration => (self.next_arrival, self.next_work) = (at.0, work),
            _ => self.next_arrival = NEVER,
        }
    }

    pub(super) fn key(&mut self) -> u64 {
        match &mut self.keys {
            Keys::Own => self.serial,
            Keys::Uniform { n, rng } => u64::from(rng.below(*n)),
            Keys::Zipf { law, rng } => law.sample(rng) as u64,
        }
    }

    #[inline]
    pub(super) fn begin(&mut self) {
        if let Some(records) = &mut self.records {
            records.begin(self.now);
        }
    }

    #[inline]
    fn arrive(&mut self) -> Result<(), SimulationError> {
        self.serial += 1;
        let serial = self.serial;
        self.totals.arrivals += 1;
        let work = self.config.work.sample(self.next_work, &mut self.work_rng);
        let key = self.key();
        self.begin();
        let cost = if self.config.cost_is_work { work } else { 1.0 };
        let granted = self.balancer.acquire(Some(key), cost, Nanos(self.now))?;
        match granted {
            Some(grant) => self.admit(grant, serial, work)?,
            None => self.record(serial, self.now, 0, 0, None, Outcome::Rejected, self.slo),
        }
        self.fetch_arrival();
        Ok(())
    }

    #[inline]
    fn admit(&mut self, grant: Grant, serial: u64, work: f64) -> Result<(), SimulationError> {
        let now = self.now;
        let Some(server) = self.servers.get_mut(grant.server as usize).filter(|s| s.life == Life::Ready) else {
            return Err(SimulationError::Balancer(format!("chose server {}, which takes no work", grant.server)));
        };
        let idle = server.busy < server.slots;
        if idle && !server.queue.is_empty() {
            return Err(SimulationError::Broken("work: a request waits at a server with a free slot"));
        }
        if !idle && server.queue.len() >= server.queue_limit as usize {
            self.balancer.release(grant, Nanos::ZERO, Outcome::Rejected, Nanos(now))?;
            self.record(serial, now, 0, 0, None, Outcome::Rejected, self.slo);
            return Ok(());
        }
        let stage = if idle { Stage::Served } else { Stage::Waiting };
        let job = Job { serial, arrival: now, started: now, work, ticket: grant.ticket, server: grant.server, stage };
        let id = match self.free.pop() {
            Some(id) => {
                *self.jobs.get_mut(id as usize).ok_or(SimulationError::Broken("a job"))? = job;
                id
            }
            None => {
                let id = self.jobs.len() as u32;
                if id >= MAX_JOBS {
                    return Err(SimulationError::TooManyInSystem(MAX_JOBS));
                }
                self.jobs.push(job);
                id
            }
        };
        self.in_system += 1;
        if idle {
            server.busy += 1;
            self.busy += 1;
            self.completions.push(Reverse(completion(now, server.pace, &job, id)));
        } else {
            server.queue.push_back(id);
        }
        if self.timeout != NEVER {
            self.timeouts.push_back((now.saturating_add(self.timeout), serial, id));
        }
        Ok(())
    }

    /// The earliest completion. One that was cancelled is passed over.
    #[inline]
    fn complete(&mut self) -> Result<(), SimulationError> {
        let Some(&Reverse(event)) = self.completions.peek() else { return Ok(()) };
        let id = event as u32 & MAX_JOBS;
        let serial = (event as u64) >> JOB_BITS;
        let Some(&job) = self.jobs.get(id as usize).filter(|job| job.serial == serial && job.stage == Stage::Served)
        else {
            self.completions.pop();
            return Ok(());
        };
        self.advance((event >> 64) as u64);
        self.release(&job, Outcome::Success)?;
        self.discard_job(id)?;
        let next = self.start_next(job.server)?;
        // Replacing the earliest event by the next of the same server sifts once instead of twice.
        match next {
            Some(event) => {
                if let Some(mut top) = self.completions.peek_mut() {
                    *top = Reverse(event);
                }
            }
            None => {
                self.completions.pop();
                self.leave_if_drained(job.server)?;
            }
        }
        Ok(())
    }

    /// The client of the oldest request gives up, unless it was answered.
    fn give_up(&mut self) -> Result<(), SimulationError> {
        let Some((at, serial, id)) = self.timeouts.pop_front() else { return Ok(()) };
        let Some(job) = self.jobs.get(id as usize).filter(|job| job.serial == serial) else { return Ok(()) };
        match job.stage {
            Stage::Free => Ok(()),
            // All that are ahead of it in a FIFO queue came earlier, so they gave up earlier, and it has begun.
            Stage::Waiting => Err(SimulationError::Broken("a request that waits past its timeout")),
            Stage::Served => {
                let job = *job;
                self.advance(at);
                self.release(&job, Outcome::TimedOut)?;
                self.discard_job(id)?;
                match self.start_next(job.server)? {
                    Some(event) => {
                        self.completions.push(Reverse(event));
                        Ok(())
                    }
                    None => self.leave_if_drained(job.server),
                }
            }
        }
    }

    /// Tells the balancer and the statistics that a request in the system has ended.
    #[inline]
    fn release(&mut self, job: &Job, outcome: Outcome) -> Result<(), SimulationError> {
        self.in_system -= 1;
        let latency = self.now - job.arrival;
        let wait = job.started - job.arrival;
        let grant = Grant { server: job.server, ticket: job.ticket };
        self.balancer.release(grant, Nanos(latency), outcome, Nanos(self.now))?;
        self.record(job.serial, job.arrival, wait, latency, Some(job.server), outcome, self.slo);
        Ok(())
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn record(
        &mut self,
        serial: u64,
        arrival: u64,
        wait: u64,
        latency: u64,
        server: Option<u32>,
        outcome: Outcome,
        slo: u64,
    ) {
        if let Some(records) = &mut self.records {
            records.end(serial, wait, latency, server, outcome);
        }
        if arrival >= self.discard {
            let [calm, spike] = &mut self.phases;
            let phase = if arrival >= self.spike.0 && arrival < self.spike.1 { spike } else { calm };
            phase.record(latency, wait, outcome, slo);
        } else {
            self.early.0 += u128::from(latency);
            self.early.1 += u128::from(wait);
        }
    }

    #[inline]
    fn discard_job(&mut self, id: u32) -> Result<(), SimulationError> {
        self.jobs.get_mut(id as usize).ok_or(SimulationError::Broken("a job"))?.stage = Stage::Free;
        self.free.push(id);
        Ok(())
    }

    /// A slot of this server came free: the next request starts, and its completion is returned.
    #[inline]
    fn start_next(&mut self, server: u32) -> Result<Option<u128>, SimulationError> {
        let server = self.servers.get_mut(server as usize).ok_or(SimulationError::Broken("a server"))?;
        if let Some(id) = server.queue.pop_front() {
            let job = self.jobs.get_mut(id as usize).ok_or(SimulationError::Broken("a job"))?;
            job.stage = Stage::Served;
            job.started = self.now;
            return Ok(Some(completion(self.now, server.pace, job, id)));
        }
        server.busy -= 1;
        self.busy -= 1;
        Ok(None)
    }

    pub(super) fn schedule(&mut self, at: u64, what: Control) {
        if at <= self.duration {
            self.control.push(Reverse((at, what)));
        }
    }

    fn schedule_grid(&mut self, step: u32) {
        let steps = u128::from(self.config.timeline_steps);
        if u128::from(step) <= steps {
            let at = u128::from(self.duration) * u128::from(step) / steps;
            self.schedule(at as u64, Control::Grid(step));
        }
    }

    pub(super) fn decision_at(&self, k: u64) -> u64 {
        self.config.fleet.decision_interval.0.saturating_mul(k)
    }

    pub(super) fn schedule_decision(&mut self, k: u64) {
        self.schedule(self.decision_at(k), Control::Decide(k));
    }

    /// The begin or end of the metric period that decision `k` sees.
    fn schedule_window(&mut self, k: u64, opens: bool) {
        let fleet = &self.config.fleet;
        let before = fleet.metric_delay.0.saturating_add(if opens { fleet.metric_period.0 } else { 0 });
        let at = self.decision_at(k).saturating_sub(before);
        self.schedule(at, if opens { Control::WindowOpens(k) } else { Control::WindowCloses(k) });
    }

    fn act(&mut self, what: Control) -> Result<(), SimulationError> {
        match what {
            Control::Ready(id) => self.make_ready(id),
            Control::WindowOpens(k) => {
                let totals = self.tally();
                self.opened.push_back(totals);
                self.schedule_window(k + 1, true);
                Ok(())
            }
            Control::WindowCloses(k) => {
                let totals = self.tally();
                self.closed.push_back(totals);
                self.schedule_window(k + 1, false);
                Ok(())
            }
            Control::Decide(k) => self.decide(k),
            Control::Grid(step) => {
                self.mark_grid();
                self.schedule_grid(step + 1);
                Ok(())
            }
            Control::Horizon => {
                self.horizon = Some(self.tally());
                let types = &self.config.fleet.types;
                for server in self.servers.iter().filter(|s| s.life != Life::Gone) {
                    if let Some(kind) = types.get(server.kind as usize) {
                        self.cost += price(kind, server.launched, self.now);
                    }
                }
                Ok(())
            }
        }
    }

    fn mark_grid(&mut self) {
        let totals = self.tally();
        let before = std::mem::replace(&mut self.grid, totals);
        let span = totals.at.saturating_sub(before.at);
        if span == 0 {
            return;
        }
        let per = |area: u128| area as f64 / span as f64;
        let rps: f64 =
            self.servers.iter().filter(|s| s.life == Life::Ready).map(|s| f64::from(s.slots) * 1e9 / s.pace).sum();
        let line = &mut self.timeline;
        line.t_s.push(totals.at as f64 / 1e9);
        line.arrivals_per_s.push((totals.arrivals - before.arrivals) as f64 * 1e9 / span as f64);
        line.capacity.push(per(totals.ready - before.ready));
        line.desired.push(f64::from(self.desired));
        line.in_system.push(per(totals.in_system - before.in_system));
        line.busy.push(per(totals.busy - before.busy));
        line.capacity_rps.push(if self.mean_work > 0.0 { rps / self.mean_work } else { 0.0 });
    }
}

/// A completion as one word: time, then the request's serial, then where its job is. Words sort as events do.
#[inline]
fn completion(now: u64, pace: f64, job: &Job, id: u32) -> u128 {
    let lasts = (job.work * pace + 0.5) as u64;
    let at = now.saturating_add(lasts).min(NEVER - 1);
    (u128::from(at) << 64) | (u128::from(job.serial) << JOB_BITS) | u128::from(id)
}
