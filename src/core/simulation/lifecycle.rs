//! The fleet's part of the engine: decisions, launches, cold starts, draining.

use super::engine::{Control, Engine, Totals};
use super::fleet::price;
use super::server::{Life, Server};
use super::{FleetView, SimulationError};
use crate::core::time::Nanos;
use std::collections::VecDeque;

impl Engine {
    pub(super) fn decide(&mut self, k: u64) -> Result<(), SimulationError> {
        self.schedule_decision(k + 1);
        let fleet = &self.config.fleet;
        if self.decision_at(k) <= fleet.metric_delay.0 {
            // No metric has arrived yet.
            return Ok(());
        }
        let early = self.decision_at(k) <= fleet.metric_delay.0.saturating_add(fleet.metric_period.0);
        let close = self.closed.pop_front().ok_or(SimulationError::Broken("a metric period"))?;
        let open = if early { Some(Totals::default()) } else { self.opened.pop_front() };
        let open = open.ok_or(SimulationError::Broken("a metric period"))?;
        let span = close.at.saturating_sub(open.at).max(1) as f64;
        let servers = (close.ready - open.ready) as f64 / span;
        let slots = (close.slots - open.slots) as f64;
        let (busy, in_flight) = ((close.busy - open.busy) as f64, (close.in_system - open.in_system) as f64 / span);
        let view = FleetView {
            as_of: Nanos(close.at),
            desired: self.desired,
            ready: self.ready,
            warming: self.warming,
            draining: self.draining,
            utilization: if slots > 0.0 { busy / slots } else { 0.0 },
            in_flight,
            queue_per_server: if servers > 0.0 { (in_flight - busy / span).max(0.0) / servers } else { 0.0 },
            arrivals_per_s: (close.arrivals - open.arrivals) as f64 * 1e9 / span,
            servers,
        };
        let (low, high) = (fleet.min, fleet.max);
        let Some(scaler) = &mut self.scaler else { return Ok(()) };
        self.decisions += 1;
        if let Some(wanted) = scaler.decide(Nanos(self.now), &view)? {
            self.desired = wanted.clamp(low, high);
        }
        self.match_desired()
    }

    fn match_desired(&mut self) -> Result<(), SimulationError> {
        while self.ready + self.warming < self.desired {
            if !self.launch(false)? {
                break;
            }
        }
        while self.ready + self.warming > self.desired {
            self.retire()?;
        }
        Ok(())
    }

    /// Starts a server; false when every type is at its maximum.
    pub(super) fn launch(&mut self, at_once: bool) -> Result<bool, SimulationError> {
        self.tally();
        let Some(kind) = self.config.fleet.next_type(&self.counts) else { return Ok(false) };
        let Some(of) = self.config.fleet.types.get(kind as usize) else { return Ok(false) };
        let id = u32::try_from(self.servers.len()).map_err(|_| SimulationError::Broken("the number of servers"))?;
        self.servers.push(Server {
            kind,
            life: Life::Warming,
            pace: 1e9 / of.speed,
            slots: of.concurrency,
            busy: 0,
            queue_limit: self.config.fleet.queue_limit.unwrap_or(u32::MAX),
            queue: VecDeque::new(),
            launched: self.now,
            held: 0,
        });
        self.warming += 1;
        for counter in [&mut self.counts, &mut self.launched] {
            if let Some(n) = counter.get_mut(kind as usize) {
                *n += 1;
            }
        }
        self.peak = self.peak.max(self.paid());
        let ready_at = self.now.saturating_add(self.config.fleet.cold_start.0);
        if at_once || ready_at == self.now {
            self.make_ready(id)?;
        } else {
            self.schedule(ready_at, Control::Ready(id));
        }
        Ok(true)
    }

    pub(super) fn make_ready(&mut self, id: u32) -> Result<(), SimulationError> {
        self.tally();
        let Some(server) = self.servers.get_mut(id as usize) else { return Ok(()) };
        if server.life != Life::Warming {
            return Ok(());
        }
        server.life = Life::Ready;
        self.warming -= 1;
        self.ready += 1;
        self.slots += server.slots;
        if self.config.detail.is_some() {
            self.woken.push(id);
        }
        let spec = self.specs.get(server.kind as usize).ok_or(SimulationError::Broken("a server type"))?;
        self.balancer.add(id, spec, Nanos(self.now))
    }

    /// Takes one server out: a warming one, the newest first; else the ready one with the least to finish, the newest first.
    fn retire(&mut self) -> Result<(), SimulationError> {
        self.tally();
        let warming = self.servers.iter().rposition(|s| s.life == Life::Warming);
        let ready = || {
            let live = self.servers.iter().enumerate().rev().filter(|(_, s)| s.life == Life::Ready);
            live.min_by_key(|(_, s)| s.in_flight()).map(|(i, _)| i)
        };
        let Some(i) = warming.or_else(ready) else { return Err(SimulationError::Broken("the number of servers")) };
        let id = u32::try_from(i).map_err(|_| SimulationError::Broken("the number of servers"))?;
        let Some(server) = self.servers.get_mut(i) else { return Ok(()) };
        if server.life == Life::Warming {
            self.warming -= 1;
            return self.terminate(id);
        }
        server.life = Life::Draining;
        self.ready -= 1;
        self.draining += 1;
        self.balancer.drain(id, Nanos(self.now))?;
        self.leave_if_drained(id)
    }

    pub(super) fn leave_if_drained(&mut self, id: u32) -> Result<(), SimulationError> {
        let Some(server) = self.servers.get(id as usize) else { return Ok(()) };
        if server.life != Life::Draining || server.in_flight() > 0 {
            return Ok(());
        }
        let slots = server.slots;
        self.tally();
        self.draining -= 1;
        self.slots -= slots;
        self.balancer.remove(id, Nanos(self.now))?;
        self.terminate(id)
    }

    /// Ends a server's life and bill.
    fn terminate(&mut self, id: u32) -> Result<(), SimulationError> {
        let server = self.servers.get_mut(id as usize).ok_or(SimulationError::Broken("a server"))?;
        server.life = Life::Gone;
        if let Some(n) = self.counts.get_mut(server.kind as usize) {
            *n -= 1;
        }
        if self.horizon.is_none()
            && let Some(kind) = self.config.fleet.types.get(server.kind as usize)
        {
            self.cost += price(kind, server.launched, self.now);
        }
        Ok(())
    }
}
