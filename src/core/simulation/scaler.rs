//! What the engine asks of a scaling policy.

use super::SimulationError;
use crate::core::time::Nanos;

/// What a scaling policy sees at a decision. Counts are of this moment; rates and loads are means over the metric period
/// that ended `metric_delay` ago, because that is what a metrics pipeline delivers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetView {
    /// The instant at which the metric period ended.
    pub as_of: Nanos,
    /// How many servers the last decision wanted.
    pub desired: u32,
    /// Servers that take work.
    pub ready: u32,
    /// Servers that were launched and are not ready yet.
    pub warming: u32,
    /// Servers that finish what they have and leave.
    pub draining: u32,
    /// Busy slots over all slots, 0 to 1.
    pub utilization: f64,
    /// Requests in service and queued.
    pub in_flight: f64,
    /// Requests that wait, over the number of servers that took work.
    pub queue_per_server: f64,
    /// Arrivals a second.
    pub arrivals_per_s: f64,
    /// Mean number of servers that took work.
    pub servers: f64,
}

/// Decides how many servers there should be.
pub trait Scaler {
    /// The wanted number of servers, or `None` to leave it. The engine holds it within the fleet's bounds.
    fn decide(&mut self, now: Nanos, view: &FleetView) -> Result<Option<u32>, SimulationError>;
}
