//! Requests of sessions that are bound to one endpoint: they go to it by name, past every policy, and also when it
//! takes no new work, as long as it may keep the sessions that it has.

use super::picker::Taken;
use super::writer::Pool;
use crate::core::endpoints::{Health, Snapshot};
use crate::core::pickers::Choice;
use crate::core::sync::{Mode, Ordering};
use crate::core::time::Nanos;

/// Why an endpoint lets a session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// It is not in the pool.
    Gone,
    /// It is unhealthy, and the pool does not panic.
    Unhealthy,
    /// It drains, and the deadline has passed; without one a drain keeps no session.
    Drained,
    /// It has as many requests in flight as it may, or more than its share.
    Overloaded,
}

impl LetGo {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LetGo::Gone => "gone",
            LetGo::Unhealthy => "unhealthy",
            LetGo::Drained => "drained",
            LetGo::Overloaded => "overloaded",
        }
    }
}

/// What of an endpoint decides whether it keeps its sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// How it is.
    pub health: Health,
    /// Until when it drains, if it does.
    pub drain: Option<Nanos>,
}

impl<M: Mode, P: Clone + Send + Sync + 'static> Pool<M, P> {
    /// Takes the work of one request on the endpoint of this id. `load_factor` lets go beyond so many times its share of
    /// the requests in flight, this one included: at most `ceil(factor * share)`, the rule of bounded loads.
    ///
    /// # Errors
    /// [`LetGo`] when the session must go elsewhere.
    pub fn acquire_on(
        &self,
        snapshot: &Snapshot<P>,
        id: &str,
        units: u64,
        load_factor: Option<f64>,
        now: Nanos,
    ) -> Result<Taken, LetGo> {
        let view = &snapshot.view;
        let index = *snapshot.ids.get(id).ok_or(LetGo::Gone)?;
        let slot = *view.slots.get(index as usize).ok_or(LetGo::Gone)?;
        let cell = view.block.cell(slot).ok_or(LetGo::Gone)?;
        // Who may get new work may keep old work; of the others it depends. Only they cost the writer's lock.
        if cell.blocked.load(Ordering::Acquire) != 0 {
            let Standing { health, drain } = self.standing(id).ok_or(LetGo::Gone)?;
            if health == Health::Unhealthy {
                return Err(LetGo::Unhealthy);
            }
            if drain.is_some_and(|until| until == Nanos::MAX || now >= until) {
                return Err(LetGo::Drained);
            }
        }
        if let Some(factor) = load_factor
            && cell.inflight.load(Ordering::Acquire) >= most(snapshot, index, factor)
        {
            return Err(LetGo::Overloaded);
        }
        if self.joint.is_some() {
            let taken = self.take_bound(cell, slot, units, view, view.limit(index));
            self.order().note(slot);
            return taken.then_some(Taken { choice: Choice { index, slot }, units }).ok_or(LetGo::Overloaded);
        }
        // Not `Cell::take`: threads that take new work heed the flag that old work goes past.
        if M::add(&cell.inflight, 1) >= u64::from(view.limit(index)) {
            M::sub(&cell.inflight, 1);
            cell.watch().end::<M>(cell);
            return Err(LetGo::Overloaded);
        }
        cell.shift::<M>(units);
        self.order().note(slot);
        Ok(Taken { choice: Choice { index, slot }, units })
    }
}

/// How many requests an endpoint may have in flight so that one more stays within its bound. One of weight 0 has no
/// share of new work, and is measured as if it had the mean.
fn most<P>(snapshot: &Snapshot<P>, index: u32, factor: f64) -> u64 {
    let view = &snapshot.view;
    let inflight: u64 =
        view.slots.iter().filter_map(|&slot| view.block.cell(slot)).map(|c| c.inflight.load(Ordering::Relaxed)).sum();
    let total: f64 = view.weights.iter().sum();
    let weight = view.weights.get(index as usize).copied().unwrap_or(0.0);
    let share = if weight > 0.0 { weight / total } else { 1.0 / view.weights.len().max(1) as f64 };
    (factor * (inflight.saturating_add(1)) as f64 * share).ceil() as u64
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::{Options, Outcome};
    use crate::core::sync::Shared;
    use std::sync::Arc;

    fn pool(weights: &[f64], limit: u32) -> Arc<Pool<Shared, ()>> {
        let endpoints = weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| {
                let id: Arc<str> = Arc::from(format!("e{i}"));
                Endpoint {
                    hash_key: id.clone(),
                    id,
                    weight,
                    backup: false,
                    priority: 0,
                    zone: "".into(),
                    max_inflight: limit,
                    passive: None,
                    payload: (),
                }
            })
            .collect();
        Pool::new(endpoints, Options::default()).unwrap()
    }

    fn on(pool: &Pool<Shared, ()>, id: &str, factor: Option<f64>, now: u64) -> Result<u32, LetGo> {
        pool.acquire_on(&pool.snapshot(), id, 1024, factor, Nanos(now)).map(|taken| taken.choice.index)
    }

    #[test]
    fn weight_0_keeps_its_sessions_and_counts_them() {
        let pool = pool(&[1.0, 0.0], 2);
        assert_eq!([on(&pool, "e1", None, 0), on(&pool, "e1", None, 0)], [Ok(1), Ok(1)]);
        assert_eq!(on(&pool, "e1", None, 0), Err(LetGo::Overloaded));
        assert_eq!(pool.stats(Nanos::ZERO)[1].inflight, 2);
        pool.settle(1, 1024, Outcome::Success, None, None, Nanos::ZERO);
        assert_eq!((on(&pool, "e1", None, 0), on(&pool, "e9", None, 0)), (Ok(1), Err(LetGo::Gone)));
    }

    #[test]
    fn a_drain_keeps_sessions_until_its_deadline_and_without_one_keeps_none() {
        let pool = pool(&[1.0, 1.0], u32::MAX);
        pool.drain("e0", Nanos(100)).unwrap();
        assert_eq!((on(&pool, "e0", None, 99), on(&pool, "e0", None, 100)), (Ok(0), Err(LetGo::Drained)));
        pool.drain("e0", Nanos::MAX).unwrap();
        assert_eq!(on(&pool, "e0", None, 0), Err(LetGo::Drained));
        pool.undrain("e0").unwrap();
        assert_eq!(on(&pool, "e0", None, 0), Ok(0));
    }

    #[test]
    fn an_unhealthy_endpoint_lets_go_unless_all_are_used_anyway() {
        let pool = pool(&[1.0, 1.0, 1.0], u32::MAX);
        pool.set_health("e0", Health::Unhealthy, Nanos::ZERO).unwrap();
        assert_eq!(on(&pool, "e0", None, 0), Err(LetGo::Unhealthy));
        pool.set_health("e1", Health::Degraded, Nanos::ZERO).unwrap();
        assert_eq!(on(&pool, "e1", None, 0), Ok(1));
        for id in ["e1", "e2"] {
            pool.set_health(id, Health::Unhealthy, Nanos::ZERO).unwrap();
        }
        assert_eq!(on(&pool, "e0", None, 0), Ok(0), "panic");
    }

    #[test]
    fn nobody_gets_more_than_the_factor_times_its_share() {
        let pool = pool(&[1.0, 3.0], u32::MAX);
        let taken = (0..9).filter(|_| on(&pool, "e0", Some(1.0), 0).is_ok()).count();
        assert_eq!(taken, 1, "ceil((1 + 1) / 4) is 1");
        (0..7).for_each(|_| assert_eq!(on(&pool, "e1", None, 0), Ok(1)));
        assert_eq!(on(&pool, "e0", Some(1.0), 0), Ok(0), "ceil(9 / 4) is 3");
        assert_eq!([on(&pool, "e0", Some(1.0), 0), on(&pool, "e0", Some(1.0), 0)], [Ok(0), Err(LetGo::Overloaded)]);
        assert_eq!(on(&pool, "e0", Some(2.0), 0), Ok(0));
    }
}
