//! Filters over any policy's proposal: a window's peak, a cap on what goes at once, a guard against flapping, a tolerance.
//!
//! Each takes the proposed capacity from what is given as `proposed`, and is pure but for its window.
//! Sources: Compute Engine's autoscaler (stabilization, scale-in control), Kubernetes' HPA (a window either way), Azure
//! Monitor (flapping).

use super::config::Config;
use super::tell::{Tale, value};
use super::{CloudPolicy, Seen, named};
use crate::core::autoscaling::plain::{Reader, counted, instant};
use crate::core::autoscaling::rounding::compare;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{MAX_CAPACITY, Observation, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// The largest of the numbers of a window, or the smallest. Only what can still become it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    window: Nanos,
    smallest: bool,
    kept: VecDeque<(Nanos, i64)>,
}

impl Peak {
    /// Over this long.
    #[must_use]
    pub fn new(window: Nanos, smallest: bool) -> Peak {
        Peak { window, smallest, kept: VecDeque::new() }
    }

    /// Whether nothing was seen in it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes up a number and gives the peak of the window that ends now. What is a whole window old is out of it.
    pub fn over(&mut self, n: i64, now: Nanos) -> i64 {
        // A clock that was set back: what was seen "later" was seen now.
        for (at, _) in &mut self.kept {
            *at = (*at).min(now);
        }
        while self.kept.front().is_some_and(|(at, _)| now.since(*at) >= self.window) {
            self.kept.pop_front();
        }
        while self.kept.back().is_some_and(|(_, v)| if self.smallest { *v >= n } else { *v <= n }) {
            self.kept.pop_back();
        }
        self.kept.push_back((now, n));
        self.kept.front().map_or(n, |(_, v)| *v)
    }

    /// As rows.
    #[must_use]
    pub fn state(&self) -> Plain {
        Plain::List(self.kept.iter().map(|(at, n)| Plain::List(vec![instant(*at), Plain::Whole(*n)])).collect())
    }

    /// The same window with these rows.
    pub fn read(&self, f: &Reader<'_>, name: &str) -> Result<Peak, ConfigError> {
        let mut kept = VecDeque::new();
        for row in f.rows(name, 2)? {
            match row.as_slice() {
                [Plain::Whole(at), Plain::Whole(n)] if *at >= 0 && (0..=MAX_CAPACITY).contains(n) => {
                    kept.push_back((Nanos(at.unsigned_abs()), *n));
                }
                _ => return Err(f.error(name, "another row", "rows of an instant and a capacity")),
            }
        }
        Ok(Peak { kept, ..self.clone() })
    }
}

/// How a metric is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Above.
    Greater,
    /// At or above.
    GreaterEqual,
    /// Below.
    Less,
    /// At or below.
    LessEqual,
    /// The same.
    Equal,
    /// Another.
    NotEqual,
}

/// Their signs.
pub const OPS: [(&str, Op); 6] = [
    (">", Op::Greater),
    (">=", Op::GreaterEqual),
    ("<", Op::Less),
    ("<=", Op::LessEqual),
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
];

impl Op {
    /// Whether `a` compares with `b` like this.
    #[must_use]
    pub fn holds(self, a: f64, b: f64) -> bool {
        let order = compare(a, b);
        match self {
            Op::Greater => order == Ordering::Greater,
            Op::GreaterEqual => order != Ordering::Less,
            Op::Less => order == Ordering::Less,
            Op::LessEqual => order != Ordering::Greater,
            Op::Equal => order == Ordering::Equal,
            Op::NotEqual => order != Ordering::Equal,
        }
    }
}

/// What makes a policy scale out: a metric per instance at or beyond a threshold.
#[derive(Clone, Copy, Debug)]
pub struct Trigger {
    /// The metric now, per instance.
    pub value: f64,
    /// The comparison.
    pub op: Op,
    /// With this.
    pub threshold: f64,
}

impl Trigger {
    /// What the metric would be if the same work was shared by `to` instances and not `from`.
    #[must_use]
    pub fn projected(&self, from: i64, to: i64) -> f64 {
        self.value * from as f64 / to as f64
    }

    fn fires(&self, from: i64, to: i64) -> bool {
        self.op.holds(self.projected(from, to), self.threshold)
    }
}

/// The smallest capacity from `wanted` up, below `from`, at which no trigger would fire; `None` if there is none.
#[must_use]
pub fn without_flapping(from: i64, wanted: i64, triggers: &[Trigger]) -> Option<i64> {
    let calm = |to: i64| !triggers.iter().any(|t| t.fires(from, to));
    // No work can be projected on no instances; work of nothing can.
    let least = if triggers.iter().all(|t| t.value == 0.0) && calm(1) { wanted.max(0) } else { wanted.max(1) };
    let (mut low, mut high) = (least, from - 1);
    if high < low {
        return None;
    }
    if low == 0 || calm(low) {
        return Some(low);
    }
    // Metrics fall as capacity grows, so the calm capacities are the upper ones.
    while low < high {
        let middle = low + (high - low) / 2;
        if calm(middle) { high = middle } else { low = middle + 1 }
    }
    calm(low).then_some(low)
}

fn proposed(seen: &Seen<'_>) -> Result<i64, MetricError> {
    let found = match seen.given {
        Plain::Map(items) => items.iter().find(|(n, _)| n == "proposed").map(|(_, v)| v),
        _ => None,
    };
    match found {
        Some(Plain::Whole(n)) if (0..=MAX_CAPACITY).contains(n) => Ok(*n),
        _ => Err(metric_error(
            "proposed",
            "another value",
            format!("a whole number from 0 to {MAX_CAPACITY} is allowed"),
        )),
    }
}

fn begin<'a>(seen: &Seen<'a>, wanted: i64) -> Tale<'a> {
    let mut tale = Tale::new(seen.obs);
    if let Plain::Map(items) = seen.given {
        for (name, value) in items.iter().filter(|(n, v)| n != "proposed" && *v != Plain::Nothing) {
            tale.detail(name, value.clone());
        }
        if let Some((_, Plain::Text(limit))) = items.iter().find(|(n, _)| n == "policy_limited_by") {
            tale.limit(limit);
        }
    }
    tale.both("proposed", Plain::Whole(wanted));
    tale
}

/// Scales in to the peak of the proposals of a window, and out to the lowest of another.
#[derive(Clone, Debug)]
pub struct StabilizationWindow {
    most: Peak,
    least: Peak,
    serial: u64,
}

impl StabilizationWindow {
    /// With an empty memory.
    pub fn new(c: &Config<'_>) -> Result<StabilizationWindow, ConfigError> {
        let (most, least) = (c.seconds("scale_in")?, c.seconds("scale_out")?);
        Ok(StabilizationWindow { most: Peak::new(most, false), least: Peak::new(least, true), serial: 0 })
    }
}

impl CloudPolicy for StabilizationWindow {
    fn kind(&self) -> &'static str {
        "stabilization_window"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let wanted = proposed(seen)?;
        let mut tale = begin(seen, wanted);
        let asked = seen.obs.asked();
        if self.most.is_empty() {
            // What is there was once recommended.
            self.most.over(asked, seen.now);
            self.least.over(asked, seen.now);
        }
        let (most, least) = (self.most.over(wanted, seen.now), self.least.over(wanted, seen.now));
        let desired = if asked < least { least } else { asked.min(most) };
        if desired != wanted {
            tale.limit("stabilization");
        }
        tale.stage("stabilized", Plain::Whole(desired));
        tale.detail("peak", Plain::Whole(most));
        tale.detail("lowest", Plain::Whole(least));
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![
            named("serial", counted(self.serial)),
            named("most", self.most.state()),
            named("least", self.least.state()),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let (serial, most, least) = (f.count("serial")?, self.most.read(f, "most")?, self.least.read(f, "least")?);
        (self.serial, self.most, self.least) = (serial, most, least);
        Ok(())
    }
}

/// How much may go in a window.
#[derive(Clone, Debug)]
pub struct Cap {
    most: i64,
    percent: bool,
    peak: Peak,
}

impl Cap {
    /// `max_scaled_in` of instances, or percent of the peak, in `window` seconds.
    pub fn new(c: &Config<'_>) -> Result<Cap, ConfigError> {
        let percent = c.flag("percent")?;
        let most = c.whole("max_scaled_in", 0, if percent { 100 } else { MAX_CAPACITY })?;
        Ok(Cap { most, percent, peak: Peak::new(c.seconds("window")?, false) })
    }

    /// The peak of the window, and the least that has to stay: a part of an instance that may go is none.
    pub fn floor(&mut self, asked: i64, wanted: i64, now: Nanos) -> (i64, i64) {
        if self.peak.is_empty() {
            self.peak.over(asked, now);
        }
        let peak = self.peak.over(wanted, now);
        let gone = if self.percent { peak.saturating_mul(self.most) / 100 } else { self.most };
        (peak, peak.saturating_sub(gone).max(0))
    }

    /// Its memory.
    #[must_use]
    pub fn peak(&self) -> &Peak {
        &self.peak
    }

    /// Puts a memory in.
    pub fn put(&mut self, peak: Peak) {
        self.peak = peak;
    }
}

/// Never fewer than the peak of a window less what may go at once.
#[derive(Clone, Debug)]
pub struct ScaleInControl {
    cap: Cap,
    serial: u64,
}

impl ScaleInControl {
    /// With an empty memory.
    pub fn new(c: &Config<'_>) -> Result<ScaleInControl, ConfigError> {
        Ok(ScaleInControl { cap: Cap::new(c)?, serial: 0 })
    }
}

impl CloudPolicy for ScaleInControl {
    fn kind(&self) -> &'static str {
        "scale_in_control"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let wanted = proposed(seen)?;
        let mut tale = begin(seen, wanted);
        let asked = seen.obs.asked();
        let (peak, floor) = self.cap.floor(asked, wanted, seen.now);
        // A floor keeps what is there; it asks for nothing more.
        let desired = wanted.max(floor.min(asked));
        if desired != wanted {
            tale.limit("scale_in_control");
        }
        tale.detail("peak", Plain::Whole(peak));
        tale.both("floor", Plain::Whole(floor));
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![named("serial", counted(self.serial)), named("peak", self.cap.peak().state())]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let (serial, peak) = (f.count("serial")?, self.cap.peak().read(f, "peak")?);
        self.serial = serial;
        self.cap.put(peak);
        Ok(())
    }
}

/// Scales in only as far as would not at once lead to scaling out.
#[derive(Clone, Debug)]
pub struct FlappingGuard {
    triggers: Vec<(String, Op, f64)>,
    serial: u64,
}

impl FlappingGuard {
    /// With the metrics and thresholds that make the policy scale out.
    pub fn new(c: &Config<'_>) -> Result<FlappingGuard, ConfigError> {
        let read = |t: Config<'_>| Ok((t.text("metric")?.to_owned(), t.choice("op", &OPS)?, t.finite("threshold")?));
        let triggers: Vec<_> = c.maps("scale_out")?.into_iter().map(read).collect::<Result<_, ConfigError>>()?;
        if triggers.is_empty() {
            return Err(c.refuse("scale_out", "one or more thresholds"));
        }
        Ok(FlappingGuard { triggers, serial: 0 })
    }

    fn triggers(&self, obs: &Observation<'_>) -> Result<Option<Vec<Trigger>>, MetricError> {
        let mut all = Vec::with_capacity(self.triggers.len());
        for (name, op, threshold) in &self.triggers {
            let Some(value) = value(obs, name, true)? else { return Ok(None) };
            all.push(Trigger { value, op: *op, threshold: *threshold });
        }
        Ok(Some(all))
    }
}

impl CloudPolicy for FlappingGuard {
    fn kind(&self) -> &'static str {
        "flapping_guard"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let wanted = proposed(seen)?;
        let triggers = self.triggers(seen.obs)?;
        let mut tale = begin(seen, wanted);
        let asked = seen.obs.asked();
        let mut desired = wanted;
        if wanted < asked {
            match &triggers {
                // What cannot be projected is not risked.
                None => {
                    desired = asked;
                    tale.missing();
                }
                Some(t) => desired = without_flapping(asked, wanted, t).unwrap_or(asked),
            }
            if desired != wanted {
                tale.limit("flapping");
            }
        }
        let projected = match &triggers {
            Some(t) if desired < asked && desired > 0 => {
                let each = t.iter().zip(&self.triggers);
                Plain::Map(each.map(|(t, (n, ..))| named(n, Plain::Real(t.projected(asked, desired)))).collect())
            }
            _ => Plain::Nothing,
        };
        tale.both("projected", projected);
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![named("serial", counted(self.serial))]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        self.serial = f.count("serial")?;
        Ok(())
    }
}

/// Leaves alone what is almost right.
#[derive(Clone, Debug)]
pub struct Tolerance {
    out: f64,
    inward: f64,
    serial: u64,
}

impl Tolerance {
    /// With the shares by which capacity may be off.
    pub fn new(c: &Config<'_>) -> Result<Tolerance, ConfigError> {
        let share = |name| c.number(name, "a share from 0 to 1", |x| (0.0..=1.0).contains(&x));
        Ok(Tolerance { out: share("scale_out")?, inward: share("scale_in")?, serial: 0 })
    }
}

impl CloudPolicy for Tolerance {
    fn kind(&self) -> &'static str {
        "tolerance"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let wanted = proposed(seen)?;
        let mut tale = begin(seen, wanted);
        let asked = seen.obs.asked();
        let off = (wanted - asked).abs() as f64;
        let share = if wanted > asked { self.out } else { self.inward };
        let within = compare(off, share * asked as f64) != Ordering::Greater;
        let desired = if within { asked } else { wanted };
        if desired != wanted {
            tale.limit("tolerance");
        }
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, seen.now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![named("serial", counted(self.serial))]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        self.serial = f.count("serial")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_lasts_for_its_window() {
        let mut peak = Peak::new(Nanos(600), false);
        assert_eq!(peak.over(10, Nanos(0)), 10);
        assert_eq!(peak.over(5, Nanos(300)), 10);
        assert_eq!(peak.over(5, Nanos(599)), 10);
        assert_eq!(peak.over(4, Nanos(600)), 5);
        // The clock was set back: nothing is lost, and nothing lasts longer than a window from now.
        assert_eq!(peak.over(1, Nanos(10)), 5);
        assert_eq!(peak.over(1, Nanos(610)), 1);
        assert_eq!(Peak::new(Nanos(0), false).over(3, Nanos(5)), 3);
    }

    #[test]
    fn flapping_is_projected_and_a_smaller_step_is_tried() {
        let at_least = |value, threshold| Trigger { value, op: Op::GreaterEqual, threshold };
        assert_eq!(without_flapping(3, 2, &[at_least(575.0, 600.0)]), None);
        assert_eq!(without_flapping(3, 2, &[at_least(394.0, 600.0)]), Some(2));
        assert_eq!(without_flapping(3, 2, &[at_least(50.0, 80.0)]), Some(2));
        assert_eq!(without_flapping(4, 0, &[at_least(10.0, 70.0)]), Some(1));
        assert_eq!(without_flapping(4, 0, &[at_least(0.0, 70.0)]), Some(0));
        assert_eq!(without_flapping(1, 0, &[at_least(10.0, 70.0)]), None);
        assert_eq!(without_flapping(30, 20, &[Trigger { value: 65.0, op: Op::Greater, threshold: 70.0 }]), Some(28));
        assert_eq!(without_flapping(1_000_000, 1, &[at_least(50.0, 60.0)]), Some(833_334));
    }
}
