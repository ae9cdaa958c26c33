//! Which long-lived leases to close so that everybody gets their share.

use super::report::shares;
use super::writer::Pool;
use crate::core::endpoints::Snapshot;
use crate::core::sync::{Mode, Ordering};
use crate::core::time::Nanos;
use std::collections::HashMap;

/// A lease to close, and where the next one is likely to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The lease.
    pub lease: u64,
    /// Place of the endpoint that has it.
    pub from: u32,
    /// Place of the endpoint that lacks the most.
    pub to: u32,
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// Up to `most` leases of the ledger, at least `age` old, the oldest of an endpoint first. Each is taken from the
    /// endpoint that is the furthest above its share of all requests in flight and given, in thought, to the one that is
    /// the furthest below its own and has room, for as long as that brings both nearer to their shares. Endpoints that
    /// are due no share (draining, unhealthy, of weight zero, standing by) neither give nor get.
    /// `snapshot` is a recent one of this pool, and places are its places.
    pub fn rebalance(&self, snapshot: &Snapshot<P>, most: usize, age: Nanos, now: Nanos) -> Vec<Move> {
        let view = &snapshot.view;
        let shares = shares(view);
        let inflight: Vec<u64> = view
            .slots
            .iter()
            .map(|&slot| view.block.cell(slot).map_or(0, |cell| cell.inflight.load(Ordering::Acquire)))
            .collect();
        let counts = |i: usize| shares.get(i).is_some_and(|&share| share > 0.0);
        let total: u64 = inflight.iter().enumerate().filter(|&(i, _)| counts(i)).map(|(_, &n)| n).sum();
        // How many requests each is above its share, and how many more it may have.
        let mut above: Vec<(f64, u64)> = inflight
            .iter()
            .zip(&shares)
            .zip(0u32..)
            .map(|((&n, share), i)| (n as f64 - share * total as f64, u64::from(view.limit(i)).saturating_sub(n)))
            .collect();
        // By slot, the youngest first, so that the oldest is the next to be popped.
        let mut leases: HashMap<u32, Vec<(Nanos, u64)>> = HashMap::new();
        for (id, entry) in self.ledger.lock().live() {
            if now.since(entry.start) >= age {
                leases.entry(entry.slot).or_default().push((entry.start, id));
            }
        }
        leases.values_mut().for_each(|of_slot| of_slot.sort_unstable_by(|a, b| b.cmp(a)));
        let mut out = Vec::new();
        while out.len() < most {
            let has = |i: usize| {
                view.slots.get(i).is_some_and(|slot| leases.get(slot).is_some_and(|of_slot| !of_slot.is_empty()))
            };
            let places = || above.iter().enumerate().filter(|&(i, _)| counts(i));
            let by_surplus = |a: &(usize, &(f64, u64)), b: &(usize, &(f64, u64))| a.1.0.total_cmp(&b.1.0);
            let from = places().filter(|&(i, _)| has(i)).max_by(by_surplus).map(|(i, &(n, _))| (i, n));
            let to = places().filter(|(_, (_, room))| *room > 0).min_by(by_surplus).map(|(i, &(n, _))| (i, n));
            let (Some((from, surplus)), Some((to, lack))) = (from, to) else { break };
            // A move takes one from here and adds one there: it must leave them nearer than they were.
            if surplus - lack <= 1.0 + 1e-9 {
                break;
            }
            let Some(lease) = view.slots.get(from).and_then(|slot| leases.get_mut(slot)).and_then(Vec::pop) else {
                break;
            };
            if let Some((n, room)) = above.get_mut(from) {
                *n -= 1.0;
                *room = room.saturating_add(1);
            }
            if let Some((n, room)) = above.get_mut(to) {
                *n += 1.0;
                *room = room.saturating_sub(1);
            }
            out.push(Move { lease: lease.1, from: from as u32, to: to as u32 });
        }
        out
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::Options;
    use crate::core::pool::lease::Entry;
    use crate::core::sync::Shared;
    use std::sync::Arc;

    fn endpoint(id: &str, weight: f64, max_inflight: u32) -> Endpoint<()> {
        Endpoint {
            id: id.into(),
            hash_key: id.into(),
            weight,
            zone: "".into(),
            priority: 0,
            backup: false,
            max_inflight,
            passive: None,
            payload: (),
        }
    }

    fn pool(of: &[(f64, u32)]) -> Arc<Pool<Shared, ()>> {
        let of = of.iter().enumerate().map(|(i, &(weight, most))| endpoint(&format!("e{i}"), weight, most));
        Pool::new(of.collect(), Options::default()).unwrap()
    }

    /// Leases on a slot, one a nanosecond.
    fn open(pool: &Pool<Shared, ()>, slot: u32, n: u64) {
        for start in 1..=n {
            assert!(pool.snapshot().view.block.cell(slot).unwrap().take::<Shared>(1024, u32::MAX));
            pool.enter(Entry { slot, units: 1024, start: Nanos(start), measured: false });
        }
    }

    fn moved(pool: &Pool<Shared, ()>, most: usize, age: u64) -> Vec<(u32, u32)> {
        pool.rebalance(&pool.snapshot(), most, Nanos(age), Nanos(1000)).iter().map(|m| (m.from, m.to)).collect()
    }

    #[test]
    fn a_new_endpoint_gets_its_share_and_no_more() {
        let two = pool(&[(1.0, u32::MAX), (1.0, u32::MAX)]);
        assert_eq!(moved(&two, 10, 0), []);
        open(&two, 0, 6);
        open(&two, 1, 6);
        assert_eq!(moved(&two, 10, 0), []);
        two.add(endpoint("new", 1.0, u32::MAX), Nanos(9)).unwrap();
        let found = moved(&two, 10, 0);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|m| m.1 == 2));
        assert_eq!(found.iter().filter(|m| m.0 == 0).count(), 2);
        assert_eq!(moved(&two, 3, 0).len(), 3);
        // All of one endpoint's leases are too young, or all are old enough.
        assert_eq!((moved(&two, 10, 2000).len(), moved(&two, 10, 994).len()), (0, 4));
    }

    #[test]
    fn the_oldest_goes_first() {
        let two = pool(&[(1.0, u32::MAX), (1.0, u32::MAX)]);
        open(&two, 0, 4);
        let found = two.rebalance(&two.snapshot(), 2, Nanos::ZERO, Nanos(10));
        let starts: Vec<u64> = found.iter().map(|m| two.lease(m.lease).unwrap().start.0).collect();
        assert_eq!(starts, [1, 2]);
    }

    #[test]
    fn limits_weights_and_drains_are_respected() {
        let narrow = pool(&[(1.0, u32::MAX), (1.0, 1)]);
        open(&narrow, 0, 10);
        assert_eq!(moved(&narrow, 10, 0), [(0, 1)]);
        let heavy = pool(&[(3.0, u32::MAX), (1.0, u32::MAX), (1.0, u32::MAX)]);
        open(&heavy, 0, 8);
        open(&heavy, 2, 50);
        heavy.set_weight("e2", 0.0, |()| Some(())).unwrap();
        // A quarter of eight is two; what weight zero has is not its business.
        assert_eq!(moved(&heavy, 10, 0), [(0, 1), (0, 1)]);
        heavy.drain("e1", Nanos::MAX).unwrap();
        assert_eq!(moved(&heavy, 10, 0), []);
    }

    #[test]
    fn leases_without_an_id_are_counted_and_not_named() {
        let two = pool(&[(1.0, u32::MAX), (1.0, u32::MAX)]);
        for _ in 0..4 {
            assert!(two.snapshot().view.block.cell(0).unwrap().take::<Shared>(1024, u32::MAX));
        }
        assert_eq!(moved(&two, 10, 0), []);
        open(&two, 0, 1);
        assert_eq!(moved(&two, 10, 0), [(0, 1)]);
    }
}
