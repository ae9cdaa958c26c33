//! The way of a request: it arrives, one or more attempts are sent, the first answer counts.

use super::super::engine::Engine;
use super::super::server::Life;
use super::super::service::exp1;
use super::super::{Grant, Hears, Outcome, SimulationError, streams};
use super::AttemptId;
use super::config::{DetailConfig, Discipline, Tokens};
use super::report::DetailResults;
use super::station::Line;
use super::table::{Attempt, Budget, Event, NEVER, NONE, Place, Request, RequestId, Stage, What, Work};
use crate::core::llm::Prompt;
use crate::core::rng::{Rng, stream};
use crate::core::time::Nanos;
use hdrhistogram::Histogram;
use std::collections::{BinaryHeap, VecDeque};

/// So many requests may be in the system.
const MOST: usize = (1 << 22) - 1;
/// How often a balancer is asked again when it chooses the server of the attempt before, as Envoy does.
const REDRAWS: u32 = 5;
/// Answers before a quantile of them means something, and until it is looked up again.
const FEW: u64 = 100;
const LOOK: u64 = 256;

pub(super) type Done = Result<(), SimulationError>;

/// The state of a detailed run beside the engine's.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(super) config: DetailConfig,
    /// What the balancer wants to hear of prompts, if it goes by them.
    pub(super) hears: Option<Hears>,
    pub(super) events: BinaryHeap<Event>,
    number: u64,
    pub(super) requests: Vec<Request>,
    free_requests: Vec<u32>,
    pub(super) attempts: Vec<Attempt>,
    free_attempts: Vec<u32>,
    pub(super) places: Vec<Option<Place>>,
    /// Shares of the classes, summed up.
    shares: Vec<f64>,
    class_rng: Rng,
    /// Delays, backoff and think times.
    wait_rng: Rng,
    pub(super) fault_rng: Rng,
    /// Whom to probe.
    pub(super) probe_rng: Rng,
    pub(super) pool: Line,
    pub(super) pooled: Vec<u32>,
    pub(super) asking: VecDeque<u32>,
    retries: Budget,
    hedges: Budget,
    seen: Histogram<u64>,
    hedge_after: u64,
    /// Sum and number of times in service.
    pub(super) service: (u128, u64),
    /// Seconds of work that requests took from servers.
    pub(super) delivered: f64,
    pub(super) results: DetailResults,
}

impl Detail {
    pub(crate) fn new(base: &mut Engine, config: DetailConfig) -> Result<Detail, SimulationError> {
        let seed = base.config.seed;
        let mut sum = 0.0;
        let shares = config
            .classes
            .iter()
            .map(|class| {
                sum += class.share;
                sum
            })
            .collect();
        let names = config.classes.iter().map(|class| class.name.clone()).collect();
        let retry = config.retry.map_or((None, 0.0), |r| (r.budget, r.burst));
        let hedge = config.hedge.map_or((None, 0.0), |h| (h.budget, h.burst));
        let seen = Histogram::new_with_bounds(1, 1_000_000_000_000_000_000, 3)
            .map_err(|_| SimulationError::Broken("a histogram's bounds"))?;
        let hedge_after = config.hedge.and_then(|h| h.after).map_or(NEVER, |after| after.0);
        let mut detail = Detail {
            hears: if matches!(config.discipline, Discipline::Batch(_)) { base.balancer.hears() } else { None },
            events: BinaryHeap::new(),
            number: 0,
            requests: Vec::new(),
            free_requests: Vec::new(),
            attempts: Vec::new(),
            free_attempts: Vec::new(),
            places: Vec::new(),
            shares,
            class_rng: Rng::new(stream(seed, streams::CLASSES)),
            wait_rng: Rng::new(stream(seed, streams::WAITS)),
            fault_rng: Rng::new(stream(seed, streams::FAULTS)),
            probe_rng: Rng::new(stream(seed, streams::PROBES)),
            pool: Line::default(),
            pooled: vec![0; 256],
            asking: VecDeque::new(),
            retries: Budget::new(retry.0, retry.1),
            hedges: Budget::new(hedge.0, hedge.1),
            seen,
            hedge_after,
            service: (0, 0),
            delivered: 0.0,
            results: DetailResults::new(names)?,
            config,
        };
        let users = detail.config.users.as_ref().map_or(0, |users| users.count);
        for user in 0..users {
            detail.think(base, user);
        }
        detail.welcome(base)?;
        detail.plan_reports(base);
        Ok(detail)
    }

    /// The next event; false when there is none.
    pub(crate) fn step(&mut self, base: &mut Engine) -> Result<bool, SimulationError> {
        let (own, order) = self.events.peek().map_or((NEVER, 0), |event| (event.at, event.order));
        let control = base.next_control();
        let arrival = base.next_arrival;
        if own == NEVER && control == NEVER && arrival == NEVER {
            return Ok(false);
        }
        if own <= arrival && (own < control || (own == control && order < 2)) {
            if let Some(event) = self.events.pop() {
                base.advance(event.at);
                self.act(base, event.what)?;
            }
        } else if control <= arrival {
            base.control()?;
            self.welcome(base)?;
        } else {
            base.advance(arrival);
            self.arrive(base, NONE)?;
            base.fetch_arrival();
        }
        Ok(true)
    }

    /// What was measured, when the run is over.
    pub(crate) fn finish(mut self) -> Result<DetailResults, SimulationError> {
        let mut offered = 0.0;
        for place in self.places.iter().flatten() {
            match &place.work {
                Work::Station(station) => offered += station.offered,
                Work::Batch(batch) => {
                    self.results.tokens_written += batch.written;
                    self.results.prompt_computed += batch.computed;
                    self.results.prompt_reused += batch.reused;
                    self.results.preemptions += batch.preempted;
                }
            }
        }
        // Work conservation: what busy cores could do is what requests got.
        if (offered - self.delivered).abs() > 1e-6 * (offered + 1.0) {
            return Err(SimulationError::Broken("work: busy servers did more or less than requests got"));
        }
        if self.requests.len() != self.free_requests.len() || self.attempts.len() != self.free_attempts.len() {
            return Err(SimulationError::Broken("a request that never ended"));
        }
        Ok(self.results)
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.number += 1;
        self.events.push(Event { at: at.min(NEVER - 1), order: what.order(), number: self.number, what });
    }

    fn act(&mut self, base: &mut Engine, what: What) -> Done {
        match what {
            What::Server { server, epoch } => self.serve(base, server, epoch),
            What::Answer(id) if self.is(id, Stage::Answering) => self.answered(base, id),
            What::Reach(id) if self.is(id, Stage::Travelling) => self.reach(base, id),
            What::Deadline(id) if self.waits(id) => {
                let server = self.request(id.at)?.live.iter().flatten().next().copied();
                let server = server.and_then(|id| self.attempts.get(id.at as usize)).map_or(NONE, |a| a.server);
                self.conclude(base, id.at, Outcome::TimedOut, server)
            }
            What::Expire(id) => self.expire(base, id),
            What::Hedge(id) if self.waits(id) => self.hedge(base, id.at),
            What::Retry(id) if self.waits(id) => {
                self.results.retries += 1;
                self.send(base, id.at, false)
            }
            What::Think(user) => {
                if base.now < base.duration {
                    self.arrive(base, user)?;
                }
                Ok(())
            }
            What::Crash(server) => self.crash(base, server),
            What::Detect(server) => self.detect(base, server),
            What::Restore(server) => self.restore(base, server),
            What::Neighbour { server, on } => self.neighbour(base, server, on),
            What::Warm { server, step } => self.warm(base, server, step),
            What::Report => self.report_all(base),
            _ => Ok(()),
        }
    }

    fn is(&self, id: AttemptId, stage: Stage) -> bool {
        self.attempts.get(id.at as usize).is_some_and(|a| a.generation == id.generation && a.stage == stage)
    }

    fn waits(&self, id: RequestId) -> bool {
        self.requests.get(id.at as usize).is_some_and(|r| r.generation == id.generation && !r.done)
    }

    pub(super) fn attempt(&mut self, id: AttemptId) -> Result<&mut Attempt, SimulationError> {
        let found = self.attempts.get_mut(id.at as usize).filter(|a| a.generation == id.generation);
        found.ok_or(SimulationError::Broken("an attempt"))
    }

    pub(super) fn request(&mut self, at: u32) -> Result<&mut Request, SimulationError> {
        self.requests.get_mut(at as usize).ok_or(SimulationError::Broken("a request"))
    }

    fn think(&mut self, base: &Engine, user: u32) {
        let Some(users) = &self.config.users else { return };
        let pause = users.think.sample(&mut self.wait_rng);
        let at = base.now.saturating_add(Nanos::from_secs_f64(pause).0);
        if at < base.duration {
            self.at(at, What::Think(user));
        }
    }

    fn arrive(&mut self, base: &mut Engine, user: u32) -> Done {
        base.serial += 1;
        base.totals.arrivals += 1;
        let total = self.shares.last().copied().unwrap_or(0.0);
        let class = if self.shares.len() > 1 {
            let u = self.class_rng.next_f64() * total;
            self.shares.iter().position(|&sum| u < sum).unwrap_or(self.shares.len() - 1)
        } else {
            0
        };
        let of = self.config.classes.get(class);
        let priority = of.map_or(0, |class| class.priority);
        let mut key = base.key();
        let (mut work, mut input, mut output, mut row) = (0.0, 0, 0, NONE);
        match &self.config.tokens {
            Some(Tokens::Drawn { input: reads, output: writes, prefix }) => {
                input = prefix + reads.sample(&mut base.work_rng);
                output = writes.sample(&mut base.work_rng).max(1);
            }
            Some(Tokens::Rows { lengths, blocks, offsets }) => {
                let at = base.next_work as usize;
                let found = lengths.get(at).ok_or(SimulationError::Broken("a row of the trace"))?;
                (input, output) = (u64::from(found.0), u64::from(found.1).max(1));
                row = at as u32;
                // Requests that share their first block should meet, if the balancer hashes.
                if let (Some(&from), Some(&to)) = (offsets.get(at), offsets.get(at + 1))
                    && let Some(&first) = blocks.get(from..to).and_then(<[u64]>::first)
                {
                    key = first;
                }
            }
            None => {
                work = match of.and_then(|class| class.work.as_ref()) {
                    Some(law) => law.sample(&mut base.work_rng),
                    None => base.config.work.sample(base.next_work, &mut base.work_rng),
                };
            }
        }
        if output > 0 {
            work = (input + output) as f64;
        }
        base.begin();
        base.in_system += 1;
        self.retries.earn();
        self.hedges.earn();
        let mut request = Request {
            generation: 0,
            done: false,
            serial: base.serial,
            arrival: base.now,
            work,
            key,
            class: class as u32,
            priority,
            user,
            sent: 0,
            open: 0,
            live: [None; 2],
            last_server: NONE,
            started: NEVER,
            first_token: NEVER,
            hedged: false,
            input,
            output,
            row,
            eta: 0,
        };
        let at = match self.free_requests.pop() {
            Some(at) => {
                let old = self.request(at)?;
                request.generation = old.generation;
                *old = request;
                at
            }
            None if self.requests.len() >= MOST => return Err(SimulationError::TooManyInSystem(MOST as u32)),
            None => {
                self.requests.push(request);
                self.requests.len() as u32 - 1
            }
        };
        let id = RequestId { at, generation: self.request(at)?.generation };
        if base.timeout != NEVER {
            self.at(base.now.saturating_add(base.timeout), What::Deadline(id));
        }
        if self.hedge_after != NEVER {
            self.at(base.now.saturating_add(self.hedge_after), What::Hedge(id));
        }
        self.send(base, at, false)
    }

    /// Sends an attempt of a request.
    fn send(&mut self, base: &mut Engine, at: u32, hedge: bool) -> Done {
        let request = self.request(at)?.clone();
        self.request(at)?.sent += 1;
        self.results.attempts += 1;
        if self.config.pull.is_some() {
            return self.enqueue(base, at);
        }
        let cost = if base.config.cost_is_work { request.work } else { 1.0 };
        let blocks = if self.hears.is_some() { self.whole_blocks(&request) } else { Vec::new() };
        let prompt = Prompt { blocks: &blocks, tokens: request.input };
        let mut granted = None;
        for draw in 0..=REDRAWS {
            let grant = match self.hears {
                Some(_) => base.balancer.acquire_for(prompt, Some(request.key), cost, Nanos(base.now))?,
                None => base.balancer.acquire(Some(request.key), cost, Nanos(base.now))?,
            };
            let Some(grant) = grant else { break };
            let again = grant.server == request.last_server;
            // A retry takes the same server rather than none; a hedge there is worth nothing.
            if again && (draw < REDRAWS || hedge) {
                base.balancer.release(grant, Nanos::ZERO, Outcome::Cancelled, Nanos(base.now))?;
                continue;
            }
            granted = Some(grant);
            break;
        }
        let Some(grant) = granted else {
            if hedge {
                return Ok(());
            }
            return self.lost(base, at, Outcome::Rejected, NONE);
        };
        if hedge {
            self.results.hedges += 1;
        }
        let Some(server) = base.servers.get_mut(grant.server as usize).filter(|s| s.life == Life::Ready) else {
            return Err(SimulationError::Balancer(format!("chose server {}, which takes no work", grant.server)));
        };
        server.held += 1;
        let id = self.open(base, at, grant.server, Some(grant.ticket), hedge)?;
        self.request(at)?.last_server = grant.server;
        self.probe(base)?;
        if let Some(timeout) = self.config.retry.and_then(|retry| retry.attempt_timeout) {
            self.at(base.now.saturating_add(timeout.0), What::Expire(id));
        }
        match self.delay() {
            0 => self.reach(base, id),
            delay => {
                self.at(base.now.saturating_add(delay), What::Reach(id));
                Ok(())
            }
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        match &self.config.network {
            Some(law) => Nanos::from_secs_f64(law.sample(&mut self.wait_rng)).0,
            None => 0,
        }
    }

    pub(super) fn open(
        &mut self,
        base: &mut Engine,
        at: u32,
        server: u32,
        ticket: Option<u64>,
        hedge: bool,
    ) -> Result<AttemptId, SimulationError> {
        let mut work = self.request(at)?.work;
        if self.config.fresh_work && self.request(at)?.sent > 1 {
            let class = self.request(at)?.class as usize;
            work = match self.config.classes.get(class).and_then(|class| class.work.as_ref()) {
                Some(law) => law.sample(&mut self.wait_rng),
                None => base.config.work.sample(work, &mut self.wait_rng),
            };
        }
        let stage = if server == NONE { Stage::Pooled } else { Stage::Travelling };
        let sent_at = base.now;
        let mut attempt = Attempt {
            generation: 0,
            stage,
            request: at,
            server,
            ticket,
            sent_at,
            started: NEVER,
            mark: 0.0,
            work,
            hedge,
            reached: base.now,
            met: 0,
        };
        let place = match self.free_attempts.pop() {
            Some(place) => {
                if let Some(old) = self.attempts.get_mut(place as usize) {
                    attempt.generation = old.generation;
                    *old = attempt;
                }
                place
            }
            None => {
                self.attempts.push(attempt);
                self.attempts.len() as u32 - 1
            }
        };
        let generation = self.attempts.get(place as usize).map_or(0, |a| a.generation);
        let id = AttemptId { at: place, generation };
        let request = self.request(at)?;
        request.open += 1;
        if let Some(cell) = request.live.iter_mut().find(|cell| cell.is_none()) {
            *cell = Some(id);
        }
        Ok(id)
    }

    /// An attempt is at its server.
    fn reach(&mut self, base: &mut Engine, id: AttemptId) -> Done {
        let attempt = self.attempt(id)?.clone();
        let request = self.request(attempt.request)?.clone();
        let limit = base.servers.get(attempt.server as usize).map_or(0, |s| s.queue_limit);
        let Some(place) = self.places.get_mut(attempt.server as usize).and_then(Option::as_mut) else {
            return Err(SimulationError::Broken("a server"));
        };
        if !place.up {
            return self.fail(base, id, Outcome::Failed);
        }
        let too_long = matches!(&place.work, Work::Batch(batch) if !batch.fits(request.input, request.output));
        let full = !place.room() && place.waiting() >= limit;
        if too_long || full {
            return self.fail(base, id, Outcome::Rejected);
        }
        let met = place.present();
        let here = self.attempt(id)?;
        (here.stage, here.met, here.reached) = (Stage::Waiting, met, base.now);
        self.place_in_line(&request, attempt.server, id)?;
        self.refill(base, attempt.server)
    }

    pub(super) fn answered(&mut self, base: &mut Engine, id: AttemptId) -> Done {
        let attempt = self.attempt(id)?.clone();
        let at = attempt.request;
        if self.request(at)?.done {
            return self.close(base, id, Outcome::Success);
        }
        if attempt.hedge {
            self.results.hedge_wins += 1;
        }
        let request = self.request(at)?.clone();
        if base.counts_from(request.arrival) && request.output > 0 {
            let first = request.first_token.saturating_sub(request.arrival);
            self.results.first_token.saturating_record(first.max(1));
            self.results.first_token_sum += u128::from(first);
            self.results.batch_time += u128::from(base.now.saturating_sub(attempt.started));
            self.results.batch_tokens += request.output;
        }
        let server = attempt.server;
        self.close(base, id, Outcome::Success)?;
        if let Some(q) = self.config.hedge.and_then(|hedge| hedge.quantile) {
            self.seen.saturating_record(base.now.saturating_sub(request.arrival).max(1));
            let n = self.seen.len();
            if n == FEW || (n > FEW && n.is_multiple_of(LOOK)) {
                self.hedge_after = self.seen.value_at_quantile(q);
            }
        }
        self.conclude(base, at, Outcome::Success, server)
    }

    fn hedge(&mut self, base: &mut Engine, at: u32) -> Done {
        let request = self.request(at)?;
        if request.hedged || request.open != 1 {
            return Ok(());
        }
        request.hedged = true;
        if !self.hedges.spend() {
            self.results.hedges_denied += 1;
            return Ok(());
        }
        self.send(base, at, true)
    }

    /// An attempt got no answer in its time.
    fn expire(&mut self, base: &mut Engine, id: AttemptId) -> Done {
        match self.attempts.get(id.at as usize) {
            Some(a) if a.generation == id.generation && a.stage != Stage::Free => {}
            _ => return Ok(()),
        }
        let at = self.attempt(id)?.request;
        if self.request(at)?.done {
            return Ok(());
        }
        self.withdraw(base, id)?;
        self.fail(base, id, Outcome::TimedOut)
    }

    /// An attempt that its server no longer has has failed.
    pub(super) fn fail(&mut self, base: &mut Engine, id: AttemptId, outcome: Outcome) -> Done {
        let attempt = self.attempt(id)?;
        let (at, server) = (attempt.request, attempt.server);
        let generation = self.request(at)?.generation;
        self.close(base, id, outcome)?;
        if !self.waits(RequestId { at, generation }) || self.request(at)?.open > 0 {
            return Ok(());
        }
        self.lost(base, at, outcome, server)
    }

    /// No attempt is under way any more: another one, or the end.
    pub(super) fn lost(&mut self, base: &mut Engine, at: u32, outcome: Outcome, server: u32) -> Done {
        let (sent, generation) = (self.request(at)?.sent, self.request(at)?.generation);
        if let Some(retry) = self.config.retry
            && sent < retry.attempts
        {
            if self.retries.spend() {
                let power = f64::from(2u32.saturating_pow(sent.min(20))) - 1.0;
                let most = retry.backoff.0 as f64 * power;
                let pause = (self.wait_rng.next_f64() * most) as u64;
                self.at(base.now.saturating_add(pause), What::Retry(RequestId { at, generation }));
                return Ok(());
            }
            self.results.retries_denied += 1;
        }
        self.conclude(base, at, outcome, server)
    }

    /// Gives an attempt back to the balancer and forgets it.
    fn close(&mut self, base: &mut Engine, id: AttemptId, outcome: Outcome) -> Done {
        let attempt = self.attempt(id)?;
        attempt.generation = attempt.generation.wrapping_add(1);
        attempt.stage = Stage::Free;
        let (at, server, ticket) = (attempt.request, attempt.server, attempt.ticket);
        let latency = base.now.saturating_sub(attempt.sent_at);
        self.free_attempts.push(id.at);
        let request = self.request(at)?;
        request.open -= 1;
        for cell in &mut request.live {
            if *cell == Some(id) {
                *cell = None;
            }
        }
        if request.done && request.open == 0 {
            request.generation = request.generation.wrapping_add(1);
            self.free_requests.push(at);
        }
        if let Some(ticket) = ticket {
            base.balancer.release(Grant { server, ticket }, Nanos(latency), outcome, Nanos(base.now))?;
        }
        if let Some(of) = base.servers.get_mut(server as usize) {
            of.held = of.held.saturating_sub(1);
            base.leave_if_drained(server)?;
        }
        Ok(())
    }

    /// A request has ended.
    fn conclude(&mut self, base: &mut Engine, at: u32, outcome: Outcome, server: u32) -> Done {
        let request = self.request(at)?;
        request.done = true;
        let live = request.live;
        let request = request.clone();
        let latency = base.now - request.arrival;
        let wait = request.started.min(base.now) - request.arrival;
        base.in_system -= 1;
        base.spent += u128::from(latency);
        let of = self.config.classes.get(request.class as usize);
        let slo = of.and_then(|class| class.slo).map_or(base.slo, |slo| slo.0);
        let server = (server != NONE).then_some(server);
        base.record(request.serial, request.arrival, wait, latency, server, outcome, slo);
        if base.counts_from(request.arrival)
            && let Some(class) = self.results.classes.get_mut(request.class as usize)
        {
            class.requests.record(latency, wait, outcome, slo);
        }
        if request.open == 0 {
            let request = self.request(at)?;
            request.generation = request.generation.wrapping_add(1);
            self.free_requests.push(at);
        }
        let cancels = outcome != Outcome::Success || self.config.hedge.is_none_or(|hedge| hedge.cancel);
        let how = if outcome == Outcome::Success { Outcome::Cancelled } else { outcome };
        for id in live.into_iter().flatten().filter(|_| cancels) {
            self.withdraw(base, id)?;
            self.close(base, id, how)?;
        }
        if request.user != NONE {
            self.think(base, request.user);
        }
        Ok(())
    }

    /// A time of this mean, exponential, not shorter than a nanosecond.
    pub(super) fn spell(&mut self, mean_s: f64) -> u64 {
        Nanos::from_secs_f64(mean_s * exp1(&mut self.fault_rng)).0.max(1)
    }
}
