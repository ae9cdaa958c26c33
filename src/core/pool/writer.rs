//! The pool: who is in it, in which state, and the one place that changes it.

use super::joint::Joint;
use super::lease::{Entry, Ledger, Outcome};
use super::members::{Place, Writer};
use super::options::Options;
use super::passive::Passive;
use super::report::Report;
use super::session::Standing;
use super::waiting::Waited;
use super::warmth::Warming;
use crate::core::endpoints::counters::UNITS;
use crate::core::endpoints::endpoint::check_weight;
use crate::core::endpoints::{Averages, Block, Endpoint, Health, Order, Snapshot, Work};
use crate::core::error::{ConfigError, LeaseError, MetricError};
use crate::core::sync::{AtomicBool, AtomicU64, Joint as Jointly, Mode, Mutex, MutexGuard, Ordering};
use crate::core::time::Nanos;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

/// Publishes what [`Rebuild::prepare`] prepared.
pub(super) type Publish = Box<dyn FnOnce() + Send>;

/// A picker as its pool sees it.
pub(super) trait Rebuild<P>: Send + Sync {
    /// Roughly how long preparing takes, in nanoseconds.
    fn build_cost(&self, snapshot: &Snapshot<P>) -> u64;
    /// Prepares a state for a snapshot.
    fn prepare(self: Arc<Self>, snapshot: &Arc<Snapshot<P>>) -> Publish;
    /// Frees old states with which nobody picks any more.
    fn purge(&self);
    /// Whether it goes by how warm endpoints are.
    fn warms(&self) -> bool;
    /// Whether a rebuild is due.
    fn outdated(&self, snapshot: &Arc<Snapshot<P>>) -> bool;
    /// Whether a rebuild will be due although nothing changes.
    fn unsettled(&self) -> bool;
    /// Starts chance again.
    fn reseed(&self, seed: u64);
}

/// A change of weight, health or drain rebuilds an index at once up to this many nanoseconds; dearer ones wait for
/// [`Pool::advance`], and until then their picks skip what must not get work.
const AT_ONCE: u64 = 20_000_000;

/// The same for a pool of more than [`MANY`] endpoints, whose snapshot takes a millisecond by itself.
const AT_ONCE_MANY: u64 = 2_000_000;

/// See [`AT_ONCE_MANY`].
const MANY: usize = 2_000;

/// Reports that count, by slot, and until when.
pub(super) type Reports = HashMap<u32, (Report, Nanos)>;

/// A set of endpoints, their counters, and the pickers that follow it.
pub struct Pool<M: Mode, P> {
    pub(super) current: ArcSwap<Snapshot<P>>,
    pub(super) writer: Mutex<Writer<P>>,
    pub(super) ledger: Mutex<Ledger>,
    /// Not the writer's: a pick that drops old ones must not wait for a rebuild. Held by whoever corrects a load.
    pub(super) reports: Mutex<Reports>,
    pub(super) options: Options,
    pub(super) latencies: Averages,
    pub(super) order: Order,
    pub(super) tracks_latency: AtomicBool,
    pub(super) next_change: AtomicU64,
    /// When an endpoint that warms up is due for more.
    pub(super) next_warmth: AtomicU64,
    pub(super) deferred: AtomicBool,
    pub(super) waited: Waited,
    pub(super) passive: Passive,
    /// What several processes have in common, where they have.
    pub(super) joint: Option<Joint>,
    pub(super) mode: PhantomData<M>,
}

impl<M: Mode, P> std::fmt::Debug for Pool<M, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("options", &self.options).finish_non_exhaustive()
    }
}

fn unknown(id: &str) -> ConfigError {
    ConfigError::new("id", format!("{id:?}"), "the id of an endpoint of this pool")
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// A pool of these endpoints.
    ///
    /// # Errors
    /// [`ConfigError`] for options out of range, a weight that cannot be, or an id that occurs twice.
    pub fn new(endpoints: Vec<Endpoint<P>>, options: Options) -> Result<Arc<Pool<M, P>>, ConfigError> {
        let options = options.check()?;
        let mut writer = Writer::new(Block::for_slots(endpoints.len()), options.seed);
        writer.places = writer.placed::<M>(endpoints, &Mutex::default())?;
        Pool::made(writer, options, None)
    }

    pub(super) fn made(
        mut writer: Writer<P>,
        options: Options,
        joint: Option<Joint>,
    ) -> Result<Arc<Pool<M, P>>, ConfigError> {
        let reports = Mutex::new(HashMap::new());
        let common = joint.as_ref().and_then(|joint| joint.common(&writer.block));
        writer.edits = joint.is_none();
        let passive = Passive::new(&options, common);
        let (snapshot, _) = writer.snapshot(&options, &passive, None);
        Ok(Arc::new(Pool {
            current: ArcSwap::from(snapshot),
            writer: Mutex::new(writer),
            ledger: Mutex::new(Ledger::default()),
            reports,
            tracks_latency: AtomicBool::new(false),
            latencies: Averages::new(options.latency),
            order: Order::default(),
            // Zero in a pool of several processes: each of its picks has something to look at.
            next_change: AtomicU64::new(if joint.is_some() { 0 } else { passive.next() }),
            next_warmth: AtomicU64::new(u64::MAX),
            deferred: AtomicBool::new(false),
            waited: Waited::default(),
            passive,
            options,
            joint,
            mode: PhantomData,
        }))
    }

    /// The endpoints as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot<P>> {
        self.current.load_full()
    }

    /// The latencies of the endpoints.
    #[inline(always)]
    pub fn latencies(&self) -> &Averages {
        &self.latencies
    }

    /// In which order endpoints gained and gave back requests.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// From now on leases measure how long they last.
    pub fn track_latency(&self) {
        self.tracks_latency.store(true, Ordering::Release);
    }

    /// Whether leases measure how long they last.
    #[inline(always)]
    pub fn tracks_latency(&self) -> bool {
        self.tracks_latency.load(Ordering::Relaxed)
    }

    /// The instant of the next change that time alone brings; [`Nanos::MAX`] when there is none.
    #[inline(always)]
    pub fn next_change(&self) -> Nanos {
        Nanos(self.next_change.load(Ordering::Relaxed))
    }

    /// Set when a rebuild waits for [`Pool::advance`].
    #[inline(always)]
    pub fn deferred(&self) -> &AtomicBool {
        &self.deferred
    }

    /// Whether a rebuild waits for [`Pool::advance`].
    #[inline(always)]
    pub fn rebuild_waits(&self) -> bool {
        self.deferred.load(Ordering::Relaxed)
    }

    pub(super) fn register<R: Rebuild<P> + 'static>(
        &self,
        make: impl FnOnce(Arc<Snapshot<P>>, u64, u64) -> Arc<R>,
    ) -> Arc<R> {
        let mut writer = self.writer.lock();
        let picker = make(self.current.load_full(), writer.made, writer.seed);
        writer.made += 1;
        let weak: Weak<R> = Arc::downgrade(&picker);
        writer.pickers.retain(|p| p.strong_count() > 0);
        writer.pickers.push(weak);
        picker
    }

    /// Starts the chance of every picker again, from another seed: what a forked child does. Nothing happens when the
    /// fork came in the middle of an update by another thread: that thread is not there to give the lock back.
    pub fn reseed(&self, seed: u64) {
        let Some(mut writer) = self.writer.try_lock() else { return };
        writer.seed = seed;
        writer.pickers.iter().filter_map(Weak::upgrade).for_each(|p| p.reseed(seed));
    }

    /// Changes the pool and publishes what it is then. `alike`: the endpoints stay the same in the same order, so that
    /// what depends on nothing else is taken over.
    fn change<E>(
        &self,
        at_once: u64,
        alike: bool,
        now: Nanos,
        edit: impl FnOnce(&mut Writer<P>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut writer = self.writer.lock();
        writer.now = writer.now.max(now);
        edit(&mut writer)?;
        writer.generation += 1;
        // An update of all endpoints waits for everything, however many there are.
        let at_once = if at_once == AT_ONCE && writer.places.len() > MANY { AT_ONCE_MANY } else { at_once };
        writer.edits = true;
        self.publish(&mut writer, alike, |_| at_once);
        writer.edits = self.joint.is_none();
        Self::purge(writer);
        Ok(())
    }

    /// Frees what no pick needs any more. Not under the lock: it may be anything.
    pub(super) fn purge(writer: MutexGuard<'_, Writer<P>>) {
        let pickers = writer.pickers.clone();
        drop(writer);
        pickers.iter().filter_map(Weak::upgrade).for_each(|picker| picker.purge());
    }

    /// Makes a snapshot and publishes it, and the indexes that may be built for it now: those that cost at most what
    /// `at_once` says of each picker.
    pub(super) fn publish(&self, writer: &mut Writer<P>, alike: bool, at_once: impl Fn(&dyn Rebuild<P>) -> u64) {
        let before = alike.then(|| self.current.load());
        let (snapshot, next) = writer.snapshot(&self.options, &self.passive, before.as_deref().map(|before| &**before));
        writer.pickers.retain(|p| p.strong_count() > 0);
        let publish: Vec<Publish> = writer
            .pickers
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|picker| picker.outdated(&snapshot))
            .filter_map(|picker| {
                if picker.build_cost(&snapshot) <= at_once(&*picker) {
                    return Some(picker.prepare(&snapshot));
                }
                self.deferred.store(true, Ordering::Release);
                None
            })
            .collect();
        // First, so that whoever gets an endpoint from a picker finds its slot here when it gives it back.
        self.current.store(snapshot);
        publish.into_iter().for_each(|publish| publish());
        self.next_warmth.store(next.0, Ordering::Release);
        self.look_at(next.0.min(self.passive.next()));
    }

    /// Time brings something at this instant.
    pub(super) fn look_at(&self, instant: u64) {
        let next = self.joint.as_ref().map_or(&self.next_change, |joint| &joint.next);
        next.fetch_min(instant, Ordering::AcqRel);
    }

    /// Replaces the endpoints. Those whose id stays keep counters, health and drain; new ones start slowly, where the pool
    /// has it so.
    ///
    /// # Errors
    /// [`ConfigError`] for a weight that cannot be or an id that occurs twice; then nothing has changed.
    pub fn update(&self, endpoints: Vec<Endpoint<P>>, now: Nanos) -> Result<(), ConfigError> {
        self.replace(endpoints, now, true)
    }

    /// The same for a pool that is made again, such as a copy: nobody starts slowly.
    ///
    /// # Errors
    /// As for [`Pool::update`].
    pub fn fill(&self, endpoints: Vec<Endpoint<P>>) -> Result<(), ConfigError> {
        self.replace(endpoints, Nanos::ZERO, false)
    }

    fn replace(&self, endpoints: Vec<Endpoint<P>>, now: Nanos, slowly: bool) -> Result<(), ConfigError> {
        self.change(u64::MAX, false, now, |writer| {
            let mut places = writer.placed::<M>(endpoints, &self.reports)?;
            let old: std::collections::HashSet<u32> = writer.places.iter().map(|p| p.slot).collect();
            let cold = self.warming(&writer.places, writer.now).filter(|_| slowly);
            for place in places.iter_mut().filter(|place| !old.contains(&place.slot)) {
                place.warming = cold;
            }
            let stay: std::collections::HashSet<u32> = places.iter().map(|p| p.slot).collect();
            writer.retired.extend(writer.places.iter().map(|p| p.slot).filter(|slot| !stay.contains(slot)));
            self.reports.lock().retain(|slot, _| stay.contains(slot));
            writer.places = places;
            Ok(())
        })
    }

    /// Adds one endpoint, at the end.
    ///
    /// # Errors
    /// [`ConfigError`] for a weight that cannot be or an id that is in the pool.
    pub fn add(&self, endpoint: Endpoint<P>, now: Nanos) -> Result<(), ConfigError> {
        self.change(u64::MAX, false, now, |writer| {
            check_weight("weight", endpoint.weight)?;
            if writer.places.iter().any(|p| p.endpoint.id == endpoint.id) {
                return Err(ConfigError::new("id", format!("{:?}", endpoint.id), "an id that is not in the pool yet"));
            }
            let slot = writer.free_slot::<M>(&self.reports)?;
            let warming = self.warming(&writer.places, writer.now);
            writer.places.push(Place { warming, ..Place::new(endpoint, slot) });
            Ok(())
        })
    }

    /// Takes one endpoint out. Its leases go on and give back what they took.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id.
    pub fn remove(&self, id: &str) -> Result<(), ConfigError> {
        self.change(u64::MAX, false, Nanos::ZERO, |writer| {
            let at = writer.places.iter().position(|p| &*p.endpoint.id == id).ok_or_else(|| unknown(id))?;
            let place = writer.places.remove(at);
            writer.retired.push(place.slot);
            self.reports.lock().remove(&place.slot);
            Ok(())
        })
    }

    fn edit(&self, id: &str, edit: impl FnOnce(&mut Place<P>) -> Result<(), ConfigError>) -> Result<(), ConfigError> {
        self.change(AT_ONCE, true, Nanos::ZERO, |writer| {
            edit(writer.places.iter_mut().find(|p| &*p.endpoint.id == id).ok_or_else(|| unknown(id))?)
        })
    }

    /// Changes a weight; `payload` makes the new payload from the old, or finds that it is not the one that it was made
    /// from: then nothing changes, and the answer is false.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id or a weight that cannot be.
    pub fn set_weight(
        &self,
        id: &str,
        weight: f64,
        payload: impl FnOnce(&P) -> Option<P>,
    ) -> Result<bool, ConfigError> {
        let weight = check_weight("weight", weight)?;
        let done = self.change(AT_ONCE, true, Nanos::ZERO, |writer| {
            let place = writer.places.iter_mut().find(|p| &*p.endpoint.id == id).ok_or_else(|| Some(unknown(id)))?;
            place.endpoint.payload = payload(&place.endpoint.payload).ok_or(None)?;
            place.endpoint.weight = weight;
            Ok(())
        });
        match done {
            Ok(()) => Ok(true),
            Err(None) => Ok(false),
            Err(Some(error)) => Err(error),
        }
    }

    /// Says how an endpoint is. One that was unhealthy and is no longer starts slowly, where the pool has it so.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id.
    pub fn set_health(&self, id: &str, health: Health, now: Nanos) -> Result<(), ConfigError> {
        self.change(AT_ONCE, true, now, |writer| {
            let at = writer.places.iter().position(|p| &*p.endpoint.id == id).ok_or_else(|| unknown(id))?;
            let warming = self.warming(&writer.places, writer.now);
            let successes = |slot| writer.block.cell(slot).map_or(0, |cell| cell.successes.load(Ordering::Acquire));
            if let Some(place) = writer.places.get_mut(at) {
                if health == Health::Unhealthy {
                    place.warming = None;
                } else if place.health == Health::Unhealthy {
                    place.warming = warming.map(|w| Warming { done_before: successes(place.slot), ..w });
                }
                place.health = health;
                if health == Health::Healthy {
                    self.heard_healthy(&writer.block, place.slot, writer.now);
                }
            }
            Ok(())
        })
    }

    /// Gives an endpoint no new work; what it has may go on until the deadline.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id.
    pub fn drain(&self, id: &str, deadline: Nanos) -> Result<(), ConfigError> {
        self.edit(id, |place| {
            place.drain = Some(deadline);
            Ok(())
        })
    }

    /// Takes a drain back.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id.
    pub fn undrain(&self, id: &str) -> Result<(), ConfigError> {
        self.edit(id, |place| {
            place.drain = None;
            Ok(())
        })
    }

    /// Whether a draining endpoint has nothing in flight, or its deadline has passed.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown id, or an endpoint that is not draining.
    pub fn is_drained(&self, id: &str, now: Nanos) -> Result<bool, ConfigError> {
        let writer = self.writer.lock();
        let place = writer.places.iter().find(|p| &*p.endpoint.id == id).ok_or_else(|| unknown(id))?;
        let deadline =
            place.drain.ok_or_else(|| ConfigError::new("id", format!("{id:?}"), "an endpoint that is draining"))?;
        Ok(now >= deadline || writer.block.cell(place.slot).is_none_or(|cell| cell.idle()))
    }

    /// Takes in what others saw of an endpoint. What is sent from here later is added to a reported load, until the
    /// report is older than [`Options::report_ttl`] and the count of this pool alone is used again.
    ///
    /// # Errors
    /// [`MetricError`] for a number that is negative or not finite. An unknown id is [`ConfigError`] inside `Err(Ok)`.
    pub fn observe(&self, id: &str, report: Report, now: Nanos) -> Result<(), Result<ConfigError, MetricError>> {
        report.check().map_err(Err)?;
        let snapshot = self.current.load_full();
        let view = &snapshot.view;
        let place = snapshot.ids.get(id).and_then(|&i| view.slots.get(i as usize));
        let slot = *place.ok_or_else(|| Ok(unknown(id)))?;
        let until = now.plus(self.options.report_ttl);
        let mut reports = self.reports.lock();
        if let Some(cell) = view.block.cell(slot) {
            if let Some(load) = report.load() {
                self.correct(cell, slot, Some((load * UNITS).round() as u64));
                // A later report that says nothing of the load does not make this one younger.
                cell.report_until.store(until.0.max(1), Ordering::Relaxed);
            }
            if let Some(seconds) = report.latency {
                self.latencies.observe(cell, seconds, now);
            }
            self.look_at(until.0);
            report.tell(&view.block, slot, self.latencies.estimate(cell, now), now);
        }
        reports.insert(slot, (report, until));
        Ok(())
    }

    /// What time alone brings: reports that expire, detached leases whose time is over, rebuilds that were put off.
    pub fn advance(&self, now: Nanos) {
        self.rebuild();
        self.expire(now);
    }

    /// The part of [`Pool::advance`] that takes long and changes no counter: the rebuilds that were put off, and those
    /// that would make picks cheaper.
    pub fn rebuild(&self) {
        let writer = self.writer.lock();
        let snapshot = self.current.load_full();
        self.deferred.store(false, Ordering::Release);
        let publish: Vec<Publish> = writer
            .pickers
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|picker| picker.outdated(&snapshot))
            .map(|picker| picker.prepare(&snapshot))
            .collect();
        publish.into_iter().for_each(|publish| publish());
        // What is not settled yet is looked at again.
        if writer.pickers.iter().filter_map(Weak::upgrade).any(|picker| picker.unsettled()) {
            self.deferred.store(true, Ordering::Release);
        }
        Self::purge(writer);
    }

    /// The part of [`Pool::advance`] that changes counters: reports and leases that are too old by now.
    pub fn expire(&self, now: Nanos) {
        if let Some(timeout) = self.options.lease_timeout {
            // Before the first timeout has passed there is nothing that could be that old.
            if let Some(until) = now.0.checked_sub(timeout.0) {
                let expired = self.ledger.lock().expire(Nanos(until));
                for entry in expired {
                    self.settle(entry.slot, entry.units, Outcome::Timeout, None, None, now);
                    if self.watched() {
                        self.note(entry.slot, Outcome::Timeout, None, None, Some(entry.start), now);
                    }
                }
            }
        }
        let snapshot = self.current.load_full();
        let mut next = u64::MAX;
        let mut reports = self.reports.lock();
        reports.retain(|&slot, (_, until)| {
            let Some(cell) = snapshot.view.block.cell(slot) else { return false };
            let load_until = cell.report_until.load(Ordering::Relaxed);
            if load_until > now.0 {
                next = next.min(load_until);
            } else if load_until > 0 {
                self.correct(cell, slot, None);
                cell.report_until.store(0, Ordering::Relaxed);
            }
            if *until > now {
                next = next.min(until.0);
            }
            *until > now || load_until > now.0
        });
        if self.joint.is_some() {
            next = next.min(self.expire_of_others(&snapshot.view, &reports, now));
        }
        drop(reports);
        self.warm_up(now);
        self.watch(now);
        let store = self.joint.as_ref().map_or(&self.next_change, |joint| &joint.next);
        store.store(next.min(self.next_warmth.load(Ordering::Acquire)), Ordering::Release);
        // Last: a release that changes something now lowers it too.
        self.look_at(self.passive.next());
    }

    /// Ends a request: gives back its work and takes in how it went. `latency` in seconds, `hint` is the server's
    /// Retry-After in seconds.
    #[inline]
    pub fn settle(&self, slot: u32, units: u64, outcome: Outcome, latency: Option<f64>, hint: Option<f64>, now: Nanos) {
        // The block of the current snapshot has every slot that was ever given out.
        let snapshot = self.current.load();
        if let Some(cell) = snapshot.view.block.cell(slot) {
            if self.joint.is_some() {
                self.settle_jointly(cell, slot, units, outcome, latency, hint, now);
            } else {
                self.settle_on(cell, units, outcome, latency, hint, now);
            }
            self.order.note(slot);
        }
    }

    /// The same, with the cell at hand and without noting the order.
    #[inline(always)]
    pub fn settle_on(
        &self,
        cell: &crate::core::endpoints::Cell,
        units: u64,
        outcome: Outcome,
        latency: Option<f64>,
        hint: Option<f64>,
        now: Nanos,
    ) {
        cell.give::<M>(units);
        self.count_end::<M>(cell, outcome, latency, hint, now);
    }

    #[inline(always)]
    pub(super) fn count_end<N: Mode>(
        &self,
        cell: &crate::core::endpoints::Cell,
        outcome: Outcome,
        latency: Option<f64>,
        hint: Option<f64>,
        now: Nanos,
    ) {
        let count = match outcome {
            Outcome::Success => &cell.successes,
            Outcome::Failure => &cell.failures,
            Outcome::Timeout => &cell.timeouts,
            Outcome::Rejected => &cell.rejected,
            Outcome::Cancelled => &cell.cancelled,
            Outcome::Dropped => &cell.dropped,
        };
        N::add(count, 1);
        if let Some(seconds) = latency {
            self.learn(cell, outcome, seconds, hint, now);
        }
    }

    #[inline(never)]
    fn learn(
        &self,
        cell: &crate::core::endpoints::Cell,
        outcome: Outcome,
        seconds: f64,
        hint: Option<f64>,
        now: Nanos,
    ) {
        // Zero means "none", as for the estimate.
        let last = seconds.max(1e-9).to_bits();
        match outcome {
            Outcome::Success => {
                cell.last_latency.store(last, Ordering::Relaxed);
                self.latencies.observe(cell, seconds, now);
            }
            Outcome::Failure | Outcome::Timeout | Outcome::Rejected => {
                cell.last_latency.store(last, Ordering::Relaxed);
                self.latencies.observe_failure(cell, seconds, hint, now);
            }
            Outcome::Cancelled | Outcome::Dropped => {}
        }
    }

    /// Takes in a latency of a request that goes on, such as the time to its first token.
    pub fn observe_latency(&self, slot: u32, seconds: f64, now: Nanos) {
        let snapshot = self.current.load();
        if let Some(cell) = snapshot.view.block.cell(slot) {
            self.learn(cell, Outcome::Success, seconds, None, now);
        }
    }

    /// Corrects the work of a request in flight.
    pub fn adjust(&self, slot: u32, before: u64, after: u64) {
        let snapshot = self.current.load();
        if let Some(cell) = snapshot.view.block.cell(slot) {
            let units = after.wrapping_sub(before);
            if self.joint.is_some() {
                self.shift_jointly(slot, units, || cell.shift::<Jointly>(units));
            } else {
                cell.shift::<M>(units);
            }
        }
    }

    /// Corrects a load by what was told of it.
    fn correct(&self, cell: &crate::core::endpoints::Cell, slot: u32, told: Option<u64>) {
        if self.joint.is_some() {
            self.shift_jointly(slot, 0, || cell.correct::<Jointly>(told));
        } else {
            cell.correct::<M>(told);
        }
    }

    /// Enters a lease into the ledger: from then on its id stands for it.
    pub fn enter(&self, entry: Entry) -> u64 {
        self.ledger.lock().enter(entry)
    }

    /// Hangs work on a lease of the ledger.
    pub fn hang(&self, id: u64, work: Arc<dyn Work>) {
        self.ledger.lock().hang(id, work);
    }

    /// The work that hangs on a lease of the ledger.
    pub fn work(&self, id: u64) -> Option<Arc<dyn Work>> {
        self.ledger.lock().work(id)
    }

    /// A lease of the ledger, if it is live.
    pub fn lease(&self, id: u64) -> Option<Entry> {
        self.ledger.lock().get(id)
    }

    /// Takes a lease out of the ledger, for [`Pool::settle`].
    ///
    /// # Errors
    /// [`LeaseError::NotLive`].
    pub fn leave(&self, id: u64) -> Result<Entry, LeaseError> {
        self.ledger.lock().take(id)
    }

    /// From now on how long a lease of the ledger lasts is no latency; whether it was before.
    ///
    /// # Errors
    /// [`LeaseError::NotLive`].
    pub fn stop_measuring(&self, id: u64) -> Result<bool, LeaseError> {
        self.ledger.lock().stop_measuring(id)
    }

    /// Changes the work of a lease of the ledger.
    ///
    /// # Errors
    /// [`LeaseError::NotLive`].
    pub fn adjust_entered(&self, id: u64, units: u64) -> Result<(), LeaseError> {
        let before = self.ledger.lock().set_units(id, units)?;
        self.adjust(before.slot, before.units, units);
        Ok(())
    }

    /// Health and drain deadline of each endpoint, in order: what a copy of the pool needs besides its endpoints.
    pub fn states(&self) -> Vec<(Health, Option<Nanos>)> {
        self.writer.lock().places.iter().map(|p| (p.health, p.drain)).collect()
    }

    /// What of one endpoint decides whether it keeps its sessions.
    pub(super) fn standing(&self, id: &str) -> Option<Standing> {
        let writer = self.writer.lock();
        let place = writer.places.iter().find(|p| &*p.endpoint.id == id)?;
        Some(Standing { health: place.health, drain: place.drain })
    }
}
