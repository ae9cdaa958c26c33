//! Closed forms for a fleet that is partly on spot capacity.
//!
//! A spot server is up for an exponential time (interruptions at a rate) and down for a replacement time, of which only
//! the mean matters: alternating renewal, so that it is up a share `1 / (1 + rate * replacement)` of the time. Servers
//! are independent, or fall together in pools. A server that is down is not billed.

use crate::core::error::ConfigError;

/// The largest number of servers: the sums are over each.
pub const MAX_SERVERS: u32 = 100_000;

/// The share of time for which something is up that fails `rate` times an hour of being up and is away for `hours`.
pub fn availability(rate: f64, hours: f64) -> Result<f64, ConfigError> {
    for (field, value) in [("interruption_rate", rate), ("replacement_hours", hours)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(ConfigError::new(field, value, "a finite number of 0 or more"));
        }
    }
    Ok(1.0 / (1.0 + rate * hours))
}

/// The probabilities that 0, 1, ... n of n are up.
///
/// From the most likely count outwards by ratios, and then divided by their sum: nothing underflows that matters.
#[must_use]
pub fn binomial(n: u32, p: f64) -> Vec<f64> {
    let size = n as usize + 1;
    let mut out = vec![0.0; size];
    let p = p.clamp(0.0, 1.0);
    let mode = (((f64::from(n) + 1.0) * p).floor() as usize).min(n as usize);
    if p == 0.0 || p == 1.0 {
        if let Some(cell) = out.get_mut(mode) {
            *cell = 1.0;
        }
        return out;
    }
    let odds = p / (1.0 - p);
    let mut value = 1.0;
    for (k, cell) in out.iter_mut().enumerate().skip(mode) {
        *cell = value;
        value *= odds * (f64::from(n) - k as f64) / (k as f64 + 1.0);
    }
    let mut value = 1.0;
    for k in (0..mode).rev() {
        value *= (k as f64 + 1.0) / (odds * (f64::from(n) - k as f64));
        if let Some(cell) = out.get_mut(k) {
            *cell = value;
        }
    }
    let sum: f64 = out.iter().sum();
    out.iter_mut().for_each(|cell| *cell /= sum);
    out
}

/// The probability that at least `need` of n are up.
#[must_use]
pub fn at_least(n: u32, p: f64, need: u32) -> f64 {
    if need == 0 {
        return 1.0;
    }
    let all = binomial(n, p);
    let (below, above) = all.split_at((need as usize).min(all.len()));
    // The smaller side is summed, so that its digits survive.
    let (below, above): (f64, f64) = (below.iter().sum(), above.iter().rev().sum());
    if above < below { above } else { 1.0 - below }
}

/// The capacity that is missing on average: E[max(0, need - up)].
#[must_use]
pub fn shortfall(n: u32, p: f64, need: u32) -> f64 {
    let lacking = (0..need).rev().map(f64::from).map(|k| k + 1.0);
    binomial(n, p).iter().take(need as usize).zip(lacking).map(|(chance, lack)| chance * lack).sum()
}

/// The probabilities of each capacity when whole pools fall together.
#[must_use]
pub fn pooled(sizes: &[u32], p: f64) -> Vec<f64> {
    let total: usize = sizes.iter().map(|&s| s as usize).sum();
    let mut out = vec![0.0; total + 1];
    if let Some(first) = out.first_mut() {
        *first = 1.0;
    }
    for &size in sizes {
        let size = size as usize;
        for k in (0..=total).rev() {
            let up = if k >= size { out.get(k - size).copied().unwrap_or(0.0) } else { 0.0 };
            if let Some(cell) = out.get_mut(k) {
                *cell = *cell * (1.0 - p) + up * p;
            }
        }
    }
    out
}

/// The cheapest mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// On-demand servers.
    pub on_demand: u32,
    /// Spot servers.
    pub spot: u32,
    /// Per hour.
    pub cost: f64,
    /// The probability that the need is met.
    pub achieved: f64,
}

/// The cheapest numbers of on-demand and spot servers of which at least `need` are up with a probability of `slo`; of
/// equally cheap ones the one with fewer on-demand servers.
#[must_use]
pub fn cheapest_mix(need: u32, p: f64, price: f64, spot_price: f64, slo: f64) -> Mix {
    let all = Mix { on_demand: need, spot: 0, cost: f64::from(need) * price, achieved: 1.0 };
    let mut best = all;
    for on_demand in (0..need).rev() {
        let rest = need - on_demand;
        let dear = f64::from(on_demand) * price;
        // Beyond this many the mix is dearer than the best one.
        let each = p * spot_price;
        let affordable = if each > 0.0 { (best.cost * (1.0 + 1e-12) - dear) / each } else { f64::from(MAX_SERVERS) };
        let most = affordable.clamp(0.0, f64::from(MAX_SERVERS)) as u32;
        let Some(spot) = fewest(rest, p, slo, most) else { continue };
        let cost = dear + f64::from(spot) * each;
        if cost <= best.cost * (1.0 + 1e-12) {
            best = Mix { on_demand, spot, cost, achieved: at_least(spot, p, rest) };
        }
    }
    best
}

/// The fewest servers of which `need` are up with a probability of `slo`, if `most` are enough.
fn fewest(need: u32, p: f64, slo: f64, most: u32) -> Option<u32> {
    let holds = |n: u32| at_least(n, p, need) >= slo;
    if most < need || !holds(most) {
        return None;
    }
    let (mut low, mut high) = (need, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn binomials() {
        let b = binomial(4, 0.5);
        for (got, expected) in b.iter().zip([1.0, 4.0, 6.0, 4.0, 1.0]) {
            assert!((got - expected / 16.0).abs() < 1e-15);
        }
        assert_eq!(binomial(3, 1.0), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(binomial(3, 0.0), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(binomial(0, 0.3), [1.0]);
        assert!((binomial(100_000, 0.3).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((at_least(4, 0.5, 3) - 5.0 / 16.0).abs() < 1e-15);
        assert_eq!((at_least(2, 0.9, 3), at_least(0, 0.9, 0)), (0.0, 1.0));
        assert!((shortfall(2, 0.5, 3) - (0.25 * 3.0 + 0.5 * 2.0 + 0.25)).abs() < 1e-15);
    }

    #[test]
    fn pools_fall_together() {
        let p = pooled(&[2, 2, 1], 0.9);
        assert!((p[5] - 0.729).abs() < 1e-12 && (p[4] - 0.081).abs() < 1e-12 && (p[0] - 0.001).abs() < 1e-12);
        assert!((pooled(&[3], 0.9)[3] - 0.9).abs() < 1e-15);
        assert_eq!(pooled(&[], 0.9), [1.0]);
    }

    #[test]
    fn the_cheapest_mix_by_trying_all() {
        for (need, p, spot_price, slo) in
            [(4, 0.9, 0.35, 0.999), (6, 0.7, 0.6, 0.99), (3, 0.5, 0.1, 0.9), (5, 0.95, 1.0, 0.9)]
        {
            let found = cheapest_mix(need, p, 1.0, spot_price, slo);
            let mut best = f64::MAX;
            for od in 0..=need {
                for spot in 0..200_u32 {
                    if at_least(spot, p, need - od) >= slo {
                        best = best.min(f64::from(od) + f64::from(spot) * p * spot_price);
                        break;
                    }
                }
            }
            assert!((found.cost - best).abs() < 1e-9, "{found:?} {best}");
            assert!(found.achieved >= slo);
        }
        let none = cheapest_mix(0, 0.9, 1.0, 0.3, 0.99);
        assert_eq!((none.on_demand, none.spot, none.cost), (0, 0, 0.0));
        assert_eq!(cheapest_mix(4, 0.0, 1.0, 0.3, 0.99).on_demand, 4);
        assert_eq!(availability(0.0, 5.0).unwrap(), 1.0);
        assert!(availability(-1.0, 5.0).is_err());
    }
}
