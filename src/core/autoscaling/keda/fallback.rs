//! What a trigger counts as while it cannot be asked.

use super::{go_i64, milli};
use crate::core::error::ConfigError;

/// How many replicas a fallback stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// As many as configured.
    Static,
    /// As many as there are.
    CurrentReplicas,
    /// The larger of both.
    CurrentReplicasIfHigher,
    /// The smaller of both.
    CurrentReplicasIfLower,
    /// None: the formula sees nil.
    ScalingModifiers,
}

/// Whether a target is for all replicas together or for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetType {
    /// For each.
    AverageValue,
    /// For all.
    Value,
}

/// A fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackConfig {
    /// Failures in a row that are passed on.
    pub failure_threshold: i64,
    /// Replicas that it stands for.
    pub replicas: i64,
    /// How they are found.
    pub behavior: Behavior,
}

impl FallbackConfig {
    /// Whether its values can be.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, n) in [("fallback.failure_threshold", self.failure_threshold), ("fallback.replicas", self.replicas)]
        {
            if !(0..=i64::from(i32::MAX)).contains(&n) {
                return Err(ConfigError::new(field, n, "a whole number from 0 to 2147483647"));
            }
        }
        Ok(())
    }
}

/// What a fallback is computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FallbackInput<'a> {
    /// The trigger's target.
    pub target: f64,
    /// What that is for.
    pub target_type: TargetType,
    /// Of scaling modifiers: their target as it was written, and what it is for.
    pub modifiers: Option<(&'a str, TargetType)>,
    /// Replicas there are.
    pub current: i64,
    /// Replicas that are ready.
    pub ready: i64,
}

/// How a trigger fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered.
    Happy,
    /// It did not.
    Failing,
}

/// What a trigger counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its value in thousandths; `None` is an error.
    pub milli: Option<i64>,
    /// Whether that stands for the composite of all triggers.
    pub composite: bool,
    /// Whether a fallback made it.
    pub fallback: bool,
    /// Whether it is only a placeholder: the formula sees nil.
    pub placeholder: bool,
    /// Failures in a row, counted while a usable fallback is there.
    pub failures: Option<i64>,
    /// How it fares.
    pub health: Option<Health>,
}

/// Whether a fallback is there that can be used.
fn usable(config: Option<&FallbackConfig>, input: &FallbackInput<'_>) -> bool {
    let whole = |(target, _): (&str, TargetType)| target.parse::<i64>().is_ok_and(|n| n > 0);
    config.is_some_and(|c| c.check().is_ok()) && input.modifiers.is_none_or(whole)
}

/// What a trigger counts as that has answered `value` or has not.
#[must_use]
pub fn serve(config: Option<&FallbackConfig>, value: Option<f64>, failures: i64, input: &FallbackInput<'_>) -> Served {
    let usable = config.filter(|_| usable(config, input));
    let failures = if value.is_some() { 0 } else { failures.saturating_add(1) };
    let health = if value.is_some() { Health::Happy } else { Health::Failing };
    let mut out = Served {
        milli: value.map(milli),
        composite: false,
        fallback: false,
        placeholder: false,
        failures: usable.map(|_| failures),
        health: usable.map(|_| health),
    };
    let Some(config) = usable.filter(|c| value.is_none() && failures > c.failure_threshold) else { return out };
    let replicas = match config.behavior {
        Behavior::Static => config.replicas,
        Behavior::CurrentReplicas => input.current,
        Behavior::CurrentReplicasIfHigher => config.replicas.max(input.current),
        Behavior::CurrentReplicasIfLower => config.replicas.min(input.current),
        Behavior::ScalingModifiers => {
            out.milli = Some(-1000);
            out.placeholder = true;
            return out;
        }
    } as f64;
    let (target, target_type) = match input.modifiers {
        // A whole number by now.
        Some((target, target_type)) => (target.parse().unwrap_or(0.0), target_type),
        None => (input.target, input.target_type),
    };
    let share = match target_type {
        TargetType::AverageValue => replicas,
        // Nothing to share it between: an error.
        TargetType::Value if input.ready == 0 => return out,
        TargetType::Value => replicas / input.ready as f64,
    };
    out.milli = Some(go_i64(target * 1000.0 * share));
    out.composite = input.modifiers.is_some();
    out.fallback = true;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: FallbackInput<'static> =
        FallbackInput { target: 2.5, target_type: TargetType::AverageValue, modifiers: None, current: 4, ready: 2 };

    fn with(behavior: Behavior) -> FallbackConfig {
        FallbackConfig { failure_threshold: 1, replicas: 6, behavior }
    }

    #[test]
    fn it_begins_after_the_threshold() {
        let config = with(Behavior::Static);
        assert_eq!(serve(Some(&config), None, 0, &INPUT).milli, None);
        let served = serve(Some(&config), None, 1, &INPUT);
        assert_eq!((served.milli, served.fallback, served.failures), (Some(15_000), true, Some(2)));
        let well = serve(Some(&config), Some(0.5), 7, &INPUT);
        assert_eq!((well.milli, well.failures, well.health), (Some(500), Some(0), Some(Health::Happy)));
        assert_eq!(serve(None, None, 9, &INPUT).milli, None);
    }

    #[test]
    fn each_behaviour_finds_its_replicas() {
        let value = |b| serve(Some(&with(b)), None, 1, &INPUT).milli;
        assert_eq!(value(Behavior::CurrentReplicas), Some(10_000));
        assert_eq!(value(Behavior::CurrentReplicasIfHigher), Some(15_000));
        assert_eq!(value(Behavior::CurrentReplicasIfLower), Some(10_000));
        assert_eq!(value(Behavior::ScalingModifiers), Some(-1000));
    }

    #[test]
    fn a_target_for_all_is_shared_between_the_ready() {
        let all = FallbackInput { target_type: TargetType::Value, ..INPUT };
        let config = with(Behavior::Static);
        assert_eq!(serve(Some(&config), None, 1, &all).milli, Some(7500));
        assert_eq!(serve(Some(&config), None, 1, &FallbackInput { ready: 0, ..all }).milli, None);
    }

    #[test]
    fn modifiers_need_a_whole_target() {
        let config = with(Behavior::Static);
        for (target, expected) in [("100", Some(600_000)), ("2.5", None), ("0", None), ("x", None)] {
            let input = FallbackInput { modifiers: Some((target, TargetType::AverageValue)), ..INPUT };
            assert_eq!(serve(Some(&config), None, 1, &input).milli, expected, "{target}");
        }
    }
}
