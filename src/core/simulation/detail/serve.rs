//! What happens at the servers: lines, pulls, begins and ends of service.

use super::super::engine::Engine;
use super::super::server::Life;
use super::super::{Grant, Outcome, SimulationError};
use super::AttemptId;
use super::batch::{Batch, Sequence};
use super::config::{Discipline, Tokens};
use super::flow::{Detail, Done};
use super::station::Station;
use super::table::{NEVER, NONE, Place, Request, Signals, Stage, What, Work};
use crate::core::rng::mix64;
use crate::core::time::Nanos;

impl Detail {
    pub(super) fn place_in_line(&mut self, request: &Request, server: u32, id: AttemptId) -> Done {
        let priority = if self.config.discipline == Discipline::Fifo { 0 } else { request.priority };
        let blocks = self.blocks(request);
        match self.places.get_mut(server as usize).and_then(Option::as_mut).map(|place| &mut place.work) {
            Some(Work::Station(station)) => station.line.push(priority, request.serial, id),
            Some(Work::Batch(batch)) => batch.join(Sequence {
                id,
                priority,
                order: request.serial,
                input: request.input,
                output: request.output,
                blocks,
            }),
            None => return Err(SimulationError::Broken("a server")),
        }
        Ok(())
    }

    /// Names of the blocks of a request's prompt that others may share.
    pub(super) fn blocks(&self, request: &Request) -> Vec<u64> {
        let Discipline::Batch(model) = self.config.discipline else { return Vec::new() };
        match &self.config.tokens {
            Some(Tokens::Drawn { prefix, .. }) => {
                let count = prefix.checked_div(u64::from(model.block_tokens)).unwrap_or(0);
                (0..count).map(|i| mix64(mix64(request.key).wrapping_add(i))).collect()
            }
            Some(Tokens::Rows { blocks, offsets, .. }) => {
                let at = request.row as usize;
                let ends = offsets.get(at).zip(offsets.get(at + 1));
                ends.and_then(|(&from, &to)| blocks.get(from..to)).unwrap_or_default().to_vec()
            }
            None => Vec::new(),
        }
    }

    /// The same without those that the prompt does not fill, which no engine shares.
    pub(super) fn whole_blocks(&self, request: &Request) -> Vec<u64> {
        let Discipline::Batch(model) = self.config.discipline else { return Vec::new() };
        let mut blocks = self.blocks(request);
        blocks.truncate(request.input.checked_div(u64::from(model.block_tokens)).unwrap_or(0) as usize);
        blocks
    }

    /// Into the shared queue, or at once to a worker that waits for work.
    pub(super) fn enqueue(&mut self, base: &mut Engine, at: u32) -> Done {
        let request = self.request(at)?.clone();
        let free = self.asking.iter().any(|&server| self.can_pull(base, server));
        let pull = self.config.pull;
        if !free {
            let ahead: u64 = self.pooled.iter().take(usize::from(request.priority) + 1).map(|&n| u64::from(n)).sum();
            let mean =
                if self.service.1 > 0 { self.service.0 as f64 / self.service.1 as f64 } else { base.mean_work * 1e9 };
            let eta = (ahead + 1) as f64 * mean / f64::from(base.slots.max(1));
            self.request(at)?.eta = eta as u64;
            if pull.and_then(|p| p.limit).is_some_and(|limit| self.pool.len() >= limit) {
                return self.lost(base, at, Outcome::Rejected, NONE);
            }
            if pull.and_then(|p| p.longest_wait).is_some_and(|most| eta > most.0 as f64) {
                self.results.turned_away += 1;
                return self.lost(base, at, Outcome::Rejected, NONE);
            }
        }
        let id = self.open(base, at, NONE, None, false)?;
        self.pool.push(request.priority, request.serial, id);
        if let Some(count) = self.pooled.get_mut(usize::from(request.priority)) {
            *count += 1;
        }
        if let Some(timeout) = self.config.retry.and_then(|retry| retry.attempt_timeout) {
            self.at(base.now.saturating_add(timeout.0), What::Expire(id));
        }
        while let Some(server) = self.asking.pop_front() {
            if let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) {
                place.asks = false;
            }
            if self.can_pull(base, server) {
                return self.refill(base, server);
            }
        }
        Ok(())
    }

    fn can_pull(&self, base: &Engine, server: u32) -> bool {
        let ready = base.servers.get(server as usize).is_some_and(|s| s.life == Life::Ready);
        ready && self.places.get(server as usize).and_then(Option::as_ref).is_some_and(Place::room)
    }

    /// A worker takes the next of the shared queue; false when there is none or it may not.
    fn pull(&mut self, base: &mut Engine, server: u32) -> Result<bool, SimulationError> {
        if self.config.pull.is_none() || !self.can_pull(base, server) {
            return Ok(false);
        }
        let attempts = &self.attempts;
        let pooled = |id: AttemptId| {
            attempts.get(id.at as usize).is_some_and(|a| a.generation == id.generation && a.stage == Stage::Pooled)
        };
        let Some(id) = self.pool.pop(pooled) else {
            if let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut)
                && !place.asks
            {
                place.asks = true;
                self.asking.push_back(server);
            }
            return Ok(false);
        };
        let attempt = self.attempt(id)?;
        (attempt.stage, attempt.server) = (Stage::Waiting, server);
        let at = attempt.request;
        let request = self.request(at)?.clone();
        self.unpool(request.priority);
        if let Some(server) = base.servers.get_mut(server as usize) {
            server.held += 1;
        }
        let waited = base.now.saturating_sub(request.arrival);
        self.results.eta_error.0 += u128::from(waited.abs_diff(request.eta));
        self.results.eta_error.1 += 1;
        let too_long = match self.places.get(server as usize).and_then(Option::as_ref).map(|place| &place.work) {
            Some(Work::Batch(batch)) => !batch.fits(request.input, request.output),
            _ => false,
        };
        if too_long {
            self.fail(base, id, Outcome::Rejected)?;
        } else {
            self.place_in_line(&request, server, id)?;
        }
        Ok(true)
    }

    pub(super) fn unpool(&mut self, priority: u8) {
        if let Some(count) = self.pooled.get_mut(usize::from(priority)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Something changed at a server: those that wait begin, and its next end is found.
    pub(super) fn refill(&mut self, base: &mut Engine, server: u32) -> Done {
        let now = base.now;
        let mut began = Vec::new();
        loop {
            let attempts = &mut self.attempts;
            let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) else { return Ok(()) };
            if !place.up {
                break;
            }
            if let Work::Station(station) = &mut place.work {
                station.advance(now);
                while station.room() {
                    let waits = |id: AttemptId| {
                        let attempt = attempts.get(id.at as usize);
                        attempt.is_some_and(|a| a.generation == id.generation && a.stage == Stage::Waiting)
                    };
                    let Some(id) = station.line.pop(waits) else { break };
                    if let Some(attempt) = attempts.get_mut(id.at as usize) {
                        attempt.mark = station.start(id, attempt.work);
                        attempt.stage = Stage::Served;
                        began.push(id);
                    }
                }
            }
            if !self.pull(base, server)? {
                break;
            }
        }
        self.schedule(base, server, &mut began)?;
        for id in began {
            let attempt = self.attempt(id)?;
            attempt.stage = Stage::Served;
            if attempt.started == NEVER {
                attempt.started = now;
            }
            let at = attempt.request;
            let request = self.request(at)?;
            request.started = request.started.min(now);
        }
        Ok(())
    }

    /// Finds when a server's next end is, begins a batch's step when none is under way, and counts busy slots.
    fn schedule(&mut self, base: &mut Engine, server: u32, began: &mut Vec<AttemptId>) -> Done {
        let attempts = &self.attempts;
        let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) else { return Ok(()) };
        let mut next = NEVER;
        let mut changes = Vec::new();
        let busy = match &mut place.work {
            Work::Station(station) => {
                let runs = |id: AttemptId| {
                    let attempt = attempts.get(id.at as usize);
                    attempt.is_some_and(|a| a.generation == id.generation && a.stage == Stage::Served)
                };
                if place.up {
                    next = station.next(runs).map_or(NEVER, |(at, _)| at);
                    if station.room() && station.line.len() > 0 {
                        return Err(SimulationError::Broken("work: a request waits at a server with room"));
                    }
                }
                station.busy()
            }
            Work::Batch(batch) => {
                if batch.stepping() {
                    next = place.scheduled;
                } else if place.up
                    && let Some(lasts) = batch.begin()
                {
                    next = base.now.saturating_add(lasts);
                }
                began.append(&mut batch.started);
                changes = batch.changes();
                batch.serving().min(batch.limit)
            }
        };
        place.note_busy(base.now);
        base.busy = (base.busy + busy).saturating_sub(place.busy);
        place.busy = busy;
        if next != place.scheduled {
            place.epoch = place.epoch.wrapping_add(1);
            place.scheduled = next;
            let epoch = place.epoch;
            if next != NEVER {
                self.at(next, What::Server { server, epoch });
            }
        }
        changes.iter().try_for_each(|change| base.balancer.cached(server, change, Nanos(base.now)))
    }

    /// The end that was scheduled at a server.
    pub(super) fn serve(&mut self, base: &mut Engine, server: u32, epoch: u32) -> Done {
        let now = base.now;
        let attempts = &self.attempts;
        let Some(place) = self.places.get_mut(server as usize).and_then(Option::as_mut) else { return Ok(()) };
        if place.epoch != epoch {
            return Ok(());
        }
        place.scheduled = NEVER;
        let (mut done, mut first, mut grown, mut block) = (Vec::new(), Vec::new(), Vec::new(), 0);
        match &mut place.work {
            Work::Station(station) => {
                station.advance(now);
                let runs = |id: AttemptId| {
                    let attempt = attempts.get(id.at as usize);
                    attempt.is_some_and(|a| a.generation == id.generation && a.stage == Stage::Served)
                };
                if let Some((at, id)) = station.next(runs)
                    && at <= now
                {
                    let mark = attempts.get(id.at as usize).map_or(0.0, |a| a.mark);
                    self.delivered += station.clock() - mark;
                    station.stop();
                    done.push(id);
                }
            }
            Work::Batch(batch) => {
                let mut stepped = batch.end();
                done = std::mem::take(&mut stepped.done);
                block = batch.answer_block();
                first = stepped.first;
                grown = stepped.grown;
                for &id in &first {
                    let at = self.attempt(id)?.request;
                    let request = self.request(at)?;
                    request.first_token = request.first_token.min(now);
                }
            }
        }
        if self.hears.is_some() {
            for (id, starts) in first.iter().map(|&id| (id, true)).chain(grown.iter().map(|&id| (id, false))) {
                let Some(ticket) = self.attempt(id)?.ticket else { continue };
                let grant = Grant { server, ticket };
                match starts {
                    true => base.balancer.first_token(grant, Nanos(now))?,
                    false => base.balancer.grew(grant, block, Nanos(now))?,
                }
            }
        }
        for &id in &done {
            let started = self.attempt(id)?.started;
            self.service.0 += u128::from(now.saturating_sub(started));
            self.service.1 += 1;
            self.note_answer(server, id, now)?;
            // The server is done with it, so it must not be looked for there.
            self.attempt(id)?.stage = Stage::Answering;
        }
        self.refill(base, server)?;
        for id in done {
            match self.delay() {
                0 => self.answered(base, id)?,
                delay => self.at(now.saturating_add(delay), What::Answer(id)),
            }
        }
        Ok(())
    }

    /// Takes an attempt from wherever it is; it stays open.
    pub(super) fn withdraw(&mut self, base: &mut Engine, id: AttemptId) -> Done {
        let attempt = self.attempt(id)?.clone();
        self.attempt(id)?.stage = Stage::Travelling;
        match attempt.stage {
            Stage::Pooled => {
                self.pool.forget();
                let priority = self.request(attempt.request)?.priority;
                self.unpool(priority);
                return Ok(());
            }
            Stage::Waiting | Stage::Served => {}
            Stage::Free | Stage::Travelling | Stage::Answering => return Ok(()),
        }
        let Some(place) = self.places.get_mut(attempt.server as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        match &mut place.work {
            Work::Batch(batch) => batch.cancel(id),
            Work::Station(station) if attempt.stage == Stage::Waiting => station.line.forget(),
            Work::Station(station) => {
                station.advance(base.now);
                self.delivered += station.clock() - attempt.mark;
                station.stop();
            }
        }
        self.refill(base, attempt.server)
    }

    /// Servers that became ready since the engine was last looked at.
    pub(super) fn welcome(&mut self, base: &mut Engine) -> Done {
        for server in std::mem::take(&mut base.woken) {
            let Some(of) = base.servers.get(server as usize) else { continue };
            let (slots, speed) = (of.slots, 1e9 / of.pace);
            let work = match self.config.discipline {
                Discipline::Fifo | Discipline::Priority => Work::Station(Station::new(slots, slots, speed, base.now)),
                Discipline::Sharing { limit } => {
                    Work::Station(Station::new(slots, limit.unwrap_or(u32::MAX), speed, base.now))
                }
                Discipline::Batch(model) => {
                    Work::Batch(Box::new(Batch::new(model, slots, speed, self.hears.unwrap_or_default())))
                }
            };
            let place = Place {
                work,
                epoch: 0,
                scheduled: NEVER,
                up: true,
                hidden: false,
                speed,
                neighbour: 1.0,
                warmth: 1.0,
                busy: 0,
                asks: false,
                signals: Signals { since: base.now, at: base.now, ..Signals::default() },
            };
            let need = server as usize + 1;
            if self.places.len() < need {
                self.places.resize_with(need, || None);
            }
            if let Some(cell) = self.places.get_mut(server as usize) {
                *cell = Some(place);
            }
            self.hazards(base, server)?;
            self.refill(base, server)?;
        }
        Ok(())
    }
}
