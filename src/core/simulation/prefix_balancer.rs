//! The picker for language models as a balancer: the policy, index and bookkeeping of production, told what a server of
//! such models and the host around the picker would tell.

use super::{Balancer, CacheChange, Grant, Hears, Outcome, PoolBalancer, ServerReport, ServerSpec, SimulationError};
use crate::core::endpoints::Work;
use crate::core::endpoints::counters::UNITS;
use crate::core::error::ConfigError;
use crate::core::health::slow_start::SlowStart;
use crate::core::llm::{PrefixAware, Prompt, Ticket, Tier};
use crate::core::pool;
use crate::core::time::Nanos;
use std::collections::VecDeque;

/// `PrefixAware` on a pool and an index of its own.
#[derive(Debug)]
pub struct PrefixBalancer {
    inner: PoolBalancer<PrefixAware>,
    hears: Hears,
    /// How late it hears of caches.
    delay: Nanos,
    /// What it has yet to hear, in order.
    late: VecDeque<(Nanos, u32, CacheChange)>,
    /// What is in flight, by ticket.
    flights: Vec<Option<(Grant, Ticket)>>,
    free: Vec<u64>,
}

impl PrefixBalancer {
    /// The policy on an empty pool whose chance starts at `seed`. Its index must be no other's. What it hears of caches
    /// comes `delay` after the fact.
    ///
    /// # Errors
    /// [`ConfigError`] for a slow start that cannot be.
    pub fn new(
        policy: PrefixAware,
        seed: u64,
        slow_start: Option<SlowStart>,
        hears: Hears,
        delay: Nanos,
    ) -> Result<PrefixBalancer, ConfigError> {
        let inner = PoolBalancer::with(policy, seed, slow_start)?;
        Ok(PrefixBalancer { inner, hears, delay, late: VecDeque::new(), flights: Vec::new(), free: Vec::new() })
    }

    /// Hears what is due.
    fn listen(&mut self, now: Nanos) {
        while self.late.front().is_some_and(|(at, _, _)| *at <= now) {
            let Some((_, server, change)) = self.late.pop_front() else { break };
            self.note(server, &change, now);
        }
    }

    fn note(&self, server: u32, change: &CacheChange, now: Nanos) {
        // A server that has gone has no cache to speak of.
        let Some(id) = self.inner.id(server) else { return };
        let mut index = self.inner.policy().shared().index();
        match change {
            CacheChange::Stored(blocks) => index.stored(id, blocks, Tier::Gpu, now),
            CacheChange::Removed(blocks) => index.removed(id, blocks, None, now),
            CacheChange::Cleared => index.cleared(id, None, now),
        }
    }

    fn ticket(&self, grant: Grant) -> Result<&Ticket, SimulationError> {
        let flight = self.flights.get(grant.ticket as usize).and_then(Option::as_ref);
        flight.map(|(_, ticket)| ticket).ok_or(SimulationError::Broken("a prompt's ticket"))
    }
}

impl Balancer for PrefixBalancer {
    fn add(&mut self, server: u32, spec: &ServerSpec, now: Nanos) -> Result<(), SimulationError> {
        self.inner.add(server, spec, now)
    }

    fn drain(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.inner.drain(server, now)
    }

    fn remove(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.inner.remove(server, now)
    }

    fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError> {
        self.acquire_for(Prompt::default(), key, cost, now)
    }

    fn hears(&self) -> Option<Hears> {
        Some(self.hears)
    }

    fn acquire_for(
        &mut self,
        prompt: Prompt<'_>,
        _key: Option<u64>,
        _cost: f64,
        now: Nanos,
    ) -> Result<Option<Grant>, SimulationError> {
        self.listen(now);
        let Some((grant, choice)) = self.inner.take(Some(prompt.key()), prompt.tokens as f64, now)? else {
            return Ok(None);
        };
        let view = &self.inner.state().snapshot.view;
        let ticket = self.inner.policy().charge(view, choice, prompt, now);
        let ticket = ticket.ok_or(SimulationError::Broken("an endpoint"))?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() as u64 - 1
        });
        if let Some(cell) = self.flights.get_mut(at as usize) {
            *cell = Some((grant, ticket));
        }
        Ok(Some(Grant { server: grant.server, ticket: at }))
    }

    fn first_token(&mut self, grant: Grant, _now: Nanos) -> Result<(), SimulationError> {
        self.ticket(grant).map(Work::first_token)
    }

    fn grew(&mut self, grant: Grant, tokens: u32, _now: Nanos) -> Result<(), SimulationError> {
        self.ticket(grant)?.add(i64::from(tokens) * UNITS as i64);
        Ok(())
    }

    fn cached(&mut self, server: u32, change: &CacheChange, now: Nanos) -> Result<(), SimulationError> {
        if self.delay == Nanos::ZERO {
            self.note(server, change, now);
        } else {
            self.late.push_back((now.plus(self.delay), server, change.clone()));
        }
        Ok(())
    }

    fn release(&mut self, grant: Grant, latency: Nanos, outcome: Outcome, now: Nanos) -> Result<(), SimulationError> {
        let flight = self.flights.get_mut(grant.ticket as usize).and_then(Option::take);
        let (inner, ticket) = flight.ok_or(SimulationError::Broken("a prompt's ticket"))?;
        self.free.push(grant.ticket);
        // The work goes first, as in production: a lease is settled when its work is given back.
        drop(ticket);
        self.inner.release(inner, latency, outcome, now)
    }

    fn report(&mut self, server: u32, report: &ServerReport, probe: bool, now: Nanos) -> Result<(), SimulationError> {
        let Some((waiting, kv_cache)) = report.engine else { return self.inner.report(server, report, probe, now) };
        let said = pool::Report {
            inflight: Some((report.in_flight - waiting).max(0.0)),
            queue: Some(waiting),
            kv_cache: Some(kv_cache),
            latency: report.latency,
            utilization: Some(report.utilization),
            qps: Some(report.qps),
            ..pool::Report::default()
        };
        self.inner.observe_report(server, said, now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::core::llm::policy::Shared;
    use crate::core::llm::{Options, Score, Stale};

    fn balancer(servers: u32, delay: u64, slow_start: Option<SlowStart>) -> PrefixBalancer {
        let shared = Shared::new(16, 100, Nanos(50)).unwrap();
        let score = Score::Dynamo { prefill_scale: 1.0, credit_decay: 0.0, request_weight: 0.0 };
        let (credits, temperature, bounded_load) = ([1.0, 0.75, 0.25], 0.0, None);
        let (max_report_age, stale) = (Nanos::MAX, Stale::Own);
        let options = Options { score, credits, temperature, bounded_load, max_report_age, stale };
        let policy = PrefixAware::new(&shared, options).unwrap();
        let mut one = PrefixBalancer::new(policy, 1, slow_start, Hears::default(), Nanos(delay)).unwrap();
        let spec = ServerSpec { kind: "a".into(), weight: 1.0, concurrency: 1, max_inflight: None, speed: 1.0 };
        (0..servers).for_each(|n| one.add(n, &spec, Nanos(0)).unwrap());
        one
    }

    fn take(one: &mut PrefixBalancer, blocks: &[u64], now: u64) -> Grant {
        let prompt = Prompt { blocks, tokens: blocks.len() as u64 * 16 };
        one.acquire_for(prompt, None, 1.0, Nanos(now)).unwrap().unwrap()
    }

    fn back(one: &mut PrefixBalancer, grant: Grant, now: u64) {
        one.release(grant, Nanos(1), Outcome::Success, Nanos(now)).unwrap();
    }

    /// Requests, tokens to prefill and blocks of each server.
    fn loads(one: &PrefixBalancer, now: u64) -> Vec<(f64, f64, f64)> {
        let parts = one.inner.policy().parts(&one.inner.state().snapshot.view, Prompt::default(), Nanos(now));
        parts.iter().map(|p| p.candidate.seen).map(|s| (s.requests, s.prefill, s.decode)).collect()
    }

    #[test]
    fn work_is_charged_until_first_token_growth_and_end() {
        let mut one = balancer(1, 0, None);
        assert_eq!(one.acquire(None, 1.0, Nanos(0)).unwrap().unwrap().server, 0);
        let grant = take(&mut one, &[1, 2], 0);
        assert_eq!(loads(&one, 0), [(2.0, 32.0, 2.0)]);
        one.first_token(grant, Nanos(1)).unwrap();
        one.grew(grant, 16, Nanos(1)).unwrap();
        assert_eq!(loads(&one, 1), [(2.0, 0.0, 3.0)]);
        back(&mut one, grant, 2);
        assert_eq!(loads(&one, 2), [(1.0, 0.0, 0.0)]);
        assert!(one.release(grant, Nanos(0), Outcome::Success, Nanos(2)).is_err(), "once is enough");
        assert!(one.first_token(grant, Nanos(2)).is_err());
        assert_eq!(
            one.inner
                .state()
                .snapshot
                .view
                .block
                .cell(0)
                .map(|c| c.inflight.load(std::sync::atomic::Ordering::Relaxed)),
            Some(1)
        );
    }

    #[test]
    fn it_goes_to_the_cache_by_its_own_picks_for_a_while() {
        let mut one = balancer(4, 0, None);
        let first = take(&mut one, &[1, 2, 3], 0);
        back(&mut one, first, 1);
        for now in 2..40 {
            let again = take(&mut one, &[1, 2, 3, 4 + now], now);
            assert_eq!(again.server, first.server);
            back(&mut one, again, now);
        }
        let elsewhere = (200..300).map(|now| {
            let grant = take(&mut one, &[1, 2, 3], now * 100);
            back(&mut one, grant, now * 100);
            grant.server
        });
        assert!(elsewhere.into_iter().any(|server| server != first.server), "what was believed has ended");
    }

    #[test]
    fn events_come_when_they_are_due_and_in_order() {
        let mut one = balancer(4, 10, None);
        take(&mut one, &[9], 0);
        one.cached(3, &CacheChange::Stored(vec![1, 2, 3]), Nanos(100)).unwrap();
        one.cached(3, &CacheChange::Removed(vec![2]), Nanos(105)).unwrap();
        one.cached(3, &CacheChange::Cleared, Nanos(120)).unwrap();
        let held = |one: &PrefixBalancer| {
            let mut index = one.inner.policy().shared().index();
            let found = index.matches(&[1, 2, 3], Nanos(0));
            found.into_iter().map(|(id, held)| (id.to_string(), held.gpu)).collect::<Vec<_>>()
        };
        for (now, expected) in
            [(109, None), (110, Some(3)), (114, Some(3)), (115, Some(1)), (129, Some(1)), (130, None)]
        {
            one.listen(Nanos(now));
            assert_eq!(held(&one), expected.map(|n| ("a-3".to_string(), n)).into_iter().collect::<Vec<_>>(), "{now}");
        }
        one.remove(3, Nanos(140)).unwrap();
        one.cached(3, &CacheChange::Stored(vec![1]), Nanos(140)).unwrap();
        one.listen(Nanos(200));
        assert!(held(&one).is_empty(), "it has gone");
    }

    #[test]
    fn reports_count_also_in_a_pool_with_slow_start() {
        let slow = SlowStart {
            window: Nanos(10),
            ramp: crate::core::health::slow_start::Ramp::Envoy { aggression: 1.0, min_weight: 0.1 },
        };
        for slow_start in [None, Some(slow)] {
            let mut one = balancer(2, 0, slow_start);
            let grant = take(&mut one, &[1], 0);
            back(&mut one, grant, 0);
            let report =
                ServerReport { in_flight: 7.0, latency: None, utilization: 0.5, qps: 1.0, engine: Some((2.0, 0.25)) };
            one.report(1, &report, false, Nanos(1)).unwrap();
            let mut seen = loads(&one, 2);
            assert_eq!(seen.pop(), Some((7.0, 2.0 * 16.0, 25.0)), "{slow_start:?}");
            assert!((0..5).all(|n| {
                let g = take(&mut one, &[50 + n], 2);
                back(&mut one, g, 2);
                g.server == 0
            }));
        }
    }
}
