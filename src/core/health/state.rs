//! The life of an endpoint as checks see it: a counter as HAProxy has it, the states of ALB's targets, warm-up, and
//! flap damping after RFC 2439.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// In which state an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No check has passed yet, and not enough have failed.
    Initial,
    /// Checks pass, and the model is not loaded or has not answered its test yet.
    Warming,
    /// Takes work.
    Healthy,
    /// Takes work when no healthy one can.
    Degraded,
    /// Takes none.
    Unhealthy,
    /// Takes no new work; what it has may end.
    Draining,
    /// Its drain is over.
    Unused,
    /// Nobody checks it, so nothing is known.
    Unavailable,
}

/// What a check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Pass,
    /// It passed, and something is at its limit.
    Degraded,
    /// It answered, and is not ready yet.
    Warming,
    /// It failed.
    Fail,
}

/// Where an endpoint starts. The last four are HAProxy's `init-state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Unknown: one pass makes it healthy, `unhealthy_threshold` failures unhealthy (ALB).
    #[default]
    Initial,
    /// Healthy until one check fails.
    Up,
    /// Healthy until `unhealthy_threshold` checks fail.
    FullyUp,
    /// Unhealthy until one check passes.
    Down,
    /// Unhealthy until `healthy_threshold` checks pass.
    FullyDown,
}

/// When an endpoint that comes and goes is held back. Penalties are in flaps: each fall from up to down adds one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Damping {
    /// How long until a penalty is worth half.
    pub half_life: Nanos,
    /// The penalty from which on the endpoint is held back.
    pub suppress: f64,
    /// The penalty below which it is let back.
    pub reuse: f64,
    /// The longest it is held back after its last fall.
    pub max_hold: Nanos,
}

impl Damping {
    /// # Errors
    /// [`ConfigError`] for a value out of range.
    pub fn check(self) -> Result<Damping, ConfigError> {
        if self.half_life == Nanos::ZERO {
            return Err(ConfigError::new("half_life", 0, "more than 0 seconds"));
        }
        if !(self.reuse.is_finite() && self.reuse > 0.0) {
            return Err(ConfigError::new("reuse", self.reuse, "a finite number of flaps above 0"));
        }
        if !(self.suppress.is_finite() && self.suppress > self.reuse) {
            return Err(ConfigError::new("suppress", self.suppress, "a finite number of flaps above `reuse`"));
        }
        Ok(self)
    }

    fn decayed(&self, penalty: f64, passed: Nanos) -> f64 {
        penalty * (-passed.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// A penalty above this would hold longer than `max_hold`.
    fn ceiling(&self) -> f64 {
        self.reuse * (self.max_hold.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }
}

/// The rules of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Passes in a row until an unhealthy endpoint is healthy: ALB's healthy threshold, HAProxy's `rise`.
    pub healthy: u32,
    /// Failures in a row until a healthy endpoint is unhealthy: ALB's unhealthy threshold, HAProxy's `fall`.
    pub unhealthy: u32,
    /// Where it starts.
    pub start: Start,
    /// Whether it has to load a model and to answer a test inference before it is healthy.
    pub warm_up: bool,
    /// From then on an answer of "not ready yet" is a failure.
    pub warming_timeout: Option<Nanos>,
    /// Flap damping, if any.
    pub damping: Option<Damping>,
}

impl Thresholds {
    /// # Errors
    /// [`ConfigError`] for a value out of range.
    pub fn check(self) -> Result<Thresholds, ConfigError> {
        for (field, value) in [("healthy_threshold", self.healthy), ("unhealthy_threshold", self.unhealthy)] {
            if value == 0 {
                return Err(ConfigError::new(field, value, "a whole number from 1 on"));
            }
        }
        self.damping.map(Damping::check).transpose()?;
        Ok(self)
    }

    /// HAProxy's counter of a server that would survive `unhealthy - 1` failures.
    fn full(&self) -> u64 {
        u64::from(self.healthy).saturating_add(u64::from(self.unhealthy)).saturating_sub(1)
    }
}

/// What is remembered of one endpoint: a plain value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// HAProxy's counter: from 0 to `healthy + unhealthy - 1`, and up from `healthy` on.
    pub counter: u64,
    /// Failures in a row while nothing has passed yet; None as soon as the endpoint counts as up or down.
    pub untried: Option<u32>,
    /// Whether the last passing check said that something is at its limit.
    pub degraded: bool,
    /// Whether the model is loaded, as far as checks have said.
    pub loaded: bool,
    /// Whether a test inference was answered, as far as checks have said.
    pub inferred: bool,
    /// Whether the warm-up is over.
    pub warm: bool,
    /// When the warm-up began.
    pub warming_since: Option<Nanos>,
    /// The end of the drain.
    pub drain: Option<Nanos>,
    /// Whether nobody checks.
    pub disabled: bool,
    /// The penalty of flapping, as of `penalty_at`.
    pub penalty: f64,
    /// When it was last added to.
    pub penalty_at: Nanos,
    /// Whether the endpoint is held back for flapping.
    pub suppressed: bool,
    /// The latest instant that was ever seen: time does not go back.
    pub seen: Nanos,
}

/// One endpoint's state machine.
#[derive(Clone, Debug)]
pub struct HealthState {
    rules: Thresholds,
    memory: Memory,
}

impl HealthState {
    /// # Errors
    /// [`ConfigError`] for a value out of range.
    pub fn new(rules: Thresholds) -> Result<HealthState, ConfigError> {
        let rules = rules.check()?;
        let memory = HealthState::fresh(&rules, Nanos::ZERO);
        Ok(HealthState { rules, memory })
    }

    fn fresh(rules: &Thresholds, seen: Nanos) -> Memory {
        let rise = u64::from(rules.healthy);
        let (counter, untried) = match rules.start {
            Start::Initial => (0, Some(0)),
            Start::Up => (rise, None),
            Start::FullyUp => (rules.full(), None),
            Start::Down => (rise.saturating_sub(1), None),
            Start::FullyDown => (0, None),
        };
        Memory {
            counter,
            untried,
            degraded: false,
            loaded: false,
            inferred: false,
            // One that starts up serves already.
            warm: !rules.warm_up || matches!(rules.start, Start::Up | Start::FullyUp),
            warming_since: None,
            drain: None,
            disabled: false,
            penalty: 0.0,
            penalty_at: Nanos::ZERO,
            suppressed: false,
            seen,
        }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Thresholds {
        &self.rules
    }

    /// What is remembered.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes a memory back; what these rules cannot have is bent to what they can.
    pub fn restore(&mut self, memory: Memory) {
        self.memory = memory;
        self.memory.counter = memory.counter.min(self.rules.full());
        if !(memory.penalty.is_finite() && memory.penalty >= 0.0) {
            self.memory.penalty = 0.0;
        }
    }

    /// HAProxy's counter.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.memory.counter
    }

    fn up(&self) -> bool {
        self.memory.untried.is_none() && self.memory.counter >= u64::from(self.rules.healthy)
    }

    fn see(&mut self, now: Nanos) -> Nanos {
        self.memory.seen = self.memory.seen.max(now);
        self.memory.seen
    }

    /// The penalty of flapping now.
    #[must_use]
    pub fn penalty(&self, now: Nanos) -> f64 {
        let m = &self.memory;
        self.rules.damping.map_or(0.0, |d| d.decayed(m.penalty, now.max(m.seen).since(m.penalty_at)))
    }

    fn held(&self, now: Nanos) -> bool {
        let held = |d: Damping| self.memory.suppressed && self.penalty(now) >= d.reuse;
        self.rules.damping.is_some_and(held)
    }

    /// The state now.
    #[must_use]
    pub fn status(&self, now: Nanos) -> Status {
        let m = &self.memory;
        let now = now.max(m.seen);
        match m.drain {
            Some(end) if now >= end => Status::Unused,
            Some(_) => Status::Draining,
            None if m.disabled => Status::Unavailable,
            None => self.checked(now),
        }
    }

    fn checked(&self, now: Nanos) -> Status {
        let m = &self.memory;
        if self.held(now) {
            return Status::Unhealthy;
        }
        match (m.untried.is_some(), self.up()) {
            (_, true) if !m.warm => Status::Warming,
            (_, true) if m.degraded => Status::Degraded,
            (_, true) => Status::Healthy,
            (true, false) => Status::Initial,
            (false, false) => Status::Unhealthy,
        }
    }

    /// Takes in what a check said, and what it said of the model: None for nothing.
    pub fn report(&mut self, outcome: Outcome, loaded: Option<bool>, inferred: Option<bool>, now: Nanos) -> Status {
        let now = self.see(now);
        let was_up = self.up() && self.memory.warm;
        if outcome != Outcome::Fail {
            self.memory.loaded = loaded.unwrap_or(self.memory.loaded);
            self.memory.inferred = inferred.unwrap_or(self.memory.inferred);
        }
        match outcome {
            Outcome::Pass | Outcome::Degraded => {
                self.passed(now);
                self.memory.degraded = outcome == Outcome::Degraded;
            }
            // Once warm, or warming for too long, "not ready yet" is as good as a failure.
            Outcome::Warming if self.memory.warm || self.overdue(now) => self.failed(),
            Outcome::Warming => self.passed(now),
            Outcome::Fail => self.failed(),
        }
        if self.up() && !self.memory.warm {
            if outcome != Outcome::Warming && self.memory.loaded && self.memory.inferred {
                self.memory.warm = true;
                self.memory.warming_since = None;
            } else if self.memory.warming_since.is_none() {
                self.memory.warming_since = Some(now);
            } else if self.overdue(now) {
                self.memory.counter = 0;
                self.forget_model();
            }
        }
        if was_up && !self.up() {
            self.flapped(now);
        }
        if self.memory.suppressed && !self.held(now) {
            self.memory.suppressed = false;
        }
        self.status(now)
    }

    fn overdue(&self, now: Nanos) -> bool {
        match (self.rules.warming_timeout, self.memory.warming_since) {
            (Some(limit), Some(since)) => now.since(since) >= limit,
            _ => false,
        }
    }

    fn passed(&mut self, now: Nanos) {
        let rise = u64::from(self.rules.healthy);
        let m = &mut self.memory;
        let first = m.untried.take().is_some();
        m.counter = m.counter.saturating_add(1);
        if first || m.counter >= rise {
            m.counter = self.rules.full();
        }
        if !m.warm && m.counter >= rise && m.warming_since.is_none() {
            m.warming_since = Some(now);
        }
    }

    fn failed(&mut self) {
        let (rise, fall) = (u64::from(self.rules.healthy), self.rules.unhealthy);
        let m = &mut self.memory;
        if let Some(failures) = m.untried {
            let failures = failures.saturating_add(1);
            m.untried = if failures < fall { Some(failures) } else { None };
            return;
        }
        if m.counter > rise {
            m.counter -= 1;
        } else {
            m.counter = 0;
            m.degraded = false;
            self.forget_model();
        }
    }

    /// One that went down has probably been started again: its model has to be seen anew.
    fn forget_model(&mut self) {
        let m = &mut self.memory;
        m.warming_since = None;
        if self.rules.warm_up {
            (m.loaded, m.inferred, m.warm) = (false, false, false);
        }
    }

    fn flapped(&mut self, now: Nanos) {
        let Some(d) = self.rules.damping else { return };
        let penalty = (self.penalty(now) + 1.0).min(d.ceiling());
        let m = &mut self.memory;
        m.penalty = penalty;
        m.penalty_at = now;
        m.suppressed |= penalty >= d.suppress;
    }

    /// No new work from now on; after `end` the endpoint is unused.
    pub fn drain(&mut self, end: Nanos, now: Nanos) {
        self.see(now);
        self.memory.drain = Some(end);
    }

    /// Takes a drain back.
    pub fn undrain(&mut self, now: Nanos) {
        self.see(now);
        self.memory.drain = None;
    }

    /// Nobody checks any more (true), or somebody does again, from the start.
    pub fn disable(&mut self, disabled: bool, now: Nanos) {
        let now = self.see(now);
        if self.memory.disabled && !disabled {
            let drain = self.memory.drain;
            self.memory = Memory { drain, ..HealthState::fresh(&self.rules, now) };
        }
        self.memory.disabled = disabled;
    }
}

/// How long an ALB target is `draining` after it was deregistered.
///
/// # Errors
/// [`ConfigError`] for a delay that ALB does not take.
pub fn deregistration_delay(seconds: f64) -> Result<Nanos, ConfigError> {
    if (0.0..=3600.0).contains(&seconds) {
        Ok(Nanos::from_secs_f64(seconds))
    } else {
        Err(ConfigError::new("delay", seconds, "a number of seconds from 0 to 3600"))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
