//! One rotation for several processes. What they have in common is a count of turns; everything else each works out for
//! itself, and comes to the same. So a schedule is one round from its very start, over and over; where a round is too
//! long for that it is gRPC's static stride, which needs nothing but a count. A new membership is a new round, in which
//! the count goes on, and who cannot be had loses the turn to the next.

use super::super::{Choice, Draws};
use super::{Index as Schedules, RoundRobin, Schedule, Start, stride, whole};
use crate::core::endpoints::counters::Kept;
use crate::core::endpoints::{Member, View};
use crate::core::hash;
use crate::core::pickers::Policy;
use crate::core::sync::{AtomicU64, Exclusive, Ordering};

/// The longest round that is kept as a table.
const MAX_ROUND: i64 = 65_536;

/// After so many turns of those that cannot be had it is asked whether anybody can.
const PATIENCE: usize = 64;

/// The members of a rank and the common count.
pub struct Index {
    members: Vec<Member>,
    /// One round; empty where strides are taken.
    round: Vec<Choice>,
    strides: Vec<u16>,
    start: u64,
    count: Kept<AtomicU64>,
}

fn number(schedule: Schedule) -> u8 {
    match schedule {
        Schedule::Smooth => 0,
        Schedule::Edf => 1,
        Schedule::Heap => 2,
        Schedule::Stride => 3,
        Schedule::Fwrr => 4,
        Schedule::StaticRr => 5,
        Schedule::Caddy => 6,
    }
}

impl Index {
    /// The index of a rank; `None` where there is no count in common.
    pub(super) fn build(policy: RoundRobin, view: &View, members: &[Member], draws: &Draws) -> Option<Index> {
        // Ranks are told apart by the first slot of theirs.
        let place = members.iter().map(|m| m.slot).min().unwrap_or(0);
        let name = hash::xxh64(&[b'r', b'r', number(policy.schedule)]);
        let count = view.block.turns(name, place)?;
        let start = match policy.start {
            Start::After(n) => n,
            Start::Random => {
                let anywhere = draws.next::<Exclusive>() >> 1;
                let _ = count.first()?.compare_exchange(0, anywhere, Ordering::AcqRel, Ordering::Acquire);
                0
            }
        };
        let total = whole(members).1;
        let (mut round, mut strides) = (Vec::new(), Vec::new());
        if policy.schedule == Schedule::Stride || total > MAX_ROUND {
            strides = stride::scaled(&members.iter().map(|m| m.weight).collect::<Vec<_>>());
        } else {
            round = one_round(policy, view, members, draws, total);
        }
        Some(Index { members: members.to_vec(), round, strides, start, count })
    }

    fn next(&self) -> u64 {
        let count = |word: &AtomicU64| word.fetch_add(1, Ordering::Relaxed);
        self.count.first().map_or(0, count).wrapping_add(self.start)
    }

    pub(super) fn turn(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        if self.round.is_empty() {
            let get = |at: u32| self.members.get(at as usize).copied();
            let turn = || self.next() & u64::from(u32::MAX);
            return stride::next(&self.strides, turn, |at| get(at).is_some_and(usable)).and_then(get).map(Choice::from);
        }
        for turn in 0..self.round.len() {
            if turn % PATIENCE == PATIENCE - 1 && !self.members.iter().any(|&m| usable(m)) {
                return None;
            }
            let at = self.next().checked_rem(self.round.len() as u64)?;
            let choice = *self.round.get(at as usize)?;
            if usable(Member { index: choice.index, slot: choice.slot, weight: 1.0 }) {
                return Some(choice);
            }
        }
        None
    }
}

/// One round from the very start, as a process alone would have it.
fn one_round(policy: RoundRobin, view: &View, members: &[Member], draws: &Draws, total: i64) -> Vec<Choice> {
    let fresh = RoundRobin { start: Start::After(0), ..policy };
    let schedule: Schedules<Exclusive> = fresh.build(view, members, &[], &draws.copy());
    (0..total).filter_map(|_| schedule.turn_of_any(&|_| true)).collect()
}
