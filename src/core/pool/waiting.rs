//! Those who wait until somebody is free: whether there are any, and how long it may take.

use super::writer::Pool;
use crate::core::endpoints::{Tier, View};
use crate::core::error::PickError;
use crate::core::sync::{AtomicU64, Mode, Ordering};
use crate::core::time::Nanos;

/// How many queues have somebody waiting. A release looks at it right after the flag of put-off rebuilds.
#[derive(Debug, Default)]
pub struct Waited(AtomicU64);

impl Waited {
    /// Whether anybody waits. In one order with the counts in flight: of a release and a waiter who comes at the same
    /// time, one sees the other.
    #[inline(always)]
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// One more queue in which somebody waits.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// One less.
    pub fn leave(&self) {
        let less = |n: u64| n.checked_sub(1);
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

/// The room that is left in a pool, and how fast room is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Requests that could be taken now; `None` when somebody may have any number.
    pub free: Option<u64>,
    /// Requests that end in a second while everybody is as full as may be; `None` when nothing is known of how long
    /// they take.
    pub rate: Option<f64>,
}

impl Room {
    /// When a request is likely to have ended.
    #[must_use]
    pub fn next(&self) -> Option<Nanos> {
        self.rate.map(|rate| Nanos::from_secs_f64((1.0 / rate).min(1e10)))
    }
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// Why nothing could be picked, of those allowed, and when to try again.
    pub fn refusal(&self, view: &View, excluded: usize, allow: &dyn Fn(u32) -> bool, now: Nanos) -> PickError {
        match view.refusal(excluded, allow) {
            PickError::Overloaded { .. } => PickError::Overloaded { retry_after: self.room(view, allow, now).next() },
            other => other,
        }
    }

    /// Requests in flight on all endpoints that the pool has now.
    pub fn inflight(&self) -> u64 {
        let snapshot = self.current.load();
        let cells = snapshot.view.slots.iter().filter_map(|&slot| snapshot.view.block.cell(slot));
        cells.map(|cell| cell.inflight.load(Ordering::Acquire)).fold(0, u64::saturating_add)
    }

    /// Who waits.
    #[inline(always)]
    pub fn waited(&self) -> &Waited {
        &self.waited
    }

    /// The room among those allowed that may be picked. A server whose requests take S seconds and that may have n at
    /// once ends n / S of them in a second; one of which no latency is known counts as the mean of the others.
    pub fn room(&self, view: &View, allow: &dyn Fn(u32) -> bool, now: Nanos) -> Room {
        let mut free = Some(0u64);
        let (mut rate, mut busy, mut unknown) = (0.0, 0.0, 0.0);
        let mut seen = std::collections::HashSet::new();
        for member in view.tiers.iter().flat_map(Tier::members) {
            let Some(cell) = view.block.cell(member.slot) else { continue };
            // One endpoint may stand in several ranks.
            if !allow(member.index) || cell.blocked.load(Ordering::Relaxed) != 0 || !seen.insert(member.slot) {
                continue;
            }
            let inflight = cell.inflight.load(Ordering::SeqCst);
            let limit = view.limit(member.index);
            let slots = if limit == u32::MAX { inflight } else { u64::from(limit) };
            free = free
                .filter(|_| limit != u32::MAX)
                .map(|free| free.saturating_add(u64::from(limit).saturating_sub(inflight)));
            match self.latencies.estimate(cell, now) {
                Some(seconds) if seconds > 0.0 => {
                    rate += slots as f64 / seconds;
                    busy += slots as f64;
                }
                _ => unknown += slots as f64,
            }
        }
        let rate = if busy > 0.0 { rate * (1.0 + unknown / busy) } else { 0.0 };
        Room { free, rate: (rate > 0.0 && rate.is_finite()).then_some(rate) }
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::{Options, Outcome};
    use crate::core::sync::Shared;

    fn pool(limits: &[u32]) -> std::sync::Arc<Pool<Shared, ()>> {
        let endpoints = limits.iter().enumerate().map(|(i, &max_inflight)| Endpoint {
            id: format!("e{i}").into(),
            hash_key: format!("e{i}").into(),
            weight: 1.0,
            zone: "".into(),
            priority: 0,
            backup: false,
            max_inflight,
            passive: None,
            payload: (),
        });
        Pool::new(endpoints.collect(), Options::default()).unwrap()
    }

    fn room(pool: &Pool<Shared, ()>) -> Room {
        pool.room(&pool.snapshot().view, &|_| true, Nanos(1))
    }

    #[test]
    fn room_is_what_the_limits_leave() {
        assert_eq!(room(&pool(&[])), Room { free: Some(0), rate: None });
        assert_eq!(room(&pool(&[2, u32::MAX])), Room { free: None, rate: None });
        let two = pool(&[2, 3]);
        let view = two.snapshot();
        assert!(view.view.block.cell(0).unwrap().take::<Shared>(1024, 2));
        assert_eq!(room(&two), Room { free: Some(4), rate: None });
        assert_eq!(two.room(&view.view, &|i| i == 1, Nanos(1)).free, Some(3));
        two.drain("e1", Nanos::MAX).unwrap();
        assert_eq!(room(&two).free, Some(1));
    }

    #[test]
    fn the_rate_follows_the_latencies_and_guesses_the_unknown() {
        let two = pool(&[4, 2]);
        let view = two.snapshot();
        assert!(view.view.block.cell(0).unwrap().take::<Shared>(1024, 4));
        two.settle(0, 1024, Outcome::Success, Some(2.0), None, Nanos(1));
        // Four places of two seconds are two a second; two more places like them are one more.
        assert!((room(&two).rate.unwrap() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn queues_are_counted_and_never_below_zero() {
        let waited = Waited::default();
        waited.leave();
        assert!(!waited.any());
        waited.enter();
        waited.enter();
        waited.leave();
        assert!(waited.any());
        waited.leave();
        assert!(!waited.any());
    }
}
