//! Round robin, by schedule.

pub mod caddy;
pub mod common;
pub mod edf;
pub mod fwrr;
pub mod heap;
pub mod smooth;
pub mod static_rr;
pub mod stride;

use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::sync::{Exclusive, Mode};
use std::collections::HashSet;

/// Whole weights up to this are used as they are; others are scaled so that the largest becomes 2^20.
const MAX_WHOLE: f64 = 2_147_483_648.0;

/// HAProxy's largest weight in sixteenths.
const MAX_SIXTEENTHS: f64 = 4096.0;

/// Sixteenths of a unit of weight, as HAProxy counts.
const SIXTEENTHS: f64 = 16.0;

/// The most picks that a schedule without a closed form may start after: it makes them one by one.
pub const MAX_WALK: u64 = 1_000_000;

/// Where the rotation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this many picks.
    After(u64),
    /// Anywhere, by the picker's seed.
    Random,
}

impl Start {
    /// A number of picks: the given one, or any.
    fn picks(self, draws: &Draws) -> u64 {
        match self {
            Start::After(n) => n,
            Start::Random => draws.next::<Exclusive>(),
        }
    }

    /// The start of the per-thread handle before which so many were made: golden sections, so that the first few are
    /// far from each other whatever the period is.
    pub(in crate::core::pickers) fn staggered(self, before: u64) -> Start {
        match self {
            Start::After(n) => Start::After(n.saturating_add(before.wrapping_mul(40_503) % 65_536)),
            Start::Random => Start::Random,
        }
    }
}

/// In which order the turns come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// nginx: smooth weighted round robin.
    #[default]
    Smooth,
    /// Envoy: earliest deadline first.
    Edf,
    /// Traefik: a heap of deadlines without a rule for equal ones.
    Heap,
    /// gRPC: static stride.
    Stride,
    /// HAProxy: `balance roundrobin`.
    Fwrr,
    /// HAProxy: `balance static-rr`.
    StaticRr,
    /// Caddy: blocks.
    Caddy,
}

/// Weighted round robin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundRobin {
    /// The order.
    pub schedule: Schedule,
    /// Where it starts.
    pub start: Start,
}

impl Default for RoundRobin {
    fn default() -> RoundRobin {
        RoundRobin { schedule: Schedule::Smooth, start: Start::After(0) }
    }
}

impl RoundRobin {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] for a start that this schedule would have to walk to for too long.
    pub fn check(self) -> Result<RoundRobin, ConfigError> {
        match (self.schedule, self.start) {
            (Schedule::Heap | Schedule::Fwrr, Start::After(n)) if n > MAX_WALK => Err(ConfigError::new(
                "start",
                n,
                format!("a whole number from 0 to {MAX_WALK} with this schedule, or \"random\""),
            )),
            _ => Ok(self),
        }
    }

    fn smooth(self) -> smooth::Smooth {
        smooth::Smooth { start: self.start }
    }
}

/// The members of a rank and the state of their rotation.
// One a rank, and what most picks use stays one step away.
#[allow(clippy::large_enum_variant)]
pub enum Index<M: Mode> {
    /// See [`smooth`].
    Smooth(smooth::Index<M>),
    /// See [`edf`].
    Edf(edf::Index),
    /// See [`heap`].
    Heap(heap::Index),
    /// See [`stride`].
    Stride(stride::Index),
    /// See [`fwrr`].
    Fwrr(fwrr::Index),
    /// See [`static_rr`].
    StaticRr(static_rr::Index),
    /// See [`caddy`].
    Caddy(caddy::Index),
    /// See [`common`].
    Common(common::Index),
}

/// Takes the indexes of one schedule out of those of all.
macro_rules! those {
    ($before:ident, $kind:ident) => {
        $before
            .iter()
            .filter_map(|index| match *index {
                Index::$kind(inner) => Some(inner),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

impl<M: Mode> Index<M> {
    /// One turn of any schedule but the smooth one.
    fn turn(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        match self {
            Index::Smooth(_) => None,
            Index::Edf(index) => index.turn::<M>(usable),
            Index::Heap(index) => index.turn(usable),
            Index::Stride(index) => index.turn::<M>(usable),
            Index::Fwrr(index) => index.turn(usable),
            Index::StaticRr(index) => index.turn::<M>(usable),
            Index::Caddy(index) => index.turn::<M>(usable),
            Index::Common(index) => index.turn(usable),
        }
    }

    /// One turn of any schedule.
    fn turn_of_any(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        match self {
            Index::Smooth(index) => index.turn(usable),
            other => other.turn(usable),
        }
    }

    #[inline(never)]
    fn turn_available(&self, cx: &Context<'_>) -> Option<Choice> {
        if let Index::Smooth(index) = self {
            return smooth::live(index, cx, None);
        }
        self.turn(&|member| cx.view.available(member))
    }
}

impl Policy for RoundRobin {
    type Index<M: Mode> = Index<M>;

    fn rotates(&self) -> bool {
        true
    }

    fn staggered(&self, before: u64) -> RoundRobin {
        RoundRobin { start: self.start.staggered(before), ..*self }
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        if M::JOINT
            && let Some(index) = common::Index::build(*self, view, members, draws)
        {
            return Index::Common(index);
        }
        match self.schedule {
            Schedule::Smooth => {
                let before = those!(before, Smooth);
                Index::Smooth(self.smooth().build(view, members, &before, draws))
            }
            Schedule::Edf => Index::Edf(edf::Index::build(self.start, members, &those!(before, Edf), draws)),
            Schedule::Heap => Index::Heap(heap::Index::build(self.start, members, &those!(before, Heap), draws)),
            Schedule::Stride => {
                Index::Stride(stride::Index::build(self.start, members, &those!(before, Stride), draws))
            }
            Schedule::Fwrr => Index::Fwrr(fwrr::Index::build(self.start, view, members, &those!(before, Fwrr), draws)),
            Schedule::StaticRr => {
                Index::StaticRr(static_rr::Index::build(self.start, members, &those!(before, StaticRr), draws))
            }
            Schedule::Caddy => Index::Caddy(caddy::Index::build(self.start, members, &those!(before, Caddy), draws)),
        }
    }

    fn build_cost(&self, members: usize) -> u64 {
        match self.schedule {
            Schedule::Smooth | Schedule::StaticRr => self.smooth().build_cost(members),
            _ => members as u64 * 200,
        }
    }

    fn wants_rebuild<M: Mode>(&self, index: &Index<M>) -> bool {
        matches!(index, Index::Smooth(index) if self.smooth().wants_rebuild(index))
    }

    fn unsettled<M: Mode>(&self, index: &Index<M>) -> bool {
        matches!(index, Index::Smooth(index) if self.smooth().unsettled(index))
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        // A copy, so that only this way needs the context in memory.
        self.quick(index, cx, key).or_else(|| self.go_on(index, &{ *cx }, key))
    }

    const QUICK: bool = true;

    #[inline(always)]
    fn quick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        match index {
            Index::Smooth(index) => index.next_in_cycle(cx),
            _ => None,
        }
    }

    fn go_on<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        index.turn_available(cx)
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        match index {
            Index::Smooth(index) => self.smooth().choose(index, cx, key, allow),
            other => other.turn(&|member| cx.view.available(member) && allow(member.index)),
        }
    }

    fn fill<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, out: &mut [u32]) -> usize {
        if let Index::Smooth(index) = index {
            return self.smooth().fill(index, cx, out);
        }
        for (made, place) in out.iter_mut().enumerate() {
            match index.turn_available(cx) {
                Some(choice) => *place = choice.index,
                None => return made,
            }
        }
        out.len()
    }
}

/// The index whose rotation goes on among these members: the first that had one of them. When there are none now, the
/// first at all: they may come back.
pub(super) fn heir_of<'a, T>(before: &[&'a T], members: &[Member], of: impl Fn(&T) -> &[Member]) -> Option<&'a T> {
    if members.is_empty() {
        return before.first().copied();
    }
    let slots: HashSet<u32> = members.iter().map(|m| m.slot).collect();
    before.iter().copied().find(|old| of(old).iter().any(|m| slots.contains(&m.slot)))
}

/// Whether all weights are the same.
fn equal(members: &[Member]) -> bool {
    members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight))
}

/// Weights as whole numbers without a common divisor, and their sum.
pub(super) fn whole(members: &[Member]) -> (Vec<i64>, i64) {
    let most = members.iter().fold(0.0f64, |most, m| most.max(m.weight));
    let as_is = most <= MAX_WHOLE && members.iter().all(|m| m.weight.fract() == 0.0);
    let scale = if as_is { 1.0 } else { 1_048_576.0 / most };
    let mut weights: Vec<i64> = members.iter().map(|m| ((m.weight * scale).round() as i64).max(1)).collect();
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
    if divisor > 1 {
        weights.iter_mut().for_each(|w| *w /= divisor);
    }
    let total = weights.iter().sum();
    (weights, total)
}

/// HAProxy's effective weights: sixteenths, up to 4096.
pub(super) fn sixteenths(members: &[Member]) -> impl Fn(&Member) -> i64 + use<> {
    let most = members.iter().fold(0.0f64, |most, m| most.max(m.weight));
    let scale = if most * SIXTEENTHS <= MAX_SIXTEENTHS { SIXTEENTHS } else { MAX_SIXTEENTHS / most };
    move |member| ((member.weight * scale).round() as i64).max(1)
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_keep_their_ratios_and_fractions_are_scaled() {
        let of = |weights: &[f64]| {
            let members: Vec<Member> = weights.iter().map(|&weight| Member { index: 0, slot: 0, weight }).collect();
            whole(&members)
        };
        assert_eq!(of(&[10.0, 10.0, 20.0]), (vec![1, 1, 2], 4));
        assert_eq!(of(&[0.5, 1.0]), (vec![1, 2], 3));
        assert_eq!(of(&[1e15, 1.0]).0, vec![1_048_576, 1]);
    }

    #[test]
    fn a_start_too_far_to_walk_to_is_refused() {
        let of = |schedule| RoundRobin { schedule, start: Start::After(MAX_WALK + 1) }.check();
        assert!(of(Schedule::Heap).is_err());
        assert!(of(Schedule::Fwrr).is_err());
        assert!(of(Schedule::Edf).is_ok());
    }
}
