//! A pool that several processes have in common. What picks and releases count stands in a segment; who is in the pool is
//! written there by whoever changes it, and read by the others at their next pick.
//!
//! A slot gets another endpoint once nothing is in flight there. A pick that still has the old one in mind takes first and
//! looks at the epoch then, and a writer changes the epoch first and looks at what is in flight then; both are
//! sequentially consistent, so one of them sees the other.

use super::common::Common;
use super::lease::{Ledger, Outcome};
use super::members::{Place, Writer};
use super::options::Options;
use super::warmth::Warming;
use super::writer::{Pool, Reports};
use crate::core::endpoints::endpoint::{MaxFails, check_weight};
use crate::core::endpoints::{Block, Cell, Endpoint, Health, View};
use crate::core::error::ConfigError;
use crate::core::shared::{Process, Report, Seat, Segment};
use crate::core::sync::{AtomicU64, Joint as Counting, Mode, Mutex, Ordering};
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

/// So many processes may descend from each other by forks, each with the pool of the one before.
const LIVES: usize = 64;

/// What a pool has of a segment.
#[derive(Debug)]
pub struct Joint {
    segment: Segment,
    /// The seats of this process and of those that it was forked from.
    seats: Box<[OnceLock<Seat>]>,
    /// How many forks this process is away from the one that made the pool.
    life: AtomicU64,
    /// Of which epoch the current snapshot is.
    built: AtomicU64,
    /// What [`Pool::next_change`] is for other pools.
    pub(super) next: AtomicU64,
    slots: u32,
    /// Whether a process is there.
    alive: fn(Process) -> bool,
    /// This process, as the segment has it.
    me: Mutex<Process>,
}

impl Joint {
    /// A process's part in a segment.
    #[must_use]
    pub fn new(segment: Segment, seat: Seat, me: (u32, u64), alive: fn(Process) -> bool) -> Joint {
        let me = Mutex::new(Process { row: seat.row(), pid: me.0, start: me.1 });
        let slots = segment.layout().slots;
        Joint {
            segment,
            seats: std::iter::once(OnceLock::from(seat)).chain((1..LIVES).map(|_| OnceLock::new())).collect(),
            life: AtomicU64::new(0),
            built: AtomicU64::new(0),
            next: AtomicU64::new(u64::MAX),
            slots,
            alive,
            me,
        }
    }

    pub(super) fn common(&self, block: &Block) -> Option<Common> {
        Some(Common::new(block.table()?.clone(), self.segment.clone(), self.alive, *self.me.lock()))
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// This process's place in it; `None` where a fork has found none.
    #[inline(always)]
    #[must_use]
    pub fn seat(&self) -> Option<&Seat> {
        self.seats.get(self.life() as usize)?.get()
    }

    /// Tells leases of this process from those that it has inherited by a fork.
    #[inline(always)]
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    /// Whether somebody has changed the pool since the current snapshot was made.
    #[inline(always)]
    #[must_use]
    pub fn behind(&self) -> bool {
        self.segment.epoch() != self.built.load(Ordering::Acquire)
    }

    /// When time brings something.
    #[inline(always)]
    #[must_use]
    pub fn next(&self) -> Nanos {
        Nanos(self.next.load(Ordering::Relaxed))
    }

    /// Has the next pick take the membership in again.
    pub fn doubt(&self) {
        self.built.store(0, Ordering::Release);
    }
}

/// One endpoint as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its id.
    pub id: Arc<str>,
    /// The text that hashing pickers place it by.
    pub hash_key: Arc<str>,
    /// Its weight.
    pub weight: f64,
    /// Its priority.
    pub priority: u32,
    /// Where it stands.
    pub zone: Arc<str>,
    /// Whether it is a backup.
    pub backup: bool,
    /// The most requests it may have in flight.
    pub max_inflight: u32,
    /// A rule of its own.
    pub passive: Option<MaxFails>,
    /// What the host needs besides to make its payload.
    pub note: Arc<str>,
}

/// Where an endpoint is and how it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stand {
    slot: u32,
    health: Health,
    drain: Option<Nanos>,
    warming: Option<Warming>,
}

/// Who is in a pool, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// The pool's options.
    pub options: Options,
    /// The endpoints, in order.
    pub guests: Vec<Guest>,
    stands: Vec<Stand>,
    retired: Vec<u32>,
    next_slot: u32,
    now: Nanos,
}

impl Membership {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Writing to memory does not fail, and nothing in here refuses to be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// From bytes that anybody may have written; `None` for what no pool of so many slots can have.
    #[must_use]
    pub fn decode(bytes: &[u8], slots: u32) -> Option<Membership> {
        let found: Membership = postcard::from_bytes(bytes).ok()?;
        let mut seen = HashSet::new();
        let mut fresh = |slot: u32| slot < found.next_slot && seen.insert(slot);
        let ids: HashSet<&str> = found.guests.iter().map(|guest| &*guest.id).collect();
        let good = found.next_slot <= slots
            && found.guests.len() == found.stands.len()
            && ids.len() == found.guests.len()
            && found.guests.iter().all(|guest| check_weight("weight", guest.weight).is_ok())
            && found.stands.iter().map(|stand| stand.slot).chain(found.retired.iter().copied()).all(&mut fresh)
            && found.options.clone().check().is_ok();
        good.then_some(found)
    }
}

/// Tells those who watch endpoints what was taken back there.
pub fn tell(block: &Block, report: &Report) {
    for cell in report.taken.iter().filter_map(|taken| block.cell(taken.slot)) {
        cell.watch().end::<Counting>(cell);
    }
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// A pool on a segment: nobody is in it before [`Pool::take_over`]. `block` stands on the same segment.
    ///
    /// # Errors
    /// [`ConfigError`] for options out of range.
    pub fn joint_on(block: Block, joint: Joint, options: Options) -> Result<Arc<Pool<M, P>>, ConfigError> {
        let options = options.check()?;
        let writer = Writer::new(block, options.seed);
        Pool::made(writer, options, Some(joint))
    }

    /// What it has of a segment, if it has.
    #[inline(always)]
    pub fn joint(&self) -> Option<&Joint> {
        self.joint.as_ref()
    }

    /// Who is in the pool, for the others. `note` gives what the host needs besides.
    pub fn membership(&self, note: impl Fn(&P) -> Arc<str>) -> Membership {
        let writer = self.writer.lock();
        let guest = |place: &Place<P>| {
            let Endpoint { id, hash_key, weight, priority, zone, backup, max_inflight, passive, payload } =
                &place.endpoint;
            Guest {
                id: id.clone(),
                hash_key: hash_key.clone(),
                weight: *weight,
                priority: *priority,
                zone: zone.clone(),
                backup: *backup,
                max_inflight: *max_inflight,
                passive: *passive,
                note: note(payload),
            }
        };
        let stand = |p: &Place<P>| Stand { slot: p.slot, health: p.health, drain: p.drain, warming: p.warming };
        Membership {
            options: self.options.clone(),
            guests: writer.places.iter().map(guest).collect(),
            stands: writer.places.iter().map(stand).collect(),
            retired: writer.retired.clone(),
            next_slot: writer.next_slot,
            now: writer.now,
        }
    }

    /// Takes in what others have published. `payloads` are those of the endpoints, in order. Where `waits` is false and
    /// somebody is at it just now, nothing happens, and the answer is false.
    pub fn take_over(&self, epoch: u64, membership: Membership, payloads: Vec<P>, waits: bool) -> bool {
        let Some(joint) = &self.joint else { return false };
        let mut writer = if waits {
            self.writer.lock()
        } else if let Some(writer) = self.writer.try_lock() {
            writer
        } else {
            return false;
        };
        let Membership { guests, stands, retired, next_slot, now, .. } = membership;
        writer.places = guests
            .into_iter()
            .zip(stands)
            .zip(payloads)
            .map(|((guest, stand), payload)| {
                let Guest { id, hash_key, weight, priority, zone, backup, max_inflight, passive, note: _ } = guest;
                let Stand { slot, health, drain, warming } = stand;
                let endpoint =
                    Endpoint { id, hash_key, weight, priority, zone, backup, max_inflight, passive, payload };
                Place { health, drain, warming, ..Place::new(endpoint, slot) }
            })
            .collect();
        (writer.retired, writer.next_slot) = (retired, next_slot);
        writer.now = writer.now.max(now);
        writer.generation += 1;
        writer.epoch = epoch;
        let stay: HashSet<u32> = writer.places.iter().map(|p| p.slot).collect();
        self.reports.lock().retain(|slot, _| stay.contains(slot));
        self.publish(&mut writer, false, |_| u64::MAX);
        joint.built.store(epoch, Ordering::Release);
        if let Some(seat) = joint.seat() {
            seat.seen(epoch);
        }
        Pool::<M, P>::purge(writer);
        true
    }

    /// What this process has changed is in force, under this epoch.
    pub fn published(&self, epoch: u64) {
        let Some(joint) = &self.joint else { return };
        let mut writer = self.writer.lock();
        writer.epoch = epoch;
        // Once more, so that every picker's state says of which epoch it is.
        writer.generation += 1;
        self.publish(&mut writer, true, |_| u64::MAX);
        joint.built.store(epoch, Ordering::Release);
        if let Some(seat) = joint.seat() {
            seat.seen(epoch);
        }
        Pool::<M, P>::purge(writer);
    }

    /// Takes a request of so many units by `take`, unless the pool is no longer what it was at `epoch`.
    #[inline(always)]
    pub fn take_jointly(&self, cell: &Cell, slot: u32, units: u64, epoch: u64, take: impl FnOnce() -> bool) -> bool {
        let Some(joint) = &self.joint else { return false };
        let Some(seat) = joint.seat() else { return false };
        if !seat.take(slot, units, take) {
            return false;
        }
        // See the top of this file.
        if joint.segment.epoch() != epoch {
            seat.give(slot, units, || cell.give::<Counting>(units));
            return false;
        }
        true
    }

    /// The same for work that is bound to its endpoint and goes past flags.
    pub(super) fn take_bound(&self, cell: &Cell, slot: u32, units: u64, view: &View, limit: u32) -> bool {
        let Some(joint) = &self.joint else { return false };
        let Some(seat) = joint.seat() else { return false };
        let took = seat.take(slot, units, || {
            let below = Counting::add(&cell.inflight, 1) < u64::from(limit);
            if below {
                cell.shift::<Counting>(units);
            } else {
                Counting::sub(&cell.inflight, 1);
                cell.watch().end::<Counting>(cell);
            }
            below
        });
        if took && joint.segment.epoch() != view.epoch {
            seat.give(slot, units, || cell.give::<Counting>(units));
            return false;
        }
        took
    }

    /// Gives a request back.
    #[inline(always)]
    pub fn give_jointly(&self, cell: &Cell, slot: u32, units: u64) {
        if let Some(seat) = self.joint.as_ref().and_then(Joint::seat) {
            seat.give(slot, units, || cell.give::<Counting>(units));
        }
    }

    /// Changes the units of a request, or with none of them corrects the load.
    pub(super) fn shift_jointly(&self, slot: u32, units: u64, shift: impl FnOnce()) {
        if let Some(seat) = self.joint.as_ref().and_then(Joint::seat) {
            seat.shift(slot, units, shift);
        }
    }

    /// Ends a request whose cell is at hand: [`Pool::settle`].
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub fn settle_jointly(
        &self,
        cell: &Cell,
        slot: u32,
        units: u64,
        outcome: Outcome,
        latency: Option<f64>,
        hint: Option<f64>,
        now: Nanos,
    ) {
        self.give_jointly(cell, slot, units);
        self.count_end::<Counting>(cell, outcome, latency, hint, now);
    }

    /// Ends corrections of loads whose reports are too old and were another process's, which may be gone. When there is
    /// more to do.
    pub(super) fn expire_of_others(&self, view: &View, own: &Reports, now: Nanos) -> u64 {
        let mut next = u64::MAX;
        for (&slot, cell) in view.slots.iter().filter_map(|slot| Some((slot, view.block.cell(*slot)?))) {
            let until = cell.report_until.load(Ordering::Acquire);
            if until == 0 || own.contains_key(&slot) {
                continue;
            }
            if until > now.0 {
                next = next.min(until);
            } else if cell.report_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                self.shift_jointly(slot, 0, || cell.correct::<Counting>(None));
            }
        }
        next
    }

    /// Takes in what other processes have found out about the health of endpoints, if they have.
    #[inline(always)]
    pub fn keep_healthy(&self) {
        if self.passive.common.as_ref().is_some_and(Common::behind) {
            self.refresh_passive();
        }
    }

    #[cold]
    fn refresh_passive(&self) {
        let snapshot = self.current.load();
        self.passive.refresh(&snapshot.view.block);
        self.look_at(self.passive.next());
    }

    /// Takes back what processes held that are no longer alive. Whether nothing is left to do.
    pub fn take_back(&self) -> bool {
        let Some(joint) = &self.joint else { return true };
        let Some(seat) = joint.seat() else { return true };
        let report = joint.segment.take_back(seat, joint.alive);
        let snapshot = self.current.load();
        tell(&snapshot.view.block, &report);
        if report.dead > 0 {
            // It may have died in the middle of a change, with flags set that nobody stands for.
            joint.doubt();
            self.look_at(0);
        }
        report.pending == 0
    }

    /// A forked child goes on as a process of its own: what was taken before the fork is the parent's to give back.
    pub fn rejoin(&self, seat: Seat, me: (u32, u64)) {
        let Some(joint) = &self.joint else { return };
        let me = Process { row: seat.row(), pid: me.0, start: me.1 };
        *joint.me.lock() = me;
        if let Some(common) = &self.passive.common {
            common.renamed(me);
        }
        let life = joint.life.load(Ordering::Acquire).saturating_add(1);
        if let Some(place) = joint.seats.get(life as usize) {
            let _ = place.set(seat);
        }
        joint.life.store(life, Ordering::Release);
        *self.ledger.lock() = Ledger::default();
        joint.doubt();
    }

    /// Leaves the segment.
    pub fn leave_segment(&self) {
        if let Some((joint, seat)) = self.joint.as_ref().and_then(|joint| Some((joint, joint.seat()?))) {
            joint.segment.leave(seat);
        }
    }

    /// How many endpoints it may have; `None` for any number.
    pub fn room_for(&self) -> Option<u32> {
        self.joint.as_ref().map(|joint| joint.slots)
    }
}
