//! Weighted random.

use super::hashing::haproxy::{self, Haproxy, Keys, Lookup};
use super::sampler::Sampler;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::hash::KeyHash;
use crate::core::sync::{Mode, Ordering};

/// The most draws of one pick.
pub const MAX_DRAWS: u32 = 65_535;

/// HAProxy's `balance random` (2.6 and 2.8): each draw is looked up on its consistent ring, so that an endpoint's chance
/// is the length of its arcs, and of several draws the one with the least requests in flight for its nodes is taken,
/// the later of equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingDraws {
    /// Draws for each pick.
    pub choices: u32,
}

/// HAProxy's ring, on which a draw is looked up as it is.
const RING: Haproxy =
    Haproxy { keys: Keys::Bytes(KeyHash::Sdbm), avalanche: false, lookup: Lookup::Ring { bounded_load: None } };

impl RingDraws {
    /// Checks the parameter.
    ///
    /// # Errors
    /// [`ConfigError`] naming it.
    pub fn check(self) -> Result<RingDraws, ConfigError> {
        if (1..=MAX_DRAWS).contains(&self.choices) {
            Ok(self)
        } else {
            Err(ConfigError::new("choices", self.choices, format!("a whole number from 1 to {MAX_DRAWS}")))
        }
    }

    fn pick<M: Mode>(self, ring: &haproxy::Index, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        let mut best: Option<(Choice, u64, u64)> = None;
        for _ in 0..self.choices {
            let key = RING.no_key::<M>(cx.draws);
            let drawn = match allow {
                None => RING.pick::<M>(ring, cx, key),
                Some(allow) => RING.choose::<M>(ring, cx, key, allow),
            }?;
            let served = cx.view.block.cell(drawn.slot).map_or(0, |cell| cell.inflight.load(Ordering::Relaxed));
            let nodes = ring.nodes(drawn.index);
            let worse = |(_, least, own): (Choice, u64, u64)| {
                u128::from(served) * u128::from(own) > u128::from(least) * u128::from(nodes)
            };
            if !best.is_some_and(worse) {
                best = Some((drawn, served, nodes));
            }
        }
        best.map(|(choice, ..)| choice)
    }
}

/// Any endpoint, each with a chance proportional to its weight: one draw and one look into Walker's alias table
/// (Vose's construction, 1991). Whoever may not take the request is left out as if the pool were without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightedRandom {
    /// HAProxy's way instead.
    pub ring: Option<RingDraws>,
}

/// The members and how to draw them: by the table, which is empty where the ring is there.
#[derive(Debug, Default)]
pub struct Index {
    sampler: Sampler,
    ring: Option<Box<haproxy::Index>>,
}

impl WeightedRandom {
    #[inline(never)]
    fn slowly<M: Mode>(&self, index: &Index, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        if let (Some(draws), Some(ring)) = (self.ring, &index.ring) {
            return draws.pick::<M>(ring, cx, allow);
        }
        let usable = |member: Member| cx.view.available(member) && allow.is_none_or(|allow| allow(member.index));
        index.sampler.among::<M>(cx.draws, &usable).map(Choice::from)
    }
}

impl Policy for WeightedRandom {
    type Index<M: Mode> = Index;

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], draws: &Draws) -> Index {
        match self.ring {
            None => Index { sampler: Sampler::new(members), ring: None },
            Some(_) => {
                let ring = Box::new(RING.build::<M>(view, members, &[], draws));
                Index { sampler: Sampler::default(), ring: Some(ring) }
            }
        }
    }

    fn build_cost(&self, members: usize) -> u64 {
        if self.ring.is_some() { RING.build_cost(members) } else { members as u64 * 10 }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64) -> Option<Choice> {
        match index.sampler.get(index.sampler.one::<M>(cx.draws)) {
            Some(member) if cx.view.available(member) => Some(member.into()),
            _ => self.slowly::<M>(index, cx, None),
        }
    }

    #[inline(never)]
    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        self.slowly::<M>(index, cx, Some(allow))
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
                passive: None,
                payload: (),
            }
        };
        let endpoints = weights.iter().enumerate().map(made).collect();
        let pool = Pool::<Exclusive, ()>::new(endpoints, Options::default()).unwrap();
        let picker = Picker::new(&pool, WeightedRandom::default());
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
