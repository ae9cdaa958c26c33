//! The engine against hand-worked cases, conservation laws and queueing theory.

use super::testing::{Rule, TestBalancer, TestScaler};
use super::*;
use crate::core::time::Nanos;

const S: u64 = 1_000_000_000;

fn kind(concurrency: u32) -> ServerType {
    ServerType {
        name: "a".into(),
        speed: 1.0,
        weight: 1.0,
        concurrency,
        price_per_hour: 3600.0,
        share: 1.0,
        max: u32::MAX,
    }
}

fn config(traffic: Traffic, work: Work, servers: u32, slots: u32, seconds: u64) -> SimulationConfig {
    SimulationConfig {
        duration: Nanos(seconds * S),
        discard: Nanos::ZERO,
        timeout: None,
        slo: Nanos(2 * S),
        spike: None,
        traffic,
        work,
        keys: None,
        cost_is_work: false,
        fleet: FleetConfig {
            min: servers,
            max: servers.max(1),
            initial: servers,
            queue_limit: None,
            cold_start: Nanos::ZERO,
            decision_interval: Nanos(S),
            metric_delay: Nanos::ZERO,
            metric_period: Nanos(S),
            types: vec![kind(slots)],
            launch: LaunchOrder::Share,
        },
        seed: 1,
        timeline_steps: 10,
        records: true,
        detail: None,
    }
}

fn poisson(rate: f64, seconds: u64) -> Traffic {
    Traffic::Poisson(RateProfile::constant(rate, seconds as f64).unwrap())
}

/// A trace that does not repeat.
fn trace(at: &[f64], work: &[f64]) -> (Traffic, Work) {
    let trace = Trace::new(at, work, 1.0, None, false, at[at.len() - 1] + 1e-3).unwrap();
    (Traffic::Trace(trace), Work::given(0.0).unwrap())
}

fn run_with(config: SimulationConfig, rule: Rule, scaler: Option<TestScaler>) -> Results {
    let balancer = Box::new(TestBalancer::new(rule, 5));
    let scaler = scaler.map(|s| Box::new(s) as Box<dyn Scaler + Send>);
    Engine::new(config, balancer, scaler).unwrap().finish().unwrap()
}

fn run(config: SimulationConfig, rule: Rule) -> Results {
    run_with(config, rule, None)
}

fn exp(mean: f64) -> Work {
    Work::Drawn(Law::exponential(mean).unwrap())
}

#[test]
fn a_queue_worked_by_hand() {
    // One slot; arrivals at 0, 1, 2, 9 with work 3, 2, 1, 1: waits 0, 2, 3, 0.
    let (traffic, work) = trace(&[0.0, 1.0, 2.0, 9.0], &[3.0, 2.0, 1.0, 1.0]);
    let results = run(config(traffic, work, 1, 1, 10), Rule::Random);
    let records = results.records.clone().unwrap();
    assert_eq!(records.arrival, [0, S, 2 * S, 9 * S]);
    assert_eq!(records.wait, [0, 2 * S, 3 * S, 0]);
    assert_eq!(records.service, [3 * S, 2 * S, S, S]);
    assert_eq!(records.latency, [3 * S, 4 * S, 4 * S, S]);
    assert_eq!(records.server, [0; 4]);
    assert_eq!(results.calm.within_slo, 1);
    assert_eq!(results.calm.latency_sum, u128::from(12 * S));
    assert_eq!(results.in_system_mean, 1.2);
    assert_eq!(results.utilization, 0.7);
    // The last one ends at the very end of the traffic.
    assert_eq!(results.end_s, 10.0);
    assert_eq!(results.timeline.in_system, [1.0, 2.0, 3.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(results.cost, 10.0);
}

#[test]
fn a_client_that_gives_up_frees_its_slot_or_its_place() {
    // Timeout 2.5: the first is cut in service at 2.5, the second has waited from 1 and is served 2.5..3.5 when cut,
    // the third arrives at 1.2 and gives up at 3.7 after 0.2 of service.
    let (traffic, work) = trace(&[0.0, 1.0, 1.2], &[9.0, 9.0, 9.0]);
    let mut c = config(traffic, work, 1, 1, 10);
    c.timeout = Some(Nanos(5 * S / 2));
    let results = run(c.clone(), Rule::Random);
    let records = results.records.unwrap();
    assert_eq!(records.outcome, [2, 2, 2]);
    assert_eq!(records.latency, [5 * S / 2; 3]);
    assert_eq!(records.wait, [0, 3 * S / 2, 23 * S / 10]);
    assert_eq!(results.calm.timed_out, 3);
    // The run is over at the end of the traffic's time, whatever ended before.
    assert_eq!(results.end_s, 10.0);
    // A completion at the very instant of the timeout is a success.
    let (traffic, work) = trace(&[0.0, 0.5], &[2.5, 1.0]);
    let results = run(SimulationConfig { traffic, work, ..c.clone() }, Rule::Random);
    assert_eq!(results.records.unwrap().outcome, [0, 2]);
    // Two that came at one instant give up at one instant, whether they were served or not.
    let (traffic, work) = trace(&[0.0, 0.0], &[9.0, 9.0]);
    let results = run(SimulationConfig { traffic, work, ..c }, Rule::Random);
    let records = results.records.unwrap();
    assert_eq!((records.outcome, records.service), (vec![2, 2], vec![5 * S / 2, 0]));
}

#[test]
fn a_full_queue_rejects_as_erlang_says() {
    // M/M/4/4 with 3 erlangs loses 20.61 % (Erlang B: (81/24)/(1+3+4.5+4.5+3.375)).
    let mut c = config(poisson(3.0, 60_000), exp(1.0), 1, 4, 60_000);
    c.fleet.queue_limit = Some(0);
    c.records = false;
    let results = run(c, Rule::Random);
    let loss = results.calm.rejected as f64 / results.calm.requests as f64;
    assert!((loss - 0.206_107).abs() < 0.006, "{loss}");
    assert_eq!(results.calm.served + results.calm.rejected, results.calm.requests);
    assert_eq!(results.calm.wait_sum, 0);
}

#[test]
fn one_server_is_m_m_1() {
    let mut c = config(poisson(0.7, 200_000), exp(1.0), 1, 1, 200_000);
    c.records = false;
    c.discard = Nanos(1000 * S);
    let results = run(c, Rule::Random);
    assert!((results.calm.mean_s() - 10.0 / 3.0).abs() < 0.1, "{}", results.calm.mean_s());
    assert!((results.calm.quantile_s(0.99) / 15.3506 - 1.0).abs() < 0.06, "{}", results.calm.quantile_s(0.99));
    // Little's law, up to the few requests at the edges.
    let little = results.in_system_mean / (results.calm.mean_s() * results.calm.requests as f64 / 200_000.0);
    assert!((little - 1.0).abs() < 0.02, "{little}");
    assert!((results.utilization - 0.7).abs() < 0.01);
}

#[test]
fn power_of_two_beats_random_as_known() {
    // supermarket_finite: N = 10, load 0.9 a server; random split is M/M/1 with mean 10, power of two about 3.
    let mut c = config(poisson(9.0, 40_000), exp(1.0), 10, 1, 40_000);
    c.records = false;
    let random = run(c.clone(), Rule::Random);
    let two = run(c, Rule::PowerOfTwo);
    assert!((random.calm.mean_s() - 10.0).abs() < 0.8, "{}", random.calm.mean_s());
    assert!(two.calm.mean_s() > 2.5 && two.calm.mean_s() < 3.3, "{}", two.calm.mean_s());
    // Both met the same requests.
    assert_eq!(random.calm.requests, two.calm.requests);
}

#[test]
fn equal_seeds_give_equal_runs_and_slices_do_not_matter() {
    let c = config(poisson(9.0, 500), exp(1.0), 10, 1, 500);
    let whole = run(c.clone(), Rule::PowerOfTwo);
    let mut engine = Engine::new(c.clone(), Box::new(TestBalancer::new(Rule::PowerOfTwo, 5)), None).unwrap();
    while !engine.run(7).unwrap() {}
    assert_eq!(engine.progress(), 1.0);
    let sliced = engine.finish().unwrap();
    assert_eq!(whole.records.clone().unwrap().latency, sliced.records.unwrap().latency);
    // Another balancer sees the same arrivals and the same work; another seed does not.
    let other = run(c.clone(), Rule::RoundRobin).records.unwrap();
    let records = whole.records.unwrap();
    assert_eq!(records.arrival, other.arrival);
    assert_eq!(records.service, other.service);
    assert_ne!(records.latency, other.latency);
    assert_ne!(run(SimulationConfig { seed: 2, ..c }, Rule::RoundRobin).records.unwrap().arrival, other.arrival);
}

#[test]
fn a_seed_gives_these_very_numbers() {
    // Pinned so that a change of the streams, on any machine, is seen.
    let c = config(poisson(2.0, 50), exp(1.0), 2, 1, 50);
    let records = run(c, Rule::PowerOfTwo).records.unwrap();
    assert_eq!(records.arrival.len(), PINNED.0);
    assert_eq!(records.arrival[..3], PINNED.1);
    assert_eq!(records.latency[..3], PINNED.2);
}
const PINNED: (usize, [u64; 3], [u64; 3]) =
    (101, [405_541_587, 810_517_360, 1_017_117_965], [166_197_352, 262_251_595, 5_072_352_247]);

fn growing(cold_s: u64, delay_s: u64) -> SimulationConfig {
    let mut c = config(poisson(20.0, 400), Work::Drawn(Law::deterministic(1.0).unwrap()), 1, 10, 400);
    c.fleet = FleetConfig {
        min: 1,
        max: 8,
        initial: 1,
        cold_start: Nanos(cold_s * S),
        decision_interval: Nanos(10 * S),
        metric_delay: Nanos(delay_s * S),
        metric_period: Nanos(10 * S),
        ..c.fleet
    };
    c.timeout = Some(Nanos(5 * S));
    c.timeline_steps = 400;
    c
}

#[test]
fn the_fleet_grows_after_the_delay_and_the_cold_start() {
    for (cold, delay) in [(0, 0), (30, 0), (30, 20), (0, 25)] {
        let results = run_with(growing(cold, delay), Rule::PowerOfTwo, Some(TestScaler { target: 0.8 }));
        let first = results.timeline.capacity.iter().position(|&n| n > 1.0).unwrap() as u64;
        // Overload from the start: the first decision with data is at 10 s for delay 0, at 30 s for 20 and 25.
        let sees = if delay == 0 { 10 } else { 30 };
        assert_eq!(first, sees + cold, "cold {cold}, delay {delay}");
        let last = *results.timeline.capacity.last().unwrap();
        assert!((2.0..=4.0).contains(&last), "{last}");
        assert_eq!(results.decisions, 40 - delay.div_ceil(10).min(delay / 10));
        let by_phase = results.calm.served + results.calm.timed_out + results.calm.rejected;
        assert_eq!(by_phase, results.calm.requests);
    }
}

struct Script(Vec<u32>);
impl Scaler for Script {
    fn decide(&mut self, now: Nanos, _: &FleetView) -> Result<Option<u32>, SimulationError> {
        Ok(self.0.get((now.0 / S) as usize / 10 - 1).copied())
    }
}

#[test]
fn scale_in_drains_and_bills_to_the_end_of_the_work() {
    // Two servers, one long request on each; at 10 s one server is enough. The drained one leaves when its work is done.
    let (traffic, work) = trace(&[0.0, 0.0, 0.0, 35.0], &[25.0, 31.0, 1.0, 1.0]);
    let mut c = config(traffic, work, 2, 2, 40);
    c.fleet = FleetConfig { min: 0, decision_interval: Nanos(10 * S), metric_period: Nanos(10 * S), ..c.fleet };
    let engine =
        Engine::new(c.clone(), Box::new(TestBalancer::new(Rule::RoundRobin, 1)), Some(Box::new(Script(vec![1, 1, 0]))));
    let results = engine.unwrap().finish().unwrap();
    let records = results.records.unwrap();
    // Round robin: servers 1, 0, 1 got the first three. Both hold one request at 10 s, so the newest drains: server 1 (25 s).
    assert_eq!(records.server[..3], [1, 0, 1]);
    assert_eq!(records.outcome, [0, 0, 0, 1]);
    assert_eq!(results.servers_peak, 2);
    // Server 1 is paid for 25 s, server 0 (drained from 30 s) for 31 s: 1 $ a second.
    assert_eq!(results.cost, 56.0);
    assert_eq!(results.servers_mean, 56.0 / 40.0);
    // At 0 servers every request is rejected.
    assert_eq!(results.calm.rejected, 1);
}

#[test]
fn warming_servers_go_first_and_types_keep_their_shares() {
    let (traffic, work) = trace(&[0.0], &[1.0]);
    let mut c = config(traffic, work, 1, 1, 100);
    let fast = ServerType { name: "fast".into(), speed: 4.0, share: 3.0, ..kind(1) };
    c.fleet = FleetConfig {
        min: 1,
        max: 20,
        cold_start: Nanos(60 * S),
        decision_interval: Nanos(10 * S),
        types: vec![fast, kind(1)],
        ..c.fleet
    };
    let engine = Engine::new(c, Box::new(TestBalancer::new(Rule::Random, 1)), Some(Box::new(Script(vec![8, 2, 2]))));
    let results = engine.unwrap().finish().unwrap();
    assert_eq!(results.launched, [6, 2]);
    // 6 of the 7 new ones lived 10 s; the last is there from 10 s.
    assert_eq!(results.cost, 100.0 + 90.0 + 60.0);
    assert_eq!(results.servers_peak, 8);
    assert_eq!(*results.timeline.capacity.last().unwrap(), 2.0);
    // A fast server needs a quarter of the time.
    assert_eq!(results.records.unwrap().service, [S / 4]);
}

#[test]
fn phases_split_by_arrival() {
    let (traffic, work) = trace(&[0.0, 4.0, 5.0, 9.0, 12.0], &[1.0; 5]);
    let mut c = config(traffic, work, 1, 1, 15);
    c.spike = Some((Nanos(4 * S), Nanos(9 * S)));
    c.discard = Nanos(S);
    let results = run(c, Rule::Random);
    assert_eq!((results.calm.requests, results.spike.requests), (2, 2));
    assert_eq!(results.all().unwrap().requests, 4);
    assert_eq!(results.all().unwrap().cells().iter().map(|c| c.2).sum::<u64>(), 4);
}

#[test]
fn wrong_configurations_and_balancers_are_refused() {
    let good = config(poisson(1.0, 10), exp(1.0), 1, 1, 10);
    let field = |c: SimulationConfig| match Engine::new(c, Box::new(TestBalancer::new(Rule::Random, 1)), None) {
        Err(SimulationError::Config(e)) => e.field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(SimulationConfig { duration: Nanos::ZERO, ..good.clone() }), "duration_s");
    assert_eq!(field(SimulationConfig { discard: Nanos(10 * S), ..good.clone() }), "discard_s");
    assert_eq!(field(SimulationConfig { timeout: Some(Nanos::ZERO), ..good.clone() }), "timeout_s");
    assert_eq!(field(SimulationConfig { keys: Some((0, 1.0)), ..good.clone() }), "keys.distinct");
    assert_eq!(field(SimulationConfig { work: Work::given(0.1).unwrap(), ..good.clone() }), "service");
    let mut c = good.clone();
    c.fleet.types[0].speed = f64::NAN;
    assert_eq!(field(c), "fleet.types[0].speed");

    struct Astray;
    impl Balancer for Astray {
        fn add(&mut self, _: u32, _: &ServerSpec, _: Nanos) -> Result<(), SimulationError> {
            Ok(())
        }
        fn drain(&mut self, _: u32, _: Nanos) -> Result<(), SimulationError> {
            Ok(())
        }
        fn remove(&mut self, _: u32, _: Nanos) -> Result<(), SimulationError> {
            Ok(())
        }
        fn acquire(&mut self, _: Option<u64>, _: f64, _: Nanos) -> Result<Option<Grant>, SimulationError> {
            Ok(Some(Grant { server: 9, ticket: 0 }))
        }
        fn release(&mut self, _: Grant, _: Nanos, _: Outcome, _: Nanos) -> Result<(), SimulationError> {
            Ok(())
        }
    }
    let lost = Engine::new(good, Box::new(Astray), None).unwrap().finish();
    assert!(matches!(lost, Err(SimulationError::Balancer(text)) if text.contains("server 9")));
}

#[test]
fn keys_repeat_only_when_asked() {
    #[derive(Default)]
    struct Spy {
        inner: Option<TestBalancer>,
        seen: std::sync::Arc<std::sync::atomic::AtomicU64>,
    }
    impl Balancer for Spy {
        fn add(&mut self, s: u32, spec: &ServerSpec, now: Nanos) -> Result<(), SimulationError> {
            self.inner.as_mut().unwrap().add(s, spec, now)
        }
        fn drain(&mut self, s: u32, now: Nanos) -> Result<(), SimulationError> {
            self.inner.as_mut().unwrap().drain(s, now)
        }
        fn remove(&mut self, s: u32, now: Nanos) -> Result<(), SimulationError> {
            self.inner.as_mut().unwrap().remove(s, now)
        }
        fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError> {
            assert!(cost > 0.0);
            self.seen.fetch_max(key.unwrap(), std::sync::atomic::Ordering::Relaxed);
            self.inner.as_mut().unwrap().acquire(key, cost, now)
        }
        fn release(&mut self, g: Grant, l: Nanos, o: Outcome, now: Nanos) -> Result<(), SimulationError> {
            self.inner.as_mut().unwrap().release(g, l, o, now)
        }
    }
    let largest = |keys| {
        let mut c = config(poisson(10.0, 100), exp(0.01), 1, 1, 100);
        c.keys = keys;
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let spy = Spy { inner: Some(TestBalancer::new(Rule::Random, 1)), seen: seen.clone() };
        let results = Engine::new(c, Box::new(spy), None).unwrap().finish().unwrap();
        (seen.load(std::sync::atomic::Ordering::Relaxed), results.calm.requests)
    };
    let (own, n) = largest(None);
    assert_eq!(own, n);
    assert_eq!(largest(Some((7, 0.0))).0, 6);
    assert!(largest(Some((50, 1.1))).0 <= 50);
}

#[test]
fn a_queue_without_bound_ends_with_an_error() {
    let mut c = config(poisson(1e6, 100), exp(1.0), 1, 1, 100);
    c.records = false;
    let ended = Engine::new(c, Box::new(TestBalancer::new(Rule::Random, 1)), None).unwrap().finish();
    assert!(matches!(ended, Err(SimulationError::TooManyInSystem(_))));
}
