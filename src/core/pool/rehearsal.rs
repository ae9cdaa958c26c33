//! What a picker would do, without its doing anything: on a copy of its turns and of its chance.

use super::picker::{Filter, Picker, State};
use crate::core::pickers::{Choice, Context, Key, Policy};
use crate::core::sync::Mode;
use crate::core::time::Nanos;
use std::sync::Arc;

/// The table of a hashing policy is copied when it takes no more than so many nanoseconds.
const CHEAP: u64 = 2_000_000;

impl<L: Policy, M: Mode, P: Clone + Send + Sync + 'static, N: Mode> Picker<L, M, P, N> {
    /// Everybody who may be picked now, in the order in which the next request would try them. Neither the picker's turns
    /// nor its chance move.
    pub fn rehearse(
        &self,
        state: &State<L, M, P>,
        key: Option<Key<'_>>,
        now: Nanos,
        mut filter: Filter,
    ) -> Vec<Choice> {
        let draws = self.draws().copy();
        // A hashing policy takes turns at most when the key leads nowhere (nginx), and its table may be dear.
        let cheap = || self.policy().build_cost(state.snapshot.payload.len()) <= CHEAP;
        let snapshot = || if M::JOINT { Arc::new(state.snapshot.apart()) } else { state.snapshot.clone() };
        let copy = (!L::KEYED || cheap()).then(|| State::build(self.policy(), snapshot(), Some(state), &draws));
        let state = copy.as_ref().unwrap_or(state);
        let key = match key {
            Some(key) => key,
            None if L::KEYED => self.policy().no_key::<M>(&draws).into(),
            None => Key::default(),
        };
        let mut cx = Context { draws: &draws, ..self.context(state, 1024, now) };
        if L::RAW {
            cx.bytes = key.bytes;
        }
        let mut out = Vec::new();
        while out.len() < state.snapshot.payload.len() {
            let choice = if out.is_empty() && filter.is_empty() {
                state.pick(self.policy(), &cx, key.hash)
            } else {
                state.choose(self.policy(), &cx, key.hash, &|index| filter.allows(index))
            };
            let Some(choice) = choice else { break };
            // A policy that names somebody twice must not keep this going.
            if !filter.allows(choice.index) {
                break;
            }
            filter.forbid(choice.index);
            out.push(choice);
        }
        out
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pickers::{LeastRequest, RoundRobin, WeightedRandom};
    use crate::core::pool::{Options, Pool};
    use crate::core::sync::Shared;

    fn rehearsed<L: Policy>(policy: L, weights: &[f64]) {
        let endpoint = |(i, &weight): (usize, &f64)| Endpoint {
            id: format!("e{i}").into(),
            hash_key: format!("e{i}").into(),
            weight,
            zone: "".into(),
            priority: 0,
            backup: false,
            max_inflight: u32::MAX,
            passive: None,
            payload: (),
        };
        let pool: std::sync::Arc<Pool<Shared, ()>> =
            Pool::new(weights.iter().enumerate().map(endpoint).collect(), Options::default()).unwrap();
        let picker = Picker::new(&pool, policy);
        let state = picker.state();
        for _ in 0..20 {
            let order = picker.rehearse(&state, None, Nanos(1), Filter::default());
            assert_eq!(order, picker.rehearse(&state, None, Nanos(1), Filter::default()));
            assert_eq!(order.len(), weights.iter().filter(|&&w| w > 0.0).count());
            assert_eq!(picker.pick(&state, None, Nanos(1)), order.first().copied());
        }
    }

    #[test]
    fn a_rehearsal_foretells_the_next_pick_and_moves_nothing() {
        for weights in [&[][..], &[1.0], &[5.0, 1.0, 1.0], &[0.0, 2.0]] {
            rehearsed(RoundRobin::default(), weights);
            rehearsed(LeastRequest::default(), weights);
            rehearsed(WeightedRandom::default(), weights);
        }
    }
}
