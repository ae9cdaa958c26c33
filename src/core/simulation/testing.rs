//! Small balancers and scalers for tests and benches of the engine. They are not the product's pickers.

use super::{Balancer, FleetView, Grant, Outcome, Scaler, ServerSpec, SimulationError};
use crate::core::rng::Rng;
use crate::core::time::Nanos;

/// Which rule a [`TestBalancer`] follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any server with equal chance.
    Random,
    /// One server after another.
    RoundRobin,
    /// The less loaded of two different servers; the first drawn at ties.
    PowerOfTwo,
    /// The server with the fewest requests, the first at ties.
    Least,
}

/// A balancer that ignores weights, keys and limits.
#[derive(Clone, Debug)]
pub struct TestBalancer {
    rule: Rule,
    rng: Rng,
    servers: Vec<u32>,
    load: Vec<u32>,
    next: usize,
}

impl TestBalancer {
    /// A balancer without servers.
    #[must_use]
    pub fn new(rule: Rule, seed: u64) -> TestBalancer {
        TestBalancer { rule, rng: Rng::new(seed), servers: Vec::new(), load: Vec::new(), next: 0 }
    }

    fn load_of(&self, server: u32) -> u32 {
        self.load.get(server as usize).copied().unwrap_or(u32::MAX)
    }

    fn choose(&mut self) -> Option<u32> {
        let n = self.servers.len();
        if n == 0 {
            return None;
        }
        let count = n as u32;
        let at = match self.rule {
            Rule::Random => self.rng.below(count) as usize,
            Rule::RoundRobin => {
                self.next = if self.next + 1 < n { self.next + 1 } else { 0 };
                self.next
            }
            Rule::PowerOfTwo if n > 1 => {
                let a = self.rng.below(count);
                let b = self.rng.below(count - 1);
                let b = b + u32::from(b >= a);
                let (x, y) = (self.servers.get(a as usize).copied()?, self.servers.get(b as usize).copied()?);
                return Some(if self.load_of(y) < self.load_of(x) { y } else { x });
            }
            Rule::PowerOfTwo => 0,
            Rule::Least => return self.servers.iter().copied().min_by_key(|&s| self.load_of(s)),
        };
        self.servers.get(at).copied()
    }
}

impl Balancer for TestBalancer {
    fn add(&mut self, server: u32, _spec: &ServerSpec, _now: Nanos) -> Result<(), SimulationError> {
        let need = server as usize + 1;
        if self.load.len() < need {
            self.load.resize(need, 0);
        }
        self.servers.push(server);
        Ok(())
    }

    fn drain(&mut self, server: u32, _now: Nanos) -> Result<(), SimulationError> {
        self.servers.retain(|&s| s != server);
        Ok(())
    }

    fn remove(&mut self, server: u32, _now: Nanos) -> Result<(), SimulationError> {
        self.servers.retain(|&s| s != server);
        if self.load_of(server) == 0 {
            Ok(())
        } else {
            Err(SimulationError::Balancer(format!("server {server} is gone with work")))
        }
    }

    fn acquire(&mut self, _key: Option<u64>, _cost: f64, _now: Nanos) -> Result<Option<Grant>, SimulationError> {
        let Some(server) = self.choose() else { return Ok(None) };
        if let Some(load) = self.load.get_mut(server as usize) {
            *load += 1;
        }
        Ok(Some(Grant { server, ticket: 0 }))
    }

    fn release(&mut self, grant: Grant, _: Nanos, _: Outcome, _: Nanos) -> Result<(), SimulationError> {
        match self.load.get_mut(grant.server as usize) {
            Some(load) if *load > 0 => *load -= 1,
            _ => return Err(SimulationError::Balancer(format!("server {} released too often", grant.server))),
        }
        Ok(())
    }
}

/// Wants as many servers as keep the utilization at a target.
#[derive(Clone, Copy, Debug)]
pub struct TestScaler {
    /// The utilization to keep, above 0.
    pub target: f64,
}

impl Scaler for TestScaler {
    fn decide(&mut self, _now: Nanos, view: &FleetView) -> Result<Option<u32>, SimulationError> {
        Ok(Some((view.servers * view.utilization / self.target).ceil() as u32))
    }
}
