//! Weighted round robin by weights that follow from what endpoints report: gRPC's and Envoy's client-side WRR.

use super::round_robin::{heir_of, stride};
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::signals::Rates;
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Mode, Ordering};
use crate::core::time::Nanos;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};

/// gRPC's shortest period between two computations of weights.
const SHORTEST_PERIOD: Nanos = Nanos(100_000_000);

/// Takes turns by gRPC's static stride, with the weight qps / (utilization + eps / qps * penalty) of each endpoint.
///
/// gRPC proposal A58 (and A114), in the arithmetic of gRPC C++. An endpoint has no weight of its own before it has
/// reported for as long as the blackout period, and after it has been silent for the expiration period: then it counts as
/// the mean of the others, and without any weight all are equal. Weights are computed again once an update period.
/// Endpoints' own weights, of which gRPC knows none, multiply the reported ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSideWeightedRoundRobin {
    /// How long an endpoint must have reported before its weight counts.
    pub blackout: Nanos,
    /// After how long a silence its weight does not count any more.
    pub expiration: Nanos,
    /// How often weights are computed.
    pub update_period: Nanos,
    /// How much an error counts as utilization.
    pub error_penalty: f64,
}

impl Default for ClientSideWeightedRoundRobin {
    fn default() -> ClientSideWeightedRoundRobin {
        let seconds = Nanos::from_secs_f64;
        ClientSideWeightedRoundRobin {
            blackout: seconds(10.0),
            expiration: seconds(180.0),
            update_period: seconds(1.0),
            error_penalty: 1.0,
        }
    }
}

impl ClientSideWeightedRoundRobin {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<ClientSideWeightedRoundRobin, ConfigError> {
        if self.expiration == Nanos::ZERO {
            return Err(ConfigError::new("weight_expiration_period", 0, "a positive number of seconds"));
        }
        if self.update_period < SHORTEST_PERIOD {
            let given = self.update_period.as_secs_f64();
            return Err(ConfigError::new("weight_update_period", given, "at least 0.1 seconds"));
        }
        if !(self.error_penalty.is_finite() && self.error_penalty >= 0.0) {
            let allowed = "a finite number, not negative";
            return Err(ConfigError::new("error_utilization_penalty", self.error_penalty, allowed));
        }
        Ok(self)
    }

    /// The weight of these rates.
    #[must_use]
    pub fn weight(&self, rates: Rates) -> f64 {
        let penalty =
            if rates.eps > 0.0 && self.error_penalty > 0.0 { rates.eps / rates.qps * self.error_penalty } else { 0.0 };
        let weight = rates.qps / (rates.utilization + penalty);
        if weight.is_finite() { weight } else { 0.0 }
    }

    /// The weight of an endpoint now; 0 when it has none. Rates of before `ready`, when it came back, do not count.
    fn known(&self, rates: Option<Rates>, ready: Nanos, now: Nanos) -> f64 {
        let Some(rates) = rates.filter(|rates| rates.at >= ready) else { return 0.0 };
        let young = now.since(rates.since.max(ready)) < self.blackout;
        if now.since(rates.at) >= self.expiration || young { 0.0 } else { self.weight(rates) }
    }

    fn compute(&self, index: &Index, cx: &Context<'_>) -> Vec<u16> {
        let rates = |member: &Member| cx.view.block.signals(member.slot)?.rates();
        let known: Vec<f64> = index
            .members
            .iter()
            .zip(&index.ready)
            .map(|(member, ready)| {
                // Whoever has come back since the last build is ready from this look on.
                let since = match ready.load(Ordering::Relaxed) {
                    COMES_BACK => {
                        ready.store(cx.now.0, Ordering::Relaxed);
                        cx.now.0
                    }
                    since => since,
                };
                self.known(rates(member), Nanos(since), cx.now)
            })
            .collect();
        index.scaled(&known)
    }

    #[cold]
    fn update(&self, index: &Index, cx: &Context<'_>) {
        index.due.store(cx.now.plus(self.update_period).0, Ordering::Relaxed);
        index.weights.store(self.compute(index, cx).into());
    }

    #[inline(always)]
    fn turn<M: Mode>(&self, index: &Index, cx: &Context<'_>, allow: impl Fn(u32) -> bool) -> Option<Choice> {
        let due = index.due.load(Ordering::Relaxed);
        // Also when the time has gone backwards: nothing is due later than one period from now.
        if cx.now.0 >= due || cx.now.plus(self.update_period).0 < due {
            self.update(index, cx);
        }
        let weights = index.weights.load();
        let get = |at: u32| index.members.get(at as usize).copied();
        let usable = |at| get(at).is_some_and(|m| cx.view.available(m) && allow(m.index));
        // gRPC's counter has 32 bits.
        let sequence = || M::add(&index.sequence, 1) & u64::from(u32::MAX);
        stride::next(&weights, sequence, usable).and_then(get).map(Choice::from)
    }
}

/// The instant at which somebody is ready who has come back and has not been looked at since.
const COMES_BACK: u64 = u64::MAX;

/// The members, since when they are ready, their scaled weights, and the counter of the turns.
#[derive(Debug)]
pub struct Index {
    members: Vec<Member>,
    ready: Vec<AtomicU64>,
    /// The slots of endpoints of the pool that are not of this rank.
    away: HashSet<u32>,
    /// Whether the endpoints' own weights are all the same.
    equal: bool,
    /// When weights are computed again.
    due: AtomicU64,
    weights: ArcSwap<Vec<u16>>,
    sequence: AtomicU64,
}

impl Index {
    /// Weights for the stride from reported ones, of which 0 means none.
    fn scaled(&self, known: &[f64]) -> Vec<u16> {
        let count = known.iter().filter(|&&w| w > 0.0).count();
        if self.equal && count > 0 {
            return stride::scaled(known);
        }
        let mean = known.iter().sum::<f64>() / count as f64;
        let own = |(member, &known): (&Member, &f64)| {
            member.weight
                * if count == 0 {
                    1.0
                } else if known > 0.0 {
                    known
                } else {
                    mean
                }
        };
        let most = self.members.iter().fold(0.0f64, |most, m| most.max(m.weight));
        // Relative to the largest, so that no product is beyond what a float holds or nothing at all.
        let weights: Vec<f64> =
            self.members.iter().zip(known).map(|pair| (own(pair) / most).clamp(1e-290, 1e290)).collect();
        stride::scaled(&weights)
    }
}

impl Policy for ClientSideWeightedRoundRobin {
    type Index<M: Mode> = Index;
    const TIMED: bool = true;

    fn report_lifetime(&self) -> Option<Nanos> {
        Some(self.expiration)
    }

    fn rotates(&self) -> bool {
        true
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index], draws: &Draws) -> Index {
        let known: HashMap<u32, u64> = before
            .iter()
            .flat_map(|b| b.members.iter().zip(&b.ready))
            .map(|(member, ready)| (member.slot, ready.load(Ordering::Relaxed)))
            .collect();
        // Who is new has told nothing of before; who was here and could not be picked had no connection meanwhile.
        let back = |slot| before.iter().any(|b| b.away.contains(&slot));
        let ready = |m: &Member| known.get(&m.slot).copied().unwrap_or(if back(m.slot) { COMES_BACK } else { 0 });
        let here: HashSet<u32> = members.iter().map(|m| m.slot).collect();
        let away = view.slots.iter().copied().filter(|slot| !here.contains(slot)).collect();
        let heir = heir_of(before, members, |old| &old.members);
        // gRPC starts anywhere, so that many clients do not march in step. Without members nothing starts.
        let start = || if members.is_empty() { 0 } else { draws.next::<M>() };
        let sequence = heir.map_or_else(start, |old| old.sequence.load(Ordering::Relaxed));
        let index = Index {
            ready: members.iter().map(|m| AtomicU64::new(ready(m))).collect(),
            away,
            members: members.to_vec(),
            equal: members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight)),
            due: AtomicU64::new(0),
            weights: ArcSwap::from_pointee(Vec::new()),
            sequence: AtomicU64::new(sequence),
        };
        index.weights.store(index.scaled(&vec![0.0; members.len()]).into());
        index
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 50
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64) -> Option<Choice> {
        self.turn::<M>(index, cx, |_| true)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        self.turn::<M>(index, cx, allow)
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::{Endpoint, Health};
    use crate::core::pool::options::Options;
    use crate::core::pool::picker::Picker;
    use crate::core::pool::{Filter, Pool, Report};
    use crate::core::sync::Shared;
    use std::sync::Arc;

    type Wrr = ClientSideWeightedRoundRobin;

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

    fn at(seconds: f64) -> Nanos {
        Nanos::from_secs_f64(seconds)
    }

    fn tell(pool: &Pool<Shared, ()>, id: &str, [qps, utilization, eps]: [f64; 3], now: f64) {
        let report = Report { qps: Some(qps), utilization: Some(utilization), eps: Some(eps), ..Report::default() };
        pool.observe(id, report, at(now)).unwrap();
    }

    fn counts(picker: &Picker<Wrr, Shared, ()>, n: usize, now: f64) -> Vec<usize> {
        let state = picker.state();
        let got: Vec<u32> = (0..n).map(|_| picker.pick(&state, None, at(now)).unwrap().index).collect();
        let most = state.snapshot.view.slots.len() as u32;
        (0..most).map(|who| got.iter().filter(|&&g| g == who).count()).collect()
    }

    #[test]
    fn the_weight_is_that_of_the_proposal() {
        let rates = |qps, utilization, eps| Rates { qps, utilization, eps, at: Nanos(1), since: Nanos(1) };
        let policy = Wrr::default();
        assert!((policy.weight(rates(200.0, 0.5, 10.0)) - 200.0 / 0.55).abs() < 1e-9);
        assert_eq!(policy.weight(rates(200.0, 0.5, 0.0)), 400.0);
        assert_eq!(Wrr { error_penalty: 0.0, ..policy }.weight(rates(200.0, 0.5, 10.0)), 400.0);
    }

    #[test]
    fn turns_follow_reports_after_the_blackout_until_they_expire() {
        let pool = pool(&[1.0, 1.0, 1.0]);
        let picker = Picker::new(&pool, Wrr::default());
        assert_eq!(counts(&picker, 300, 0.0), [100, 100, 100]);
        for now in [1.0, 5.0, 10.9] {
            tell(&pool, "e0", [100.0, 1.0, 0.0], now);
            tell(&pool, "e1", [300.0, 1.0, 0.0], now);
        }
        assert_eq!(counts(&picker, 300, 10.95), [100, 100, 100], "blackout");
        // Who says nothing counts as the mean: 1 : 3 : 2.
        assert_eq!(counts(&picker, 600, 12.0), [100, 300, 200]);
        assert_eq!(counts(&picker, 600, 190.0), [100, 300, 200]);
        assert_eq!(counts(&picker, 300, 191.0), [100, 100, 100], "expired");
        // A report after that begins anew.
        tell(&pool, "e0", [100.0, 1.0, 0.0], 192.0);
        tell(&pool, "e1", [300.0, 1.0, 0.0], 192.0);
        assert_eq!(counts(&picker, 300, 195.0), [100, 100, 100]);
        assert_eq!(counts(&picker, 600, 202.0), [100, 300, 200]);
    }

    #[test]
    fn weights_are_computed_once_a_period_also_when_time_goes_backwards() {
        let pool = pool(&[1.0, 1.0]);
        let policy = Wrr { blackout: Nanos::ZERO, update_period: at(1.0), ..Wrr::default() };
        let picker = Picker::new(&pool, policy);
        assert_eq!(counts(&picker, 100, 100.0), [50, 50]);
        tell(&pool, "e0", [300.0, 1.0, 0.0], 100.0);
        tell(&pool, "e1", [100.0, 1.0, 0.0], 100.0);
        assert_eq!(counts(&picker, 100, 100.9), [50, 50]);
        assert_eq!(counts(&picker, 400, 101.0), [300, 100]);
        tell(&pool, "e1", [300.0, 1.0, 0.0], 101.0);
        assert_eq!(counts(&picker, 400, 50.0), [200, 200]);
    }

    #[test]
    fn a_report_without_rate_or_use_changes_nothing() {
        let pool = pool(&[1.0, 1.0]);
        let picker = Picker::new(&pool, Wrr { blackout: Nanos::ZERO, ..Wrr::default() });
        tell(&pool, "e0", [300.0, 1.0, 0.0], 1.0);
        tell(&pool, "e1", [100.0, 1.0, 0.0], 1.0);
        tell(&pool, "e1", [0.0, 1.0, 0.0], 2.0);
        tell(&pool, "e1", [900.0, 0.0, 0.0], 2.0);
        pool.observe("e1", Report { qps: Some(900.0), ..Report::default() }, at(2.0)).unwrap();
        assert_eq!(counts(&picker, 400, 3.0), [300, 100]);
    }

    #[test]
    fn who_comes_back_waits_out_the_blackout_again() {
        let pool = pool(&[1.0, 1.0]);
        let picker = Picker::new(&pool, Wrr::default());
        for now in [0.0, 10.0, 20.0] {
            tell(&pool, "e0", [300.0, 1.0, 0.0], now);
            tell(&pool, "e1", [100.0, 1.0, 0.0], now);
        }
        assert_eq!(counts(&picker, 400, 20.0), [300, 100]);
        pool.set_health("e1", Health::Unhealthy, Nanos::ZERO).unwrap();
        assert_eq!(counts(&picker, 10, 21.0), [10, 0]);
        pool.set_health("e1", Health::Healthy, Nanos::ZERO).unwrap();
        assert_eq!(counts(&picker, 100, 22.0), [50, 50]);
        tell(&pool, "e1", [100.0, 1.0, 0.0], 23.0);
        assert_eq!(counts(&picker, 100, 31.0), [50, 50]);
        tell(&pool, "e1", [100.0, 1.0, 0.0], 32.0);
        assert_eq!(counts(&picker, 400, 34.0), [300, 100]);
    }

    #[test]
    fn own_weights_multiply_and_extremes_do_not_break_it() {
        let both = pool(&[1.0, 3.0]);
        let picker = Picker::new(&both, Wrr { blackout: Nanos::ZERO, ..Wrr::default() });
        assert_eq!(counts(&picker, 400, 0.0), [100, 300]);
        tell(&both, "e0", [100.0, 1.0, 0.0], 1.0);
        tell(&both, "e1", [100.0, 0.5, 0.0], 1.0);
        assert_eq!(counts(&picker, 700, 2.0), [100, 600]);
        let wild = pool(&[1e15, 5e-324, 1.0]);
        let picker = Picker::new(&wild, Wrr { blackout: Nanos::ZERO, ..Wrr::default() });
        assert!(counts(&picker, 1000, 0.0)[0] > 900);
        tell(&wild, "e1", [1e12, 5e-324, 0.0], 1.0);
        tell(&wild, "e0", [5e-324, 1e12, 1e12], 1.0);
        assert_eq!(counts(&picker, 1000, 2.0).iter().sum::<usize>(), 1000);
        let none = pool(&[]);
        let picker = Picker::new(&none, Wrr::default());
        assert_eq!(picker.pick(&picker.state(), None, at(1.0)), None);
    }

    #[test]
    fn exclusion_and_a_rebuild_keep_the_turns() {
        let (a, b) = (pool(&[1.0; 4]), pool(&[1.0; 4]));
        let (one, other) = (Picker::new(&a, Wrr::default()), Picker::new(&b, Wrr::default()));
        let whom = |p: &Picker<Wrr, Shared, ()>| p.pick(&p.state(), None, at(1.0)).unwrap().index;
        for i in 0..20 {
            assert_eq!(whom(&one), whom(&other));
            if i == 10 {
                b.set_health("e3", Health::Degraded, Nanos::ZERO).unwrap();
                b.set_health("e3", Health::Healthy, Nanos::ZERO).unwrap();
            }
        }
        let filter = Filter { exclude: vec![0, 1, 2], subset: None };
        assert_eq!(one.acquire_from(&one.state(), None, 1024, at(1.0), filter).unwrap().choice.index, 3);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong = |policy: Wrr| policy.check().is_err();
        assert!(wrong(Wrr { expiration: Nanos::ZERO, ..Wrr::default() }));
        assert!(wrong(Wrr { update_period: Nanos(99_999_999), ..Wrr::default() }));
        assert!(wrong(Wrr { error_penalty: -0.1, ..Wrr::default() }));
        assert!(wrong(Wrr { error_penalty: f64::NAN, ..Wrr::default() }));
        assert!(!wrong(Wrr::default()));
    }
}
