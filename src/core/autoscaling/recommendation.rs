//! What a policy recommends, and the story of how it came to that, told on demand.

use crate::core::time::Nanos;
use std::sync::Arc;

/// What a recommendation does to the desired capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// More.
    ScaleOut,
    /// Less.
    ScaleIn,
    /// The same.
    None,
    /// The same, because the metric is missing.
    InsufficientData,
}

impl Action {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::ScaleOut => "scale_out",
            Action::ScaleIn => "scale_in",
            Action::None => "none",
            Action::InsufficientData => "insufficient_data",
        }
    }
}

/// What kept a recommendation from being what the metric alone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The lower bound.
    MinCapacity,
    /// The upper bound.
    MaxCapacity,
    /// Capacity on its way covers the need.
    InFlight,
    /// Something warms up, so nothing is removed.
    Warming,
    /// What the last scale-out added counts.
    ScaleOutCooldown,
    /// The last scale-in was too recent.
    ScaleInCooldown,
    /// Scale-in is disabled.
    DisableScaleIn,
    /// Zero times anything is zero.
    ZeroCapacity,
    /// The other target tracking policies do not agree to scale in.
    NotUnanimous,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 9] = [
        Limit::MinCapacity,
        Limit::MaxCapacity,
        Limit::InFlight,
        Limit::Warming,
        Limit::ScaleOutCooldown,
        Limit::ScaleInCooldown,
        Limit::DisableScaleIn,
        Limit::ZeroCapacity,
        Limit::NotUnanimous,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Limit::MinCapacity => "min_capacity",
            Limit::MaxCapacity => "max_capacity",
            Limit::InFlight => "in_flight",
            Limit::Warming => "warming",
            Limit::ScaleOutCooldown => "scale_out_cooldown",
            Limit::ScaleInCooldown => "scale_in_cooldown",
            Limit::DisableScaleIn => "disable_scale_in",
            Limit::ZeroCapacity => "zero_capacity",
            Limit::NotUnanimous => "not_unanimous",
        }
    }

    fn because(self) -> &'static str {
        match self {
            Limit::MinCapacity => "bounded by min_capacity",
            Limit::MaxCapacity => "bounded by max_capacity",
            Limit::InFlight => "capacity on its way covers it",
            Limit::Warming => "nothing is removed while capacity warms up",
            Limit::ScaleOutCooldown => "what the last scale-out added counts toward it",
            Limit::ScaleInCooldown => "the scale-in cooldown runs",
            Limit::DisableScaleIn => "scale-in is disabled",
            Limit::ZeroCapacity => "target tracking multiplies, and cannot leave a capacity of 0",
            Limit::NotUnanimous => "not every target tracking policy agrees to scale in",
        }
    }
}

/// What the alarms, or the metric itself, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Within limits.
    Ok,
    /// Above.
    High,
    /// Below.
    Low,
    /// No data.
    InsufficientData,
}

impl Signal {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Signal::Ok => "ok",
            Signal::High => "high",
            Signal::Low => "low",
            Signal::InsufficientData => "insufficient_data",
        }
    }
}

/// Which rule made a recommendation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Target tracking, and its target.
    TargetTracking(f64),
    /// Step scaling, and its threshold.
    StepScaling(f64),
    /// Several policies.
    Combined,
}

/// A value in a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StageValue {
    /// Missing.
    Nothing,
    /// A capacity, a count, an index.
    Whole(i64),
    /// A metric or a raw need.
    Real(f64),
    /// A word.
    Word(&'static str),
}

/// How many servers there should be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// The capacity in service when it was made.
    pub current: i64,
    /// What the group had been asked to be.
    pub asked: i64,
    /// What it should be asked to be.
    pub desired: i64,
    /// Capacity that was warming.
    pub warming: i64,
    /// What bound it.
    pub limited_by: Option<Limit>,
    /// What the metric says.
    pub signal: Signal,
    /// The rule.
    pub rule: Rule,
    /// The metric's name; empty for several.
    pub name: Arc<str>,
    /// The value that was used.
    pub metric: Option<f64>,
    /// The capacity at which that was measured.
    pub measured_at: f64,
    /// The capacity that the sizing began with.
    pub base: i64,
    /// The capacity that is needed, before rounding (target tracking).
    pub need: Option<f64>,
    /// The capacity that the rule asks for, before anything limits it.
    pub wanted: Option<i64>,
    /// The index of the step that matched (step scaling).
    pub step: Option<usize>,
    /// The rounded change (step scaling).
    pub adjustment: Option<i64>,
    /// The capacity that this counts as beside other policies; `None` is no opinion.
    pub vote: Option<i64>,
    /// The alarm's last period, if an alarm decided.
    pub period: Option<u64>,
    /// Whether it repeats what was decided on the same datapoint before.
    pub repeat: bool,
    /// Its number among its policy's recommendations.
    pub serial: u64,
    /// When it was made.
    pub at: Nanos,
    /// What each policy proposed (several).
    pub parts: Vec<Recommendation>,
}

impl Recommendation {
    /// What it does.
    #[must_use]
    pub fn action(&self) -> Action {
        if self.desired > self.asked {
            Action::ScaleOut
        } else if self.desired < self.asked {
            Action::ScaleIn
        } else if self.signal == Signal::InsufficientData {
            Action::InsufficientData
        } else {
            Action::None
        }
    }

    /// What the metric would be at the recommended capacity, were the work the same and shared evenly.
    #[must_use]
    pub fn projected_metric(&self) -> Option<f64> {
        match (self.rule, self.metric) {
            (Rule::TargetTracking(_), Some(m)) if self.desired > 0 => Some(m * self.measured_at / self.desired as f64),
            _ => None,
        }
    }

    /// The stages in order, each with its value after it.
    #[must_use]
    pub fn trace(&self) -> Vec<(String, StageValue)> {
        let mut out = Vec::new();
        for (i, part) in self.parts.iter().enumerate() {
            out.extend(part.trace().into_iter().map(|(name, value)| (format!("policies[{i}].{name}"), value)));
        }
        let whole = |v: Option<i64>| v.map_or(StageValue::Nothing, StageValue::Whole);
        let real = |v: Option<f64>| v.map_or(StageValue::Nothing, StageValue::Real);
        let mut add = |name: &str, value| out.push((name.to_owned(), value));
        add("current", StageValue::Whole(self.current));
        add("asked", StageValue::Whole(self.asked));
        match self.rule {
            Rule::TargetTracking(target) => {
                add("metric", real(self.metric));
                add("measured_at", StageValue::Real(self.measured_at));
                add("target", StageValue::Real(target));
                add("alarm", StageValue::Word(self.signal.name()));
                add("base", StageValue::Whole(self.base));
                add("need", real(self.need));
            }
            Rule::StepScaling(threshold) => {
                add("metric", real(self.metric));
                add("threshold", StageValue::Real(threshold));
                add("alarm", StageValue::Word(self.signal.name()));
                add("base", StageValue::Whole(self.base));
                add("step", whole(self.step.and_then(|i| i64::try_from(i).ok())));
                add("adjustment", whole(self.adjustment));
            }
            Rule::Combined => {}
        }
        add("wanted", whole(self.wanted));
        add("limited_by", self.limited_by.map_or(StageValue::Nothing, |l| StageValue::Word(l.name())));
        add("desired", StageValue::Whole(self.desired));
        out
    }

    /// One sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let change = if self.desired == self.asked {
            format!("stays at {}", self.desired)
        } else {
            format!("{} to {}", self.asked, self.desired)
        };
        let because = self.limited_by.map_or_else(String::new, |l| format!(" ({})", l.because()));
        let again = if self.repeat { ", as decided on this datapoint before" } else { "" };
        format!("{}: {change}{because}{again}", self.finding())
    }

    fn finding(&self) -> String {
        let (what, goal) = match self.rule {
            Rule::TargetTracking(target) => ("target", target),
            Rule::StepScaling(threshold) => ("threshold", threshold),
            Rule::Combined => {
                let out = self.desired > self.asked;
                let led = self.parts.iter().find(|p| p.vote == Some(self.desired) && (p.desired > p.asked) == out);
                return match led {
                    Some(p) => p.finding(),
                    None if self.signal == Signal::InsufficientData => "no policy has data".to_owned(),
                    None => "no policy asks for a change".to_owned(),
                };
            }
        };
        let name = &self.name;
        match (self.signal, self.metric) {
            (Signal::InsufficientData, _) | (_, None) => format!("no data for {name}"),
            (Signal::High, Some(m)) => format!("{name} {m} is above the {what} {goal}"),
            (Signal::Low, Some(m)) => format!("{name} {m} is below the {what} {goal}"),
            (Signal::Ok, Some(m)) => format!("{name} {m} gives no alarm at the {what} {goal}"),
        }
    }
}
