//! A group of instances that lives: launch, load, warm, in service, drain, stop, terminate.
//!
//! The group does nothing itself. It is told the time and what happened, and says what is to be done, as a list of actions.
//! A stage lasts a stated time, or until an event says that it is over; a stage without either is given up after a
//! timeout, so that no instance is stuck. Time is worked through in order: asking once a minute or once a day gives the
//! same actions, each with its own instant.
//!
//! Source: EC2 Auto Scaling user guide (lifecycle, hooks, warm pools, instance refresh, capacity rebalancing, zones). What it
//! leaves open is decided here and said where it is.

mod commands;
mod config;
mod instance;
mod kept;
mod placing;
mod refreshing;
mod scaling;
mod stages;
#[cfg(test)]
mod tests;

pub use commands::{Command, Event};
pub use config::{GroupConfig, Hook, Pool, PoolState, Times};
pub use instance::{Cause, Instance, Phase};
pub use refreshing::{Guarded, Plan, Refresh, RefreshStatus};

use super::mixed;
use super::offers::{Market, Offer};
use crate::core::autoscaling::Bounds;
use crate::core::autoscaling::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// So many instants are worked through one by one in a step; what is due after that is taken as due at the end.
const MOST_INSTANTS: usize = 100_000;

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What: "launch", "terminate" ...
    pub kind: &'static str,
    /// Of which instance; 0 is the group.
    pub number: u64,
    /// When it was due.
    pub at: Nanos,
    /// Why.
    pub reason: &'static str,
    /// The instance's type, zone, market, price and template; empty for the group.
    pub about: Option<About>,
    /// A checkpoint in percent, or a number of instances.
    pub value: Option<i64>,
}

/// What an instance is.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The type.
    pub kind: String,
    /// The zone.
    pub zone: String,
    /// The market.
    pub market: Market,
    /// An hour of it.
    pub price: f64,
    /// The template's version.
    pub template: i64,
}

/// What became of instances since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Started, for the group and for the pool.
    pub launched: u64,
    /// Gone, for whatever reason.
    pub gone: u64,
    /// Of those, such as never began to work.
    pub failed: u64,
    /// Of those, such as were taken away.
    pub interrupted: u64,
}

/// The group.
#[derive(Clone, Debug)]
pub struct Group {
    config: GroupConfig,
    bounds: Bounds,
    desired: i64,
    template: i64,
    configuration: bool,
    offers: Vec<Offer>,
    /// Offers that failed, and until when they are left alone.
    blocked: Vec<(String, String, Market, Nanos)>,
    instances: Vec<Instance>,
    refresh: Option<Refresh>,
    counts: Counts,
    last: u64,
    now: Nanos,
    out: Vec<Action>,
    changes: u64,
    /// Instances to take first, for the one command that names them.
    prefer: Vec<u64>,
}

impl Group {
    /// A group with nothing in it yet; the first step starts what is desired.
    #[must_use]
    pub fn new(config: GroupConfig) -> Group {
        let (bounds, desired) = (config.bounds, config.desired);
        let (template, configuration) = (config.template, config.configuration);
        let offers = config.offers.clone();
        Group {
            config,
            bounds,
            desired,
            template,
            configuration,
            offers,
            blocked: Vec::new(),
            instances: Vec::new(),
            refresh: None,
            counts: Counts::default(),
            last: 0,
            now: Nanos::ZERO,
            out: Vec::new(),
            changes: 0,
            prefer: Vec::new(),
        }
    }

    /// Works through what is due until `now`, and says what is to be done. A time before the last one is the last one.
    pub fn step(&mut self, now: Nanos) -> Vec<Action> {
        self.run(now);
        std::mem::take(&mut self.out)
    }

    /// Carries a command out at `now`, or changes nothing.
    pub fn act(&mut self, command: &Command, now: Nanos) -> Result<Vec<Action>, ConfigError> {
        let mut next = self.clone();
        next.run(now);
        next.apply(command)?;
        next.run(now);
        next.prefer.clear();
        *self = next;
        Ok(std::mem::take(&mut self.out))
    }

    /// When something is due next, if nothing happens before.
    #[must_use]
    pub fn next_change(&self) -> Option<Nanos> {
        let timers = self.instances.iter().filter_map(|i| i.until);
        let blocks = self.blocked.iter().map(|b| b.3);
        let refresh = self.refresh.as_ref().and_then(Refresh::due);
        timers.chain(blocks).chain(refresh).min()
    }

    fn run(&mut self, now: Nanos) {
        let now = now.max(self.now);
        for turn in 0.. {
            let due = self.next_change().filter(|t| *t <= now);
            let Some(due) = due else { break };
            // Whoever was due before the group's own time is due now.
            let t = if turn < MOST_INSTANTS { due.max(self.now) } else { now };
            self.now = t;
            self.blocked.retain(|b| b.3 > t);
            let numbers: Vec<u64> =
                self.instances.iter().filter(|i| i.until.is_some_and(|u| u <= t)).map(|i| i.number).collect();
            for number in numbers {
                self.expire(number);
            }
            self.settle();
            if turn > 2 * MOST_INSTANTS {
                break;
            }
        }
        self.now = now;
        self.settle();
    }

    /// Does what follows from how things are, until nothing does.
    fn settle(&mut self) {
        for _ in 0..64 {
            let before = self.changes;
            self.finish_replacements();
            self.rebalance_capacity();
            self.refresh_on();
            self.scale();
            self.rebalance_zones();
            self.fill_pool();
            if self.changes == before {
                break;
            }
        }
    }

    fn say(&mut self, kind: &'static str, number: u64, reason: &'static str) {
        let about = self.find(number).map(Instance::about);
        self.out.push(Action { kind, number, at: self.now, reason, about, value: None });
        self.changes += 1;
    }

    fn tell(&mut self, kind: &'static str, reason: &'static str, value: i64) {
        self.out.push(Action { kind, number: 0, at: self.now, reason, about: None, value: Some(value) });
        self.changes += 1;
    }

    fn find(&self, number: u64) -> Option<&Instance> {
        self.instances.binary_search_by_key(&number, |i| i.number).ok().and_then(|at| self.instances.get(at))
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Instance> {
        let at = self.instances.binary_search_by_key(&number, |i| i.number).ok()?;
        self.instances.get_mut(at)
    }

    /// Whoever counts for the group: started for it, and not on the way out.
    fn active(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| i.active())
    }

    fn size(&self) -> i64 {
        self.active().count() as i64
    }

    /// Whether it stands for another that is still there: it is one too many for the while.
    fn extra(&self, i: &Instance) -> bool {
        i.active() && i.replaces.is_some_and(|(old, _)| self.find(old).is_some_and(Instance::active))
    }

    fn extras(&self) -> i64 {
        self.active().filter(|i| self.extra(i)).count() as i64
    }

    fn serving(&self) -> i64 {
        self.active().filter(|i| i.phase == Phase::InService).count() as i64
    }

    /// The most there may be: the maximum, and more only while instances are replaced ahead of their end.
    fn limit(&self) -> i64 {
        let room = match &self.refresh {
            Some(r) if r.running() => r.most(self.desired),
            _ => 0,
        };
        mixed::rebalance_ceiling(self.bounds.max).max(room)
    }

    /// What the group looks like, as plain values.
    #[must_use]
    pub fn view(&self) -> Plain {
        kept::view(self)
    }

    /// Everything it remembers, as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        kept::state(self)
    }

    /// Takes over what [`Group::state`] gave, or changes nothing.
    pub fn restore(&mut self, state: &Plain) -> Result<(), ConfigError> {
        *self = kept::restored(self, state)?;
        Ok(())
    }
}
