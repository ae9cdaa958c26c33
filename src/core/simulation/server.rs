//! One server: slots, a FIFO queue, and where it is in its life.

use std::collections::VecDeque;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Launched, paid for, not ready.
    Warming,
    /// Takes work.
    Ready,
    /// Finishes what it has.
    Draining,
    /// Gone.
    Gone,
}

/// A server of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) kind: u32,
    pub(crate) life: Life,
    /// Nanoseconds of service for a second of work.
    pub(crate) pace: f64,
    pub(crate) slots: u32,
    pub(crate) busy: u32,
    pub(crate) queue_limit: u32,
    /// Jobs that wait, in order.
    pub(crate) queue: VecDeque<u32>,
    pub(crate) launched: u64,
    /// Attempts of a detailed run that balancers sent here and that have not ended.
    pub(crate) held: u32,
}

impl Server {
    pub(crate) fn in_flight(&self) -> usize {
        self.queue.len().saturating_add(self.busy as usize).saturating_add(self.held as usize)
    }
}
