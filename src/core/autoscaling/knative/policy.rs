//! A Knative autoscaler and scaler as one policy with a memory.

use super::autoscaler::{self, Decision, Panic};
use super::config::{Aggregation, KnativeConfig};
use super::scaler::{self, Activity, ScaleInput, ScaleOutput};
use super::{BUCKET_SECONDS, MaxWindow, Window};
use crate::core::autoscaling::plain::{Reader, counted, instant, seconds};
use crate::core::autoscaling::recommendation::Action;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{MAX_METRIC, Metric, Observation, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

const SECOND: u64 = 1_000_000_000;
const BUCKET: Nanos = Nanos(BUCKET_SECONDS * SECOND);
/// The length of a slot of the scale-down delay: the autoscaler's tick.
const DELAY_SLOT: Nanos = Nanos(2 * SECOND);
const VERSION: i64 = 1;
const KIND: &str = "knative";

/// Under this name an observation says whether a probe finds the activator in the path.
pub const PROBE: &str = "activator_probe";

/// The machine that scales to zero.
#[derive(Clone, Debug, PartialEq)]
struct Machine {
    activity: Activity,
    since: Option<Nanos>,
    initialized: bool,
    proxying: bool,
    proxying_since: Option<Nanos>,
    desired: i32,
    burst_capacity: i32,
    started: bool,
    serial: u64,
    // The bucket and the value of what an observation said, so that asking twice does not count it twice.
    observed: Option<(u64, f64)>,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct KnativePolicy {
    config: KnativeConfig,
    stable: Window,
    panicky: Window,
    panic: Panic,
    delay: Option<MaxWindow>,
    machine: Machine,
}

impl KnativePolicy {
    /// A policy with an empty memory.
    pub fn new(config: KnativeConfig) -> Result<KnativePolicy, ConfigError> {
        config.check()?;
        let weighted = config.aggregation == Aggregation::WeightedExponential;
        let delay = config.scale_down_delay;
        Ok(KnativePolicy {
            stable: Window::new(config.stable_window, BUCKET, weighted)?,
            panicky: Window::new(config.panic_window(), BUCKET, weighted)?,
            panic: Panic::default(),
            delay: (delay > Nanos::ZERO).then(|| MaxWindow::new(delay, DELAY_SLOT)).transpose()?,
            machine: Machine {
                activity: Activity::Activating,
                since: None,
                initialized: false,
                proxying: true,
                proxying_since: None,
                desired: -1,
                burst_capacity: config.initial_burst_capacity(),
                started: false,
                serial: 0,
                observed: None,
            },
            config,
        })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &KnativeConfig {
        &self.config
    }

    /// Whether a value can be averaged.
    pub fn check_value(&self, value: f64) -> Result<(), MetricError> {
        if value.is_finite() && value.abs() <= MAX_METRIC {
            return Ok(());
        }
        Err(metric_error(self.config.metric.name(), value, "a finite number up to 2^360 is allowed"))
    }

    /// Takes up what one pod reported; `proxied` came through the activator, which reports it too.
    pub fn record(&mut self, name: &str, value: f64, proxied: f64, at: Nanos) -> Result<(), MetricError> {
        if name != self.config.metric.name() {
            let allowed = format!("this policy reads {}", self.config.metric.name());
            return Err(metric_error(name, value, allowed));
        }
        self.check_value(value)?;
        self.check_value(proxied)?;
        self.add(value - proxied, at);
        Ok(())
    }

    fn add(&mut self, value: f64, at: Nanos) {
        self.stable.record(at, value);
        self.panicky.record(at, value);
    }

    /// The autoscaler is made when `ready` pods are there: several begin a panic, as after a restart.
    pub fn start(&mut self, ready: i64, now: Nanos) {
        self.panic = Panic::at_start(clamp(ready), now);
        self.machine.started = true;
    }

    /// The decision for what is observed.
    pub fn recommend(&mut self, obs: &Observation<'_>, now: Nanos) -> Result<Written, MetricError> {
        obs.check()?;
        let name = self.config.metric.name();
        if let Metric::Value(v) = obs.metric(name) {
            self.check_value(v)?;
        }
        let probe_ok = match obs.metric(PROBE) {
            Metric::Value(v) => v != 0.0,
            Metric::Missing => false,
            Metric::Absent => true,
        };
        if let Metric::Value(v) = obs.metric(name) {
            let bucket = now.0 / BUCKET.0;
            let before = self.machine.observed.filter(|(b, _)| *b == bucket).map_or(0.0, |(_, v)| v);
            self.add(v - before, now);
            self.machine.observed = Some((bucket, v));
        }
        if !self.machine.started {
            self.start(obs.current, now);
        }
        let averages = (self.stable.average(now), self.panicky.average(now));
        let decision = (!self.stable.is_empty(now) || !self.config.scraped()).then(|| {
            let ready = clamp(obs.current);
            autoscaler::step(&self.config, &mut self.panic, self.delay.as_mut(), averages, ready, now)
        });
        if let Some(d) = &decision {
            self.machine.desired = d.desired;
            self.machine.burst_capacity = d.burst_capacity;
        }
        let scaled = self.apply(obs, probe_ok, now);
        self.machine.serial = self.machine.serial.wrapping_add(1);
        Ok(self.tell(obs, averages, decision.as_ref(), &scaled, now))
    }

    fn apply(&mut self, obs: &Observation<'_>, probe_ok: bool, now: Nanos) -> ScaleOutput {
        let m = &mut self.machine;
        let input = ScaleInput {
            desired: m.desired,
            replicas: clamp(obs.asked()),
            activity: m.activity,
            held: now.since(*m.since.get_or_insert(now)),
            initialized: m.initialized,
            proxying: m.proxying,
            proxied: m.proxying_since.filter(|_| m.proxying).map(|since| now.since(since)),
            probe_ok,
        };
        let out = scaler::scale(&self.config, &input);
        let (next, initialized, _) =
            scaler::next_activity(&self.config, m.activity, m.initialized, out.want, obs.current);
        if next != m.activity {
            m.since = Some(now);
        }
        m.activity = next;
        m.initialized = initialized;
        let proxying = !(out.want > 0 && m.burst_capacity >= 0);
        if proxying && (m.proxying_since.is_none() || !m.proxying) {
            m.proxying_since = Some(now);
        }
        m.proxying = proxying;
        out
    }

    fn tell(
        &self,
        obs: &Observation<'_>,
        (stable, panicky): (f64, f64),
        decision: Option<&Decision>,
        scaled: &ScaleOutput,
        now: Nanos,
    ) -> Written {
        let m = &self.machine;
        let asked = obs.asked();
        let desired = scaled.patch.map_or(asked, i64::from);
        let (total, target) = self.config.total_and_target();
        let limited_by = scaled.limit.or(decision.and_then(bound));
        let action = match desired.cmp(&asked) {
            std::cmp::Ordering::Greater => Action::ScaleOut,
            std::cmp::Ordering::Less => Action::ScaleIn,
            std::cmp::Ordering::Equal if decision.is_none() => Action::InsufficientData,
            std::cmp::Ordering::Equal => Action::None,
        };
        let named = |name: &str, value: Plain| (name.to_owned(), value);
        let whole = |n: i32| Plain::Whole(i64::from(n));
        let from = |f: fn(&Decision) -> Plain| decision.map_or(Plain::Nothing, f);
        let requeue = Plain::of(scaled.requeue_after, |n| Plain::Real(seconds(n)));
        let trace = vec![
            named("current", Plain::Whole(obs.current)),
            named("asked", Plain::Whole(asked)),
            named("stable", Plain::Real(stable)),
            named("panic", Plain::Real(panicky)),
            named("target", Plain::Real(target)),
            named("stable_pods", from(|d| Plain::Real(d.stable_pods))),
            named("panic_pods", from(|d| Plain::Real(d.panic_pods))),
            named("stable_desired", from(|d| Plain::Whole(i64::from(d.stable_desired)))),
            named("panic_desired", from(|d| Plain::Whole(i64::from(d.panic_desired)))),
            named("panicking", from(|d| Plain::Flag(d.panicking))),
            named("undelayed", from(|d| Plain::Whole(i64::from(d.undelayed)))),
            named("autoscaler", whole(m.desired)),
            named("want", whole(scaled.want)),
            named("limited_by", Plain::of(limited_by, Plain::text)),
            named("desired", Plain::Whole(desired)),
        ];
        let details = vec![
            named("stable", Plain::Real(stable)),
            named("panic", Plain::Real(panicky)),
            named("valid", Plain::Flag(decision.is_some())),
            named("panicking", Plain::Flag(self.panic.since.is_some())),
            named("autoscaler", whole(m.desired)),
            named("ebc", whole(m.burst_capacity)),
            named("total", Plain::Real(total)),
            named("target", Plain::Real(target)),
            named("want", whole(scaled.want)),
            named("activity", Plain::text(m.activity.name())),
            named("initialized", Plain::Flag(m.initialized)),
            named("mode", Plain::text(if m.proxying { "proxy" } else { "serve" })),
            named("activators", Plain::Whole(self.config.activators(obs.current))),
            named("probed", Plain::Flag(scaled.probed)),
            named("keep_probing", Plain::Flag(scaled.keep_probing)),
            named("requeue_after", requeue),
        ];
        let change =
            if desired == asked { format!("stays at {desired}") } else { format!("{asked} to {desired} replicas") };
        let finding = self.finding(stable, panicky, target, decision);
        let because = limited_by.map_or_else(String::new, |l| format!(" ({})", because(l)));
        Written {
            current: obs.current,
            desired,
            action,
            limited_by: limited_by.map(str::to_owned),
            reason: format!("{finding}: {change}{because}"),
            trace,
            details,
            serial: m.serial,
            at: now,
        }
    }

    fn finding(&self, stable: f64, panicky: f64, target: f64, decision: Option<&Decision>) -> String {
        let name = self.config.metric.name();
        match decision {
            None => format!("no {name} for a stable window"),
            Some(d) if d.panicking => {
                format!(
                    "panic: {name} {panicky} of the panic window and {stable} of the stable one at the target {target}"
                )
            }
            Some(_) => format!("{name} {stable} at the target {target}"),
        }
    }

    /// The memory as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        let m = &self.machine;
        let named = |name: &str, value: Plain| (name.to_owned(), value);
        let observed = |(bucket, value): (u64, f64)| Plain::List(vec![counted(bucket), Plain::Real(value)]);
        Plain::Map(vec![
            named("version", Plain::Whole(VERSION)),
            named("kind", Plain::text(KIND)),
            named("metric", Plain::text(self.config.metric.name())),
            named("stable", self.stable.state()),
            named("panic", self.panicky.state()),
            named("panic_since", Plain::of(self.panic.since, instant)),
            named("panic_most", Plain::Whole(i64::from(self.panic.most))),
            named("delay", Plain::of(self.delay.as_ref(), MaxWindow::state)),
            named("activity", Plain::text(m.activity.name())),
            named("since", Plain::of(m.since, instant)),
            named("initialized", Plain::Flag(m.initialized)),
            named("proxying", Plain::Flag(m.proxying)),
            named("proxying_since", Plain::of(m.proxying_since, instant)),
            named("desired", Plain::Whole(i64::from(m.desired))),
            named("burst_capacity", Plain::Whole(i64::from(m.burst_capacity))),
            named("started", Plain::Flag(m.started)),
            named("serial", counted(m.serial)),
            named("observed", Plain::of(m.observed, observed)),
        ])
    }

    fn read(&self, state: &Plain) -> Result<KnativePolicy, ConfigError> {
        let r = Reader::new("state", state)?;
        r.check(VERSION, KIND)?;
        let metric = r.text("metric")?;
        if metric != self.config.metric.name() {
            return Err(r.error("metric", metric, self.config.metric.name()));
        }
        let activity = r.text("activity")?;
        let Some(activity) = Activity::ALL.into_iter().find(|a| a.name() == activity) else {
            return Err(r.error("activity", activity, "one of active, activating, inactive"));
        };
        let observed = if matches!(r.get("observed")?, Plain::Nothing) {
            None
        } else {
            match r.reals("observed")?.as_slice() {
                [bucket, value] => Some((*bucket as u64, *value)),
                _ => return Err(r.error("observed", "something else", "a bucket and a value")),
            }
        };
        let (stable, panicky) = (Window::from_state(&r.map("stable")?)?, Window::from_state(&r.map("panic")?)?);
        for (name, window) in [("stable", &stable), ("panic", &panicky)] {
            if window.weighted() != self.stable.weighted() || window.granularity() != BUCKET {
                return Err(r.error(name, "of another aggregation", "windows of this policy's aggregation"));
            }
        }
        Ok(KnativePolicy {
            config: self.config.clone(),
            stable,
            panicky,
            panic: Panic { since: r.optional_instant("panic_since")?, most: r.small("panic_most")? },
            delay: r.optional_map("delay")?.map(|d| MaxWindow::from_state(&d)).transpose()?,
            machine: Machine {
                activity,
                since: r.optional_instant("since")?,
                initialized: r.flag("initialized")?,
                proxying: r.flag("proxying")?,
                proxying_since: r.optional_instant("proxying_since")?,
                desired: r.small("desired")?,
                burst_capacity: r.small("burst_capacity")?,
                started: r.flag("started")?,
                serial: r.count("serial")?,
                observed,
            },
        })
    }

    /// Takes over a memory, or changes nothing.
    pub fn restore(&mut self, state: &Plain) -> Result<(), ConfigError> {
        let fresh = self.read(state)?;
        for (field, window, own) in [("stable", &fresh.stable, &self.stable), ("panic", &fresh.panicky, &self.panicky)]
        {
            if window.length() != own.length() {
                let allowed = format!("{} seconds, or a policy made by replace()", seconds(own.length()));
                let field = format!("state.{field}.window");
                return Err(ConfigError::new(field, seconds(window.length()), allowed));
            }
        }
        *self = fresh;
        Ok(())
    }

    /// Takes over the memory of a policy of another configuration, as Knative does when an annotation changes: windows
    /// are resized, the scale-down delay stays what it was made as.
    pub fn adopt(&mut self, state: &Plain, now: Nanos) -> Result<(), ConfigError> {
        let mut fresh = self.read(state)?;
        fresh.stable.resize(self.stable.length(), now)?;
        fresh.panicky.resize(self.panicky.length(), now)?;
        *self = fresh;
        Ok(())
    }
}

fn clamp(n: i64) -> i32 {
    n.clamp(0, i64::from(i32::MAX)) as i32
}

/// What bound the autoscaler's own number.
fn bound(d: &Decision) -> Option<&'static str> {
    if d.desired > d.undelayed {
        Some("scale_down_delay")
    } else if d.panicking && d.undelayed > d.stable_desired {
        Some("panic")
    } else if d.activated {
        Some("activation_scale")
    } else if d.up_limited {
        Some("max_scale_up_rate")
    } else if d.down_limited {
        Some("max_scale_down_rate")
    } else {
        None
    }
}

fn because(limit: &str) -> &'static str {
    match limit {
        "no_decision" => "nothing was measured yet",
        "min_scale" => "bounded by min_scale",
        "max_scale" => "bounded by max_scale",
        "initial_scale" => "the initial scale is not reached yet",
        "scale_to_zero_disabled" => "scale to zero is disabled",
        "activating" => "it is still activating",
        "deactivating" => "it is marked inactive before the last pod goes",
        "stable_window" => "the last pod stays for a stable window",
        "activator_probe" => "the activator is not in the path yet",
        "pod_retention_period" => "the last pod is retained",
        "grace_period" => "the activator has to be in the path for the grace period",
        "scale_down_delay" => "a larger number within the scale-down delay counts",
        "panic" => "panic never scales in",
        "activation_scale" => "lifted to the activation scale",
        "max_scale_up_rate" => "limited by max_scale_up_rate",
        _ => "limited by max_scale_down_rate",
    }
}
