//! What a group can be told.

use super::config::{MOST_INSTANCES, bounds, offers};
use super::refreshing::{Guarded, Plan};
use super::{Group, Phase};
use crate::core::autoscaling::Bounds;
use crate::core::autoscaling::clouds::config::Config;
use crate::core::autoscaling::told::Plain;
use crate::core::capacity::offers::Offer;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// What happened to an instance, or is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is up.
    Launched,
    /// Its model is loaded.
    Loaded,
    /// It has answered its test requests.
    Warmed,
    /// It never came up.
    Failed,
    /// It has nothing in flight any more.
    Drained,
    /// It has stopped.
    Stopped,
    /// It is gone.
    Terminated,
    /// Its hook is done; go on.
    Proceed,
    /// Its hook is done; it is of no use.
    Abandon,
    /// Its hook needs longer.
    Heartbeat,
    /// Health: start the process anew.
    Restart,
    /// Health: another one.
    Replace,
    /// Health: load the model anew.
    Reload,
    /// Health: one more of all.
    ScaleUp,
    /// Health: no requests.
    StopSending,
    /// Health: requests again.
    ResumeSending,
    /// The cloud may take it away.
    RebalanceRecommendation,
    /// The cloud takes it away, after this long.
    Interruption,
    /// Leave it alone when scaling in.
    Protect,
    /// Do not.
    Unprotect,
}

impl Event {
    /// All, by name.
    pub const NAMES: [(&'static str, Event); 20] = [
        ("launched", Event::Launched),
        ("loaded", Event::Loaded),
        ("warmed", Event::Warmed),
        ("failed", Event::Failed),
        ("drained", Event::Drained),
        ("stopped", Event::Stopped),
        ("terminated", Event::Terminated),
        ("continue", Event::Proceed),
        ("abandon", Event::Abandon),
        ("heartbeat", Event::Heartbeat),
        ("restart", Event::Restart),
        ("replace", Event::Replace),
        ("reload", Event::Reload),
        ("scale_up", Event::ScaleUp),
        ("stop_sending", Event::StopSending),
        ("resume_sending", Event::ResumeSending),
        ("rebalance_recommendation", Event::RebalanceRecommendation),
        ("interruption", Event::Interruption),
        ("protect", Event::Protect),
        ("unprotect", Event::Unprotect),
    ];
}

/// A command, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// So many, and whom to take first.
    Desired(i64, Vec<u64>),
    /// Other bounds; what is desired is moved into them.
    Bounds(Bounds),
    /// Something happened: which instance, what, and after how long it is over.
    Events(Vec<(u64, Event, Nanos)>),
    /// What can be had now.
    Offers(Vec<Offer>),
    /// New instances get this version.
    Template(i64, bool),
    /// Replace all; the template if there is a new one.
    Refresh(Plan, Option<(i64, bool)>),
    /// Stop that.
    CancelRefresh,
    /// Go back.
    RollBack,
}

/// An instance's number from its name.
fn number(c: &Config<'_>, name: &str) -> Result<u64, ConfigError> {
    let text = c.text(name)?;
    let digits = text.strip_prefix("i-").filter(|d| !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|d| d.parse().ok()).ok_or_else(|| c.refuse(name, "an instance of this group, such as i-1"))
}

impl Command {
    /// Reads one.
    pub fn read(verb: &str, values: &Plain) -> Result<Command, ConfigError> {
        let c = Config::new("", values)?;
        Ok(match verb {
            "desired" => {
                let prefer = c.maps("prefer")?.iter().map(|p| number(p, "instance")).collect::<Result<_, _>>()?;
                Command::Desired(c.whole("desired", 0, MOST_INSTANCES)?, prefer)
            }
            "bounds" => Command::Bounds(bounds(&c)?),
            "events" => {
                let read = |e: &Config<'_>| {
                    let notice = e.optional("notice", Config::seconds)?.unwrap_or(Nanos::ZERO);
                    Ok((number(e, "instance")?, e.choice("kind", &Event::NAMES)?, notice))
                };
                Command::Events(c.maps("events")?.iter().map(read).collect::<Result<_, ConfigError>>()?)
            }
            "offers" => Command::Offers(offers(&c)?),
            "template" => Command::Template(c.capacity("template")?, c.flag("launch_configuration")?),
            "refresh" => {
                let plan = Plan {
                    min_healthy: c.whole("min_healthy", 0, 100)?,
                    max_healthy: c.optional("max_healthy", |c, n| c.whole(n, 100, 200))?,
                    checkpoints: c.wholes("checkpoints")?,
                    delay: c.seconds("checkpoint_delay")?,
                    skip_matching: c.flag("skip_matching")?,
                    auto_rollback: c.flag("auto_rollback")?,
                    guarded: c.choice("scale_in_protected", &Guarded::NAMES)?,
                    stuck: c
                        .number("stuck_after", "seconds from 1 to 1209600", |x| (1.0..=1_209_600.0).contains(&x))
                        .map(Nanos::from_secs_f64)?,
                };
                let template = c.optional("template", Config::capacity)?.map(|t| (t, false));
                Command::Refresh(plan, template)
            }
            "cancel_refresh" => Command::CancelRefresh,
            "roll_back" => Command::RollBack,
            other => return Err(ConfigError::new("verb", other, "a command of a group")),
        })
    }
}

impl Group {
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), ConfigError> {
        match command {
            Command::Desired(n, prefer) => {
                let Bounds { min, max } = self.bounds;
                if !(min..=max).contains(n) {
                    return Err(ConfigError::new(
                        "desired",
                        n,
                        format!("a whole number from min_size ({min}) to max_size ({max})"),
                    ));
                }
                for number in prefer {
                    self.known(*number)?;
                }
                self.desired = *n;
                self.prefer.clone_from(prefer);
            }
            Command::Bounds(bounds) => {
                self.bounds = *bounds;
                self.desired = self.desired.clamp(bounds.min, bounds.max);
            }
            Command::Events(events) => {
                for (number, ..) in events {
                    self.known(*number)?;
                }
                for (number, event, notice) in events {
                    self.happened(*number, *event, *notice);
                    self.settle();
                }
            }
            Command::Offers(offers) => {
                self.config.check_offers(offers)?;
                self.offers.clone_from(offers);
            }
            Command::Template(version, configuration) => {
                (self.template, self.configuration) = (*version, *configuration);
            }
            Command::Refresh(plan, template) => {
                self.begin_refresh(plan.clone(), template.unwrap_or((self.template, self.configuration)))?;
            }
            Command::CancelRefresh => self.cancel_refresh()?,
            Command::RollBack => self.roll_back()?,
        }
        Ok(())
    }

    /// Whether there is or was such an instance.
    fn known(&self, number: u64) -> Result<(), ConfigError> {
        if (1..=self.last).contains(&number) {
            return Ok(());
        }
        let allowed = format!("an instance of this group, up to i-{}", self.last);
        Err(ConfigError::new("instance", format!("i-{number}"), allowed))
    }

    /// Takes an event up. One that does not fit where the instance is changes nothing.
    fn happened(&mut self, number: u64, event: Event, notice: Nanos) {
        let now = self.now;
        let grace = self.config.grace;
        let Some(i) = self.find(number) else { return };
        let (phase, since, active, sending) = (i.phase, i.since, i.active(), i.sending);
        let sound = phase == Phase::InService && now.since(since) >= grace;
        let protect = |group: &mut Group, on: bool| {
            if let Some(i) = group.find_mut(number) {
                i.protected = on;
                group.changes += 1;
            }
        };
        match (event, phase) {
            (Event::Launched, Phase::Launching | Phase::Starting)
            | (Event::Loaded, Phase::Loading)
            | (Event::Warmed, Phase::Warming)
            | (Event::Drained, Phase::Draining)
            | (Event::Stopped, Phase::Stopping | Phase::Resting)
            | (Event::Proceed, Phase::LaunchHook | Phase::TerminateHook) => self.advance(number),
            (Event::Failed, p) if !p.leaving() && p != Phase::InService => self.fail(number, "it failed"),
            (Event::Abandon, Phase::LaunchHook) => self.fail(number, "abandoned"),
            // On the way out it leads to the same end.
            (Event::Abandon, Phase::TerminateHook) => self.advance(number),
            (Event::Heartbeat, Phase::LaunchHook | Phase::TerminateHook) => {
                let hook =
                    if phase == Phase::LaunchHook { self.config.launch_hook } else { self.config.terminate_hook };
                if let (Some(h), Some(i)) = (hook, self.find_mut(number)) {
                    let until = now.plus(h.heartbeat).min(i.hook_since.plus(h.most));
                    i.until = Some(i.must_end.map_or(until, |end| until.min(end)));
                    self.changes += 1;
                }
            }
            (Event::Terminated, _) => self.forget(number),
            (Event::Restart, _) if sound => {
                if let Some(i) = self.find_mut(number) {
                    i.next = Phase::Loading;
                    i.meets_hook = false;
                }
                self.say("restart", number, "health");
                self.enter(number, Phase::Starting);
            }
            (Event::Reload, _) if sound => {
                self.say("reload", number, "health");
                self.enter(number, Phase::Loading);
            }
            (Event::Replace, _) if sound => self.retire(number, "health", false),
            (Event::ScaleUp, _) if active => {
                // What is on the way counts: a second cry for help does not start a second one.
                let on_the_way = self.active().filter(|i| i.starting() && !self.extra(i)).count();
                if on_the_way == 0 && self.desired < self.bounds.max {
                    self.desired += 1;
                    self.tell("set_desired", "health", self.desired);
                }
            }
            (Event::StopSending | Event::ResumeSending, Phase::InService) => {
                let on = event == Event::ResumeSending;
                if on != sending {
                    if let Some(i) = self.find_mut(number) {
                        i.sending = on;
                    }
                    self.say(if on { "resume_sending" } else { "stop_sending" }, number, "health");
                }
            }
            (Event::RebalanceRecommendation, _) if active => {
                if let Some(i) = self.find_mut(number) {
                    i.at_risk = true;
                    self.changes += 1;
                }
            }
            (Event::Interruption, p) if p != Phase::Terminating => self.interrupt(number, now.plus(notice)),
            (Event::Protect, _) if active => protect(self, true),
            (Event::Unprotect, _) if active => protect(self, false),
            _ => {}
        }
    }

    /// The cloud takes an instance away: it has until then.
    fn interrupt(&mut self, number: u64, end: Nanos) {
        let Some(i) = self.find_mut(number) else { return };
        if i.must_end.is_none() {
            self.counts.interrupted += 1;
        }
        let Some(i) = self.find_mut(number) else { return };
        let end = i.must_end.map_or(end, |e| e.min(end));
        i.must_end = Some(end);
        i.reuse = false;
        if i.phase.leaving() {
            i.until = i.until.map(|u| u.min(end));
            self.changes += 1;
        } else {
            self.retire(number, "interruption", false);
        }
    }
}
