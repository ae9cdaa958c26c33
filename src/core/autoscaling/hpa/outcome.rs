//! A decision, and the story of how it came about, told on demand.

use super::Config;
use super::behavior::{Bound, Normalized};
use super::calculator::{Failure, MetricSpec, Proposal, Source, Target};
use super::conditions::{Conditions, Reason};
use crate::core::autoscaling::recommendation::Action;
use crate::core::autoscaling::told::{Outcome, Plain};
use crate::core::time::Nanos;
use std::sync::Arc;

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Zero replicas, and not by its own doing: it is paused.
    Disabled,
    /// More replicas than allowed: metrics are not read.
    AboveMax,
    /// Fewer: likewise.
    BelowMin,
    /// By the metrics.
    Metrics,
    /// Metrics failed, and the others do not ask for more.
    Failed,
}

/// A decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas in service.
    pub current: i32,
    /// Replicas that were asked for.
    pub asked: i32,
    /// Replicas that should be asked for.
    pub desired: i32,
    /// Which way it went.
    pub path: Path,
    /// What each metric says; empty when they were not read.
    pub proposals: Vec<Result<Proposal, Failure>>,
    /// The metric that decided.
    pub best: Option<usize>,
    /// What that asks for.
    pub raw: Option<i32>,
    /// What became of it.
    pub normalized: Option<Normalized>,
    /// The conditions afterwards.
    pub conditions: Conditions,
    /// The status afterwards.
    pub status_desired: i32,
    /// When it last scaled.
    pub last_scale: Option<Nanos>,
    /// Its number.
    pub serial: u64,
    /// When it was made.
    pub at: Nanos,
    /// The configuration that it was made by.
    pub config: Arc<Config>,
}

fn whole(n: i32) -> Plain {
    Plain::Whole(i64::from(n))
}

/// A number for people: thousandths as units.
fn units(milli: i64) -> String {
    format!("{}", milli as f64 / 1000.0)
}

fn goal(target: Target) -> String {
    match target {
        Target::Utilization(p) => format!("{p} %"),
        Target::AverageValue(v) | Target::Value(v) => units(v),
    }
}

impl Decision {
    /// What one metric asks for.
    #[must_use]
    pub fn replicas(&self, metric: usize) -> Option<i32> {
        self.proposals.get(metric)?.as_ref().ok().map(|p| p.replicas)
    }

    fn decider(&self) -> Option<(&MetricSpec, &Proposal)> {
        let i = self.best?;
        Some((self.config.metrics.get(i)?, self.proposals.get(i)?.as_ref().ok()?))
    }

    /// The metrics that failed.
    fn failures(&self) -> impl Iterator<Item = (&MetricSpec, &Failure)> {
        self.config.metrics.iter().zip(&self.proposals).filter_map(|(s, p)| Some((s, p.as_ref().err()?)))
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let count = self.failures().count();
        let (spec, failure) = self.failures().next()?;
        let (all, why) = (self.proposals.len(), failure.text(&spec.name));
        Some(format!("{count} of {all} metrics failed, first {}: {why}", spec.key))
    }

    fn finding(&self) -> String {
        match self.path {
            Path::Disabled => "there are 0 replicas, and not by this policy: it is paused".to_owned(),
            Path::AboveMax => format!("there are more than max_replicas ({})", self.config.max),
            Path::BelowMin => format!("there are fewer than min_replicas ({})", self.config.min),
            Path::Failed => self.error().unwrap_or_default(),
            Path::Metrics => {
                let Some((spec, p)) = self.decider() else { return "no metric decides".to_owned() };
                let value = p.utilization.map_or_else(|| units(p.usage), |u| format!("{u} %"));
                let side = if p.within {
                    "is within the tolerance of"
                } else if p.ratio > 1.0 {
                    "is above"
                } else if p.ratio < 1.0 {
                    "is below"
                } else {
                    "is at"
                };
                format!("{} {value} {side} the target {}", spec.key, goal(spec.target))
            }
        }
    }

    fn because(&self) -> Option<&'static str> {
        Some(match self.limited_by()? {
            "scale_up_limit" => "as fast as the rate of scaling up allows",
            "scale_down_limit" => "as fast as the rate of scaling down allows",
            "min_replicas" => "bounded by min_replicas",
            "max_replicas" => "bounded by max_replicas",
            "stabilization" => "past recommendations in the stabilization window count",
            "missing_metrics" => "a metric that is missing may have asked for more",
            _ => return None,
        })
    }

    fn metric(spec: &MetricSpec, proposal: &Result<Proposal, Failure>) -> Plain {
        let source = match (spec.source, &spec.container) {
            (Source::Resource, Some(_)) => "container_resource",
            (Source::Resource, None) => "resource",
            (Source::Pods, _) => "pods",
            (Source::Object, _) => "object",
            (Source::External, _) => "external",
        };
        let mut out = vec![("key".to_owned(), Plain::text(&*spec.key)), ("source".to_owned(), Plain::text(source))];
        let mut add = |name: &str, value| out.push((name.to_owned(), value));
        let p = proposal.as_ref().ok();
        add("replicas", Plain::of(p, |p| whole(p.replicas)));
        add("usage", Plain::of(p, |p| Plain::Real(p.usage as f64 / 1000.0)));
        add("utilization", Plain::of(p.and_then(|p| p.utilization), whole));
        add("ratio", Plain::of(p, |p| Plain::Real(p.ratio)));
        add("within_tolerance", Plain::of(p, |p| Plain::Flag(p.within)));
        add("error", Plain::of(proposal.as_ref().err(), |e| Plain::Text(e.text(&spec.name))));
        Plain::Map(out)
    }
}

/// Conditions as rows of name, status and reason.
#[must_use]
pub fn rows(conditions: &Conditions) -> Plain {
    Plain::List(
        conditions
            .rows()
            .map(|(name, status, reason)| {
                Plain::List(vec![Plain::text(name), Plain::text(status), Plain::text(reason)])
            })
            .collect(),
    )
}

impl Outcome for Decision {
    fn current(&self) -> i64 {
        i64::from(self.current)
    }

    fn desired(&self) -> i64 {
        i64::from(self.desired)
    }

    fn action(&self) -> Action {
        if self.desired > self.asked {
            Action::ScaleOut
        } else if self.desired < self.asked {
            Action::ScaleIn
        } else if self.path == Path::Failed {
            Action::InsufficientData
        } else {
            Action::None
        }
    }

    fn limited_by(&self) -> Option<&str> {
        match self.path {
            Path::Disabled => return Some("scaling_disabled"),
            Path::AboveMax => return Some("max_replicas"),
            Path::BelowMin => return Some("min_replicas"),
            Path::Failed => return Some("missing_metrics"),
            Path::Metrics => {}
        }
        let n = self.normalized?;
        match n.bound {
            // From zero the lower bound is applied at the end.
            Bound::Within if self.desired != n.desired => Some("min_replicas"),
            Bound::TooFew => Some("min_replicas"),
            Bound::TooMany => Some("max_replicas"),
            Bound::ScaleUpLimit => Some("scale_up_limit"),
            Bound::ScaleDownLimit => Some("scale_down_limit"),
            Bound::Within if Some(n.stabilized) != self.raw => Some("stabilization"),
            Bound::Within => {
                let (_, p) = self.decider()?;
                (p.within && p.need.ceil() != f64::from(p.replicas)).then_some("tolerance")
            }
        }
    }

    fn reason(&self) -> String {
        let change = if self.desired == self.asked {
            format!("stays at {}", self.desired)
        } else {
            format!("{} to {}", self.asked, self.desired)
        };
        let because = self.because().map_or_else(String::new, |b| format!(" ({b})"));
        let also = match self.path {
            Path::Metrics => self.error().map_or_else(String::new, |e| format!("; {e}")),
            _ => String::new(),
        };
        format!("{}: {change}{because}{also}", self.finding())
    }

    fn trace(&self) -> Vec<(String, Plain)> {
        let mut out = Vec::new();
        let mut add = |name: String, value| out.push((name, value));
        add("current".to_owned(), whole(self.current));
        add("asked".to_owned(), whole(self.asked));
        for (i, (spec, proposal)) in self.config.metrics.iter().zip(&self.proposals).enumerate() {
            let p = proposal.as_ref().ok();
            add(format!("metrics[{i}].key"), Plain::text(&*spec.key));
            add(format!("metrics[{i}].ratio"), Plain::of(p, |p| Plain::Real(p.ratio)));
            add(format!("metrics[{i}].raw"), Plain::of(p, |p| Plain::Real(p.need)));
            add(format!("metrics[{i}].tolerance"), Plain::of(p, |p| whole(p.replicas)));
        }
        let decider = self.decider().map(|(_, p)| p);
        add("raw".to_owned(), Plain::of(decider, |p| Plain::Real(p.need)));
        add("tolerance".to_owned(), Plain::of(self.raw, whole));
        let n = self.normalized;
        add("stabilization".to_owned(), Plain::of(n, |n| whole(n.stabilized)));
        add("rate_limits".to_owned(), Plain::of(n, |n| whole(n.rated)));
        add("bounds".to_owned(), whole(self.desired));
        add("limited_by".to_owned(), Plain::of(self.limited_by(), Plain::text));
        add("desired".to_owned(), whole(self.desired));
        out
    }

    fn details(&self) -> Vec<(String, Plain)> {
        let metrics = self.config.metrics.iter().zip(&self.proposals).map(|(s, p)| Decision::metric(s, p));
        let scaled = (self.desired != self.asked).then_some(self.desired);
        [
            ("scaled_to", Plain::of(scaled, whole)),
            ("conditions", rows(&self.conditions)),
            ("metrics", Plain::List(metrics.collect())),
            ("metric", Plain::of(self.decider(), |(s, _)| Plain::text(&*s.key))),
            ("error", Plain::of(self.error(), Plain::Text)),
            ("current_replicas", whole(self.asked)),
            ("desired_replicas", whole(self.status_desired)),
            ("last_scale", Plain::of(self.last_scale, |t| Plain::Real(t.as_secs_f64()))),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn serial(&self) -> u64 {
        self.serial
    }

    fn at(&self) -> Nanos {
        self.at
    }
}

/// The reason that a condition has, by its name.
#[must_use]
pub fn reason_named(name: &str) -> Option<Reason> {
    Reason::ALL.into_iter().find(|r| r.name() == name)
}
