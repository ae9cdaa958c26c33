#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::testing::{Rule, TestBalancer};
use super::super::{
    DetailConfig, Discipline, Engine, FleetConfig, LaunchOrder, Law, RateProfile, Results, ServerType,
    SimulationConfig, SimulationError, Trace, Traffic, Work,
};
use super::*;
use crate::core::time::Nanos;

const S: u64 = 1_000_000_000;

fn config(traffic: Traffic, work: Work, servers: u32, slots: u32, seconds: u64) -> SimulationConfig {
    let kind = ServerType {
        name: "a".into(),
        speed: 1.0,
        weight: 1.0,
        concurrency: slots,
        price_per_hour: 0.0,
        share: 1.0,
        max: u32::MAX,
    };
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
            max: servers,
            initial: servers,
            queue_limit: None,
            cold_start: Nanos::ZERO,
            decision_interval: Nanos(S),
            metric_delay: Nanos::ZERO,
            metric_period: Nanos(S),
            types: vec![kind],
            launch: LaunchOrder::Share,
        },
        seed: 1,
        timeline_steps: 10,
        records: true,
        detail: Some(DetailConfig::default()),
    }
}

fn poisson(rate: f64, seconds: u64) -> Traffic {
    Traffic::Poisson(RateProfile::constant(rate, seconds as f64).unwrap())
}

fn exp(mean: f64) -> Work {
    Work::Drawn(Law::exponential(mean).unwrap())
}

fn trace(at: &[f64], work: &[f64]) -> (Traffic, Work) {
    let trace = Trace::new(at, work, 1.0, None, false, at[at.len() - 1] + 1e-3).unwrap();
    (Traffic::Trace(trace), Work::given(0.0).unwrap())
}

fn run(config: SimulationConfig, rule: Rule) -> Results {
    Engine::new(config, Box::new(TestBalancer::new(rule, 5)), None).unwrap().finish().unwrap()
}

fn with(mut config: SimulationConfig, change: impl FnOnce(&mut DetailConfig)) -> SimulationConfig {
    let mut detail = config.detail.take().unwrap_or_default();
    change(&mut detail);
    config.detail = Some(detail);
    config
}

fn latencies(results: &Results) -> Vec<f64> {
    results.records.as_ref().unwrap().latency.iter().map(|&t| t as f64 / 1e9).collect()
}

fn near(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() <= by, "{a} is not within {by} of {b}");
}

#[test]
fn without_any_option_it_is_the_plain_engine() {
    for timeout in [None, Some(Nanos(3 * S))] {
        let mut c = config(poisson(8.5, 2000), exp(1.0), 5, 2, 2000);
        c.timeout = timeout;
        let detailed = run(c.clone(), Rule::PowerOfTwo);
        c.detail = None;
        let plain = run(c, Rule::PowerOfTwo);
        let (a, b) = (detailed.records.unwrap(), plain.records.unwrap());
        assert!(a.arrival == b.arrival && a.outcome == b.outcome && a.server == b.server);
        for (x, y) in a.latency.iter().zip(&b.latency) {
            assert!(x.abs_diff(*y) <= 100, "{x} {y}");
        }
        near(detailed.utilization, plain.utilization, 1e-6);
    }
}

#[test]
fn sharing_is_insensitive_and_a_limit_makes_it_wait() {
    let sharing = |limit| move |d: &mut DetailConfig| d.discipline = Discipline::Sharing { limit };
    let (traffic, work) = trace(&[0.0, 1.0], &[2.0, 0.5]);
    let c = config(traffic, work, 1, 1, 10);
    assert_eq!(latencies(&run(with(c.clone(), sharing(None)), Rule::Random)), [2.5, 1.0]);
    // One at a time is first come first served.
    assert_eq!(latencies(&run(with(c, sharing(Some(1))), Rule::Random)), [2.0, 1.5]);
    let law = Law::hyper_exponential(&[0.887_298_334_620_742, 0.112_701_665_379_258], &[0.563_508, 4.436_492]).unwrap();
    let mut c = with(config(poisson(0.5, 60_000), Work::Drawn(law), 1, 1, 60_000), sharing(None));
    c.records = false;
    let results = run(c, Rule::Random);
    near(results.calm.mean_s(), 2.0, 0.08);
    near(results.utilization, 0.5, 0.02);
}

#[test]
fn priorities_wait_as_cobham_says() {
    // prio_0: rates 0.3 and 0.4, exponential work of mean 1: mean waits 1 and 10/3.
    let mut c = config(poisson(0.7, 150_000), exp(1.0), 1, 1, 150_000);
    c.records = false;
    let class = |name: &str, share, priority| Class { name: name.into(), share, priority, work: None, slo: None };
    let classes = vec![class("first", 0.3, 0), class("second", 0.4, 1)];
    let results = run(
        with(c.clone(), |d| {
            d.discipline = Discipline::Priority;
            d.classes = classes.clone();
        }),
        Rule::Random,
    );
    let waits: Vec<f64> = results.detail.unwrap().classes.iter().map(|class| class.requests.wait_mean_s()).collect();
    near(waits[0], 1.0, 0.05);
    near(waits[1], 10.0 / 3.0, 0.25);
    // First come first served knows no classes.
    let fifo = run(with(c, |d| d.classes = classes), Rule::Random).detail.unwrap();
    near(fifo.classes[0].requests.wait_mean_s(), fifo.classes[1].requests.wait_mean_s(), 0.15);
}

fn model() -> BatchModel {
    BatchModel {
        step_s: 1.0,
        sequence_s: 0.0,
        prefill_s: 0.1,
        cached_s: 0.0,
        chunk: 1000,
        kv_tokens: 1000,
        block_tokens: 0,
    }
}

fn batch(model: BatchModel, rows: &[(u32, u32)], blocks: &[&[u64]]) -> impl FnOnce(&mut DetailConfig) {
    let mut offsets = vec![0];
    for row in blocks {
        offsets.push(offsets[offsets.len() - 1] + row.len());
    }
    let tokens = Tokens::Rows { lengths: rows.into(), blocks: blocks.concat().into(), offsets: offsets.into() };
    move |d| {
        d.discipline = Discipline::Batch(model);
        d.tokens = Some(tokens);
    }
}

/// Rows that arrive at these instants.
fn llm(at: &[f64], slots: u32, change: impl FnOnce(&mut DetailConfig)) -> Results {
    let rows: Vec<f64> = (0..at.len()).map(|i| i as f64).collect();
    let (traffic, work) = trace(at, &rows);
    run(with(config(traffic, work, 1, slots, 100), change), Rule::Random)
}

#[test]
fn a_batch_worked_by_hand() {
    // 10 prompt tokens make the first step 2 s, which brings the first token; two more steps of 1 s bring the other two.
    let results = llm(&[0.0], 4, batch(model(), &[(10, 3)], &[]));
    assert_eq!(latencies(&results), [4.0]);
    let detail = results.detail.unwrap();
    assert_eq!((detail.tokens_written, detail.prompt_computed), (3, 10));
    near(detail.first_token_mean_s(), 2.0, 1e-9);
    // The second joins at the next step, 2 s, and its prompt makes that step longer for both.
    let results = llm(&[0.0, 0.5], 4, batch(model(), &[(10, 3), (20, 1)], &[]));
    assert_eq!(latencies(&results), [6.0, 4.5]);
    // A batch of one: it waits for the first to end.
    let results = llm(&[0.0, 0.5], 1, batch(model(), &[(10, 3), (20, 1)], &[]));
    assert_eq!(latencies(&results), [4.0, 6.5]);
    // Chunks of 5: two steps of 1.5 s for the prompt.
    let chunked = BatchModel { chunk: 5, ..model() };
    assert_eq!(latencies(&llm(&[0.0], 4, batch(chunked, &[(10, 3)], &[]))), [5.0]);
    // Without a prompt each step is a token; 0.5 s a sequence: one alone until 1.5 s, then both.
    let sequences = BatchModel { sequence_s: 0.5, ..model() };
    let results = llm(&[0.0, 1.0], 4, batch(sequences, &[(0, 2), (0, 1)], &[]));
    assert_eq!(latencies(&results), [3.5, 2.5]);
    // 0.1 s a token in the cache at the begin of the step: 3 after the first.
    let cached = BatchModel { cached_s: 0.1, prefill_s: 0.0, ..model() };
    assert_eq!(latencies(&llm(&[0.0], 4, batch(cached, &[(2, 2)], &[]))), [2.5]);
}

#[test]
fn a_full_kv_cache_makes_wait_and_preempts_the_newest() {
    let small = BatchModel { kv_tokens: 20, prefill_s: 0.0, ..model() };
    // 12 + 12 prompt tokens do not fit: the second waits for the end of the first.
    let results = llm(&[0.0, 0.0], 4, batch(small, &[(12, 2), (12, 2)], &[]));
    assert_eq!(latencies(&results), [2.0, 4.0]);
    assert_eq!(results.detail.unwrap().preemptions, 0);
    // 8 + 8 do, but not with 5 tokens each: the newer is preempted and starts again when the other is done.
    let results = llm(&[0.0, 0.0], 4, batch(small, &[(8, 5), (8, 5)], &[]));
    let detail = results.detail.as_ref().unwrap();
    assert_eq!(detail.preemptions, 1);
    assert_eq!(latencies(&results)[0], 5.0);
    assert!(latencies(&results)[1] > 5.0);
    assert_eq!(detail.tokens_written, 10);
    assert!(detail.prompt_computed > 16);
    // What never fits is refused.
    let results = llm(&[0.0], 4, batch(small, &[(16, 5)], &[]));
    assert_eq!(results.calm.rejected, 1);
}

#[test]
fn a_prefix_is_computed_once_while_it_is_cached() {
    let blocks = BatchModel { block_tokens: 10, kv_tokens: 61, ..model() };
    let results = llm(&[0.0, 20.0], 4, batch(blocks, &[(25, 1), (25, 1)], &[&[1, 2, 3], &[1, 2, 3]]));
    // 2 full blocks of 10 are found again; 5 tokens are left.
    assert_eq!(latencies(&results), [3.5, 1.5]);
    assert_eq!(results.detail.unwrap().prompt_reused, 20);
    // Another prompt of 50 in between needs the room.
    let rows = [(25, 1), (50, 1), (25, 1)];
    let results = llm(&[0.0, 20.0, 40.0], 4, batch(blocks, &rows, &[&[1, 2, 3], &[4, 5, 6, 7, 8], &[1, 2, 3]]));
    assert_eq!(results.detail.unwrap().prompt_reused, 10);
    // All of a prompt is cached, but the last token is computed all the same.
    let results = llm(&[0.0, 20.0], 4, batch(blocks, &[(20, 1), (20, 1)], &[&[1, 2], &[1, 2]]));
    assert_eq!(results.detail.unwrap().prompt_reused, 19);
}

#[test]
fn workers_pull_by_priority_and_the_queue_refuses() {
    let (traffic, work) = trace(&[0.0, 0.1, 0.2, 0.3], &[1.0; 4]);
    let pull = Pull { limit: None, longest_wait: None };
    let c = config(traffic, work, 2, 1, 10);
    let results = run(with(c.clone(), |d| d.pull = Some(pull)), Rule::Random);
    near(latencies(&results)[2], 1.8, 1e-9);
    near(latencies(&results)[3], 1.8, 1e-9);
    assert_eq!(results.records.as_ref().unwrap().server, [0, 1, 0, 1]);
    let results = run(with(c.clone(), |d| d.pull = Some(Pull { limit: Some(1), ..pull })), Rule::Random);
    assert_eq!(results.records.unwrap().outcome, [0, 0, 0, 1]);
    // The third expects 0.5 s (one before nobody, two workers), the fourth 1 s.
    let longest = Pull { longest_wait: Some(Nanos(7 * S / 10)), ..pull };
    let results = run(with(c, |d| d.pull = Some(longest)), Rule::Random);
    assert_eq!(results.records.as_ref().unwrap().outcome, [0, 0, 0, 1]);
    assert_eq!(results.detail.unwrap().turned_away, 1);
    // M/M/2 at load 0.8: mean wait 16/9.
    let mut c = config(poisson(1.6, 100_000), exp(1.0), 2, 1, 100_000);
    c.records = false;
    let results = run(with(c, |d| d.pull = Some(pull)), Rule::Random);
    near(results.calm.wait_mean_s(), 16.0 / 9.0, 0.12);
}

#[test]
fn who_is_never_served_is_said() {
    let (traffic, work) = trace(&[0.0, 0.1], &[1.0; 2]);
    let mut c = with(config(traffic, work, 1, 1, 10), |d| d.pull = Some(Pull { limit: None, longest_wait: None }));
    (c.fleet.min, c.fleet.initial) = (0, 0);
    let error = Engine::new(c, Box::new(TestBalancer::new(Rule::Random, 5)), None).unwrap().finish().unwrap_err();
    assert!(error.to_string().starts_with("2 requests wait at the end"), "{error}");
}

#[test]
fn retries_are_bounded_by_attempts_and_budget() {
    let (traffic, work) = trace(&[0.0, 0.1, 0.2], &[5.0; 3]);
    let mut c = config(traffic, work, 1, 1, 10);
    c.fleet.queue_limit = Some(0);
    let retry = Retry { attempts: 3, backoff: Nanos::ZERO, budget: None, burst: 0.0, attempt_timeout: None };
    let detail = run(with(c.clone(), |d| d.retry = Some(retry)), Rule::Random).detail.unwrap();
    assert_eq!((detail.attempts, detail.retries, detail.retries_denied), (7, 4, 0));
    let tight = Retry { budget: Some(0.0), burst: 1.0, ..retry };
    let detail = run(with(c.clone(), |d| d.retry = Some(tight)), Rule::Random).detail.unwrap();
    assert_eq!((detail.retries, detail.retries_denied), (1, 2));
    // Half a credit a request: the second has 1 of them, and the third half of one.
    let half = Retry { budget: Some(0.5), burst: 0.0, ..retry };
    let detail = run(with(c.clone(), |d| d.retry = Some(half)), Rule::Random).detail.unwrap();
    assert_eq!((detail.retries, detail.retries_denied), (1, 2));
    // An attempt that takes longer than 2 s is given up and repeated; three of them are 6 s.
    c.fleet.queue_limit = None;
    let slow = Retry { attempt_timeout: Some(Nanos(2 * S)), ..retry };
    let (traffic, work) = trace(&[0.0], &[5.0]);
    let results = run(with(SimulationConfig { traffic, work, ..c }, |d| d.retry = Some(slow)), Rule::Random);
    assert_eq!((latencies(&results), results.calm.timed_out), (vec![6.0], 1));
}

#[test]
fn a_hedge_takes_the_first_answer_and_cancels_the_other() {
    let hedge = Hedge { after: Some(Nanos(S)), quantile: None, budget: None, burst: 0.0, cancel: true };
    // Servers 1 and 0 of round robin: the second request of 5 s is hedged on the other server.
    let (traffic, work) = trace(&[0.0], &[5.0]);
    let mut c = config(traffic, work, 2, 1, 10);
    c.fleet.types[0].speed = 1.0;
    let results = run(with(c.clone(), |d| d.hedge = Some(hedge)), Rule::RoundRobin);
    let detail = results.detail.as_ref().unwrap();
    assert_eq!((detail.attempts, detail.hedges, detail.hedge_wins, latencies(&results)), (2, 1, 0, vec![5.0]));
    // Both worked from 1 s to 5 s.
    near(results.utilization * 2.0 * 10.0, 9.0, 1e-6);
    let results = run(with(c.clone(), |d| d.hedge = Some(Hedge { cancel: false, ..hedge })), Rule::RoundRobin);
    near(results.utilization * 2.0 * 10.0, 10.0, 1e-6);
    assert_eq!(latencies(&results), [5.0]);
    let none = Hedge { budget: Some(0.0), ..hedge };
    let detail = run(with(c.clone(), |d| d.hedge = Some(none)), Rule::RoundRobin).detail.unwrap();
    assert_eq!((detail.hedges, detail.hedges_denied), (0, 1));
    // Never to the same server.
    c.fleet = FleetConfig { min: 1, max: 1, initial: 1, ..c.fleet };
    let detail = run(with(c, |d| d.hedge = Some(hedge)), Rule::Random).detail.unwrap();
    assert_eq!(detail.hedges, 0);
}

#[test]
fn hedged_quantiles_are_those_of_the_formula() {
    // hedge_exp_q0.95: p99 4.605 without, 3.800 with, 5 % more requests.
    let mut c = config(poisson(20.0, 10_000), exp(1.0), 4, 1_000_000, 10_000);
    c.records = false;
    for (after, quantile) in [(Some(Nanos(2_995_732_274)), None), (None, Some(0.95))] {
        let hedge = Hedge { after, quantile, budget: None, burst: 0.0, cancel: true };
        let change = |d: &mut DetailConfig| {
            d.hedge = Some(hedge);
            d.fresh_work = true;
        };
        let results = run(with(c.clone(), change), Rule::Random);
        near(results.calm.quantile_s(0.99), 3.800, 0.06);
        let detail = results.detail.unwrap();
        near(detail.hedges as f64 / results.calm.requests as f64, 0.05, 0.003);
    }
}

#[test]
fn the_network_delays_both_ways() {
    let (traffic, work) = trace(&[0.0, 0.0], &[1.0; 2]);
    let mut c = config(traffic, work, 1, 1, 10);
    let network = |d: &mut DetailConfig| d.network = Some(Law::deterministic(0.25).unwrap());
    let results = run(with(c.clone(), network), Rule::Random);
    assert_eq!(latencies(&results), [1.5, 2.5]);
    near(results.utilization, 0.2, 1e-9);
    // A client that gives up while the answer is on the way has not got it.
    c.timeout = Some(Nanos(2 * S));
    assert_eq!(run(with(c, network), Rule::Random).records.unwrap().outcome, [0, 2]);
}

#[test]
fn users_think_between_their_requests() {
    // Machine repair: 20 users think 10 s, one server of mean 0.3 s; product form says 19.33 of them think.
    let mut c = config(poisson(0.0, 20_000), exp(0.3), 1, 1, 20_000);
    c.records = false;
    let users = Users { count: 20, think: Law::exponential(10.0).unwrap() };
    let results = run(with(c, |d| d.users = Some(users)), Rule::Random);
    let (a, mut p, mut sum, mut mean) = (0.03, 1.0, 1.0, 0.0);
    for k in 1..=20 {
        p *= a * f64::from(21 - k);
        sum += p;
        mean += f64::from(k) * p;
    }
    near(results.in_system_mean, mean / sum, 0.05);
}

#[test]
fn dead_servers_fail_what_they_had_and_come_back() {
    let mut c = config(poisson(5.0, 20_000), exp(0.5), 10, 1, 20_000);
    c.records = false;
    let failures = Failures { up_s: 900.0, down_s: 100.0, detect: Nanos(5 * S) };
    let results = run(with(c.clone(), |d| d.failures = Some(failures)), Rule::Least);
    let detail = results.detail.as_ref().unwrap();
    // 10 servers, each with a cycle of 1,000 s.
    near(detail.failures as f64, 200.0, 45.0);
    assert!(results.calm.failed > detail.failures / 4);
    assert_eq!(results.calm.served + results.calm.failed, results.calm.requests);
    // Retries save nearly all of them.
    let retry = Retry { attempts: 4, backoff: Nanos(S / 10), budget: None, burst: 0.0, attempt_timeout: None };
    let saved = run(
        with(c.clone(), |d| {
            d.failures = Some(failures);
            d.retry = Some(retry);
        }),
        Rule::Random,
    );
    assert!(saved.calm.failed * 10 < results.calm.failed, "{} of {}", saved.calm.failed, results.calm.failed);
    // A shared queue has nobody to be told.
    let pull = Pull { limit: None, longest_wait: None };
    let pulled = run(
        with(c, |d| {
            d.failures = Some(failures);
            d.pull = Some(pull);
        }),
        Rule::Random,
    );
    assert!(pulled.calm.failed < results.calm.failed);
}

#[test]
fn neighbours_slow_down_and_new_servers_warm_up() {
    let (traffic, work) = trace(&[0.0], &[2.0]);
    let c = config(traffic, work, 1, 1, 10);
    let neighbours = Antagonists { share: 1.0, speed: 0.5, on_s: 5.0, off_s: 0.0 };
    let results = run(with(c.clone(), |d| d.antagonists = Some(neighbours)), Rule::Random);
    assert_eq!(latencies(&results), [4.0]);
    let nobody = Antagonists { share: 0.0, ..neighbours };
    assert_eq!(latencies(&run(with(c, |d| d.antagonists = Some(nobody)), Rule::Random)), [2.0]);
    // Half the servers at half speed half of the time: the fleet does 7/8 of its work.
    let mut c = config(poisson(300.0, 300), exp(1.0), 100, 1, 300);
    c.records = false;
    let half = Antagonists { share: 0.5, speed: 0.5, on_s: 2.0, off_s: 2.0 };
    let results = run(with(c, |d| d.antagonists = Some(half)), Rule::Least);
    near(results.calm.served as f64 / results.end_s / 100.0, 0.875, 0.03);
}

#[test]
fn what_cannot_be_is_named() {
    let good = config(poisson(1.0, 10), exp(1.0), 1, 1, 10);
    let field = |change: &dyn Fn(&mut DetailConfig)| match Engine::new(
        with(good.clone(), change),
        Box::new(TestBalancer::new(Rule::Random, 1)),
        None,
    ) {
        Err(SimulationError::Config(e)) => e.field,
        other => panic!("{other:?}"),
    };
    let retry = Retry { attempts: 1, backoff: Nanos::ZERO, budget: None, burst: 0.0, attempt_timeout: None };
    assert_eq!(field(&|d| d.retry = Some(Retry { attempts: 0, ..retry })), "retries.max_attempts");
    assert_eq!(field(&|d| d.retry = Some(Retry { budget: Some(f64::NAN), ..retry })), "retries.budget");
    assert_eq!(field(&|d| d.discipline = Discipline::Sharing { limit: Some(0) }), "fleet.sharing_limit");
    assert_eq!(field(&|d| d.discipline = Discipline::Batch(model())), "service.kind");
    assert_eq!(
        field(&|d| d.failures = Some(Failures { up_s: 0.0, down_s: 1.0, detect: Nanos(1) })),
        "failures.mean_up_s"
    );
    let neighbours = Antagonists { share: 2.0, speed: 0.5, on_s: 1.0, off_s: 1.0 };
    assert_eq!(field(&|d| d.antagonists = Some(neighbours)), "antagonists.share");
    let hedge = Hedge { after: None, quantile: None, budget: None, burst: 0.0, cancel: true };
    assert_eq!(field(&|d| d.hedge = Some(hedge)), "hedging");
}
