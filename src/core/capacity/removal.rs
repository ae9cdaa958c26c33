//! Whom to take away first.
//!
//! Our own rule, for want of one: no autoscaler looks at the work that is lost. The loss of an instance is the work that
//! it still has to do and what its cache saves, over its price: a dear instance with little in flight goes before a cheap
//! one with as much.

use crate::core::autoscaling::clouds::config::Config;
use crate::core::autoscaling::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::HashSet;

const HOUR: u64 = 3_600_000_000_000;

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Removable {
    /// Its name.
    pub id: String,
    /// Whether it works.
    pub ready: bool,
    /// Whether it must stay.
    pub protected: bool,
    /// The work in flight, in any unit.
    pub work_left: f64,
    /// The work that its cache saves, in the same.
    pub cache_value: f64,
    /// An hour of it.
    pub price: f64,
    /// Its zone.
    pub zone: String,
    /// When it was started.
    pub started: Option<Nanos>,
    /// The version that it was started from.
    pub template: Option<i64>,
}

const KEYS: [&str; 9] =
    ["id", "ready", "protected", "work_left", "cache_value", "price", "zone", "started", "template"];

impl Removable {
    /// Reads one from named values.
    pub fn read(at: &str, value: &Plain) -> Result<Removable, ConfigError> {
        let c = Config::new(at, value)?;
        let fields = if let Plain::Map(fields) = value { fields.as_slice() } else { &[] };
        if let Some((name, _)) = fields.iter().find(|(n, _)| !KEYS.contains(&n.as_str())) {
            let allowed = format!("a field that is known: {}", KEYS.join(", "));
            return Err(ConfigError::new(at, format!("{name:?}"), allowed));
        }
        let amount = |name: &str, missing: f64| {
            let fits = |c: &Config<'_>, n: &str| c.number(n, "a finite number of 0 or more", |x| x >= 0.0);
            Ok::<_, ConfigError>(c.optional(name, fits)?.unwrap_or(missing))
        };
        let instant = |c: &Config<'_>, n: &str| c.number(n, "seconds of 0 or more", |x| x >= 0.0);
        Ok(Removable {
            id: c.text("id")?.to_owned(),
            ready: c.optional("ready", Config::flag)?.unwrap_or(true),
            protected: c.optional("protected", Config::flag)?.unwrap_or(false),
            work_left: amount("work_left", 0.0)?,
            cache_value: amount("cache_value", 0.0)?,
            price: amount("price", 1.0)?,
            zone: c.optional("zone", Config::text)?.unwrap_or("").to_owned(),
            started: c.optional("started", instant)?.map(Nanos::from_secs_f64),
            template: c.optional("template", Config::capacity)?,
        })
    }

    /// Reads a list of them, each name once.
    pub fn read_all(at: &str, value: &Plain) -> Result<Vec<Removable>, ConfigError> {
        let Plain::List(items) = value else {
            return Err(ConfigError::new(at, "what is not a sequence", "a sequence of mappings"));
        };
        let mut seen = HashSet::new();
        let mut all = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let read = Removable::read(&format!("{at}[{n}]"), item)?;
            if !seen.insert(read.id.clone()) {
                return Err(ConfigError::new(format!("{at}[{n}].id"), format!("{:?}", read.id), "each id once"));
            }
            all.push(read);
        }
        Ok(all)
    }

    /// What is lost with it, over what it costs.
    fn loss(&self) -> f64 {
        let lost = self.work_left + self.cache_value;
        if lost == 0.0 { 0.0 } else { lost / self.price }
    }
}

/// What a ranking goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Who does not work goes first.
    Unready,
    /// Of the zone with the most.
    Zone,
    /// Who has the least to lose; of equals the dearest.
    Loss,
    /// The youngest.
    NewestInstance,
    /// The oldest.
    OldestInstance,
    /// The oldest version.
    OldestLaunchTemplate,
    /// The least left of the hour that has begun.
    ClosestToNextInstanceHour,
}

impl Criterion {
    /// All, by name.
    pub const NAMES: [(&'static str, Criterion); 7] = [
        ("unready", Criterion::Unready),
        ("zone", Criterion::Zone),
        ("loss", Criterion::Loss),
        ("newest_instance", Criterion::NewestInstance),
        ("oldest_instance", Criterion::OldestInstance),
        ("oldest_launch_template", Criterion::OldestLaunchTemplate),
        ("closest_to_next_instance_hour", Criterion::ClosestToNextInstanceHour),
    ];

    /// What is taken if nobody says otherwise.
    pub const USUAL: [Criterion; 4] = [Criterion::Unready, Criterion::Zone, Criterion::Loss, Criterion::NewestInstance];

    fn compare(self, a: &Removable, b: &Removable, now: Nanos) -> Ordering {
        // What is not known comes last.
        fn known<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
            match (a, b) {
                (Some(a), Some(b)) => a.cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
        }
        let left = |r: &Removable| r.started.map(|s| HOUR - now.since(s).0 % HOUR);
        match self {
            Criterion::Unready => a.ready.cmp(&b.ready),
            Criterion::Zone => Ordering::Equal,
            Criterion::Loss => a.loss().total_cmp(&b.loss()).then(b.price.total_cmp(&a.price)),
            Criterion::NewestInstance => known(a.started.map(std::cmp::Reverse), b.started.map(std::cmp::Reverse)),
            Criterion::OldestInstance => known(a.started, b.started),
            Criterion::OldestLaunchTemplate => known(a.template, b.template),
            Criterion::ClosestToNextInstanceHour => known(left(a), left(b)),
        }
    }
}

/// The places of the instances, who goes first first. Who must stay is not among them; of equals the first goes first.
#[must_use]
pub fn rank(all: &[Removable], order: &[Criterion], now: Nanos) -> Vec<usize> {
    let zone_at = order.iter().position(|c| *c == Criterion::Zone).unwrap_or(order.len());
    let (before, after) = order.split_at(zone_at);
    let by = |some: &[Criterion], a: &Removable, b: &Removable| {
        some.iter().map(|c| c.compare(a, b, now)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut left: HashMap<&str, usize> = HashMap::new();
    for r in all {
        *left.entry(r.zone.as_str()).or_default() += 1;
    }
    let mut places: Vec<(usize, &Removable)> = all.iter().enumerate().filter(|(_, r)| !r.protected).collect();
    places.sort_by(|a, b| by(before, a.1, b.1).then(by(after, a.1, b.1)));
    if after.is_empty() {
        return places.into_iter().map(|(i, _)| i).collect();
    }
    let mut out = Vec::with_capacity(places.len());
    for class in places.chunk_by(|a, b| by(before, a.1, b.1).is_eq()) {
        // Each zone's in order; then whoever is next of the fullest zone.
        let mut zones: Vec<Vec<(usize, usize, &Removable)>> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (rank, (i, r)) in class.iter().enumerate() {
            let at = *known.entry(r.zone.as_str()).or_insert(zones.len());
            if at == zones.len() {
                zones.push(Vec::new());
            }
            if let Some(zone) = zones.get_mut(at) {
                zone.push((rank, *i, *r));
            }
        }
        zones.iter_mut().for_each(|z| z.reverse());
        for _ in 0..class.len() {
            let fullest = zones.iter_mut().filter(|z| !z.is_empty()).min_by_key(|z| {
                let head = z.last();
                let many = head.map_or(0, |(.., r)| left.get(r.zone.as_str()).copied().unwrap_or(0));
                (std::cmp::Reverse(many), head.map_or(usize::MAX, |h| h.0))
            });
            if let Some((_, i, r)) = fullest.and_then(Vec::pop) {
                out.push(i);
                if let Some(n) = left.get_mut(r.zone.as_str()) {
                    *n = n.saturating_sub(1);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, zone: &str, work: f64, price: f64, started: u64) -> Removable {
        Removable {
            id: id.into(),
            ready: true,
            protected: false,
            work_left: work,
            cache_value: 0.0,
            price,
            zone: zone.into(),
            started: Some(Nanos(started * 60_000_000_000)),
            template: None,
        }
    }

    fn ids(all: &[Removable], order: &[Criterion]) -> String {
        rank(all, order, Nanos(90 * 60_000_000_000)).iter().map(|&i| all[i].id.as_str()).collect()
    }

    #[test]
    fn each_criterion_alone() {
        let mut all = [
            one("p", "a", 3.0, 1.0, 5),
            one("q", "a", 4.0, 2.0, 45),
            one("r", "b", 1.0, 0.25, 31),
            one("s", "b", 0.0, 1.0, 80),
        ];
        assert_eq!(ids(&all, &[]), "pqrs");
        assert_eq!(ids(&all, &[Criterion::Loss]), "sqpr");
        assert_eq!(ids(&all, &[Criterion::NewestInstance]), "sqrp");
        assert_eq!(ids(&all, &[Criterion::OldestInstance]), "prqs");
        assert_eq!(ids(&all, &[Criterion::ClosestToNextInstanceHour]), "rqps");
        assert_eq!(ids(&all, &[Criterion::Zone]), "prqs");
        all[2].ready = false;
        assert_eq!(ids(&all, &[Criterion::Unready]), "rpqs");
        assert_eq!(ids(&all, &Criterion::USUAL), "rqsp", "zone a has more after r");
        all[3].template = Some(2);
        all[0].template = Some(1);
        assert_eq!(ids(&all, &[Criterion::OldestLaunchTemplate]), "psqr", "unknown last");
        all[0].protected = true;
        assert_eq!(ids(&all, &[Criterion::Loss]), "sqr");
        all[1].cache_value = 100.0;
        assert_eq!(ids(&all, &[Criterion::Loss]), "srq");
        assert_eq!(ids(&[], &Criterion::USUAL), "");
    }

    #[test]
    fn free_ones_with_work_go_last() {
        let all = [one("p", "a", 3.0, 0.0, 0), one("q", "a", 9.0, 1.0, 0), one("r", "a", 0.0, 0.0, 0)];
        assert_eq!(ids(&all, &[Criterion::Loss]), "rqp");
    }
}
