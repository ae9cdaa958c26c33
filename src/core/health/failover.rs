//! Which endpoints are eligible, in ranks: healthy primaries, degraded primaries, healthy backups, degraded backups;
//! and Envoy's panic threshold.

use crate::core::endpoints::{Health, Member, Totals};

/// What a pool does when too few endpoints are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPanic {
    /// Health is ignored and all endpoints share the load.
    #[default]
    All,
    /// Nothing is picked.
    Fail,
}

/// The rules of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The share of healthy endpoints below which a pool panics; 0 for never.
    pub panic_threshold: f64,
    /// What it does then.
    pub on_panic: OnPanic,
    /// How far the healthy endpoints of a rank are trusted beyond their share before the next rank counts as needed.
    pub overprovisioning_factor: f64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { panic_threshold: 0.5, on_panic: OnPanic::All, overprovisioning_factor: 1.4 }
    }
}

/// One endpoint as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its place and share.
    pub member: Member,
    /// Its health.
    pub health: Health,
    /// Whether it takes no new work because it is leaving.
    pub draining: bool,
    /// Whether it is a backup.
    pub backup: bool,
}

/// The ranks, whether the pool panics, and the counts. There is always a first rank, which may be empty.
#[must_use]
pub fn tiers(candidates: &[Candidate], rules: &Rules) -> (Vec<Vec<Member>>, bool, Totals) {
    let mut totals = Totals { total: candidates.len(), ..Totals::default() };
    let mut ranks = [Level::default(), Level::default()];
    for c in candidates {
        totals.unhealthy += usize::from(c.health == Health::Unhealthy);
        totals.draining += usize::from(c.draining);
        totals.zero_weight += usize::from(c.member.weight <= 0.0);
        // Draining and weight 0 mean "no new work" even in panic, so such endpoints count in no rank at all.
        if c.draining || c.member.weight <= 0.0 {
            continue;
        }
        let [primary, backup] = &mut ranks;
        let level = if c.backup { backup } else { primary };
        level.all.push(c.member);
        match c.health {
            Health::Healthy => level.healthy.push(c.member),
            Health::Degraded => level.degraded.push(c.member),
            Health::Unhealthy => {}
        }
    }
    // As in Envoy, panic is looked at only while the levels together cannot carry the whole load, in whole percents.
    let available: f64 = ranks.iter().map(|level| level.availability(rules.overprovisioning_factor)).sum();
    let mut panic = false;
    let mut tiers = Vec::new();
    for level in ranks {
        if available < 100.0 && level.in_panic(rules.panic_threshold) {
            panic = true;
            if rules.on_panic == OnPanic::All {
                tiers.push(level.all);
            }
        } else {
            tiers.extend([level.healthy, level.degraded]);
        }
    }
    tiers.retain(|tier| !tier.is_empty());
    if tiers.is_empty() {
        tiers.push(Vec::new());
    }
    (tiers, panic, totals)
}

#[derive(Debug, Default)]
struct Level {
    all: Vec<Member>,
    healthy: Vec<Member>,
    degraded: Vec<Member>,
}

impl Level {
    fn share(&self, part: usize) -> f64 {
        if self.all.is_empty() { 0.0 } else { part as f64 / self.all.len() as f64 }
    }

    fn availability(&self, factor: f64) -> f64 {
        // The small number undoes what doubles make of a factor such as 1.4.
        let percent = |part| (factor * 100.0 * self.share(part) + 1e-9).floor().min(100.0);
        percent(self.healthy.len()) + percent(self.degraded.len())
    }

    fn in_panic(&self, threshold: f64) -> bool {
        !self.all.is_empty() && self.share(self.healthy.len() + self.degraded.len()) < threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(healths: &[Health], backup_from: usize) -> Vec<Candidate> {
        healths
            .iter()
            .enumerate()
            .map(|(i, &health)| Candidate {
                member: Member { index: i as u32, slot: i as u32, weight: 1.0 },
                health,
                draining: false,
                backup: i >= backup_from,
            })
            .collect()
    }

    fn picked(candidates: &[Candidate], rules: &Rules) -> Vec<Vec<u32>> {
        tiers(candidates, rules).0.iter().map(|t| t.iter().map(|m| m.index).collect()).collect()
    }

    #[test]
    fn half_healthy_is_no_panic_and_less_is() {
        use Health::{Healthy as H, Unhealthy as U};
        let rules = Rules::default();
        assert_eq!(picked(&pool(&[H, H, U, U], 9), &rules), [[0, 1]]);
        assert_eq!(picked(&pool(&[H, U, U, U], 9), &rules), [[0, 1, 2, 3]]);
        let fail = Rules { on_panic: OnPanic::Fail, ..rules };
        assert_eq!(picked(&pool(&[H, U, U, U], 9), &fail), [Vec::<u32>::new()]);
        let never = Rules { panic_threshold: 0.0, ..rules };
        assert_eq!(picked(&pool(&[U, U], 9), &never), [Vec::<u32>::new()]);
    }

    #[test]
    fn backups_come_after_primaries_and_spare_them_the_panic() {
        use Health::{Degraded as D, Healthy as H, Unhealthy as U};
        let rules = Rules::default();
        assert_eq!(picked(&pool(&[H, H, H], 2), &rules), [vec![0, 1], vec![2]]);
        assert_eq!(picked(&pool(&[U, U, H], 2), &rules), [[2]]);
        assert_eq!(picked(&pool(&[D, H, D], 2), &rules), [vec![1], vec![0], vec![2]]);
    }

    #[test]
    fn draining_and_weight_zero_get_nothing_even_in_panic() {
        use Health::Unhealthy as U;
        let mut candidates = pool(&[U, U, U], 9);
        candidates[0].draining = true;
        candidates[1].member.weight = 0.0;
        let (tiers, panic, totals) = tiers(&candidates, &Rules::default());
        assert!(panic);
        assert_eq!(tiers, [[candidates[2].member]]);
        assert_eq!(totals, Totals { total: 3, unhealthy: 3, draining: 1, zero_weight: 1 });
    }
}
