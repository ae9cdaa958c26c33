//! Slow start in a pool: who warms up since when, and what that makes of weights.

use super::members::{Place, Writer};
use super::options::Options;
use super::writer::Pool;
use crate::core::endpoints::Health;
use crate::core::health::slow_start::Ramp;
use crate::core::sync::{Mode, Ordering};
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// What a rebuild may cost that a pick brings about, in nanoseconds by the policies' own estimates; dearer ones wait for
/// [`Pool::advance`]. A smooth rotation is estimated at 100 µs for the few weights that give a long cycle.
pub(super) const BY_A_PICK: u64 = 200_000;

/// An endpoint that warms up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Warming {
    /// Since when.
    pub since: Nanos,
    /// Its requests that had ended well by then.
    pub done_before: u64,
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// How an endpoint begins that becomes usable now, beside these; `None` when it gets its share at once.
    pub(super) fn warming(&self, others: &[Place<P>], now: Nanos) -> Option<Warming> {
        let slow_start = self.options.slow_start?;
        let warm = |place: &Place<P>| {
            let usable = place.health != Health::Unhealthy && place.drain.is_none();
            usable && place.warming.is_none()
        };
        // An application load balancer has nobody start slowly when nobody else is warm.
        (slow_start.ramp != Ramp::Alb || others.iter().any(warm)).then_some(Warming { since: now, done_before: 0 })
    }

    /// Gives those that warm up more of their weight, when that is due. A pick may come here, so nothing is waited for.
    pub(super) fn warm_up(&self, now: Nanos) {
        if self.next_warmth.load(Ordering::Acquire) > now.0 {
            return;
        }
        let Some(mut writer) = self.writer.try_lock() else { return };
        writer.now = writer.now.max(now);
        self.publish(&mut writer, true, |picker| if picker.warms() { BY_A_PICK } else { 0 });
    }
}

impl<P: Clone> Writer<P> {
    /// The part of its weight that each endpoint has, empty when all have all of it; and when that changes next.
    pub(super) fn warmth(&mut self, options: &Options) -> (Vec<f64>, Nanos) {
        let Some(slow_start) = options.slow_start else { return (Vec::new(), Nanos::MAX) };
        let (now, mut next) = (self.now, Nanos::MAX);
        let mut factors = Vec::with_capacity(self.places.len());
        for place in &mut self.places {
            let Some(Warming { since, done_before }) = place.warming else {
                factors.push(1.0);
                continue;
            };
            let cell = self.block.cell(place.slot);
            let done = cell.map_or(0, |cell| cell.successes.load(Ordering::Acquire)).saturating_sub(done_before);
            let elapsed = now.since(since);
            let factor = slow_start.weight_factor(elapsed, done);
            if factor >= 1.0 && !matches!(slow_start.ramp, Ramp::Haproxy) || elapsed >= slow_start.window {
                place.warming = None;
            } else {
                next = next.min(since.plus(slow_start.next_look(elapsed)));
            }
            factors.push(factor);
        }
        if factors.iter().all(|&factor| factor >= 1.0) {
            factors.clear();
        }
        (factors, next)
    }
}
