//! The configuration of a Knative pod autoscaler, and the numbers that follow from it.

use super::BUCKET_SECONDS;
use crate::core::autoscaling::MAX_METRIC;
use crate::core::autoscaling::plain::seconds;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

const SECOND: u64 = 1_000_000_000;

/// The smallest target of a pod.
const LEAST_TARGET: f64 = 0.01;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalingMetric {
    /// Requests in flight.
    Concurrency,
    /// Requests a second.
    Rps,
}

impl ScalingMetric {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ScalingMetric::Concurrency => "concurrency",
            ScalingMetric::Rps => "rps",
        }
    }
}

/// How a window averages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// All seconds alike.
    Linear,
    /// Newer seconds weigh more.
    WeightedExponential,
}

/// Configuration of a [`super::KnativePolicy`].
#[derive(Clone, Debug, PartialEq)]
pub struct KnativeConfig {
    /// What is measured.
    pub metric: ScalingMetric,
    /// What one pod may take; 0 is no limit. Only for concurrency.
    pub container_concurrency: i64,
    /// What one pod is meant to take; `None` is the container's limit.
    pub target: Option<f64>,
    /// The target of a pod without a limit.
    pub default_target: f64,
    /// The share of that which is aimed at.
    pub target_utilization: f64,
    /// The stable window.
    pub stable_window: Nanos,
    /// The panic window, in percent of the stable one.
    pub panic_window_percentage: f64,
    /// Panic begins when the panic window asks for this many percent of the ready pods.
    pub panic_threshold_percentage: f64,
    /// The largest factor up in a step.
    pub max_scale_up_rate: f64,
    /// The largest factor down in a step.
    pub max_scale_down_rate: f64,
    /// Capacity that is kept free of the activator; 0 never has it in the path but at zero, -1 always.
    pub target_burst_capacity: f64,
    /// What one activator may take.
    pub activator_capacity: f64,
    /// The fewest pods when there are any.
    pub activation_scale: i32,
    /// How long a smaller number has to last.
    pub scale_down_delay: Nanos,
    /// How a window averages.
    pub aggregation: Aggregation,
    /// Whether traffic is routed to it.
    pub reachable: bool,
    /// The fewest pods.
    pub min_scale: i32,
    /// The most pods; 0 is no limit.
    pub max_scale: i32,
    /// Pods to begin with.
    pub initial_scale: i32,
    /// Whether there may be none.
    pub enable_scale_to_zero: bool,
    /// How long the activator is in the path before the last pod goes.
    pub scale_to_zero_grace_period: Nanos,
    /// How long the last pod stays.
    pub scale_to_zero_pod_retention_period: Nanos,
    /// How long an activation may take.
    pub progress_deadline: Nanos,
}

impl KnativeConfig {
    /// Whether its values can be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            if value > 0.0 && value <= MAX_METRIC {
                Ok(())
            } else {
                Err(ConfigError::new(field, value, "a number above 0, up to 2^360"))
            }
        };
        if !(0..=i64::from(i32::MAX)).contains(&self.container_concurrency) {
            let allowed = "a whole number of 0 or more; 0 is no limit";
            return Err(ConfigError::new("container_concurrency", self.container_concurrency, allowed));
        }
        if let Some(target) = self.target {
            positive("target", target)?;
        }
        positive("default_target", self.default_target)?;
        positive("activator_capacity", self.activator_capacity)?;
        if !(self.target_utilization > 0.0 && self.target_utilization <= 1.0) {
            return Err(ConfigError::new("target_utilization", self.target_utilization, "a number above 0, up to 1"));
        }
        let window = self.stable_window.0;
        if !(6 * SECOND..=3600 * SECOND).contains(&window) || !window.is_multiple_of(SECOND) {
            let shown = seconds(self.stable_window);
            return Err(ConfigError::new("stable_window", shown, "whole seconds from 6 to 3600"));
        }
        if !(1.0..=100.0).contains(&self.panic_window_percentage) {
            let allowed = "a number from 1 to 100";
            return Err(ConfigError::new("panic_window_percentage", self.panic_window_percentage, allowed));
        }
        if !(self.panic_threshold_percentage >= 110.0 && self.panic_threshold_percentage <= 1000.0) {
            let allowed = "a number from 110 to 1000";
            return Err(ConfigError::new("panic_threshold_percentage", self.panic_threshold_percentage, allowed));
        }
        for (field, rate) in
            [("max_scale_up_rate", self.max_scale_up_rate), ("max_scale_down_rate", self.max_scale_down_rate)]
        {
            if !(rate > 1.0 && rate <= MAX_METRIC) {
                return Err(ConfigError::new(field, rate, "a number above 1"));
            }
        }
        let burst = self.target_burst_capacity;
        if !((0.0..=MAX_METRIC).contains(&burst) || burst == -1.0) {
            return Err(ConfigError::new("target_burst_capacity", burst, "a number of 0 or more, or -1 for unlimited"));
        }
        for (field, scale) in [
            ("activation_scale", self.activation_scale),
            ("min_scale", self.min_scale),
            ("max_scale", self.max_scale),
            ("initial_scale", self.initial_scale),
        ] {
            if scale < 0 {
                return Err(ConfigError::new(field, scale, "a whole number from 0 to 2147483647"));
            }
        }
        if self.scale_down_delay.0 > 3600 * SECOND {
            let shown = seconds(self.scale_down_delay);
            return Err(ConfigError::new("scale_down_delay", shown, "seconds from 0 to 3600"));
        }
        Ok(())
    }

    /// What one pod is meant to take, and the share of it that is aimed at.
    #[must_use]
    pub fn total_and_target(&self) -> (f64, f64) {
        let limit = match self.metric {
            ScalingMetric::Concurrency if self.container_concurrency > 0 => Some(self.container_concurrency as f64),
            _ => None,
        };
        let total = match (self.target, limit) {
            (Some(target), Some(limit)) => target.min(limit),
            (Some(target), None) => target,
            (None, limit) => limit.unwrap_or(self.default_target),
        };
        (total, (total * self.target_utilization).max(LEAST_TARGET))
    }

    /// The panic window: rounded to whole seconds, at least one.
    #[must_use]
    pub fn panic_window(&self) -> Nanos {
        let nanos = (self.stable_window.0 as f64 * self.panic_window_percentage / 100.0) as u64;
        let seconds = nanos.saturating_add(SECOND / 2) / SECOND;
        Nanos(seconds.max(BUCKET_SECONDS) * SECOND)
    }

    /// The ratio at which panic begins.
    #[must_use]
    pub fn panic_threshold(&self) -> f64 {
        self.panic_threshold_percentage / 100.0
    }

    /// The fewest and the most pods; what no traffic reaches has no minimum.
    #[must_use]
    pub fn scale_bounds(&self) -> (i32, i32) {
        (if self.reachable { self.min_scale } else { 0 }, self.max_scale)
    }

    /// Whether anything is scraped: with the activator always in the path, it alone reports.
    #[must_use]
    pub fn scraped(&self) -> bool {
        self.target_burst_capacity != -1.0
    }

    /// The excess burst capacity before anything was measured.
    #[must_use]
    pub fn initial_burst_capacity(&self) -> i32 {
        let burst = self.target_burst_capacity;
        if burst == 0.0 || burst == -1.0 {
            return super::go_i32(burst);
        }
        super::go_i32(f64::from(self.initial_scale) * self.total_and_target().0 - burst)
    }

    /// How many activators should stand in the path.
    #[must_use]
    pub fn activators(&self, ready: i64) -> i64 {
        if self.target_burst_capacity == 0.0 {
            return 2;
        }
        let capacity = ready as f64 * self.total_and_target().0 + self.target_burst_capacity.max(0.0);
        (i64::from(super::go_i32((capacity / self.activator_capacity).ceil()))).max(2)
    }
}
