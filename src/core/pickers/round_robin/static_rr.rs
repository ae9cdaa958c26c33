//! HAProxy's `balance static-rr`: the turns of all servers in a map, in an order that spreads them. A full server's
//! places are skipped; who leaves or changes weight changes the map, and the place in it stays.

use super::super::{Choice, Draws};
use super::{Start, heir_of, whole};
use crate::core::endpoints::Member;
use crate::core::sync::{AtomicU64, Mode, Ordering};

/// The most steps that building a map may take; heavier weights are scaled down for it.
const MAX_STEPS: i64 = 4_000_000;

/// The map and the place in it.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    map: Vec<u32>,
    at: AtomicU64,
}

/// The order of turns. In every place all servers gain their weight, and the first of those whose gain has come to most
/// whole rounds is taken. Servers of one weight take turns, so only the next of each weight is looked at.
fn map(weights: &[i64]) -> Vec<u32> {
    struct Class {
        weight: i64,
        members: Vec<u32>,
        next: usize,
        gain: i64,
    }
    let mut classes: Vec<Class> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for (at, &weight) in (0u32..).zip(weights) {
        let which = *known.entry(weight).or_insert(classes.len());
        match classes.get_mut(which) {
            Some(class) => class.members.push(at),
            None => classes.push(Class { weight, members: vec![at], next: 0, gain: 0 }),
        }
    }
    let total: i64 = weights.iter().sum();
    let mut map = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best: Option<(i64, u32, usize)> = None;
        for (which, class) in classes.iter_mut().enumerate() {
            class.gain += class.weight;
            let Some(&head) = class.members.get(class.next) else { continue };
            let rounds = (class.gain + total).checked_div(total).unwrap_or(0);
            if best.is_none_or(|(most, at, _)| rounds > most || (rounds == most && head < at)) {
                best = Some((rounds, head, which));
            }
        }
        let Some((_, head, which)) = best else { break };
        map.push(head);
        if let Some(class) = classes.get_mut(which) {
            class.next += 1;
            if class.next == class.members.len() {
                class.next = 0;
                class.gain -= total;
            }
        }
    }
    map
}

/// Weights of which a map can be made in time.
fn fitting(members: &[Member]) -> Vec<i64> {
    let (mut weights, mut total) = whole(members);
    let kinds = weights.iter().collect::<std::collections::HashSet<_>>().len() as i64;
    let most = MAX_STEPS.checked_div(kinds).unwrap_or(MAX_STEPS);
    while total > most && weights.iter().any(|&w| w > 1) {
        let by = total.checked_div(most).unwrap_or(1) + 1;
        weights.iter_mut().for_each(|w| *w = ((*w + by / 2) / by).max(1));
        let sum = weights.iter().sum();
        if sum == total {
            break;
        }
        total = sum;
    }
    weights
}

impl Index {
    pub(super) fn build(start: Start, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let old = heir_of(before, members, |old| &old.members);
        let map = map(&fitting(members));
        // A shared counter runs on beyond the end.
        let place = |old: &Index| old.at.load(Ordering::Relaxed).checked_rem(old.map.len() as u64).unwrap_or(0);
        let at = old.map_or_else(|| start.picks(draws), place);
        let at = AtomicU64::new(at.checked_rem(map.len() as u64).unwrap_or(0));
        Index { members: members.to_vec(), map, at }
    }

    pub(super) fn turn<M: Mode>(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        let length = self.map.len();
        let from = M::rotate(&self.at, length as u64) as usize;
        let (head, tail) = (self.map.get(..from)?, self.map.get(from..)?);
        for (step, &at) in tail.iter().chain(head).enumerate() {
            let Some(&member) = self.members.get(at as usize) else { continue };
            if usable(member) {
                if step > 0 {
                    self.at.store((from + step + 1).checked_rem(length)? as u64, Ordering::Relaxed);
                }
                return Some(member.into());
            }
        }
        // Nobody can be had, so nothing moves.
        self.at.store(from as u64, Ordering::Relaxed);
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::sync::Exclusive;

    #[allow(clippy::indexing_slicing)]
    fn plain(weights: &[i64]) -> Vec<u32> {
        let total: i64 = weights.iter().sum();
        let mut score = vec![0; weights.len()];
        (0..total)
            .map(|_| {
                (0..weights.len()).for_each(|i| score[i] += weights[i]);
                let rounds = |i: usize| (score[i] + total) / total;
                let best = (1..weights.len()).fold(0, |best, i| if rounds(i) > rounds(best) { i } else { best });
                score[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn the_map_of_classes_is_the_rule() {
        let cases: [&[i64]; 6] =
            [&[5, 1, 1], &[1, 1, 1], &[4, 3, 2, 1], &[1, 1000], &[7, 7, 3, 3, 3, 1], &[9, 2, 5, 6, 4, 9, 5, 1, 2]];
        for weights in cases {
            assert_eq!(map(weights), plain(weights), "{weights:?}");
        }
    }

    #[test]
    fn full_places_are_skipped_and_huge_weights_fit() {
        let members: Vec<Member> =
            (0u32..).zip([5.0, 1.0, 1.0]).map(|(i, weight)| Member { index: i, slot: i, weight }).collect();
        let index = Index::build(Start::After(0), &members, &[], &Draws::new(1));
        let picks: Vec<u32> = (0..3).map(|_| index.turn::<Exclusive>(&|m| m.index > 0).unwrap().index).collect();
        assert_eq!(picks.iter().filter(|&&p| p == 0).count(), 0);
        assert_eq!(index.turn::<Exclusive>(&|_| false), None);
        let heavy: Vec<Member> =
            (0u32..).zip([1e15, 3e9, 1.0]).map(|(i, weight)| Member { index: i, slot: i, weight }).collect();
        assert!(map(&fitting(&heavy)).len() < 4_000_000);
    }
}
