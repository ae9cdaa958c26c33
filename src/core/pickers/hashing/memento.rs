//! MementoHash: jump hashing whose buckets may go in any order.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::jump::{REHASHES, STEP, jump};
use super::units;
use crate::core::endpoints::{Member, View};
use crate::core::rng::mix64;
use crate::core::sync::Mode;
use std::collections::HashMap;
use std::sync::Arc;

/// Stands for a bucket that works, where a replacement would be.
const WORKS: u32 = u32::MAX;

/// How far the unit of weight may be from the one that suits the largest before all is laid out anew.
const DRIFT: f64 = 4.0;

/// The array of buckets, and of those that are gone what took their place (Coluzzi, Brocco, Antonucci and Leidi,
/// "MementoHash: a stateful, minimal memory, best performing consistent hash algorithm", 2023).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memento {
    /// For each bucket how many were left when it went, and which had gone before it.
    gone: Vec<(u32, u32)>,
    working: u32,
    last: u32,
}

impl Memento {
    fn replacement(&self, bucket: u32) -> Option<u32> {
        self.gone.get(bucket as usize).map(|&(left, _)| left).filter(|&left| left != WORKS)
    }

    /// Takes a bucket away. The last one of an array without gaps leaves none, unless it is to be `remembered`.
    fn remove(&mut self, bucket: u32, remembered: bool) {
        if self.gone.get(bucket as usize).is_none_or(|&(left, _)| left != WORKS) {
            return;
        }
        if self.working == 1 {
            *self = Memento::default();
            return;
        }
        self.working -= 1;
        if self.gone.len() as u32 == self.working + 1 && bucket == self.working && !remembered {
            self.gone.pop();
        } else if let Some(entry) = self.gone.get_mut(bucket as usize) {
            *entry = (self.working, self.last);
        }
        self.last = bucket;
    }

    /// Puts back the bucket that went last, or a new one at the end where none is missing.
    fn add(&mut self) -> u32 {
        let bucket = self.last;
        match self.gone.get_mut(bucket as usize) {
            Some(entry) => {
                self.last = entry.1;
                *entry = (WORKS, 0);
            }
            None => {
                self.gone.push((WORKS, 0));
                self.last = bucket.saturating_add(1);
            }
        }
        self.working += 1;
        bucket
    }

    /// The bucket of a key, among those for which `asked` says that the key may stay or go on from; `None` when it says
    /// no, or there is none.
    #[inline(always)]
    fn find(&self, key: u64, asked: impl Fn(u32) -> bool) -> Option<u32> {
        if self.working == 0 {
            return None;
        }
        let mut bucket = jump(key, self.gone.len() as u64) as u32;
        loop {
            if !asked(bucket) {
                return None;
            }
            let Some(left) = self.replacement(bucket) else { return Some(bucket) };
            bucket = mix64(key ^ mix64(u64::from(bucket).wrapping_add(STEP))).checked_rem(u64::from(left))? as u32;
            // Who had gone before that time is stood for by a bucket that had not.
            while let Some(earlier) = self.replacement(bucket).filter(|&earlier| earlier >= left) {
                bucket = earlier;
            }
        }
    }
}

/// Who has a bucket: a place in the pool, and the share of the keys that the bucket takes. A bucket that is gone keeps its
/// share, so that keys that it did not take go on as before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Owner {
    index: u32,
    share: u64,
}

/// Buckets and owners. It is handed on from build to build: which buckets are missing, and in what order they went, is
/// what lets the others keep their keys.
#[derive(Clone, Debug, Default)]
struct Layout {
    keys: Arc<[Arc<str>]>,
    weights: Vec<f64>,
    unit: f64,
    memento: Memento,
    owners: Vec<Owner>,
    /// The buckets of each place in the pool.
    held: Vec<Vec<u32>>,
    /// Whether every bucket takes every key.
    whole: bool,
}

/// Whether a bucket takes only a part of the keys: then it has sent others on, who must not find it missing.
fn rest(owners: &[Owner], bucket: u32) -> bool {
    owners.get(bucket as usize).is_some_and(|owner| owner.share != units::WHOLE)
}

impl Layout {
    /// The layout for these weights; who has none has no bucket.
    fn next(before: Option<&Arc<Layout>>, view: &View, weights: Vec<f64>) -> Arc<Layout> {
        if let Some(same) = before.filter(|b| Arc::ptr_eq(&b.keys, &view.hash_keys) && b.weights == weights) {
            return same.clone();
        }
        let wanted = units::unit(units::largest(view));
        let kept = before.filter(|b| b.memento.working > 0 && (1.0 / DRIFT..=DRIFT).contains(&(b.unit / wanted)));
        let unit = kept.map_or(wanted, |b| b.unit);
        let mut out =
            Layout { keys: view.hash_keys.clone(), unit, held: vec![Vec::new(); weights.len()], ..Layout::default() };
        if let Some(before) = kept {
            out.memento = before.memento.clone();
            out.owners = before.owners.clone();
            out.take_over(before, &weights);
        }
        let sizes: Vec<(u32, u64)> =
            weights.iter().map(|&w| if w > 0.0 { units::places(w, unit) } else { (0, 0) }).collect();
        for (held, &(size, _)) in out.held.iter_mut().zip(&sizes) {
            while held.len() > size as usize {
                held.pop().into_iter().for_each(|bucket| out.memento.remove(bucket, rest(&out.owners, bucket)));
            }
        }
        for ((index, held), &(size, last)) in (0u32..).zip(&mut out.held).zip(&sizes) {
            while held.len() < size as usize {
                held.push(out.memento.add());
            }
            for (i, &bucket) in held.iter().enumerate() {
                let share = if i + 1 == size as usize { last } else { units::WHOLE };
                let owner = Owner { index, share };
                match out.owners.get_mut(bucket as usize) {
                    Some(place) => *place = owner,
                    // Buckets are added in order, but a longer array may have been cut in between.
                    None => out.owners.resize(bucket as usize + 1, owner),
                }
            }
        }
        out.owners.truncate(out.memento.gone.len());
        out.whole = out.owners.iter().all(|owner| owner.share == units::WHOLE);
        out.weights = weights;
        Arc::new(out)
    }

    /// Gives the buckets of a layout before to those who are still there, by name, and removes those of the others.
    fn take_over(&mut self, before: &Layout, weights: &[f64]) {
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, key) in self.keys.iter().enumerate().rev() {
            if weights.get(index).is_some_and(|&w| w > 0.0) {
                named.entry(key).or_default().push(index);
            }
        }
        for (key, held) in before.keys.iter().zip(&before.held) {
            if held.is_empty() {
                continue;
            }
            let heir = named.get_mut(&**key).and_then(Vec::pop).and_then(|index| self.held.get_mut(index));
            match heir {
                Some(heir) => heir.clone_from(held),
                None => held.iter().rev().for_each(|&bucket| self.memento.remove(bucket, rest(&self.owners, bucket))),
            }
        }
    }

    /// Where a key goes, and whether it stays there.
    #[inline(always)]
    fn owner(&self, key: u64) -> Option<u32> {
        let bucket = if self.whole {
            self.memento.find(key, |_| true)
        } else {
            let share = |bucket: u32| self.owners.get(bucket as usize).map_or(0, |owner| owner.share);
            self.memento.find(key, |bucket| units::takes(share(bucket), key, u64::from(bucket)))
        };
        self.owners.get(bucket? as usize).map(|owner| owner.index)
    }
}

/// A bucket for each unit of weight, whose number an endpoint keeps while it is in the pool. Those that may not be picked
/// for now keep their buckets, and their keys go on to others; those that leave the pool or lose their weight give them
/// up, and the next that comes takes the bucket that was given up last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MementoHash;

/// A place in the pool as one rank sees it.
#[derive(Clone, Copy, Debug)]
struct Seat {
    member: Member,
    eligible: bool,
}

/// The buckets of both primaries and backups, whichever of them this rank is of, and everybody in the pool.
#[derive(Debug, Default)]
pub struct Index {
    layouts: [Arc<Layout>; 2],
    side: usize,
    seats: Vec<Seat>,
}

impl Index {
    fn layout(&self) -> Option<&Layout> {
        self.layouts.get(self.side).map(|layout| &**layout)
    }

    #[inline(never)]
    fn walk(&self, cx: &Context<'_>, key: u64, allow: Option<Allow<'_>>) -> Option<Choice> {
        let layout = self.layout()?;
        let usable = |m: Member| cx.view.available(m) && allow.is_none_or(|allow| allow(m.index));
        for attempt in 0..REHASHES {
            let key = if attempt == 0 { key } else { mix64(key ^ attempt.wrapping_mul(STEP)) };
            let seat = layout.owner(key).and_then(|index| self.seats.get(index as usize));
            if let Some(seat) = seat.filter(|seat| seat.eligible && usable(seat.member)) {
                return Some(seat.member.into());
            }
        }
        let eligible = self.seats.iter().filter(|seat| seat.eligible).map(|seat| seat.member);
        units::rendezvous(key, cx, eligible, usable).map(Choice::from)
    }
}

impl Policy for MementoHash {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index], _: &Draws) -> Index {
        let backup = |index: u32| view.backups.get(index as usize).copied().unwrap_or(false);
        // What counts is the same for every rank of this build: all of them hand on one state.
        let mut weights = view.weights.clone();
        for member in view.tiers.iter().flat_map(|tier| tier.merged(&view.weights)) {
            if let Some(weight) = weights.get_mut(member.index as usize) {
                *weight = member.weight;
            }
        }
        let side = |backups: bool| -> Vec<f64> {
            (0u32..).zip(&weights).map(|(i, &w)| if backup(i) == backups { w } else { 0.0 }).collect()
        };
        let old = before.first();
        let layouts = [false, true]
            .map(|backups| Layout::next(old.and_then(|o| o.layouts.get(usize::from(backups))), view, side(backups)));
        let mut seats: Vec<Seat> = (0u32..)
            .zip(&view.slots)
            .map(|(index, &slot)| Seat { member: Member { index, slot, weight: 0.0 }, eligible: false })
            .collect();
        for &member in members {
            if let Some(seat) = seats.get_mut(member.index as usize) {
                *seat = Seat { member, eligible: true };
            }
        }
        let side = usize::from(members.first().is_some_and(|m| backup(m.index)));
        Index { layouts, side, seats }
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 200
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let seat = index.layout()?.owner(key).and_then(|place| index.seats.get(place as usize));
        if let Some(seat) = seat.filter(|seat| seat.eligible && cx.view.available(seat.member)) {
            return Some(seat.member.into());
        }
        index.walk(cx, key, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        index.walk(cx, key, Some(allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(buckets: u32) -> Memento {
        let mut memento = Memento::default();
        (0..buckets).for_each(|bucket| assert_eq!(memento.add(), bucket));
        memento
    }

    fn place(memento: &Memento, key: u64) -> Option<u32> {
        memento.find(key, |_| true)
    }

    #[test]
    fn buckets_that_are_gone_come_back_in_reverse_order() {
        let mut memento = full(10);
        for bucket in [9, 5, 1, 8] {
            memento.remove(bucket, false);
        }
        assert_eq!((memento.gone.len(), memento.working, memento.last), (9, 6, 8));
        assert_eq!([5, 1, 8].map(|b| memento.gone[b]), [(8, 9), (7, 5), (6, 1)]);
        memento.remove(5, false);
        memento.remove(99, false);
        assert_eq!(memento.working, 6);
        assert_eq!([8, 1, 5, 9, 10].map(|_| memento.add()), [8, 1, 5, 9, 10]);
        assert_eq!(memento, full(11));
    }

    #[test]
    fn nobody_and_one() {
        let mut memento = Memento::default();
        assert_eq!(place(&memento, 7), None);
        memento.remove(0, false);
        assert_eq!(memento.add(), 0);
        assert_eq!(place(&memento, 7), Some(0));
        memento.remove(0, false);
        assert_eq!(memento, Memento::default());
    }

    #[test]
    fn only_keys_of_the_bucket_that_changes_move() {
        let keys: Vec<u64> = (0..3000).map(mix64).collect();
        let mut memento = full(24);
        let mut working: Vec<u32> = (0..24).collect();
        for step in 0..600u64 {
            let before: Vec<_> = keys.iter().map(|&key| place(&memento, key).unwrap()).collect();
            let drawn = mix64(step);
            if working.len() > 1 && drawn % 100 < 55 {
                let bucket = working.swap_remove(drawn as usize % 1009 % working.len());
                // Whether it is remembered changes where its keys go, and nothing else.
                memento.remove(bucket, drawn & 1024 == 0);
                for (&key, home) in keys.iter().zip(before) {
                    let now = place(&memento, key).unwrap();
                    assert!(working.contains(&now) && (home == bucket || now == home));
                }
            } else {
                let bucket = memento.add();
                assert!(!working.contains(&bucket));
                working.push(bucket);
                for (&key, home) in keys.iter().zip(before) {
                    let now = place(&memento, key).unwrap();
                    assert!(now == bucket || now == home);
                }
            }
            assert_eq!(memento.working as usize, working.len());
        }
        assert!(memento.gone.len() <= 200);
    }

    #[test]
    fn a_bucket_that_sends_keys_on_is_remembered() {
        let mut memento = full(4);
        memento.remove(3, true);
        assert_eq!((memento.gone.len(), memento.working), (4, 3));
        assert!((0..1000).map(mix64).all(|key| place(&memento, key).unwrap() < 3));
        assert_eq!(memento.find(5, |_| false), None);
        assert_eq!(memento.add(), 3);
        assert_eq!(memento, full(4));
    }
}
