//! Random scripts of processes that join, work, stop, die and take back, against a plain list of leases; and segments with
//! random damage.

use super::segment::TAKER_AT;
use super::tests::{Change, counts, give, segment, small, steps, take};
use super::*;
use crate::core::sync::Ordering;
use proptest::prelude::*;
use std::cell::Cell as StdCell;

const SLOTS: u32 = 5;

#[derive(Clone, Debug)]
enum Act {
    Join,
    Take(usize, u32, u64),
    Give(usize, usize),
    Shift(usize, usize, u64),
    Correct(usize, u32, u64),
    /// Stopped after so many steps of a change, for ever or until it is killed.
    Stop(usize, u32, Change, usize),
    Die(usize),
    Leave(usize),
    Publish(usize, Vec<u8>),
    /// Killed with half a membership written.
    PublishAndDie(usize, Vec<u8>),
    TakeBack(usize),
    /// Killed after so many slots, and after so many rows' words.
    TakeBackAndDie(usize, usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let (who, slot, units) = (0..4usize, 0..SLOTS, 0..5000u64);
    let bytes = || proptest::collection::vec(any::<u8>(), 0..64);
    let change = prop_oneof![
        (0..5000u64).prop_map(Change::Take),
        (0..5000u64).prop_map(Change::Give),
        any::<u32>().prop_map(|units| Change::Shift(u64::from(units).wrapping_sub(1 << 31))),
        (0..5000u64).prop_map(Change::Correct),
    ];
    prop_oneof![
        3 => Just(Act::Join),
        8 => (who.clone(), slot.clone(), units.clone()).prop_map(|(p, s, u)| Act::Take(p, s, u)),
        4 => (who.clone(), 0..100usize).prop_map(|(p, i)| Act::Give(p, i)),
        2 => (who.clone(), 0..100usize, units.clone()).prop_map(|(p, i, u)| Act::Shift(p, i, u)),
        1 => (who.clone(), slot.clone(), units).prop_map(|(p, s, u)| Act::Correct(p, s, u)),
        2 => (who.clone(), slot, change, 0..=5usize).prop_map(|(p, s, c, n)| Act::Stop(p, s, c, n)),
        2 => who.clone().prop_map(Act::Die),
        1 => who.clone().prop_map(Act::Leave),
        1 => (who.clone(), bytes()).prop_map(|(p, b)| Act::Publish(p, b)),
        1 => (who.clone(), bytes()).prop_map(|(p, b)| Act::PublishAndDie(p, b)),
        3 => who.clone().prop_map(Act::TakeBack),
        2 => (who, 0..6usize, 0..40usize).prop_map(|(p, s, w)| Act::TakeBackAndDie(p, s, w)),
    ]
}

struct Worker {
    seat: Seat,
    pid: u32,
    leases: Vec<(u32, u64)>,
    left: bool,
}

/// What should be: the workers that are there, those that are stopped, and the membership in force.
struct World {
    segment: Segment,
    workers: Vec<Worker>,
    stopped: Vec<u32>,
    pids: u32,
    membership: (u64, Vec<u8>),
}

impl World {
    fn alive(&self) -> impl Fn(Process) -> bool + use<> {
        let pids: Vec<u32> = self.workers.iter().map(|w| w.pid).chain(self.stopped.iter().copied()).collect();
        move |process| pids.contains(&process.pid)
    }

    /// The worker that an act is of, if it can act.
    fn at(&self, who: usize) -> Option<usize> {
        who.checked_rem(self.workers.len())
    }

    /// Those who have left and have nothing out any more are freed when somebody else takes back.
    fn gone(&mut self, but: Option<u32>) {
        self.workers.retain(|w| !w.left || !w.leases.is_empty() || Some(w.pid) == but);
    }

    fn run(&mut self, act: Act) {
        match act {
            Act::Join => match self.segment.join(self.pids, 1) {
                Ok(seat) => {
                    self.workers.push(Worker { seat, pid: self.pids, leases: Vec::new(), left: false });
                    self.pids += 1;
                }
                Err(TableFull(rows)) => assert_eq!(rows as usize, self.segment.processes().len()),
            },
            Act::Take(who, slot, units) => {
                if let Some(worker) = self.at(who).and_then(|at| self.workers.get_mut(at)).filter(|w| !w.left) {
                    take(&self.segment, &worker.seat, slot, units);
                    worker.leases.push((slot, units));
                }
            }
            Act::Give(who, which) => {
                if let Some(worker) = self.at(who).and_then(|at| self.workers.get_mut(at))
                    && let Some(lease) = which.checked_rem(worker.leases.len())
                {
                    let (slot, units) = worker.leases.swap_remove(lease);
                    give(&self.segment, &worker.seat, slot, units);
                }
            }
            Act::Shift(who, which, units) => {
                if let Some(worker) = self.at(who).and_then(|at| self.workers.get_mut(at))
                    && let Some(lease) = which.checked_rem(worker.leases.len())
                {
                    let (slot, before) = worker.leases[lease];
                    let more = units.wrapping_sub(before);
                    steps(&self.segment, &worker.seat, slot, Change::Shift(more), 5);
                    worker.leases[lease].1 = units;
                }
            }
            Act::Correct(who, slot, told) => {
                if let Some(at) = self.at(who) {
                    steps(&self.segment, &self.workers[at].seat, slot, Change::Correct(told), 5);
                }
            }
            Act::Stop(who, slot, change, count) => {
                if let Some(at) = self.at(who) {
                    let worker = self.workers.swap_remove(at);
                    steps(&self.segment, &worker.seat, slot, change, count);
                    self.stopped.push(worker.pid);
                }
            }
            Act::Die(who) => {
                if !self.stopped.is_empty() {
                    self.stopped.swap_remove(who % self.stopped.len());
                } else if let Some(at) = self.at(who) {
                    self.workers.swap_remove(at);
                }
            }
            Act::Leave(who) => {
                if let Some(at) = self.at(who) {
                    let free = self.segment.leave(&self.workers[at].seat);
                    assert_eq!(free, self.workers[at].leases.is_empty());
                    self.workers[at].left = true;
                    if free {
                        self.workers.swap_remove(at);
                    }
                }
            }
            Act::Publish(who, bytes) => {
                if let Some(at) = self.at(who) {
                    match self.segment.lock(&self.workers[at].seat, self.alive()) {
                        Ok(writer) => self.membership = (writer.publish(&bytes).unwrap(), bytes),
                        Err(locked) => assert!(self.alive()(locked.by.unwrap())),
                    }
                }
            }
            Act::PublishAndDie(who, bytes) => {
                if let Some(at) = self.at(who)
                    && let Ok(writer) = self.segment.lock(&self.workers[at].seat, self.alive())
                {
                    std::mem::forget(writer);
                    let next = self.membership.0 + 1;
                    let half = self.segment.plan.halves[next as usize & 1].clone();
                    for (word, byte) in self.segment.region.words()[half].iter().zip(bytes) {
                        word.store(u64::from(byte), Ordering::Release);
                    }
                    self.workers.swap_remove(at);
                }
            }
            Act::TakeBack(who) => {
                if let Some(at) = self.at(who) {
                    let report = self.segment.take_back(&self.workers[at].seat, self.alive());
                    assert!(!report.busy);
                    self.gone(Some(self.workers[at].pid));
                    if report.pending == 0 && self.stopped.is_empty() {
                        self.check();
                    }
                    assert!(report.pending == 0 || !self.stopped.is_empty());
                }
            }
            Act::TakeBackAndDie(who, slots, words) => {
                let Some(at) = self.at(who) else { return };
                let (segment, alive) = (self.segment.clone(), self.alive());
                let worker = self.workers.swap_remove(at);
                let held = segment.lock_at(TAKER_AT, &worker.seat, &alive).unwrap();
                let (dead, mut audit) = segment.bury(&worker.seat, &alive, &mut Report::default());
                let dirty: Vec<u32> = (0..SLOTS).filter(|slot| dead.iter().any(|d| d.has_left(*slot))).collect();
                let all = dirty.iter().take(slots).map(|slot| (*slot, audit.difference(*slot)));
                let mut done = 0;
                for (slot, (requests, units)) in all.filter_map(|(slot, found)| Some((slot, found?))) {
                    segment.subtract(slot, requests, units);
                    done += 1;
                }
                if done == dirty.len() {
                    let all = dead.iter().flat_map(|row| row.own.words());
                    all.take(words).for_each(|word| word.store(0, Ordering::Release));
                }
                std::mem::forget(held);
                self.gone(None);
            }
        }
        assert_eq!(self.segment.read(), Ok(self.membership.clone()));
    }

    /// Nobody is stopped and the dead were taken back: each slot has what the living have.
    fn check(&self) {
        for slot in 0..SLOTS {
            let leases = self.workers.iter().flat_map(|w| &w.leases).filter(|lease| lease.0 == slot);
            let (requests, units) = leases.fold((0i64, 0i64), |(n, sum), lease| (n + 1, sum + lease.1 as i64));
            let (inflight, load, extra) = counts(&self.segment, slot);
            assert_eq!((inflight, load.wrapping_sub(extra)), (requests, units), "slot {slot}");
            assert_eq!(self.segment.may_reuse(slot, 0), requests == 0);
        }
        assert_eq!(self.segment.processes().len(), self.workers.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dies_the_counts_are_those_of_the_living(acts in proptest::collection::vec(act(), 0..120)) {
        let (stopped, workers) = (Vec::new(), Vec::new());
        let mut world = World { segment: segment(), workers, stopped, pids: 1, membership: (0, Vec::new()) };
        for act in acts {
            world.run(act);
        }
        // The end of the stopped, and somebody to see to it.
        world.stopped.clear();
        let alive = world.alive();
        let alive = |process: Process| process.pid == 0 || alive(process);
        let report = world.segment.make_room(0, 1, alive);
        prop_assert!(!report.busy && report.pending == 0);
        world.gone(None);
        world.check();
    }
}

/// A stream of numbers for damage: `splitmix64`, so that the same 2,000 are done each time.
struct Numbers(StdCell<u64>);

impl Numbers {
    fn next(&self, below: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

/// Everything that can be done with a segment. What it gives may be wrong; it has to end, and without a panic.
fn do_everything(segment: &Segment, numbers: &Numbers) {
    let pid = numbers.next(6) as u32;
    let alive = |process: Process| process.pid.is_multiple_of(2);
    let joined = segment.join(pid, 1).or_else(|_| {
        segment.make_room(pid, 1, alive);
        segment.join(pid, 1)
    });
    let Ok(seat) = joined else {
        let _ = (segment.read(), segment.epoch(), segment.processes());
        return;
    };
    for slot in [0, 3, SLOTS, u32::MAX] {
        if let Some(cell) = segment.cell(slot) {
            seat.take(slot, 5, || add(cell, 5));
            seat.shift(slot, 7, || ());
            seat.give(slot, 5, || sub(cell, 5));
        }
        let _ = (seat.has(slot), segment.may_reuse(slot, numbers.next(u64::MAX)));
    }
    let _ = (segment.read(), segment.epoch(), segment.processes(), segment.has(&seat));
    if let Ok(writer) = segment.lock(&seat, alive)
        && let Ok(epoch) = writer.publish(b"healed")
    {
        assert_eq!(segment.read(), Ok((epoch, b"healed".to_vec())), "what is published is read");
    }
    for name in 0..20 {
        if let Some(words) = segment.words(name, numbers.next(9) as u32) {
            words.words().iter().for_each(|word| _ = word.fetch_add(1, Ordering::AcqRel));
        }
    }
    seat.seen(3);
    let report = segment.take_back(&seat, alive);
    assert!(report.taken.len() <= SLOTS as usize && report.freed <= 4);
    let _ = segment.leave(&seat);
    let area = segment.area(0).unwrap();
    area.words().iter().for_each(|word| _ = word.fetch_add(1, Ordering::AcqRel));
}

#[test]
fn damage_is_refused_or_harmless() {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..2000 {
        let numbers = Numbers(StdCell::new(seed));
        let region = super::tests::region(&small());
        let segment = Segment::create(&region, small()).unwrap();
        let (a, b) = (segment.join(2, 1).unwrap(), segment.join(3, 1).unwrap());
        take(&segment, &a, 1, 5);
        steps(&segment, &b, 3, Change::Take(4), numbers.next(6) as usize);
        segment.lock(&a, |_| true).unwrap().publish(b"who is in").unwrap();
        assert!(segment.words(1, 2).is_some());
        let total = region.words().len() as u64;
        // Damage stands anywhere, or where much depends on it.
        let place = || if numbers.next(2) == 0 { numbers.next(total) } else { numbers.next(220.min(total)) } as usize;
        let mut seen = region.clone();
        for _ in 0..=numbers.next(4) {
            let at = place();
            match numbers.next(4) {
                0 => _ = region.words()[at].fetch_xor(1 << numbers.next(64), Ordering::AcqRel),
                1 => region.words()[at].store(numbers.next(u64::MAX), Ordering::Release),
                2 => {
                    let to = (at + numbers.next(100) as usize).min(total as usize);
                    region.words()[at..to].iter().for_each(|word| word.store(0, Ordering::Release));
                }
                _ => seen = region.part(0, at).unwrap(),
            }
        }
        match Segment::open(&seen, &small().areas) {
            Ok(opened) => {
                harmless += 1;
                do_everything(&opened, &numbers);
            }
            Err(_) => refused += 1,
        }
        // One that had it open before the damage goes on with it.
        do_everything(&segment, &numbers);
    }
    assert!(refused > 300 && harmless > 300, "{refused} refused, {harmless} harmless");
}
