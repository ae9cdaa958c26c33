//! Traefik's weighted round robin: a binary heap of deadlines, one over the weight apart, in which nothing says who of
//! equal ones comes first. So equal weights do not simply take turns: the order is what the heap's moves make of it, and
//! they are those of Go's `container/heap` here.

use super::super::{Choice, Draws};
use super::{Start, heir_of};
use crate::core::endpoints::Member;
use crate::core::rng;
use crate::core::sync::{Exclusive, Mutex};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    /// Place among the members.
    at: u32,
}

#[derive(Clone, Debug, Default)]
struct Heap {
    entries: Vec<Entry>,
    now: f64,
}

impl Heap {
    fn deadline(&self, i: usize) -> f64 {
        self.entries.get(i).map_or(f64::INFINITY, |e| e.deadline)
    }

    fn up(&mut self, mut i: usize) {
        while i > 0 {
            let parent = (i - 1) / 2;
            if self.deadline(i) >= self.deadline(parent) {
                break;
            }
            self.entries.swap(i, parent);
            i = parent;
        }
    }

    /// Moves an entry down among the first `n`.
    fn down(&mut self, mut i: usize, n: usize) {
        while 2 * i + 1 < n {
            let (left, right) = (2 * i + 1, 2 * i + 2);
            let child = if right < n && self.deadline(right) < self.deadline(left) { right } else { left };
            if self.deadline(child) >= self.deadline(i) {
                break;
            }
            self.entries.swap(i, child);
            i = child;
        }
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.up(self.entries.len() - 1);
    }

    fn pop(&mut self) -> Option<Entry> {
        let last = self.entries.len().checked_sub(1)?;
        self.entries.swap(0, last);
        self.down(0, last);
        self.entries.pop()
    }

    fn add(&mut self, at: u32, weight: f64) {
        self.push(Entry { deadline: self.now + 1.0 / weight, at });
    }

    /// The next that can be had. Those before it lose this turn.
    fn next(&mut self, usable: impl Fn(u32) -> bool, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let mut passed = Vec::new();
        let found = loop {
            match self.pop() {
                None => break None,
                Some(entry) if usable(entry.at) => break Some(entry),
                Some(entry) => passed.push(entry),
            }
        };
        let step = |entry: Entry| Entry { deadline: entry.deadline + 1.0 / weight(entry.at), at: entry.at };
        for entry in passed {
            self.push(if found.is_some() { step(entry) } else { entry });
        }
        let entry = found?;
        self.now = entry.deadline;
        self.push(step(entry));
        Some(entry.at)
    }
}

/// The members and their heap.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    heap: Mutex<Heap>,
}

impl Index {
    pub(super) fn build(start: Start, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let old = heir_of(before, members, |old| &old.members);
        let mut heap = Heap::default();
        if let Some(old) = old {
            let state = old.heap.lock().clone();
            let places: HashMap<u32, u32> = members.iter().map(|m| m.slot).zip(0u32..).collect();
            let place = |e: &Entry| places.get(&old.members.get(e.at as usize)?.slot).copied();
            let stay = |e: &Entry| place(e).map(|at| Entry { at, ..*e });
            heap = Heap { entries: state.entries.iter().filter_map(stay).collect(), now: state.now };
            let kept = heap.entries.len();
            (0..kept / 2).rev().for_each(|i| heap.down(i, kept));
        }
        let mut there = vec![false; members.len()];
        for entry in &heap.entries {
            if let Some(place) = there.get_mut(entry.at as usize) {
                *place = true;
            }
        }
        let mut order: Vec<u32> = (0u32..).zip(&there).filter(|(_, there)| !**there).map(|(at, _)| at).collect();
        if old.is_none() && start == Start::Random {
            // Traefik shuffles the servers before it puts them in.
            for last in (1..order.len()).rev() {
                let other = rng::below((draws.next::<Exclusive>() >> 32) as u32, last as u32 + 1);
                order.swap(last, other as usize);
            }
        }
        let weight = |at: u32| members.get(at as usize).map_or(1.0, |m| m.weight);
        order.into_iter().for_each(|at| heap.add(at, weight(at)));
        if let (None, Start::After(picks)) = (old, start) {
            for _ in 0..picks {
                heap.next(|_| true, weight);
            }
        }
        Index { members: members.to_vec(), heap: Mutex::new(heap) }
    }

    pub(super) fn turn(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        let get = |at: u32| self.members.get(at as usize).copied();
        let can = |at| get(at).is_some_and(usable);
        let at = self.heap.lock().next(can, |at| get(at).map_or(1.0, |m| m.weight))?;
        get(at).map(Choice::from)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn eleven_to_three_and_equals_that_do_not_take_turns() {
        let picks = |weights: &[f64], n: usize| {
            let mut heap = Heap::default();
            (0u32..).zip(weights).for_each(|(at, &w)| heap.add(at, w));
            (0..n).map(|_| heap.next(|_| true, |at| weights[at as usize]).unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(picks(&[11.0, 3.0], 14), [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
        let equal = picks(&[1.0; 3], 300);
        assert_eq!([0, 1, 2].map(|at| equal.iter().filter(|&&p| p == at).count()), [100; 3]);
        assert_ne!(equal[..3], equal[3..6]);
    }
}
