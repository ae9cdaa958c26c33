//! Simulated requests a second, all statistics on. `cargo bench --bench simulation`.

use aibalance::core::simulation::testing::{Rule, TestBalancer};
use aibalance::core::simulation::{
    Engine, FleetConfig, LaunchOrder, Law, RateProfile, ServerType, SimulationConfig, Traffic, Work,
};
use aibalance::core::time::Nanos;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SECOND: u64 = 1_000_000_000;

/// Servers of one slot at load 0.9, with exponential work of mean 1.
fn config(servers: u32, seconds: u64, timeout: Option<Nanos>) -> SimulationConfig {
    let kind = ServerType {
        name: "a".into(),
        speed: 1.0,
        weight: 1.0,
        concurrency: 1,
        price_per_hour: 1.0,
        share: 1.0,
        max: servers,
    };
    SimulationConfig {
        duration: Nanos(seconds * SECOND),
        discard: Nanos::ZERO,
        timeout,
        slo: Nanos(3 * SECOND),
        spike: Some((Nanos(seconds * SECOND / 3), Nanos(seconds * SECOND / 2))),
        traffic: Traffic::Poisson(RateProfile::constant(0.9 * f64::from(servers), seconds as f64).expect("a rate")),
        work: Work::Drawn(Law::exponential(1.0).expect("a mean")),
        keys: None,
        cost_is_work: false,
        fleet: FleetConfig {
            min: servers,
            max: servers,
            initial: servers,
            queue_limit: None,
            cold_start: Nanos::ZERO,
            decision_interval: Nanos(SECOND),
            metric_delay: Nanos::ZERO,
            metric_period: Nanos(SECOND),
            types: vec![kind],
            launch: LaunchOrder::Share,
        },
        seed: 1,
        timeline_steps: 240,
        records: false,
    }
}

fn run(config: &SimulationConfig, rule: Rule) -> u64 {
    let balancer = Box::new(TestBalancer::new(rule, 7));
    let results = Engine::new(config.clone(), balancer, None).and_then(Engine::finish).expect("a run");
    black_box(results.calm.requests + results.spike.requests)
}

fn simulated_requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulated requests");
    group.sample_size(10);
    for (name, servers, rule, timeout) in [
        ("1 server", 1, Rule::Random, None),
        ("100 servers, power of two", 100, Rule::PowerOfTwo, None),
        ("100 servers, power of two, timeout", 100, Rule::PowerOfTwo, Some(Nanos(30 * SECOND))),
        ("1000 servers, power of two", 1000, Rule::PowerOfTwo, None),
    ] {
        let config = config(servers, 1_000_000 / u64::from(servers), timeout);
        group.throughput(Throughput::Elements(run(&config, rule)));
        group.bench_function(name, |b| b.iter(|| run(&config, rule)));
    }
    group.finish();
}

criterion_group!(benches, simulated_requests);
criterion_main!(benches);
