//! Scheduled scaling: actions that set the bounds or the desired capacity when their time has come.
//!
//! Source: EC2 Auto Scaling user guide, scheduled scaling. Which actions were due is worked out by whoever has the
//! calendar; what they do is worked out here.

use super::config::Config;
use super::tell::Tale;
use super::{CloudPolicy, Seen, maybe_instant, named};
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

/// What one action sets. What is left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// The lower bound.
    pub min: Option<i64>,
    /// The upper bound.
    pub max: Option<i64>,
    /// What the group is asked to be.
    pub desired: Option<i64>,
}

impl Sets {
    /// Reads the fields of an action.
    pub fn read(c: &Config<'_>) -> Result<Sets, ConfigError> {
        let get = |name| c.optional(name, Config::capacity);
        let sets = Sets { min: get("min_capacity")?, max: get("max_capacity")?, desired: get("desired")? };
        if sets == Sets::default() {
            return Err(c.refuse("desired", "one or more of min_capacity, max_capacity and desired"));
        }
        let ordered = |low: Option<i64>, high: Option<i64>| low.zip(high).is_none_or(|(a, b)| a <= b);
        if !ordered(sets.min, sets.max) {
            return Err(c.refuse("max_capacity", "min_capacity or more"));
        }
        if !ordered(sets.min, sets.desired) || !ordered(sets.desired, sets.max) {
            return Err(c.refuse("desired", "from min_capacity to max_capacity"));
        }
        Ok(sets)
    }

    /// The bounds and the capacity after this action; `None` if its bounds would cross the group's.
    #[must_use]
    pub fn apply(self, bounds: Bounds, asked: i64) -> Option<(Bounds, i64)> {
        let after = Bounds { min: self.min.unwrap_or(bounds.min), max: self.max.unwrap_or(bounds.max) };
        (after.min <= after.max).then(|| (after, after.clamp(self.desired.unwrap_or(asked)).0))
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct ScheduledScaling {
    bounds: Bounds,
    seen: Option<Nanos>,
    serial: u64,
}

impl ScheduledScaling {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<ScheduledScaling, ConfigError> {
        for action in c.maps("actions")? {
            Sets::read(&action)?;
        }
        Ok(ScheduledScaling { bounds: c.bounds("min_capacity", "max_capacity")?, seen: None, serial: 0 })
    }
}

fn due<'a>(given: &'a Plain) -> Result<Vec<(&'a str, Sets)>, ConfigError> {
    let c = Config::new("due", given)?;
    let each = |a: Config<'a>| Ok((a.text("name")?, Sets::read(&a)?));
    c.maps("due")?.into_iter().map(each).collect()
}

impl CloudPolicy for ScheduledScaling {
    fn kind(&self) -> &'static str {
        "scheduled_scaling"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let due = due(seen.given).map_err(|e| metric_error(&e.field, e.value, e.allowed))?;
        let mut tale = Tale::new(seen.obs);
        let mut capacity = seen.obs.asked();
        for (name, sets) in &due {
            match sets.apply(self.bounds, capacity) {
                Some((bounds, to)) => {
                    (self.bounds, capacity) = (bounds, to);
                    tale.stage(name, Plain::Whole(to));
                }
                None => {
                    tale.stage(name, Plain::text("its bounds would cross the group's"));
                    tale.limit("invalid_action");
                }
            }
        }
        // A clock that was set back must not run the same actions again.
        self.seen = Some(self.seen.map_or(seen.now, |at| at.max(seen.now)));
        tale.detail("fired", Plain::List(due.iter().map(|(n, _)| Plain::text(*n)).collect()));
        tale.detail("min_capacity", Plain::Whole(self.bounds.min));
        tale.detail("max_capacity", Plain::Whole(self.bounds.max));
        let desired = tale.bound(self.bounds, capacity);
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![
            named("serial", counted(self.serial)),
            named("seen", maybe_instant(self.seen)),
            named("min_capacity", Plain::Whole(self.bounds.min)),
            named("max_capacity", Plain::Whole(self.bounds.max)),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let (serial, seen) = (f.count("serial")?, f.optional_instant("seen")?);
        let (min, max) = (f.whole("min_capacity")?, f.whole("max_capacity")?);
        if !(0..=MAX_CAPACITY).contains(&min) || !(min..=MAX_CAPACITY).contains(&max) {
            return Err(f.error("max_capacity", max, "bounds of a group"));
        }
        (self.serial, self.seen, self.bounds) = (serial, seen, Bounds { min, max });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_moves_bounds_and_they_move_the_capacity() {
        let group = Bounds { min: 1, max: 10 };
        let floor = Sets { min: Some(6), ..Sets::default() };
        assert_eq!(floor.apply(group, 4), Some((Bounds { min: 6, max: 10 }, 6)));
        let desired = Sets { desired: Some(7), ..Sets::default() };
        assert_eq!(desired.apply(group, 4), Some((group, 7)));
        assert_eq!(Sets { desired: Some(70), ..desired }.apply(group, 4), Some((group, 10)));
        assert_eq!(Sets { min: Some(11), ..Sets::default() }.apply(group, 4), None);
        assert_eq!(Sets { max: Some(3), ..Sets::default() }.apply(group, 4), Some((Bounds { min: 1, max: 3 }, 3)));
    }
}
