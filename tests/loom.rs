//! Models of what threads share: `RUSTFLAGS="--cfg loom" cargo test --profile quick --test loom`. Loom tries every
//! interleaving with up to three preemptions. Snapshots are published by arc-swap, which loom cannot see; these are the
//! counters, flags, leases and the ledger beside it.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aibalance::core::endpoints::counters::Lone;
use aibalance::core::endpoints::{Block, Cell, Meter, Order};
use aibalance::core::pickers::Draws;
use aibalance::core::pool::lease::Entry;
use aibalance::core::pool::{LeaseCell, Ledger};
use aibalance::core::sync::{AtomicU64, Mutex, Ordering, Shared};
use aibalance::core::time::Nanos;
use loom::sync::Arc;
use loom::thread;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

fn counts(cell: &Cell) -> (u64, i64) {
    (cell.inflight.load(Ordering::Acquire), cell.signed_load())
}

#[test]
fn a_lease_that_two_threads_release_is_released_once() {
    model(|| {
        let shared = Arc::new((Lone::default(), LeaseCell::new(7)));
        assert!(shared.0.take::<Shared>(7, u32::MAX));
        let other = shared.clone();
        let thread = thread::spawn(move || other.1.give::<Shared>(&other.0));
        let here = shared.1.give::<Shared>(&shared.0);
        let there = thread.join().unwrap();
        assert!(here != there);
        assert_eq!(counts(&shared.0), (0, 0));
    });
}

#[test]
fn a_correction_against_a_release_leaves_no_load() {
    model(|| {
        let shared = Arc::new((Lone::default(), LeaseCell::new(7)));
        assert!(shared.0.take::<Shared>(7, u32::MAX));
        let (other, third) = (shared.clone(), shared.clone());
        let release = thread::spawn(move || other.1.give::<Shared>(&other.0));
        let adjust = thread::spawn(move || third.1.adjust::<Shared>(&third.0, 2).is_ok());
        let _ = shared.1.adjust::<Shared>(&shared.0, 30);
        assert!(release.join().unwrap());
        let _ = adjust.join().unwrap();
        assert_eq!(counts(&shared.0), (0, 0));
    });
}

#[test]
fn an_id_that_two_threads_release_works_once_and_names_no_newer_lease() {
    model(|| {
        let entry = |units| Entry { slot: 0, units, start: Nanos(1), measured: true };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let id = ledger.lock().enter(entry(1));
        let other = ledger.clone();
        let thread = thread::spawn(move || {
            let took = other.lock().take(id).is_ok();
            // The place is free now and is used again: for another id.
            let newer = other.lock().enter(entry(2));
            assert_ne!(newer, id);
            (took, newer)
        });
        let here = ledger.lock().take(id);
        assert!(here.is_err() || here == Ok(entry(1)));
        let (there, newer) = thread.join().unwrap();
        assert!(here.is_ok() != there);
        assert!(ledger.lock().take(id).is_err());
        assert_eq!(ledger.lock().take(newer), Ok(entry(2)));
        assert!(ledger.lock().is_empty());
    });
}

#[test]
fn a_cell_never_has_more_than_its_limit() {
    model(|| {
        let shared = Arc::new((Lone::default(), AtomicU64::new(0)));
        let work = |(cell, holders): &(Lone, AtomicU64)| {
            if cell.take::<Shared>(3, 1) {
                assert_eq!(holders.fetch_add(1, Ordering::AcqRel), 0);
                holders.fetch_sub(1, Ordering::AcqRel);
                cell.give::<Shared>(3);
                1
            } else {
                0
            }
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let other = shared.clone();
                thread::spawn(move || work(&other))
            })
            .collect();
        let mut took = work(&shared);
        for thread in threads {
            took += thread.join().unwrap();
        }
        assert!(took >= 1, "a free place is given to somebody");
        assert_eq!(counts(&shared.0), (0, 0));
    });
}

#[test]
fn drained_is_seen_when_the_last_lease_ends_and_not_before() {
    model(|| {
        let shared = Arc::new((Lone::default(), LeaseCell::new(4), AtomicU64::new(0)));
        assert!(shared.0.take::<Shared>(4, u32::MAX));
        let other = shared.clone();
        let thread = thread::spawn(move || {
            other.2.store(1, Ordering::Release);
            other.1.give::<Shared>(&other.0)
        });
        shared.0.blocked.store(1, Ordering::Release);
        if shared.0.idle() {
            assert_eq!(shared.2.load(Ordering::Acquire), 1, "drained before the release");
        }
        assert!(thread.join().unwrap());
        assert!(shared.0.idle());
    });
}

#[test]
fn nothing_is_taken_after_a_drain_was_seen_to_be_over() {
    model(|| {
        let shared = Arc::new(Lone::default());
        let other = shared.clone();
        let thread = thread::spawn(move || {
            // A pick: it looks, and then it takes.
            other.blocked.load(Ordering::Relaxed) == 0 && other.take::<Shared>(1, u32::MAX)
        });
        shared.blocked.store(1, Ordering::Release);
        let drained = shared.idle();
        let took = thread.join().unwrap();
        assert!(!(drained && took), "a request came after the end of the drain");
        if took {
            shared.give::<Shared>(1);
        }
        assert_eq!(counts(&shared), (0, 0));
    });
}

#[test]
fn a_slot_that_goes_from_one_endpoint_to_another_loses_nothing() {
    model(|| {
        let block = Block::for_slots(1);
        let old = block.clone();
        // A pick that still has the old snapshot, while an update removes the endpoint and a second one wants a slot.
        let thread = thread::spawn(move || {
            let cell = old.cell(0).unwrap();
            let took = cell.blocked.load(Ordering::Relaxed) == 0 && cell.take::<Shared>(5, 1);
            if took {
                cell.give::<Shared>(5);
            }
        });
        let cell = block.cell(0).unwrap();
        cell.blocked.store(1, Ordering::Release);
        let reused = cell.idle();
        if reused {
            cell.forget::<Shared>();
            cell.blocked.store(0, Ordering::Release);
        }
        thread.join().unwrap();
        assert_eq!(counts(cell), (0, 0));
        assert_eq!(cell.take::<Shared>(1, 1), reused);
    });
}

#[test]
fn a_report_against_takes_and_releases_ends_at_what_was_told() {
    model(|| {
        let shared = Arc::new(Lone::default());
        let other = shared.clone();
        let thread = thread::spawn(move || {
            assert!(other.take::<Shared>(5, u32::MAX));
            other.give::<Shared>(5);
        });
        shared.correct::<Shared>(Some(100));
        thread.join().unwrap();
        // The request may count as sent before the report or after it; it has ended either way.
        assert!([95, 100].contains(&shared.effective_load()));
        shared.correct::<Shared>(None);
        assert_eq!(counts(&shared), (0, 0));
    });
}

#[test]
fn no_two_draws_are_the_same() {
    model(|| {
        let draws = Arc::new(Draws::new(1));
        let other = draws.clone();
        let thread = thread::spawn(move || (other.next::<Shared>(), other.next::<Shared>()));
        let here = draws.next::<Shared>();
        let (first, second) = thread.join().unwrap();
        assert!(here != first && here != second && first != second);
    });
}

#[test]
fn a_change_is_seen_by_the_look_or_told_by_the_watch() {
    model(|| {
        let shared = Arc::new(Lone::default());
        let (other, third) = (shared.clone(), shared.clone());
        let take = thread::spawn(move || assert!(other.take::<Shared>(5, u32::MAX)));
        let add = thread::spawn(move || third.shift::<Shared>(70));
        let seen = shared.watch().start::<Shared>();
        let (load, requests) = (shared.signed_load(), shared.inflight.load(Ordering::SeqCst));
        take.join().unwrap();
        add.join().unwrap();
        let whole = (load, requests) == (75, 1);
        assert!(whole || shared.watch().value() != seen, "a change that nobody saw and nobody was told of");
    });
}

#[test]
fn two_who_watch_are_both_told() {
    model(|| {
        let shared = Arc::new(Lone::default());
        let (other, third) = (shared.clone(), shared.clone());
        let look = |cell: &Cell| {
            let seen = cell.watch().start::<Shared>();
            (seen, cell.signed_load())
        };
        let watcher = thread::spawn(move || look(&other));
        let change = thread::spawn(move || third.shift::<Shared>(3));
        let here = look(&shared);
        let there = watcher.join().unwrap();
        change.join().unwrap();
        for (seen, load) in [here, there] {
            assert!(load == 3 || shared.watch().value() != seen);
        }
    });
}

#[test]
fn a_refusal_that_was_seen_as_a_request_is_told_when_it_ends() {
    model(|| {
        let shared = Arc::new(Lone::default());
        assert!(shared.take::<Shared>(1, 1));
        let other = shared.clone();
        let refused = thread::spawn(move || assert!(!other.take::<Shared>(1, 1)));
        let seen = shared.watch().start::<Shared>();
        let requests = shared.inflight.load(Ordering::SeqCst);
        refused.join().unwrap();
        assert!(requests == 1 || shared.watch().value() != seen);
    });
}

#[test]
fn changes_of_the_order_get_stamps_of_their_own() {
    model(|| {
        let order = Arc::new(Order::default());
        order.keep();
        let other = order.clone();
        let thread = thread::spawn(move || other.note(1));
        order.note(0);
        let (now, seen) = (order.now(), order.reader().of(1));
        thread.join().unwrap();
        let (here, there) = (order.reader().of(0), order.reader().of(1));
        assert!(here > 0 && there > 0 && here != there && order.now() == 2);
        assert!(now >= here && (seen == 0 || seen == there));
    });
}

#[test]
fn of_two_changes_of_one_slot_the_later_one_counts() {
    model(|| {
        let order = Arc::new(Order::default());
        order.keep();
        let other = order.clone();
        let thread = thread::spawn(move || other.note(0));
        order.note(0);
        thread.join().unwrap();
        assert_eq!((order.reader().of(0), order.now()), (2, 2));
    });
}

#[test]
fn no_more_probes_pass_than_are_allowed() {
    model(|| {
        let meter = Arc::new(Meter::default());
        meter.breaker.allow(1);
        let work = |meter: &Meter| u32::from(meter.breaker.pass().is_some());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let other = meter.clone();
                thread::spawn(move || work(&other))
            })
            .collect();
        let mut passed = work(&meter);
        for thread in threads {
            passed += thread.join().unwrap();
        }
        assert_eq!(passed, 1);
        assert!(!meter.breaker.passable());
    });
}

#[test]
fn a_permit_that_comes_back_while_others_ask_is_used_once() {
    model(|| {
        let meter = Arc::new(Meter::default());
        meter.breaker.allow(0);
        let (back, other) = (meter.clone(), meter.clone());
        let giver = thread::spawn(move || back.breaker.give(1));
        let asker = thread::spawn(move || u32::from(other.breaker.pass().is_some()));
        let here = u32::from(meter.breaker.pass().is_some());
        giver.join().unwrap();
        let passed = here + asker.join().unwrap();
        assert!(passed <= 1);
        assert_eq!(meter.breaker.passable(), passed == 0);
    });
}

#[test]
fn an_ejection_against_a_release_loses_neither_the_flag_nor_the_work() {
    model(|| {
        let shared = Arc::new((Lone::default(), LeaseCell::new(4), Meter::default()));
        assert!(shared.0.take::<Shared>(4, u32::MAX));
        let other = shared.clone();
        let release = thread::spawn(move || {
            other.1.give::<Shared>(&other.0);
            let (in_a_row, _) = other.2.failure::<Shared>(false, true);
            if in_a_row == 2 {
                other.0.blocked.store(1, Ordering::Release);
            }
            in_a_row
        });
        let (here, _) = shared.2.failure::<Shared>(false, true);
        if here == 2 {
            shared.0.blocked.store(1, Ordering::Release);
        }
        // One of the two sees the limit, and nothing is taken after that.
        let taken = shared.0.take::<Shared>(9, u32::MAX);
        let there = release.join().unwrap();
        assert_eq!(here + there, 3);
        assert_eq!(shared.0.blocked.load(Ordering::Acquire), 1);
        assert!(!shared.0.take::<Shared>(9, u32::MAX));
        if here == 2 {
            assert!(!taken);
        }
        assert_eq!(counts(&shared.0), (u64::from(taken), if taken { 9 } else { 0 }));
    });
}
