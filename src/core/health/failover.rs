//! Which endpoints are eligible, and which share of the requests asks whom first: priorities with Envoy's gradual
//! overflow or without, degraded endpoints, backups, zones, and the panic threshold. After Envoy 1.40, nginx and HAProxy
//! where they have the rule.

use crate::core::endpoints::{Group, Health, Member, Tier, Totals, Zones};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a pool does when too few endpoints are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPanic {
    /// Health is ignored and all endpoints share the load.
    #[default]
    All,
    /// Nothing is picked.
    Fail,
}

/// How requests move to the next priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failover {
    /// Envoy: gradually, as the healthy endpoints of a priority become too few to carry its load.
    #[default]
    Overflow,
    /// nginx: when nobody of the priority before can be had.
    Backup,
    /// HAProxy: the same, and of the backups only the first that can be had is used.
    FirstBackup,
}

/// How zones share the requests of a tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum ZoneRules {
    /// They do not count.
    #[default]
    None,
    /// By these weights (a zone that is not named has none), less what a zone has lost of its healthy endpoints: Envoy's
    /// locality weights.
    Weights(HashMap<Arc<str>, f64>),
    /// The caller's own zone first, as Envoy's zone-aware routing does: the zone keeps what it has capacity for, the rest
    /// goes to zones that have more capacity than callers.
    Own {
        /// The caller's zone.
        zone: Arc<str>,
        /// How many callers there are in each zone; equally many in the zones of the pool when empty.
        callers: HashMap<Arc<str>, f64>,
    },
}

/// The rules of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The share of healthy endpoints below which a priority panics; 0 for never.
    pub panic_threshold: f64,
    /// What it does then.
    pub on_panic: OnPanic,
    /// How far the healthy endpoints of a priority are trusted beyond their share before the next one gets requests.
    pub overprovisioning_factor: f64,
    /// How requests move to the next priority.
    pub failover: Failover,
    /// How zones share.
    pub zones: ZoneRules,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            panic_threshold: 0.5,
            on_panic: OnPanic::All,
            overprovisioning_factor: 1.4,
            failover: Failover::Overflow,
            zones: ZoneRules::None,
        }
    }
}

/// One endpoint as the rules see it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its place and share.
    pub member: Member,
    /// Its health.
    pub health: Health,
    /// Whether it takes no new work because it is leaving.
    pub draining: bool,
    /// Whether it is a backup.
    pub backup: bool,
    /// Lower ones are asked first.
    pub priority: u32,
    /// Where it stands.
    pub zone: Arc<str>,
}

/// What the rules make of the candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The tiers, in the order in which they are asked when the one that a request came to has nobody. Those that get
    /// requests come first; there is always one, which may be empty.
    pub tiers: Vec<Tier>,
    /// Whether too few endpoints are healthy, so that health is ignored somewhere.
    pub panic: bool,
    /// The counts.
    pub totals: Totals,
}

impl Plan {
    /// Makes it.
    #[must_use]
    pub fn new(candidates: &[Candidate], rules: &Rules) -> Plan {
        let mut totals = Totals { total: candidates.len(), ..Totals::default() };
        // Backups are priorities behind all others.
        let mut levels: BTreeMap<(bool, u32), Level<'_>> = BTreeMap::new();
        for c in candidates {
            totals.unhealthy += usize::from(c.health == Health::Unhealthy);
            totals.draining += usize::from(c.draining);
            totals.zero_weight += usize::from(c.member.weight <= 0.0);
            // Draining and weight 0 mean "no new work" even in panic, so such endpoints count in no level at all.
            if !c.draining && c.member.weight > 0.0 {
                levels.entry((c.backup, c.priority)).or_default().add(c);
            }
        }
        let (mut tiers, panic) =
            split(&levels.into_iter().map(|((backup, _), level)| (backup, level)).collect::<Vec<_>>(), rules);
        tiers.retain(|tier| !tier.is_empty());
        // Of equal ones the order stays.
        tiers.sort_by_key(|tier| tier.percent == 0);
        if tiers.is_empty() {
            tiers.push(Tier::of(Vec::new(), 100));
        }
        // What a priority that fails in panic would have got goes to the first that does not.
        let given: u32 = tiers.iter().map(|tier| tier.percent).sum();
        if let Some(first) = tiers.first_mut() {
            first.percent += 100u32.saturating_sub(given);
        }
        Plan { tiers, panic, totals }
    }
}

/// The endpoints of one priority.
#[derive(Debug, Default)]
struct Level<'a> {
    all: Vec<&'a Candidate>,
    healthy: Vec<&'a Candidate>,
    degraded: Vec<&'a Candidate>,
}

impl<'a> Level<'a> {
    fn add(&mut self, candidate: &'a Candidate) {
        self.all.push(candidate);
        match candidate.health {
            Health::Healthy => self.healthy.push(candidate),
            Health::Degraded => self.degraded.push(candidate),
            Health::Unhealthy => {}
        }
    }

    /// How much of the whole load so many of them can carry, in percents.
    fn carries(&self, part: usize, factor: f64) -> u32 {
        // The small number undoes what doubles make of a factor such as 1.4.
        let percent = (factor * 100.0 * part as f64 / self.all.len().max(1) as f64 + 1e-9).floor();
        percent.min(100.0) as u32
    }

    fn in_panic(&self, threshold: f64) -> bool {
        // Divided, not multiplied: 7 of 100 are not fewer than 0.07.
        ((self.healthy.len() + self.degraded.len()) as f64 / self.all.len().max(1) as f64) < threshold
    }
}

fn members(candidates: &[&Candidate]) -> Vec<Member> {
    candidates.iter().map(|c| c.member).collect()
}

/// The tiers of all levels in order, and whether one of them panics.
fn split(levels: &[(bool, Level<'_>)], rules: &Rules) -> (Vec<Tier>, bool) {
    let factor = rules.overprovisioning_factor;
    let healthy: Vec<u32> = levels.iter().map(|(_, l)| l.carries(l.healthy.len(), factor)).collect();
    let degraded: Vec<u32> = levels.iter().map(|(_, l)| l.carries(l.degraded.len(), factor)).collect();
    let available: u32 = healthy.iter().chain(&degraded).sum();
    // As in Envoy, panic is looked at only while the levels together cannot carry the whole load.
    let panics: Vec<bool> = levels.iter().map(|(_, l)| available < 100 && l.in_panic(rules.panic_threshold)).collect();
    let panic = panics.contains(&true);
    let (mut percents, mut degraded_percents) = (vec![0; levels.len()], vec![0; levels.len()]);
    let primaries = levels.iter().filter(|(backup, _)| !backup).count();
    // Backups are for when no primary can be had, and then overflow among themselves.
    let primary = |counts: &[u32]| counts.get(..primaries).unwrap_or(counts).iter().sum::<u32>();
    let primaries_panic = panics.get(..primaries).is_some_and(|p| p.contains(&true)) && rules.on_panic == OnPanic::All;
    let first = if primary(&healthy) + primary(&degraded) > 0 || primaries_panic {
        0..primaries
    } else {
        primaries..levels.len()
    };
    let part = |values: &[u32]| values.get(first.clone()).unwrap_or_default().to_vec();
    let counts: Vec<usize> = levels.iter().map(|(_, l)| l.all.len()).collect();
    let all_panic = panics.get(first.clone()).is_some_and(|p| !p.is_empty() && p.iter().all(|&p| p));
    let loads = if all_panic {
        (by_number(counts.get(first.clone()).unwrap_or_default()), vec![0; first.len()])
    } else {
        loads(&part(&healthy), &part(&degraded))
    };
    for (at, (h, d)) in first.zip(loads.0.into_iter().zip(loads.1)) {
        if let (Some(place), Some(other)) = (percents.get_mut(at), degraded_percents.get_mut(at)) {
            (*place, *other) = (h, d);
        }
    }
    if rules.failover != Failover::Overflow {
        only_first(&mut percents, &mut degraded_percents);
    }
    let mut tiers = Vec::new();
    let mut behind = Vec::new();
    for (((backup, level), &panics), (&load, &degraded_load)) in
        levels.iter().zip(&panics).zip(percents.iter().zip(&degraded_percents))
    {
        if panics && rules.on_panic == OnPanic::Fail {
            continue;
        }
        // A priority in panic that gets no requests lends no unhealthy endpoints to those that do.
        if panics && load + degraded_load > 0 {
            // Zones do not count in panic either.
            tiers.push(Tier::of(members(&level.all), load + degraded_load));
        } else if *backup && rules.failover == Failover::FirstBackup {
            let one = |(i, c): (usize, &&Candidate)| Tier::of(vec![c.member], if i == 0 { load } else { 0 });
            tiers.append(&mut behind);
            tiers.extend(level.healthy.iter().enumerate().map(one));
            tiers.extend(level.degraded.iter().map(|c| Tier::of(vec![c.member], 0)));
        } else {
            if *backup {
                tiers.append(&mut behind);
            }
            tiers.push(zoned(&level.healthy, &level.all, load, rules));
            let degraded = zoned(&level.degraded, &level.all, degraded_load, rules);
            // With overflow all that are healthy come before any that is degraded; without, each priority is used up first.
            if rules.failover == Failover::Overflow && !backup { behind.push(degraded) } else { tiers.push(degraded) }
        }
    }
    tiers.append(&mut behind);
    (tiers, panic)
}

/// Envoy's loads: what the healthy ones of each priority carry, in order, then what the degraded ones do.
fn loads(healthy: &[u32], degraded: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let available = healthy.iter().chain(degraded).sum::<u32>().min(100);
    let mut left = 100u32;
    let mut share = |of: &u32| {
        let load = (of * 100).checked_div(available).unwrap_or(0).min(left);
        left -= load;
        load
    };
    let mut loads: (Vec<u32>, Vec<u32>) =
        (healthy.iter().map(&mut share).collect(), degraded.iter().map(&mut share).collect());
    // What rounding has left goes to the first that can be had.
    let someone = loads.0.iter_mut().zip(healthy).chain(loads.1.iter_mut().zip(degraded)).find(|(_, of)| **of > 0);
    if let Some((load, _)) = someone {
        *load += left;
    }
    loads
}

/// Envoy's loads when every priority panics: by the number of endpoints, the rest to the first.
fn by_number(counts: &[usize]) -> Vec<u32> {
    let total: usize = counts.iter().sum();
    let mut loads: Vec<u32> = counts.iter().map(|n| (n * 100).checked_div(total).unwrap_or(0) as u32).collect();
    let left = 100u32.saturating_sub(loads.iter().sum());
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    loads
}

/// Gives all requests to the first that would get any.
fn only_first(healthy: &mut [u32], degraded: &mut [u32]) {
    let mut left = 100;
    for load in healthy.iter_mut().zip(degraded).flat_map(|(h, d)| [h, d]) {
        *load = if *load > 0 { std::mem::take(&mut left) } else { 0 };
    }
}

/// A tier of these endpoints, by zone where zones count. `all` are those of the priority, whatever their health.
fn zoned(some: &[&Candidate], all: &[&Candidate], percent: u32, rules: &Rules) -> Tier {
    let plain = || Tier::of(members(some), percent);
    if some.is_empty() {
        return plain();
    }
    let mut by_zone: BTreeMap<&Arc<str>, Vec<&Candidate>> = BTreeMap::new();
    for &candidate in some {
        by_zone.entry(&candidate.zone).or_default().push(candidate);
    }
    let weight = |those: &[&Candidate]| those.iter().map(|c| c.member.weight).sum::<f64>();
    match &rules.zones {
        ZoneRules::None => plain(),
        ZoneRules::Weights(weights) => {
            let share = |zone: &Arc<str>, here: usize| {
                let total = all.iter().filter(|c| c.zone == *zone).count().max(1);
                let able = (rules.overprovisioning_factor * here as f64 / total as f64).min(1.0);
                weights.get(zone).copied().unwrap_or(0.0) * able
            };
            let groups: Vec<Group> = by_zone
                .iter()
                .map(|(zone, those)| Group { members: members(those), share: share(zone, those.len()) })
                .filter(|group| group.share > 0.0)
                .collect();
            match groups.len() {
                // Nobody stands where the weights are: better anywhere than nowhere.
                0 => plain(),
                1 => Tier { groups, zones: Zones::One, percent },
                _ => Tier { groups, zones: Zones::Turns, percent },
            }
        }
        ZoneRules::Own { zone, callers } => {
            let zones: BTreeSet<&Arc<str>> = all.iter().map(|c| &c.zone).chain(std::iter::once(zone)).collect();
            let called = |zone: &Arc<str>| match callers.is_empty() {
                true => 1.0 / zones.len() as f64,
                false => callers.get(zone).copied().unwrap_or(0.0) / callers.values().sum::<f64>(),
            };
            let capacity = weight(some);
            let of = |zone: &Arc<str>| by_zone.get(zone).map_or(0.0, |those| weight(those) / capacity);
            let Some(own) = by_zone.get(zone) else { return plain() };
            let (here, wanted) = (of(zone), called(zone));
            let mut groups = vec![Group { members: members(own), share: 0.0 }];
            let kept = if here >= wanted { 10_000 } else { (here / wanted * 10_000.0).floor() as u32 };
            groups.extend(
                by_zone.iter().filter(|(other, _)| **other != zone).map(|(other, those)| Group {
                    members: members(those),
                    share: (of(other) - called(other)).max(0.0),
                }),
            );
            // Rounding may leave nobody to spare: then the rest goes by capacity.
            if kept < 10_000 && groups.iter().all(|g| g.share <= 0.0) {
                for group in groups.iter_mut().skip(1) {
                    group.share = group.members.iter().map(|m| m.weight).sum();
                }
            }
            match groups.len() {
                1 => Tier { groups, zones: Zones::One, percent },
                _ => Tier { groups, zones: Zones::Own(kept), percent },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Degraded as D, Healthy as H, Unhealthy as U};

    fn pool(healths: &[Health], backup_from: usize) -> Vec<Candidate> {
        (0u32..)
            .zip(healths)
            .map(|(i, &health)| Candidate {
                member: Member { index: i, slot: i, weight: 1.0 },
                health,
                draining: false,
                backup: i as usize >= backup_from,
                priority: 0,
                zone: "".into(),
            })
            .collect()
    }

    /// Levels of so many healthy, degraded and unhealthy endpoints.
    fn levels(each: &[(usize, usize, usize)]) -> Vec<Candidate> {
        let healths: Vec<Health> =
            each.iter().flat_map(|&(h, d, u)| [vec![H; h], vec![D; d], vec![U; u]].concat()).collect();
        let mut out = pool(&healths, usize::MAX);
        let mut at = 0;
        for (priority, &(h, d, u)) in (0u32..).zip(each) {
            for candidate in &mut out[at..at + h + d + u] {
                candidate.priority = priority;
            }
            at += h + d + u;
        }
        out
    }

    fn picked(candidates: &[Candidate], rules: &Rules) -> Vec<Vec<u32>> {
        Plan::new(candidates, rules).tiers.iter().map(|t| t.members().map(|m| m.index).collect()).collect()
    }

    /// Percents of each tier that has any.
    fn percents(candidates: &[Candidate], factor: f64) -> Vec<u32> {
        let rules = Rules { overprovisioning_factor: factor, ..Rules::default() };
        let tiers = Plan::new(candidates, &rules).tiers;
        let out: Vec<u32> = tiers.iter().map(|t| t.percent).filter(|&p| p > 0).collect();
        assert_eq!(out.iter().sum::<u32>(), 100);
        out
    }

    #[test]
    fn half_healthy_is_no_panic_and_less_is() {
        let rules = Rules::default();
        assert_eq!(picked(&pool(&[H, H, U, U], 9), &rules), [[0, 1]]);
        assert_eq!(picked(&pool(&[H, U, U, U], 9), &rules), [[0, 1, 2, 3]]);
        let fail = Rules { on_panic: OnPanic::Fail, ..rules.clone() };
        assert_eq!(picked(&pool(&[H, U, U, U], 9), &fail), [Vec::<u32>::new()]);
        let never = Rules { panic_threshold: 0.0, ..rules };
        assert_eq!(picked(&pool(&[U, U], 9), &never), [Vec::<u32>::new()]);
    }

    #[test]
    fn backups_take_all_of_what_primaries_in_panic_refuse() {
        let healths = [H, U, U, U, H, U];
        for failover in [Failover::Overflow, Failover::Backup] {
            let rules = Rules { failover, on_panic: OnPanic::Fail, overprovisioning_factor: 1.0, ..Rules::default() };
            let plan = Plan::new(&pool(&healths, 4), &rules);
            assert!(plan.panic);
            let tiers: Vec<_> =
                plan.tiers.iter().map(|t| (t.members().map(|m| m.index).collect(), t.percent)).collect();
            assert_eq!(tiers, [(vec![4], 100)]);
        }
    }

    #[test]
    fn backups_come_after_primaries_and_spare_them_the_panic() {
        for failover in [Failover::Overflow, Failover::Backup] {
            let rules = Rules { failover, ..Rules::default() };
            assert_eq!(picked(&pool(&[H, H, H], 2), &rules), [vec![0, 1], vec![2]]);
            assert_eq!(picked(&pool(&[U, U, H], 2), &rules), [[2]]);
            assert_eq!(picked(&pool(&[D, H, D], 2), &rules), [vec![1], vec![0], vec![2]]);
        }
    }

    #[test]
    fn of_haproxys_backups_the_first_is_used() {
        let rules = Rules { failover: Failover::FirstBackup, panic_threshold: 0.0, ..Rules::default() };
        assert_eq!(picked(&pool(&[H, H, H, H], 2), &rules), [vec![0, 1], vec![2], vec![3]]);
        let plan = Plan::new(&pool(&[U, U, U, H, H], 2), &rules);
        assert_eq!(plan.tiers.iter().map(|t| t.percent).collect::<Vec<_>>(), [100, 0]);
        assert_eq!(plan.tiers[0].members().map(|m| m.index).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn draining_and_weight_zero_get_nothing_even_in_panic() {
        let mut candidates = pool(&[U, U, U], 9);
        candidates[0].draining = true;
        candidates[1].member.weight = 0.0;
        let plan = Plan::new(&candidates, &Rules::default());
        assert!(plan.panic);
        assert_eq!(plan.tiers, [Tier::of(vec![candidates[2].member], 100)]);
        assert_eq!(plan.totals, Totals { total: 3, unhealthy: 3, draining: 1, zero_weight: 1 });
    }

    /// The figures that Envoy's own tests state.
    #[test]
    fn priorities_overflow_as_envoys_do() {
        assert_eq!(percents(&levels(&[(2, 0, 2), (2, 0, 2)]), 1.4), [70, 30]);
        assert_eq!(percents(&levels(&[(2, 0, 2), (2, 0, 2)]), 1.0), [50, 50]);
        assert_eq!(percents(&levels(&[(1, 0, 3), (2, 0, 0)]), 1.4), [35, 65]);
        assert_eq!(percents(&levels(&[(1, 0, 3), (1, 0, 3)]), 1.4), [50, 50]);
        assert_eq!(percents(&levels(&[(1, 0, 4), (1, 0, 4), (1, 0, 4)]), 1.4), [34, 33, 33]);
        assert_eq!(percents(&levels(&[(0, 0, 5), (2, 0, 4), (1, 0, 2)]), 1.4).iter().sum::<u32>(), 100);
        assert_eq!(percents(&levels(&[(0, 0, 5), (0, 0, 6), (0, 0, 3)]), 1.4), [37, 42, 21]);
        assert_eq!(percents(&levels(&[(3, 0, 0), (3, 0, 0)]), 1.4), [100]);
        // Degraded endpoints overflow behind all that are healthy.
        assert_eq!(percents(&levels(&[(1, 4, 0)]), 1.4), [28, 72]);
        assert_eq!(percents(&levels(&[(0, 5, 0), (1, 0, 4)]), 1.4), [28, 72]);
    }

    #[test]
    fn without_overflow_a_priority_is_used_up_before_the_next() {
        let rules = Rules { failover: Failover::Backup, ..Rules::default() };
        let plan = Plan::new(&levels(&[(1, 1, 1), (2, 0, 0)]), &rules);
        assert_eq!(plan.tiers.iter().map(|t| t.percent).collect::<Vec<_>>(), [100, 0, 0]);
        assert_eq!(picked(&levels(&[(1, 1, 1), (2, 0, 0)]), &rules), [vec![0], vec![1], vec![3, 4]]);
    }

    fn zones(of: &[&str]) -> Vec<Candidate> {
        let mut out = pool(&vec![H; of.len()], usize::MAX);
        for (candidate, zone) in out.iter_mut().zip(of) {
            candidate.zone = (*zone).into();
        }
        out
    }

    fn shares(tier: &Tier) -> Vec<(usize, f64)> {
        tier.groups.iter().map(|g| (g.members.len(), (g.share * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn a_zone_loses_weight_with_its_healthy_endpoints() {
        let weights = HashMap::from([("a".into(), 3.0), ("b".into(), 1.0)]);
        let rules = Rules { zones: ZoneRules::Weights(weights), ..Rules::default() };
        let mut candidates = zones(&["a", "a", "b", "b", "b", "c"]);
        let plan = Plan::new(&candidates, &rules);
        assert_eq!((shares(&plan.tiers[0]), &plan.tiers[0].zones), (vec![(2, 3.0), (3, 1.0)], &Zones::Turns));
        candidates[0].health = U;
        assert_eq!(shares(&Plan::new(&candidates, &rules).tiers[0]), [(1, 2.1), (3, 1.0)]);
        let merged = plan.tiers[0].merged(&[1.0; 6]);
        assert_eq!(merged.iter().map(|m| m.weight).collect::<Vec<_>>(), [1.5, 1.5, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn the_own_zone_keeps_what_it_has_capacity_for() {
        let own = |callers: &[(&str, f64)]| Rules {
            zones: ZoneRules::Own { zone: "a".into(), callers: callers.iter().map(|&(z, n)| (z.into(), n)).collect() },
            ..Rules::default()
        };
        let plan = |candidates: &[Candidate], rules| Plan::new(candidates, &rules).tiers[0].clone();
        let even = plan(&zones(&["a", "a", "b", "b"]), own(&[]));
        assert_eq!(even.zones, Zones::Own(10_000));
        // A third of the capacity for half of the callers: two thirds stay, the rest goes where there is more.
        let short = plan(&zones(&["a", "b", "b"]), own(&[]));
        assert_eq!((shares(&short), &short.zones), (vec![(1, 0.0), (2, 0.166667)], &Zones::Own(6_666)));
        let busy = plan(&zones(&["a", "b"]), own(&[("a", 3.0), ("b", 1.0)]));
        assert_eq!((shares(&busy), &busy.zones), (vec![(1, 0.0), (1, 0.25)], &Zones::Own(6_666)));
        // Nobody at home.
        assert_eq!(plan(&zones(&["b", "c"]), own(&[])).zones, Zones::One);
    }
}
