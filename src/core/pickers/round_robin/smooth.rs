//! nginx's smooth weighted round robin.
//!
//! Every pick raises each member's current weight by its weight, takes the largest (the first of equals) and lowers it
//! by the sum. The order repeats, so while nothing is skipped it is read from a table; a skipped member is not touched
//! at all, which leaves the cycle, and from then on the weights are kept alive until a rebuild finds a cycle again. A full
//! member is skipped also when it would not have been chosen, so that where requests are limited nothing but the live
//! weights is right.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::{MAX_WHOLE, Start, gcd};
use crate::core::endpoints::{Block, Member, View};
use crate::core::sync::{AtomicU64, Mode, Ordering};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

/// The longest cycle that is kept as a table.
const MAX_PERIOD: u64 = 65_536;

/// The most steps that building a table may take.
const MAX_STEPS: u64 = 2_000_000;

/// Weighted round robin by nginx's smooth schedule (nginx 1.22 and 1.31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smooth {
    /// Where it starts.
    pub start: Start,
}

/// A rank's members and the state of their rotation.
#[derive(Debug, Default)]
pub struct Index<M: Mode> {
    members: Vec<Member>,
    weights: Vec<i64>,
    total: i64,
    /// One whole cycle from `base`; empty when it is too long.
    cycle: Vec<Choice>,
    /// Current weights at the start of the cycle.
    base: Vec<i64>,
    /// Place in the cycle.
    at: AtomicU64,
    /// Whether members may be full.
    limited: bool,
    /// Whether failures lower weights.
    wears: bool,
    /// What one unit of weight as given is here.
    scale: i64,
    /// Not zero: the cycle was left, and `current` is kept instead.
    live: AtomicU64,
    /// Current weights while live; signed numbers in two's complement.
    current: Vec<AtomicU64>,
    /// Picks since the last one that skipped somebody.
    calm: AtomicU64,
    /// What [`Block::blocks`] said when nobody was blocked; u64::MAX when that is not known.
    free_at: AtomicU64,
    /// What one of `weights` is in the weights as given: a common divisor, or the inverse of the scale of fractions.
    unit: f64,
    /// Current weights, in weights as given, of slots that are in the pool and not in this rank: they keep still until
    /// they come back.
    parked: HashMap<u32, f64>,
    gate: M::Gate,
}

impl<M: Mode> Index<M> {
    /// The current weights, wherever they are kept.
    fn weights_now(&self) -> Vec<i64> {
        if self.live.load(Ordering::Acquire) != 0 {
            return self.current.iter().map(|c| c.load(Ordering::Relaxed) as i64).collect();
        }
        let at = (self.at.load(Ordering::Relaxed)).checked_rem(self.cycle.len() as u64).unwrap_or(0);
        let mut turns: HashMap<u32, i64> = HashMap::new();
        for choice in self.cycle.iter().take(at as usize) {
            *turns.entry(choice.slot).or_default() += 1;
        }
        let taken = |m: &Member| turns.get(&m.slot).copied().unwrap_or(0) * self.total;
        let raised = self.base.iter().zip(&self.weights).map(|(b, w)| b + w * at as i64);
        raised.zip(&self.members).map(|(current, m)| current - taken(m)).collect()
    }

    /// The next of the cycle; `None` when the cycle is not in use, or that one cannot be had and `live` must take over.
    #[inline(always)]
    pub(super) fn next_in_cycle(&self, cx: &Context<'_>) -> Option<Choice> {
        if self.live.load(Ordering::Relaxed) != 0 || self.limited || (self.wears && cx.view.block.worn()) {
            return None;
        }
        let at = M::rotate(&self.at, self.cycle.len() as u64);
        let choice = self.cycle.get(at as usize).copied()?;
        // Nobody has a limit here, so that a look at the flag is enough.
        if cx.view.block.cell(choice.slot).is_some_and(|cell| cell.blocked.load(Ordering::Relaxed) == 0) {
            return Some(choice);
        }
        // Somebody is skipped: this pick is taken again, live, from where it started.
        self.at.store(at, Ordering::Relaxed);
        None
    }

    /// One turn, of the cycle where there is one.
    pub(super) fn turn(&self, usable: &dyn Fn(Member) -> bool) -> Option<Choice> {
        if self.live.load(Ordering::Relaxed) == 0 {
            let at = M::rotate(&self.at, self.cycle.len() as u64);
            return self.cycle.get(at as usize).copied();
        }
        self.step(usable, None)
    }

    /// From now on the current weights are kept instead of a place in the cycle. Holds the gate.
    fn leave_cycle(&self) {
        if self.live.load(Ordering::Acquire) == 0 {
            for (current, value) in self.current.iter().zip(self.weights_now()) {
                current.store(value as u64, Ordering::Relaxed);
            }
            self.live.store(1, Ordering::Release);
        }
    }

    /// Whether everybody can be had, which is looked for again only after somebody was blocked. Holds the gate.
    fn all_free(&self, view: &View) -> bool {
        if self.limited || (self.wears && view.block.worn()) {
            return false;
        }
        let blocks = view.block.blocks().unwrap_or(u64::MAX);
        let known = blocks != u64::MAX && self.free_at.load(Ordering::Relaxed) == blocks;
        let free = known || self.members.iter().all(|&member| view.available(member));
        if free {
            self.free_at.store(blocks, Ordering::Relaxed);
        }
        free
    }

    /// One live step where everybody can be had: only numbers that lie beside each other are walked. Holds the gate.
    fn step_all(&self) -> Option<Choice> {
        self.leave_cycle();
        let (mut best, mut most) = (None, i64::MIN);
        for ((current, &weight), at) in self.current.iter().zip(&self.weights).zip(0usize..) {
            let raised = (current.load(Ordering::Relaxed) as i64).wrapping_add(weight);
            current.store(raised as u64, Ordering::Relaxed);
            if raised > most {
                (best, most) = (Some(at), raised);
            }
        }
        let at = best?;
        self.current.get(at)?.store(most.wrapping_sub(self.total) as u64, Ordering::Relaxed);
        self.calm.store(self.calm.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.members.get(at).map(|&member| member.into())
    }

    /// One live step over the members that can be had. Holds the gate. `block` knows whose weight is lowered: nginx's
    /// effective weight, which grows by one in each step in which its owner could be had.
    fn step(&self, usable: &dyn Fn(Member) -> bool, block: Option<&Block>) -> Option<Choice> {
        self.leave_cycle();
        let block = block.filter(|block| self.wears && block.worn());
        let (mut total, mut best, mut skipped) = (0i64, None::<(Member, &AtomicU64, i64)>, false);
        for ((&member, &weight), current) in self.members.iter().zip(&self.weights).zip(&self.current) {
            if !usable(member) {
                skipped = true;
                continue;
            }
            let mut weight = weight;
            if let Some(block) = block
                && let Some(worn) = block.meter(member.slot).map(|m| m.worn.load(Ordering::Relaxed)).filter(|&w| w > 0)
            {
                skipped = true;
                weight = weight.saturating_sub((worn as i64).saturating_mul(self.scale)).max(0);
                block.mend(member.slot);
            }
            let raised = (current.load(Ordering::Relaxed) as i64).wrapping_add(weight);
            current.store(raised as u64, Ordering::Relaxed);
            total += weight;
            if best.is_none_or(|(_, _, most)| raised > most) {
                best = Some((member, current, raised));
            }
        }
        let (member, current, raised) = best?;
        current.store(raised.wrapping_sub(total) as u64, Ordering::Relaxed);
        self.calm.store(if skipped { 0 } else { self.calm.load(Ordering::Relaxed) + 1 }, Ordering::Relaxed);
        Some(member.into())
    }
}

/// Weights and current weights as whole numbers, and what one of them is in the weights as given. Only what divides
/// all of them is taken out, so that nginx's numbers stay nginx's.
fn whole(members: &[Member], current: &[f64], wears: bool) -> (Vec<i64>, Vec<i64>, f64) {
    let most = members.iter().fold(0.0f64, |most, m| most.max(m.weight));
    let as_is = most <= MAX_WHOLE && members.iter().all(|m| m.weight.fract() == 0.0);
    let scale = if as_is { 1.0 } else { 1_048_576.0 / most };
    let mut weights: Vec<i64> = members.iter().map(|m| ((m.weight * scale).round() as i64).max(1)).collect();
    let mut base: Vec<i64> = current.iter().map(|c| (c * scale).round() as i64).collect();
    // What failures take away is counted in the weights as given.
    let divisor = if wears { 1 } else { weights.iter().chain(&base).fold(0, |a, &b| gcd(a, b.abs())) };
    if divisor > 1 {
        weights.iter_mut().chain(&mut base).for_each(|w| *w /= divisor);
    }
    (weights, base, divisor.max(1) as f64 / scale)
}

/// One cycle of members of equal weight: each once, by current weight, then by place. Right as long as no two differ
/// by the sum or more, which is so unless the weights have just changed.
fn cycle_of_equals(base: &[i64], total: i64) -> Option<Vec<u32>> {
    let (least, most) = (base.iter().min()?, base.iter().max()?);
    if most - least >= total {
        return None;
    }
    let mut order: Vec<(i64, u32)> = base.iter().zip(0u32..).map(|(&b, i)| (-b, i)).collect();
    order.sort_unstable();
    Some(order.into_iter().map(|(_, i)| i).collect())
}

/// One cycle from a fresh start. Members of one weight take turns in order, so only the next of each weight competes.
fn fresh_cycle(weights: &[i64], total: i64) -> Option<Vec<u32>> {
    struct Class {
        weight: i64,
        members: Vec<u32>,
        next: usize,
        current: i64,
    }
    let mut classes: Vec<Class> = Vec::new();
    for (i, &weight) in (0u32..).zip(weights) {
        match classes.iter_mut().find(|c| c.weight == weight) {
            Some(class) => class.members.push(i),
            None => {
                if classes.len() as u64 * total as u64 > MAX_STEPS {
                    return None;
                }
                classes.push(Class { weight, members: vec![i], next: 0, current: 0 });
            }
        }
    }
    if classes.len() as u64 * total as u64 > MAX_STEPS {
        return None;
    }
    // The head's current weight is weight * step - total * (rounds that its class has gone).
    let mut cycle = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best: Option<(i64, u32, usize)> = None;
        for (which, class) in classes.iter_mut().enumerate() {
            class.current += class.weight;
            let head = class.members.get(class.next).copied()?;
            let better = best.is_none_or(|(most, at, _)| class.current > most || (class.current == most && head < at));
            if better {
                best = Some((class.current, head, which));
            }
        }
        let (_, head, which) = best?;
        cycle.push(head);
        let class = classes.get_mut(which)?;
        class.next += 1;
        if class.next == class.members.len() {
            class.next = 0;
            class.current -= total;
        }
    }
    Some(cycle)
}

/// How many weights there are that differ. Beyond what any cycle may cost they are not counted on.
fn distinct(weights: &[i64]) -> u64 {
    weights.iter().collect::<HashSet<_>>().len() as u64
}

/// Whether a cycle can be looked for: each of its steps compares one member of each weight.
fn within_reach(weights: &[i64], total: i64) -> bool {
    total as u64 <= MAX_PERIOD && distinct(weights).saturating_mul(total as u64) <= MAX_STEPS
}

/// One cycle from any state, if the state comes back after it. All members of one weight rise alike, so that of each
/// weight only the one with the largest current weight competes, the first of equals.
fn cycle_from(base: &[i64], weights: &[i64], total: i64) -> Option<Vec<u32>> {
    if !within_reach(weights, total) {
        return None;
    }
    // Current weights less what all of that weight have risen by.
    let mut classes: BTreeMap<i64, BinaryHeap<(i64, Reverse<u32>)>> = BTreeMap::new();
    for ((&weight, &current), i) in weights.iter().zip(base).zip(0u32..) {
        classes.entry(weight).or_default().push((current, Reverse(i)));
    }
    let mut classes: Vec<_> = classes.into_iter().collect();
    let mut turns = vec![0i64; weights.len()];
    let mut cycle = Vec::with_capacity(total as usize);
    for step in 1..=total {
        let heads = classes.iter().zip(0usize..).filter_map(|((weight, heap), which)| {
            let &(current, Reverse(i)) = heap.peek()?;
            Some((current + weight * step, Reverse(i), which))
        });
        let (_, Reverse(i), which) = heads.max()?;
        classes.get_mut(which)?.1.peek_mut()?.0 -= total;
        *turns.get_mut(i as usize)? += 1;
        cycle.push(i);
    }
    // Each has risen by its weight as often as the sum of weights says, and fallen by that sum at each turn.
    (turns == weights).then_some(cycle)
}

impl Policy for Smooth {
    type Index<M: Mode> = Index<M>;

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        // Those that stay keep their current weights, those that come start at zero.
        let mut parked: HashMap<u32, f64> = before.iter().flat_map(|b| b.parked.clone()).collect();
        for old in before {
            let now = old.weights_now().into_iter().map(|current| current as f64 * old.unit);
            parked.extend(old.members.iter().map(|m| m.slot).zip(now));
        }
        let current: Vec<f64> = members.iter().map(|m| parked.remove(&m.slot).unwrap_or(0.0)).collect();
        let present: HashSet<u32> = view.slots.iter().copied().collect();
        parked.retain(|slot, current| *current != 0.0 && present.contains(slot));
        let wears = view.block.wears();
        let (weights, base, unit) = whole(members, &current, wears);
        let total: i64 = weights.iter().sum();
        let equal = weights.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
        let cycle = if equal {
            cycle_of_equals(&base, total)
        } else if total as u64 > MAX_PERIOD {
            None
        } else if base.iter().all(|&b| b == 0) {
            fresh_cycle(&weights, total)
        } else {
            cycle_from(&base, &weights, total)
        };
        let live = u64::from(cycle.is_none());
        // Looked for here, since a look at everybody takes longer than many picks.
        let blocks = view.block.blocks().unwrap_or(u64::MAX);
        let free = live != 0 && members.iter().all(|&member| view.available(member));
        let current = base.iter().map(|&b| AtomicU64::new(b as u64)).collect();
        let index = Index {
            members: members.to_vec(),
            weights,
            total,
            cycle: cycle
                .unwrap_or_default()
                .into_iter()
                .filter_map(|p| members.get(p as usize))
                .map(|&m| m.into())
                .collect(),
            base,
            at: AtomicU64::new(0),
            limited: view.limited,
            wears,
            scale: (unit.recip().round() as i64).max(1),
            live: AtomicU64::new(live),
            current,
            calm: AtomicU64::new(0),
            free_at: AtomicU64::new(if free { blocks } else { u64::MAX }),
            unit,
            parked,
            gate: M::Gate::default(),
        };
        // A start is for the first build only: a rotation that goes on has its place already.
        if before.is_empty() && total > 0 {
            let start = self.start.picks(draws).checked_rem(total as u64).unwrap_or(0);
            if live == 0 {
                index.at.store(start, Ordering::Relaxed);
            } else {
                // A random place in a cycle too long to walk: far enough in is as good as anywhere.
                for _ in 0..start.min(MAX_PERIOD) {
                    index.step_all();
                }
            }
        }
        index
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 40 + 100_000
    }

    fn wants_rebuild<M: Mode>(&self, index: &Index<M>) -> bool {
        self.unsettled::<M>(index) && index.calm.load(Ordering::Relaxed) as usize >= index.members.len()
    }

    fn unsettled<M: Mode>(&self, index: &Index<M>) -> bool {
        if index.limited {
            return false;
        }
        let equal = index.weights.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
        index.live.load(Ordering::Relaxed) != 0 && (equal || within_reach(&index.weights, index.total))
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        index.next_in_cycle(cx).or_else(|| live::<M>(index, cx, None))
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        live::<M>(index, cx, Some(allow))
    }

    fn fill<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, out: &mut [u32]) -> usize {
        let steady = index.live.load(Ordering::Relaxed) == 0
            && !index.cycle.is_empty()
            && index.members.iter().all(|&m| cx.view.available(m));
        if !steady {
            for (made, place) in out.iter_mut().enumerate() {
                match self.pick(index, cx, 0) {
                    Some(choice) => *place = choice.index,
                    None => return made,
                }
            }
            return out.len();
        }
        let length = index.cycle.len();
        let at = M::add(&index.at, out.len() as u64) as usize;
        let mut from = at.checked_rem(length).unwrap_or(0);
        index.at.store((((from + out.len()).checked_rem(length)).unwrap_or(0)) as u64, Ordering::Relaxed);
        // Several rounds at once where a round is short: a copy costs the same for eight and for a hundred.
        let rounds = (out.len().min(512) / length.max(1)).max(1);
        let order: Vec<u32> = index.cycle.iter().map(|c| c.index).collect::<Vec<u32>>().repeat(rounds);
        let mut rest = &mut out[..];
        while !rest.is_empty() {
            let run = order.get(from..).unwrap_or(&[]);
            let size = run.len().min(rest.len());
            let (now, later) = rest.split_at_mut(size);
            now.copy_from_slice(run.get(..size).unwrap_or(&[]));
            rest = later;
            from = 0;
            if order.is_empty() {
                break;
            }
        }
        out.len()
    }
}

#[inline(never)]
pub(super) fn live<M: Mode>(index: &Index<M>, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
    let _gate = M::enter(&index.gate);
    if index.live.load(Ordering::Relaxed) == 0 {
        // From here on every pick walks all members, until a rebuild finds a cycle again.
        cx.deferred.store(true, Ordering::Relaxed);
    }
    if allow.is_none() && index.all_free(cx.view) {
        return index.step_all();
    }
    let allowed = |member: Member| allow.is_none_or(|allow| allow(member.index));
    index.step(&|member| cx.view.available(member) && allowed(member), Some(&cx.view.block))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The rule as nginx states it, one loop.
    #[allow(clippy::indexing_slicing)]
    fn plain(weights: &[i64], picks: usize) -> Vec<usize> {
        let total: i64 = weights.iter().sum();
        let mut current = vec![0; weights.len()];
        (0..picks)
            .map(|_| {
                let mut best = 0;
                for i in 0..weights.len() {
                    current[i] += weights[i];
                    if current[i] > current[best] {
                        best = i;
                    }
                }
                current[best] -= total;
                best
            })
            .collect()
    }

    #[test]
    fn the_table_is_the_rule() {
        let cases: [&[i64]; 6] =
            [&[5, 1, 1], &[1, 1, 1], &[4, 3, 2, 1], &[1, 1000], &[7, 7, 3, 3, 3, 1], &[1, 2, 3, 4, 5]];
        for weights in cases {
            let total: i64 = weights.iter().sum();
            let want: Vec<u32> = plain(weights, total as usize).iter().map(|&i| i as u32).collect();
            assert_eq!(fresh_cycle(weights, total).unwrap(), want, "{weights:?}");
            assert_eq!(cycle_from(&vec![0; weights.len()], weights, total).unwrap(), want, "{weights:?}");
        }
    }

    #[test]
    fn whole_numbers_keep_their_ratios_and_fractions_are_scaled() {
        let of = |weights: &[f64]| {
            let members: Vec<Member> = weights.iter().map(|&weight| Member { index: 0, slot: 0, weight }).collect();
            whole(&members, &[], false)
        };
        assert_eq!(of(&[10.0, 10.0, 20.0]), (vec![1, 1, 2], vec![], 10.0));
        assert_eq!(of(&[0.5, 1.0]), (vec![1, 2], vec![], 0.5));
        assert_eq!(of(&[1e15, 1.0]).0, vec![1_048_576, 1]);
    }

    #[test]
    fn a_cycle_from_any_state_is_the_rule_from_there() {
        let mut rng = crate::core::rng::Rng::new(3);
        let (mut found, mut tried) = (0, 0);
        for n in [1usize, 2, 7, 40] {
            let mut weights: Vec<i64> = (0..n).map(|i| 1 + (i % 3) as i64).collect();
            let mut current = vec![0i64; n];
            let step = |current: &mut Vec<i64>, weights: &[i64]| {
                current.iter_mut().zip(weights).for_each(|(c, w)| *c += w);
                let most = *current.iter().max().unwrap();
                let at = current.iter().position(|&c| c == most).unwrap();
                *current.get_mut(at).unwrap() -= weights.iter().sum::<i64>();
                at as u32
            };
            for _ in 0..20 {
                (0..rng.below(2 * n as u32)).for_each(|_| _ = step(&mut current, &weights));
                *weights.get_mut(rng.below(n as u32) as usize).unwrap() = 1 + i64::from(rng.below(5));
                let total = weights.iter().sum::<i64>();
                let mut then = current.clone();
                let order: Vec<u32> = (0..total).map(|_| step(&mut then, &weights)).collect();
                let cycle = cycle_from(&current, &weights, total);
                assert_eq!(cycle, (then == current).then_some(order), "{current:?} {weights:?}");
                found += u32::from(cycle.is_some());
                tried += 1;
            }
        }
        assert!(found > tried / 2, "{found} of {tried}");
    }

    #[test]
    fn ten_thousand_with_few_weights_have_a_cycle_after_a_change() {
        let mut weights = vec![1i64; 10_000];
        // Some turns into a cycle of equals.
        let base: Vec<i64> = (0..10_000).map(|i| if i < 3000 { 3000 - 10_000 } else { 3000 }).collect();
        *weights.get_mut(17).unwrap() = 2;
        assert!(cycle_from(&base, &weights, 10_001).is_some());
        let many: Vec<i64> = (1..=10_000).collect();
        assert_eq!(cycle_from(&base, &many, many.iter().sum()), None);
    }

    #[test]
    fn equals_that_are_a_whole_sum_apart_are_not_a_cycle() {
        // The first takes two turns in a row here: 2, 0 and then 1, 1.
        assert_eq!(cycle_of_equals(&[1, -1], 2), None);
        assert_eq!(cycle_of_equals(&[0, 1], 2), Some(vec![1, 0]));
    }

    #[test]
    fn a_walk_over_numbers_alone_is_the_walk_that_looks_at_everybody() {
        use crate::core::endpoints::Endpoint;
        use crate::core::pickers::RoundRobin;
        use crate::core::pool::options::Options;
        use crate::core::pool::{Pool, picker::Picker};
        use crate::core::rng::Rng;
        use crate::core::sync::Exclusive;
        use crate::core::time::Nanos;
        let endpoint = |i: u32| Endpoint {
            id: format!("e{i}").into(),
            hash_key: format!("e{i}").into(),
            // No cycle that could be kept.
            weight: f64::from(10_000 + 7 * i),
            backup: false,
            priority: 0,
            zone: "".into(),
            max_inflight: u32::MAX,
            passive: None,
            payload: (),
        };
        let made = || {
            let pool = Pool::<Exclusive, ()>::new((0..20).map(endpoint).collect(), Options::default()).unwrap();
            let picker = Picker::new(&pool, RoundRobin::default());
            (pool, picker)
        };
        let (quick, slow) = (made(), made());
        let mut rng = Rng::new(5);
        let mut skipped = 0;
        for step in 0..4000u64 {
            if rng.below(40) == 0 {
                let who = format!("e{}", rng.below(20));
                for (pool, _) in [&quick, &slow] {
                    pool.drain(&who, Nanos(step)).unwrap();
                }
                skipped += 1;
            } else if rng.below(40) == 0 {
                // Everybody comes back.
                for (pool, _) in [&quick, &slow] {
                    pool.update((0..20).map(endpoint).collect(), Nanos(step)).unwrap();
                    (0..20).for_each(|i| pool.undrain(&format!("e{i}")).unwrap());
                }
            }
            let one = quick.1.pick(&quick.1.state(), None, Nanos(step));
            let state = slow.1.state();
            let cx = slow.1.context(&state, 1024, Nanos(step));
            let other = state.choose(slow.1.policy(), &cx, 0, &|_| true);
            assert_eq!(one, other, "step {step}");
        }
        assert!(skipped > 50);
    }
}
