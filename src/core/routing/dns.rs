//! Which records a name server answers with: the routing policies of Amazon Route 53.
//!
//! A record without a health check is healthy. When no record is healthy, all are taken to be: an answer that may work
//! is better than none.

use crate::core::rng::Rng;

/// The most records of a multivalue answer.
pub const MULTIVALUE: usize = 8;

/// Draws by weight among the records that `may` allows.
fn drawn(weights: &[u32], may: &dyn Fn(usize) -> bool, rng: &mut Rng) -> Option<usize> {
    let weight = |i: usize, w: u32| if may(i) { u64::from(w) } else { 0 };
    let total: u64 = weights.iter().enumerate().map(|(i, &w)| weight(i, w)).sum();
    let mut at = ((u128::from(rng.next_u64()) * u128::from(total)) >> 64) as u64;
    weights.iter().enumerate().find_map(|(i, &w)| {
        let weight = weight(i, w);
        if at < weight {
            return Some(i);
        }
        at -= weight;
        None
    })
}

fn is(flags: &[bool], i: usize) -> bool {
    flags.get(i).copied().unwrap_or(false)
}

/// Weighted: a draw in proportion to the weights. Records of weight 0 are considered only when no healthy record has
/// more, and are then equally likely.
#[must_use]
pub fn weighted(weights: &[u32], healthy: &[bool], rng: &mut Rng) -> Option<usize> {
    let ones = vec![1; weights.len()];
    let heavy = |i: usize| weights.get(i).is_some_and(|&w| w > 0);
    drawn(weights, &|i| is(healthy, i), rng)
        .or_else(|| drawn(&ones, &|i| is(healthy, i), rng))
        .or_else(|| drawn(weights, &heavy, rng))
        .or_else(|| drawn(&ones, &|_| true, rng))
}

/// The first of those with the least cost, healthy ones before all others.
#[must_use]
pub fn least(costs: &[f64], healthy: &[bool]) -> Option<usize> {
    let best = |may: &dyn Fn(usize) -> bool| {
        let allowed = costs.iter().enumerate().filter(|(i, _)| may(*i));
        allowed.min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
    };
    best(&|i| is(healthy, i)).or_else(|| best(&|_| true))
}

/// Failover: the primary while it is healthy, else a healthy secondary, else the primary.
#[must_use]
pub fn failover(primary: bool, secondary: bool) -> usize {
    usize::from(!primary && secondary)
}

/// Geolocation: `levels` says how closely each record's place fits the client's, 0 for not at all. The closest healthy
/// record answers; when none of those that fit is healthy, the closest. `None` when nothing fits.
#[must_use]
pub fn geolocation(levels: &[u8], healthy: &[bool]) -> Option<usize> {
    let best = |may: &dyn Fn(usize) -> bool| {
        let fits = levels.iter().enumerate().filter(|(i, level)| **level > 0 && may(*i));
        fits.min_by_key(|(i, level)| (u8::MAX - **level, *i)).map(|(i, _)| i)
    };
    best(&|i| is(healthy, i)).or_else(|| best(&|_| true))
}

/// Multivalue answer: up to eight healthy records in random order, each as likely as any other; of all records when
/// none is healthy.
#[must_use]
pub fn multivalue(healthy: &[bool], rng: &mut Rng) -> Vec<usize> {
    let mut out: Vec<usize> = (0..healthy.len()).filter(|&i| is(healthy, i)).collect();
    if out.is_empty() {
        out = (0..healthy.len()).collect();
    }
    // Fisher and Yates, as far as it is needed.
    for at in 0..out.len().min(MULTIVALUE) {
        let rest = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
        out.swap(at, at + rng.below(rest) as usize);
    }
    out.truncate(MULTIVALUE);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[u32], healthy: &[bool]) -> Vec<u32> {
        let mut rng = Rng::new(5);
        let mut out = vec![0; weights.len()];
        for _ in 0..10_000 {
            out[weighted(weights, healthy, &mut rng).unwrap()] += 1;
        }
        out
    }

    #[test]
    fn weights_and_health_as_route_53_has_them() {
        let all = counts(&[1, 0, 3], &[true; 3]);
        assert!(all[1] == 0 && (2_300..2_700).contains(&all[0]), "{all:?}");
        let zeros = counts(&[0, 0], &[true; 2]);
        assert!(zeros.iter().all(|n| (4_700..5_300).contains(n)), "{zeros:?}");
        assert_eq!(counts(&[1, 0, 3], &[false, true, false]), [0, 10_000, 0]);
        let none = counts(&[1, 0, 3], &[false; 3]);
        assert!(none[1] == 0 && none[0] > 0 && none[2] > none[0], "{none:?}");
        assert_eq!(weighted(&[], &[], &mut Rng::new(1)), None);
        assert_eq!(counts(&[255], &[true]), [10_000]);
    }

    #[test]
    fn the_nearest_healthy_one() {
        assert_eq!(least(&[30.0, 10.0, 20.0], &[true; 3]), Some(1));
        assert_eq!(least(&[30.0, 10.0, 20.0], &[true, false, true]), Some(2));
        assert_eq!(least(&[30.0, 10.0, 20.0], &[false; 3]), Some(1));
        assert_eq!(least(&[f64::INFINITY; 2], &[false, true]), Some(1));
        assert_eq!(least(&[], &[]), None);
    }

    #[test]
    fn the_secondary_only_instead_of_a_dead_primary() {
        assert_eq!(
            [(true, true), (true, false), (false, true), (false, false)].map(|(p, s)| failover(p, s)),
            [0, 0, 1, 0]
        );
    }

    #[test]
    fn the_closest_place() {
        assert_eq!(geolocation(&[1, 3, 0, 2], &[true; 4]), Some(1));
        assert_eq!(geolocation(&[1, 3, 0, 2], &[true, false, true, true]), Some(3));
        assert_eq!(geolocation(&[1, 3, 0, 2], &[false, false, true, false]), Some(1));
        assert_eq!(geolocation(&[0, 0], &[true; 2]), None);
    }

    #[test]
    fn up_to_eight_and_no_unhealthy_one_while_there_is_a_healthy_one() {
        let mut rng = Rng::new(3);
        let mut healthy = [true; 12];
        healthy[4] = false;
        let mut seen = [0; 12];
        for _ in 0..5_000 {
            let answer = multivalue(&healthy, &mut rng);
            assert_eq!(answer.len(), 8);
            answer.into_iter().for_each(|i| seen[i] += 1);
        }
        assert_eq!(seen[4], 0);
        assert!(seen.iter().enumerate().all(|(i, &n)| i == 4 || (3_400..3_900).contains(&n)), "{seen:?}");
        assert_eq!(multivalue(&[false, true], &mut rng), [1]);
        assert_eq!(multivalue(&[false, false], &mut rng).len(), 2);
        assert!(multivalue(&[], &mut rng).is_empty());
    }
}
