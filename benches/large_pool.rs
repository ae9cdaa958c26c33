//! A pool of 10,000 endpoints that changes while a thread picks: `cargo bench --bench large_pool`.
//!
//! For each picker one thread picks without a pause and takes the time of every pick; another changes one weight, again
//! and again, and then does the rebuilds that were put off, as hosts do. What counts: `set_weight` within 5 ms, and no
//! pick in ten thousand that takes longer than 50 µs, whatever is rebuilt meanwhile. Then how long the two tables of
//! the goals take to be built. `-- COUNT` makes so many changes instead of 200.
#![allow(missing_docs, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

use aibalance::core::endpoints::Endpoint;
use aibalance::core::pickers::hashing::maglev::Maglev;
use aibalance::core::pickers::hashing::ring::{RingHash, RingSize};
use aibalance::core::pickers::least_request::LeastRequest;
use aibalance::core::pickers::{Policy, RoundRobin};
use aibalance::core::pool::Pool;
use aibalance::core::pool::options::Options;
use aibalance::core::pool::picker::Picker;
use aibalance::core::sync::Shared;
use aibalance::core::time::Nanos;
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn pool(n: usize, weighted: bool) -> Arc<Pool<Shared, Arc<()>>> {
    let endpoints = (0..n).map(|i| {
        let id: Arc<str> = format!("10.{}.{}.{}:8080", i >> 16, i >> 8 & 255, i & 255).into();
        let weight = if weighted { 1.0 + (i % 5) as f64 } else { 1.0 };
        Endpoint {
            id: id.clone(),
            hash_key: id,
            weight,
            backup: false,
            priority: 0,
            zone: "".into(),
            max_inflight: u32::MAX,
            passive: None,
            payload: Arc::new(()),
        }
    });
    Pool::new(endpoints.collect(), Options { seed: 42, ..Options::default() }).expect("a good pool")
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("good bounds")
}

/// How often the system took this thread off its core, where it tells.
fn switched() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Picks until told to stop, as a host does: with a state that is kept while its version is the same.
fn pick_until<L: Policy>(picker: &Picker<L, Shared, Arc<()>>, stop: &AtomicBool) -> (Histogram<u64>, u64) {
    let mut times = histogram();
    let before = switched();
    let (mut version, mut state) = (picker.version(), picker.state());
    let mut key = 0u64;
    while !stop.load(Ordering::Relaxed) {
        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let begin = Instant::now();
        let now = picker.version();
        if now != version {
            (version, state) = (now, picker.state());
        }
        black_box(picker.pick(&state, Some(black_box(key).into()), Nanos(1)));
        times.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    (times, switched() - before)
}

fn changes<L: Policy>(name: &str, policy: L, weighted: bool, count: u32) {
    let pool = pool(10_000, weighted);
    let picker = Picker::new(&pool, policy);
    let stop = AtomicBool::new(false);
    let (mut sets, mut rebuilds) = (histogram(), histogram());
    let (picks, switches) = std::thread::scope(|scope| {
        let picking = scope.spawn(|| pick_until(&picker, &stop));
        if count == 0 {
            std::thread::sleep(Duration::from_secs(2));
        }
        for i in 0..count {
            std::thread::sleep(Duration::from_millis(2));
            let begin = Instant::now();
            pool.set_weight("10.0.1.7:8080", f64::from(2 + i % 2), |p| Some(p.clone())).expect("a known endpoint");
            sets.saturating_record(begin.elapsed().as_nanos() as u64);
            let begin = Instant::now();
            pool.advance(Nanos(1));
            rebuilds.saturating_record(begin.elapsed().as_nanos() as u64);
        }
        stop.store(true, Ordering::Relaxed);
        picking.join().expect("a thread that ends")
    });
    row(name, &sets, &rebuilds, &picks, switches);
}

fn row(name: &str, sets: &Histogram<u64>, rebuilds: &Histogram<u64>, picks: &Histogram<u64>, switches: u64) {
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let us = |nanos: u64| nanos as f64 / 1e3;
    println!(
        "{name:<24} {:>8.2} {:>8.2} {:>9.2}   {:>12} {:>8.2} {:>9.2} {:>9.2} {:>9.0} {:>9}",
        ms(sets.value_at_quantile(0.5)),
        ms(sets.max()),
        ms(rebuilds.value_at_quantile(0.5)),
        picks.len(),
        us(picks.value_at_quantile(0.5)),
        us(picks.value_at_quantile(0.999)),
        us(picks.value_at_quantile(0.9999)),
        us(picks.max()),
        switches,
    );
}

/// Two looks into as much memory as a ring of 4.8 million points has, the second where the first one says, and nothing
/// else: no pick on such a ring has a better tail than this.
fn bare_memory() {
    let mut key = 1u64;
    let mut next = || {
        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        key
    };
    let table: Vec<u32> = (0..1 << 23).map(|_| next() as u32 >> 10).collect();
    let points: Vec<(u64, u32)> = (0..1 << 22).map(|_| (next(), 0)).collect();
    let mut times = histogram();
    let before = switched();
    let end = Instant::now() + Duration::from_secs(2);
    let mut begin = Instant::now();
    while begin < end {
        let first = table.get((next() >> 41) as usize);
        black_box(first.and_then(|&first| points.get(first as usize)).copied());
        times.saturating_record(begin.elapsed().as_nanos() as u64);
        begin = Instant::now();
    }
    row("no ring, two looks", &histogram(), &histogram(), &times, switched() - before);
}

/// The median time of changing one weight and building the table anew.
fn rebuild<L: Policy>(name: &str, policy: L, n: usize) {
    let pool = pool(n, false);
    let _picker = Picker::new(&pool, policy);
    let mut times = histogram();
    for i in 0..30 {
        let begin = Instant::now();
        pool.set_weight("10.0.0.1:8080", f64::from(2 + i % 2), |p| Some(p.clone())).expect("a known endpoint");
        pool.advance(Nanos(1));
        times.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    println!("{name:<40} {:>8.2} ms", times.value_at_quantile(0.5) as f64 / 1e6);
}

fn main() {
    let count = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(200);
    println!("10,000 endpoints; one weight changed {count} times");
    println!(
        "{:<24} {:>8} {:>8} {:>9}   {:>12} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "set ms", "most", "later ms", "picks", "p50 µs", "p99.9", "p99.99", "most", "switches"
    );
    changes("power of two", LeastRequest::default(), false, count);
    changes("power of two, weighted", LeastRequest::default(), true, count);
    changes("full scan", LeastRequest { full_scan: true, ..LeastRequest::default() }, true, count);
    changes("round robin, smooth", RoundRobin::default(), false, count);
    changes("round robin, weighted", RoundRobin::default(), true, count);
    changes("Maglev, 65,537", Maglev::default(), true, count.min(100));
    let ring = RingHash { size: RingSize::Points(160), ..RingHash::default() };
    changes("ring, 1.6 M points", ring.clone(), false, count.min(40));
    changes("ring, 4.8 M points", ring.clone(), true, count.min(40));
    // What the machine does to looks at random into a hundred megabytes: at the ring without a change, and without a ring.
    changes("the same, left alone", ring, true, 0);
    bare_memory();
    println!("\none weight changed and the table built");
    rebuild("Maglev, 65,537, 100 endpoints", Maglev::default(), 100);
    rebuild(
        "ring, 1,000 endpoints, 160 points each",
        RingHash { size: RingSize::Points(160), ..RingHash::default() },
        1000,
    );
}
