//! One step of KEDA's loop: to nothing, to idle, to the minimum, or out of them.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// What the step is configured by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// The fewest replicas; `None` is 0.
    pub min: Option<i32>,
    /// Replicas without activity; `None` is the minimum.
    pub idle: Option<i32>,
    /// How long after the last activity it scales in.
    pub cooldown: Nanos,
    /// How long after its creation one that was never active scales in.
    pub initial_cooldown: Nanos,
    /// The fallback's replicas, if there is a fallback.
    pub fallback_replicas: Option<i64>,
    /// Nothing is done.
    pub paused: bool,
    /// Nothing is scaled in.
    pub paused_scale_in: bool,
    /// Nothing is scaled out.
    pub paused_scale_out: bool,
    /// Counts as active.
    pub force_activation: bool,
}

impl ExecutorConfig {
    /// The fewest replicas.
    #[must_use]
    pub fn min(&self) -> i32 {
        self.min.unwrap_or(0)
    }

    /// Whether its values can be.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.min() < 0 {
            return Err(ConfigError::new("min_replicas", self.min(), "a whole number of 0 or more"));
        }
        if let Some(idle) = self.idle
            && !(0..self.min()).contains(&idle)
        {
            let allowed = format!("a whole number of 0 or more, below min_replicas ({})", self.min());
            return Err(ConfigError::new("idle_replicas", idle, allowed));
        }
        Ok(())
    }
}

/// What the steps remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executor {
    /// When it was last active; `None` is never.
    pub last_active: Option<Nanos>,
    /// When it was created.
    pub created: Nanos,
}

/// Type, status and reason, in the system's words.
pub type Condition = (&'static str, &'static str, &'static str);

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Replicas to write.
    pub scale_to: Option<i32>,
    /// Whether activity is remembered, once that is written.
    pub active: bool,
    /// The conditions that it sets.
    pub conditions: [Condition; 2],
    /// What held it back.
    pub limit: Option<&'static str>,
    /// What was found.
    pub finding: &'static str,
}

const READY: Condition = ("Ready", "True", "ScaledObjectReady");
const ACTIVE: Condition = ("Active", "True", "ScalerActive");
const NOT_ACTIVE: Condition = ("Active", "False", "ScalerNotActive");
const COOLING: Condition = ("Active", "False", "ScalerCooldown");

/// The decision for triggers that are active or in error, and `current` replicas.
#[must_use]
pub fn step(config: &ExecutorConfig, memory: &Executor, active: bool, error: bool, current: i32, now: Nanos) -> Step {
    let mut out = Step { scale_to: None, active: false, conditions: [READY, NOT_ACTIVE], limit: None, finding: "" };
    if config.paused {
        out.conditions = [READY, ("Paused", "True", "ScaledObjectPaused")];
        out.limit = Some("paused");
        out.finding = "paused";
    } else if active || config.force_activation {
        out.finding = if active { "a trigger is active" } else { "activation is forced" };
        activate(config, error, current, &mut out);
    } else {
        out.finding = if error { "a trigger is in error and none is active" } else { "no trigger is active" };
        deactivate(config, memory, error, current, now, &mut out);
    }
    // What is there already is not written again.
    out.scale_to = out.scale_to.filter(|to| *to != current);
    out
}

fn activate(config: &ExecutorConfig, error: bool, current: i32, out: &mut Step) {
    out.conditions = [READY, ACTIVE];
    if (config.idle.is_some() && current < config.min()) || current == 0 {
        if config.paused_scale_out {
            out.limit = Some("paused_scale_out");
            return;
        }
        out.scale_to = Some(config.min().max(1));
        out.active = true;
    } else if error {
        // What is active may have been so before: it does not count as activity now.
        out.conditions = [("Ready", "Unknown", "PartialTriggerError"), ACTIVE];
    } else {
        out.active = true;
    }
}

fn deactivate(config: &ExecutorConfig, memory: &Executor, error: bool, current: i32, now: Nanos, out: &mut Step) {
    if error {
        match config.fallback_replicas {
            Some(0) => {}
            Some(_) => {
                out.limit = Some("fallback");
                return;
            }
            None => {
                out.conditions = [("Ready", "False", "TriggerError"), NOT_ACTIVE];
                out.limit = Some("trigger_error");
                return;
            }
        }
    }
    if config.idle.is_some_and(|idle| current > idle) || (current > 0 && config.min() == 0) {
        if config.paused_scale_in {
            out.limit = Some("paused_scale_in");
            return;
        }
        let over = match memory.last_active {
            None => memory.created.plus(config.initial_cooldown),
            Some(last) => last.plus(config.cooldown),
        };
        if over < now {
            out.scale_to = Some(config.idle.unwrap_or(config.min()));
        } else {
            out.conditions = [READY, COOLING];
            out.limit = Some(if memory.last_active.is_some() { "cooldown" } else { "initial_cooldown" });
        }
    } else if config.idle.is_none() && current < config.min() {
        out.scale_to = Some(config.min());
        out.limit = Some("min_replicas");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ExecutorConfig = ExecutorConfig {
        min: None,
        idle: None,
        cooldown: Nanos(300),
        initial_cooldown: Nanos(0),
        fallback_replicas: None,
        paused: false,
        paused_scale_in: false,
        paused_scale_out: false,
        force_activation: false,
    };

    #[test]
    fn the_cooldown_ends_after_its_last_instant() {
        let memory = Executor { last_active: Some(Nanos(100)), created: Nanos(0) };
        let to = |now| step(&PLAIN, &memory, false, false, 5, Nanos(now)).scale_to;
        assert_eq!((to(400), to(401), to(0)), (None, Some(0), None));
        let fresh = Executor { last_active: None, created: Nanos(100) };
        assert_eq!(step(&PLAIN, &fresh, false, false, 5, Nanos(100)).scale_to, None);
        assert_eq!(step(&PLAIN, &fresh, false, false, 5, Nanos(101)).scale_to, Some(0));
    }

    #[test]
    fn an_idle_count_has_to_be_below_the_minimum() {
        let with = |min, idle| ExecutorConfig { min, idle, ..PLAIN }.check().is_ok();
        assert!(with(Some(2), Some(1)) && with(Some(1), Some(0)) && with(None, None));
        assert!(!with(Some(2), Some(2)) && !with(None, Some(0)) && !with(Some(-1), None) && !with(Some(2), Some(-1)));
    }

    #[test]
    fn an_error_without_a_fallback_holds() {
        let memory = Executor { last_active: None, created: Nanos(0) };
        let to = |replicas, error| {
            let config = ExecutorConfig { fallback_replicas: replicas, ..PLAIN };
            step(&config, &memory, false, error, 3, Nanos(1000)).scale_to
        };
        assert_eq!((to(None, true), to(Some(2), true), to(Some(0), true)), (None, None, Some(0)));
        assert_eq!(to(None, false), Some(0));
    }
}
