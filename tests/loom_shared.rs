//! Models of what processes share, as threads: `RUSTFLAGS="--cfg loom" cargo test --test loom_shared`. A
//! process that is killed is a thread that stops inside a change; that it did is seen before it counts as dead.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aibalance::core::shared::{Layout, Process, ReadError, Region, Seat, Segment, Taken, add, sub};
use aibalance::core::sync::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

fn segment(processes: u32) -> Segment {
    let layout = Layout { slots: 1, processes, blob: 8, picker_words: 2, areas: Vec::new() };
    Segment::create(&Region::heap(layout.bytes() as usize / 8), layout).unwrap()
}

fn counts(segment: &Segment) -> (u64, u64) {
    let cell = segment.cell(0).unwrap();
    (cell[2].load(Ordering::Acquire), cell[0].load(Ordering::Acquire))
}

fn take(segment: &Segment, seat: &Seat, units: u64) {
    assert!(seat.take(0, units, || add(segment.cell(0).unwrap(), units)));
}

fn give(segment: &Segment, seat: &Seat, units: u64) {
    seat.give(0, units, || sub(segment.cell(0).unwrap(), units));
}

/// Takes a request and is killed: before the shared counts change, between them, or after both.
fn killed_taking(segment: &Segment, seat: &Seat, units: u64, at: usize) {
    let change = || {
        let cell = segment.cell(0).unwrap();
        if at > 0 {
            cell[2].fetch_add(1, Ordering::SeqCst);
        }
        if at > 1 {
            cell[0].fetch_add(units, Ordering::SeqCst);
        }
        std::panic::resume_unwind(Box::new(()))
    };
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seat.take(0, units, change)));
    assert!(killed.is_err());
}

/// Pid 1 is dead once the flag is set; everybody else lives.
fn unless(dead: &AtomicBool) -> impl Fn(Process) -> bool + '_ {
    move |process| process.pid != 1 || !dead.load(Ordering::Acquire)
}

fn a_kill_at(at: usize) {
    model(3, move || {
        let shared = Arc::new((segment(3), AtomicBool::new(false)));
        let [first, second, third] = [1, 2, 3].map(|pid| shared.0.join(pid, 1).unwrap());
        take(&shared.0, &first, 3);
        let (other, one) = (shared.clone(), shared.clone());
        let dying = thread::spawn(move || {
            killed_taking(&one.0, &first, 5, at);
            one.1.store(true, Ordering::Release);
        });
        let living = thread::spawn(move || {
            take(&other.0, &second, 7);
            give(&other.0, &second, 7);
        });
        let early = shared.0.take_back(&third, unless(&shared.1));
        dying.join().unwrap();
        living.join().unwrap();
        let late = shared.0.take_back(&third, unless(&shared.1));
        assert_eq!((early.freed + late.freed, late.pending), (1, 0));
        assert_eq!(counts(&shared.0), (0, 0));
    });
}

#[test]
fn a_kill_before_the_counts_change_is_taken_back_while_others_work() {
    a_kill_at(0);
}

#[test]
fn a_kill_between_the_counts_is_taken_back_while_others_work() {
    a_kill_at(1);
}

#[test]
fn a_kill_after_the_counts_changed_is_taken_back_while_others_work() {
    a_kill_at(2);
}

#[test]
fn two_survivors_take_back_once() {
    model(3, || {
        let shared = Arc::new(segment(3));
        let [first, second, third] = [1, 2, 3].map(|pid| shared.join(pid, 1).unwrap());
        killed_taking(&shared, &first, 5, 1);
        let other = shared.clone();
        let alive = |process: Process| process.pid != 1;
        let there = thread::spawn(move || other.take_back(&second, alive));
        let here = shared.take_back(&third, alive);
        let there = there.join().unwrap();
        let taken: Vec<Taken> = here.taken.iter().chain(&there.taken).copied().collect();
        assert_eq!(taken, [Taken { slot: 0, requests: 1, units: 0 }]);
        assert_eq!((here.freed + there.freed, counts(&shared)), (1, (0, 0)));
    });
}

#[test]
fn who_joins_during_an_audit_keeps_what_it_takes() {
    model(3, || {
        let shared = Arc::new(segment(3));
        let [first, second] = [1, 2].map(|pid| shared.join(pid, 1).unwrap());
        take(&shared, &first, 5);
        let other = shared.clone();
        let joining = thread::spawn(move || {
            let seat = other.join(3, 1).unwrap();
            take(&other, &seat, 7);
            seat.has(0)
        });
        let alive = |process: Process| process.pid != 1;
        let report = shared.take_back(&second, alive);
        assert_eq!(joining.join().unwrap(), (1, 7));
        if report.pending > 0 {
            assert_eq!(shared.take_back(&second, alive).pending, 0);
        }
        assert_eq!(counts(&shared), (1, 7));
    });
}

#[test]
fn a_membership_is_read_whole_while_others_publish() {
    model(3, || {
        let shared = Arc::new(segment(2));
        let seat = shared.join(1, 1).unwrap();
        shared.lock(&seat, |_| true).unwrap().publish(&[1; 8]).unwrap();
        let other = shared.clone();
        let writing = thread::spawn(move || {
            let writer = other.lock(&seat, |_| true).unwrap();
            (2..5u8).for_each(|n| assert_eq!(writer.publish(&[n; 8]), Ok(u64::from(n))));
        });
        let before = shared.epoch();
        match shared.read() {
            Ok((epoch, bytes)) => assert!(epoch >= before && bytes == vec![epoch as u8; 8]),
            Err(error) => assert_eq!(error, ReadError::Changing),
        }
        writing.join().unwrap();
        assert_eq!(shared.read(), Ok((4, vec![4; 8])));
    });
}

#[test]
fn two_writers_are_serialised_though_one_relieves_a_dead_one() {
    model(3, || {
        let shared = Arc::new(segment(3));
        let [first, second, third] = [1, 2, 3].map(|pid| shared.join(pid, 1).unwrap());
        std::mem::forget(shared.lock(&first, |_| true).unwrap());
        let publish = |segment: &Segment, seat: &Seat, byte: u8| {
            let writer = segment.lock(seat, |process| process.pid != 1).ok()?;
            Some(writer.publish(&[byte]).unwrap())
        };
        let other = shared.clone();
        let there = thread::spawn(move || publish(&other, &second, 2));
        let here = publish(&shared, &third, 3);
        let there = there.join().unwrap();
        let expected = match (here, there) {
            (Some(1), Some(2)) => (2, vec![2]),
            (Some(2), Some(1)) => (2, vec![3]),
            (Some(1), None) => (1, vec![3]),
            (None, Some(1)) => (1, vec![2]),
            other => panic!("{other:?}"),
        };
        assert_eq!(shared.read(), Ok(expected));
    });
}

#[test]
fn a_slot_is_not_reused_under_one_who_joins_with_the_old_membership() {
    model(3, || {
        let shared = Arc::new(segment(2));
        let seat = shared.join(1, 1).unwrap();
        shared.lock(&seat, |_| true).unwrap().publish(b"slot 0").unwrap();
        let other = shared.clone();
        let joining = thread::spawn(move || {
            let seat = other.join(2, 1).unwrap();
            let epoch = other.epoch();
            let takes = epoch == 1;
            if takes {
                take(&other, &seat, 1);
            } else {
                seat.seen(epoch);
            }
            takes
        });
        let epoch = shared.lock(&seat, |_| true).unwrap().publish(b"").unwrap();
        seat.seen(epoch);
        let reused = shared.may_reuse(0, epoch);
        let took = joining.join().unwrap();
        assert!(!(reused && took), "an endpoint that was gone got a request on its slot's next life");
    });
}

#[test]
fn a_name_gets_one_place_whoever_asks_first() {
    model(3, || {
        let shared = Arc::new(segment(1));
        let other = shared.clone();
        let turn = |segment: &Segment| segment.words(5, 1).map(|w| w.words()[0].fetch_add(1, Ordering::AcqRel));
        let there = thread::spawn(move || turn(&other));
        let here = turn(&shared);
        let mut turns = [here, there.join().unwrap()];
        turns.sort_unstable();
        assert_eq!(turns, [Some(0), Some(1)]);
    });
}
