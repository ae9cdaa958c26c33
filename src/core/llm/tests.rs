//! The index against a model that is slow and plain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::{Held, PrefixIndex, Tier};
use crate::core::rng::Rng;
use crate::core::time::Nanos;
use std::collections::BTreeMap;
use std::sync::Arc;

fn id(n: u32) -> Arc<str> {
    format!("e{n}").into()
}

fn held(index: &mut PrefixIndex, blocks: &[u64], now: u64) -> BTreeMap<String, Held> {
    index.matches(blocks, Nanos(now)).into_iter().map(|(id, held)| (id.to_string(), held)).collect()
}

fn index(capacity: u32, ttl: u64) -> PrefixIndex {
    PrefixIndex::new(capacity, Nanos(ttl)).unwrap()
}

#[test]
fn nobody_holds_anything_of_nothing() {
    let mut index = index(4, 10);
    assert!(held(&mut index, &[], 0).is_empty() && held(&mut index, &[1], 0).is_empty());
    index.removed("e0", &[1], None, Nanos(0));
    index.cleared("e0", None, Nanos(0));
    index.stored(&id(0), &[], Tier::Gpu, Nanos(0));
    assert_eq!((index.len(), index.ids().count()), (0, 0));
    assert!(PrefixIndex::new(0, Nanos(1)).is_err());
}

#[test]
fn each_block_counts_in_its_best_tier_up_to_the_first_gap() {
    let mut index = index(100, 10);
    index.stored(&id(0), &[1, 2, 3, 4, 6], Tier::Disk, Nanos(0));
    index.stored(&id(0), &[1, 3], Tier::Host, Nanos(0));
    index.stored(&id(0), &[1], Tier::Gpu, Nanos(0));
    index.stored(&id(1), &[2, 3], Tier::Gpu, Nanos(0));
    let found = held(&mut index, &[1, 2, 3, 4, 5, 6], 0);
    assert_eq!(found, [("e0".into(), Held { gpu: 1, host: 1, disk: 2, active: 0 })].into());
    index.removed("e0", &[1], Some(Tier::Gpu), Nanos(0));
    assert_eq!(held(&mut index, &[1, 2], 0)["e0"], Held { gpu: 0, host: 1, disk: 1, active: 0 });
    index.cleared("e0", Some(Tier::Disk), Nanos(0));
    assert_eq!(held(&mut index, &[1, 2], 0)["e0"].blocks(), 1);
    index.cleared("e0", None, Nanos(0));
    index.cleared("e1", None, Nanos(0));
    assert!(index.is_empty());
}

#[test]
fn the_least_recently_used_go_first_and_of_a_prompt_its_end() {
    let mut index = index(4, u64::MAX);
    index.predict(&id(0), &[1, 2, 3], Nanos(0));
    index.predict(&id(0), &[7, 8], Nanos(1));
    assert_eq!(held(&mut index, &[1, 2, 3], 1)["e0"].gpu, 2);
    index.predict(&id(0), &[1, 2], Nanos(2));
    index.predict(&id(0), &[9], Nanos(3));
    assert_eq!(held(&mut index, &[7, 8], 3)["e0"].gpu, 1);
    assert_eq!(held(&mut index, &[1, 2], 3)["e0"].gpu, 2);
    // A prompt that is longer than there is room: its beginning.
    index.predict(&id(0), &[11, 12, 13, 14, 15, 16], Nanos(4));
    assert_eq!((held(&mut index, &[11, 12, 13, 14, 15], 4)["e0"].gpu, index.len()), (4, 4));
    index.set_capacity(&id(0), 2).unwrap();
    assert_eq!((index.held_by("e0"), index.len()), ((0, 2), 2));
    assert!(index.set_capacity(&id(0), 0).is_err());
}

#[test]
fn guesses_end_and_what_events_tell_stays() {
    let mut one = index(10, 5);
    one.predict(&id(0), &[1, 2], Nanos(10));
    one.predict(&id(0), &[1], Nanos(12));
    one.stored(&id(1), &[1], Tier::Gpu, Nanos(12));
    assert_eq!(held(&mut one, &[1, 2], 14)["e0"].gpu, 2);
    assert_eq!(held(&mut one, &[1, 2], 15)["e0"].gpu, 1);
    // Time that goes back is the latest there was.
    assert_eq!(held(&mut one, &[1, 2], 0)["e0"].gpu, 1);
    let found = held(&mut one, &[1, 2], 17);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["e1"]);
    assert_eq!(one.ids().count(), 1, "who has nothing is forgotten");
    let mut none = index(10, 0);
    none.predict(&id(0), &[1], Nanos(1));
    assert!(none.is_empty(), "what picks say is not believed");
    // What events told of needs no guess, and their removal is known better than a guess.
    let mut both = index(10, 5);
    both.predict(&id(0), &[1], Nanos(0));
    both.stored(&id(0), &[1], Tier::Gpu, Nanos(1));
    both.predict(&id(0), &[1], Nanos(2));
    assert_eq!(both.held_by("e0"), (1, 0));
    both.removed("e0", &[1], None, Nanos(2));
    assert!(both.is_empty());
}

#[test]
fn more_than_64_endpoints_are_told_apart() {
    let mut index = index(10, u64::MAX);
    for n in 0..200 {
        let blocks: Vec<u64> = (0..=u64::from(n % 7)).collect();
        index.predict(&id(n), &blocks, Nanos(0));
    }
    let found = held(&mut index, &[0, 1, 2, 3, 4, 5, 6], 0);
    assert_eq!(found.len(), 200);
    for n in 0..200 {
        assert_eq!(found[&*id(n)].gpu, n % 7 + 1);
        index.forget(&id(n));
    }
    assert_eq!((index.len(), index.ids().count()), (0, 0));
}

#[test]
fn a_snapshot_is_taken_in_by_another_index() {
    let mut one = index(10, 100);
    one.stored(&id(0), &[1, 2], Tier::Gpu, Nanos(0));
    one.stored(&id(0), &[2, 3], Tier::Host, Nanos(0));
    one.predict(&id(1), &[1, 2, 3], Nanos(50));
    one.set_capacity(&id(1), 2).unwrap();
    let saved = one.save(Nanos(60));
    let mut other = index(10, 100);
    other.load_saved(&saved, Nanos(1000)).unwrap();
    assert_eq!(held(&mut other, &[1, 2, 3], 1000), held(&mut one, &[1, 2, 3], 60));
    assert_eq!(other.save(Nanos(1000)), saved);
    assert_eq!(held(&mut other, &[1], 1090).len(), 1, "a guess goes on for what was left of it");
    let mut bad = saved.clone();
    bad[1].capacity = 0;
    let mut third = index(10, 100);
    assert!(third.load_saved(&bad, Nanos(0)).is_err());
    assert!(third.is_empty(), "nothing is taken in then");
}

/// The same as the index, slow and plain: for each endpoint, blocks by last use.
#[derive(Default)]
struct Slow {
    told: BTreeMap<u32, Vec<(u64, u8)>>,
    guesses: BTreeMap<u32, Vec<(u64, u64)>>,
}

impl Slow {
    fn stored(&mut self, n: u32, blocks: &[u64], tier: u8, capacity: usize) {
        let told = self.told.entry(n).or_default();
        for &block in blocks.iter().take(capacity).rev() {
            let before = told.iter().find(|(b, _)| *b == block).map_or(0, |(_, t)| *t);
            told.retain(|(b, _)| *b != block);
            told.push((block, before | tier));
            if tier == 1 {
                self.guesses.entry(n).or_default().retain(|(b, _)| *b != block);
            }
        }
        while told.len() > capacity {
            told.remove(0);
        }
    }

    fn removed(&mut self, n: u32, blocks: &[u64], tiers: u8) {
        let told = self.told.entry(n).or_default();
        told.iter_mut().filter(|(b, _)| blocks.contains(b)).for_each(|(_, t)| *t &= !tiers);
        told.retain(|(_, t)| *t != 0);
        if tiers & 1 != 0 {
            self.guesses.entry(n).or_default().retain(|(b, _)| !blocks.contains(b));
        }
    }

    fn predict(&mut self, n: u32, blocks: &[u64], until: u64, capacity: usize) {
        for &block in blocks.iter().take(capacity).rev() {
            let told = self.told.entry(n).or_default();
            if let Some(at) = told.iter().position(|(b, _)| *b == block) {
                let one = told.remove(at);
                told.push(one);
                if one.1 & 1 != 0 {
                    continue;
                }
            }
            let guesses = self.guesses.entry(n).or_default();
            guesses.retain(|(b, _)| *b != block);
            guesses.push((block, until));
        }
        let guesses = self.guesses.entry(n).or_default();
        while guesses.len() > capacity {
            guesses.remove(0);
        }
    }

    fn found(&mut self, blocks: &[u64], now: u64) -> BTreeMap<String, Held> {
        self.guesses.values_mut().for_each(|g| g.retain(|(_, until)| *until > now));
        let mut out = BTreeMap::new();
        for n in 0..8 {
            let mut held = Held::default();
            for block in blocks {
                let told = self.told.get(&n).and_then(|t| t.iter().find(|(b, _)| b == block)).map_or(0, |(_, t)| *t);
                let guessed = self.guesses.get(&n).is_some_and(|g| g.iter().any(|(b, _)| b == block));
                match (told & 1 != 0 || guessed, told & 2 != 0, told & 4 != 0) {
                    (true, _, _) => held.gpu += 1,
                    (_, true, _) => held.host += 1,
                    (_, _, true) => held.disk += 1,
                    _ => break,
                }
            }
            if held.blocks() > 0 {
                out.insert(id(n).to_string(), held);
            }
        }
        out
    }
}

#[test]
fn the_index_is_what_the_slow_model_says_after_any_events() {
    let steps = if std::env::var_os("AIBALANCE_FULL").is_some() { 3_000_000 } else { 20_000 };
    for seed in 0..3 {
        let (mut rng, mut now) = (Rng::new(seed), 0u64);
        let (capacity, ttl) = (5 + seed as u32 * 4, 40);
        let (mut fast, mut slow) = (index(capacity, ttl), Slow::default());
        for _ in 0..steps / 3 {
            now += u64::from(rng.below(4));
            let n = rng.below(8);
            // Few blocks, so that they meet; now and then in no order, or twice.
            let from = u64::from(rng.below(4)) * 10;
            let blocks: Vec<u64> =
                (0..u64::from(rng.below(7))).map(|i| from + i % 5 + u64::from(rng.below(2))).collect();
            let tier = [(Tier::Gpu, 1), (Tier::Host, 2), (Tier::Disk, 4)][rng.below(3) as usize];
            match rng.below(8) {
                0..=2 => {
                    fast.predict(&id(n), &blocks, Nanos(now));
                    slow.found(&[], now);
                    slow.predict(n, &blocks, now + ttl, capacity as usize);
                }
                3..=4 => {
                    fast.stored(&id(n), &blocks, tier.0, Nanos(now));
                    slow.found(&[], now);
                    slow.stored(n, &blocks, tier.1, capacity as usize);
                }
                5 => {
                    fast.removed(&id(n), &blocks, Some(tier.0), Nanos(now));
                    slow.removed(n, &blocks, tier.1);
                }
                6 if rng.below(10) == 0 => {
                    fast.cleared(&id(n), None, Nanos(now));
                    slow.told.remove(&n);
                    slow.guesses.remove(&n);
                }
                _ => {
                    fast.removed(&id(n), &blocks, None, Nanos(now));
                    slow.removed(n, &blocks, 7);
                }
            }
            let ask: Vec<u64> = (0..6).map(|i| from + i).collect();
            assert_eq!(held(&mut fast, &ask, now), slow.found(&ask, now), "seed {seed} at {now}");
        }
        (0..8).for_each(|n| fast.forget(&id(n)));
        assert_eq!((fast.len(), fast.ids().count()), (0, 0));
    }
}
