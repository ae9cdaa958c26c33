//! The policy for language models, through a pool.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aibalance::core::endpoints::{Endpoint, Health, Work};
use aibalance::core::llm::policy::Shared as SharedIndex;
use aibalance::core::llm::{Options, PrefixAware, Prompt, Score, Stale};
use aibalance::core::pool::{Filter, Options as PoolOptions, Picker, Pool, Report};
use aibalance::core::sync::Shared;
use aibalance::core::time::Nanos;
use std::sync::Arc;

fn id(n: u32) -> Arc<str> {
    format!("e{n}").into()
}

const DYNAMO: Score = Score::Dynamo { prefill_scale: 1.0, credit_decay: 0.0, request_weight: 0.0 };

fn options(score: Score) -> Options {
    let credits = [1.0, 0.75, 0.25];
    let (temperature, max_report_age, stale) = (0.0, Nanos(1_000), Stale::Own);
    Options { score, credits, temperature, bounded_load: None, max_report_age, stale }
}

fn endpoint(n: u32, weight: f64) -> Endpoint<()> {
    Endpoint {
        id: id(n),
        hash_key: id(n),
        weight,
        backup: false,
        priority: 0,
        zone: "".into(),
        max_inflight: u32::MAX,
        passive: None,
        payload: (),
    }
}

struct Fleet {
    pool: Arc<Pool<Shared, ()>>,
    picker: Arc<Picker<PrefixAware, Shared, ()>>,
    index: Arc<SharedIndex>,
}

impl Fleet {
    fn new(weights: &[f64], options: Options) -> Fleet {
        let endpoints = (0u32..).zip(weights).map(|(n, &weight)| endpoint(n, weight)).collect();
        let pool = Pool::new(endpoints, PoolOptions { seed: 7, ..PoolOptions::default() }).unwrap();
        let index = SharedIndex::new(16, 1000, Nanos::MAX).unwrap();
        let picker = Picker::new(&pool, PrefixAware::new(&index, options).unwrap());
        Fleet { pool, picker, index }
    }

    fn pick(&self, blocks: &[u64], now: u64) -> u32 {
        let prompt = Prompt { blocks, tokens: blocks.len() as u64 * 16 };
        self.picker.pick(&self.picker.state(), Some(prompt.key()), Nanos(now)).unwrap().index
    }

    fn acquire(&self, blocks: &[u64], now: u64) -> (u32, impl Work + use<>) {
        let prompt = Prompt { blocks, tokens: blocks.len() as u64 * 16 };
        let state = self.picker.state();
        let taken = self.picker.acquire(&state, Some(prompt.key()), prompt.tokens * 1024, Nanos(now)).unwrap();
        let ticket = self.picker.policy().charge(&state.snapshot.view, taken.choice, prompt, Nanos(now)).unwrap();
        (taken.choice.index, ticket)
    }

    fn loads(&self) -> Vec<(f64, f64, f64)> {
        let state = self.picker.state();
        let parts = self.picker.policy().parts(&state.snapshot.view, Prompt::default(), Nanos(0));
        parts.iter().map(|p| p.candidate.seen).map(|s| (s.requests, s.prefill, s.decode)).collect()
    }
}

#[test]
fn tokens_are_charged_at_the_pick_and_given_back_at_first_token_and_end() {
    let fleet = Fleet::new(&[1.0], options(DYNAMO));
    let (_, first) = fleet.acquire(&[1, 2, 3], 0);
    assert_eq!(fleet.loads(), [(1.0, 48.0, 3.0)]);
    let (_, second) = fleet.acquire(&[1, 2, 9], 0);
    assert_eq!(fleet.loads(), [(2.0, 64.0, 4.0)], "what is cached is not prefilled, and shared blocks count once");
    first.first_token();
    first.first_token();
    assert_eq!(fleet.loads(), [(2.0, 16.0, 4.0)]);
    first.add(17 * 1024);
    assert_eq!(fleet.loads(), [(2.0, 16.0, 6.0)]);
    first.add(-16 * 1024);
    first.add(-999 * 1024);
    first.add(999 * 1024);
    assert_eq!(fleet.loads(), [(2.0, 16.0, 5.0)]);
    drop(first);
    assert_eq!(fleet.loads(), [(1.0, 16.0, 3.0)]);
    drop(second);
    assert_eq!(fleet.loads(), [(0.0, 0.0, 0.0)]);
}

#[test]
fn a_request_goes_where_its_prefix_is_until_that_costs_more() {
    let fleet = Fleet::new(&[1.0, 1.0], options(DYNAMO));
    let (there, work) = fleet.acquire(&[1, 2, 3, 4], 0);
    drop(work);
    assert_eq!([fleet.pick(&[1, 2, 3, 4, 5], 0), fleet.pick(&[1, 2], 0)], [there; 2]);
    let _busy: Vec<_> = (0..2).map(|i| fleet.acquire(&[1, 2, 3, 4, 10 + i], 0).1).collect();
    assert_ne!(fleet.pick(&[1, 2, 3, 4, 5], 0), there, "siblings met there, and fill it");
}

#[test]
fn health_exclusion_and_updates_count_as_everywhere() {
    let fleet = Fleet::new(&[1.0, 1.0, 0.0], options(DYNAMO));
    let (there, work) = fleet.acquire(&[1, 2, 3], 0);
    work.first_token();
    let other = 1 - there;
    let state = fleet.picker.state();
    let key = Prompt { blocks: &[1, 2, 3], tokens: 48 };
    let filter = Filter { exclude: vec![there], subset: None };
    assert_eq!(fleet.picker.acquire_from(&state, Some(key.key()), 1, Nanos(0), filter).unwrap().choice.index, other);
    let ranked = fleet.picker.ranked(&state, Some(key.key()), 9, Nanos(0), Filter::default());
    assert_eq!(ranked.iter().map(|c| c.index).collect::<Vec<_>>(), [there, other]);
    fleet.pool.set_health(&id(there), Health::Unhealthy, Nanos(0)).unwrap();
    assert_eq!(fleet.pick(&[1, 2, 3], 0), other);
    fleet.pool.set_health(&id(there), Health::Healthy, Nanos(0)).unwrap();
    assert_eq!(fleet.pick(&[1, 2, 3], 0), there, "it was ill, and forgot nothing");
    // It dies with a request in flight: its cache is forgotten at once, its work when that ends.
    fleet.pool.update(vec![endpoint(other, 1.0)], Nanos(0)).unwrap();
    assert!(fleet.index.index().matches(&[1], Nanos(0)).is_empty());
    assert_eq!(fleet.index.index().len(), 3, "in use");
    drop(work);
    assert!(fleet.index.index().is_empty());
    assert_eq!(fleet.index.index().ids().count(), 1);
    fleet.pool.update(vec![endpoint(9, 1.0)], Nanos(0)).unwrap();
    assert_eq!(fleet.loads(), [(0.0, 0.0, 0.0)]);
    drop(fleet.picker);
    drop(fleet.pool);
    drop(state);
}

#[test]
fn reports_are_corrected_and_old_ones_count_as_chosen() {
    let told = Report { inflight: Some(3.0), queue: Some(2.0), kv_cache: Some(0.5), ..Report::default() };
    let fleet = Fleet::new(&[1.0, 1.0], options(DYNAMO));
    fleet.pool.observe("e0", told, Nanos(5)).unwrap();
    assert_eq!(fleet.loads()[0], (5.0, 2048.0, 500.0), "two wait, of 1024 tokens as long as nobody knows better");
    assert_eq!([fleet.pick(&[1], 5), fleet.pick(&[2], 6)], [1, 1]);
    let fleet = Fleet::new(&[1.0, 1.0], Options { stale: Stale::Saturated, ..options(DYNAMO) });
    fleet.pool.observe("e0", Report { inflight: Some(0.0), ..Report::default() }, Nanos(5)).unwrap();
    let work: Vec<_> = (0..20).map(|i| fleet.acquire(&[i], 5)).collect();
    assert!(work.iter().any(|(at, _)| *at == 0));
    assert!((0..20).all(|i| fleet.pick(&[100 + i], 2_000) == 1), "too old");
}

#[test]
fn ties_are_fair_and_chance_is_seeded() {
    let draw = |temperature: f64| {
        let fleet = Fleet::new(&[1.0; 4], Options { temperature, ..options(DYNAMO) });
        let mut counts = [0; 4];
        (0..4000).for_each(|i| counts[fleet.pick(&[1_000_000 + i], 0) as usize] += 1);
        counts
    };
    for temperature in [0.0, 1.0] {
        assert!(draw(temperature).iter().all(|&n| (850..1150).contains(&n)));
        assert_eq!(draw(temperature), draw(temperature));
    }
    let fleet = Fleet::new(&[1.0, 1.0], Options { temperature: 1.0, ..options(DYNAMO) });
    let (there, _) = fleet.acquire(&[1, 2], 0);
    let there = (0..4000).filter(|_| fleet.pick(&[1, 2], 0) == there).count();
    assert!((2730..3110).contains(&there), "1 to 1/e: {there}");
}
