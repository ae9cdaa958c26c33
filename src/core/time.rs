//! Instants and durations as whole nanoseconds since an arbitrary origin.

use serde::{Deserialize, Serialize};

/// Nanoseconds: an instant since the clock's own origin, or a duration.
///
/// All arithmetic saturates, so that time going backwards gives a duration of zero and a far deadline stays far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The origin; as a duration, nothing.
    pub const ZERO: Nanos = Nanos(0);
    /// Further than any instant; as a deadline, never.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// Whole and fractional seconds; negative and NaN give zero, too large gives [`Nanos::MAX`].
    #[must_use]
    pub fn from_secs_f64(seconds: f64) -> Nanos {
        // A float to integer cast saturates and maps NaN to zero, which is what the contract says.
        Nanos((seconds * 1e9).round() as u64)
    }

    /// As float seconds.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        // Divided, so that whole seconds come out whole.
        self.0 as f64 / 1e9
    }

    /// The duration since an earlier instant; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant this long after.
    #[must_use]
    pub fn plus(self, duration: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(duration.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_saturate_instead_of_wrapping() {
        assert_eq!(Nanos::from_secs_f64(-1.0), Nanos::ZERO);
        assert_eq!(Nanos::from_secs_f64(f64::NAN), Nanos::ZERO);
        assert_eq!(Nanos::from_secs_f64(f64::INFINITY), Nanos::MAX);
        assert_eq!(Nanos::from_secs_f64(1.5), Nanos(1_500_000_000));
        assert_eq!(Nanos(5).since(Nanos(9)), Nanos::ZERO);
        assert_eq!(Nanos::MAX.plus(Nanos(1)), Nanos::MAX);
    }
}
