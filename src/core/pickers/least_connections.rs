//! Least connections, as nginx and HAProxy have it: requests in flight over weight, and their own rules for ties.

use super::round_robin::{sixteenths, whole};
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Cell, Member, View};
use crate::core::sync::{AtomicU64, Mode, Mutex, Ordering};
use std::collections::{HashMap, HashSet};

/// Whose rule it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// nginx's `least_conn`: ties by smooth weighted round robin among the tied.
    #[default]
    Nginx,
    /// HAProxy's `leastconn`: of equal ones the one that has waited longest; idle ones come first whatever their weight.
    Haproxy,
}

/// Takes the endpoint with the fewest requests in flight for its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeastConnections {
    /// Whose rule it is.
    pub variant: Variant,
}

/// HAProxy's view of a server when it was looked at last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    weight: u64,
    inflight: u64,
    /// What the pool's order said of it.
    noted: u64,
    /// When it went to the end of its key's queue.
    stamp: Stamp,
}

/// When something happened: after how many changes of the pool, and there as how manieth of the things that only one
/// picker knows.
type Stamp = (u64, u64);

/// HAProxy's queue of servers.
#[derive(Debug, Default)]
struct Queue {
    seen: Vec<Seen>,
    /// How many things only this picker knows.
    own: u64,
}

/// Weights as they were given, if they are whole.
fn given(members: &[Member]) -> Option<Vec<u64>> {
    members.iter().map(|m| (m.weight.fract() == 0.0 && m.weight < 1e9).then_some(m.weight as u64)).collect()
}

/// The members of a rank, and what decides between equal ones.
pub struct Index<M: Mode> {
    members: Vec<Member>,
    weights: Vec<u64>,
    /// nginx: current weights of the smooth schedule, less `lift`; signed numbers in two's complement.
    current: Vec<AtomicU64>,
    /// nginx: what one unit of weight as given is in `weights`, where failures lower weights; else 0.
    scale: u64,
    /// What all of them have gained together.
    lift: AtomicU64,
    /// Whether all weights are the same.
    alike: bool,
    /// Their slots as stretches of neighbours, where weights are the same and stretches are long.
    runs: Vec<(u32, usize)>,
    /// Current weights of slots that are in the pool and not in this rank.
    parked: HashMap<u32, u64>,
    gate: M::Gate,
    /// HAProxy: the order among equal keys.
    queue: Mutex<Queue>,
}

/// The members as stretches of neighbouring slots, each its first and its length; none where that is of no use.
fn runs(view: &View, members: &[Member]) -> Vec<(u32, usize)> {
    let mut runs: Vec<(u32, usize)> = Vec::new();
    for member in members {
        match runs.last_mut() {
            Some((first, count)) if u64::from(*first) + *count as u64 == u64::from(member.slot) => *count += 1,
            _ => runs.push((member.slot, 1)),
        }
    }
    let useful = runs.len() * 2 <= members.len() + 1;
    let near = runs.iter().all(|&(first, count)| view.block.run(first, count).is_some());
    if useful && near { runs } else { Vec::new() }
}

impl<M: Mode> Index<M> {
    pub(super) fn nginx(view: &View, members: &[Member], before: &[&Index<M>]) -> Index<M> {
        let mut parked: HashMap<u32, u64> = before.iter().flat_map(|b| b.parked.clone()).collect();
        for old in before {
            let lift = old.lift.load(Ordering::Relaxed);
            let now = |c: &AtomicU64| c.load(Ordering::Relaxed).wrapping_add(lift);
            parked.extend(old.members.iter().zip(&old.current).map(|(m, c)| (m.slot, now(c))));
        }
        let current = members.iter().map(|m| AtomicU64::new(parked.remove(&m.slot).unwrap_or(0))).collect();
        let present: HashSet<u32> = view.slots.iter().copied().collect();
        parked.retain(|slot, current| *current != 0 && present.contains(slot));
        let (weights, scale) = match given(members).filter(|_| view.block.wears()) {
            Some(weights) => (weights, 1),
            None => (whole(members).0.into_iter().map(|w| w as u64).collect::<Vec<_>>(), 0),
        };
        let alike = weights.iter().all(|&w| w == 1);
        Index {
            members: members.to_vec(),
            weights,
            current,
            scale,
            lift: AtomicU64::new(0),
            alike,
            runs: if alike { runs(view, members) } else { Vec::new() },
            parked,
            gate: M::Gate::default(),
            queue: Mutex::default(),
        }
    }

    fn haproxy(members: &[Member], before: &[&Index<M>]) -> Index<M> {
        let mut known: HashMap<u32, Seen> = HashMap::new();
        let mut own = 0;
        for old in before {
            let queue = old.queue.lock();
            known.extend(old.members.iter().map(|m| m.slot).zip(queue.seen.iter().copied()));
            own = own.max(queue.own);
        }
        // Who comes, or has another weight, goes to the end.
        let last = known.values().map(|s| s.stamp).max();
        let weight = sixteenths(members);
        let seen = members.iter().map(|member| {
            let weight = weight(member) as u64;
            match known.get(&member.slot) {
                Some(seen) if seen.weight == weight => *seen,
                seen => {
                    own += u64::from(last.is_some());
                    let stamp = last.map_or((0, 0), |(changes, _)| (changes, own));
                    Seen { weight, stamp, inflight: 0, noted: seen.map_or(0, |s| s.noted) }
                }
            }
        });
        let seen = seen.collect();
        let queue = Mutex::new(Queue { seen, own });
        Index {
            members: members.to_vec(),
            weights: Vec::new(),
            current: Vec::new(),
            scale: 0,
            lift: AtomicU64::new(0),
            alike: false,
            runs: Vec::new(),
            parked: HashMap::new(),
            gate: M::Gate::default(),
            queue,
        }
    }

    /// The quick way of [`Index::pick_nginx`], for equal weights that all have as many requests: everybody gains the
    /// same, so that only the largest has to be found.
    fn pick_alike(&self, cx: &Context<'_>) -> Option<Choice> {
        if !self.alike || cx.view.limited || (self.scale > 0 && cx.view.block.worn()) {
            return None;
        }
        let requests = cx.cell(*self.members.first()?)?.inflight.load(Ordering::Relaxed);
        let same = |cell: &Cell| {
            cell.inflight.load(Ordering::Relaxed) == requests && cell.blocked.load(Ordering::Relaxed) == 0
        };
        cx.note_seen(requests);
        let all = if self.runs.is_empty() {
            self.members.iter().all(|&member| cx.cell(member).is_some_and(same))
        } else {
            let run = |&(first, count)| cx.view.block.run(first, count);
            self.runs.iter().all(|of| run(of).is_some_and(|cells| cells.iter().all(same)))
        };
        if !all {
            return None;
        }
        let _gate = M::enter(&self.gate);
        let (mut at, mut most) = (0, i64::MIN);
        for (i, current) in self.current.iter().enumerate() {
            let current = current.load(Ordering::Relaxed) as i64;
            if current > most {
                (at, most) = (i, current);
            }
        }
        M::add(&self.lift, 1);
        let rest = (most as u64).wrapping_sub(self.members.len() as u64);
        self.current.get(at)?.store(rest, Ordering::Relaxed);
        self.members.get(at).map(|&m| m.into())
    }

    /// What nginx's effective weight of a member lacks; it grows by one for being looked at.
    #[inline(never)]
    fn worn(&self, cx: &Context<'_>, member: Member) -> u64 {
        let block = &cx.view.block;
        if !block.worn() {
            return 0;
        }
        let worn = block.meter(member.slot).map_or(0, |meter| meter.worn.load(Ordering::Relaxed));
        block.mend(member.slot);
        worn
    }

    fn pick_nginx(&self, cx: &Context<'_>, allow: impl Fn(u32) -> bool) -> Option<Choice> {
        self.pick_least(cx, allow, |cell| cell.inflight.load(Ordering::Relaxed))
    }

    /// Who has the least of what `count` says, relative to its weight; ties by smooth weighted round robin.
    #[inline(always)]
    pub(super) fn pick_least(
        &self,
        cx: &Context<'_>,
        allow: impl Fn(u32) -> bool,
        count: impl Fn(&Cell) -> u64,
    ) -> Option<Choice> {
        let _gate = M::enter(&self.gate);
        let inflight = |member: Member| {
            let cell = cx.cell(member)?;
            (cx.view.free(cell, member.index) && allow(member.index)).then(|| count(cell))
        };
        // Place, requests and weight of the best so far; compared without division.
        let mut best: Option<(usize, u64, u64)> = None;
        let mut tied = false;
        for (at, (&member, &weight)) in self.members.iter().zip(&self.weights).enumerate() {
            let Some(requests) = inflight(member) else { continue };
            match best {
                Some((_, least, of)) => {
                    let (ours, theirs) = (requests.wrapping_mul(of), least.wrapping_mul(weight));
                    if ours < theirs {
                        best = Some((at, requests, weight));
                        tied = false;
                    } else if ours == theirs {
                        tied = true;
                    }
                }
                None => best = Some((at, requests, weight)),
            }
        }
        let (first, least, of) = best?;
        cx.note_seen(least);
        if !tied {
            return self.members.get(first).map(|&m| m.into());
        }
        let (mut total, mut winner) = (0u64, None::<(Member, &AtomicU64, i64, u64)>);
        let rest = self.members.iter().zip(&self.weights).zip(&self.current).skip(first);
        for ((&member, &weight), current) in rest {
            let Some(requests) = inflight(member) else { continue };
            if requests.wrapping_mul(of) != least.wrapping_mul(weight) {
                continue;
            }
            let worn = if self.scale > 0 { self.worn(cx, member) } else { 0 };
            let weight = weight.saturating_sub(worn);
            let raised = current.load(Ordering::Relaxed).wrapping_add(weight);
            current.store(raised, Ordering::Relaxed);
            total = total.wrapping_add(weight);
            if winner.is_none_or(|(_, _, most, _)| raised as i64 > most) {
                winner = Some((member, current, raised as i64, requests));
            }
        }
        // Nobody only when what was counted has changed in between, by another thread.
        let Some((member, current, raised, requests)) = winner else {
            return self.members.get(first).map(|&m| m.into());
        };
        current.store((raised as u64).wrapping_sub(total), Ordering::Relaxed);
        // Of another weight than the first, it has as many for its weight, which is another number.
        cx.note_seen(requests);
        Some(member.into())
    }

    fn pick_haproxy(&self, cx: &Context<'_>, allow: impl Fn(u32) -> bool) -> Option<Choice> {
        let mut queue = self.queue.lock();
        let Queue { seen: servers, own } = &mut *queue;
        let (now, mut order) = (cx.order.now(), cx.order.reader());
        let mut fresh = || {
            *own += 1;
            (now, *own)
        };
        let mut best: Option<(u64, Stamp, usize, u64)> = None;
        for (at, (member, seen)) in self.members.iter().zip(servers.iter_mut()).enumerate() {
            let Some(cell) = cx.cell(*member) else { continue };
            let inflight = cell.inflight.load(Ordering::Relaxed);
            let noted = order.of(member.slot);
            // Every request that comes or goes puts a server to the end of its new key.
            if noted != seen.noted {
                (seen.noted, seen.stamp) = (noted, (noted, 0));
            } else if inflight != seen.inflight {
                seen.stamp = fresh();
            }
            seen.inflight = inflight;
            if !cx.view.free(cell, member.index) || !allow(member.index) {
                continue;
            }
            let key = if inflight == 0 { 0 } else { (inflight + 1) * 4096 / seen.weight.max(1) };
            if best.is_none_or(|(least, stamp, place, _)| (key, seen.stamp, at) < (least, stamp, place)) {
                best = Some((key, seen.stamp, at, inflight));
            }
        }
        let (_, _, at, inflight) = best?;
        cx.note_seen(inflight);
        // Picks without leases take turns as well.
        if let Some(seen) = servers.get_mut(at) {
            seen.stamp = fresh();
        }
        self.members.get(at).map(|&m| m.into())
    }
}

impl Policy for LeastConnections {
    type Index<M: Mode> = Index<M>;

    const EXACT: bool = true;

    fn rotates(&self) -> bool {
        true
    }

    fn ordered(&self) -> bool {
        self.variant == Variant::Haproxy
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], _: &Draws) -> Index<M> {
        match self.variant {
            Variant::Nginx => Index::nginx(view, members, before),
            Variant::Haproxy => Index::haproxy(members, before),
        }
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 100
    }

    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        match self.variant {
            Variant::Nginx => index.pick_alike(cx).or_else(|| index.pick_nginx(cx, |_| true)),
            Variant::Haproxy => index.pick_haproxy(cx, |_| true),
        }
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        match self.variant {
            Variant::Nginx => index.pick_nginx(cx, allow),
            Variant::Haproxy => index.pick_haproxy(cx, allow),
        }
    }
}
