//! On-demand and spot in one group.

/// The on-demand part and the spot part: a base, then a share of the rest, rounded up.
#[must_use]
pub fn split(desired: i64, base: i64, percent_above: i64) -> (i64, i64) {
    let fixed = desired.min(base).max(0);
    let above = i128::from(desired.saturating_sub(fixed).max(0));
    let share = (above * i128::from(percent_above) + 99) / 100;
    let on_demand = fixed.saturating_add(i64::try_from(share).unwrap_or(i64::MAX));
    (on_demand, desired.max(0).saturating_sub(on_demand).max(0))
}

/// The largest a group may be for a moment while zones are evened out: a tenth more, but at least one.
#[must_use]
pub fn rebalance_ceiling(max_size: i64) -> i64 {
    max_size.saturating_add((max_size / 10).max(1))
}

/// The pools that spot capacity could come from, and the cheapest ones of each zone that are used.
#[must_use]
pub fn pools(instance_types: i64, zones: i64, lowest: i64) -> (i64, i64) {
    (instance_types.saturating_mul(zones), lowest.min(instance_types).saturating_mul(zones))
}

/// What a group of weighted instances weighs after so many units more: the last instance may carry it over the
/// maximum, by less than its own weight.
#[must_use]
pub fn weighted_after(current: i64, units: i64, weight: i64, max_size: i64) -> (i64, i64) {
    let desired = current.saturating_add(units).min(max_size.max(current));
    let missing = desired.saturating_sub(current).max(0);
    let weight = weight.max(1);
    let launched = missing / weight + i64::from(missing % weight != 0);
    (desired, current.saturating_add(launched.saturating_mul(weight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_demand_rounds_up_and_nothing_is_lost() {
        assert_eq!([10, 20, 30, 40].map(|d| split(d, 10, 50)), [(10, 0), (15, 5), (20, 10), (25, 15)]);
        assert_eq!(split(5, 0, 50), (3, 2));
        assert_eq!(split(0, 0, 100), (0, 0));
        for desired in 0..200 {
            for percent in 0..=100 {
                let (a, b) = split(desired, 7, percent);
                assert!(a + b == desired && a >= desired.min(7) && b >= 0);
            }
        }
    }

    #[test]
    fn weights_overshoot_and_zones_get_room() {
        assert_eq!(weighted_after(10, 5, 6, 12), (12, 16));
        assert_eq!(weighted_after(10, 2, 1, 12), (12, 12));
        assert_eq!(weighted_after(14, 5, 6, 12), (14, 14));
        assert_eq!([100, 5, 10, 0].map(rebalance_ceiling), [110, 6, 11, 1]);
        assert_eq!(pools(4, 4, 2), (16, 8));
    }
}
