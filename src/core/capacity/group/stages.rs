//! From one stage of an instance's life to the next.

use super::config::PoolState;
use super::{Group, Phase};

impl Group {
    /// Puts an instance into a stage, says what is to be done there, and sets when it ends.
    pub(super) fn enter(&mut self, number: u64, phase: Phase) {
        let now = self.now;
        let times = self.config.times;
        let hook = match phase {
            Phase::LaunchHook => self.config.launch_hook,
            Phase::TerminateHook => self.config.terminate_hook,
            _ => None,
        };
        let hibernates = self.config.pool.is_some_and(|p| p.state == PoolState::Hibernated);
        let Some(i) = self.find_mut(number) else { return };
        i.phase = phase;
        i.since = now;
        i.until = match phase {
            Phase::InService | Phase::Waiting => None,
            Phase::LaunchHook | Phase::TerminateHook => {
                i.hook_since = now;
                hook.map(|h| now.plus(h.heartbeat))
            }
            other => Some(now.plus(times.of(other).unwrap_or(times.timeout))),
        };
        if let Some(end) = i.must_end.filter(|_| phase.leaving() && phase != Phase::Terminating) {
            i.until = i.until.map(|u| u.min(end));
        }
        let (kind, reason) = match phase {
            // Said by whoever starts it.
            Phase::Launching | Phase::Waiting => return self.changed(),
            Phase::Starting => ("start", "from the pool"),
            Phase::LaunchHook => ("launch_hook", "it is up"),
            Phase::Loading => ("load", "it is up"),
            Phase::Warming => ("warm", "the model is loaded"),
            Phase::InService => ("put_in_service", "it is ready"),
            Phase::Resting if hibernates => ("hibernate", "it waits in the pool"),
            Phase::Resting => ("stop", "it waits in the pool"),
            Phase::Draining => return self.changed(),
            Phase::TerminateHook => ("terminate_hook", "it has drained"),
            Phase::Stopping => ("stop", "it leaves"),
            Phase::Terminating => ("terminate", "it leaves"),
        };
        self.say(kind, number, reason);
    }

    fn changed(&mut self) {
        self.changes += 1;
    }

    /// A stage's time is over.
    pub(super) fn expire(&mut self, number: u64) {
        let Some(i) = self.find(number) else { return };
        let phase = i.phase;
        match phase {
            Phase::LaunchHook if self.config.launch_hook.is_some_and(|h| h.abandon) => {
                self.fail(number, "nobody answered")
            }
            // A stage that only an event ends, and none came.
            Phase::Launching | Phase::Starting | Phase::Loading | Phase::Warming
                if self.config.times.of(phase).is_none() =>
            {
                self.fail(number, "it took too long");
            }
            _ => self.advance(number),
        }
    }

    /// What comes after a stage.
    pub(super) fn advance(&mut self, number: u64) {
        let pool = self.config.pool;
        let (launch_hook, terminate_hook) = (self.config.launch_hook.is_some(), self.config.terminate_hook.is_some());
        let now = self.now;
        let Some(i) = self.find(number) else { return };
        let (next, pooled, reuse, meets_hook) = (i.next, i.pooled, i.reuse, i.meets_hook);
        let over = i.must_end.is_some_and(|end| end <= now);
        // Who runs in the pool is not put to rest.
        let rest = if pool.is_some_and(|p| p.state == PoolState::Running) { Phase::Waiting } else { Phase::Resting };
        let last = if reuse { rest } else { Phase::Stopping };
        let to = match i.phase {
            Phase::Launching | Phase::Starting => {
                if launch_hook && meets_hook {
                    Phase::LaunchHook
                } else {
                    next
                }
            }
            Phase::LaunchHook => next,
            Phase::Loading => Phase::Warming,
            Phase::Warming => {
                if pooled {
                    rest
                } else {
                    Phase::InService
                }
            }
            Phase::Resting => Phase::Waiting,
            Phase::Draining | Phase::TerminateHook | Phase::Stopping if over => Phase::Terminating,
            Phase::Draining => {
                if terminate_hook {
                    Phase::TerminateHook
                } else {
                    last
                }
            }
            Phase::TerminateHook => last,
            Phase::Stopping => Phase::Terminating,
            Phase::Terminating => return self.forget(number),
            Phase::InService | Phase::Waiting => return,
        };
        if matches!(to, Phase::Resting | Phase::Waiting) && !pooled {
            // It is the pool's from now on, and whom it stood for is no matter.
            if let Some(i) = self.find_mut(number) {
                i.pooled = true;
                i.reuse = false;
                i.sending = true;
                i.replaces = None;
            }
        }
        self.enter(number, to);
    }

    /// Takes an instance out of the pool into the group.
    pub(super) fn draw(&mut self, number: u64, reason: &'static str) {
        let state = self.config.pool.map_or(PoolState::Stopped, |p| p.state);
        let hook = self.config.launch_hook.is_some();
        let protected = self.config.protect_new;
        if let Some(i) = self.find_mut(number) {
            i.pooled = false;
            i.protected = protected;
            // The hook is met once more.
            i.meets_hook = true;
            i.next = match state {
                PoolState::Stopped => Phase::Loading,
                PoolState::Hibernated => Phase::Warming,
                PoolState::Running => Phase::InService,
            };
        }
        self.say("take_from_pool", number, reason);
        let to = match state {
            PoolState::Running if hook => Phase::LaunchHook,
            PoolState::Running => Phase::InService,
            _ => Phase::Starting,
        };
        self.enter(number, to);
    }

    /// Takes an instance out, by way of draining if it has worked.
    pub(super) fn retire(&mut self, number: u64, reason: &'static str, reuse: bool) {
        let Some(i) = self.find_mut(number) else { return };
        if i.phase.leaving() {
            return;
        }
        i.reuse = reuse;
        i.protected = false;
        if i.phase == Phase::InService {
            self.say("drain", number, reason);
            self.enter(number, Phase::Draining);
        } else {
            // It has nothing in flight and nothing to stop.
            i.reuse = false;
            self.enter(number, Phase::Terminating);
            if let Some(said) = self.out.last_mut() {
                said.reason = reason;
            }
        }
    }

    /// An instance that never began to work: it goes, and its offer is left alone for a while.
    pub(super) fn fail(&mut self, number: u64, reason: &'static str) {
        let until = self.now.plus(self.config.retry);
        let Some(i) = self.find(number) else { return };
        if i.phase.leaving() {
            return;
        }
        let (kind, zone, market) = (i.kind.clone(), i.zone.clone(), i.market);
        self.blocked.retain(|(k, z, m, _)| !(*k == kind && *z == zone && *m == market));
        self.blocked.push((kind, zone, market, until));
        self.counts.failed += 1;
        self.retire(number, reason, false);
    }

    /// An instance is gone.
    pub(super) fn forget(&mut self, number: u64) {
        let before = self.instances.len();
        self.instances.retain(|i| i.number != number);
        if self.instances.len() < before {
            self.counts.gone += 1;
            self.changed();
        }
    }
}
