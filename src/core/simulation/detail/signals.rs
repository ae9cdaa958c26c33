//! What servers say of themselves: reports to every balancer now and then, and answers to probes.

use super::super::engine::Engine;
use super::super::server::Life;
use super::super::{ServerReport, SimulationError};
use super::AttemptId;
use super::flow::{Detail, Done};
use super::table::{Place, What, Work};
use crate::core::time::Nanos;

/// Answers that a server remembers, and how many of them an estimate is made of.
const REMEMBERED: usize = 32;
const NEAREST: usize = 8;
/// Draws for a server that can be probed.
const DRAWS: u32 = 20;

impl Place {
    /// Adds up busy slots until now. Before they change.
    pub(super) fn note_busy(&mut self, now: u64) {
        let passed = now.saturating_sub(self.signals.at);
        self.signals.at = now;
        self.signals.busy += u128::from(self.busy) * u128::from(passed);
    }

    /// The median of the recent latencies of requests that met about as many others as there are now, in seconds.
    fn expected(&self) -> Option<f64> {
        let here = self.present();
        let mut known: Vec<(u32, u64)> =
            self.signals.recent.iter().map(|&(met, took)| (met.abs_diff(here), took)).collect();
        known.sort_by_key(|&(apart, _)| apart);
        known.truncate(NEAREST);
        known.sort_by_key(|&(_, took)| took);
        known.get(known.len() / 2).map(|&(_, took)| took as f64 / 1e9)
    }

    fn report(&self, now: u64, slots: u32) -> ServerReport {
        let span = now.saturating_sub(self.signals.since).max(1) as f64;
        ServerReport {
            in_flight: f64::from(self.present()),
            latency: self.expected(),
            utilization: self.signals.busy as f64 / span / f64::from(slots.max(1)),
            qps: self.signals.answers as f64 * 1e9 / span,
            engine: match &self.work {
                Work::Batch(batch) => Some((f64::from(self.waiting()), batch.kv_share())),
                Work::Station(_) => None,
            },
        }
    }
}

impl Detail {
    /// A server has answered.
    pub(super) fn note_answer(&mut self, server: u32, id: AttemptId, now: u64) -> Done {
        if self.config.reports.is_none() {
            return Ok(());
        }
        let attempt = self.attempt(id)?;
        let entry = (attempt.met, now.saturating_sub(attempt.reached));
        if let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) {
            place.signals.answers += 1;
            if place.signals.recent.len() >= REMEMBERED {
                place.signals.recent.pop_front();
            }
            place.signals.recent.push_back(entry);
        }
        Ok(())
    }

    pub(super) fn plan_reports(&mut self, base: &Engine) {
        if let Some(every) = self.config.reports.and_then(|reports| reports.every) {
            let at = base.now.saturating_add(every.0);
            if at < base.duration {
                self.at(at, What::Report);
            }
        }
    }

    /// Every server tells every balancer.
    pub(super) fn report_all(&mut self, base: &mut Engine) -> Done {
        for server in 0..self.places.len() as u32 {
            if let Some(report) = self.ask(base, server) {
                base.balancer.report(server, &report, false, Nanos(base.now))?;
            }
            if let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) {
                place.note_busy(base.now);
                (place.signals.busy, place.signals.answers, place.signals.since) = (0, 0, base.now);
            }
        }
        self.plan_reports(base);
        Ok(())
    }

    /// What a server says; `None` when it is not there.
    fn ask(&mut self, base: &Engine, server: u32) -> Option<ServerReport> {
        let of = base.servers.get(server as usize).filter(|s| s.life == Life::Ready)?;
        let place = self.places.get_mut(server as usize).and_then(Option::as_mut).filter(|place| place.up)?;
        place.note_busy(base.now);
        Some(place.report(base.now, of.slots))
    }

    /// The balancer that has just chosen probes some servers.
    pub(super) fn probe(&mut self, base: &mut Engine) -> Result<(), SimulationError> {
        if !self.config.reports.is_some_and(|reports| reports.probes) {
            return Ok(());
        }
        let rate = base.balancer.probes();
        if rate <= 0.0 {
            return Ok(());
        }
        let count = rate.floor() as u32 + u32::from(self.probe_rng.next_f64() < rate.fract());
        for _ in 0..count {
            for _ in 0..DRAWS {
                let server = self.probe_rng.below(self.places.len() as u32);
                if let Some(report) = self.ask(base, server) {
                    base.balancer.report(server, &report, true, Nanos(base.now))?;
                    break;
                }
            }
        }
        Ok(())
    }
}
