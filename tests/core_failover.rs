//! Ranks and panic against Envoy's rule, stated once more in whole percents.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aibalance::core::endpoints::{Health, Member};
use aibalance::core::health::failover::{Candidate, Failover, OnPanic, Plan, Rules};
use proptest::prelude::*;

fn candidate() -> impl Strategy<Value = Candidate> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Degraded, Health::Unhealthy]);
    (prop::sample::select(vec![0.0, 1.0, 1.0, 2.5]), health, prop::bool::weighted(0.15), prop::bool::weighted(0.3))
        .prop_map(|(weight, health, draining, backup)| Candidate {
            member: Member { index: 0, slot: 0, weight },
            health,
            draining,
            backup,
            priority: 0,
            zone: "".into(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn ranks_keep_their_promises(
        mut candidates in prop::collection::vec(candidate(), 0..25),
        threshold in 0u64..=100,
        factor in 100u64..300,
        fail: bool,
        gradual: bool,
    ) {
        for (i, c) in (0u32..).zip(&mut candidates) {
            c.member.index = i;
            c.member.slot = i;
        }
        let rules = Rules {
            panic_threshold: threshold as f64 / 100.0,
            on_panic: if fail { OnPanic::Fail } else { OnPanic::All },
            overprovisioning_factor: factor as f64 / 100.0,
            failover: if gradual { Failover::Overflow } else { Failover::Backup },
            ..Rules::default()
        };
        let Plan { tiers, panic, totals } = Plan::new(&candidates, &rules);
        let percent: u32 = tiers.iter().map(|tier| tier.percent).sum();
        prop_assert_eq!(percent, 100);
        let ranks: Vec<Vec<Member>> = tiers.iter().map(|tier| tier.members().copied().collect()).collect();
        prop_assert!(!ranks.is_empty());
        prop_assert!(ranks.len() == 1 || ranks.iter().all(|rank| !rank.is_empty()));
        prop_assert_eq!(totals.total, candidates.len());
        // Nobody twice, nobody who takes no new work.
        let mut places: Vec<u32> = ranks.iter().flatten().map(|m| m.index).collect();
        places.sort_unstable();
        let n = places.len();
        places.dedup();
        prop_assert_eq!(places.len(), n);
        let at = |m: &Member| &candidates[m.index as usize];
        prop_assert!(ranks.iter().flatten().all(|m| !at(m).draining && m.weight > 0.0));
        // The order: no primary after a backup, and within those nobody degraded before somebody healthy.
        prop_assert!(ranks.iter().flatten().is_sorted_by_key(|m| at(m).backup));
        // Envoy's panic, in its own whole numbers.
        let level = |backup| -> Vec<&Candidate> {
            candidates.iter().filter(|c| c.backup == backup && !c.draining && c.member.weight > 0.0).collect()
        };
        let count = |level: &[&Candidate], health| level.iter().filter(|c| c.health == health).count() as u64;
        let levels = [level(false), level(true)];
        let mut available = 0;
        for level in levels.iter().filter(|l| !l.is_empty()) {
            for health in [Health::Healthy, Health::Degraded] {
                available += (factor * count(level, health) / level.len() as u64).min(100);
            }
        }
        let (mut expected_panic, mut primaries_panic) = (false, false);
        for level in levels.iter().filter(|l| !l.is_empty()) {
            let good = count(level, Health::Healthy) + count(level, Health::Degraded);
            // 100.0 * good / all < threshold, as doubles would have it with whole percents.
            let panics = available < 100 && 100 * good < threshold * level.len() as u64;
            expected_panic |= panics;
            let picked = ranks.iter().flatten().filter(|m| at(m).backup == level[0].backup).count() as u64;
            // Backups get requests when no primary can be had; only then their panic lends unhealthy ones.
            let backup = level[0].backup;
            let primaries: u64 = [Health::Healthy, Health::Degraded].map(|h| count(&levels[0], h)).iter().sum();
            let asked = !backup || (primaries == 0 && (fail || !primaries_panic));
            prop_assert_eq!(picked, match (panics, fail) {
                (true, true) => 0,
                (true, false) if asked => level.len() as u64,
                _ => good,
            });
            primaries_panic |= panics && !backup;
        }
        prop_assert_eq!(panic, expected_panic);
    }
}
