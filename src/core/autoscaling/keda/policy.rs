//! A scaled object as one policy with a memory.

use super::executor::{self, Executor, ExecutorConfig, Step};
use super::fallback::{self, FallbackConfig, FallbackInput, Served, TargetType};
use super::formula::{Formula, FormulaError, in_milli};
use super::{from_milli, go_i64, milli};
use crate::core::autoscaling::plain::{Reader, counted, instant, seconds};
use crate::core::autoscaling::recommendation::Action;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{MAX_METRIC, Metric, Observation, check_metric, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::collections::BTreeMap;

const VERSION: i64 = 1;
const KIND: &str = "keda";

/// One trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its name: observations and formulas know it by that.
    pub name: String,
    /// The autoscaler's target.
    pub threshold: f64,
    /// Above this it is active.
    pub activation_threshold: f64,
    /// What the target is for.
    pub target_type: TargetType,
    /// Whether it is of the pods' own processors or memory: then only the autoscaler looks at it.
    pub resource: bool,
}

/// A formula over all triggers.
#[derive(Debug)]
pub struct Modifiers {
    /// The formula.
    pub formula: Formula,
    /// The target, as it was written.
    pub target: String,
    /// Above this it is active.
    pub activation_target: f64,
    /// What the target is for.
    pub target_type: TargetType,
}

/// Configuration of a [`KedaPolicy`].
#[derive(Debug)]
pub struct KedaConfig {
    /// The triggers.
    pub triggers: Vec<Trigger>,
    /// The most replicas; the autoscaler's bound.
    pub max: i32,
    /// Of the step.
    pub executor: ExecutorConfig,
    /// The fallback.
    pub fallback: Option<FallbackConfig>,
    /// The formula.
    pub modifiers: Option<Modifiers>,
    /// Replicas while it is paused; `None` leaves them.
    pub paused_replicas: Option<i32>,
    /// When it was created; `None` is the first decision.
    pub created: Option<Nanos>,
}

impl KedaConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if self.triggers.is_empty() {
            return Err(ConfigError::new("triggers", "()", "at least one trigger"));
        }
        for (i, t) in self.triggers.iter().enumerate() {
            if t.name.is_empty() || self.triggers.iter().take(i).any(|other| other.name == t.name) {
                let allowed = "a name that is not empty and no other trigger has";
                return Err(ConfigError::new(format!("triggers[{i}].name"), format!("{:?}", t.name), allowed));
            }
            if !(t.threshold > 0.0 && t.threshold <= MAX_METRIC) {
                return Err(ConfigError::new(format!("triggers[{i}].threshold"), t.threshold, "a number above 0"));
            }
            if !(t.activation_threshold.is_finite()) {
                let field = format!("triggers[{i}].activation_threshold");
                return Err(ConfigError::new(field, t.activation_threshold, "a finite number"));
            }
        }
        self.executor.check()?;
        if self.max < self.executor.min().max(1) {
            let allowed = format!("a whole number of 1 or more, not below min_replicas ({})", self.executor.min());
            return Err(ConfigError::new("max_replicas", self.max, allowed));
        }
        if let Some(f) = &self.fallback {
            f.check()?;
        }
        if let Some(m) = &self.modifiers {
            if !m.target.parse::<f64>().is_ok_and(|t| t > 0.0 && t.is_finite()) {
                return Err(ConfigError::new("modifiers.target", &m.target, "a number above 0"));
            }
            if !m.activation_target.is_finite() {
                return Err(ConfigError::new("modifiers.activation_target", m.activation_target, "a finite number"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Memory {
    executor: Executor,
    created: bool,
    failures: BTreeMap<String, i64>,
    recorded: BTreeMap<String, f64>,
    serial: u64,
    // The number of the last decision that wrote something, and the last activity before it.
    written: Option<(u64, Option<Nanos>)>,
}

/// What the triggers come to.
#[derive(Debug, Default)]
struct Found {
    active: bool,
    error: bool,
    fallback: bool,
    served: Vec<(String, Served)>,
    composite: Option<i64>,
    failure: Option<FormulaError>,
}

/// The policy.
#[derive(Debug)]
pub struct KedaPolicy {
    config: KedaConfig,
    memory: Memory,
}

impl KedaPolicy {
    /// A policy with an empty memory.
    pub fn new(config: KedaConfig) -> Result<KedaPolicy, ConfigError> {
        config.check()?;
        Ok(KedaPolicy { memory: Memory::default(), config })
    }

    fn knows(&self, name: &str) -> Result<(), MetricError> {
        if self.config.triggers.iter().any(|t| t.name == name) {
            return Ok(());
        }
        let names: Vec<&str> = self.config.triggers.iter().map(|t| t.name.as_str()).collect();
        Err(metric_error(name, "a value", format!("the triggers are {}", names.join(", "))))
    }

    /// What a trigger answered last; `None` is an error. It counts when an observation leaves the trigger out.
    pub fn record(&mut self, name: &str, value: Option<f64>) -> Result<(), MetricError> {
        self.knows(name)?;
        match value {
            Some(v) => {
                check_metric(name, v, true)?;
                self.memory.recorded.insert(name.to_owned(), v);
            }
            None => {
                self.memory.recorded.remove(name);
            }
        }
        Ok(())
    }

    /// The decision for what the triggers say.
    pub fn recommend(&mut self, obs: &Observation<'_>, now: Nanos) -> Result<Written, MetricError> {
        obs.check()?;
        for (name, value) in obs.metrics {
            if let Some(v) = value {
                check_metric(name, *v, true)?;
            }
        }
        let found = self.triggers(obs);
        Ok(self.decide_found(&found, obs, now, true))
    }

    /// The decision for an activity that is known already; the triggers are not asked.
    pub fn decide(
        &mut self,
        active: bool,
        error: bool,
        obs: &Observation<'_>,
        now: Nanos,
    ) -> Result<Written, MetricError> {
        obs.check()?;
        let found = Found { active, error, ..Found::default() };
        Ok(self.decide_found(&found, obs, now, false))
    }

    fn triggers(&mut self, obs: &Observation<'_>) -> Found {
        let mut found = Found::default();
        let mut only_resources = true;
        let modifiers = self.config.modifiers.as_ref();
        for t in self.config.triggers.iter().filter(|t| !t.resource) {
            only_resources = false;
            let value = match obs.metric(&t.name) {
                Metric::Value(v) => Some(v),
                Metric::Missing => None,
                Metric::Absent => self.memory.recorded.get(&t.name).copied(),
            };
            let failures = self.memory.failures.get(&t.name).copied().unwrap_or(0);
            let input = FallbackInput {
                target: from_milli(milli(t.threshold)),
                target_type: t.target_type,
                modifiers: modifiers.map(|m| (m.target.as_str(), m.target_type)),
                current: obs.asked(),
                ready: obs.current,
            };
            let served = fallback::serve(self.config.fallback.as_ref(), value, failures, &input);
            if let Some(n) = served.failures {
                self.memory.failures.insert(t.name.clone(), n);
            }
            found.error |= served.milli.is_none();
            found.fallback |= served.fallback;
            found.active |= served.fallback || value.is_some_and(|v| v > t.activation_threshold);
            found.served.push((t.name.clone(), served));
        }
        if let Some(m) = modifiers {
            self.compose(m, &mut found);
        }
        if only_resources {
            found.active = true;
        }
        found
    }

    fn compose(&self, m: &Modifiers, found: &mut Found) {
        if found.error {
            found.active = false;
            return;
        }
        if let Some((_, served)) = found.served.iter().find(|(_, s)| s.fallback) {
            found.composite = served.milli;
        } else {
            let value = |name: &str| {
                let (_, served) = found.served.iter().find(|(n, _)| n == name)?;
                served.milli.filter(|_| !served.placeholder)
            };
            match m.formula.evaluate(value) {
                Ok(Some(x)) => found.composite = Some(in_milli(x)),
                Ok(None) => {
                    let target = m.target.parse::<f64>().unwrap_or(0.0);
                    let replicas = self.config.fallback.map(|f| f.replicas as f64);
                    found.composite = replicas.map(|r| go_i64(r * target * 1000.0));
                }
                Err(e) => found.failure = Some(e),
            }
        }
        found.active = found.composite.is_some_and(|c| from_milli(c) > m.activation_target);
    }

    fn decide_found(&mut self, found: &Found, obs: &Observation<'_>, now: Nanos, controller: bool) -> Written {
        let memory = &mut self.memory;
        if !memory.created {
            memory.executor.created = self.config.created.unwrap_or(now);
            memory.created = true;
        }
        memory.serial = memory.serial.wrapping_add(1);
        let asked = obs.asked();
        let current = i32::try_from(asked).unwrap_or(i32::MAX);
        let mut step = executor::step(&self.config.executor, &memory.executor, found.active, found.error, current, now);
        if controller && self.config.executor.paused {
            step.scale_to = self.config.paused_replicas.filter(|n| *n != current);
        }
        if step.scale_to.is_some() {
            memory.written = Some((memory.serial, memory.executor.last_active));
        }
        if step.active {
            memory.executor.last_active = Some(now);
        }
        self.tell(found, &step, obs, now)
    }

    fn tell(&self, found: &Found, step: &Step, obs: &Observation<'_>, now: Nanos) -> Written {
        let asked = obs.asked();
        let desired = step.scale_to.map_or(asked, i64::from);
        let action = match desired.cmp(&asked) {
            std::cmp::Ordering::Greater => Action::ScaleOut,
            std::cmp::Ordering::Less => Action::ScaleIn,
            std::cmp::Ordering::Equal if found.error && !found.active => Action::InsufficientData,
            std::cmp::Ordering::Equal => Action::None,
        };
        let named = |name: &str, value: Plain| (name.to_owned(), value);
        let real = |milli: Option<i64>| Plain::of(milli, |m| Plain::Real(m as f64 / 1000.0));
        let metrics: Vec<(String, Plain)> = found.served.iter().map(|(n, s)| (n.clone(), real(s.milli))).collect();
        let failures = |(n, s): &(String, Served)| s.failures.map(|f| (n.clone(), Plain::Whole(f)));
        let condition = |(kind, status, reason): &executor::Condition| {
            Plain::List([*kind, *status, *reason].into_iter().map(Plain::text).collect())
        };
        let failure = found.failure.as_ref().map(|e| e.message.as_str());
        let mut trace = vec![named("current", Plain::Whole(obs.current)), named("asked", Plain::Whole(asked))];
        trace.extend(metrics.iter().map(|(n, v)| (format!("triggers.{n}"), v.clone())));
        trace.extend([
            named("composite", real(found.composite)),
            named("fallback", Plain::Flag(found.fallback)),
            named("error", Plain::Flag(found.error)),
            named("active", Plain::Flag(found.active)),
            named("limited_by", Plain::of(step.limit, Plain::text)),
            named("desired", Plain::Whole(desired)),
        ]);
        let details = vec![
            named("active", Plain::Flag(found.active)),
            named("error", Plain::Flag(found.error)),
            named("fallback", Plain::Flag(found.fallback)),
            named("metrics", Plain::Map(metrics)),
            named("composite", real(found.composite)),
            named("formula_error", Plain::of(failure, Plain::text)),
            named("failures", Plain::Map(found.served.iter().filter_map(failures).collect())),
            named("conditions", Plain::List(step.conditions.iter().map(condition).collect())),
            named("set_last_active", Plain::Flag(step.active)),
            named("last_active", Plain::of(self.memory.executor.last_active, |n| Plain::Real(seconds(n)))),
            named("hpa", Plain::Flag(step.scale_to.is_none() && asked > 0 && !self.config.executor.paused)),
        ];
        let change =
            if desired == asked { format!("stays at {desired}") } else { format!("{asked} to {desired} replicas") };
        let because = step.limit.map_or_else(String::new, |l| format!(" ({})", because(l)));
        Written {
            current: obs.current,
            desired,
            action,
            limited_by: step.limit.map(str::to_owned),
            reason: format!("{}: {change}{because}", step.finding),
            trace,
            details,
            serial: self.memory.serial,
            at: now,
        }
    }

    /// Takes back that the decision with this number was written. Does nothing for one that wrote nothing, or that was
    /// not the last to do so.
    pub fn rejected(&mut self, serial: u64) {
        if let Some((_, before)) = self.memory.written.take_if(|(written, _)| *written == serial) {
            self.memory.executor.last_active = before;
        }
    }

    /// The memory as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        let m = &self.memory;
        let named = |name: &str, value: Plain| (name.to_owned(), value);
        let written = |(serial, before): (u64, Option<Nanos>)| {
            Plain::Map(vec![named("serial", counted(serial)), named("last_active", Plain::of(before, instant))])
        };
        let failures = m.failures.iter().map(|(n, f)| (n.clone(), Plain::Whole(*f))).collect();
        let recorded = m.recorded.iter().map(|(n, v)| (n.clone(), Plain::Real(*v))).collect();
        Plain::Map(vec![
            named("version", Plain::Whole(VERSION)),
            named("kind", Plain::text(KIND)),
            named("last_active", Plain::of(m.executor.last_active, instant)),
            named("created", Plain::of(m.created.then_some(m.executor.created), instant)),
            named("failures", Plain::Map(failures)),
            named("recorded", Plain::Map(recorded)),
            named("serial", counted(m.serial)),
            named("written", Plain::of(m.written, written)),
        ])
    }

    /// Takes over a memory, or changes nothing.
    pub fn restore(&mut self, state: &Plain) -> Result<(), ConfigError> {
        let r = Reader::new("state", state)?;
        r.check(VERSION, KIND)?;
        let known = |field: &str, name: &str| {
            let found = self.config.triggers.iter().any(|t| t.name == name);
            if found { Ok(()) } else { Err(r.error(field, format!("{name:?}"), "names of this policy's triggers")) }
        };
        let (mut failures, mut recorded) = (BTreeMap::new(), BTreeMap::new());
        let counts = r.map("failures")?;
        for (name, _) in counts.entries() {
            known("failures", name)?;
            let n = counts.count(name)?;
            failures.insert(name.clone(), i64::try_from(n).unwrap_or(i64::MAX));
        }
        let values = r.map("recorded")?;
        for (name, _) in values.entries() {
            known("recorded", name)?;
            recorded.insert(name.clone(), values.real(name)?);
        }
        let written = match r.optional_map("written")? {
            None => None,
            Some(w) => Some((w.count("serial")?, w.optional_instant("last_active")?)),
        };
        let created = r.optional_instant("created")?;
        self.memory = Memory {
            executor: Executor {
                last_active: r.optional_instant("last_active")?,
                created: created.unwrap_or_default(),
            },
            created: created.is_some(),
            failures,
            recorded,
            serial: r.count("serial")?,
            written,
        };
        Ok(())
    }
}

fn because(limit: &str) -> &'static str {
    match limit {
        "paused" => "the scaled object is paused",
        "paused_scale_out" => "scaling out is paused",
        "paused_scale_in" => "scaling in is paused",
        "fallback" => "a fallback is configured, so nothing is taken away",
        "trigger_error" => "without an answer nothing is taken away",
        "cooldown" => "the cooldown runs",
        "initial_cooldown" => "the initial cooldown runs",
        _ => "lifted to min_replicas",
    }
}
