//! Samples of a metric in periods, and "m of the last n periods", CloudWatch's way to decide.
//!
//! Period k ends at k * period and holds the samples taken after the end of period k - 1, its own end included.
//! Only periods that have ended count. A period without a sample is missing: it never breaches.

use super::MAX_CAPACITY;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// The most periods an alarm may look back.
pub const MAX_DATAPOINTS: u32 = 10_080;

/// Kept beyond the longest alarm: the running period, and samples that come late or early.
const SPARE: usize = 4;

/// An alarm goes off when `m` of the last `n` datapoints breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datapoints {
    /// How many must breach.
    pub m: u32,
    /// Of how many.
    pub n: u32,
}

impl Datapoints {
    /// `1 <= m <= n <= MAX_DATAPOINTS`, or an error about `field`.
    pub fn new(field: &str, m: i64, n: i64) -> Result<Datapoints, ConfigError> {
        let allowed = || format!("(m, n) with 1 <= m <= n <= {MAX_DATAPOINTS}, or None to decide on each observation");
        match (u32::try_from(m), u32::try_from(n)) {
            (Ok(m), Ok(n)) if 1 <= m && m <= n && n <= MAX_DATAPOINTS => Ok(Datapoints { m, n }),
            _ => Err(ConfigError::new(field, format!("({m}, {n})"), allowed())),
        }
    }
}

/// The samples of one period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Datapoint {
    /// The period's number.
    pub period: u64,
    /// How many samples.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The sum of those whose capacity is known.
    pub placed: f64,
    /// The sum of the same, each times the capacity at which it was measured.
    pub work: f64,
}

impl Datapoint {
    /// The capacity at which the samples were measured, weighted by them, if it is known.
    #[must_use]
    pub fn measured_at(&self) -> Option<f64> {
        (self.placed > 0.0).then(|| (self.work / self.placed).clamp(0.0, MAX_CAPACITY as f64))
    }

    /// The samples' mean.
    #[must_use]
    pub fn average(&self) -> f64 {
        // The mean lies between the smallest and the largest; the float quotient may not.
        (self.sum / self.count as f64).clamp(self.min, self.max)
    }
}

/// The last periods of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    period: Nanos,
    keep: usize,
    points: Vec<Datapoint>,
}

impl Samples {
    /// Room for alarms that look back `n` periods of this length.
    #[must_use]
    pub fn new(period: Nanos, n: u32) -> Samples {
        Samples { period: Nanos(period.0.max(1)), keep: n as usize + SPARE, points: Vec::new() }
    }

    /// The number of the period that a sample taken `at` belongs to.
    fn period_of(&self, at: Nanos) -> u64 {
        at.0.div_ceil(self.period.0)
    }

    /// The number of the last period that has ended.
    #[must_use]
    pub fn ended(&self, now: Nanos) -> u64 {
        now.0 / self.period.0
    }

    /// Takes up one sample, and the capacity at which it was measured, if it is known.
    pub fn record(&mut self, value: f64, at: Nanos, capacity: Option<i64>) {
        let (placed, work) = capacity.map_or((0.0, 0.0), |c| (value, value * c as f64));
        let period = self.period_of(at);
        match self.points.binary_search_by_key(&period, |p| p.period) {
            Ok(i) => {
                if let Some(p) = self.points.get_mut(i) {
                    p.count = p.count.saturating_add(1);
                    p.sum += value;
                    p.min = p.min.min(value);
                    p.max = p.max.max(value);
                    p.placed += placed;
                    p.work += work;
                }
            }
            Err(i) => {
                self.points.insert(i, Datapoint { period, count: 1, sum: value, min: value, max: value, placed, work })
            }
        }
        if self.points.len() > self.keep {
            // The farthest from the newest sample goes, so that a clock set back does not fill the room for good.
            let first = self.points.first().map_or(0, |p| p.period.abs_diff(period));
            let last = self.points.last().map_or(0, |p| p.period.abs_diff(period));
            if first >= last {
                self.points.remove(0);
            } else {
                self.points.pop();
            }
        }
    }

    /// The datapoints of the last `n` ended periods, oldest first.
    pub fn last(&self, n: u32, now: Nanos) -> &[Datapoint] {
        let ended = self.ended(now);
        // Period 0 exists (it ends at the origin), so `n` periods may reach below it.
        let from = (ended + 1).saturating_sub(u64::from(n));
        let lo = self.points.partition_point(|p| p.period < from);
        let hi = self.points.partition_point(|p| p.period <= ended);
        self.points.get(lo..hi.max(lo)).unwrap_or_default()
    }

    /// Whether `m` of the last `n` breach; `None` when all `n` are missing.
    pub fn breached(&self, alarm: Datapoints, now: Nanos, breach: impl Fn(&Datapoint) -> bool) -> Option<bool> {
        let points = self.last(alarm.n, now);
        if points.is_empty() {
            return None;
        }
        Some(points.iter().filter(|p| breach(p)).count() >= alarm.m as usize)
    }

    /// The newest datapoint that is still of use to someone who asks for the present value: of the running period or
    /// of one that ended less than one period ago.
    #[must_use]
    pub fn recent(&self, now: Nanos) -> Option<&Datapoint> {
        let ended = self.ended(now);
        let upto = self.points.partition_point(|p| p.period <= ended.saturating_add(1));
        self.points.get(..upto)?.last().filter(|p| p.period >= ended)
    }

    /// The longest alarm that there is room for.
    #[must_use]
    pub fn longest(&self) -> u32 {
        (self.keep - SPARE) as u32
    }

    /// The period's length.
    #[must_use]
    pub fn period(&self) -> Nanos {
        self.period
    }

    /// All datapoints kept.
    #[must_use]
    pub fn points(&self) -> &[Datapoint] {
        &self.points
    }

    /// Whether `points` could be this object's own.
    pub fn check(&self, points: &[Datapoint]) -> Result<(), ConfigError> {
        let bad = |value: String, allowed: &str| Err(ConfigError::new("state.datapoints", value, allowed));
        if points.len() > self.keep {
            return bad(format!("{} periods", points.len()), &format!("at most {} with these alarms", self.keep));
        }
        if let Some((a, b)) = points.iter().zip(points.iter().skip(1)).find(|(a, b)| a.period >= b.period) {
            return bad(format!("period {} after {}", b.period, a.period), "periods in rising order");
        }
        let sound = |p: &Datapoint| {
            p.count > 0 && [p.sum, p.min, p.max, p.placed, p.work].iter().all(|v| v.is_finite()) && p.min <= p.max
        };
        match points.iter().find(|p| !sound(p)) {
            Some(p) => bad(format!("{p:?}"), "a count of 1 or more and finite values with min <= max"),
            None => Ok(()),
        }
    }

    /// Takes over checked datapoints.
    pub fn replace(&mut self, points: Vec<Datapoint>) {
        self.points = points;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Nanos = Nanos(60_000_000_000);

    fn at(minutes: f64) -> Nanos {
        Nanos::from_secs_f64(60.0 * minutes)
    }

    #[test]
    fn only_ended_periods_count_and_gaps_do_not_breach() {
        let mut s = Samples::new(MINUTE, 3);
        let alarm = Datapoints { m: 2, n: 3 };
        assert_eq!(s.breached(alarm, at(0.0), |_| true), None);
        s.record(9.0, at(1.0), None);
        s.record(9.0, at(1.5), None);
        assert_eq!(s.breached(alarm, at(1.9), |p| p.average() > 5.0), Some(false));
        assert_eq!(s.breached(alarm, at(2.0), |p| p.average() > 5.0), Some(true));
        assert_eq!(s.breached(alarm, at(4.0), |p| p.average() > 5.0), Some(false));
        assert_eq!(s.breached(alarm, at(5.0), |_| true), None);
    }

    #[test]
    fn a_clock_set_back_does_not_fill_the_room() {
        let mut s = Samples::new(MINUTE, 3);
        for m in 1_000..1_020 {
            s.record(1.0, at(f64::from(m)), None);
        }
        for m in 1..4 {
            s.record(2.0, at(f64::from(m)), None);
        }
        assert_eq!(s.last(3, at(3.0)).len(), 3);
        assert!(s.points().len() <= 7);
    }

    #[test]
    fn a_datapoint_knows_the_capacity_it_was_measured_at() {
        let mut s = Samples::new(MINUTE, 1);
        s.record(100.0, at(0.25), Some(40));
        s.record(50.0, at(0.5), Some(80));
        s.record(70.0, at(0.75), None);
        let p = s.last(1, at(1.0))[0];
        assert_eq!(p.measured_at(), Some(8_000.0 / 150.0));
        assert_eq!(Datapoint { placed: 0.0, work: 0.0, ..p }.measured_at(), None);
    }

    #[test]
    fn a_datapoint_is_the_mean_of_its_samples() {
        let mut s = Samples::new(MINUTE, 1);
        for v in [1.0, 2.0, 6.0] {
            s.record(v, at(0.5), None);
        }
        let p = s.last(1, at(1.0))[0];
        assert_eq!((p.average(), p.min, p.max, p.count), (3.0, 1.0, 6.0, 3));
    }
}
