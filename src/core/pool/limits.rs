//! Limits that follow from how busy everybody is.

/// How many requests a server may have in flight when its limit grows with the load of all: HAProxy's dynamic maxconn.
///
/// Up to `full` requests in flight over the whole pool (`busy`), the limit is `most * busy / full`, at least `least`; from
/// there on, or where both are the same, it is `most`. While a server warms up it gets `warmth` of that, cut, at least 1.
/// `full` of 0 counts as reached.
#[must_use]
pub fn dynamic(least: u32, most: u32, full: u32, busy: u64, warmth: f64) -> u32 {
    let limit = if least == most || busy >= u64::from(full) {
        most
    } else {
        let part = u64::from(most).saturating_mul(busy) / u64::from(full).max(1);
        u32::try_from(part).unwrap_or(most).max(least)
    };
    // HAProxy counts in whole hundredths.
    let hundredths = if warmth.is_finite() { (warmth * 100.0).clamp(0.0, 100.0) as u64 } else { 100 };
    if hundredths >= 100 { limit } else { ((u64::from(limit) * hundredths / 100) as u32).max(1) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::dynamic;

    #[test]
    fn it_grows_with_the_load_between_its_bounds() {
        let at = |busy| dynamic(10, 100, 1000, busy, 1.0);
        assert_eq!([at(0), at(99), at(100), at(500), at(999), at(1000), at(u64::MAX)], [10, 10, 10, 50, 99, 100, 100]);
    }

    #[test]
    fn equal_bounds_and_no_full_load_are_the_most() {
        assert_eq!((dynamic(7, 7, 1000, 0, 1.0), dynamic(1, 9, 0, 0, 1.0)), (7, 9));
    }

    #[test]
    fn a_server_that_warms_up_gets_a_part_and_one_at_least() {
        let at = |warmth| dynamic(100, 100, 0, 0, warmth);
        assert_eq!([at(0.0), at(0.259), at(0.5), at(1.0), at(f64::NAN), at(-1.0)], [1, 25, 50, 100, 100, 1]);
        assert_eq!(dynamic(1, u32::MAX, u32::MAX, u64::from(u32::MAX) - 1, 1.0), u32::MAX - 1);
    }
}
