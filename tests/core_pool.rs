//! The core from outside: several threads on one pool, and the two ways of counting against each other.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aibalance::core::endpoints::{Endpoint, Health};
use aibalance::core::error::LeaseError;
use aibalance::core::health::failover::Rules;
use aibalance::core::pickers::least_connections::Variant;
use aibalance::core::pickers::{
    ClientSideWeightedRoundRobin, First, LeastConnections, LeastRequest, LeastTime, Maglev, PeakEwma, Policy, Prequal,
    RingHash, RoundRobin, Schedule, Start,
};
use aibalance::core::pool::lease::Entry;
use aibalance::core::pool::{LeaseCell, Options, Outcome, Picker, Pool, Report};
use aibalance::core::rng::{Rng, draw};
use aibalance::core::sync::{Exclusive, Mode, Shared};
use aibalance::core::time::Nanos;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn endpoint(id: String, weight: f64) -> Endpoint<u32> {
    Endpoint {
        hash_key: id.as_str().into(),
        id: id.into(),
        weight,
        backup: false,
        priority: 0,
        zone: "".into(),

        max_inflight: u32::MAX,
        passive: None,
        payload: 0,
    }
}

fn endpoints(n: u32) -> Vec<Endpoint<u32>> {
    (0..n)
        .map(|i| Endpoint {
            backup: i % 5 == 4,
            priority: 0,
            zone: "".into(),

            max_inflight: if i % 3 == 0 { 20 } else { u32::MAX },
            ..endpoint(format!("10.0.0.{i}:80"), f64::from(1 + i % 3))
        })
        .collect()
}

/// Work of one thread: picks, acquires, releases on both paths, corrections. Gives how many operations it made.
fn work<L: Policy>(pool: &Pool<Shared, u32>, picker: &Picker<L, Shared, u32>, seed: u64, rounds: u64) -> u64 {
    let (mut rng, mut done) = (Rng::new(seed), 0);
    for round in 0..rounds {
        let state = picker.state();
        let now = Nanos(round + 1);
        for _ in 0..16 {
            let key = Some(rng.next_u64());
            picker.pick(&state, key.map(Into::into), now);
            done += 1;
            let Some(taken) = picker.acquire(&state, key.map(Into::into), 1024, now) else { continue };
            let cell = picker.cell(&state, taken.choice).unwrap();
            match rng.below(4) {
                0 => pool.settle_on(cell, taken.units, Outcome::Success, Some(0.1), None, now),
                1 => {
                    let id =
                        pool.enter(Entry { slot: taken.choice.slot, units: taken.units, start: now, measured: true });
                    pool.adjust_entered(id, 5000).unwrap();
                    let entry = pool.leave(id).unwrap();
                    pool.settle(entry.slot, entry.units, Outcome::Failure, Some(0.1), None, now);
                    assert_eq!(pool.leave(id), Err(LeaseError::NotLive(id)));
                }
                2 => {
                    let lease = LeaseCell::new(taken.units);
                    lease.adjust::<Shared>(cell, 77).unwrap();
                    assert!(lease.give::<Shared>(cell));
                    assert!(!lease.give::<Shared>(cell));
                }
                _ => pool.settle(taken.choice.slot, taken.units, Outcome::Dropped, None, None, now),
            }
            done += 2;
        }
    }
    done
}

fn change(pool: &Pool<Shared, u32>, stop: &AtomicBool) -> u64 {
    let (mut rng, mut made) = (Rng::new(5), 0);
    while !stop.load(Ordering::Relaxed) {
        let id = format!("10.0.0.{}:80", rng.below(40));
        // Unknown ids are refused, which is part of it.
        match rng.below(9) {
            0 => pool.update(endpoints(4 + rng.below(40)), Nanos::ZERO).unwrap(),
            1 => drop(pool.add(endpoint(id, 1.0), Nanos::ZERO)),
            2 if pool.snapshot().payload.len() > 3 => drop(pool.remove(&id)),
            3 => drop(pool.set_weight(&id, f64::from(rng.below(3)), |p| Some(*p))),
            4 => drop(pool.set_health(
                &id,
                [Health::Healthy, Health::Degraded, Health::Unhealthy][rng.below(3) as usize],
                Nanos::ZERO,
            )),
            5 => drop(pool.drain(&id, Nanos::MAX)),
            6 => drop(pool.undrain(&id)),
            7 => drop(pool.observe(&id, Report { inflight: Some(3.0), ..Report::default() }, Nanos(made))),
            _ => pool.advance(Nanos(made)),
        }
        made += 1;
    }
    made
}

#[test]
fn ten_million_operations_of_four_threads_leave_nothing_in_flight() {
    // Unoptimised builds make a tenth.
    let total: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
    let pool: Arc<Pool<Shared, u32>> = Pool::new(endpoints(12), Options::default()).unwrap();
    let least = Picker::new(&pool, LeastRequest::default());
    let robin = Picker::new(&pool, RoundRobin::default());
    let ewma = Picker::new(&pool, PeakEwma);
    let maglev = Picker::new(&pool, Maglev { table_size: 251, bounded_load: None });
    let rounds = total / 4 / 40;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| change(&pool, &stop));
        let working = [
            scope.spawn(|| work(&pool, &least, 1, rounds)),
            scope.spawn(|| work(&pool, &robin, 2, rounds)),
            scope.spawn(|| work(&pool, &ewma, 3, rounds)),
            scope.spawn(|| work(&pool, &maglev, 4, rounds)),
        ];
        let done: u64 = working.into_iter().map(|thread| thread.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        assert!(changing.join().unwrap() > 10);
        assert!(done > total / 2, "{done}");
    });
    pool.expire(Nanos::MAX);
    let block = pool.snapshot().view.block.clone();
    for slot in 0..block.slots() as u32 {
        let cell = block.cell(slot).unwrap();
        assert_eq!(cell.inflight.load(std::sync::atomic::Ordering::Relaxed), 0, "slot {slot}");
        // Reports that an endpoint took with it when it left are not work.
        let extra = cell.extra.load(std::sync::atomic::Ordering::Relaxed) as i64;
        assert_eq!(cell.signed_load() - extra, 0, "slot {slot}");
    }
}

#[test]
fn a_release_by_slot_finds_it_as_soon_as_a_pick_does() {
    // New endpoints open new chunks of counters; whoever gets one from a picker must be able to give it back at once.
    let pool: Arc<Pool<Shared, u32>> = Pool::new(endpoints(2), Options::default()).unwrap();
    let picker = Picker::new(&pool, LeastRequest { full_scan: true, ..LeastRequest::default() });
    let others: Vec<_> = (0..20).map(|_| Picker::new(&pool, RingHash::default())).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..40 {
                pool.update((0..2 + i * 8).map(|j| endpoint(format!("{i}/{j}"), 1.0)).collect(), Nanos::ZERO).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let state = picker.state();
            if let Some(taken) = picker.acquire(&state, None, 1024, Nanos(1)) {
                pool.settle(taken.choice.slot, taken.units, Outcome::Success, None, None, Nanos(1));
                assert_eq!(picker.cell(&state, taken.choice).unwrap().inflight.load(Ordering::Relaxed), 0);
            }
        }
    });
    assert_eq!(others.len(), 20);
}

/// What a script of picks and changes gives, as indices.
fn replay<L: Policy, M: Mode>(policy: L, weights: &[f64], steps: &[(u8, u32)], seed: u64) -> Vec<Option<u32>> {
    let members = weights.iter().enumerate().map(|(i, &w)| endpoint(format!("e{i}"), w)).collect();
    let pool: Arc<Pool<M, u32>> = Pool::new(members, Options { seed, ..Options::default() }).unwrap();
    let picker = Picker::new(&pool, policy);
    let mut held = Vec::new();
    let mut out = Vec::new();
    for (i, &(what, n)) in (1..).zip(steps) {
        let now = Nanos(i * 10_000_000);
        let state = picker.state();
        let id = format!("e{}", n as usize % weights.len());
        match what {
            0 => out.push(picker.pick(&state, Some(draw(u64::from(n), 0).into()), now).map(|c| c.index)),
            1 => {
                let taken = picker.acquire(&state, None, u64::from(n), now);
                out.push(taken.map(|t| t.choice.index));
                held.extend(taken);
            }
            2 if !held.is_empty() => {
                let taken = held.swap_remove(n as usize % held.len());
                pool.settle(taken.choice.slot, taken.units, Outcome::Success, Some(f64::from(n) / 1e3), None, now);
            }
            3 => assert!(pool.set_weight(&id, f64::from(n % 4), |p| Some(*p)).unwrap()),
            4 => {
                pool.set_health(&id, if n % 2 == 0 { Health::Healthy } else { Health::Unhealthy }, Nanos::ZERO).unwrap()
            }
            5 if n % 2 == 0 => {
                let report = Report {
                    inflight: Some(f64::from(n % 7)),
                    qps: Some(f64::from(n % 11)),
                    utilization: Some(0.5),
                    ..Report::default()
                };
                pool.observe(&id, report, now).unwrap();
            }
            _ => out.extend(
                picker.ranked(&state, Some(7.into()), 3, now, Default::default()).iter().map(|c| Some(c.index)),
            ),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn one_thread_gets_the_same_picks_however_is_counted(
        weights in prop::collection::vec(prop::sample::select(vec![0.0, 1.0, 1.0, 2.0, 0.3, 7.0]), 1..9),
        steps in prop::collection::vec((0u8..6, 0u32..5000), 1..120),
        seed: u64,
    ) {
        fn both<L: Policy>(policy: L, weights: &[f64], steps: &[(u8, u32)], seed: u64) {
            let shared = replay::<L, Shared>(policy.clone(), weights, steps, seed);
            assert_eq!(shared, replay::<L, Exclusive>(policy, weights, steps, seed));
        }
        both(RoundRobin { start: Start::Random, ..RoundRobin::default() }, &weights, &steps, seed);
        for schedule in [Schedule::Edf, Schedule::Heap, Schedule::Stride, Schedule::Fwrr, Schedule::StaticRr, Schedule::Caddy] {
            both(RoundRobin { schedule, start: Start::Random }, &weights, &steps, seed);
        }
        for variant in [Variant::Nginx, Variant::Haproxy] {
            both(LeastConnections { variant }, &weights, &steps, seed);
        }
        both(First, &weights, &steps, seed);
        both(LeastRequest::default(), &weights, &steps, seed);
        both(LeastRequest { full_scan: true, ..LeastRequest::default() }, &weights, &steps, seed);
        both(PeakEwma, &weights, &steps, seed);
        both(LeastTime, &weights, &steps, seed);
        both(Prequal::default(), &weights, &steps, seed);
        both(ClientSideWeightedRoundRobin { blackout: Nanos::ZERO, ..Default::default() }, &weights, &steps, seed);
        both(Maglev { table_size: 101, bounded_load: None }, &weights, &steps, seed);
        both(RingHash { size: aibalance::core::pickers::hashing::ring::RingSize::Points(8), ..RingHash::default() }, &weights, &steps, seed);
    }

    #[test]
    fn draws_by_weight_have_their_shares(weights in prop::collection::vec(0.05f64..20.0, 2..12), seed: u64) {
        let members = weights.iter().enumerate().map(|(i, &w)| endpoint(format!("e{i}"), w)).collect();
        let pool: Arc<Pool<Exclusive, u32>> = Pool::new(members, Options { seed, ..Options::default() }).unwrap();
        let picker = Picker::new(&pool, LeastRequest { choices: 1, ..LeastRequest::default() });
        let n = 100_000u32;
        let mut out = vec![0; n as usize];
        let state = picker.state();
        state.fill(picker.policy(), &picker.context(&state, 1024, Nanos(1)), &mut out).unwrap();
        let total: f64 = weights.iter().sum();
        for (i, w) in weights.iter().enumerate() {
            let (p, n) = (w / total, f64::from(n));
            let z = (out.iter().filter(|&&o| o as usize == i).count() as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
            // 60 cases of up to 11 shares beyond 6 standard errors: about 2e-6 by chance.
            prop_assert!(z.abs() < 6.0, "{w} of {weights:?}: {z}");
        }
    }

    #[test]
    fn leases_of_a_ledger_are_taken_back_when_old_and_never_lost(
        starts in prop::collection::vec(0u64..100, 1..20), timeout in 1u64..120, now in 0u64..250,
    ) {
        let options = Options { lease_timeout: Some(Nanos(timeout)), rules: Rules::default(), ..Options::default() };
        let pool: Arc<Pool<Exclusive, u32>> = Pool::new(endpoints(2), options).unwrap();
        let picker = Picker::new(&pool, LeastRequest { ties: aibalance::core::pickers::least_request::Ties::First, ..LeastRequest::default() });
        let state = picker.state();
        let ids: Vec<(u64, u64)> = starts
            .iter()
            .map(|&start| {
                let taken = picker.acquire(&state, None, 1024, Nanos(start)).unwrap();
                let entry = Entry { slot: taken.choice.slot, units: taken.units, start: Nanos(start), measured: true };
                (start, pool.enter(entry))
            })
            .collect();
        pool.expire(Nanos(now));
        for &(start, id) in &ids {
            let old = now >= start && now - start >= timeout;
            prop_assert_eq!(pool.lease(id).is_none(), old, "start {} now {} timeout {}", start, now, timeout);
            if let Ok(entry) = pool.leave(id) {
                pool.settle(entry.slot, entry.units, Outcome::Success, None, None, Nanos(now));
            }
        }
        prop_assert!(pool.stats(Nanos(now)).iter().all(|s| s.inflight == 0 && s.load == 0.0));
    }
}

/// The payload holds what Python shows: one that was made from an endpoint that is gone must not come back.
#[test]
fn a_weight_with_the_payload_of_another_changes_nothing() {
    let pool = Pool::<Shared, u32>::new(vec![endpoint("a".into(), 1.0)], Options::default()).unwrap();
    let generation = pool.snapshot().view.generation;
    assert_eq!(pool.set_weight("a", 7.0, |_| None), Ok(false));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.view.weights.to_vec(), snapshot.view.generation), (vec![1.0], generation));
    assert_eq!(pool.set_weight("a", 7.0, |_| Some(5)), Ok(true));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.view.weights.to_vec(), snapshot.payload[0]), (vec![7.0], 5));
}

#[test]
fn least_connections_of_several_threads_stays_exact() {
    // Nothing ends meanwhile, so that counts only grow: whoever has two more than one that is read later has got a request
    // that was not its own.
    for variant in [Variant::Nginx, Variant::Haproxy] {
        let pool: Arc<Pool<Shared, u32>> =
            Pool::new((0..5).map(|i| endpoint(format!("e{i}"), 1.0)).collect(), Options::default()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let picker = Picker::new(&pool, LeastConnections { variant });
                    let state = picker.state();
                    let count = |slot| state.snapshot.view.block.cell(slot).unwrap().inflight.load(Ordering::SeqCst);
                    for _ in 0..200_000 {
                        let slot = picker.acquire(&state, None, 1024, Nanos::ZERO).unwrap().choice.slot;
                        let most = count(slot);
                        assert!((0..5).all(|other| most <= count(other) + 1), "{variant:?}");
                    }
                });
            }
        });
        let block = pool.snapshot().view.block.clone();
        let counts: Vec<u64> = (0..5).map(|slot| block.cell(slot).unwrap().inflight.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [160_000; 5], "{variant:?}");
    }
}

#[test]
fn a_tie_of_unequal_weights_is_taken_at_the_first_look() {
    // One of weight 2 with two requests is as good as one of weight 1 with one: who has the turn must not lose it for that.
    for variant in [Variant::Nginx, Variant::Haproxy] {
        let policy = LeastConnections { variant };
        let steps = [(1, 1024); 40];
        let alone = replay::<_, Exclusive>(policy, &[1.0, 2.0, 4.0], &steps, 1);
        assert_eq!(replay::<_, Shared>(policy, &[1.0, 2.0, 4.0], &steps, 1), alone, "{variant:?}");
    }
}
