//! Several balancers in front of one fleet, and what each of them knows.

use super::{Balancer, CacheChange, Grant, Hears, Outcome, ServerReport, ServerSpec, SimulationError, streams};
use crate::core::error::ConfigError;
use crate::core::llm::Prompt;
use crate::core::rng::{Rng, stream};
use crate::core::time::Nanos;

/// What a balancer knows of the servers' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What it sent itself and has not come back.
    Local,
    /// How many requests each server had when the board was last refreshed (Mitzenmacher, "How useful is old information?",
    /// 2000, periodic update).
    Board {
        /// Time between two refreshes.
        refresh: Nanos,
        /// Whether a balancer adds what it sent since then, and takes off what has come back.
        correct: bool,
    },
    /// Which servers have enlisted with it: one that becomes idle enlists with one balancer, drawn evenly, until a request
    /// comes to it (Lu et al., "Join-Idle-Queue", 2011, JIQ-Random).
    IdleQueue,
}

/// Who gets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    /// Any balancer with equal chance.
    Random,
    /// One after another.
    Rotate,
}

/// Balancers of one kind as one.
pub struct Dispatchers {
    inner: Vec<Box<dyn Balancer + Send>>,
    view: View,
    assign: Assign,
    rng: Rng,
    next: usize,
    /// Who got the last request.
    last: usize,
    /// Requests at each server, whoever sent them.
    counts: Vec<u32>,
    live: Vec<bool>,
    /// With whom an idle server has enlisted.
    enlisted: Vec<Option<usize>>,
    /// Servers whom nobody has been told of.
    fresh: Vec<u32>,
    refresh_at: u64,
    /// Who sent a request, and that balancer's own mark.
    tickets: Vec<(usize, u64)>,
    free: Vec<u64>,
}

impl std::fmt::Debug for Dispatchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatchers")
            .field("count", &self.inner.len())
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Dispatchers {
    /// These balancers, which are all of one kind.
    pub fn new(
        inner: Vec<Box<dyn Balancer + Send>>,
        view: View,
        assign: Assign,
        seed: u64,
    ) -> Result<Dispatchers, ConfigError> {
        if inner.is_empty() || inner.len() > 100_000 {
            return Err(ConfigError::new("dispatchers.count", inner.len(), "expected 1 to 100000"));
        }
        if view != View::Local && !inner.iter().all(|one| one.observes()) {
            let allowed = "expected local with this picker: it goes by more than the numbers of requests";
            return Err(ConfigError::new(
                "dispatchers.view",
                if view == View::IdleQueue { "idle" } else { "board" },
                allowed,
            ));
        }
        if matches!(view, View::Board { refresh: Nanos::ZERO, .. }) {
            return Err(ConfigError::new("dispatchers.refresh_s", 0, "expected more than 0 seconds"));
        }
        let refresh_at = match view {
            View::Board { refresh, .. } => refresh.0,
            _ => u64::MAX,
        };
        Ok(Dispatchers {
            inner,
            view,
            assign,
            rng: Rng::new(stream(seed, streams::DISPATCH)),
            next: 0,
            last: 0,
            counts: Vec::new(),
            live: Vec::new(),
            enlisted: Vec::new(),
            fresh: Vec::new(),
            refresh_at,
            tickets: Vec::new(),
            free: Vec::new(),
        })
    }

    /// Tells what is known by now, before anything changes.
    fn inform(&mut self, now: Nanos) -> Result<(), SimulationError> {
        if now.0 >= self.refresh_at
            && let View::Board { refresh, .. } = self.view
        {
            for (server, &count) in (0u32..).zip(&self.counts) {
                if self.live.get(server as usize) == Some(&true) {
                    for one in &mut self.inner {
                        one.observe(server, count, now)?;
                    }
                }
            }
            let behind = (now.0 - self.refresh_at) / refresh.0;
            self.refresh_at = self.refresh_at.saturating_add(refresh.0.saturating_mul(behind + 1));
        }
        if !self.fresh.is_empty() {
            for server in std::mem::take(&mut self.fresh) {
                if self.view == View::IdleQueue {
                    for one in &mut self.inner {
                        one.observe(server, 1, now)?;
                    }
                    self.enlist(server, now)?;
                }
            }
        }
        Ok(())
    }

    /// An idle server tells one balancer.
    fn enlist(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        let place = server as usize;
        if self.live.get(place) != Some(&true) || self.counts.get(place) != Some(&0) {
            return Ok(());
        }
        let whom = self.rng.below(self.inner.len() as u32) as usize;
        if let (Some(one), Some(cell)) = (self.inner.get_mut(whom), self.enlisted.get_mut(place)) {
            one.observe(server, 0, now)?;
            *cell = Some(whom);
        }
        Ok(())
    }

    /// The next request, with its prompt if it has one.
    fn take(
        &mut self,
        prompt: Option<Prompt<'_>>,
        key: Option<u64>,
        cost: f64,
        now: Nanos,
    ) -> Result<Option<Grant>, SimulationError> {
        self.inform(now)?;
        let whom = match self.assign {
            Assign::Random => self.rng.below(self.inner.len() as u32) as usize,
            Assign::Rotate => {
                let turn = self.next;
                self.next = if turn + 1 < self.inner.len() { turn + 1 } else { 0 };
                turn
            }
        };
        self.last = whom;
        let forgets = self.forgets();
        let one = self.inner.get_mut(whom).ok_or(SimulationError::Broken("a balancer"))?;
        let grant = match prompt {
            Some(prompt) => one.acquire_for(prompt, key, cost, now)?,
            None => one.acquire(key, cost, now)?,
        };
        let Some(grant) = grant else { return Ok(None) };
        if forgets {
            one.release(grant, Nanos::ZERO, Outcome::Cancelled, now)?;
        }
        let place = grant.server as usize;
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        if let Some(with) = self.enlisted.get_mut(place).and_then(Option::take)
            && let Some(one) = self.inner.get_mut(with)
        {
            one.observe(grant.server, 1, now)?;
        }
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.tickets.push((0, 0));
            self.tickets.len() as u64 - 1
        });
        if let Some(cell) = self.tickets.get_mut(ticket as usize) {
            *cell = (whom, grant.ticket);
        }
        Ok(Some(Grant { server: grant.server, ticket }))
    }

    /// Who sent a request, and that balancer's own mark for it.
    fn sender(&mut self, grant: Grant) -> Result<(&mut Box<dyn Balancer + Send>, u64), SimulationError> {
        let found = self.tickets.get(grant.ticket as usize).copied();
        let (whom, ticket) = found.ok_or(SimulationError::Broken("a balancer's mark"))?;
        Ok((self.inner.get_mut(whom).ok_or(SimulationError::Broken("a balancer"))?, ticket))
    }

    /// Whether a balancer forgets at once what it sent.
    fn forgets(&self) -> bool {
        matches!(self.view, View::IdleQueue | View::Board { correct: false, .. })
    }
}

impl Balancer for Dispatchers {
    fn add(&mut self, server: u32, spec: &ServerSpec, now: Nanos) -> Result<(), SimulationError> {
        let need = server as usize + 1;
        if self.counts.len() < need {
            self.counts.resize(need, 0);
            self.live.resize(need, false);
            self.enlisted.resize(need, None);
        }
        if let Some(live) = self.live.get_mut(server as usize) {
            *live = true;
        }
        self.fresh.push(server);
        self.inner.iter_mut().try_for_each(|one| one.add(server, spec, now))
    }

    fn drain(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.inform(now)?;
        if let Some(live) = self.live.get_mut(server as usize) {
            *live = false;
        }
        if let Some(cell) = self.enlisted.get_mut(server as usize) {
            *cell = None;
        }
        self.inner.iter_mut().try_for_each(|one| one.drain(server, now))
    }

    fn remove(&mut self, server: u32, now: Nanos) -> Result<(), SimulationError> {
        self.inner.iter_mut().try_for_each(|one| one.remove(server, now))
    }

    fn acquire(&mut self, key: Option<u64>, cost: f64, now: Nanos) -> Result<Option<Grant>, SimulationError> {
        self.take(None, key, cost, now)
    }

    fn acquire_for(
        &mut self,
        prompt: Prompt<'_>,
        key: Option<u64>,
        cost: f64,
        now: Nanos,
    ) -> Result<Option<Grant>, SimulationError> {
        self.take(Some(prompt), key, cost, now)
    }

    fn hears(&self) -> Option<Hears> {
        self.inner.first().and_then(|one| one.hears())
    }

    fn first_token(&mut self, grant: Grant, now: Nanos) -> Result<(), SimulationError> {
        let (one, ticket) = self.sender(grant)?;
        one.first_token(Grant { ticket, ..grant }, now)
    }

    fn grew(&mut self, grant: Grant, tokens: u32, now: Nanos) -> Result<(), SimulationError> {
        let (one, ticket) = self.sender(grant)?;
        one.grew(Grant { ticket, ..grant }, tokens, now)
    }

    fn cached(&mut self, server: u32, change: &CacheChange, now: Nanos) -> Result<(), SimulationError> {
        self.inner.iter_mut().try_for_each(|one| one.cached(server, change, now))
    }

    fn release(&mut self, grant: Grant, latency: Nanos, outcome: Outcome, now: Nanos) -> Result<(), SimulationError> {
        self.inform(now)?;
        let &(whom, ticket) =
            self.tickets.get(grant.ticket as usize).ok_or(SimulationError::Broken("a balancer's mark"))?;
        self.free.push(grant.ticket);
        if !self.forgets() {
            let one = self.inner.get_mut(whom).ok_or(SimulationError::Broken("a balancer"))?;
            one.release(Grant { server: grant.server, ticket }, latency, outcome, now)?;
        }
        let count = self.counts.get_mut(grant.server as usize).ok_or(SimulationError::Broken("a server"))?;
        *count = count.saturating_sub(1);
        if *count == 0 && self.view == View::IdleQueue {
            self.enlist(grant.server, now)?;
        }
        Ok(())
    }

    fn probes(&self) -> f64 {
        self.inner.first().map_or(0.0, |one| one.probes())
    }

    fn report(&mut self, server: u32, report: &ServerReport, probe: bool, now: Nanos) -> Result<(), SimulationError> {
        let last = self.last;
        let mut to = self.inner.iter_mut().enumerate().filter(|(i, _)| !probe || *i == last);
        to.try_for_each(|(_, one)| one.report(server, report, probe, now))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::core::pickers::{JoinIdleQueue, LeastRequest, PeakEwma, Policy};
    use crate::core::simulation::PoolBalancer;

    fn make<L: Policy + 'static>(policy: &L, count: u64, servers: u32, view: View) -> Result<Dispatchers, ConfigError>
    where
        PoolBalancer<L>: Send,
    {
        let inner = (0..count)
            .map(|i| Ok(Box::new(PoolBalancer::new(policy.clone(), i)?) as Box<dyn Balancer + Send>))
            .collect::<Result<_, ConfigError>>()?;
        let mut all = Dispatchers::new(inner, view, Assign::Rotate, 1)?;
        let spec = ServerSpec { kind: "a".into(), weight: 1.0, concurrency: 1, max_inflight: None, speed: 1.0 };
        for server in 0..servers {
            all.add(server, &spec, Nanos(0)).unwrap();
        }
        Ok(all)
    }

    fn take(all: &mut Dispatchers, now: u64) -> Grant {
        all.acquire(None, 1.0, Nanos(now)).unwrap().unwrap()
    }

    fn full() -> LeastRequest {
        LeastRequest { full_scan: true, ..LeastRequest::default() }
    }

    #[test]
    fn local_balancers_know_only_their_own() {
        let mut all = make(&full(), 2, 2, View::Local).unwrap();
        // Each sends its first two to two servers, whatever the other did.
        let grants: Vec<Grant> = (0..4).map(|_| take(&mut all, 1)).collect();
        let of = |k: usize| grants.get(k).unwrap().server;
        assert_ne!(of(0), of(2));
        assert_ne!(of(1), of(3));
        for grant in grants {
            all.release(grant, Nanos(1), Outcome::Success, Nanos(2)).unwrap();
        }
        assert_eq!(all.counts, [0, 0]);
    }

    #[test]
    fn a_board_is_as_old_as_its_refresh() {
        let board = |correct| View::Board { refresh: Nanos(10), correct };
        let mut all = make(&full(), 1, 2, board(false)).unwrap();
        let spec = ServerSpec { kind: "a".into(), weight: 1.0, concurrency: 1, max_inflight: None, speed: 1.0 };
        // Before the first refresh both look idle all the time.
        let first: Vec<Grant> = (0..20).map(|_| take(&mut all, 1)).collect();
        let zeros = first.iter().filter(|g| g.server == 0).count();
        assert!((3..=17).contains(&zeros), "{zeros}");
        // Server 1 has one less, and everybody goes there until the next refresh.
        all.counts = vec![10, 9];
        assert!((0..30).all(|_| take(&mut all, 10).server == 1));
        assert!((0..30).all(|_| take(&mut all, 19).server == 1));
        assert!((0..30).all(|_| take(&mut all, 20).server == 0));
        // One that joins is not known to have anything.
        all.add(2, &spec, Nanos(21)).unwrap();
        assert_eq!(take(&mut all, 21).server, 2);
        let mut all = make(&full(), 1, 2, board(true)).unwrap();
        take(&mut all, 1);
        take(&mut all, 1);
        all.counts = vec![10, 7];
        // What it sends from now on counts: after three to server 1 they are even.
        let sent: Vec<u32> = (0..8).map(|_| take(&mut all, 10).server).collect();
        let to_0 = sent.iter().filter(|&&s| s == 0).count();
        assert!(sent.iter().take(3).all(|&s| s == 1) && (2..=3).contains(&to_0), "{sent:?}");
    }

    #[test]
    fn an_idle_server_is_known_to_one_balancer() {
        let mut all = make(&JoinIdleQueue::default(), 3, 6, View::IdleQueue).unwrap();
        let grants: Vec<Grant> = (0..12).map(|_| take(&mut all, 1)).collect();
        assert_eq!(all.counts.iter().sum::<u32>(), 12);
        assert!(all.enlisted.iter().zip(&all.counts).all(|(with, &n)| with.is_some() == (n == 0)));
        for grant in grants {
            all.release(grant, Nanos(1), Outcome::Success, Nanos(2)).unwrap();
        }
        assert!(all.enlisted.iter().all(Option::is_some));
        all.drain(3, Nanos(3)).unwrap();
        all.remove(3, Nanos(3)).unwrap();
        assert!((0..50).all(|_| take(&mut all, 4).server != 3));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(make(&PeakEwma, 2, 1, View::IdleQueue).unwrap_err().field, "dispatchers.view");
        let board = View::Board { refresh: Nanos(0), correct: true };
        assert_eq!(make(&full(), 2, 1, board).unwrap_err().field, "dispatchers.refresh_s");
        assert_eq!(make(&full(), 0, 1, View::Local).unwrap_err().field, "dispatchers.count");
    }
}
