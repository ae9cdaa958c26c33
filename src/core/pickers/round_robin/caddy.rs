//! Caddy's round robin and weighted round robin: a counter that is raised first, so that the first pick is turn 1, and
//! with weights every endpoint's turns in one block. A block's place is looked up among those that can be had, so that
//! the share of one that cannot goes to its neighbours.

use super::super::{Choice, Draws};
use super::{Start, heir_of};
use crate::core::endpoints::Member;
use crate::core::sync::{AtomicU64, Mode, Ordering};

/// Weights with fractions are scaled so that their mean is this many turns.
const MEAN: f64 = 100.0;

/// Whole weights up to this are used as they are.
const MAX_WHOLE: f64 = 4_294_967_295.0;

/// The members, the ends of their blocks and the counter.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    /// Where each member's block ends; empty when all weights are 1.
    ends: Vec<u64>,
    counter: AtomicU64,
}

fn blocks(members: &[Member]) -> Vec<u64> {
    if members.iter().all(|m| m.weight == 1.0) {
        return Vec::new();
    }
    let as_is = members.iter().all(|m| m.weight.fract() == 0.0 && m.weight <= MAX_WHOLE);
    let total: f64 = members.iter().map(|m| m.weight).sum();
    let scale = if as_is { 1.0 } else { MEAN * members.len() as f64 / total };
    let turns = members.iter().map(|m| ((m.weight * scale).round() as u64).max(1));
    turns
        .scan(0, |end, turns| {
            *end += turns;
            Some(*end)
        })
        .collect()
}

impl Index {
    pub(super) fn build(start: Start, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let old = heir_of(before, members, |old| &old.members);
        let counter = old.map_or_else(|| start.picks(draws), |old| old.counter.load(Ordering::Relaxed));
        Index { members: members.to_vec(), ends: blocks(members), counter: AtomicU64::new(counter) }
    }

    /// Caddy's counter has 32 bits.
    fn raise<M: Mode>(&self) -> u64 {
        M::add(&self.counter, 1).wrapping_add(1) & u64::from(u32::MAX)
    }

    pub(super) fn turn<M: Mode>(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        if let Some(&total) = self.ends.last() {
            let turn = self.raise::<M>().checked_rem(total)?;
            let at = self.ends.partition_point(|&end| end <= turn);
            if let Some(&member) = self.members.get(at)
                && self.members.iter().take(at + 1).all(|&m| usable(m))
            {
                return Some(member.into());
            }
            let there = self.members.iter().filter(|&&m| usable(m)).count();
            let at = at.checked_rem(there)?;
            return self.members.iter().filter(|&&m| usable(m)).nth(at).map(|&m| m.into());
        }
        let n = self.members.len() as u64;
        self.members.iter().find_map(|_| {
            let member = self.members.get(self.raise::<M>().checked_rem(n)? as usize).copied()?;
            usable(member).then(|| member.into())
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::sync::Exclusive;

    fn index(weights: &[f64]) -> Index {
        let members: Vec<Member> =
            (0u32..).zip(weights).map(|(i, &weight)| Member { index: i, slot: i, weight }).collect();
        Index::build(Start::After(0), &members, &[], &Draws::new(1))
    }

    #[test]
    fn blocks_from_turn_one_and_the_share_of_the_missing_goes_to_a_neighbour() {
        let blocks = index(&[5.0, 1.0, 1.0]);
        let picks: Vec<u32> = (0..7).map(|_| blocks.turn::<Exclusive>(&|_| true).unwrap().index).collect();
        assert_eq!(picks, [0, 0, 0, 0, 1, 2, 0]);
        let picks: Vec<u32> = (0..7).map(|_| blocks.turn::<Exclusive>(&|m| m.index > 0).unwrap().index).collect();
        assert_eq!(picks, [1, 1, 1, 1, 2, 1, 1]);
        let plain = index(&[1.0; 3]);
        let picks: Vec<u32> = (0..4).map(|_| plain.turn::<Exclusive>(&|m| m.index != 2).unwrap().index).collect();
        assert_eq!(picks, [1, 0, 1, 0]);
        assert_eq!(plain.turn::<Exclusive>(&|_| false), None);
    }

    #[test]
    fn fractions_keep_their_ratio() {
        assert_eq!(index(&[0.5, 1.5]).ends, [50, 200]);
    }
}
