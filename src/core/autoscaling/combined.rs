//! Several policies on one group, by AWS's rule: the largest capacity wins, for scale-out and for scale-in; target
//! tracking scales out if any such policy is ready to, and in only if all of them that may scale in agree.

use super::memory::{Memory, Timing};
use super::recommendation::{Limit, Recommendation, Rule, Signal};
use super::state::PolicyState;
use super::target_tracking::check_reads;
use super::{Bounds, Observation, Outcome, Policy, ScaleInVote};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

/// Configuration of [`Combined`].
#[derive(Debug)]
pub struct CombinedConfig {
    /// The policies.
    pub policies: Vec<Box<dyn Policy>>,
    /// The lower bound; `None` is the smallest of the policies'.
    pub min_capacity: Option<i64>,
    /// The upper bound; `None` is the largest of the policies'.
    pub max_capacity: Option<i64>,
}

/// Several policies as one.
#[derive(Debug)]
pub struct Combined {
    policies: Vec<Box<dyn Policy>>,
    bounds: Bounds,
    // Only its numbering is used: cooldowns and warm-ups are the policies' own.
    memory: Memory,
}

impl Combined {
    /// The policies as one, with the memories that they have.
    pub fn new(config: CombinedConfig) -> Result<Combined, ConfigError> {
        let bounds = config.policies.iter().map(|p| p.bounds());
        let Some(own) = bounds.reduce(|a, b| Bounds { min: a.min.min(b.min), max: a.max.max(b.max) }) else {
            return Err(ConfigError::new("policies", "()", "at least one policy"));
        };
        let bounds = Bounds::new(config.min_capacity.unwrap_or(own.min), config.max_capacity.unwrap_or(own.max))?;
        Ok(Combined { policies: config.policies, bounds, memory: Memory::default() })
    }

    /// The capacity that the proposals come to, if any policy has an opinion, and whether target tracking policies
    /// disagreed about scaling in.
    fn choose(&self, parts: &[Recommendation], asked: i64) -> (Option<i64>, bool) {
        if let Some(most) = parts.iter().filter_map(|p| p.vote).filter(|v| *v > asked).max() {
            return (Some(most), false);
        }
        let mut unanimous = true;
        let mut any = false;
        for (policy, part) in self.policies.iter().zip(parts) {
            if policy.scale_in_vote() == ScaleInVote::Unanimous {
                unanimous &= part.vote.is_some();
                any |= part.vote.is_some_and(|v| v < asked);
            }
        }
        let counts = |vote: ScaleInVote| match vote {
            ScaleInVote::Alone => true,
            ScaleInVote::Unanimous => unanimous,
            ScaleInVote::Never => false,
        };
        let voters = self.policies.iter().zip(parts).filter(|(policy, _)| counts(policy.scale_in_vote()));
        (voters.filter_map(|(_, part)| part.vote).max(), any && !unanimous)
    }
}

impl Policy for Combined {
    fn check(&self, obs: &Observation<'_>) -> Result<(), MetricError> {
        obs.check()?;
        self.policies.iter().try_for_each(|p| p.check(obs))
    }

    fn propose(&mut self, obs: &Observation<'_>, now: Nanos) -> Recommendation {
        let parts: Vec<Recommendation> = self.policies.iter_mut().map(|p| p.propose(obs, now)).collect();
        let view = self.memory.view(obs, &Timing::default(), now);
        let (vote, disagree) = self.choose(&parts, view.asked);
        let (desired, bound) = self.bounds.clamp(vote.unwrap_or(view.asked));
        let leader = parts.iter().find(|p| vote.is_some() && p.vote == vote);
        let inner = match leader {
            Some(p) => p.limited_by,
            None if disagree => Some(Limit::NotUnanimous),
            // Nobody asks for anything: what holds back the first that would.
            None => parts.iter().find_map(|p| p.limited_by.filter(|_| p.wanted.is_some())),
        };
        let signal = if leader.is_some() {
            leader.map_or(Signal::Ok, |p| p.signal)
        } else if parts.iter().all(|p| p.signal == Signal::InsufficientData) {
            Signal::InsufficientData
        } else {
            Signal::Ok
        };
        Recommendation {
            current: obs.current,
            asked: view.asked,
            desired,
            warming: parts.iter().map(|p| p.warming).max().unwrap_or(view.warming),
            limited_by: bound.or(inner),
            signal,
            rule: Rule::Combined,
            name: "".into(),
            metric: None,
            measured_at: view.warm as f64,
            base: view.warm,
            need: None,
            wanted: vote,
            step: None,
            adjustment: None,
            vote: vote.map(|_| desired),
            period: None,
            repeat: leader.is_some_and(|p| p.repeat),
            serial: self.memory.next_serial(),
            at: now,
            parts,
        }
    }

    fn commit(&mut self, own: &Recommendation, outcome: &Outcome) {
        for (policy, part) in self.policies.iter_mut().zip(&own.parts) {
            policy.commit(part, outcome);
        }
    }

    fn check_value(&self, name: &str, value: f64) -> Result<(), MetricError> {
        self.policies.iter().filter(|p| p.reads(name)).try_for_each(|p| p.check_value(name, value))
    }

    fn record(&mut self, name: &str, value: Option<f64>, at: Nanos) -> Result<(), MetricError> {
        check_reads(self, name)?;
        // A value that one policy refuses must not reach another.
        if let Some(v) = value {
            self.check_value(name, v)?;
        }
        self.policies.iter_mut().filter(|p| p.reads(name)).try_for_each(|p| p.record(name, value, at))
    }

    fn rejected(&mut self, rec: &Recommendation) {
        for (policy, part) in self.policies.iter_mut().zip(&rec.parts) {
            policy.rejected(part);
        }
    }

    fn reads(&self, name: &str) -> bool {
        self.policies.iter().any(|p| p.reads(name))
    }

    fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.policies.iter().flat_map(|p| p.metric_names()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn scale_in_vote(&self) -> ScaleInVote {
        ScaleInVote::Alone
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn state(&self) -> PolicyState {
        PolicyState::Combined {
            serial: self.memory.serial,
            policies: self.policies.iter().map(|p| p.state()).collect(),
        }
    }

    fn check_state(&self, state: &PolicyState) -> Result<(), ConfigError> {
        let PolicyState::Combined { policies, .. } = state else {
            return Err(ConfigError::new("state.kind", state.kind(), "combined, as this policy is"));
        };
        if policies.len() != self.policies.len() {
            let allowed = format!("{} policies, as this policy has", self.policies.len());
            return Err(ConfigError::new("state.policies", policies.len(), allowed));
        }
        self.policies.iter().zip(policies).enumerate().try_for_each(|(i, (policy, s))| {
            policy.check_state(s).map_err(|e| {
                let inner = e.field.strip_prefix("state").unwrap_or(&e.field).to_owned();
                ConfigError { field: format!("state.policies[{i}]{inner}"), ..e }
            })
        })
    }

    fn restore(&mut self, state: PolicyState) -> Result<(), ConfigError> {
        self.check_state(&state)?;
        if let PolicyState::Combined { serial, policies } = state {
            self.memory.serial = serial;
            for (policy, s) in self.policies.iter_mut().zip(policies) {
                policy.restore(s)?;
            }
        }
        Ok(())
    }

    fn fresh(&self) -> Box<dyn Policy> {
        let policies = self.policies.iter().map(|p| p.fresh()).collect();
        Box::new(Combined { policies, bounds: self.bounds, memory: Memory::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::autoscaling::{
        AdjustmentType, Aggregation, Direction, Step, StepConfig, StepScaling, TargetTracking, TargetTrackingConfig,
    };

    fn step(lower: Option<f64>, upper: Option<f64>, adjustment: i64) -> Step {
        Step { lower, upper, adjustment }
    }

    fn percent(direction: Direction, steps: Vec<Step>) -> Box<dyn Policy> {
        let policy = StepScaling::new(StepConfig {
            metric: "cpu".to_owned(),
            threshold: 50.0,
            direction,
            steps,
            adjustment_type: AdjustmentType::PercentChangeInCapacity,
            min_adjustment_magnitude: None,
            aggregation: Aggregation::Average,
            alarm: None,
            period: Nanos(60_000_000_000),
            bounds: Bounds { min: 0, max: 100 },
            timing: Timing::default(),
        });
        Box::new(policy.unwrap())
    }

    fn tracking(metric: &str, timing: Timing) -> Box<dyn Policy> {
        let policy = TargetTracking::new(TargetTrackingConfig {
            metric: metric.to_owned(),
            target: 10.0,
            bounds: Bounds { min: 0, max: 100 },
            disable_scale_in: false,
            scale_in_ratio: 0.9,
            high_alarm: None,
            low_alarm: None,
            period: Nanos(60_000_000_000),
            timing,
            scale_from_zero: false,
        });
        Box::new(policy.unwrap())
    }

    fn combined(policies: Vec<Box<dyn Policy>>) -> Combined {
        Combined::new(CombinedConfig { policies, min_capacity: None, max_capacity: None }).unwrap()
    }

    #[test]
    fn the_documented_run() {
        let high = vec![step(Some(0.0), Some(10.0), 0), step(Some(10.0), Some(20.0), 10), step(Some(20.0), None, 30)];
        let low =
            vec![step(Some(-10.0), Some(0.0), 0), step(Some(-20.0), Some(-10.0), -10), step(None, Some(-20.0), -30)];
        let mut policy = combined(vec![percent(Direction::High, high), percent(Direction::Low, low)]);
        let mut capacity = 10;
        let run: Vec<i64> = [60.0, 70.0, 40.0, 30.0]
            .into_iter()
            .map(|cpu| {
                let metrics = [("cpu", Some(cpu))];
                let obs = Observation { current: capacity, desired: None, warming: 0, metrics: &metrics };
                capacity = policy.recommend(&obs, Nanos::ZERO).unwrap().desired;
                capacity
            })
            .collect();
        assert_eq!(run, [11, 14, 13, 10]);
    }

    #[test]
    fn every_member_learns_what_was_decided_and_what_was_not_carried_out() {
        let warmup = Timing { warmup: Nanos(1_000_000), ..Timing::default() };
        let mut policy = combined(vec![tracking("a", warmup), tracking("b", warmup)]);
        let metrics = [("a", Some(15.0)), ("b", Some(10.0))];
        let obs = Observation { current: 10, desired: None, warming: 0, metrics: &metrics };
        let rec = policy.recommend(&obs, Nanos(5)).unwrap();
        assert_eq!(rec.desired, 15);
        let warming = |policy: &Combined| match policy.state() {
            PolicyState::Combined { policies, .. } => policies
                .into_iter()
                .map(|p| match p {
                    PolicyState::One { memory, .. } => memory.effects.warming.len(),
                    PolicyState::Combined { .. } => usize::MAX,
                })
                .collect::<Vec<_>>(),
            PolicyState::One { .. } => Vec::new(),
        };
        assert_eq!(warming(&policy), [1, 1]);
        policy.rejected(&rec);
        assert_eq!(warming(&policy), [0, 0]);
    }

    #[test]
    fn a_state_of_another_shape_changes_nothing() {
        let mut policy = combined(vec![tracking("a", Timing::default())]);
        let other = combined(vec![tracking("b", Timing::default())]);
        let before = policy.state();
        let error = policy.restore(other.state()).unwrap_err();
        assert_eq!(error.field, "state.policies[0].metric");
        assert_eq!(policy.state(), before);
    }
}
