//! Envoy's weighted round robin: earliest deadline first.
//!
//! Every entry has a deadline, one over its weight after the last; the earliest is picked, of equal ones the one that
//! was put in first, and put in again with the weight of that moment. Envoy starts as if many picks had been made
//! (`createWithPicks`), so that balancers do not all start alike. Endpoints of equal weight simply take turns.
//!
//! Envoy adds up floating-point numbers, so that far from the start rounding decides who of equal ones comes first. From
//! a start of 0 deadlines are whole turns over the weight instead, so that equal ones are equal; a start of 429,496,729
//! is Envoy's own with no picks.

use super::super::{Choice, Draws};
use super::{Start, equal, heir_of};
use crate::core::endpoints::Member;
use crate::core::sync::{AtomicU64, Mode, Mutex, Ordering};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Envoy takes the number of picks to start after by this modulus.
const START_MODULUS: u64 = 429_496_729;

/// What Envoy adds to each weight while it works out the start.
const EPSILON: f64 = 1e-13;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    /// Place among the members.
    at: u32,
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// The deadline after this one.
fn after_turn(exact: bool, deadline: f64, weight: f64) -> f64 {
    if exact { ((deadline * weight).round() + 1.0) / weight } else { deadline + 1.0 / weight }
}

/// The schedule itself: deadlines and the time that they have come to.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<Entry>>,
    now: f64,
    next_order: u64,
    /// Deadlines are whole turns over the weight, not sums.
    exact: bool,
}

impl Deadlines {
    /// A schedule of these weights from its very start, in which equal deadlines are equal.
    #[must_use]
    pub fn exact(weights: &[f64]) -> Deadlines {
        let entry = |(at, weight): (u32, &f64)| Entry { deadline: 1.0 / weight, order: u64::from(at), at };
        let heap = (0u32..).zip(weights).map(|pair| Reverse(entry(pair))).collect();
        Deadlines { heap, now: 0.0, next_order: weights.len() as u64, exact: true }
    }

    /// A schedule of these weights, as if `picks` picks (modulo 429,496,729) had been made.
    #[must_use]
    pub fn after(weights: &[f64], picks: u64) -> Deadlines {
        let picks = picks.checked_rem(START_MODULUS).unwrap_or(0);
        let total: f64 = weights.iter().map(|w| w + EPSILON).sum();
        let mut made = Deadlines { heap: BinaryHeap::with_capacity(weights.len()), ..Deadlines::default() };
        let mut done = 0u64;
        for (at, weight) in (0u32..).zip(weights) {
            let weight = weight + EPSILON;
            let mut floor = (weight * picks as f64 / total).floor();
            if floor > 0.0 && floor / weight >= picks as f64 / total {
                floor -= 1.0;
            }
            done += floor as u64;
            made.now = made.now.max(floor / weight);
            made.heap.push(Reverse(Entry { deadline: (floor + 1.0) / weight, order: u64::from(at), at }));
        }
        made.next_order = weights.len() as u64;
        for _ in done..picks {
            made.next(|_| true, |at| weights.get(at as usize).copied().unwrap_or(1.0));
        }
        made
    }

    /// The schedule of other members, given as slots and weights, that takes over the deadlines of those that stay.
    #[must_use]
    pub fn carried(&self, old: &[Member], new: &[Member]) -> Deadlines {
        let known: HashMap<u32, Entry> = self
            .heap
            .iter()
            .filter_map(|Reverse(entry)| old.get(entry.at as usize).map(|m| (m.slot, *entry)))
            .collect();
        let mut made = Deadlines { heap: BinaryHeap::with_capacity(new.len()), ..self.empty() };
        let same = |(a, b): (&Member, &Member)| a.slot == b.slot && a.weight == b.weight;
        made.exact = self.exact && old.len() == new.len() && old.iter().zip(new).all(same);
        for (at, member) in (0u32..).zip(new) {
            match known.get(&member.slot) {
                Some(entry) => made.heap.push(Reverse(Entry { at, ..*entry })),
                None => {
                    made.heap.push(Reverse(Entry {
                        deadline: made.now + 1.0 / member.weight,
                        order: made.next_order,
                        at,
                    }));
                    made.next_order += 1;
                }
            }
        }
        made
    }

    fn empty(&self) -> Deadlines {
        Deadlines { heap: BinaryHeap::new(), now: self.now, next_order: self.next_order, exact: self.exact }
    }

    /// The next of those that can be had. Those before it that cannot lose this turn. `weight` is asked for what is put
    /// in again.
    pub fn next(&mut self, usable: impl Fn(u32) -> bool, weight: impl Fn(u32) -> f64) -> Option<u32> {
        if let Some(mut top) = self.heap.peek_mut()
            && usable(top.0.at)
        {
            let Entry { deadline, at, .. } = top.0;
            let exact = self.exact;
            top.0 = Entry { deadline: after_turn(exact, deadline, weight(at)), order: self.next_order, at };
            self.now = deadline;
            self.next_order += 1;
            return Some(at);
        }
        let (mut passed, mut found) = (Vec::new(), None);
        while let Some(Reverse(entry)) = self.heap.pop() {
            passed.push(entry);
            if usable(entry.at) {
                self.now = entry.deadline;
                found = Some(entry.at);
                break;
            }
        }
        for mut entry in passed {
            // When nobody can be had, nothing moves.
            if found.is_some() {
                entry.deadline = after_turn(self.exact, entry.deadline, weight(entry.at));
                entry.order = self.next_order;
                self.next_order += 1;
            }
            self.heap.push(Reverse(entry));
        }
        found
    }
}

/// The members and their schedule.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    /// Whose turn it is while weights are equal.
    turn: AtomicU64,
    /// The schedule while they are not.
    schedule: Option<Mutex<Deadlines>>,
}

impl Index {
    /// Whose turn it is. A shared counter runs on beyond the last.
    fn at(&self) -> u64 {
        self.turn.load(Ordering::Relaxed).checked_rem(self.members.len() as u64).unwrap_or(0)
    }

    pub(super) fn build(start: Start, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let old = heir_of(before, members, |old| &old.members);
        let members = members.to_vec();
        let begin = || start.picks(draws);
        if equal(&members) {
            let turn = old.map_or_else(begin, Index::at);
            let turn = turn.checked_rem(members.len() as u64).unwrap_or(0);
            return Index { members, turn: AtomicU64::new(turn), schedule: None };
        }
        let turn = old.map_or(0, Index::at);
        let carried = old.and_then(|old| Some(old.schedule.as_ref()?.lock().carried(&old.members, &members)));
        let schedule = carried.unwrap_or_else(|| {
            let weights: Vec<f64> = members.iter().map(|m| m.weight).collect();
            if start == Start::After(0) { Deadlines::exact(&weights) } else { Deadlines::after(&weights, begin()) }
        });
        Index { members, turn: AtomicU64::new(turn), schedule: Some(Mutex::new(schedule)) }
    }

    pub(super) fn turn<M: Mode>(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        let get = |at: u32| self.members.get(at as usize).copied();
        if let Some(schedule) = &self.schedule {
            let can = |at| get(at).is_some_and(usable);
            let at = schedule.lock().next(can, |at| get(at).map_or(1.0, |m| m.weight))?;
            return get(at).map(Choice::from);
        }
        // Nobody that can be had is passed over for longer than one round.
        self.members.iter().find_map(|_| {
            let member = get(M::rotate(&self.turn, self.members.len() as u64) as u32)?;
            usable(member).then(|| member.into())
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[allow(clippy::unwrap_used, clippy::indexing_slicing)]
    fn picks(weights: &[f64], start: u64, n: usize) -> Vec<u32> {
        let mut schedule = Deadlines::after(weights, start);
        (0..n).map(|_| schedule.next(|_| true, |at| weights[at as usize]).unwrap()).collect()
    }

    #[test]
    fn orders_that_envoy_gives() {
        assert_eq!(picks(&[1.0, 2.0], 0, 6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(picks(&[5.0, 1.0, 1.0], 0, 7), [0, 0, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn from_the_very_start_equal_deadlines_are_equal() {
        let weights = [3.0, 6.0, 7.0, 6.0, 24.0, 26.0, 17.0];
        let mut schedule = Deadlines::exact(&weights);
        let round: Vec<u32> = (0..89).map(|_| schedule.next(|_| true, |at| weights[at as usize]).unwrap()).collect();
        // Half of the way everybody of even weight is due, in the order in which they were put in.
        let half: Vec<u32> = round[39..43].to_vec();
        assert_eq!(half, [1, 3, 4, 5]);
    }

    #[test]
    fn starting_after_picks_is_picking_them() {
        let weights = [3.0, 5.0, 7.0];
        for start in [0, 1, 14, 15, 16, 1000] {
            let walked = picks(&weights, 0, start + 60).split_off(start);
            let (mut a, mut b) = ([0; 3], [0; 3]);
            picks(&weights, start as u64, 60).iter().for_each(|&i| a[i as usize] += 1);
            walked.iter().for_each(|&i| b[i as usize] += 1);
            assert_eq!(a, b, "{start}");
        }
    }

    #[test]
    fn who_cannot_be_had_loses_a_turn_and_nobody_moves_when_nobody_can() {
        let weights = [2.0, 1.0];
        let mut schedule = Deadlines::after(&weights, 0);
        let weight = |at: u32| weights[at as usize];
        assert_eq!(schedule.next(|at| at == 1, weight), Some(1));
        assert_eq!(schedule.next(|_| false, weight), None);
        assert_eq!(schedule.next(|_| true, weight), Some(0));
        assert_eq!(schedule.heap.len(), 2);
    }

    #[test]
    fn a_change_keeps_the_deadlines_of_those_that_stay() {
        let member = |slot: u32, weight: f64| Member { index: slot, slot, weight };
        let old = [member(0, 5.0), member(1, 1.0), member(2, 1.0)];
        let mut schedule = Deadlines::after(&[5.0, 1.0, 1.0], 0);
        for _ in 0..4 {
            schedule.next(|_| true, |at| old[at as usize].weight);
        }
        let new = [member(2, 1.0), member(0, 5.0)];
        let mut next = schedule.carried(&old, &new);
        let mut turn = || next.next(|_| true, |at| new[at as usize].weight).unwrap();
        assert_eq!([turn(), turn()], [0, 1]);
    }
}
