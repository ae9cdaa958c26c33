//! Passive health in a pool: what the ends of requests make of each slot, who is out because of it, and when that changes.
//!
//! A release counts without a lock. Only what may change somebody's standing takes the table, which is held for moments;
//! it sets the flag of the cell at once, and the next pick publishes what follows from it.

use super::common::Common;
use super::lease::Outcome;
use super::members::{Place, Writer};
use super::options::{Options, Watching};
use super::warmth::BY_A_PICK;
use super::writer::Pool;
use crate::core::endpoints::endpoint::MaxFails;
use crate::core::endpoints::{Block, Cell, Health, Meter};
use crate::core::health::breaker::{Breaker, CircuitBreaker, End, Phase};
use crate::core::health::max_fails::Peer;
use crate::core::health::outlier::{Detector, OutlierDetection, Reason, Volume};
use crate::core::pickers::Choice;
use crate::core::rng;
use crate::core::sync::{AtomicBool, AtomicU64, Joint as Jointly, Mode, Mutex, Ordering};
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// The longest rest that a Retry-After asks for, linkerd's own.
const LONGEST_REST: Nanos = Nanos(300_000_000_000);

/// An instant that never comes, and still makes picks look at the clock.
const NEVER: Nanos = Nanos(u64::MAX - 1);

/// How a request ended, as far as passive health cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    /// An answer that tells of failure, of a gateway or not.
    Bad(bool),
    /// No answer.
    Unreached,
    Neither,
}

impl Kind {
    fn of(outcome: Outcome, status: Option<u16>) -> Kind {
        match (outcome, status) {
            (Outcome::Success, _) => Kind::Good,
            (Outcome::Failure | Outcome::Timeout, None) => Kind::Unreached,
            (Outcome::Failure | Outcome::Timeout, Some(status)) => Kind::Bad(matches!(status, 502..=504)),
            (Outcome::Rejected | Outcome::Cancelled | Outcome::Dropped, _) => Kind::Neither,
        }
    }

    fn end(self) -> End {
        match self {
            Kind::Good => End::Good,
            Kind::Bad(_) | Kind::Unreached => End::Bad,
            Kind::Neither => End::Neither,
        }
    }
}

/// What passive health says of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ejection {
    /// When it is back, if it is out now.
    pub until: Option<Nanos>,
    /// How often it has been put out.
    pub times: u64,
    /// Where its circuit breaker stands, if it has one.
    pub breaker: Option<Phase>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seat {
    rule: Option<MaxFails>,
    weight: f64,
    peer: Peer,
    breaker: Breaker,
    rest: Nanos,
    out: bool,
    times: u64,
}

pub(super) struct Table {
    seats: Vec<Option<Seat>>,
    count: usize,
    detector: Option<Detector>,
    breaker: Option<CircuitBreaker>,
}

/// See the top of this file.
pub(super) struct Passive {
    on: AtomicBool,
    /// Whether every end of a request is looked at closely.
    closely: AtomicBool,
    /// Whether somebody is on probation, so that choices are looked at.
    alert: AtomicBool,
    /// Whether somebody's standing has changed since the last snapshot.
    pub(super) stale: AtomicBool,
    next: AtomicU64,
    outlier: Option<OutlierDetection>,
    pub(super) table: Mutex<Table>,
    /// Where several processes have the table in common.
    pub(super) common: Option<Common>,
}

impl Passive {
    pub fn new(options: &Options, common: Option<Common>) -> Passive {
        let outlier = match options.passive {
            Some(Watching::Outliers(config)) => Some(config),
            _ => None,
        };
        let detector = outlier.map(|config| Detector::new(config, rng::stream(options.seed, 0x6f75_746c), Nanos::ZERO));
        let table = Table { seats: Vec::new(), count: 0, detector, breaker: options.circuit_breaker };
        Passive {
            on: AtomicBool::new(false),
            closely: AtomicBool::new(false),
            alert: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            next: AtomicU64::new(u64::MAX),
            outlier,
            table: Mutex::new(table),
            common,
        }
    }

    /// When it has something to do next.
    pub fn next(&self) -> u64 {
        if self.stale.load(Ordering::Acquire) { 0 } else { self.next.load(Ordering::Acquire) }
    }

    pub(super) fn settle(&self, table: &Table, block: &Block, changed: bool) {
        if changed {
            self.stale.store(true, Ordering::Release);
        }
        self.alert.store(table.alert(block), Ordering::Release);
        self.next.store(table.next(block).0, Ordering::Release);
    }

    /// Takes the endpoints in as they are now. Gives who is out, and who asked for a rest, by place; empty when passive
    /// health is off.
    pub fn verdicts<P>(
        &self,
        places: &[Place<P>],
        block: &mut Block,
        options: &Options,
        now: Nanos,
        edits: bool,
    ) -> Vec<(bool, bool)> {
        let own = |place: &Place<P>| place.endpoint.passive.is_some();
        let wears = matches!(options.passive, Some(Watching::MaxFails(_))) || places.iter().any(own);
        if !wears && options.passive.is_none() && options.circuit_breaker.is_none() && !self.on.load(Ordering::Relaxed)
        {
            return Vec::new();
        }
        block.measure(wears);
        self.on.store(true, Ordering::Release);
        self.closely.store(wears || options.circuit_breaker.is_some(), Ordering::Release);
        let work = |table: &mut Table| {
            let verdicts = table.take_in(places, block, options, now);
            self.stale.store(false, Ordering::Release);
            self.settle(table, block, false);
            verdicts
        };
        // Who only follows what others have changed must not put back who they have taken away.
        if edits { self.with(work) } else { self.apart(work) }
    }
}

impl Table {
    /// Who is out, by slot.
    pub fn standings(&self) -> Vec<bool> {
        self.seats.iter().map(|seat| seat.as_ref().is_some_and(|seat| seat.out || seat.rest > Nanos::ZERO)).collect()
    }

    /// What of it travels.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&(&self.seats, self.count, &self.detector)).unwrap_or_default()
    }

    /// Takes in what another process has made of it; false for what cannot be.
    pub fn take_bytes(&mut self, bytes: &[u8]) -> bool {
        let Ok((seats, count, detector)) = postcard::from_bytes::<(Vec<Option<Seat>>, usize, Option<Detector>)>(bytes)
        else {
            return false;
        };
        let detector = match (&self.detector, detector) {
            (Some(own), Some(theirs)) => Some(theirs.configured(*own.config())),
            (None, None) => None,
            _ => return false,
        };
        (self.seats, self.count, self.detector) = (seats, count, detector);
        true
    }

    fn take_in<P>(&mut self, places: &[Place<P>], block: &Block, options: &Options, now: Nanos) -> Vec<(bool, bool)> {
        let most = places.iter().map(|p| p.slot as usize + 1).max().unwrap_or(0).max(self.seats.len());
        let mut seats: Vec<Option<Seat>> = vec![None; most];
        for place in places {
            let mut seat = self.seats.get_mut(place.slot as usize).and_then(Option::take).unwrap_or_default();
            seat.rule = place.endpoint.passive.or(match options.passive {
                Some(Watching::MaxFails(rule)) => Some(rule),
                _ => None,
            });
            seat.weight = place.endpoint.weight;
            if let Some(detector) = &mut self.detector {
                // Who has a rule of its own is not compared with the others.
                if seat.rule.is_none() { detector.join(place.slot) } else { detector.leave(place.slot) }
            }
            if let Some(to) = seats.get_mut(place.slot as usize) {
                *to = Some(seat);
            }
        }
        for (slot, gone) in (0u32..).zip(&self.seats) {
            if gone.is_some()
                && let Some(detector) = &mut self.detector
            {
                detector.leave(slot);
            }
        }
        (self.seats, self.count) = (seats, places.len());
        places
            .iter()
            .map(|place| {
                let out = self.out(place.slot, block);
                let Some(Some(seat)) = self.seats.get_mut(place.slot as usize) else { return (false, false) };
                seat.out = out;
                (out, seat.rest > now)
            })
            .collect()
    }

    fn out(&self, slot: u32, block: &Block) -> bool {
        let shut = |meter: &Meter| !meter.retry.passable() || !meter.breaker.passable();
        self.detector.as_ref().is_some_and(|d| d.out(slot)) || block.meter(slot).is_some_and(shut)
    }

    fn alert(&self, block: &Block) -> bool {
        let alert = |slot| block.meter(slot).is_some_and(|meter| meter.alert.load(Ordering::Relaxed) != 0);
        (0u32..).zip(&self.seats).any(|(slot, seat)| seat.is_some() && alert(slot))
    }

    fn next(&self, block: &Block) -> Nanos {
        let mut next = self.detector.as_ref().map_or(Nanos::MAX, Detector::next);
        for (slot, seat) in (0u32..).zip(&self.seats) {
            let Some(seat) = seat else { continue };
            let Some(meter) = block.meter(slot) else { continue };
            if seat.rest > Nanos::ZERO {
                next = next.min(seat.rest);
            }
            if let Some(rule) = seat.rule.filter(|rule| seat.peer.failed(rule)) {
                next = next.min(if meter.retry.passable() { NEVER } else { seat.peer.back(&rule) });
            }
            if let Some(rule) = &self.breaker {
                next = next.min(seat.breaker.next(rule));
            }
            if meter.alert.load(Ordering::Relaxed) != 0 {
                next = next.min(NEVER);
            }
        }
        next
    }

    /// Follows the state of a seat with its gates, its alert and its cell; whether its standing has changed.
    fn follow(&mut self, slot: u32, block: &Block) -> bool {
        let out = self.out(slot, block);
        let Some(Some(seat)) = self.seats.get_mut(slot as usize) else { return false };
        let Some(meter) = block.meter(slot) else { return false };
        let broken = self.breaker.is_some() && !seat.breaker.quiet();
        meter.alert.store(u64::from(seat.peer.fails > 0 || broken), Ordering::Release);
        let changed = out != seat.out;
        seat.out = out;
        if out {
            block.block(slot, true);
        }
        changed
    }

    /// A request ended.
    fn end(&mut self, slot: u32, block: &Block, kind: Kind, start: Option<Nanos>, now: Nanos) -> bool {
        let alone = self.count == 1;
        let Some(Some(seat)) = self.seats.get_mut(slot as usize) else { return false };
        let Some(meter) = block.meter(slot) else { return false };
        // nginx never marks the only server there is.
        if let Some(rule) = seat.rule.filter(|_| !alone) {
            match kind.end() {
                End::Bad => {
                    seat.peer.failure(now);
                    let wear = rule.wear(seat.weight);
                    block.wear(slot, wear, seat.weight as u64);
                    if seat.peer.failed(&rule) {
                        meter.retry.allow(0);
                        seat.times += u64::from(!seat.out || seat.peer.fails == rule.max_fails);
                    }
                }
                End::Good => {
                    seat.peer.success();
                    if !seat.peer.failed(&rule) {
                        meter.retry.open();
                    }
                }
                End::Neither => {}
            }
        }
        if let Some(rule) = &self.breaker {
            let before = seat.breaker.phase;
            let changed = seat.breaker.end(rule, kind.end(), start, now);
            match seat.breaker.phase {
                Phase::Open(_) if changed => {
                    meter.breaker.allow(0);
                    seat.times += 1;
                }
                Phase::Closed if changed => meter.breaker.open(),
                Phase::HalfOpen(since) if before == seat.breaker.phase && start.is_some_and(|s| s >= since) => {
                    meter.breaker.give(rule.probes);
                }
                _ => {}
            }
        }
        self.follow(slot, block)
    }

    /// What time has brought; whether somebody's standing has changed.
    fn tick<M: Mode>(&mut self, block: &Block, latency: impl Fn(&Cell) -> Option<f64>, now: Nanos) -> bool {
        let mut changed = false;
        if let Some(detector) = &mut self.detector
            && detector.next() <= now
        {
            let mut volumes = Vec::new();
            for (slot, seat) in (0u32..).zip(&self.seats) {
                if let (Some(_), Some(meter)) = (seat, block.meter(slot)) {
                    let take = |count| M::replace(count, 0);
                    let (successes, failures) = (take(&meter.successes), take(&meter.failures));
                    let unreached = take(&meter.unreached);
                    let latency = block.cell(slot).and_then(&latency);
                    volumes.push((slot, Volume { successes, failures, unreached, latency }));
                }
            }
            for slot in detector.tick(&volumes, now) {
                changed = true;
                if let Some(meter) = block.meter(slot).filter(|_| !detector.out(slot)) {
                    meter.calm();
                }
            }
        }
        for slot in 0..self.seats.len() as u32 {
            let Some(Some(seat)) = self.seats.get_mut(slot as usize) else { continue };
            let Some(meter) = block.meter(slot) else { continue };
            if seat.rest > Nanos::ZERO && seat.rest <= now {
                seat.rest = Nanos::ZERO;
                changed = true;
            }
            if let Some(rule) = seat.rule
                && seat.peer.failed(&rule)
                && !meter.retry.passable()
                && seat.peer.usable(&rule, now)
            {
                meter.retry.allow(1);
            }
            if let Some(rule) = &self.breaker
                && seat.breaker.tick(rule, now)
            {
                meter.breaker.allow(rule.probes);
            }
            changed |= self.follow(slot, block);
        }
        changed
    }
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// Whether ends of requests are to be told by [`Pool::note`].
    #[inline(always)]
    pub fn watched(&self) -> bool {
        self.passive.on.load(Ordering::Relaxed)
    }

    /// Whether choices are to be looked at, since somebody is on probation.
    #[inline(always)]
    pub(super) fn alert(&self) -> bool {
        self.passive.alert.load(Ordering::Relaxed)
    }

    /// Whether picks are to be made one by one, since somebody is on probation.
    pub fn on_probation(&self) -> bool {
        self.watched() && self.passive.next() != u64::MAX
    }

    /// The intervals of outlier detection are counted from here.
    pub fn watch_from(&self, now: Nanos) {
        if !self.watched() {
            return;
        }
        let snapshot = self.current.load_full();
        self.passive.with(|table| {
            if let Some(detector) = &mut table.detector {
                detector.start(now);
            }
            self.passive.settle(table, &snapshot.view.block, false);
        });
        self.look_at(self.passive.next());
    }

    /// Tells passive health how a request ended: after [`Pool::settle`], where [`Pool::watched`]. `status` is the answer's,
    /// if there was one; `start` when it began, if that is known; `hint` the Retry-After in seconds.
    #[allow(clippy::too_many_arguments)]
    pub fn note(
        &self,
        slot: u32,
        outcome: Outcome,
        status: Option<u16>,
        hint: Option<f64>,
        start: Option<Nanos>,
        now: Nanos,
    ) {
        let snapshot = self.current.load();
        let block = &snapshot.view.block;
        let Some(meter) = block.meter(slot) else { return };
        let kind = Kind::of(outcome, status);
        let joint = self.joint.is_some();
        let outlier = self.passive.outlier.as_ref();
        let reason = match kind {
            Kind::Good => {
                if joint {
                    meter.success::<Jointly>()
                } else {
                    meter.success::<M>()
                }
                None
            }
            Kind::Unreached if outlier.is_some_and(|o| o.split_external_local_origin_errors) => {
                let limit = outlier.map_or(0, |o| o.consecutive_local_origin_failure);
                let missed = if joint { meter.miss::<Jointly>() } else { meter.miss::<M>() };
                (missed == u64::from(limit)).then_some(Reason::LocalOrigin)
            }
            Kind::Bad(_) | Kind::Unreached => {
                let gateway = kind != Kind::Bad(false);
                let answered = kind != Kind::Unreached;
                let (in_a_row, of_gateways) = if joint {
                    meter.failure::<Jointly>(gateway, answered)
                } else {
                    meter.failure::<M>(gateway, answered)
                };
                outlier.and_then(|o| {
                    if in_a_row == u64::from(o.consecutive_5xx) {
                        Some(Reason::Consecutive5xx)
                    } else {
                        (gateway && of_gateways == u64::from(o.consecutive_gateway_failure))
                            .then_some(Reason::GatewayFailure)
                    }
                })
            }
            Kind::Neither => None,
        };
        let rest = hint.filter(|_| outcome == Outcome::Rejected);
        let bad = kind.end() == End::Bad && self.passive.closely.load(Ordering::Acquire);
        let shares = self.options.circuit_breaker.is_some_and(|b| b.failure_share.is_some());
        if reason.is_some() || rest.is_some() || bad || shares || meter.alert.load(Ordering::Acquire) != 0 {
            self.note_closely(block, slot, meter, kind, reason, rest, start, now);
        }
    }

    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn note_closely(
        &self,
        block: &Block,
        slot: u32,
        meter: &Meter,
        kind: Kind,
        reason: Option<Reason>,
        rest: Option<f64>,
        start: Option<Nanos>,
        now: Nanos,
    ) {
        self.passive.with(|table| {
            let mut changed = false;
            if let (Some(reason), Some(detector)) = (reason, &mut table.detector) {
                detector.crossed(slot, reason, now);
                // Counted anew, ejected or not: as Envoy does it, so that the next try comes after as many failures again.
                let streak = match reason {
                    Reason::Consecutive5xx => &meter.in_a_row,
                    Reason::GatewayFailure => &meter.gateway_in_a_row,
                    Reason::LocalOrigin => &meter.unreached_in_a_row,
                };
                streak.store(0, Ordering::Relaxed);
            }
            if let (Some(seconds), Some(Some(seat))) = (rest, table.seats.get_mut(slot as usize)) {
                seat.rest = seat.rest.max(now.plus(Nanos::from_secs_f64(seconds).min(LONGEST_REST)));
                changed = true;
            }
            changed |= table.end(slot, block, kind, start, now);
            self.passive.settle(table, block, changed);
        });
        self.look_at(self.passive.next());
    }

    /// Whether a chosen endpoint may have this request: of one on probation only as many as are let through. Called for
    /// every choice where [`Pool::alert`].
    #[inline(always)]
    pub(super) fn admit(&self, block: &Block, meter: &Meter, choice: Choice, now: Nanos) -> bool {
        meter.alert.load(Ordering::Acquire) == 0 || self.admit_probe(block, meter, choice, now)
    }

    #[inline(never)]
    fn admit_probe(&self, block: &Block, meter: &Meter, choice: Choice, now: Nanos) -> bool {
        let refuse = || {
            block.block(choice.slot, true);
            false
        };
        let Some(probes) = meter.breaker.pass() else { return refuse() };
        let Some(retries) = meter.retry.pass() else {
            meter.breaker.give(u32::MAX);
            return refuse();
        };
        self.passive.with(|table| {
            if let Some(Some(seat)) = table.seats.get_mut(choice.slot as usize)
                && let Some(rule) = seat.rule
                && now != Nanos::MAX
            {
                seat.peer.picked(&rule, now);
            }
            if probes == Some(0) || retries == Some(0) {
                let changed = table.follow(choice.slot, block);
                self.passive.settle(table, block, changed);
                self.look_at(self.passive.next());
            }
        });
        true
    }

    /// Word that an endpoint is healthy: it need not stay out for what its requests told.
    pub(super) fn heard_healthy(&self, block: &Block, slot: u32, now: Nanos) {
        let ends = self.passive.outlier.is_some_and(|o| o.successful_active_health_check_uneject_host);
        if ends && self.watched() {
            let back = self.passive.with(|table| table.detector.as_mut().is_some_and(|d| d.uneject(slot, now)));
            if let Some(meter) = block.meter(slot).filter(|_| back) {
                meter.calm();
            }
        }
    }

    /// Does what is due by now. A pick may come here, so nothing is waited for.
    pub(super) fn watch(&self, now: Nanos) {
        if !self.watched() {
            return;
        }
        if self.passive.next() <= now.0 {
            let snapshot = self.current.load();
            let block = &snapshot.view.block;
            if let Some(mut table) = self.passive.table.try_lock() {
                let looks = self.passive.outlier.is_some_and(|o| o.latency_factor.is_some());
                // As it was when the last answer came: an estimate that has aged says less of each.
                let latency = |cell: &Cell| {
                    let bits = cell.rtt.load(Ordering::Relaxed);
                    (looks && bits != 0).then(|| f64::from_bits(bits))
                };
                self.passive.with_locked(&mut table, |table| {
                    let changed = match self.joint {
                        Some(_) => table.tick::<Jointly>(block, latency, now),
                        None => table.tick::<M>(block, latency, now),
                    };
                    self.passive.settle(table, block, changed);
                });
            }
        }
        if self.passive.stale.load(Ordering::Acquire)
            && let Some(mut writer) = self.writer.try_lock()
        {
            writer.now = writer.now.max(now);
            writer.generation += 1;
            self.publish(&mut writer, true, |_| BY_A_PICK);
        }
    }

    /// What passive health says of a slot.
    pub(super) fn ejection(&self, slot: u32) -> Ejection {
        if !self.watched() {
            return Ejection::default();
        }
        let table = self.passive.table.lock();
        let Some(Some(seat)) = table.seats.get(slot as usize) else { return Ejection::default() };
        let detector = table.detector.as_ref();
        let failed = seat.rule.filter(|rule| seat.peer.failed(rule)).map(|rule| seat.peer.back(&rule));
        let open = match seat.breaker.phase {
            Phase::Open(until) => Some(until),
            _ => None,
        };
        Ejection {
            until: detector.and_then(|d| d.back_at(slot)).max(failed).max(open),
            times: seat.times + detector.and_then(|d| d.host(slot)).map_or(0, |host| host.ejections),
            breaker: table.breaker.map(|_| seat.breaker.phase),
        }
    }
}

impl<P: Clone> Writer<P> {
    /// What health each endpoint has with what passive health says, and whether it rests: by place.
    pub fn standings(&mut self, options: &Options, passive: &Passive) -> Vec<(Health, bool)> {
        let verdicts = passive.verdicts(&self.places, &mut self.block, options, self.now, self.edits);
        let mut standings: Vec<(Health, bool)> = self.places.iter().map(|p| (p.health, false)).collect();
        for (standing, (out, rests)) in standings.iter_mut().zip(verdicts) {
            *standing = (if out { Health::Unhealthy } else { standing.0 }, rests);
        }
        // A rest is asked for, not ordered: who is the only one left goes on.
        let usable = |(place, (health, rests)): (&Place<P>, &(Health, bool))| {
            !rests && *health != Health::Unhealthy && place.drain.is_none() && place.endpoint.weight > 0.0
        };
        if !self.places.iter().zip(&standings).any(usable) {
            standings.iter_mut().for_each(|standing| standing.1 = false);
        }
        standings
    }
}
