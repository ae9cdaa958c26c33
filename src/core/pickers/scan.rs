//! The least of all members without looking at all of them: of every 16 neighbouring slots the least score and who has
//! it are kept, and looked for anew only where something has changed since. A pick costs a few instructions for each
//! 16 endpoints, and 16 looks for each group that changed, which is two for a request taken and one given back.

use super::Context;
use super::least_request::Ties;
use super::sampler::by_share;
use crate::core::endpoints::counters::GROUP;
use crate::core::endpoints::watch::Held;
use crate::core::endpoints::{Cell, Member, View};
use crate::core::rng;
use crate::core::sync::{AtomicU64, Mode, Ordering};

/// What no watch ever says, and no score ever is.
const NONE: u64 = u64::MAX;

/// Where the nth set bit of a byte is, and last how many there are.
#[allow(clippy::indexing_slicing)] // In a constant: the compiler would refuse it.
const PLACES: [[u8; 9]; 256] = {
    let mut places = [[0; 9]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0u8, 0u8);
        while bit < 8 {
            if byte >> bit & 1 != 0 {
                places[byte][n as usize] = bit;
                n += 1;
            }
            bit += 1;
        }
        places[byte][8] = n;
        byte += 1;
    }
    places
};

/// Where the nth set bit of the low sixteen is. Without a branch: which one is asked for is random.
#[inline(always)]
fn place_of(bits: u32, n: u32) -> u32 {
    let row = |byte: u32| PLACES.get((byte & 255) as usize).unwrap_or(&[0; 9]);
    let low = u32::from(row(bits)[8]);
    let upper = u32::from(n >= low);
    let of = row(bits >> (upper * 8));
    upper * 8 + u32::from(*of.get((n - low * upper) as usize & 7).unwrap_or(&0))
}

/// Members whose slots share a watch.
#[derive(Debug)]
struct Group {
    watch: Held,
    /// Place of the first in the list of members.
    from: u32,
    len: u32,
    /// Slot of the first, where each slot follows the one before.
    slots: Option<u32>,
    /// What the watch said when the rest was found.
    seen: AtomicU64,
    /// The least score of those that may take a request; NONE when there is nobody.
    least: AtomicU64,
    /// Who has it, a bit a member, and how many these are in the upper half.
    ties: AtomicU64,
}

impl Group {
    #[inline(always)]
    fn has(&self, least: u64) -> bool {
        self.least.load(Ordering::Relaxed) == least
    }

    #[inline(always)]
    fn keep(&self, least: u64, who: u32) {
        self.least.store(least, Ordering::Relaxed);
        self.ties.store(u64::from(who.count_ones()) << 32 | u64::from(who), Ordering::Relaxed);
    }

    #[inline(always)]
    fn who(&self) -> u32 {
        self.ties.load(Ordering::Relaxed) as u32
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        (self.ties.load(Ordering::Relaxed) >> 32) as u32
    }
}

/// All members of a rank, by groups.
#[derive(Debug)]
pub(super) struct Scan<M: Mode> {
    /// By group, then in the pool's order.
    members: Vec<Member>,
    groups: Vec<Group>,
    /// Whether that is the pool's order throughout.
    ordered: bool,
    /// What the scores were made for.
    units: AtomicU64,
    /// The least score of all groups, and how many have it.
    best: AtomicU64,
    count: AtomicU64,
    gate: M::Gate,
}

impl<M: Mode> Scan<M> {
    pub fn new(view: &View, members: &[Member]) -> Scan<M> {
        let mut members = members.to_vec();
        members.sort_by_key(|m| (m.slot / GROUP, m.index));
        let mut groups: Vec<Group> = Vec::new();
        for (from, member) in (0u32..).zip(&members) {
            let Some(watch) = view.block.held_watch(member.slot) else { continue };
            match groups.last_mut() {
                Some(group) if group.watch.same(&watch) => {
                    group.slots = group.slots.filter(|&slot| slot.checked_add(group.len) == Some(member.slot));
                    group.len += 1;
                }
                _ => groups.push(Group {
                    watch,
                    from,
                    len: 1,
                    slots: Some(member.slot),
                    seen: AtomicU64::new(NONE),
                    least: AtomicU64::new(NONE),
                    ties: AtomicU64::new(0),
                }),
            }
        }
        let ordered = members.is_sorted_by_key(|m| m.index);
        let [units, best, count] = [0, NONE, 0].map(AtomicU64::new);
        Scan { members, groups, ordered, units, best, count, gate: M::Gate::default() }
    }

    /// Looks at everybody now, so that the first pick need not. What is asked later with other `units` or another score
    /// is looked for anew.
    pub fn prepare(&self, view: &View, units: u64, score: impl Fn(&Cell, Member) -> u64) {
        self.units.store(units, Ordering::Relaxed);
        self.groups.iter().for_each(|group| self.look(group, view, &score));
        self.compare();
    }

    /// The member of least score, or of several one by the rule for ties; `None` when nobody may take the request.
    /// `units` is what `score` depends on besides the cell and the member; no score is u64::MAX.
    #[inline(always)]
    pub fn least(
        &self,
        cx: &Context<'_>,
        units: u64,
        ties: Ties,
        rotation: &AtomicU64,
        score: impl Fn(&Cell, Member) -> u64,
    ) -> Option<Member> {
        let _guard = M::enter(&self.gate);
        let (least, count) = self.find(cx, units, score);
        match ties {
            _ if count == 0 => None,
            Ties::Random | Ties::LastDrawn => self.nth(least, Self::which(cx, count)),
            Ties::First if self.ordered => self.first(least),
            Ties::First => self.after(least, 0),
            Ties::Last => self.last(least),
            Ties::Rotate => {
                let from = rotation.load(Ordering::Relaxed) as u32;
                let member = self.after(least, from).or_else(|| self.after(least, 0))?;
                M::replace(rotation, u64::from(member.index) + 1);
                Some(member)
            }
            Ties::Heaviest => self.heaviest(least),
        }
    }

    /// Any of the members of whom something is true, each as likely, or by weight; `None` when it is true of nobody who
    /// may take the request.
    #[inline(always)]
    pub fn any(&self, cx: &Context<'_>, weighted: bool, is: impl Fn(&Cell) -> bool) -> Option<Member> {
        let _guard = M::enter(&self.gate);
        let (least, count) = self.find(cx, 0, |cell, _| u64::from(!is(cell)));
        if count == 0 || least != 0 {
            None
        } else if weighted {
            by_share::<M, _>(cx.draws, || self.those(0))
        } else {
            self.nth(0, Self::which(cx, count))
        }
    }

    /// Which of so many, each as likely.
    #[inline(always)]
    fn which(cx: &Context<'_>, count: u32) -> u32 {
        if count > 1 { rng::below((cx.draws.next::<M>() >> 32) as u32, count) } else { 0 }
    }

    /// The least score, and how many have it.
    #[inline(always)]
    fn find(&self, cx: &Context<'_>, units: u64, score: impl Fn(&Cell, Member) -> u64) -> (u64, u32) {
        if self.units.load(Ordering::Relaxed) != units {
            self.forget(units);
        }
        let mut changed = false;
        for group in &self.groups {
            if group.watch.value() != group.seen.load(Ordering::Relaxed) {
                changed |= self.look_again(group, cx.view, &score);
            }
        }
        if changed {
            self.compare();
        }
        (self.best.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed) as u32)
    }

    #[cold]
    fn forget(&self, units: u64) {
        self.groups.iter().for_each(|group| group.seen.store(NONE, Ordering::Relaxed));
        self.units.store(units, Ordering::Relaxed);
    }

    /// Looks at those members of a group that have changed; whether that is another least or another who has it.
    #[inline(never)]
    fn look_again(&self, group: &Group, view: &View, score: &impl Fn(&Cell, Member) -> u64) -> bool {
        let members = self.of(group);
        let cells = group.slots.and_then(|slot| view.block.run(slot, members.len())).unwrap_or(&[]);
        let changed =
            cells.first().and_then(|first| group.watch.changed::<M>(group.seen.load(Ordering::Relaxed), first));
        let Some(mut changed) = changed else {
            self.look(group, view, score);
            return true;
        };
        let before = (group.least.load(Ordering::Relaxed), group.who());
        let (mut least, mut who) = before;
        // Of the circle of 64 only the first are this group's.
        changed &= (1u64 << (members.len() as u32 & 63)).wrapping_sub(1);
        while changed != 0 {
            let bit = changed.trailing_zeros();
            changed &= changed.wrapping_sub(1);
            let (Some(cell), Some(&member)) = (cells.get(bit as usize), members.get(bit as usize)) else { break };
            let full = view.limited && view.full(cell, member.index);
            let score = if full { NONE } else { score(cell, member) };
            let one = 1u32 << (bit & 31);
            who = if score <= least { who | one } else { who & !one };
            if score < least {
                (least, who) = (score, one);
            }
        }
        if who == 0 || least == NONE {
            // Who had the least has more now, and who has the least of the others is not known.
            self.look(group, view, score);
            return true;
        }
        group.seen.store(group.watch.start::<M>(), Ordering::Relaxed);
        if (least, who) == before {
            return false;
        }
        group.keep(least, who);
        true
    }

    /// Looks at every member of a group.
    #[inline(never)]
    fn look(&self, group: &Group, view: &View, score: &impl Fn(&Cell, Member) -> u64) {
        let seen = group.watch.start::<M>();
        let members = self.of(group);
        let (mut scores, mut least) = ([NONE; GROUP as usize], NONE);
        // Without a branch: who is least is hard to foresee. The least is found in the same steps, for alone they would
        // be vectorised, which costs more where there is no instruction for it.
        match group.slots.and_then(|slot| view.block.run(slot, members.len())) {
            Some(cells) if !view.limited => {
                for (at, (cell, place)) in cells.iter().zip(scores.iter_mut()).enumerate() {
                    let Some(&member) = members.get(at) else { break };
                    *place = score(cell, member);
                    least = least.min(*place);
                }
            }
            _ => {
                for (place, &member) in scores.iter_mut().zip(members) {
                    match view.block.cell(member.slot) {
                        Some(cell) if !(view.limited && view.full(cell, member.index)) => *place = score(cell, member),
                        _ => {}
                    }
                    least = least.min(*place);
                }
            }
        }
        let mut who = 0u32;
        for (bit, &score) in scores.iter().enumerate() {
            who |= u32::from(score == least) << bit;
        }
        if least == NONE {
            who = 0;
        }
        group.keep(least, who);
        group.seen.store(seen, Ordering::Relaxed);
    }

    fn compare(&self) {
        let (mut least, mut count) = (NONE, 0);
        for group in &self.groups {
            let (score, ties) = (group.least.load(Ordering::Relaxed), group.count());
            if score < least {
                (least, count) = (score, ties);
            } else if score == least {
                count += ties;
            }
        }
        self.best.store(least, Ordering::Relaxed);
        self.count.store(u64::from(count), Ordering::Relaxed);
    }

    fn of(&self, group: &Group) -> &[Member] {
        let from = group.from as usize;
        self.members.get(from..from + group.len as usize).unwrap_or(&[])
    }

    #[inline(always)]
    fn at(&self, group: &Group, bit: u32) -> Option<Member> {
        self.members.get((group.from + bit) as usize).copied()
    }

    /// The nth of those with this score.
    #[inline(always)]
    fn nth(&self, least: u64, mut n: u32) -> Option<Member> {
        for group in &self.groups {
            let count = if group.has(least) { group.count() } else { 0 };
            if n < count {
                return self.at(group, place_of(group.who(), n));
            }
            n -= count;
        }
        None
    }

    /// The first in the pool's order with this score, where groups are in that order.
    #[inline(always)]
    fn first(&self, least: u64) -> Option<Member> {
        let group = self.groups.iter().find(|group| group.has(least))?;
        self.at(group, group.who().trailing_zeros())
    }

    /// The first in the pool's order with this score whose place is at least `from`.
    fn after(&self, least: u64, from: u32) -> Option<Member> {
        let mut best: Option<Member> = None;
        for group in self.groups.iter().filter(|g| g.has(least)) {
            let passed = if from == 0 { 0 } else { self.of(group).partition_point(|m| m.index < from) as u32 };
            let who = group.who() & u32::MAX.checked_shl(passed).unwrap_or(0);
            if who == 0 {
                continue;
            }
            let member = self.at(group, who.trailing_zeros())?;
            if best.is_none_or(|b| member.index < b.index) {
                best = Some(member);
            }
            if self.ordered {
                break;
            }
        }
        best
    }

    /// The last in the pool's order with this score.
    fn last(&self, least: u64) -> Option<Member> {
        let last = |group: &Group| self.at(group, 31u32.saturating_sub(group.who().leading_zeros()));
        let mut those = self.groups.iter().rev().filter(|g| g.has(least));
        if self.ordered { those.next().and_then(last) } else { those.filter_map(last).max_by_key(|m| m.index) }
    }

    /// All with this score.
    fn those(&self, least: u64) -> impl Iterator<Item = Member> + '_ {
        self.groups.iter().filter(move |g| g.has(least)).flat_map(|group| {
            let who = group.who();
            (0u32..).zip(self.of(group)).filter(move |(bit, _)| who & (1 << bit) != 0).map(|(_, &member)| member)
        })
    }

    /// The one with this score and the most weight; of several the first in the pool's order.
    fn heaviest(&self, least: u64) -> Option<Member> {
        self.those(least).reduce(|best, m| {
            let better = m.weight > best.weight || (m.weight == best.weight && m.index < best.index);
            if better { m } else { best }
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Choice, Draws, LeastRequest};
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Outcome, Pool};
    use crate::core::sync::{Exclusive, Shared};
    use crate::core::time::Nanos;
    use std::sync::Arc;

    fn endpoint(i: u64, weight: f64, max_inflight: u32) -> Endpoint<()> {
        let id: Arc<str> = format!("e{i}").into();
        Endpoint {
            id: id.clone(),
            hash_key: id,
            weight,
            backup: false,
            priority: 0,
            zone: "".into(),

            max_inflight,
            passive: None,
            payload: (),
        }
    }

    /// Mixed operations; after each the pick is one that a look at every endpoint finds among the best.
    #[allow(clippy::unwrap_used, clippy::indexing_slicing)]
    fn agrees<M: Mode>(seed: u64, weighted: bool, limited: bool, ties: Ties) {
        let draws = Draws::new(seed);
        let below = |n| rng::below(draws.next::<Exclusive>() as u32, n);
        let made = |i| {
            let weight = if weighted { f64::from(1 + below(3)) } else { 1.0 };
            endpoint(i, weight, if limited { 1 + below(3) } else { u32::MAX })
        };
        let pool = Pool::<M, ()>::new((0..50).map(made).collect(), Options::default()).unwrap();
        let policy = LeastRequest { full_scan: true, ties, ..LeastRequest::default() };
        let picker = Picker::new(&pool, policy);
        let mut open = Vec::new();
        let mut last = 0;
        for step in 0..3000u64 {
            if step % 500 == 499 {
                // Slots are used again, out of order.
                for _ in 0..5 {
                    let ids: Vec<_> = pool.stats(Nanos(0)).into_iter().map(|s| s.id).collect();
                    pool.remove(&ids[below(ids.len() as u32) as usize]).unwrap();
                }
                (0..5).for_each(|i| pool.add(made(1000 + step * 5 + i), Nanos::ZERO).unwrap());
                last = 0;
            }
            let state = picker.state();
            let view = &state.snapshot.view;
            let units = if step % 7 == 0 { 3000 } else { 1024 };
            let cx = picker.context(&state, units, Nanos(0));
            let score = |m: Member| (cx.cell(m).unwrap().effective_load() + units) as f64 / m.weight;
            let able: Vec<Member> = view.tiers[0].members().copied().filter(|&m| view.available(m)).collect();
            let least = able.iter().map(|&m| score(m)).fold(f64::INFINITY, f64::min);
            let best: Vec<Member> = able.into_iter().filter(|&m| score(m) == least).collect();
            let expected: Option<Choice> = match ties {
                Ties::Random | Ties::LastDrawn => None,
                Ties::First => best.first().map(|&m| m.into()),
                Ties::Last => best.last().map(|&m| m.into()),
                Ties::Rotate => best.iter().find(|m| m.index >= last).or(best.first()).map(|&m| m.into()),
                Ties::Heaviest => {
                    best.iter().rev().max_by(|a, b| a.weight.partial_cmp(&b.weight).unwrap()).map(|&m| m.into())
                }
            };
            let taken = picker.acquire(&state, None, units, Nanos(0));
            assert_eq!(taken.is_none(), best.is_empty());
            if let Some(taken) = taken {
                assert!(best.iter().any(|&m| Choice::from(m) == taken.choice));
                assert!(expected.is_none_or(|e| e == taken.choice || (last == 0 && ties == Ties::Rotate)));
                last = taken.choice.index + 1;
                open.push(taken);
            }
            while !open.is_empty() && below(100) < 48 {
                let taken = open.swap_remove(below(open.len() as u32) as usize);
                pool.settle(taken.choice.slot, taken.units, Outcome::Success, None, None, Nanos(0));
            }
        }
    }

    #[test]
    fn the_choice_is_that_of_a_look_at_everybody() {
        for ties in [Ties::Random, Ties::First, Ties::Last, Ties::Rotate, Ties::Heaviest] {
            for (weighted, limited) in [(false, false), (true, false), (false, true), (true, true)] {
                agrees::<Exclusive>(7, weighted, limited, ties);
                agrees::<Shared>(8, weighted, limited, ties);
            }
        }
    }

    #[test]
    fn places_of_bits() {
        for bits in (0..1u32 << 16).step_by(7).chain([1, 0x8000, 0xffff, 0xff00, 0xff]) {
            let mut left = bits;
            for n in 0..bits.count_ones() {
                assert_eq!(place_of(bits, n), left.trailing_zeros(), "{n} of {bits:b}");
                left &= left - 1;
            }
        }
    }

    /// Two who look at one pool in turn, with changes between: neither misses what the other has been told of.
    #[allow(clippy::unwrap_used, clippy::indexing_slicing)]
    #[test]
    fn two_who_look_miss_nothing() {
        let draws = Draws::new(3);
        let below = |n| rng::below(draws.next::<Exclusive>() as u32, n);
        let pool =
            Pool::<Exclusive, ()>::new((0..40).map(|i| endpoint(i, 1.0, u32::MAX)).collect(), Options::default());
        let pool = pool.unwrap();
        let policy = LeastRequest { full_scan: true, ties: Ties::First, ..LeastRequest::default() };
        let pickers = [Picker::new(&pool, policy.clone()), Picker::new(&pool, policy)];
        let mut open = Vec::new();
        for _ in 0..5000 {
            let picker = &pickers[below(2) as usize];
            let state = picker.state();
            let cx = picker.context(&state, 1024, Nanos(0));
            let view = &state.snapshot.view;
            let best = view.tiers[0].members().min_by_key(|m| cx.cell(**m).unwrap().effective_load()).copied();
            if below(2) == 0 {
                open.push(picker.acquire(&state, None, 1024, Nanos(0)).unwrap());
                assert_eq!(open.last().map(|taken| taken.choice), best.map(Choice::from));
            } else {
                assert_eq!(picker.pick(&state, None, Nanos(0)), best.map(Choice::from));
            }
            while !open.is_empty() && below(100) < 35 {
                let taken = open.swap_remove(below(open.len() as u32) as usize);
                pool.settle(taken.choice.slot, taken.units, Outcome::Success, None, None, Nanos(0));
            }
        }
    }

    #[test]
    fn random_ties_go_to_all_equally() {
        let pool =
            Pool::<Exclusive, ()>::new((0..50).map(|i| endpoint(i, 1.0, u32::MAX)).collect(), Options::default());
        let pool = pool.unwrap();
        let picker = Picker::new(&pool, LeastRequest { full_scan: true, ..LeastRequest::default() });
        let state = picker.state();
        // Ten of them have work.
        let busy: Vec<_> = (0..10).map(|_| picker.acquire(&state, None, 1024, Nanos(0)).unwrap().choice).collect();
        let (n, mut counts) = (40_000u32, [0u32; 50]);
        for _ in 0..n {
            counts[picker.pick(&state, None, Nanos(0)).unwrap().index as usize] += 1;
        }
        let p: f64 = 1.0 / 40.0;
        for (i, &count) in counts.iter().enumerate() {
            if busy.iter().any(|c| c.index == i as u32) {
                assert_eq!(count, 0);
            } else {
                let z = (f64::from(count) - p * f64::from(n)) / (f64::from(n) * p * (1.0 - p)).sqrt();
                assert!(z.abs() < 4.5, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_rebuild_and_a_block_are_seen() {
        let pool = Pool::<Exclusive, ()>::new((0..3).map(|i| endpoint(i, 1.0, u32::MAX)).collect(), Options::default());
        let pool = pool.unwrap();
        let policy = LeastRequest { full_scan: true, ties: Ties::First, ..LeastRequest::default() };
        let picker = Picker::new(&pool, policy);
        let old = picker.state();
        assert_eq!(picker.pick(&old, None, Nanos(0)).unwrap().index, 0);
        pool.drain("e0", Nanos(1)).unwrap();
        assert_eq!(picker.pick(&old, None, Nanos(0)).unwrap().index, 1, "also by an index built before");
        assert_eq!(picker.pick(&picker.state(), None, Nanos(0)).unwrap().index, 1);
    }
}
