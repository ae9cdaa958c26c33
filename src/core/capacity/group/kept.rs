//! What a group looks like, and its memory, as plain values.

use super::config::MOST_INSTANCES;
use super::refreshing::{Guarded, Plan};
use super::{Cause, Counts, Group, Instance, Phase, Refresh, RefreshStatus};
use crate::core::autoscaling::Bounds;
use crate::core::autoscaling::clouds::config::Config;
use crate::core::autoscaling::clouds::named;
use crate::core::autoscaling::plain::{Reader, counted, instant, seconds};
use crate::core::autoscaling::told::Plain;
use crate::core::capacity::offers::{Market, Offer};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

const VERSION: i64 = 1;
const KIND: &str = "auto_scaling_group";

fn text(t: &str) -> Plain {
    Plain::text(t)
}

fn maybe(at: Option<Nanos>) -> Plain {
    Plain::of(at, instant)
}

fn offer(o: &Offer) -> Plain {
    Plain::Map(vec![
        named("type", text(&o.kind)),
        named("zone", text(&o.zone)),
        named("market", text(o.market.name())),
        named("price", Plain::Real(o.price)),
        named("depth", Plain::of(o.depth, counted)),
        named("interruption_rate", Plain::Real(o.interruption_rate)),
        named("priority", Plain::Whole(o.priority)),
    ])
}

fn instance(i: &Instance) -> Plain {
    Plain::Map(vec![
        named("number", counted(i.number)),
        named("type", text(&i.kind)),
        named("zone", text(&i.zone)),
        named("market", text(i.market.name())),
        named("price", Plain::Real(i.price)),
        named("template", Plain::Whole(i.template)),
        named("launch_configuration", Plain::Flag(i.configuration)),
        named("launched", instant(i.launched)),
        named("phase", text(i.phase.name())),
        named("since", instant(i.since)),
        named("until", maybe(i.until)),
        named("next", text(i.next.name())),
        named("pooled", Plain::Flag(i.pooled)),
        named("reuse", Plain::Flag(i.reuse)),
        named("protected", Plain::Flag(i.protected)),
        named("sending", Plain::Flag(i.sending)),
        named("at_risk", Plain::Flag(i.at_risk)),
        named("must_end", maybe(i.must_end)),
        named("hook_since", instant(i.hook_since)),
        named("meets_hook", Plain::Flag(i.meets_hook)),
        named("replaces", Plain::of(i.replaces, |(old, _)| counted(old))),
        named("cause", Plain::of(i.replaces, |(_, cause)| text(cause.name()))),
    ])
}

fn refresh(r: &Refresh) -> Plain {
    let guarded = Guarded::NAMES.iter().find(|(_, g)| *g == r.plan.guarded).map_or("", |(n, _)| n);
    Plain::Map(vec![
        named("min_healthy", Plain::Whole(r.plan.min_healthy)),
        named("max_healthy", Plain::of(r.plan.max_healthy, Plain::Whole)),
        named("checkpoints", Plain::List(r.plan.checkpoints.iter().map(|p| Plain::Whole(*p)).collect())),
        named("checkpoint_delay", instant(r.plan.delay)),
        named("skip_matching", Plain::Flag(r.plan.skip_matching)),
        named("auto_rollback", Plain::Flag(r.plan.auto_rollback)),
        named("scale_in_protected", text(guarded)),
        named("stuck_after", instant(r.plan.stuck)),
        named("mark", counted(r.mark)),
        named("total", Plain::Whole(r.total)),
        named("replaced", Plain::Whole(r.replaced)),
        named("wait", maybe(r.wait)),
        named("progress", instant(r.progress)),
        named("status", text(r.status.name())),
        named("former", Plain::List(vec![Plain::Whole(r.former.0), Plain::Flag(r.former.1)])),
    ])
}

pub(super) fn state(g: &Group) -> Plain {
    let c = g.counts;
    let blocked = g.blocked.iter().map(|(kind, zone, market, until)| {
        Plain::List(vec![text(kind), text(zone), text(market.name()), instant(*until)])
    });
    Plain::Map(vec![
        named("version", Plain::Whole(VERSION)),
        named("kind", text(KIND)),
        named("now", instant(g.now)),
        named("min_size", Plain::Whole(g.bounds.min)),
        named("max_size", Plain::Whole(g.bounds.max)),
        named("desired", Plain::Whole(g.desired)),
        named("template", Plain::Whole(g.template)),
        named("launch_configuration", Plain::Flag(g.configuration)),
        named("last", counted(g.last)),
        named("counts", Plain::List([c.launched, c.gone, c.failed, c.interrupted].map(counted).to_vec())),
        named("offers", Plain::List(g.offers.iter().map(offer).collect())),
        named("blocked", Plain::List(blocked.collect())),
        named("instances", Plain::List(g.instances.iter().map(instance).collect())),
        named("refresh", Plain::of(g.refresh.as_ref(), refresh)),
    ])
}

/// What people look at: instants in seconds.
pub(super) fn view(g: &Group) -> Plain {
    let at = |n: Nanos| Plain::Real(seconds(n));
    let instances = g.instances.iter().map(|i| {
        Plain::Map(vec![
            named("id", Plain::Text(format!("i-{}", i.number))),
            named("phase", text(i.phase.name())),
            named("type", text(&i.kind)),
            named("zone", text(&i.zone)),
            named("market", text(i.market.name())),
            named("price", Plain::Real(i.price)),
            named("template", Plain::Whole(i.template)),
            named("launched_at", at(i.launched)),
            named("since", at(i.since)),
            named("pooled", Plain::Flag(i.pooled)),
            named("protected", Plain::Flag(i.protected)),
            named("sending", Plain::Flag(i.sending && i.phase == Phase::InService)),
            named("at_risk", Plain::Flag(i.at_risk)),
            named("replaces", Plain::of(i.replaces, |(old, _)| Plain::Text(format!("i-{old}")))),
        ])
    });
    let refresh = Plain::of(g.refresh.as_ref(), |r| {
        let percent = if r.total > 0 { r.replaced.saturating_mul(100) / r.total } else { 100 };
        Plain::Map(vec![
            named("status", text(r.status.name())),
            named("total", Plain::Whole(r.total)),
            named("replaced", Plain::Whole(r.replaced)),
            named("percent", Plain::Whole(percent)),
            named("waits_until", Plain::of(r.wait, at)),
        ])
    });
    let count = |f: &dyn Fn(&Instance) -> bool| Plain::Whole(g.instances.iter().filter(|i| f(i)).count() as i64);
    Plain::Map(vec![
        named("now", at(g.now)),
        named("next_change", Plain::of(g.next_change(), at)),
        named("min_size", Plain::Whole(g.bounds.min)),
        named("max_size", Plain::Whole(g.bounds.max)),
        named("desired", Plain::Whole(g.desired)),
        named("size", Plain::Whole(g.size())),
        named("in_service", Plain::Whole(g.serving())),
        named("warming", count(&|i| i.starting())),
        named("pool", count(&|i| i.pooled && i.phase == Phase::Waiting)),
        named("leaving", count(&|i| i.phase.leaving())),
        named("launched", counted(g.counts.launched)),
        named("gone", counted(g.counts.gone)),
        named("failed", counted(g.counts.failed)),
        named("interrupted", counted(g.counts.interrupted)),
        named("refresh", refresh),
        named("instances", Plain::List(instances.collect())),
    ])
}

fn word<T: Copy>(r: &Reader<'_>, name: &str, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let found = r.text(name)?;
    words.iter().find(|(n, _)| *n == found).map(|(_, t)| *t).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(n, _)| *n).collect();
        r.error(name, found, format!("one of {}", names.join(", ")))
    })
}

fn in_range(r: &Reader<'_>, name: &str, low: i64, high: i64) -> Result<i64, ConfigError> {
    let n = r.whole(name)?;
    if (low..=high).contains(&n) {
        Ok(n)
    } else {
        Err(r.error(name, n, format!("a whole number from {low} to {high}")))
    }
}

fn list<'a>(r: &Reader<'a>, name: &str) -> Result<&'a [Plain], ConfigError> {
    match r.get(name)? {
        Plain::List(items) => Ok(items),
        _ => Err(r.error(name, "what is no list", "a list")),
    }
}

/// Whole numbers of 0 or more.
fn counts(r: &Reader<'_>, name: &str) -> Result<Vec<u64>, ConfigError> {
    let each = |v: &Plain| if let Plain::Whole(n) = v { u64::try_from(*n).ok() } else { None };
    let all: Option<Vec<u64>> = list(r, name)?.iter().map(each).collect();
    all.ok_or_else(|| r.error(name, "others", "whole numbers of 0 or more"))
}

fn read_instance(g: &Group, r: &Reader<'_>, last: u64) -> Result<Instance, ConfigError> {
    let number = r.count("number")?;
    if number == 0 || number > last {
        return Err(r.error("number", number, format!("a whole number from 1 to {last}, state.last")));
    }
    let phase = word(r, "phase", &Phase::NAMES)?;
    let until = r.optional_instant("until")?;
    if until.is_none() != matches!(phase, Phase::InService | Phase::Waiting) {
        return Err(r.error("until", "a time or None", format!("what goes with the phase {}", phase.name())));
    }
    let (pooled, reuse) = (r.flag("pooled")?, r.flag("reuse")?);
    if (pooled || reuse) && g.config.pool.is_none() {
        return Err(r.error("pooled", "True", "False for a group without a warm pool"));
    }
    if !pooled && matches!(phase, Phase::Resting | Phase::Waiting) {
        return Err(r.error("pooled", "False", format!("True in the phase {}", phase.name())));
    }
    let replaces = match r.optional_count("replaces")? {
        None => None,
        Some(old) if old < number => Some((old, word(r, "cause", &Cause::NAMES)?)),
        Some(old) => return Err(r.error("replaces", old, "an earlier instance")),
    };
    Ok(Instance {
        number,
        kind: r.text("type")?.to_owned(),
        zone: r.text("zone")?.to_owned(),
        market: word(r, "market", &Market::NAMES)?,
        price: r.real("price")?,
        template: r.whole("template")?,
        configuration: r.flag("launch_configuration")?,
        launched: Nanos(r.count("launched")?),
        phase,
        since: Nanos(r.count("since")?),
        until,
        next: word(r, "next", &Phase::NAMES)?,
        pooled,
        reuse,
        protected: r.flag("protected")?,
        sending: r.flag("sending")?,
        at_risk: r.flag("at_risk")?,
        must_end: r.optional_instant("must_end")?,
        hook_since: Nanos(r.count("hook_since")?),
        meets_hook: r.flag("meets_hook")?,
        replaces,
    })
}

fn read_refresh(r: &Reader<'_>, last: u64) -> Result<Refresh, ConfigError> {
    let total = in_range(r, "total", 0, MOST_INSTANCES.saturating_mul(2))?;
    let mut checkpoints = Vec::new();
    for p in list(r, "checkpoints")? {
        match p {
            Plain::Whole(p) if (1..=100).contains(p) && checkpoints.last().is_none_or(|l| l < p) => {
                checkpoints.push(*p)
            }
            _ => return Err(r.error("checkpoints", "others", "rising percentages from 1 to 100")),
        }
    }
    let most = if matches!(r.get("max_healthy")?, Plain::Nothing) {
        None
    } else {
        Some(in_range(r, "max_healthy", 100, 200)?)
    };
    let former = match list(r, "former")? {
        [Plain::Whole(version), Plain::Flag(configuration)] => (*version, *configuration),
        _ => return Err(r.error("former", "others", "a template's version and whether it is a launch configuration")),
    };
    Ok(Refresh {
        plan: Plan {
            min_healthy: in_range(r, "min_healthy", 0, 100)?,
            max_healthy: most,
            checkpoints,
            delay: Nanos(r.count("checkpoint_delay")?),
            skip_matching: r.flag("skip_matching")?,
            auto_rollback: r.flag("auto_rollback")?,
            guarded: word(r, "scale_in_protected", &Guarded::NAMES)?,
            stuck: Nanos(r.count("stuck_after")?.max(1)),
        },
        mark: r.count("mark")?.min(last),
        total,
        replaced: in_range(r, "replaced", 0, total)?,
        wait: r.optional_instant("wait")?,
        progress: Nanos(r.count("progress")?),
        status: word(r, "status", &RefreshStatus::NAMES)?,
        former,
    })
}

pub(super) fn restored(g: &Group, value: &Plain) -> Result<Group, ConfigError> {
    let r = Reader::new("state", value)?;
    r.check(VERSION, KIND)?;
    let max = in_range(&r, "max_size", 0, MOST_INSTANCES)?;
    let min = in_range(&r, "min_size", 0, max)?;
    let last = r.count("last")?;
    let mut out = Group::new(g.config.clone());
    out.bounds = Bounds { min, max };
    out.desired = in_range(&r, "desired", min, max)?;
    out.now = Nanos(r.count("now")?);
    out.template = r.whole("template")?;
    out.configuration = r.flag("launch_configuration")?;
    out.last = last;
    out.counts = match *counts(&r, "counts")? {
        [launched, gone, failed, interrupted] => Counts { launched, gone, failed, interrupted },
        _ => return Err(r.error("counts", "others", "four whole numbers")),
    };
    out.offers = super::config::offers(&Config::new("state", value)?)?;
    g.config.check_offers(&out.offers)?;
    out.blocked.clear();
    for row in r.rows("blocked", 4)? {
        match row.as_slice() {
            [Plain::Text(kind), Plain::Text(zone), Plain::Text(market), Plain::Whole(until)] if *until >= 0 => {
                let market = if market == Market::Spot.name() { Market::Spot } else { Market::OnDemand };
                out.blocked.push((kind.clone(), zone.clone(), market, Nanos(until.unsigned_abs())));
            }
            _ => return Err(r.error("blocked", "others", "lists of type, zone, market and instant")),
        }
    }
    for (n, i) in list(&r, "instances")?.iter().enumerate() {
        let reader = Reader::new(format!("state.instances[{n}]"), i)?;
        let read = read_instance(g, &reader, last)?;
        if out.instances.last().is_some_and(|l| l.number >= read.number) {
            return Err(reader.error("number", read.number, "a number above the one before"));
        }
        out.instances.push(read);
    }
    out.refresh = r.optional_map("refresh")?.map(|r| read_refresh(&r, last)).transpose()?;
    Ok(out)
}
