//! gRPC's static stride: an endpoint's turn is let through or skipped by arithmetic on one counter, so that picks share
//! nothing else, and a rebuild at the same count goes on with the same picks.

use super::super::{Choice, Draws};
use super::{Start, heir_of};
use crate::core::endpoints::Member;
use crate::core::sync::{AtomicU64, Mode, Ordering};

/// The largest scaled weight: 16 bits.
const MAX: u64 = 65_535;

/// A weight counts for at most this many times the mean.
const MAX_RATIO: f64 = 10.0;

/// A weight counts for at least this share of the mean.
const MIN_RATIO: f64 = 0.01;

/// Turns a member that can be had is looked for by the schedule, in rounds, before the next one that can is taken.
const ROUNDS: u64 = 32;

/// Weights scaled to 16 bits (gRPC C++); those that are not known, given as 0, count as the mean. Empty when nothing is
/// known.
#[must_use]
pub fn scaled(weights: &[f64]) -> Vec<u16> {
    let known = weights.iter().filter(|&&w| w > 0.0).count();
    if known == 0 {
        return Vec::new();
    }
    let mean = weights.iter().filter(|&&w| w > 0.0).sum::<f64>() / known as f64;
    let most = weights.iter().fold(0.0f64, |most, &w| most.max(w)).min(MAX_RATIO * mean);
    let scale = MAX as f64 / most;
    let middle = (scale * mean).round();
    let least = (middle * MIN_RATIO).round().max(1.0);
    let one = |w: f64| if w > 0.0 { (w.min(most) * scale).round().max(least) } else { middle };
    weights.iter().map(|&w| one(w) as u16).collect()
}

/// Whose turn it is at the next count of `sequence` that lets somebody through, of whom `usable` is true.
pub fn next(weights: &[u16], mut sequence: impl FnMut() -> u64, usable: impl Fn(u32) -> bool) -> Option<u32> {
    let n = weights.len() as u64;
    let mut last = 0;
    for _ in 0..n.saturating_mul(ROUNDS) {
        let count = sequence();
        let (round, at) = (count.checked_div(n)?, count.checked_rem(n)?);
        let weight = u64::from(weights.get(at as usize).copied()?);
        let turn = (weight * round + at * (MAX / 2)) % MAX;
        if turn >= MAX - weight && usable(at as u32) {
            return Some(at as u32);
        }
        last = at;
    }
    // Nearly nobody can be had: who comes next.
    (1..=n).map(|step| ((last + step) % n) as u32).find(|&at| usable(at))
}

/// The members, their scaled weights and the counter.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    weights: Vec<u16>,
    sequence: AtomicU64,
}

impl Index {
    pub(super) fn build(start: Start, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let old = heir_of(before, members, |old| &old.members);
        let sequence = old.map_or_else(|| start.picks(draws), |old| old.sequence.load(Ordering::Relaxed));
        let weights: Vec<f64> = members.iter().map(|m| m.weight).collect();
        Index { members: members.to_vec(), weights: scaled(&weights), sequence: AtomicU64::new(sequence) }
    }

    pub(super) fn turn<M: Mode>(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        let get = |at: u32| self.members.get(at as usize).copied();
        // gRPC's counter has 32 bits.
        let sequence = || M::add(&self.sequence, 1) & u64::from(u32::MAX);
        next(&self.weights, sequence, |at| get(at).is_some_and(usable)).and_then(get).map(Choice::from)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[allow(clippy::unwrap_used)]
    fn picks(weights: &[f64], n: usize) -> Vec<u32> {
        let (scaled, mut count) = (scaled(weights), 0);
        let mut sequence = || {
            count += 1;
            count - 1
        };
        (0..n).map(|_| next(&scaled, &mut sequence, |_| true).unwrap()).collect()
    }

    fn counts(weights: &[f64], n: usize) -> Vec<usize> {
        let made = picks(weights, n);
        (0..weights.len() as u32).map(|at| made.iter().filter(|&&p| p == at).count()).collect()
    }

    /// The numbers of gRPC's own test of its scheduler.
    #[test]
    fn grpc_gives_these() {
        assert_eq!(scaled(&[1.0, 2.0, 3.0]), [21_845, 43_690, 65_535]);
        assert_eq!(picks(&[1.0, 2.0, 3.0], 12), [1, 2, 2, 0, 1, 2, 1, 2, 2, 0, 1, 2]);
        assert_eq!(counts(&[3.0, 0.0, 1.0], 6), [3, 2, 1]);
        let mut one_heavy = vec![1.0; 20];
        one_heavy[0] = 81.0;
        let got = counts(&one_heavy, 69);
        assert_eq!((got[0], &got[1..]), (50, &[1; 19][..]));
        assert_eq!(counts(&[100.0, 1e-10], 201), [200, 1]);
        assert_eq!(scaled(&[0.0, 0.0]), Vec::<u16>::new());
    }

    #[test]
    fn nobody_is_nobody_and_a_light_one_alone_is_found() {
        let weights = scaled(&[100.0, 1e-10]);
        let mut count = 0;
        let mut sequence = || {
            count += 1;
            count
        };
        assert_eq!(next(&weights, &mut sequence, |_| false), None);
        assert_eq!(next(&weights, &mut sequence, |at| at == 1), Some(1));
        assert_eq!(next(&[], &mut sequence, |_| true), None);
    }
}
