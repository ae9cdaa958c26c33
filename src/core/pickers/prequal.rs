//! Prequal: probed requests in flight and latency, hot and cold.

use super::latency::PeakEwma;
use super::least_request::{self, LeastRequest};
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::latency::exp2_neg;
use crate::core::endpoints::{Cell, Member, View};
use crate::core::error::ConfigError;
use crate::core::rng;
use crate::core::sync::{AtomicU64, Mode, Ordering};
use crate::core::time::Nanos;
use std::collections::HashMap;

/// The most probes that a pool may hold.
pub const MAX_PROBES: u32 = 64;

/// A probe is used at most so often: where replicas are few the paper's formula has no bound.
const MAX_USES: f64 = 16.0;

/// Fewer probes than this do not decide.
const ENOUGH: usize = 2;

/// From this share of failures on an endpoint is taken only when nobody else is left.
const FAILING: f64 = 0.5;

/// By probes that the caller makes and reports: an endpoint with many requests in flight is hot, and of those that are not
/// the fastest is taken; when all are hot, the one with the fewest.
///
/// Wydrowski, Kleinberg, Rumble, Archer, "Load is not what you should balance: introducing Prequal", NSDI 2024. Ours are
/// what the paper leaves open, and small fleets: the pool holds no more probes than half of the replicas (and two), at most
/// one of each; probes are used a bounded number of times; with fewer than two the less loaded of two is taken instead of
/// anybody; requests in flight and latency count relative to the weight; failures since the last probe add to latency.
#[derive(Clone, Debug, PartialEq)]
pub struct Prequal {
    /// The most probes held.
    pub pool_size: u32,
    /// Probes that the caller makes for each request.
    pub probe_rate: f64,
    /// Probes that each request removes.
    pub remove_rate: f64,
    /// An endpoint is hot when it has more requests in flight than this quantile of those probed.
    pub quantile: f64,
    /// The net growth of the pool that probes are made for, a request (the paper's delta).
    pub growth: f64,
    /// How long a probe counts.
    pub max_age: Nanos,
    /// What decides when probes are too few.
    pub fallback: LeastRequest,
}

impl Default for Prequal {
    fn default() -> Prequal {
        Prequal {
            pool_size: 16,
            probe_rate: 3.0,
            remove_rate: 1.0,
            quantile: 0.84,
            growth: 1.0,
            max_age: Nanos(1_000_000_000),
            fallback: LeastRequest::default(),
        }
    }
}

/// A number near `x`, so that the mean is `x`.
fn rounded<M: Mode>(x: f64, draws: &Draws) -> u64 {
    let (whole, rest) = (x.floor(), x.fract());
    let more = rest > 0.0 && ((draws.next::<M>() >> 11) as f64) < rest * 9_007_199_254_740_992.0;
    whole as u64 + u64::from(more)
}

impl Prequal {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<Prequal, ConfigError> {
        if !(2..=MAX_PROBES).contains(&self.pool_size) {
            return Err(ConfigError::new("pool_size", self.pool_size, "a whole number from 2 to 64"));
        }
        if !(self.probe_rate > 0.0 && self.probe_rate <= 64.0) {
            return Err(ConfigError::new("probe_rate", self.probe_rate, "a number above 0, up to 64"));
        }
        if !(0.0..=64.0).contains(&self.remove_rate) {
            return Err(ConfigError::new("remove_rate", self.remove_rate, "a number from 0 to 64"));
        }
        if !(0.0..=1.0).contains(&self.quantile) {
            return Err(ConfigError::new("q_rif", self.quantile, "a quantile from 0 to 1"));
        }
        if !(self.growth > 0.0 && self.growth <= 64.0) {
            return Err(ConfigError::new("delta", self.growth, "a number above 0, up to 64"));
        }
        if self.max_age == Nanos::ZERO {
            return Err(ConfigError::new("max_age", 0, "a positive number of seconds"));
        }
        Ok(self)
    }

    /// How many probes are held for so many replicas: no more than half, but two.
    #[must_use]
    pub fn capacity(&self, replicas: usize) -> usize {
        (self.pool_size as usize).min((replicas / 2).max(ENOUGH))
    }

    /// How often a probe may be used: b = max(1, (1 + delta) / ((1 - m/n) * r_probe - r_remove)).
    #[must_use]
    pub fn reuse(&self, replicas: usize) -> f64 {
        let share = self.capacity(replicas) as f64 / replicas.max(1) as f64;
        let left = (1.0 - share) * self.probe_rate - self.remove_rate;
        if left > 0.0 { ((1.0 + self.growth) / left).clamp(1.0, MAX_USES) } else { MAX_USES }
    }

    /// Whom to probe for one request: `probe_rate` different replicas on the average, each as likely.
    pub fn targets<M: Mode>(&self, view: &View, draws: &Draws) -> Vec<Choice> {
        let rank = view.tiers.iter().find(|rank| rank.members().any(|&m| view.available(m)));
        let mut rest: Vec<Member> = rank.map(|rank| rank.members().copied().collect()).unwrap_or_default();
        let wanted = rounded::<M>(self.probe_rate, draws).min(rest.len() as u64);
        (0..wanted)
            .map(|_| {
                let at = rng::below((draws.next::<M>() >> 32) as u32, rest.len() as u32);
                rest.swap_remove(at as usize).into()
            })
            .collect()
    }

    /// Takes in the probes that have come since the last look.
    fn collect<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>) {
        let Some(told) = cx.view.block.told() else { return };
        let seen = index.seen.load(Ordering::Relaxed);
        let count = told.count();
        if seen == count {
            return;
        }
        index.seen.store(count, Ordering::Relaxed);
        for slot in told.after(seen) {
            let Some(&at) = index.places.get(&slot) else { continue };
            let Some(probe) = cx.view.block.signals(slot).and_then(|signals| signals.probe()) else { continue };
            if let (Some(past), Some(cell)) = (index.past.get(at as usize), cx.view.block.cell(slot)) {
                past.learn(cell, cx.latencies.config().decay, probe.at);
            }
            // The same endpoint's older probe, a free place, or the oldest.
            let same = |e: &&Entry| e.member() == Some(at);
            let by_age = |e: &&Entry| e.member().map_or(0, |_| e.at.load(Ordering::Relaxed).max(1));
            let place = index.entries.iter().find(same).or_else(|| index.entries.iter().min_by_key(by_age));
            let Some(entry) = place else { return };
            entry.member.store(u64::from(at) + 1, Ordering::Relaxed);
            entry.at.store(probe.at.0, Ordering::Relaxed);
            entry.inflight.store(probe.inflight.to_bits(), Ordering::Relaxed);
            entry.latency.store(probe.latency.unwrap_or(0.0).to_bits(), Ordering::Relaxed);
            let uses = rounded::<M>(self.reuse(index.members.len()), cx.draws);
            entry.uses.store(uses, Ordering::Relaxed);
        }
    }

    /// What the probes say, of those that still count; `allow` leaves out those who cannot take this request.
    fn looks<'a, M: Mode>(
        &self,
        index: &'a Index<M>,
        cx: &Context<'_>,
        allow: &impl Fn(u32) -> bool,
        out: &mut [Option<Look<'a>>],
    ) {
        let unknown = PeakEwma::unknown(cx);
        let penalty = cx.latencies.config().failure_penalty;
        for (entry, out) in index.entries.iter().zip(out) {
            let Some(at) = entry.member() else { continue };
            if cx.now.since(Nanos(entry.at.load(Ordering::Relaxed))) >= self.max_age {
                entry.clear();
                continue;
            }
            let (Some(&member), Some(past)) = (index.members.get(at as usize), index.past.get(at as usize)) else {
                continue;
            };
            let Some(cell) = cx.cell(member) else { continue };
            let weight = member.weight / index.mean_weight;
            let failed = f64::from_bits(past.failed.load(Ordering::Relaxed));
            let latency = match f64::from_bits(entry.latency.load(Ordering::Relaxed)) {
                known if known > 0.0 => known,
                _ => cx.latencies.shown(cell, unknown),
            };
            *out = Some(Look {
                entry,
                member,
                usable: cx.view.free(cell, member.index) && allow(member.index),
                failing: failed >= FAILING,
                inflight: f64::from_bits(entry.inflight.load(Ordering::Relaxed)) / weight,
                latency: (latency + failed * penalty) / weight,
                hot: false,
            });
        }
    }

    fn decide<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, allow: impl Fn(u32) -> bool) -> Option<Choice> {
        let _gate = M::enter(&index.gate);
        self.collect(index, cx);
        let mut looks = [None; MAX_PROBES as usize];
        self.looks(index, cx, &allow, &mut looks);
        if looks.iter().flatten().filter(|look| look.usable).count() < ENOUGH {
            return None;
        }
        let hot = self.threshold(&looks);
        looks.iter_mut().flatten().for_each(|look| look.hot = look.inflight > hot);
        let best = looks.iter().flatten().filter(|look| look.usable).min_by(|a, b| a.order(b))?;
        best.entry.used(cx.units);
        for _ in 0..rounded::<M>(self.remove_rate, cx.draws) {
            Self::remove(index, &looks);
        }
        Some(best.member.into())
    }

    /// The quantile of the requests in flight, the lower of two neighbours.
    fn threshold(&self, looks: &[Option<Look<'_>>]) -> f64 {
        let mut sorted = [f64::INFINITY; MAX_PROBES as usize];
        let mut count = 0usize;
        for (look, place) in looks.iter().flatten().zip(&mut sorted) {
            *place = look.inflight;
            count += 1;
        }
        if let Some(known) = sorted.get_mut(..count) {
            known.sort_unstable_by(f64::total_cmp);
        }
        let at = self.quantile * count.saturating_sub(1) as f64;
        sorted.get(at as usize).copied().unwrap_or(f64::INFINITY)
    }

    /// Removes the oldest probe and the worst in turn.
    fn remove<M: Mode>(index: &Index<M>, looks: &[Option<Look<'_>>]) {
        let live = || looks.iter().flatten().filter(|look| look.entry.member().is_some());
        let oldest = M::rotate(&index.turn, 2) == 0;
        let gone = if oldest {
            live().min_by_key(|look| look.entry.at.load(Ordering::Relaxed))
        } else {
            live().max_by(|a, b| a.order(b))
        };
        if let Some(look) = gone {
            look.entry.clear();
        }
    }
}

/// One probe in the pool.
#[derive(Debug, Default)]
struct Entry {
    /// One more than the member's place; 0 when there is none.
    member: AtomicU64,
    at: AtomicU64,
    inflight: AtomicU64,
    latency: AtomicU64,
    uses: AtomicU64,
}

impl Entry {
    fn member(&self) -> Option<u32> {
        self.member.load(Ordering::Relaxed).checked_sub(1).map(|at| at as u32)
    }

    fn clear(&self) {
        self.member.store(0, Ordering::Relaxed);
    }

    /// It was used for a request, which is one more in flight there.
    fn used(&self, units: u64) {
        let inflight = f64::from_bits(self.inflight.load(Ordering::Relaxed)) + units as f64 / 1024.0;
        self.inflight.store(inflight.to_bits(), Ordering::Relaxed);
        let left = self.uses.load(Ordering::Relaxed).saturating_sub(1);
        self.uses.store(left, Ordering::Relaxed);
        if left == 0 {
            self.clear();
        }
    }
}

/// What a probe says at one pick.
#[derive(Clone, Copy, Debug)]
struct Look<'a> {
    entry: &'a Entry,
    member: Member,
    usable: bool,
    failing: bool,
    hot: bool,
    inflight: f64,
    latency: f64,
}

impl Look<'_> {
    /// The paper's order, best first: cold ones by latency, then hot ones by requests in flight; those that fail last.
    fn order(&self, other: &Look<'_>) -> std::cmp::Ordering {
        let class = |look: &Look<'_>| (look.failing, look.hot);
        let by_latency = || self.latency.total_cmp(&other.latency);
        let by_inflight = || self.inflight.total_cmp(&other.inflight);
        class(self).cmp(&class(other)).then_with(|| match self.hot {
            true => by_inflight().then_with(by_latency),
            false => by_latency().then_with(by_inflight),
        })
    }
}

/// How an endpoint's requests ended between its probes.
#[derive(Debug, Default)]
struct Past {
    good: AtomicU64,
    bad: AtomicU64,
    at: AtomicU64,
    /// The share that failed, of late: half of it is the latest.
    failed: AtomicU64,
}

impl Past {
    /// Only what comes from now on counts.
    fn of(cell: &Cell) -> Past {
        let (good, bad) = Past::ended(cell);
        Past { good: AtomicU64::new(good), bad: AtomicU64::new(bad), ..Past::default() }
    }

    fn ended(cell: &Cell) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let bad = [&cell.failures, &cell.timeouts, &cell.rejected];
        (read(&cell.successes), bad.iter().fold(0, |sum, count| sum.wrapping_add(read(count))))
    }

    fn learn(&self, cell: &Cell, decay: f64, now: Nanos) {
        let (good, bad) = Past::ended(cell);
        let since = |count: &AtomicU64, now: u64| now.wrapping_sub(count.load(Ordering::Relaxed)) as f64;
        let (well, ill) = (since(&self.good, good), since(&self.bad, bad));
        let age = now.since(Nanos(self.at.load(Ordering::Relaxed))).as_secs_f64();
        let failed = f64::from_bits(self.failed.load(Ordering::Relaxed));
        let left = failed * exp2_neg(age * std::f64::consts::LOG2_E / decay);
        let next = if well + ill > 0.0 { (left + ill / (well + ill)) / 2.0 } else { left };
        self.failed.store(next.to_bits(), Ordering::Relaxed);
        self.at.store(now.0, Ordering::Relaxed);
        self.good.store(good, Ordering::Relaxed);
        self.bad.store(bad, Ordering::Relaxed);
    }

    fn copy(&self) -> Past {
        let copy = |from: &AtomicU64| AtomicU64::new(from.load(Ordering::Relaxed));
        Past { good: copy(&self.good), bad: copy(&self.bad), at: copy(&self.at), failed: copy(&self.failed) }
    }
}

/// The members, and the pool of probes.
#[derive(Debug)]
pub struct Index<M: Mode> {
    members: Vec<Member>,
    mean_weight: f64,
    /// The place of each slot.
    places: HashMap<u32, u32>,
    past: Vec<Past>,
    entries: Vec<Entry>,
    /// Probes told so far that have been looked at.
    seen: AtomicU64,
    /// Whose turn to be removed it is: the oldest or the worst.
    turn: AtomicU64,
    gate: M::Gate,
    fallback: least_request::Index<M>,
}

impl<M: Mode> Index<M> {
    /// The probes and pasts of the index before, of those who are still here.
    fn inherit(&mut self, before: &Index<M>) {
        let _gate = M::enter(&before.gate);
        for (member, past) in before.members.iter().zip(&before.past) {
            let place = self.places.get(&member.slot).and_then(|&at| self.past.get_mut(at as usize));
            if let Some(place) = place {
                *place = past.copy();
            }
        }
        let old = before.entries.iter().filter_map(|entry| {
            let slot = before.members.get(entry.member()? as usize)?.slot;
            Some((entry, *self.places.get(&slot)?))
        });
        let mut old: Vec<_> = old.collect();
        old.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.at.load(Ordering::Relaxed)));
        let free = self.entries.iter().filter(|entry| entry.member().is_none());
        for ((from, at), to) in old.into_iter().zip(free) {
            to.member.store(u64::from(at) + 1, Ordering::Relaxed);
            for (from, to) in [
                (&from.at, &to.at),
                (&from.inflight, &to.inflight),
                (&from.latency, &to.latency),
                (&from.uses, &to.uses),
            ] {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self.turn.store(before.turn.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Policy for Prequal {
    type Index<M: Mode> = Index<M>;
    const TIMED: bool = true;

    fn rotates(&self) -> bool {
        true
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        let fallbacks: Vec<_> = before.iter().map(|b| &b.fallback).collect();
        let past = members.iter().map(|m| view.block.cell(m.slot).map(Past::of).unwrap_or_default());
        let seen = before.iter().map(|b| b.seen.load(Ordering::Relaxed)).min();
        let total: f64 = members.iter().map(|m| m.weight / members.len() as f64).sum();
        let mut index = Index {
            members: members.to_vec(),
            mean_weight: if total > 0.0 { total } else { 1.0 },
            places: (0u32..).zip(members).map(|(at, m)| (m.slot, at)).collect(),
            past: past.collect(),
            entries: (0..self.capacity(members.len())).map(|_| Entry::default()).collect(),
            // The first looks at what has been told before there was a picker.
            seen: AtomicU64::new(seen.unwrap_or(0)),
            turn: AtomicU64::new(0),
            gate: M::Gate::default(),
            fallback: self.fallback.build(view, members, &fallbacks, draws),
        };
        before.iter().for_each(|before| index.inherit(before));
        index
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 100
    }

    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.decide(index, cx, |_| true).or_else(|| self.fallback.pick(&index.fallback, cx, key))
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.decide(index, cx, allow).or_else(|| self.fallback.choose(&index.fallback, cx, key, allow))
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::{Endpoint, Health};
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Filter, Outcome, Pool, Report};
    use crate::core::sync::Shared;
    use std::sync::Arc;

    fn weighted(weights: &[f64]) -> Arc<Pool<Shared, ()>> {
        let made = |(i, &weight): (usize, &f64)| {
            let id: Arc<str> = format!("e{i}").into();
            Endpoint {
                id: id.clone(),
                hash_key: id,
                weight,
                backup: false,
                priority: 0,
                zone: "".into(),

                max_inflight: u32::MAX,
                passive: None,
                payload: (),
            }
        };
        Pool::new(weights.iter().enumerate().map(made).collect(), Options::default()).unwrap()
    }

    fn pool(n: usize) -> Arc<Pool<Shared, ()>> {
        weighted(&vec![1.0; n])
    }

    fn at(seconds: f64) -> Nanos {
        Nanos::from_secs_f64(seconds)
    }

    fn probe(pool: &Pool<Shared, ()>, who: usize, inflight: f64, latency: f64, now: f64) {
        let report = Report { inflight: Some(inflight), latency: Some(latency), ..Report::default() };
        pool.observe(&format!("e{who}"), report, at(now)).unwrap();
    }

    /// Nothing is removed, and probes are used often.
    fn lasting() -> Prequal {
        Prequal { remove_rate: 0.0, probe_rate: 0.2, ..Prequal::default() }
    }

    fn pick(picker: &Picker<Prequal, Shared, ()>, now: f64) -> u32 {
        picker.pick(&picker.state(), None, at(now)).unwrap().index
    }

    #[test]
    fn the_fastest_of_the_cold_else_the_least_busy_of_the_hot() {
        let probed = pool(20);
        let picker = Picker::new(&probed, lasting());
        for (who, inflight, latency) in [(1, 1.0, 0.3), (2, 2.0, 0.2), (3, 9.0, 0.001), (4, 2.0, 0.4)] {
            probe(&probed, who, inflight, latency, 1.0);
        }
        // The threshold is the lower of two neighbours: 2 of 1, 2, 2, 9.
        assert_eq!(pick(&picker, 1.1), 2);
        let without = |exclude| Filter { exclude, subset: None };
        let choose = |filter| picker.acquire_from(&picker.state(), None, 1024, at(1.1), filter).unwrap().choice.index;
        assert_eq!(choose(without(vec![2])), 1);
        // Two that are hot remain, by now 4 has 2 requests.
        assert_eq!(choose(without(vec![1, 2])), 4);
        let by_requests = Picker::new(&probed, Prequal { quantile: 0.0, ..lasting() });
        assert_eq!(pick(&by_requests, 1.1), 1);
        let by_latency = Picker::new(&probed, Prequal { quantile: 1.0, ..lasting() });
        assert_eq!(pick(&by_latency, 1.1), 3);
    }

    #[test]
    fn a_probe_that_was_used_has_one_more_in_flight_and_ends_with_its_uses() {
        let probed = pool(32);
        // Half of 32 in the pool: (1 + 1) / ((1 - 1/2) * 3 - 1) = 4 uses.
        let policy = Prequal::default();
        assert_eq!((policy.capacity(32), policy.reuse(32)), (16, 4.0));
        assert!((policy.reuse(100) - 2.0 / 1.52).abs() < 1e-12);
        assert_eq!((policy.capacity(24), policy.capacity(3), policy.capacity(0)), (12, 2, 2));
        assert_eq!(policy.reuse(2), MAX_USES);
        let keep = Prequal { remove_rate: 0.0, probe_rate: 1.0, quantile: 0.99, ..policy };
        assert_eq!(keep.reuse(32), 4.0);
        let picker = Picker::new(&probed, keep);
        for who in 0..3 {
            probe(&probed, who, 0.0, 0.1 + 0.1 * who as f64, 1.0);
        }
        // A use makes 0 hot, one of 1 makes 0 cold again; after four of its uses 2 has the fewest in flight.
        let got: Vec<u32> = (0..9).map(|_| pick(&picker, 1.1)).collect();
        assert_eq!(got, [0, 1, 0, 1, 0, 1, 0, 2, 2]);
    }

    #[test]
    fn the_oldest_and_the_worst_leave_in_turn() {
        let probed = pool(100);
        let picker = Picker::new(&probed, Prequal { quantile: 0.5, probe_rate: 0.1, ..Prequal::default() });
        for (who, inflight) in [(0, 1.0), (1, 1.0), (2, 50.0), (3, 1.0), (4, 1.0), (5, 1.0)] {
            probe(&probed, who, inflight, 0.1 * (1 + who) as f64, 1.0 + 0.01 * who as f64);
        }
        assert_eq!(pick(&picker, 1.2), 0);
        let state = picker.state();
        // The oldest, 0, is gone though it was the fastest; then the worst, 2.
        assert_eq!(picker.pick(&state, None, at(1.2)).unwrap().index, 1);
        let subset = Filter { exclude: vec![], subset: Some(vec![2, 3]) };
        // Only 3 of these two is left, which is too few: the fallback goes by loads that were told.
        assert_eq!(picker.acquire_from(&state, None, 1024, at(1.2), subset).unwrap().choice.index, 3);
    }

    #[test]
    fn old_probes_and_too_few_do_not_decide() {
        let probed = pool(10);
        let picker = Picker::new(&probed, lasting());
        probe(&probed, 7, 0.0, 0.001, 1.0);
        let spread = |now| {
            let mut got: Vec<u32> = (0..400).map(|_| pick(&picker, now)).collect();
            got.sort_unstable();
            got.dedup();
            got.len()
        };
        assert_eq!(spread(1.1), 10, "one probe is too few");
        probe(&probed, 8, 0.0, 0.002, 1.1);
        assert_eq!(pick(&picker, 1.2), 7);
        assert!(pick(&picker, 0.2) >= 7, "time that goes backwards ages nothing");
        assert_eq!(spread(2.05), 10, "the first is a second old");
    }

    #[test]
    fn who_fails_is_taken_last_and_forgiven_by_and_by() {
        let probed = pool(8);
        let picker = Picker::new(&probed, lasting());
        for who in 0..4 {
            probe(&probed, who, 0.0, 0.1, 1.0);
        }
        pick(&picker, 1.0);
        // Number 0 answers at once, with errors.
        let state = picker.state();
        let only = Filter { exclude: vec![], subset: Some(vec![0]) };
        for _ in 0..5 {
            let taken = picker.acquire_from(&state, None, 1024, at(1.1), only.clone()).unwrap();
            probed.settle(taken.choice.slot, taken.units, Outcome::Failure, Some(0.0001), None, at(1.1));
        }
        for now in [1.2, 1.5] {
            for who in 0..4 {
                probe(&probed, who, if who == 0 { 0.0 } else { 30.0 }, if who == 0 { 0.0001 } else { 2.0 }, now);
            }
            for _ in 0..8 {
                assert_ne!(pick(&picker, now + 0.1), 0);
            }
        }
        // Without failures since, the share fades with the decay time of latencies.
        for who in 0..4 {
            probe(&probed, who, 0.0, if who == 0 { 0.0001 } else { 2.0 }, 100.0);
        }
        assert_eq!(pick(&picker, 100.1), 0);
    }

    #[test]
    fn weight_makes_room_for_more() {
        let probed = weighted(&[4.0, 1.0, 1.0, 1.0]);
        let picker = Picker::new(&probed, lasting());
        probe(&probed, 0, 4.0, 0.3, 1.0);
        probe(&probed, 1, 4.0, 0.2, 1.0);
        assert_eq!(pick(&picker, 1.1), 0);
        let equal = pool(4);
        let picker = Picker::new(&equal, lasting());
        probe(&equal, 0, 4.0, 0.3, 1.0);
        probe(&equal, 1, 4.0, 0.2, 1.0);
        assert_eq!(pick(&picker, 1.1), 1);
    }

    #[test]
    fn probes_survive_a_rebuild_and_those_of_the_blocked_do_not_count() {
        let probed = pool(10);
        let picker = Picker::new(&probed, lasting());
        for who in 0..3 {
            probe(&probed, who, 0.0, 0.1 * (1 + who) as f64, 1.0);
        }
        assert_eq!(pick(&picker, 1.1), 0);
        probed.set_health("e9", Health::Degraded, Nanos::ZERO).unwrap();
        assert_eq!(pick(&picker, 1.1), 1, "0 has one in flight by its use");
        probed.remove("e2").unwrap();
        probed.drain("e0", Nanos::MAX).unwrap();
        let got: Vec<u32> = (0..200).map(|_| pick(&picker, 1.1)).collect();
        assert!(got.iter().all(|&g| g != 0) && got.iter().any(|&g| g > 2), "one probe is left");
    }

    #[test]
    fn targets_are_distinct_and_as_many_as_the_rate_says() {
        let (many, few, none) = (pool(50), pool(2), pool(0));
        let view = |pool: &Arc<Pool<Shared, ()>>| pool.snapshot();
        let (draws, policy) = (Draws::new(4), Prequal { probe_rate: 2.5, ..Prequal::default() });
        let (mut total, mut whom) = (0, [0; 50]);
        for _ in 0..4000 {
            let targets = policy.targets::<Shared>(&view(&many).view, &draws);
            let mut places: Vec<u32> = targets.iter().map(|c| c.index).collect();
            places.iter().for_each(|&at| whom[at as usize] += 1);
            total += places.len();
            assert!(places.len() == 2 || places.len() == 3);
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), targets.len());
        }
        assert!((9800..=10_200).contains(&total), "{total}");
        assert!(whom.iter().all(|&n| (140..=260).contains(&n)), "{whom:?}");
        assert_eq!(policy.targets::<Shared>(&view(&few).view, &draws).len(), 2);
        assert_eq!(policy.targets::<Shared>(&view(&none).view, &draws), []);
    }

    #[test]
    fn nobody_and_one() {
        let none = pool(0);
        let picker = Picker::new(&none, Prequal::default());
        assert_eq!(picker.pick(&picker.state(), None, at(1.0)), None);
        let one = pool(1);
        let picker = Picker::new(&one, Prequal::default());
        assert_eq!(pick(&picker, 1.0), 0);
        probe(&one, 0, 5.0, 0.1, 1.0);
        assert_eq!(pick(&picker, 1.0), 0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let ok = Prequal::default();
        for wrong in [
            Prequal { pool_size: 1, ..ok.clone() },
            Prequal { pool_size: 65, ..ok.clone() },
            Prequal { probe_rate: 0.0, ..ok.clone() },
            Prequal { remove_rate: -1.0, ..ok.clone() },
            Prequal { quantile: 1.1, ..ok.clone() },
            Prequal { quantile: f64::NAN, ..ok.clone() },
            Prequal { growth: 0.0, ..ok.clone() },
            Prequal { max_age: Nanos::ZERO, ..ok.clone() },
        ] {
            assert!(wrong.check().is_err());
        }
        assert!(ok.check().is_ok());
    }
}
