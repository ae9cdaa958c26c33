//! Least time, as nginx has it: answer time times requests in flight over weight.

use super::latency::PeakEwma;
use super::least_connections::Index;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Cell, Member, View};
use crate::core::sync::{Mode, Ordering};

/// Answer times are compared in steps of so many milliseconds, so that the load does not swing between endpoints that
/// are nearly alike.
const STEP: u64 = 20;

/// Answer times from here on, in milliseconds, count the same.
const MOST: u64 = 5000;

/// Requests from here on count the same: the product with a time and a weight stays within 64 bits.
const MOST_REQUESTS: u64 = 1 << 19;

/// Takes the endpoint with the least (answer time * (requests in flight + 1)) / weight; ties by smooth weighted round
/// robin among the tied.
///
/// After nginx's `least_time` (open since 1.31.0; before that in NGINX Plus, whose source is closed): times up to the next
/// 20 ms, 5 s and more are equal. The average is not nginx's, which gives each success 5 % and starts at zero: it is the
/// pool's estimate, see [`crate::core::endpoints::latency`]. So an endpoint of which nothing is known counts as the mean,
/// an idle one goes towards the mean, and a failure does not look fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeastTime;

impl LeastTime {
    fn eta(cx: &Context<'_>, unknown: f64, cell: &Cell) -> u64 {
        // A cast of a float saturates.
        let time = (cx.latencies.shown(cell, unknown) * 1e3) as u64;
        let time = if time > MOST { MOST } else { time + STEP - time % STEP };
        time * (1 + cell.inflight.load(Ordering::Relaxed).min(MOST_REQUESTS))
    }
}

impl Policy for LeastTime {
    type Index<M: Mode> = Index<M>;
    const TIMED: bool = true;

    fn rotates(&self) -> bool {
        true
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], _: &Draws) -> Index<M> {
        Index::nginx(view, members, before)
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 100
    }

    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        let unknown = PeakEwma::unknown(cx);
        index.pick_least(cx, |_| true, |cell| LeastTime::eta(cx, unknown, cell))
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        let unknown = PeakEwma::unknown(cx);
        index.pick_least(cx, allow, |cell| LeastTime::eta(cx, unknown, cell))
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Filter, Outcome, Pool, Report};
    use crate::core::sync::Shared;
    use crate::core::time::Nanos;
    use std::sync::Arc;

    fn made(id: &str, weight: f64, max_inflight: u32) -> Endpoint<()> {
        let id: Arc<str> = id.into();
        Endpoint {
            id: id.clone(),
            hash_key: id,
            weight,
            backup: false,
            priority: 0,
            zone: "".into(),

            max_inflight,
            passive: None,
            payload: (),
        }
    }

    fn pool(weights: &[f64]) -> Arc<Pool<Shared, ()>> {
        let endpoints = weights.iter().enumerate().map(|(i, &w)| made(&format!("e{i}"), w, u32::MAX)).collect();
        Pool::new(endpoints, Options::default()).unwrap()
    }

    fn tell(pool: &Pool<Shared, ()>, id: &str, seconds: f64) {
        pool.observe(id, Report { latency: Some(seconds), ..Report::default() }, Nanos(1)).unwrap();
    }

    fn picks(picker: &Picker<LeastTime, Shared, ()>, n: usize) -> Vec<u32> {
        let state = picker.state();
        (0..n).filter_map(|_| picker.pick(&state, None, Nanos(2))).map(|c| c.index).collect()
    }

    #[test]
    fn nobody_one_and_all_that_are_full() {
        let empty = pool(&[]);
        let picker = Picker::new(&empty, LeastTime);
        assert_eq!(picker.pick(&picker.state(), None, Nanos(2)), None);
        let one = Pool::<Shared, ()>::new(vec![made("a", 1e15, 1)], Options::default()).unwrap();
        let picker = Picker::new(&one, LeastTime);
        let state = picker.state();
        let taken = picker.acquire(&state, None, 1024, Nanos(2)).unwrap();
        assert_eq!(picker.acquire(&state, None, 1024, Nanos(2)), None);
        one.settle(taken.choice.slot, taken.units, Outcome::Success, Some(0.5), None, Nanos(3));
        assert!(picker.pick(&state, None, Nanos(4)).is_some());
    }

    #[test]
    fn while_nothing_is_known_requests_over_weight_decide() {
        let (even, uneven) = (pool(&[1.0, 1.0, 1.0]), pool(&[2.0, 1.0]));
        assert_eq!(picks(&Picker::new(&even, LeastTime), 6), [0, 1, 2, 0, 1, 2]);
        let picker = Picker::new(&uneven, LeastTime);
        let state = picker.state();
        let take = || picker.acquire(&state, None, 1024, Nanos(2)).map(|taken| taken.choice.index);
        // (Requests + 1) over weight: a half; then one and one, a tie.
        assert_eq!([take(), take(), take()], [Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn a_step_is_a_tie_and_very_slow_ones_are_equal() {
        let pool = pool(&[1.0, 1.0, 1.0]);
        let picker = Picker::new(&pool, LeastTime);
        (0..3).for_each(|i| tell(&pool, &format!("e{i}"), 0.101 + 0.006 * f64::from(i)));
        assert_eq!(picks(&picker, 6), [0, 1, 2, 0, 1, 2]);
        tell(&pool, "e0", 0.120);
        assert_eq!(picks(&picker, 4), [1, 2, 1, 2]);
        (0..3).for_each(|i| tell(&pool, &format!("e{i}"), 6.0 + f64::from(i)));
        assert_eq!(picks(&picker, 30).iter().filter(|&&i| i == 0).count(), 10);
    }

    #[test]
    fn time_requests_and_weight_all_count() {
        let pool = pool(&[1.0, 1.0, 2.0]);
        let picker = Picker::new(&pool, LeastTime);
        tell(&pool, "e0", 0.1);
        tell(&pool, "e1", 0.319);
        tell(&pool, "e2", 0.639);
        let state = picker.state();
        // In units of 20 ms over weight: 6, 16, 32/2.
        let got: Vec<u32> =
            (0..8).map(|_| picker.acquire(&state, None, 1024, Nanos(2)).unwrap().choice.index).collect();
        assert_eq!(got, [0, 0, 2, 1, 0, 0, 0, 1]);
        let without = Filter { exclude: vec![0], subset: None };
        assert_ne!(picker.acquire_from(&state, None, 1024, Nanos(2), without).unwrap().choice.index, 0);
    }

    #[test]
    fn a_new_one_counts_as_the_mean_and_an_idle_one_goes_there() {
        let pool = pool(&[1.0, 1.0]);
        let picker = Picker::new(&pool, LeastTime);
        tell(&pool, "e0", 0.1);
        tell(&pool, "e1", 0.1);
        pool.add(made("new", 1.0, u32::MAX), Nanos::ZERO).unwrap();
        let state = picker.state();
        let got: Vec<u32> =
            (0..9).map(|_| picker.acquire(&state, None, 1024, Nanos(2)).unwrap().choice.index).collect();
        assert_eq!(got.iter().filter(|&&i| i == 2).count(), 3, "an equal share: {got:?}");
        // After a long while the slow one is at the mean, and not at zero.
        tell(&pool, "e1", 3.0);
        let state = picker.state();
        let late = Nanos::from_secs_f64(1e6);
        picker.pick(&state, None, late);
        let cells = &state.snapshot.view.block;
        let (mean, unknown) = (pool.latencies().mean(), pool.latencies().unknown());
        let shown = pool.latencies().shown(cells.cell(1).unwrap(), unknown);
        assert!((shown - mean).abs() < 1e-6 && mean > 0.1, "{shown} {mean}");
    }
}
