//! Replacing all instances in batches, by the rules in [`super::super::refresh`].

use super::{Cause, Group, Instance, Phase};
use crate::core::capacity::refresh;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// Where a refresh is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshStatus {
    /// At work, or waiting at a checkpoint.
    InProgress,
    /// Done.
    Successful,
    /// It made no progress for too long.
    Failed,
    /// Stopped on demand.
    Cancelled,
    /// On the way back to the former template.
    RollingBack,
    /// Back.
    RolledBack,
}

impl RefreshStatus {
    /// All, by name.
    pub const NAMES: [(&'static str, RefreshStatus); 6] = [
        ("in_progress", RefreshStatus::InProgress),
        ("successful", RefreshStatus::Successful),
        ("failed", RefreshStatus::Failed),
        ("cancelled", RefreshStatus::Cancelled),
        ("rolling_back", RefreshStatus::RollingBack),
        ("rolled_back", RefreshStatus::RolledBack),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        RefreshStatus::NAMES.iter().find(|(_, s)| *s == self).map_or("", |(n, _)| n)
    }
}

/// What happens to instances that are protected from scaling in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// The refresh waits for the protection to end.
    Wait,
    /// They stay as they are.
    Ignore,
    /// They are replaced as well.
    Refresh,
}

impl Guarded {
    /// All, by name.
    pub const NAMES: [(&'static str, Guarded); 3] =
        [("wait", Guarded::Wait), ("ignore", Guarded::Ignore), ("refresh", Guarded::Refresh)];
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Percent that stay in service.
    pub min_healthy: i64,
    /// Percent that there may be.
    pub max_healthy: Option<i64>,
    /// Rising percentages at which it waits.
    pub checkpoints: Vec<i64>,
    /// How long.
    pub delay: Nanos,
    /// Whether whoever fits already is left alone.
    pub skip_matching: bool,
    /// Whether a failure leads back.
    pub auto_rollback: bool,
    /// What of protected instances.
    pub guarded: Guarded,
    /// After so long without progress it has failed.
    pub stuck: Nanos,
}

/// A refresh.
#[derive(Clone, Debug, PartialEq)]
pub struct Refresh {
    /// What is to be done.
    pub plan: Plan,
    /// Instances up to this number are old.
    pub mark: u64,
    /// How many were to be replaced.
    pub total: i64,
    /// How many are.
    pub replaced: i64,
    /// The checkpoint's end.
    pub wait: Option<Nanos>,
    /// When it last got on.
    pub progress: Nanos,
    /// Where it is.
    pub status: RefreshStatus,
    /// The template before it.
    pub former: (i64, bool),
}

impl Refresh {
    /// Whether there is something left to do.
    #[must_use]
    pub fn running(&self) -> bool {
        matches!(self.status, RefreshStatus::InProgress | RefreshStatus::RollingBack)
    }

    pub(super) fn due(&self) -> Option<Nanos> {
        if self.running() { Some(self.wait.unwrap_or(self.progress.plus(self.plan.stuck))) } else { None }
    }

    /// The most instances it may make there be; one more than desired in any case.
    pub(super) fn most(&self, desired: i64) -> i64 {
        self.plan.max_healthy.map_or(0, |p| (desired.saturating_mul(p) / 100).max(desired.saturating_add(1)))
    }
}

impl Group {
    /// Whether an instance is what would be started today.
    fn matches(&self, i: &Instance) -> bool {
        let known = self.offers.iter().any(|o| o.is(&i.kind, &i.zone, i.market));
        known && (i.template, i.configuration) == (self.template, self.configuration)
    }

    fn outdated(&self, r: &Refresh, i: &Instance) -> bool {
        i.number <= r.mark
            && !(r.plan.skip_matching && self.matches(i))
            && !(i.protected && r.plan.guarded == Guarded::Ignore)
    }

    pub(super) fn begin_refresh(&mut self, plan: Plan, template: (i64, bool)) -> Result<(), ConfigError> {
        if self.refresh.as_ref().is_some_and(Refresh::running) {
            return Err(ConfigError::new(
                "refresh",
                "another one",
                "one at a time; cancel the one that is in progress",
            ));
        }
        let former = (self.template, self.configuration);
        (self.template, self.configuration) = template;
        self.set_out(plan, former, RefreshStatus::InProgress);
        Ok(())
    }

    fn set_out(&mut self, plan: Plan, former: (i64, bool), status: RefreshStatus) {
        let mut r =
            Refresh { plan, mark: self.last, total: 0, replaced: 0, wait: None, progress: self.now, status, former };
        r.total = self.active().filter(|i| self.outdated(&r, i)).count() as i64;
        // The pool has nobody at work: who is old goes at once.
        let old: Vec<u64> = self
            .instances
            .iter()
            .filter(|i| i.pooled && !i.phase.leaving() && self.outdated(&r, i))
            .map(|i| i.number)
            .collect();
        self.refresh = Some(r);
        for number in old {
            self.retire(number, Cause::Refresh.name(), false);
        }
        self.changes += 1;
    }

    /// Ends a refresh. Replacements that are on the way are not needed any more.
    fn close(&mut self, status: RefreshStatus) {
        let Some(r) = &mut self.refresh else { return };
        r.status = status;
        r.wait = None;
        let replaced = r.replaced;
        for i in &mut self.instances {
            if i.replaces.is_some_and(|(_, cause)| cause == Cause::Refresh) {
                i.replaces = None;
            }
        }
        self.tell("refresh_ended", status.name(), replaced);
    }

    pub(super) fn cancel_refresh(&mut self) -> Result<(), ConfigError> {
        if !self.refresh.as_ref().is_some_and(Refresh::running) {
            return Err(ConfigError::new("refresh", "none", "a refresh that is in progress"));
        }
        self.close(RefreshStatus::Cancelled);
        Ok(())
    }

    /// Back to the template from before the refresh, by the same rules; whoever has it already stays.
    pub(super) fn roll_back(&mut self) -> Result<(), ConfigError> {
        let Some(r) = self.refresh.as_ref().filter(|r| r.status == RefreshStatus::InProgress) else {
            return Err(ConfigError::new("refresh", "none", "a refresh that is in progress"));
        };
        let (former, mut plan) = (r.former, r.plan.clone());
        let left = (self.template, self.configuration);
        plan.skip_matching = true;
        plan.checkpoints.clear();
        plan.auto_rollback = false;
        self.close(RefreshStatus::RollingBack);
        (self.template, self.configuration) = former;
        self.set_out(plan, left, RefreshStatus::RollingBack);
        Ok(())
    }

    /// One turn of a refresh.
    pub(super) fn refresh_on(&mut self) {
        let Some(mut r) = self.refresh.clone().filter(Refresh::running) else { return };
        let old: Vec<u64> = self.active().filter(|i| self.outdated(&r, i)).map(|i| i.number).collect();
        let pending = (self.desired - self.serving()).max(0);
        let begun = self.active().filter(|i| self.extra(i) && i.replaces.is_some_and(|(_, c)| c == Cause::Refresh));
        let begun = begun.count() as i64;
        let replaced = (r.total - old.len() as i64 - pending).clamp(r.replaced, r.total);
        if replaced > r.replaced {
            let (_, told) = refresh::checkpoints(r.total, &r.plan.checkpoints, r.replaced, replaced);
            r.progress = self.now;
            r.replaced = replaced;
            if let Some(percent) = told {
                self.tell("checkpoint", "so many percent are new", percent);
                r.wait = Some(self.now.plus(r.plan.delay));
            }
            self.changes += 1;
        }
        let last = r.plan.checkpoints.last().copied().unwrap_or(100);
        let end = refresh::instances_at(r.total, last).min(r.total);
        if r.wait.is_some_and(|w| w <= self.now) {
            r.wait = None;
            r.progress = self.now;
        }
        let (waits, stuck) = (r.wait.is_some(), r.progress.plus(r.plan.stuck) <= self.now);
        self.refresh = Some(r.clone());
        if replaced >= end || (old.is_empty() && pending == 0) {
            let back = r.status == RefreshStatus::RollingBack;
            return self.close(if back { RefreshStatus::RolledBack } else { RefreshStatus::Successful });
        }
        if waits {
            return;
        }
        if stuck {
            // Rolling back is only for a refresh that is in progress: the error cannot be.
            if !(r.plan.auto_rollback && self.roll_back().is_ok()) {
                self.close(RefreshStatus::Failed);
            }
            return;
        }
        let next = r.plan.checkpoints.iter().map(|p| refresh::instances_at(r.total, *p)).find(|n| *n > replaced);
        let next = next.unwrap_or(end).min(end);
        let room = refresh::batch(self.desired, r.plan.min_healthy, r.plan.max_healthy) - pending - begun;
        self.replace(&r, room.min(next - replaced - pending - begun), pending + begun == 0);
    }

    /// Begins to replace so many; `idle` says that none is on the way.
    fn replace(&mut self, r: &Refresh, room: i64, idle: bool) {
        let kept = refresh::instances_at(self.desired, r.plan.min_healthy);
        for turn in 0..room.max(0) {
            let first = idle && turn == 0;
            let stood_for = self.stood_for();
            let free: Vec<&Instance> = self
                .active()
                .filter(|i| self.outdated(r, i) && !stood_for.contains(&i.number) && !self.extra(i))
                .filter(|i| !i.protected || r.plan.guarded == Guarded::Refresh)
                .collect();
            // Whoever is not in service yet costs nothing to replace.
            let begun = free.iter().filter(|i| i.phase != Phase::InService).map(|i| i.number).min();
            let Some(number) = begun.or_else(|| self.by_policy(&free)) else { return };
            let spare = self.serving() > kept || begun.is_some();
            let above = r.plan.max_healthy.is_some_and(|p| self.size() < self.desired.saturating_mul(p) / 100);
            if above || (r.plan.max_healthy.is_some() && !spare && first) {
                let Some(i) = self.find(number) else { return };
                let (zone, market) = (i.zone.clone(), i.market);
                // Where the old one is, if that can be.
                let offer = self
                    .offer_in(&zone, market, room, &|_| true)
                    .or_else(|| self.place(market, room, false, &|_| true));
                let Some(offer) = offer else { return };
                self.start(&offer, Some((number, Cause::Refresh)), false, Cause::Refresh.name());
            } else if spare || first {
                self.retire(number, Cause::Refresh.name(), false);
            } else {
                return;
            }
        }
    }
}
