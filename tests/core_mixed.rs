//! Mixed operations of two threads: afterwards every count is what the threads say they did.
//!
//! 10^8 operations: `AIBALANCE_MIXED_OPERATIONS=100000000 cargo test --profile quick --test core_mixed -- --nocapture`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use aibalance::core::endpoints::{Endpoint, Health};
use aibalance::core::pickers::hashing::ring::{RingHash, RingSize};
use aibalance::core::pickers::{
    JoinIdleQueue, LeastConnections, LeastRequest, Maglev, PeakEwma, Policy, RoundRobin, Schedule, Start,
};
use aibalance::core::pool::lease::Entry;
use aibalance::core::pool::{Filter, LeaseCell, Options, Outcome, Picker, Pool, Report};
use aibalance::core::rng::Rng;
use aibalance::core::sync::{Ordering, Shared};
use aibalance::core::time::Nanos;
use std::collections::HashSet;
use std::sync::Arc;

/// Endpoints that are there all the time, so that what they counted can be read at the end.
const STAY: u32 = 20;

/// What a thread did with those that stay: ended in success, failure, timeout, refusal, cancelled, dropped.
type Ended = [u64; 6];

const OUTCOMES: [Outcome; 6] =
    [Outcome::Success, Outcome::Failure, Outcome::Timeout, Outcome::Rejected, Outcome::Cancelled, Outcome::Dropped];

fn endpoint(i: u32, weight: f64) -> Endpoint<u32> {
    let id: Arc<str> = format!("e{i}").into();
    let max_inflight = if i % 4 == 1 { 3 } else { u32::MAX };
    Endpoint {
        hash_key: id.clone(),
        id,
        weight,
        backup: i % 7 == 6,
        priority: i % 3,
        zone: "".into(),
        max_inflight,
        passive: None,
        payload: i,
    }
}

fn members(rng: &mut Rng) -> Vec<Endpoint<u32>> {
    (0..STAY + rng.below(30)).map(|i| endpoint(i, f64::from(1 + rng.below(3)))).collect()
}

/// One change of the pool, of every kind in turn by chance.
fn change(pool: &Pool<Shared, u32>, rng: &mut Rng, now: Nanos) {
    let id = format!("e{}", rng.below(STAY + 30));
    // Unknown ids are refused, which is part of it.
    match rng.below(9) {
        0 => pool.update(members(rng), now).unwrap(),
        1 => drop(pool.add(endpoint(1000 + rng.below(5), 1.0), now)),
        2 => drop(pool.remove(&format!("e{}", 1000 + rng.below(5)))),
        3 => drop(pool.set_weight(&id, f64::from(rng.below(4)), |p| Some(*p))),
        4 => {
            let health = [Health::Healthy, Health::Degraded, Health::Unhealthy][rng.below(3) as usize];
            drop(pool.set_health(&id, health, now));
        }
        5 => drop(pool.drain(&id, Nanos::MAX)),
        6 => drop(pool.undrain(&id)),
        7 => {
            let report = Report { inflight: Some(f64::from(rng.below(9))), ..Report::default() };
            drop(pool.observe(&id, report, now));
        }
        _ => pool.advance(now),
    }
}

/// A thread's work with one picker: picks, requests of many costs that end in every way, and now and then a change.
fn work<L: Policy>(
    picker: &Picker<L, Shared, u32>,
    rng: &mut Rng,
    operations: u64,
    ended: &mut Ended,
    open: &mut Vec<(u32, bool, u64)>,
) -> u64 {
    let (pool, mut done, mut step) = (picker.pool().clone(), 0, 0u64);
    while done < operations {
        step += 1;
        let state = picker.load();
        let now = Nanos(step);
        let key = Some(rng.next_u64().into());
        picker.pick(&state, key, now);
        let units = u64::from(1 + rng.below(5000));
        let taken = if rng.below(8) == 0 {
            let filter = Filter { exclude: vec![rng.below(STAY)], subset: None };
            picker.acquire_from(&state, key, units, now, filter)
        } else {
            picker.acquire(&state, key, units, now)
        };
        done += 2;
        if let Some(taken) = taken {
            let cell = picker.cell(&state, taken.choice).unwrap();
            let stays = state.snapshot.payload[taken.choice.index as usize] < STAY;
            let which = rng.below(6) as usize;
            match rng.below(8) {
                // As a lease that a host holds.
                0 => {
                    let lease = LeaseCell::new(taken.units);
                    lease.adjust::<Shared>(cell, 77).unwrap();
                    assert!(lease.give::<Shared>(cell));
                    assert!(!lease.give::<Shared>(cell));
                    // Given back without a word of how it went.
                    done += 2;
                }
                // By its id.
                1 => {
                    let entry = Entry { slot: taken.choice.slot, units: taken.units, start: now, measured: true };
                    let id = pool.enter(entry);
                    pool.adjust_entered(id, 5000).unwrap();
                    let entry = pool.leave(id).unwrap();
                    assert!(pool.leave(id).is_err());
                    pool.settle(entry.slot, entry.units, OUTCOMES[which], Some(0.1), None, now);
                    ended[which] += u64::from(stays);
                    done += 3;
                }
                // Later, maybe by another picker's turn and after its endpoint has left.
                2 | 3 if open.len() < 64 => open.push((taken.choice.slot, stays, taken.units)),
                _ => {
                    pool.settle_on(cell, taken.units, OUTCOMES[which], Some(0.1), None, now);
                    ended[which] += u64::from(stays);
                    done += 1;
                }
            }
        }
        if !open.is_empty() && rng.below(4) == 0 {
            let (slot, stays, units) = open.swap_remove(rng.below(open.len() as u32) as usize);
            let which = rng.below(6) as usize;
            pool.settle(slot, units, OUTCOMES[which], None, None, now);
            ended[which] += u64::from(stays);
            done += 1;
        }
        if rng.below(1000) == 0 {
            change(&pool, rng, now);
            done += 1;
        }
    }
    done
}

#[test]
fn two_threads_lose_no_count() {
    let asked = std::env::var("AIBALANCE_MIXED_OPERATIONS").ok().map(|text| text.parse().unwrap());
    let total: u64 = asked.unwrap_or(400_000);
    let pool: Arc<Pool<Shared, u32>> = Pool::new(members(&mut Rng::new(1)), Options::default()).unwrap();
    let least = Picker::new(&pool, LeastRequest::default());
    let scan = Picker::new(&pool, LeastRequest { full_scan: true, ..LeastRequest::default() });
    let robin = Picker::new(&pool, RoundRobin::default());
    let edf = Picker::new(&pool, RoundRobin { schedule: Schedule::Edf, start: Start::Random });
    let ewma = Picker::new(&pool, PeakEwma);
    let idle = Picker::new(&pool, JoinIdleQueue::default());
    let connections = Picker::new(&pool, LeastConnections::default());
    let maglev = Picker::new(&pool, Maglev { table_size: 251, bounded_load: None });
    let ring = Picker::new(&pool, RingHash { size: RingSize::Points(10), ..RingHash::default() });
    let each = total / 2 / 12;
    let thread = |seed: u64| {
        let (mut rng, mut ended, mut open) = (Rng::new(seed), Ended::default(), Vec::new());
        // Handles of its own for some, and the pickers that both share for the rest.
        let (local, own) = (robin.local(), least.local());
        let (r, e, o) = (&mut rng, &mut ended, &mut open);
        let mut done = 0;
        done += work(&least, r, each, e, o);
        done += work(&own, r, each, e, o);
        done += work(&scan, r, each, e, o);
        done += work(&robin, r, each, e, o);
        done += work(&local, r, each, e, o);
        done += work(&edf, r, each, e, o);
        done += work(&ewma, r, each, e, o);
        done += work(&idle, r, each, e, o);
        done += work(&connections, r, each, e, o);
        done += work(&maglev, r, each, e, o);
        done += work(&maglev.local(), r, each, e, o);
        done += work(&ring, r, each, e, o);
        for (slot, stays, units) in open {
            pool.settle(slot, units, Outcome::Success, None, None, Nanos(1));
            ended[0] += u64::from(stays);
        }
        (done, ended)
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| thread(2));
        (thread(3), other.join().unwrap())
    });
    assert!(first.0 + second.0 >= total / 12 * 12);
    // Nothing is in flight in any slot that there ever was. Reports count no more, but those of endpoints that have left
    // stay in their slots until these are used again.
    pool.expire(Nanos::MAX);
    let snapshot = pool.snapshot();
    let block = &snapshot.view.block;
    let mut slots = HashSet::new();
    for slot in 0..block.slots() as u32 {
        let cell = block.cell(slot).unwrap();
        slots.insert(slot);
        let sent = cell.signed_load().wrapping_sub(cell.extra.load(Ordering::Acquire) as i64);
        assert_eq!((cell.inflight.load(Ordering::Acquire), sent), (0, 0), "slot {slot}");
    }
    assert!(slots.len() >= STAY as usize);
    // Each end was counted once, where it happened.
    let mut counted = Ended::default();
    for record in pool.stats(Nanos::MAX) {
        if snapshot.payload[snapshot.ids[&*record.id] as usize] < STAY {
            let ends =
                [record.successes, record.failures, record.timeouts, record.rejected, record.cancelled, record.dropped];
            counted.iter_mut().zip(ends).for_each(|(sum, n)| *sum += n);
        }
    }
    let expected: Vec<u64> = first.1.iter().zip(second.1).map(|(a, b)| a + b).collect();
    assert_eq!(counted.to_vec(), expected);
    println!("{} operations, {} of them ends that were counted", first.0 + second.0, expected.iter().sum::<u64>());
}
