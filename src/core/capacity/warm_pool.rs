//! Instances that are kept ready beside a group.

/// How many belong in the pool: what the group may still grow by, or a fixed total less what it is.
#[must_use]
pub fn size(max_size: i64, desired: i64, prepared: Option<i64>, min_size: i64) -> i64 {
    prepared.unwrap_or(max_size).saturating_sub(desired).max(0).max(min_size)
}

/// What a scale-out takes from the pool and what it starts cold, and the capacity after it.
#[must_use]
pub fn scale_out(available: i64, increase: i64, desired: i64, max_size: i64) -> (i64, i64, i64) {
    let added = increase.min(max_size.saturating_sub(desired)).max(0);
    let warm = available.clamp(0, added);
    (warm, added - warm, desired.saturating_add(added))
}

/// What a scale-in terminates, what goes back into the pool, and how many are started there anew.
#[must_use]
pub fn scale_in(decrease: i64, reuse: bool) -> (i64, i64, i64) {
    let gone = decrease.max(0);
    if reuse { (0, gone, 0) } else { (gone, 0, gone) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_fills_what_the_group_may_grow_by() {
        assert_eq!(size(10, 6, None, 0), 4);
        assert_eq!(size(10, 6, Some(8), 0), 2);
        assert_eq!(size(10, 9, Some(8), 0), 0);
        assert_eq!(size(10, 9, Some(8), 3), 3);
        assert_eq!(scale_out(2, 5, 6, 20), (2, 3, 11));
        assert_eq!(scale_out(9, 5, 18, 20), (2, 0, 20));
        assert_eq!(scale_out(9, 5, 25, 20), (0, 0, 25));
        assert_eq!(scale_in(2, false), (2, 0, 2));
        assert_eq!(scale_in(2, true), (0, 2, 0));
    }
}
