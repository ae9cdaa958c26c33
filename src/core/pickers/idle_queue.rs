//! Join the idle queue: whoever has nothing to do gets the request.

use super::least_request::{self, LeastRequest};
use super::sampler::Sampler;
use super::scan::Scan;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Cell, Member, View};
use crate::core::sync::{Mode, Ordering};

/// Draws for somebody idle before the list is looked at.
const FIRST_DRAWS: u32 = 2;

/// An idle endpoint, drawn by weight; without one the less loaded of two drawn by weight.
///
/// Lu et al., "Join-Idle-Queue", Performance Evaluation 2011, for one dispatcher. There idle servers enlist in a queue and
/// an empty queue means a random server. Here an endpoint is on the list as long as it has nothing in flight, nobody has
/// to enlist, and an empty list means two choices. Idle is who has no request in flight and no
/// load that a report told of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinIdleQueue {
    busy: LeastRequest,
}

/// Who is idle, and how two are drawn when nobody is.
#[derive(Debug)]
pub struct Index<M: Mode> {
    sampler: Sampler,
    idle: Scan<M>,
    busy: least_request::Index<M>,
}

#[inline(always)]
fn is_idle(cell: &Cell) -> bool {
    cell.inflight.load(Ordering::SeqCst) == 0 && cell.signed_load() <= 0
}

impl Policy for JoinIdleQueue {
    type Index<M: Mode> = Index<M>;

    fn rotates(&self) -> bool {
        true
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        let before: Vec<_> = before.iter().map(|b| &b.busy).collect();
        let idle = Scan::new(view, members);
        idle.prepare(view, 0, |cell, _| u64::from(!is_idle(cell)));
        Index { sampler: Sampler::new(members), idle, busy: self.busy.build(view, members, &before, draws) }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        // A draw that hits somebody idle is one by weight among the idle.
        for _ in 0..FIRST_DRAWS {
            let member = index.sampler.get(index.sampler.one::<M>(cx.draws))?;
            if cx.cell(member).is_some_and(|cell| is_idle(cell) && cx.view.free(cell, member.index)) {
                return Some(member.into());
            }
        }
        match index.idle.any(cx, index.sampler.weighted(), is_idle) {
            Some(member) if cx.view.available(member) => Some(member.into()),
            // On the list, and taken out of the pool since.
            Some(_) => self.choose::<M>(index, cx, key, &|_| true),
            None => self.busy.pick(&index.busy, cx, key),
        }
    }

    #[inline(never)]
    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        let idle = |member: Member| {
            cx.cell(member).is_some_and(|cell| is_idle(cell) && cx.view.free(cell, member.index)) && allow(member.index)
        };
        match index.sampler.among::<M>(cx.draws, &idle) {
            Some(member) => Some(member.into()),
            None => self.busy.choose(&index.busy, cx, key, allow),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Outcome, Pool, Report};
    use crate::core::sync::Shared;
    use crate::core::time::Nanos;
    use std::sync::Arc;

    #[allow(clippy::unwrap_used)]
    fn pool(weights: &[f64]) -> Arc<Pool<Shared, ()>> {
        let made = |(i, &weight): (usize, &f64)| {
            let id: Arc<str> = format!("e{i}").into();
            Endpoint {
                id: id.clone(),
                hash_key: id,
                weight,
                backup: false,
                priority: 0,
                zone: "".into(),

                max_inflight: u32::MAX,
                passive: None,
                payload: (),
            }
        };
        Pool::new(weights.iter().enumerate().map(made).collect(), Options::default()).unwrap()
    }

    #[test]
    fn nobody_gets_a_second_request_while_somebody_is_idle() {
        for weights in [vec![1.0; 100], (0..100).map(|i| f64::from(1 + i % 5)).collect()] {
            let pool = pool(&weights);
            let picker = Picker::new(&pool, JoinIdleQueue::default());
            let state = picker.state();
            let all: Vec<_> = (0..100).map(|_| picker.acquire(&state, None, 1024, Nanos(0)).unwrap()).collect();
            let mut whom: Vec<u32> = all.iter().map(|t| t.choice.index).collect();
            whom.sort_unstable();
            assert_eq!(whom, (0..100).collect::<Vec<_>>());
            // All are busy: two choices, so nobody gets far ahead of the others.
            let more: Vec<_> = (0..100).map(|_| picker.acquire(&state, None, 1024, Nanos(0)).unwrap()).collect();
            assert!(pool.stats(Nanos(0)).iter().all(|s| s.inflight <= 6));
            for taken in more.iter().chain(&all).filter(|t| t.choice.index == 7) {
                pool.settle(taken.choice.slot, taken.units, Outcome::Success, None, None, Nanos(0));
            }
            assert_eq!(picker.pick(&state, None, Nanos(0)).unwrap().index, 7);
            pool.drain("e7", Nanos(9)).unwrap();
            assert_ne!(picker.pick(&state, None, Nanos(0)).unwrap().index, 7, "also by an index built before");
        }
    }

    #[test]
    fn the_idle_share_by_weight_and_a_report_of_load_is_not_idle() {
        let pool = pool(&[6.0, 1.0, 2.0, 1000.0]);
        let picker = Picker::new(&pool, JoinIdleQueue::default());
        pool.observe("e3", Report { inflight: Some(2.0), ..Report::default() }, Nanos(0)).unwrap();
        let state = picker.state();
        let (n, mut counts) = (30_000u32, [0u32; 4]);
        for _ in 0..n {
            counts[picker.pick(&state, None, Nanos(0)).unwrap().index as usize] += 1;
        }
        assert_eq!(counts[3], 0);
        for (&count, weight) in counts.iter().zip([6.0, 1.0, 2.0]) {
            let p: f64 = weight / 9.0;
            let z = (f64::from(count) - p * f64::from(n)) / (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.5, "{counts:?}");
        }
    }
}
