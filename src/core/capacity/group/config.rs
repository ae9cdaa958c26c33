//! What a group is told once.

use super::Phase;
use crate::core::autoscaling::Bounds;
use crate::core::autoscaling::clouds::config::Config;
use crate::core::autoscaling::told::Plain;
use crate::core::capacity::offers::{Market, Offer, Strategy};
use crate::core::capacity::termination::Termination;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// More instances than this are more groups.
pub const MOST_INSTANCES: i64 = 10_000;

/// In what state instances wait in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// Off: they boot and load.
    Stopped,
    /// Memory on disk: they boot, and are warmed up.
    Hibernated,
    /// On: they only have to be let in.
    Running,
}

impl PoolState {
    /// All, by name.
    pub const NAMES: [(&'static str, PoolState); 3] =
        [("stopped", PoolState::Stopped), ("hibernated", PoolState::Hibernated), ("running", PoolState::Running)];
}

/// The pool beside a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The fewest that wait.
    pub min_size: i64,
    /// The total of group and pool; `None` is the maximum of the group.
    pub prepared: Option<i64>,
    /// Whether who leaves the group goes back.
    pub reuse: bool,
    /// How they wait.
    pub state: PoolState,
}

/// A pause of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// How long nobody may be heard of.
    pub heartbeat: Nanos,
    /// How long heartbeats can put it off.
    pub most: Nanos,
    /// Whether silence means that it failed.
    pub abandon: bool,
}

/// How long each stage lasts; `None` lasts until an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From order to boot.
    pub launch: Option<Nanos>,
    /// Boot of what was stopped.
    pub start: Option<Nanos>,
    /// Loading the model.
    pub load: Option<Nanos>,
    /// Warming up.
    pub warm: Option<Nanos>,
    /// The most that draining takes.
    pub drain: Nanos,
    /// Stopping the server.
    pub stop: Option<Nanos>,
    /// The machine's end.
    pub terminate: Option<Nanos>,
    /// After this a stage without a time has failed.
    pub timeout: Nanos,
}

impl Times {
    pub(super) fn of(&self, phase: Phase) -> Option<Nanos> {
        match phase {
            Phase::Launching => self.launch,
            Phase::Starting => self.start,
            Phase::Loading => self.load,
            Phase::Warming => self.warm,
            Phase::Draining => Some(self.drain),
            Phase::Resting | Phase::Stopping => self.stop,
            Phase::Terminating => self.terminate,
            Phase::LaunchHook | Phase::TerminateHook | Phase::InService | Phase::Waiting => None,
        }
    }
}

/// The configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// Bounds at the start.
    pub bounds: Bounds,
    /// Instances at the start.
    pub desired: i64,
    /// Where instances can be had.
    pub offers: Vec<Offer>,
    /// On-demand instances whatever the size.
    pub base: i64,
    /// Of the rest, in percent.
    pub percent: i64,
    /// How spot offers are chosen.
    pub spot: Strategy,
    /// How on-demand offers are chosen.
    pub on_demand: Strategy,
    /// Whether on-demand stands in for spot that cannot be had.
    pub fallback: bool,
    /// The pool.
    pub pool: Option<Pool>,
    /// The hook at the start.
    pub launch_hook: Option<Hook>,
    /// The hook at the end.
    pub terminate_hook: Option<Hook>,
    /// How long each stage lasts.
    pub times: Times,
    /// Who goes first.
    pub termination: Vec<Termination>,
    /// Whether new instances are protected from scaling in.
    pub protect_new: bool,
    /// Whether a zone that has nothing to offer leaves its share to others.
    pub best_effort: bool,
    /// Whether zones are evened out.
    pub zone_rebalance: bool,
    /// Whether who may be interrupted is replaced beforehand.
    pub capacity_rebalance: bool,
    /// How long after its start nothing is done about an instance's health.
    pub grace: Nanos,
    /// How long an offer that failed is left alone.
    pub retry: Nanos,
    /// The version of the template at the start.
    pub template: i64,
    /// Whether that is a launch configuration.
    pub configuration: bool,
}

fn hook(c: &Config<'_>, name: &str) -> Result<Option<Hook>, ConfigError> {
    let Some(c) = one(c, name)? else { return Ok(None) };
    Ok(Some(Hook {
        heartbeat: c.seconds("heartbeat")?,
        most: c.seconds("most")?,
        abandon: c.choice("result", &[("abandon", true), ("continue", false)])?,
    }))
}

/// A list of none or one.
fn one<'a>(c: &Config<'a>, name: &str) -> Result<Option<Config<'a>>, ConfigError> {
    if c.is_none(name) { Ok(None) } else { Ok(c.maps(name)?.into_iter().next()) }
}

impl GroupConfig {
    /// Reads it from named values.
    pub fn new(values: &Plain) -> Result<GroupConfig, ConfigError> {
        let c = Config::new("", values)?;
        let bounds = bounds(&c)?;
        let allowed = format!("a whole number from min_size ({}) to max_size ({})", bounds.min, bounds.max);
        let desired = c.optional("desired", Config::capacity)?.unwrap_or(bounds.min);
        if !(bounds.min..=bounds.max).contains(&desired) {
            return Err(c.refuse("desired", allowed));
        }
        let offers = offers(&c)?;
        let mixed = one(&c, "mixed")?;
        let (mut base, mut percent, mut fallback) = (0, 100, false);
        let (mut spot, mut on_demand) = (Strategy::LowestPrice(2), Strategy::Prioritized);
        if let Some(m) = &mixed {
            base = m.capacity("on_demand_base")?;
            percent = m.whole("on_demand_percent_above_base", 0, 100)?;
            let pools = m.whole("spot_pools", 1, 20)?;
            spot = m.choice("spot_strategy", &Strategy::for_spot(usize::try_from(pools).unwrap_or(1)))?;
            on_demand = m.choice("on_demand_strategy", &Strategy::FOR_ON_DEMAND)?;
            fallback = m.flag("on_demand_fallback")?;
        }
        let pool = one(&c, "warm_pool")?.map(|p| {
            Ok::<_, ConfigError>(Pool {
                min_size: p.capacity("min_size")?,
                prepared: p.optional("max_prepared", Config::capacity)?,
                reuse: p.flag("reuse_on_scale_in")?,
                state: p.choice("state", &PoolState::NAMES)?,
            })
        });
        let pool = pool.transpose()?;
        if pool.is_some() && percent < 100 {
            return Err(ConfigError::new(
                "warm_pool",
                "a pool",
                "None for a group with spot instances: they cannot wait",
            ));
        }
        if let Some(p) = pool {
            let most = p.prepared.unwrap_or(bounds.max).max(p.min_size.saturating_add(bounds.max));
            if most > 2 * MOST_INSTANCES {
                return Err(ConfigError::new("warm_pool", most, format!("at most {MOST_INSTANCES} instances")));
            }
        }
        let stage = |name: &str| c.optional(name, Config::seconds);
        let times = Times {
            launch: stage("launch_time")?,
            start: stage("start_time")?,
            load: stage("load_time")?,
            warm: stage("warmup")?,
            drain: c.seconds("drain_time")?,
            stop: stage("stop_time")?,
            terminate: stage("terminate_time")?,
            timeout: c
                .number("stage_timeout", "seconds from 1 to 604800", |x| (1.0..=604_800.0).contains(&x))
                .map(Nanos::from_secs_f64)?,
        };
        let termination = c.maps("termination_policies")?;
        let termination =
            termination.iter().map(|t| t.choice("policy", &Termination::NAMES)).collect::<Result<Vec<_>, _>>()?;
        let default = termination.iter().position(|t| *t == Termination::Default);
        if default.is_some_and(|at| at + 1 < termination.len()) {
            return Err(ConfigError::new("termination_policies", "default before others", "default as the last one"));
        }
        let config = GroupConfig {
            bounds,
            desired,
            offers,
            base,
            percent,
            spot,
            on_demand,
            fallback,
            pool,
            launch_hook: hook(&c, "launch_hook")?,
            terminate_hook: hook(&c, "terminate_hook")?,
            times,
            termination,
            protect_new: c.flag("protect_new")?,
            best_effort: c.choice("zone_distribution", &[("balanced_best_effort", true), ("balanced_only", false)])?,
            zone_rebalance: c.flag("zone_rebalance")?,
            capacity_rebalance: c.flag("capacity_rebalance")?,
            grace: c.seconds("health_grace")?,
            retry: c
                .number("launch_retry", "seconds from 1 to 86400", |x| (1.0..=86_400.0).contains(&x))
                .map(Nanos::from_secs_f64)?,
            template: c.capacity("template")?,
            configuration: c.flag("launch_configuration")?,
        };
        config.check_offers(&config.offers)?;
        Ok(config)
    }

    /// Whether these offers can serve the group at all.
    pub(super) fn check_offers(&self, offers: &[Offer]) -> Result<(), ConfigError> {
        let has = |m: Market| offers.iter().any(|o| o.market == m);
        if (self.percent > 0 || self.base > 0) && !has(Market::OnDemand) {
            return Err(ConfigError::new("offers", "no on-demand offer", "one or more, for the on-demand part"));
        }
        if self.percent < 100 && !has(Market::Spot) {
            return Err(ConfigError::new("offers", "no spot offer", "one or more, for the spot part"));
        }
        if self.percent == 100 && has(Market::Spot) {
            let allowed =
                "on-demand offers only, or a MixedInstancesPolicy with on_demand_percent_above_base below 100";
            return Err(ConfigError::new("offers", "a spot offer", allowed));
        }
        Ok(())
    }

    pub(super) fn strategy(&self, market: Market) -> Strategy {
        if market == Market::Spot { self.spot } else { self.on_demand }
    }
}

/// The bounds of a group.
pub(super) fn bounds(c: &Config<'_>) -> Result<Bounds, ConfigError> {
    let min = c.whole("min_size", 0, MOST_INSTANCES)?;
    let max = c.whole("max_size", 0, MOST_INSTANCES)?;
    if max < min {
        return Err(c.refuse("max_size", format!("a whole number from min_size ({min}) to {MOST_INSTANCES}")));
    }
    Ok(Bounds { min, max })
}

/// The offers of a configuration, each pool once.
pub(super) fn offers(c: &Config<'_>) -> Result<Vec<Offer>, ConfigError> {
    let mut found: Vec<Offer> = Vec::new();
    for (i, o) in c.maps("offers")?.iter().enumerate() {
        let offer = Offer::read(o)?;
        if found.iter().any(|f| f.is(&offer.kind, &offer.zone, offer.market)) {
            let what = format!("{} {} {}", offer.kind, offer.zone, offer.market.name());
            return Err(ConfigError::new(format!("offers[{i}]"), what, "one offer of a type in a zone and a market"));
        }
        found.push(offer);
    }
    if found.is_empty() {
        return Err(ConfigError::new("offers", "()", "one or more"));
    }
    Ok(found)
}
