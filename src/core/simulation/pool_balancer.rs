//! The product's own pickers as balancers: the same pool and policy code as in production, with virtual time.

use super::{Balancer, Grant, Outcome, ServerReport, ServerSpec, SimulationError};
use crate::core::endpoints::Endpoint;
use crate::core::endpoints::counters::{MAX_COST, UNITS};
use crate::core::error::ConfigError;
use crate::core::hash;
use crate::core::health::slow_start::SlowStart;
use crate::core::pickers::{Choice, Key, Policy, Prequal};
use crate::core::pool::{self, Options, Picker, Pool, State};
use crate::core::sync::Exclusive;
use crate::core::time::Nanos;
use std::sync::Arc;

/// A ticket is the slot in its low bits and the units of work above.
const SLOT_BITS: u32 = 20;

/// A picker on a pool of its own.
pub struct PoolBalancer<L: Policy> {
    // One thread at a time owns the balancer, so counters need no atomic instructions.
    pool: Arc<Pool<Exclusive, u32>>,
    picker: Arc<Picker<L, Exclusive, u32>>,
    state: Arc<State<L, Exclusive, u32>>,
    version: u64,
    names: Vec<Option<Arc<str>>>,
    /// What the pool holds or will hold after the next flush, in its order.
    endpoints: Vec<Endpoint<u32>>,
    /// How many at the end of `endpoints` the pool does not hold yet: servers that come together are added at once.
    pending: usize,
    /// Where the pool's chance starts, and how its endpoints get their share.
    seed: u64,
    slow_start: Option<SlowStart>,
    /// Slots by server, of the state with this version.
    slots: Vec<Option<u32>>,
    slots_of: u64,
}

impl<L: Policy> std::fmt::Debug for PoolBalancer<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBalancer").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl<L: Policy> PoolBalancer<L> {
    /// The policy on an empty pool whose chance starts at `seed`.
    pub fn new(policy: L, seed: u64) -> Result<PoolBalancer<L>, ConfigError> {
        PoolBalancer::with(policy, seed, None)
    }

    /// The same, with a pool in which servers that join later get their share by and by.
    pub fn with(policy: L, seed: u64, slow_start: Option<SlowStart>) -> Result<PoolBalancer<L>, ConfigError> {
        let slow_start = slow_start.map(SlowStart::check).transpose()?;
        let pool = Pool::new(Vec::new(), Options { seed, slow_start, ..Options::default() })?;
        let picker = Picker::new(&pool, policy);
        let version = picker.version();
        let state = picker.state();
        Ok(PoolBalancer {
            pool,
            picker,
            state,
            version,
            names: Vec::new(),
            endpoints: Vec::new(),
            pending: 0,
            seed,
            slow_start,
            slots: Vec::new(),
            slots_of: u64::MAX,
        })
    }

    /// The key as the policy takes it. One that takes no large number takes addresses: a client's is drawn from its key.
    fn hashed(&self, key: u64) -> Option<u64> {
        let policy = self.picker.policy();
        match policy.whole_key(u64::MAX) {
            Some(_) => policy.whole_key(key),
            // Keys count up from zero, and nginx hashes only the leading bytes of an address.
            None => policy.whole_key(hash::of_u64(key) & u64::from(u32::MAX)),
        }
    }

    /// What picks go by now.
    pub(super) fn state(&self) -> &State<L, Exclusive, u32> {
        &self.state
    }

    /// The policy.
    pub(super) fn policy(&self) -> &L {
        self.picker.policy()
    }

    /// Catches up with changes of the fleet and with time.
    fn catch_up(&mut self, now: Nanos) -> Result<(), SimulationError> {
        if self.pending > 0 {
            self.flush(now)?;
        }
        if now >= self.pool.next_change() {
            self.settled(now);
        }
        Ok(())
    }

    /// Takes a request with this key, or none.
    #[inline]
    pub(super) fn take(
        &mut self,
        key: Option<Key<'_>>,
        cost: f64,
        now: Nanos,
    ) -> Result<Option<(Grant, Choice)>, SimulationError> {
        self.catch_up(now)?;
        // What a caller's `cost` becomes in a lease, cut to what a ticket holds.
        let units = ((cost.clamp(0.0, MAX_COST) * UNITS).round() as u64).min((1 << (64 - SLOT_BITS)) - 1);
        let Some(taken) = self.picker.acquire(&self.state, key, units, now) else { return Ok(None) };
        let choice = taken.choice;
        let server = self.state.snapshot.payload.get(choice.index as usize).copied();
        let server = server.ok_or(SimulationError::Broken("an endpoint"))?;
        if choice.slot >= 1 << SLOT_BITS {
            return Err(SimulationError::Broken("a slot"));
        }
        let ticket = (units << SLOT_BITS) | u64::from(choice.slot);
        Ok(Some((Grant { server, ticket }, choice)))
    }

    /// Tells the pool what a server says of itself.
    pub(super) fn observe_report(
        &mut self,
        server: u32,
        said: pool::Report,
        now: Nanos,
    ) -> Result<(), SimulationError> {
        if self.pending > 0 {
            self.flush(now)?;
        }
        self.pool.observe(self.name(server)?, said, now).map_err(|_| SimulationError::Broken("a report"))?;
        self.refresh();
        Ok(())
    }

    /// A server's id in the pool; `None` when it is not there.
    pub(super) fn id(&self, server: u32) -> Option<&Arc<str>> {
        self.names.get(server as usize).and_then(Option::as_ref)
    }

    fn name(&self, server: u32) -> Result<&str, SimulationError> {
        self.id(server).map(|id| &**id).ok_or(SimulationError::Broken("a server's name"))
    }

    #[cold]
    fn flush(&mut self, now: Nanos) -> Result<(), SimulationError> {
        if self.slow_start.is_some() && self.pending == self.endpoints.len() && self.pool.stats(now).is_empty() {
            // The servers that a run begins with are warm, as those that a pool is made of.
            let options = Options { seed: self.seed, slow_start: self.slow_start, ..Options::default() };
            self.pool = Pool::new(self.endpoints.clone(), options)?;
            self.picker = Picker::new(&self.pool, self.picker.policy().clone());
            self.pending = 0;
            self.version = self.picker.version();
            self.state = self.picker.state();
            self.settled(now);
            return Ok(());
        }
        match (self.pending, self.endpoints.last()) {
            (1, Some(endpoint)) => self.pool.add(endpoint.clone(), now)?,
            _ => self.pool.update(self.endpoints.clone(), now)?,
        }
        self.pending = 0;
        self.settled(now);
        Ok(())
    }

    /// After a change: builds what was put off, and reads what was published.
    fn settled(&mut self, now: Nanos) {
        self.pool.advance(now);
        self.refresh();
    }

    /// The slot of a server.
    fn slot(&mut self, server: u32) -> Option<u32> {
        if self.slots_of != self.version {
            self.slots.clear();
            for (&server, &slot) in self.state.snapshot.payload.iter().zip(&self.state.snapshot.view.slots) {
                let place = server as usize;
                if self.slots.len() <= place {
                    self.slots.resize(place + 1, None);
                }
                if let Some(cell) = self.slots.get_mut(place) {
                    *cell = Some(slot);
                }
            }
            self.slots_of = self.version;
        }
        self.slots.get(server as usize).copied().flatten()
    }

    fn refresh(&mut self) {
        let version = self.picker.version();
        if version != self.version {
            self.state = self.picker.state();
            self.version = version;
        }
    }
}

impl<L: Policy> Balancer for PoolBalancer<L> {
    fn add(&mut self, server: u32, spec: &ServerSpec, _now: Nanos) -> Result<(), SimulationError> {
        let id: Arc<str> = format!("{}-{server}", spec.kind).into();
        self.endpoints.push(Endpoint {
            id: id.clone(),
            hash_key: id.clone(),
            weight: spec.weight,
            backup: false,
            priority: 0,
            zone: "".into(),
            max_inflight: spec.max_inflight.unwrap_or(u32::MAX),
            passive: None,
            payload: server,
        });
        self.pending += 1;
        let place = server as usize;
        if self.names.len() <= place {
            self.names.resize(place + 1, None);
        }
        if let Some(name) = self.names.get_mut(place) {
            *name = Some(id);
        }
        Ok(())
    }

    fn drain(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        if self.pending > 0 {
            self.flush(now)?;
        }
        self.pool.drain(self.name(server)?, Nanos::MAX)?;
        self.settled(now);
        Ok(())
    }

    fn remove(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        if self.pending > 0 {
            self.flush(now)?;
        }
        self.pool.remove(self.name(server)?)?;
        self.endpoints.retain(|endpoint| endpoint.payload != server);
        if let Some(name) = self.names.get_mut(server as usize) {
            *name = None;
        }
        self.settled(now);
        Ok(())
    }

    #[inline]
    fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError> {
        // A policy without keys does not read it.
        let bytes = key.unwrap_or_default().to_le_bytes();
        let key = if L::KEYED { key.and_then(|key| self.hashed(key)) } else { None };
        let key = key.map(|hash| Key { hash, bytes: &bytes });
        Ok(self.take(key, cost, now)?.map(|(grant, _)| grant))
    }

    #[inline]
    fn release(&mut self, grant: Grant, latency: Nanos, outcome: Outcome, now: Nanos) -> Result<(), SimulationError> {
        let slot = grant.ticket as u32 & ((1 << SLOT_BITS) - 1);
        let cell = self.state.snapshot.view.block.cell(slot).ok_or(SimulationError::Broken("a slot"))?;
        let (outcome, learns) = match outcome {
            Outcome::Success => (pool::Outcome::Success, L::TIMED),
            Outcome::Rejected => (pool::Outcome::Rejected, L::TIMED),
            Outcome::TimedOut => (pool::Outcome::Timeout, L::TIMED),
            Outcome::Failed => (pool::Outcome::Failure, L::TIMED),
            Outcome::Cancelled => (pool::Outcome::Cancelled, false),
        };
        let latency = learns.then(|| latency.0 as f64 / 1e9);
        self.pool.settle_on(cell, grant.ticket >> SLOT_BITS, outcome, latency, None, now);
        Ok(())
    }

    fn probes(&self) -> f64 {
        let policy: &dyn std::any::Any = self.picker.policy();
        policy.downcast_ref::<Prequal>().map_or(0.0, |policy| policy.probe_rate)
    }

    fn report(&mut self, server: u32, report: &ServerReport, probe: bool, now: Nanos) -> Result<(), SimulationError> {
        let said = pool::Report {
            inflight: Some(report.in_flight),
            latency: report.latency,
            utilization: (!probe).then_some(report.utilization),
            qps: (!probe).then_some(report.qps),
            ..pool::Report::default()
        };
        self.observe_report(server, said, now)
    }

    fn observes(&self) -> bool {
        !L::TIMED
    }

    fn observe(&mut self, server: u32, requests: u32, now: Nanos) -> Result<(), SimulationError> {
        if self.pending > 0 {
            self.flush(now)?;
        }
        let slot = self.slot(server).ok_or(SimulationError::Broken("a slot"))?;
        let cell = self.state.snapshot.view.block.cell(slot).ok_or(SimulationError::Broken("a slot"))?;
        cell.correct::<Exclusive>(Some(u64::from(requests) * UNITS as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hash::KeyHash;
    use crate::core::pickers::hashing::haproxy::{Keys, Lookup};
    use crate::core::pickers::hashing::modulo::NginxHash;
    use crate::core::pickers::hashing::nginx_ring::NginxRing;
    use crate::core::pickers::{
        ClientSideWeightedRoundRobin, Haproxy, IpHash, Jump, LeastRequest, LeastTime, Maglev, Modulo, PeakEwma,
        Prequal, Rendezvous, Ring, RingHash, RoundRobin,
    };

    fn spec(weight: f64, max_inflight: Option<u32>) -> ServerSpec {
        ServerSpec { kind: "a".into(), weight, concurrency: 1, max_inflight, speed: 1.0 }
    }

    /// Grows, picks, drains and removes; what was drained is not chosen, and every count returns to zero.
    fn live<L: Policy>(policy: L) {
        let mut balancer = PoolBalancer::new(policy, 3).unwrap();
        assert_eq!(balancer.acquire(Some(1), 1.0, Nanos(0)), Ok(None));
        for server in 0..40 {
            balancer.add(server, &spec(1.0, None), Nanos(1)).unwrap();
        }
        let grants: Vec<Grant> = (0..400).map(|k| balancer.acquire(Some(k), 2.5, Nanos(2)).unwrap().unwrap()).collect();
        assert!((0..40).filter(|s| grants.iter().any(|g| g.server == *s)).count() > 20);
        for server in 0..30 {
            balancer.drain(server, Nanos(3)).unwrap();
        }
        for k in 0..400 {
            let grant = balancer.acquire(Some(k), 1.0, Nanos(4)).unwrap().unwrap();
            assert!(grant.server >= 30, "server {} takes no work", grant.server);
            balancer.release(grant, Nanos(1_000_000), Outcome::Success, Nanos(5)).unwrap();
        }
        for grant in grants {
            balancer.release(grant, Nanos(1_000_000), Outcome::TimedOut, Nanos(6)).unwrap();
        }
        let stats = balancer.pool.stats(Nanos(7));
        assert!(stats.iter().all(|s| s.inflight == 0 && s.load == 0.0));
        for server in 0..40 {
            balancer.remove(server, Nanos(8)).unwrap();
        }
        assert_eq!(balancer.acquire(Some(1), 1.0, Nanos(9)), Ok(None));
    }

    #[test]
    fn every_picker_lives_through_a_fleet_that_changes() {
        live(RoundRobin::default());
        live(LeastRequest::default());
        live(PeakEwma);
        live(LeastTime);
        live(Prequal::default());
        live(ClientSideWeightedRoundRobin::default());
        live(RingHash::default());
        live(Maglev::default());
        live(Rendezvous::default());
        live(IpHash);
        live(Jump::Jump);
        live(Jump::JumpBack);
        live(Modulo::Nginx(NginxHash));
        live(Ring::Nginx(NginxRing));
        let ring = Lookup::Ring { bounded_load: None };
        for lookup in [ring, Lookup::Map] {
            live(Haproxy { keys: Keys::Bytes(KeyHash::Sdbm), avalanche: true, lookup });
            live(Haproxy { keys: Keys::Source, avalanche: true, lookup });
        }
    }

    #[test]
    fn limits_and_weights_are_told() {
        let mut balancer = PoolBalancer::new(RoundRobin::default(), 1).unwrap();
        balancer.add(0, &spec(3.0, Some(3)), Nanos(0)).unwrap();
        balancer.add(1, &spec(1.0, Some(3)), Nanos(0)).unwrap();
        let mut took = [0; 2];
        for _ in 0..4 {
            took[balancer.acquire(None, 1.0, Nanos(0)).unwrap().unwrap().server as usize] += 1;
        }
        assert_eq!(took, [3, 1]);
        for _ in 0..2 {
            assert_eq!(balancer.acquire(None, 1.0, Nanos(0)).unwrap().unwrap().server, 1);
        }
        assert_eq!(balancer.acquire(None, 1.0, Nanos(0)), Ok(None));
    }
}
