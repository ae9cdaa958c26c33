//! Draws members of a rank, uniformly or by weight.

use super::Draws;
use crate::core::endpoints::Member;
use crate::core::rng;
use crate::core::sync::Mode;

/// Draws with replacement that may repeat before the rest of the weights is walked instead.
const REDRAWS: u32 = 16;

/// Draws for somebody usable before all members are asked.
const FIRST_DRAWS: u32 = 4;

/// Members, and Walker's alias table when their weights differ (Vose's construction, 1991).
#[derive(Debug, Default)]
pub(super) struct Sampler {
    pub members: Vec<Member>,
    alias: Vec<(u32, u32)>,
}

impl Sampler {
    pub fn new(members: &[Member]) -> Sampler {
        let equal = members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight));
        let alias = if equal { Vec::new() } else { alias_table(members) };
        Sampler { members: members.to_vec(), alias }
    }

    pub fn weighted(&self) -> bool {
        !self.alias.is_empty()
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[inline(always)]
    pub fn get(&self, at: u32) -> Option<Member> {
        self.members.get(at as usize).copied()
    }

    /// One member's position.
    #[inline(always)]
    pub fn one<M: Mode>(&self, draws: &Draws) -> u32 {
        self.place(draws.next::<M>())
    }

    #[inline(always)]
    fn place(&self, r: u64) -> u32 {
        let column = rng::below((r >> 32) as u32, self.members.len() as u32);
        match self.alias.get(column as usize) {
            Some(&(threshold, other)) if (r as u32) >= threshold => other,
            _ => column,
        }
    }

    /// Two different positions, the first by share, the second by share among the rest. Needs two members.
    #[inline(always)]
    pub fn two<M: Mode>(&self, draws: &Draws) -> (u32, u32) {
        if self.alias.is_empty() {
            self.two_equal::<M>(draws)
        } else {
            let a = self.one::<M>(draws);
            (a, self.another::<M>(draws, &[a]))
        }
    }

    /// Two different positions, each as likely, from one draw: half of its bits for each.
    #[inline(always)]
    pub fn two_equal<M: Mode>(&self, draws: &Draws) -> (u32, u32) {
        let r = draws.next::<M>();
        let n = self.members.len() as u32;
        let a = rng::below((r >> 32) as u32, n);
        let b = rng::below(r as u32, n.wrapping_sub(1));
        (a, b + u32::from(b >= a))
    }

    /// One of the usable members by share, as if there were no others.
    pub fn among<M: Mode>(&self, draws: &Draws, usable: &dyn Fn(Member) -> bool) -> Option<Member> {
        if self.members.is_empty() {
            return None;
        }
        // A draw that hits somebody usable is one by share among the usable.
        for _ in 0..FIRST_DRAWS {
            if let Some(member) = self.get(self.one::<M>(draws)).filter(|&m| usable(m)) {
                return Some(member);
            }
        }
        let those: Vec<Member> = self.members.iter().copied().filter(|&m| usable(m)).collect();
        by_share::<M, _>(draws, || those.iter().copied())
    }

    /// A position that is not among `taken`. Needs more members than are taken.
    pub fn another<M: Mode>(&self, draws: &Draws, taken: &[u32]) -> u32 {
        for _ in 0..REDRAWS {
            let b = self.one::<M>(draws);
            if !taken.contains(&b) {
                return b;
            }
        }
        // The taken ones have nearly all the weight: draw from the rest by walking it.
        let rest = || (0u32..).zip(&self.members).filter(|(i, _)| !taken.contains(i));
        let total: f64 = rest().map(|(_, m)| m.weight).sum();
        let mut left = (draws.next::<M>() >> 11) as f64 / 9_007_199_254_740_992.0 * total;
        let mut last = 0;
        for (i, member) in rest() {
            last = i;
            left -= member.weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// One of these, by weight.
pub(super) fn by_share<M: Mode, I: Iterator<Item = Member>>(draws: &Draws, those: impl Fn() -> I) -> Option<Member> {
    let total: f64 = those().map(|m| m.weight).sum();
    let mut left = (draws.next::<M>() >> 11) as f64 / 9_007_199_254_740_992.0 * total;
    let mut last = None;
    for member in those() {
        last = Some(member);
        left -= member.weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

fn alias_table(members: &[Member]) -> Vec<(u32, u32)> {
    let n = members.len();
    let total: f64 = members.iter().map(|m| m.weight).sum();
    let mut share: Vec<f64> = members.iter().map(|m| m.weight / total * n as f64).collect();
    let mut table: Vec<(u32, u32)> = (0..n as u32).map(|i| (u32::MAX, i)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..n).partition(|&i| share.get(i).is_some_and(|&s| s < 1.0));
    while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
        small.pop();
        let have = share.get(poor).copied().unwrap_or(1.0);
        if let Some(cell) = table.get_mut(poor) {
            *cell = ((have * 4_294_967_296.0) as u32, rich as u32);
        }
        if let Some(left) = share.get_mut(rich) {
            *left -= 1.0 - have;
            if *left < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
    }
    table
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::sync::{Exclusive, Shared};

    fn sampler(weights: &[f64]) -> Sampler {
        let members: Vec<Member> =
            weights.iter().enumerate().map(|(i, &weight)| Member { index: i as u32, slot: i as u32, weight }).collect();
        Sampler::new(&members)
    }

    #[test]
    fn a_source_for_one_thread_draws_what_any_other_would() {
        let (one, other) = (Draws::alone(7), Draws::new(7));
        let draws = |source: &Draws| (0..100).map(|_| source.next::<Shared>()).collect::<Vec<_>>();
        assert_eq!(draws(&one), draws(&other));
        assert_eq!(draws(&one.copy()), draws(&other.copy()));
    }

    #[test]
    fn draws_follow_the_weights() {
        let (s, draws, n) = (sampler(&[5.0, 1.0, 3.0, 0.5]), Draws::new(7), 400_000);
        let mut counts = [0u32; 4];
        for _ in 0..n {
            counts[s.one::<Exclusive>(&draws) as usize] += 1;
        }
        for (count, weight) in counts.iter().zip([5.0, 1.0, 3.0, 0.5]) {
            let p: f64 = weight / 9.5;
            let z = (f64::from(*count) - p * f64::from(n)) / (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.5, "{counts:?}");
        }
    }

    #[test]
    fn two_are_never_the_same_even_when_one_has_nearly_all_the_weight() {
        for weights in [&[1.0, 1.0][..], &[1e12, 1.0, 1.0], &[1.0, 2.0, 3.0]] {
            let (s, draws) = (sampler(weights), Draws::new(3));
            for _ in 0..1000 {
                let (a, b) = s.two::<Exclusive>(&draws);
                assert_ne!(a, b);
                assert!((a.max(b) as usize) < weights.len());
            }
        }
    }
}
