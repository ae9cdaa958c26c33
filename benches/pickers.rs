//! What a pick costs without Python: `cargo bench`.
//!
//! Both ways of counting are measured: exclusive, for hosts with one thread at a time, and shared, with atomics. The
//! last group has two threads on one pool.
#![allow(missing_docs, clippy::expect_used)]

use aibalance::core::endpoints::Endpoint;
use aibalance::core::hash::xxh64;
use aibalance::core::pickers::Policy;
use aibalance::core::pickers::RoundRobin;
use aibalance::core::pickers::hashing::maglev::Maglev;
use aibalance::core::pickers::hashing::ring::RingHash;
use aibalance::core::pickers::latency::PeakEwma;
use aibalance::core::pickers::least_request::LeastRequest;
use aibalance::core::pool::Pool;
use aibalance::core::pool::lease::Outcome;
use aibalance::core::pool::options::Options;
use aibalance::core::pool::picker::Picker;
use aibalance::core::sync::{Exclusive, Mode, Shared};
use aibalance::core::time::Nanos;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;

const KEY: &[u8] = b"user-0123456789a";
const WEIGHTS: [f64; 8] = [5.0, 1.0, 3.0, 2.0, 1.0, 4.0, 1.0, 7.0];

fn pool<M: Mode>(n: usize, weighted: bool) -> Arc<Pool<M, ()>> {
    let endpoints = (0..n).map(|i| {
        let id: Arc<str> = format!("10.0.{}.{}:8080", i / 256, i % 256).into();
        Endpoint {
            id: id.clone(),
            hash_key: id,
            weight: if weighted { WEIGHTS.get(i % 8).copied().unwrap_or(1.0) } else { 1.0 },
            backup: false,
            priority: 0,
            zone: "".into(),

            max_inflight: u32::MAX,
            passive: None,
            payload: (),
        }
    });
    Pool::new(endpoints.collect(), Options { seed: 42, ..Options::default() }).expect("a good pool")
}

fn picks<L: Policy>(c: &mut Criterion, name: &str, policy: L, weighted: bool, key: Option<u64>) {
    let mut group = c.benchmark_group(name);
    for n in [8, 64, 512] {
        let picker = Picker::new(&pool::<Exclusive>(n, weighted), policy.clone());
        let state = picker.state();
        group.bench_function(BenchmarkId::new("exclusive", n), |b| {
            b.iter(|| picker.pick(&state, black_box(key).map(Into::into), Nanos(1)));
        });
        let picker = Picker::new(&pool::<Shared>(n, weighted), policy.clone());
        let state = picker.state();
        group.bench_function(BenchmarkId::new("shared", n), |b| {
            b.iter(|| picker.pick(&state, black_box(key).map(Into::into), Nanos(1)));
        });
    }
    group.finish();
}

fn pick(c: &mut Criterion) {
    let key = Some(xxh64(KEY));
    picks(c, "round robin", RoundRobin::default(), false, None);
    picks(c, "round robin, weighted", RoundRobin::default(), true, None);
    picks(c, "power of two", LeastRequest::default(), false, None);
    picks(c, "peak EWMA", PeakEwma, false, None);
    picks(c, "full scan", LeastRequest { full_scan: true, ..LeastRequest::default() }, false, None);
    picks(c, "Maglev", Maglev::default(), false, key);
    picks(c, "ring", RingHash::default(), false, key);
}

/// Takes and gives back, `count` times.
fn cycle<M: Mode>(picker: &Picker<LeastRequest, M, ()>, count: u64) {
    let state = picker.state();
    for _ in 0..count {
        if let Some(taken) = picker.acquire(&state, None, 1024, Nanos(1)) {
            picker.pool().settle(taken.choice.slot, taken.units, Outcome::Success, None, None, Nanos(1));
        }
    }
}

fn lease(c: &mut Criterion) {
    let mut group = c.benchmark_group("acquire, release");
    for n in [8, 64, 512] {
        let exclusive = Picker::new(&pool::<Exclusive>(n, false), LeastRequest::default());
        group.bench_function(BenchmarkId::new("exclusive", n), |b| b.iter(|| cycle(&exclusive, 1)));
        let shared = Picker::new(&pool::<Shared>(n, false), LeastRequest::default());
        group.bench_function(BenchmarkId::new("shared", n), |b| b.iter(|| cycle(&shared, 1)));
    }
    group.finish();
}

/// So many cycles on each of one and two threads that starting them does not count: twice the work in the same time is
/// what one hopes for. With one picker for both they meet at its source of chance as well; with a handle each, at the endpoints alone.
fn threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("100,000 × acquire, release a thread");
    group.sample_size(20);
    for n in [16, 128, 1024] {
        let picker = Picker::new(&pool::<Shared>(n, false), LeastRequest::default());
        for count in [1, 2] {
            group.bench_function(BenchmarkId::new(format!("{count} threads"), n), |b| {
                b.iter(|| {
                    std::thread::scope(|scope| {
                        for _ in 0..count {
                            scope.spawn(|| cycle(&picker, 100_000));
                        }
                    });
                });
            });
            let handles: Vec<_> = (0..count).map(|_| picker.local()).collect();
            group.bench_function(BenchmarkId::new(format!("{count} threads, handles"), n), |b| {
                b.iter(|| {
                    std::thread::scope(|scope| {
                        for handle in &handles {
                            scope.spawn(|| cycle(handle, 100_000));
                        }
                    });
                });
            });
        }
    }
    group.finish();
}

fn rebuild(c: &mut Criterion) {
    let mut group = c.benchmark_group("one weight changed, n = 100");
    let maglev = pool::<Exclusive>(100, false);
    let _maglev = Picker::new(&maglev, Maglev::default());
    let mut weight = 1.0;
    group.bench_function("Maglev, 65,537 slots", |b| {
        b.iter(|| {
            weight = 3.0 - weight;
            maglev.set_weight("10.0.0.1:8080", weight, |()| Some(())).expect("a known endpoint");
            maglev.advance(Nanos(1));
        });
    });
    let ring = pool::<Exclusive>(100, false);
    let _ring = Picker::new(&ring, RingHash::default());
    group.bench_function("ring, 512 points an endpoint", |b| {
        b.iter(|| {
            weight = 3.0 - weight;
            ring.set_weight("10.0.0.1:8080", weight, |()| Some(())).expect("a known endpoint");
            ring.advance(Nanos(1));
        });
    });
    group.finish();
}

criterion_group!(benches, pick, lease, threads, rebuild);
criterion_main!(benches);
