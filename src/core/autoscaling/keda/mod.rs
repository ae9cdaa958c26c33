//! KEDA: from nothing to something and back, fallbacks, and formulas over triggers. What happens between one and many
//! is a horizontal pod autoscaler's part.
//!
//! Source: KEDA after v2.20.2 (`pkg/scaling`, `pkg/fallback`, `controllers/keda`), in our own words.

pub mod executor;
pub mod fallback;
pub mod formula;
pub mod policy;

pub use executor::{Condition, Executor, ExecutorConfig, Step};
pub use fallback::{Behavior, FallbackConfig, FallbackInput, Health, Served, TargetType};
pub use formula::{Formula, FormulaError};
pub use policy::{KedaConfig, KedaPolicy, Modifiers, Trigger};

/// A metric in thousandths, as KEDA writes it: three decimals, halves of the binary value to even; what is negative
/// or no number is 0.
#[must_use]
pub fn milli(x: f64) -> i64 {
    if !x.is_finite() || x <= 0.0 {
        return 0;
    }
    // Formatting rounds the exact binary value, which a product with 1000 would not.
    let text = format!("{x:.3}");
    text.replace('.', "").parse().unwrap_or(i64::MAX)
}

/// Thousandths as the float that Kubernetes makes of them.
#[must_use]
pub fn from_milli(milli: i64) -> f64 {
    milli as f64 * 0.001
}

/// A float as Go on amd64 makes a 64-bit integer of it: what does not fit is the smallest one.
#[must_use]
pub(crate) fn go_i64(x: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) { x as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::{go_i64, milli};

    #[test]
    fn three_decimals_and_nothing_negative() {
        let cases = [(0.0, 0), (1.0, 1000), (0.0005, 1), (0.0015, 2), (2.5, 2500), (-1.0, 0), (1e-9, 0), (4.778, 4778)];
        for (x, expected) in cases {
            assert_eq!(milli(x), expected, "{x}");
        }
        assert_eq!(milli(f64::NAN), 0);
        assert_eq!(milli(f64::INFINITY), 0);
        assert_eq!(milli(1e300), i64::MAX);
        assert_eq!(go_i64(f64::INFINITY), i64::MIN);
        assert_eq!(go_i64(-1.9), -1);
    }
}
