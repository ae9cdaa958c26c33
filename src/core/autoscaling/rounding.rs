//! AWS's rounding rules, safe against the last bit of a float.
//!
//! Percentages of a capacity are whole numbers times whole numbers: they are computed in integers. Metrics and targets
//! are floats that were often computed (0.1 + 0.2), so two of them within one part in 10^9 are the same number here:
//! that is far above the error of a few operations and far below what a metric can resolve.

use super::MAX_CAPACITY;
use std::cmp::Ordering;

/// Two floats this close, relative to the larger of the magnitudes involved, are equal.
const CLOSE: f64 = 1e-9;

/// Compares `a` with `b`, where `scale` is the largest magnitude that went into them.
#[must_use]
pub fn compare_at(a: f64, b: f64, scale: f64) -> Ordering {
    let difference = a - b;
    if difference.abs() <= CLOSE * scale.abs() {
        Ordering::Equal
    } else if difference < 0.0 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// Compares two floats that are equal when they differ by less than one part in 10^9.
#[must_use]
pub fn compare(a: f64, b: f64) -> Ordering {
    compare_at(a, b, a.abs().max(b.abs()))
}

/// The whole number that `x` is but for float error, if it is one. Nothing but zero is taken for zero.
fn snapped(x: f64) -> Option<f64> {
    let whole = x.round();
    // Capped, so that the slack stays far below one instance for the largest capacities too.
    ((x - whole).abs() <= (CLOSE * x.abs()).min(1e-7)).then_some(whole)
}

/// The smallest capacity that is not below `need`: rounded up, but not because of a last-bit error.
#[must_use]
pub fn ceil_capacity(need: f64) -> i64 {
    // The cast saturates; capacities are clamped again by the bounds.
    (snapped(need).unwrap_or_else(|| need.ceil()) as i64).clamp(0, MAX_CAPACITY)
}

/// Capacity that brings `metric` to `target` when it is shared by `capacity` now, before rounding.
#[must_use]
pub fn proportional_need(capacity: i64, metric: f64, target: f64) -> f64 {
    capacity as f64 * metric / target
}

/// AWS's rounding of a fractional change: 0 stays 0, less than one becomes one, more is cut toward zero.
/// (12.7 to 12, 0.67 to 1, -0.58 to -1, -6.67 to -6.)
#[must_use]
pub fn round_percent_change(change: f64) -> i64 {
    if change == 0.0 {
        0
    } else if change.abs() < 1.0 {
        if change > 0.0 { 1 } else { -1 }
    } else {
        snapped(change).unwrap_or_else(|| change.trunc()) as i64
    }
}

/// `percent` of `capacity`, rounded by [`round_percent_change`]'s rule in whole numbers.
#[must_use]
pub fn percent_of(capacity: i64, percent: i64) -> i64 {
    let hundredths = i128::from(capacity) * i128::from(percent);
    if hundredths != 0 && hundredths.abs() < 100 {
        hundredths.signum() as i64
    } else {
        // Rust's division cuts toward zero, which is the rule. Both factors fit in 32 bits.
        (hundredths / 100) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_round_as_aws_documents() {
        let documented = [(12.7, 12), (0.67, 1), (-0.58, -1), (-6.67, -6), (0.0, 0), (-0.0, 0), (1.0, 1), (-1.0, -1)];
        for (change, rounded) in documented {
            assert_eq!(round_percent_change(change), rounded, "{change}");
        }
        assert_eq!(round_percent_change(0.29 * 100.0), 29);
        assert_eq!(round_percent_change(0.07 * 100.0), 7);
        assert_eq!(round_percent_change(1e-300), 1);
    }

    #[test]
    fn percentages_are_exact() {
        assert_eq!(percent_of(100, 7), 7);
        assert_eq!(percent_of(100, -29), -29);
        assert_eq!(percent_of(11, 30), 3);
        assert_eq!(percent_of(4, 10), 1);
        assert_eq!(percent_of(4, -10), -1);
        assert_eq!(percent_of(0, 50), 0);
        assert_eq!(percent_of(MAX_CAPACITY, i64::from(i32::MAX)), MAX_CAPACITY * i64::from(i32::MAX) / 100);
    }

    #[test]
    fn a_last_bit_adds_no_instance() {
        // 10 * (0.1 + 0.2) / 0.3 is 10.000000000000002 in floats.
        assert_eq!(ceil_capacity(proportional_need(10, 0.1 + 0.2, 0.3)), 10);
        assert_eq!(compare(0.1 + 0.2, 0.3), Ordering::Equal);
        assert_eq!(ceil_capacity(10.0001), 11);
        assert_eq!(ceil_capacity(1e-12), 1);
        assert_eq!(ceil_capacity(0.0), 0);
        assert_eq!(ceil_capacity(f64::INFINITY), MAX_CAPACITY);
    }
}
