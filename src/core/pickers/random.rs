//! Weighted random.

use super::sampler::Sampler;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;

/// Any endpoint, each with a chance proportional to its weight: one draw and one look into Walker's alias table
/// (Vose's construction, 1991). Whoever may not take the request is left out as if the pool were without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightedRandom;

/// The members and how to draw them.
#[derive(Debug, Default)]
pub struct Index(Sampler);

impl Policy for WeightedRandom {
    type Index<M: Mode> = Index;

    fn build<M: Mode>(&self, _: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        Index(Sampler::new(members))
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64) -> Option<Choice> {
        let member = index.0.get(index.0.one::<M>(cx.draws))?;
        if cx.view.available(member) {
            return Some(member.into());
        }
        self.choose::<M>(index, cx, 0, &|_| true)
    }

    #[inline(never)]
    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        let usable = |member: Member| cx.view.available(member) && allow(member.index);
        index.0.among::<M>(cx.draws, &usable).map(Choice::from)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Filter, Pool};
    use crate::core::sync::Exclusive;
    use crate::core::time::Nanos;
    use std::sync::Arc;

    #[test]
    fn those_left_share_in_proportion_to_their_weights() {
        let weights = [5.0, 1.0, 3.0, 0.5, 1e6];
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
                payload: (),
            }
        };
        let endpoints = weights.iter().enumerate().map(made).collect();
        let pool = Pool::<Exclusive, ()>::new(endpoints, Options::default()).unwrap();
        let picker = Picker::new(&pool, WeightedRandom);
        let state = picker.state();
        // The last one has nearly all the weight, so that every draw hits it and the rest is walked.
        let filter = Filter { exclude: vec![4], subset: None };
        let (n, mut counts) = (40_000u32, [0u32; 5]);
        for _ in 0..n {
            let taken = picker.acquire_from(&state, None, 1024, Nanos(0), filter.clone()).unwrap();
            counts[taken.choice.index as usize] += 1;
        }
        for (&count, weight) in counts.iter().zip(&weights[..4]) {
            let p = weight / 9.5;
            let z = (f64::from(count) - p * f64::from(n)) / (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.5, "{counts:?}");
        }
        assert_eq!(counts[4], 0);
    }
}
