//! Simulated requests a second, all statistics on. `cargo bench --bench simulation`.

#![allow(missing_docs, clippy::expect_used)]

use aibalance::core::pickers::LeastRequest;
use aibalance::core::simulation::testing::{Rule, TestBalancer};
use aibalance::core::simulation::{
    Balancer, Engine, FleetConfig, LaunchOrder, Law, PoolBalancer, RateProfile, ServerType, SimulationConfig, Traffic,
    Work,
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
        detail: None,
    }
}

fn run(config: &SimulationConfig, balancer: Box<dyn Balancer + Send>) -> u64 {
    let results = Engine::new(config.clone(), balancer, None).and_then(Engine::finish).expect("a run");
    black_box(results.calm.requests + results.spike.requests)
}

fn power_of_two() -> Box<dyn Balancer + Send> {
    Box::new(TestBalancer::new(Rule::PowerOfTwo, 7))
}

/// The product's own picker, on a pool.
fn least_request() -> Box<dyn Balancer + Send> {
    Box::new(PoolBalancer::new(LeastRequest::default(), 7).expect("a balancer"))
}

fn simulated_requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulated requests");
    group.sample_size(10);
    let long = Some(Nanos(30 * SECOND));
    type Make = fn() -> Box<dyn Balancer + Send>;
    let cases: [(&str, u32, Make, Option<Nanos>); 5] = [
        ("1 server", 1, power_of_two, None),
        ("100 servers, power of two", 100, power_of_two, None),
        ("100 servers, LeastRequest", 100, least_request, None),
        ("100 servers, LeastRequest, timeout", 100, least_request, long),
        ("1000 servers, LeastRequest", 1000, least_request, None),
    ];
    for (name, servers, make, timeout) in cases {
        let config = config(servers, 1_000_000 / u64::from(servers), timeout);
        group.throughput(Throughput::Elements(run(&config, make())));
        group.bench_function(name, |b| b.iter(|| run(&config, make())));
    }
    group.finish();
}

criterion_group!(benches, simulated_requests);
criterion_main!(benches);
