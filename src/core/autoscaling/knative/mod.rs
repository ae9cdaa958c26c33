//! Knative's pod autoscaler: averages over a stable and a panic window, panic mode, burst capacity, and the machine
//! that scales to zero.
//!
//! Source: Knative Serving after v0.50 (`pkg/autoscaler`, `pkg/reconciler/autoscaling/kpa`), in our own words.

pub mod autoscaler;
pub mod config;
pub mod max_window;
pub mod policy;
pub mod scaler;
pub mod window;

pub use autoscaler::{Decision, Panic};
pub use config::{Aggregation, KnativeConfig, ScalingMetric};
pub use max_window::MaxWindow;
pub use policy::KnativePolicy;
pub use scaler::{Activity, ScaleInput, ScaleOutput};
pub use window::Window;

/// The length of a bucket of the metric's windows, in whole seconds.
pub const BUCKET_SECONDS: u64 = 1;

/// A float as Go on amd64 makes a 32-bit integer of it: what does not fit is the smallest one.
#[must_use]
pub(crate) fn go_i32(x: f64) -> i32 {
    if x > -2_147_483_649.0 && x < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

#[cfg(test)]
mod tests {
    use super::go_i32;

    #[test]
    fn floats_become_what_go_makes_of_them() {
        let cases = [(1.9, 1), (-1.9, -1), (2_147_483_647.5, i32::MAX), (2_147_483_648.0, i32::MIN), (0.0, 0)];
        for (x, expected) in cases {
            assert_eq!(go_i32(x), expected, "{x}");
        }
        assert_eq!(go_i32(f64::NAN), i32::MIN);
        assert_eq!(go_i32(f64::INFINITY), i32::MIN);
        assert_eq!(go_i32(-1e300), i32::MIN);
    }
}
