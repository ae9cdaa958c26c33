//! Which instance goes when there is one too many.
//!
//! Source: EC2 Auto Scaling user guide, termination policies: each policy in turn leaves the instances that fit it best, until
//! one is left. AWS draws among what is left in the end; here the one that was started first goes.

use super::offers::{Strategy, Used, give_up};
use crate::core::time::Nanos;

const HOUR: u64 = 3_600_000_000_000;

/// A way to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The oldest launch configuration, else the oldest template; then whoever is closest to the next hour.
    Default,
    /// Whoever's offer the allocation strategy would take last.
    AllocationStrategy,
    /// The oldest version of the template; a launch configuration is older than any.
    OldestLaunchTemplate,
    /// The oldest launch configuration.
    OldestLaunchConfiguration,
    /// Whoever has the least left of the hour that has begun.
    ClosestToNextInstanceHour,
    /// The youngest.
    NewestInstance,
    /// The oldest.
    OldestInstance,
}

impl Termination {
    /// All, by name.
    pub const NAMES: [(&'static str, Termination); 7] = [
        ("default", Termination::Default),
        ("allocation_strategy", Termination::AllocationStrategy),
        ("oldest_launch_template", Termination::OldestLaunchTemplate),
        ("oldest_launch_configuration", Termination::OldestLaunchConfiguration),
        ("closest_to_next_instance_hour", Termination::ClosestToNextInstanceHour),
        ("newest_instance", Termination::NewestInstance),
        ("oldest_instance", Termination::OldestInstance),
    ];
}

/// What is told of an instance that may go.
#[derive(Clone, Copy, Debug)]
pub struct Leaver<'a> {
    /// Its number: later ones are higher.
    pub number: u64,
    /// When it was started.
    pub launched: Nanos,
    /// The version of what it was started from.
    pub template: i64,
    /// Whether that was a launch configuration, the older kind.
    pub configuration: bool,
    /// Its offer, if that is still known.
    pub offer: Option<Used<'a>>,
}

/// What is left of the hour that has begun: whoever has just begun one has all of it.
fn left_of_hour(launched: Nanos, now: Nanos) -> u64 {
    HOUR - now.since(launched).0 % HOUR
}

/// Keeps those of which `key` is lowest.
fn lowest<K: Ord>(some: &mut Vec<Leaver<'_>>, key: impl Fn(&Leaver<'_>) -> K) {
    if let Some(best) = some.iter().map(&key).min() {
        some.retain(|l| key(l) == best);
    }
}

/// The number of the one that goes.
#[must_use]
pub fn choose(
    policies: &[Termination],
    leavers: &[Leaver<'_>],
    strategy: Strategy,
    offers: &[Used<'_>],
    now: Nanos,
) -> Option<u64> {
    let mut some = leavers.to_vec();
    for policy in policies {
        match policy {
            Termination::Default => {
                lowest(&mut some, |l| (!l.configuration, l.template));
                lowest(&mut some, |l| left_of_hour(l.launched, now));
            }
            Termination::AllocationStrategy => {
                // An offer that is gone fits no strategy.
                if some.iter().any(|l| l.offer.is_none()) {
                    some.retain(|l| l.offer.is_none());
                } else {
                    let worst = some.iter().filter_map(|l| l.offer).min_by(|a, b| give_up(strategy, a, b, offers));
                    if let Some(worst) = worst {
                        some.retain(|l| l.offer.is_some_and(|o| give_up(strategy, &o, &worst, offers).is_eq()));
                    }
                }
            }
            Termination::OldestLaunchTemplate => {
                // A configuration is no template at all: not the present one.
                lowest(&mut some, |l| (!l.configuration, l.template));
            }
            Termination::OldestLaunchConfiguration => {
                if some.iter().any(|l| l.configuration) {
                    some.retain(|l| l.configuration);
                    lowest(&mut some, |l| l.template);
                }
            }
            Termination::ClosestToNextInstanceHour => lowest(&mut some, |l| left_of_hour(l.launched, now)),
            Termination::NewestInstance => lowest(&mut some, |l| std::cmp::Reverse(l.launched)),
            Termination::OldestInstance => lowest(&mut some, |l| l.launched),
        }
        if some.len() <= 1 {
            break;
        }
    }
    some.iter().map(|l| l.number).min()
}

#[cfg(test)]
mod tests {
    use super::super::offers::{Market, Offer};
    use super::*;

    fn leaver(number: u64, minutes: u64, template: i64, configuration: bool) -> Leaver<'static> {
        Leaver { number, launched: Nanos(minutes * 60_000_000_000), template, configuration, offer: None }
    }

    #[test]
    fn each_policy_has_its_own_choice() {
        let all = [leaver(1, 0, 3, false), leaver(2, 35, 1, false), leaver(3, 50, 2, true), leaver(4, 59, 2, false)];
        let now = Nanos(90 * 60_000_000_000);
        let go = |policy| choose(&[policy], &all, Strategy::Prioritized, &[], now);
        assert_eq!(go(Termination::Default), Some(3), "a configuration is older than any template");
        assert_eq!(go(Termination::OldestLaunchTemplate), Some(3));
        assert_eq!(go(Termination::OldestLaunchConfiguration), Some(3));
        assert_eq!(go(Termination::ClosestToNextInstanceHour), Some(2));
        assert_eq!(go(Termination::NewestInstance), Some(4));
        assert_eq!(go(Termination::OldestInstance), Some(1));
        assert_eq!(choose(&[], &all, Strategy::Prioritized, &[], now), Some(1));
        assert_eq!(choose(&[Termination::Default], &[], Strategy::Prioritized, &[], now), None);
        // Without a configuration the version decides, then the hour.
        let plain = [leaver(1, 0, 2, false), leaver(2, 35, 1, false), leaver(3, 40, 1, false)];
        assert_eq!(choose(&[Termination::Default], &plain, Strategy::Prioritized, &[], now), Some(2));
        let chain = [Termination::OldestLaunchTemplate, Termination::NewestInstance];
        assert_eq!(choose(&chain, &plain, Strategy::Prioritized, &[], now), Some(3));
        let none = [Termination::OldestLaunchConfiguration, Termination::NewestInstance];
        assert_eq!(choose(&none, &plain, Strategy::Prioritized, &[], now), Some(3));
    }

    #[test]
    fn the_allocation_strategy_is_asked() {
        let offer = |price| Offer {
            kind: "t".into(),
            zone: "a".into(),
            market: Market::Spot,
            price,
            depth: None,
            interruption_rate: 0.0,
            priority: 0,
        };
        let (cheap, dear) = (offer(1.0), offer(2.0));
        let used = [Used { offer: &cheap, running: 1 }, Used { offer: &dear, running: 1 }];
        let mut all = [leaver(1, 0, 1, false), leaver(2, 0, 1, false)];
        all[0].offer = Some(used[0]);
        all[1].offer = Some(used[1]);
        let go = |all: &[Leaver<'_>]| {
            choose(&[Termination::AllocationStrategy], all, Strategy::LowestPrice(1), &used, Nanos::ZERO)
        };
        assert_eq!(go(&all), Some(2));
        all[0].offer = None;
        assert_eq!(go(&all), Some(1), "an offer that is gone");
    }
}
