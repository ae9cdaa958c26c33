//! What goes wrong: servers die and come back, neighbours slow them down, new ones are slow at first.

use super::super::engine::Engine;
use super::super::server::Life;
use super::super::{CacheChange, Outcome, SimulationError};
use super::AttemptId;
use super::flow::{Detail, Done};
use super::table::{NEVER, Place, Stage, What, Work};
use crate::core::time::Nanos;

/// Steps in which a new server gets warm.
const STEPS: u32 = 10;
/// A server that came back joins again when the last old request has left the balancers' books: looked at so often.
const AGAIN: u64 = 1_000_000;

impl Detail {
    /// Plans what will happen to a server that has just become ready.
    pub(super) fn hazards(&mut self, base: &mut Engine, server: u32) -> Done {
        // Draws are made in the same order whatever is configured, so that one option does not move another's chance.
        let hit = self.fault_rng.next_f64();
        let at_work = self.fault_rng.next_f64();
        if let Some(neighbours) = self.config.antagonists
            && hit < neighbours.share
        {
            let on = at_work * (neighbours.on_s + neighbours.off_s) < neighbours.on_s;
            self.neighbour(base, server, on)?;
        }
        // The servers that a run begins with are warm.
        if base.now > 0 {
            self.warm(base, server, 0)?;
        }
        self.plan_crash(base, server);
        Ok(())
    }

    fn plan_crash(&mut self, base: &Engine, server: u32) {
        if let Some(failures) = self.config.failures {
            let at = base.now.saturating_add(self.spell(failures.up_s));
            if at < base.duration {
                self.at(at, What::Crash(server));
            }
        }
    }

    fn place(&mut self, server: u32) -> Option<&mut Place> {
        self.places.get_mut(server as usize).and_then(Option::as_mut)
    }

    fn exists(base: &Engine, server: u32) -> bool {
        base.servers.get(server as usize).is_some_and(|s| s.life != Life::Gone)
    }

    /// A server's speed has changed.
    fn pace(&mut self, base: &mut Engine, server: u32) -> Done {
        let Some(place) = self.place(server) else { return Ok(()) };
        let factor = place.factor();
        match &mut place.work {
            Work::Station(station) => {
                station.advance(base.now);
                station.set_speed(factor);
            }
            Work::Batch(batch) => batch.set_speed(factor),
        }
        self.refill(base, server)
    }

    pub(super) fn neighbour(&mut self, base: &mut Engine, server: u32, on: bool) -> Done {
        let Some(neighbours) = self.config.antagonists else { return Ok(()) };
        if !Detail::exists(base, server) {
            return Ok(());
        }
        if let Some(place) = self.place(server) {
            place.neighbour = if on { neighbours.speed } else { 1.0 };
        }
        if neighbours.off_s > 0.0 {
            let spell = self.spell(if on { neighbours.on_s } else { neighbours.off_s });
            let at = base.now.saturating_add(spell);
            // After the traffic's end only the way back to the usual speed is of interest.
            if at < base.duration || on {
                self.at(at, What::Neighbour { server, on: !on });
            }
        }
        self.pace(base, server)
    }

    pub(super) fn warm(&mut self, base: &mut Engine, server: u32, step: u32) -> Done {
        let Some(warm_up) = self.config.warm_up else { return Ok(()) };
        let part = f64::from(step) / f64::from(STEPS);
        if let Some(place) = self.place(server) {
            place.warmth = warm_up.speed + (1.0 - warm_up.speed) * part;
        }
        if step < STEPS {
            let at = base.now.saturating_add(warm_up.lasts.0 / u64::from(STEPS));
            self.at(at, What::Warm { server, step: step + 1 });
        }
        self.pace(base, server)
    }

    pub(super) fn crash(&mut self, base: &mut Engine, server: u32) -> Done {
        let Some(failures) = self.config.failures else { return Ok(()) };
        if !Detail::exists(base, server) {
            return Ok(());
        }
        self.results.failures += 1;
        let down = self.spell(failures.down_s);
        self.at(base.now.saturating_add(failures.detect.0), What::Detect(server));
        self.at(base.now.saturating_add(down), What::Restore(server));
        let runs: Vec<(AttemptId, bool)> = (0u32..)
            .zip(&self.attempts)
            .filter(|(_, a)| a.server == server && matches!(a.stage, Stage::Waiting | Stage::Served))
            .map(|(at, a)| (AttemptId { at, generation: a.generation }, a.stage == Stage::Served))
            .collect();
        let Some(place) = self.place(server) else { return Ok(()) };
        place.up = false;
        place.epoch = place.epoch.wrapping_add(1);
        place.scheduled = NEVER;
        base.busy = base.busy.saturating_sub(place.busy);
        place.busy = 0;
        let mut clock = 0.0;
        match &mut place.work {
            Work::Station(station) => {
                station.advance(base.now);
                clock = station.clock();
                station.clear();
            }
            Work::Batch(batch) => batch.abandon(),
        }
        if self.hears.is_some_and(|hears| hears.cache) {
            base.balancer.cached(server, &CacheChange::Cleared, Nanos(base.now))?;
        }
        for &(id, served) in &runs {
            let mark = self.attempt(id)?.mark;
            if served && clock > 0.0 {
                self.delivered += clock - mark;
            }
            self.attempt(id)?.stage = Stage::Travelling;
        }
        for (id, _) in runs {
            self.fail(base, id, Outcome::Failed)?;
        }
        Ok(())
    }

    /// Health checks have noticed that a server is dead.
    pub(super) fn detect(&mut self, base: &mut Engine, server: u32) -> Done {
        let ready = base.servers.get(server as usize).is_some_and(|s| s.life == Life::Ready);
        if let Some(place) = self.place(server)
            && ready
            && !place.up
            && !place.hidden
        {
            place.hidden = true;
            base.balancer.drain(server, Nanos(base.now))?;
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, base: &mut Engine, server: u32) -> Done {
        let Some(of) = base.servers.get(server as usize) else { return Ok(()) };
        let (life, held, kind) = (of.life, of.held, of.kind);
        let Some(place) = self.place(server) else { return Ok(()) };
        if life == Life::Gone || place.up {
            return Ok(());
        }
        if place.hidden && life == Life::Ready {
            if held > 0 {
                self.at(base.now.saturating_add(AGAIN), What::Restore(server));
                return Ok(());
            }
            base.balancer.remove(server, Nanos(base.now))?;
            let spec = base.specs.get(kind as usize).ok_or(SimulationError::Broken("a server type"))?;
            base.balancer.add(server, spec, Nanos(base.now))?;
        }
        let Some(place) = self.place(server) else { return Ok(()) };
        place.up = true;
        place.hidden = false;
        if let Work::Station(station) = &mut place.work {
            station.advance(base.now);
        }
        self.plan_crash(base, server);
        self.warm(base, server, 0)?;
        self.refill(base, server)
    }
}
