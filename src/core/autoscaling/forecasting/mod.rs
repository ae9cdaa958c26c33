//! Exponential smoothing: Holt's linear method, and additive Holt–Winters with one season or several.
//!
//! Sources: C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", ONR memorandum 52,
//! 1957; P. R. Winters, Management Science 6(3), 1960; several seasons: J. W. Taylor, Journal of the Operational
//! Research Society 54, 2003; intervals: Hyndman, Koehler, Ord, Snyder, "Forecasting with Exponential Smoothing", 2008,
//! section 6.

mod fit;
mod holt;
mod seasonal;

pub use fit::fit;
pub use holt::Holt;
pub use seasonal::{Season, Seasonal, Smoothing};

use crate::core::error::ConfigError;

/// The largest magnitude of a value, so that squares still are finite.
pub const LARGEST: f64 = 1e150;

/// A smoothing parameter from 0 to 1.
pub(crate) fn share(field: &str, value: f64) -> Result<f64, ConfigError> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(ConfigError::new(field, value, "a number from 0 to 1")) }
}

/// Values that are finite, or NaN for a gap where those are allowed.
pub(crate) fn check(field: &str, values: &[f64], gaps: bool) -> Result<(), ConfigError> {
    for (i, &value) in values.iter().enumerate() {
        if value.abs() > LARGEST || (value.is_nan() && !gaps) {
            let allowed = if gaps { "a number up to 1e150, or NaN for a gap" } else { "a number up to 1e150" };
            return Err(ConfigError::new(format!("{field}[{i}]"), value, allowed));
        }
    }
    Ok(())
}
