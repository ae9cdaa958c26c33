//! The Horizontal Pod Autoscaler of Kubernetes 1.36, decision for decision: metrics to replicas, the memory of past
//! recommendations, rates, bounds, scaling to zero, and what it says about itself.
//!
//! Source: Kubernetes v1.36.2, `pkg/controller/podautoscaler`. Recordings of that code are replayed by the tests.

pub mod behavior;
pub mod calculator;
pub mod conditions;
pub mod outcome;
pub mod pods;
pub mod quantity;
pub mod state;

use crate::core::autoscaling::MAX_CAPACITY;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use std::sync::Arc;

use behavior::{Behavior, Past};
use calculator::{MetricSpec, Proposal, Reading, Setting, Source, Target, Tolerance, propose};
use conditions::{Conditions, Reason};
use outcome::{Decision, Path};
use pods::Pods;
use state::{Memory, Undo};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The metrics, in order.
    pub metrics: Vec<MetricSpec>,
    /// The fewest replicas.
    pub min: i32,
    /// The most.
    pub max: i32,
    /// The rules; None is the older path, which is not the same as the default rules.
    pub behavior: Option<Behavior>,
    /// How far a ratio may be from 1.
    pub tolerance: f64,
    /// The window of the older path.
    pub downscale_window: Nanos,
    /// How long the CPU of a started pod is doubted, in nanoseconds.
    pub cpu_initialization: i64,
    /// How long after its start a change to unready is the first report, in nanoseconds.
    pub readiness_delay: i64,
    /// Whether it may scale to zero and back.
    pub scale_to_zero: bool,
}

impl Config {
    /// Whether it could be, by the rules of the API.
    pub fn check(&self) -> Result<(), ConfigError> {
        // An object may outlive the gate that it was made under, so 0 is not refused here.
        if self.min < 0 {
            return Err(ConfigError::new("min_replicas", self.min, "a whole number of 0 or more"));
        }
        if self.max < 1 || self.max < self.min {
            let allowed = format!("a whole number of 1 or more, from min_replicas ({}) to {MAX_CAPACITY}", self.min);
            return Err(ConfigError::new("max_replicas", self.max, allowed));
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(ConfigError::new("tolerance", self.tolerance, "a number of 0 or more"));
        }
        if self.metrics.is_empty() {
            return Err(ConfigError::new("metrics", "()", "at least one metric"));
        }
        for (i, metric) in self.metrics.iter().enumerate() {
            check_metric(&format!("metrics[{i}]"), metric)?;
            if self.metrics.iter().take(i).any(|m| m.key == metric.key) {
                let allowed = "a key of its own: give one of the two metrics another key";
                return Err(ConfigError::new(format!("metrics[{i}].key"), &metric.key, allowed));
            }
        }
        for (direction, rules) in self.behavior.iter().flat_map(|b| [("scale_up", &b.up), ("scale_down", &b.down)]) {
            check_rules(&format!("behavior.{direction}"), rules)?;
        }
        Ok(())
    }

    fn tolerances(&self) -> Tolerance {
        let own = |rules: fn(&Behavior) -> &behavior::Rules| {
            self.behavior.as_ref().and_then(|b| rules(b).tolerance).unwrap_or(self.tolerance)
        };
        Tolerance { down: own(|b| &b.down), up: own(|b| &b.up) }
    }
}

/// Whether a metric could be, by the rules of the API.
pub fn check_metric(field: &str, metric: &MetricSpec) -> Result<(), ConfigError> {
    if metric.name.is_empty() {
        return Err(ConfigError::new(format!("{field}.name"), "''", "the name of a metric"));
    }
    let above = |name: &str, value: i64| {
        if value > 0 {
            return Ok(());
        }
        Err(ConfigError::new(format!("{field}.{name}"), value, "a target above 0"))
    };
    match metric.target {
        Target::Utilization(percent) => above("average_utilization", i64::from(percent)),
        Target::AverageValue(value) => above("average_value", value),
        Target::Value(value) => above("value", value),
    }
}

fn check_rules(field: &str, rules: &behavior::Rules) -> Result<(), ConfigError> {
    let at = |name: &str| format!("{field}.{name}");
    if rules.window > Nanos(3_600_000_000_000) {
        let allowed = "seconds from 0 to 3600";
        return Err(ConfigError::new(at("stabilization_window"), rules.window.as_secs_f64(), allowed));
    }
    if rules.policies.is_empty() {
        return Err(ConfigError::new(at("policies"), "()", "at least one policy"));
    }
    if let Some(t) = rules.tolerance
        && !(t >= 0.0 && t.is_finite())
    {
        return Err(ConfigError::new(at("tolerance"), t, "a number of 0 or more"));
    }
    for (i, policy) in rules.policies.iter().enumerate() {
        if policy.value < 1 {
            return Err(ConfigError::new(at(&format!("policies[{i}].value")), policy.value, "1 or more"));
        }
        if !(1_000_000_000..=1_800_000_000_000).contains(&policy.period.0) {
            let field = at(&format!("policies[{i}].period"));
            return Err(ConfigError::new(field, policy.period.0 as f64 / 1e9, "seconds from 1 to 1800"));
        }
    }
    Ok(())
}

/// What is observed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Replicas in service.
    pub current: i32,
    /// Replicas that were asked for: `scale.spec.replicas`.
    pub asked: i32,
    /// Replicas that a controller last reported: `scale.status.replicas`.
    pub status: i32,
    /// The pods, with the metrics that have a value each.
    pub pods: Option<&'a Pods>,
}

/// The autoscaler.
#[derive(Clone, Debug)]
pub struct HorizontalPodAutoscaler {
    config: Arc<Config>,
    tolerance: Tolerance,
    memory: Memory,
}

impl HorizontalPodAutoscaler {
    /// One with an empty memory.
    pub fn new(config: Config) -> Result<HorizontalPodAutoscaler, ConfigError> {
        config.check()?;
        Ok(HorizontalPodAutoscaler {
            tolerance: config.tolerances(),
            config: Arc::new(config),
            memory: Memory::default(),
        })
    }

    /// The same configuration with an empty memory.
    #[must_use]
    pub fn fresh(&self) -> HorizontalPodAutoscaler {
        HorizontalPodAutoscaler { memory: Memory::default(), ..self.clone() }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes over a memory, also of one that was configured in another way: a configuration may be edited.
    pub fn restore(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// One decision. The memory assumes that it is carried out; see [`HorizontalPodAutoscaler::rejected`].
    pub fn recommend<'r>(&mut self, seen: &Seen<'_>, reading: impl Fn(&str) -> Reading<'r>, now: Nanos) -> Decision {
        let config = Arc::clone(&self.config);
        let m = &mut self.memory;
        let current = seen.asked;
        m.conditions.set(Reason::SucceededGetScale);
        if m.recommendations.is_empty() {
            m.recommendations.push(Past { replicas: current, at: now });
        }
        m.serial += 1;
        let mut d = Decision {
            current: seen.current,
            asked: current,
            desired: current,
            path: Path::Disabled,
            proposals: Vec::new(),
            best: None,
            raw: None,
            normalized: None,
            conditions: Conditions::default(),
            status_desired: m.status_desired,
            last_scale: m.last_scale,
            serial: m.serial,
            at: now,
            config: Arc::clone(&config),
        };
        let zeroed = config.scale_to_zero && m.conditions.get(1) == Some(Reason::ScaledToZero);
        let outside = config.metrics.iter().any(|s| matches!(s.source, Source::Object | Source::External));
        if current == 0 && !(zeroed && (config.min != 0 || outside)) {
            m.conditions.set(Reason::ScalingDisabled);
        } else if current > config.max {
            (d.path, d.desired) = (Path::AboveMax, config.max);
        } else if current != 0 && current < config.min {
            (d.path, d.desired) = (Path::BelowMin, config.min);
        } else {
            let setting = Setting {
                current,
                ready: seen.current,
                status: seen.status,
                pods: seen.pods,
                tolerance: self.tolerance,
                cpu_initialization: config.cpu_initialization,
                readiness_delay: config.readiness_delay,
                now: i64::try_from(now.0).unwrap_or(i64::MAX),
            };
            d.proposals = config.metrics.iter().map(|s| propose(s, reading(&s.key), &setting)).collect();
            d.best = best(&d.proposals);
            let replicas = d.best.and_then(|i| d.replicas(i)).unwrap_or(0);
            let failed = d.proposals.iter().position(Result::is_err);
            let first = failed.and_then(|i| config.metrics.get(i));
            if let Some(spec) = first.filter(|_| d.best.is_none() || replicas < current) {
                d.path = Path::Failed;
                m.conditions.set(Reason::failed(spec));
                d.conditions = m.conditions;
                return d;
            }
            d.path = Path::Metrics;
            m.conditions.set(Reason::ValidMetricFound);
            let raw = replicas.max(0);
            d.raw = Some(raw);
            let list = &mut m.recommendations;
            let n = match &config.behavior {
                None => behavior::legacy(list, current, raw, (config.min, config.max), config.downscale_window, now),
                Some(b) => b.normalize(list, (&m.ups, &m.downs), current, raw, (config.min, config.max), now),
            };
            m.conditions.set(if n.stabilized == raw {
                Reason::ReadyForNewScale
            } else if config.behavior.is_some() && raw >= current {
                Reason::ScaleUpStabilized
            } else {
                Reason::ScaleDownStabilized
            });
            m.conditions.set(Reason::bound(n.bound));
            d.normalized = Some(n);
            d.desired = n.desired;
            if current == 0 && config.min != 0 && zeroed {
                d.desired = d.desired.max(config.min);
            }
        }
        if d.desired != current {
            m.apply(&config, current, d.desired, outside, now);
        } else {
            m.status_desired = current;
        }
        (d.conditions, d.status_desired, d.last_scale) = (m.conditions, m.status_desired, m.last_scale);
        d
    }

    /// Takes back what was assumed: the write failed. Does nothing for another recommendation than the last that
    /// changed something.
    pub fn rejected(&mut self, serial: u64, at: Nanos) {
        self.memory.take_back(serial, at);
    }
}

/// The largest proposal, the first of equals. One of 0 gives way to any, as does none.
fn best(proposals: &[Result<Proposal, calculator::Failure>]) -> Option<usize> {
    let mut best: Option<(usize, i32)> = None;
    for (i, proposal) in proposals.iter().enumerate() {
        if let Ok(p) = proposal
            && best.is_none_or(|(_, replicas)| replicas == 0 || p.replicas > replicas)
        {
            best = Some((i, p.replicas));
        }
    }
    best.map(|(i, _)| i)
}

impl Memory {
    fn apply(&mut self, config: &Config, before: i32, after: i32, outside: bool, now: Nanos) {
        self.last = Some(Box::new(Undo {
            serial: self.serial,
            at: now,
            ups: self.ups.clone(),
            downs: self.downs.clone(),
            zero: self.conditions.get(1),
            status_desired: self.status_desired,
            last_scale: self.last_scale,
        }));
        if let Some(b) = &config.behavior {
            b.store(&mut self.ups, &mut self.downs, before, after, now);
        }
        self.conditions.set(Reason::SucceededRescale);
        if config.scale_to_zero {
            let zero = before > 0 && after == 0 && config.min == 0 && outside;
            self.conditions.set(if zero { Reason::ScaledToZero } else { Reason::NotScaledToZero });
        }
        self.status_desired = after;
        self.last_scale = Some(now);
    }

    fn take_back(&mut self, serial: u64, at: Nanos) {
        if self.last.as_ref().is_none_or(|u| u.serial != serial || u.at != at) {
            return;
        }
        if let Some(undo) = self.last.take() {
            self.ups = undo.ups;
            self.downs = undo.downs;
            if let Some(place) = self.conditions.0.get_mut(1) {
                *place = undo.zero;
            }
            self.conditions.set(Reason::FailedUpdateScale);
            self.status_desired = undo.status_desired;
            self.last_scale = undo.last_scale;
        }
    }
}
