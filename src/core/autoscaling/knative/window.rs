//! The average of a metric over a window of ring buckets, linear or weighted by age.

use crate::core::autoscaling::plain::{Reader, counted, seconds};
use crate::core::autoscaling::told::Plain;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

const SECOND: u64 = 1_000_000_000;

/// The most buckets of a window.
pub const MOST_BUCKETS: u64 = 100_000;

/// How much of the weight may fall outside of a weighted window.
const LOST_WEIGHT: f64 = 0.0001;

/// The smallest weight of the newest bucket.
const LEAST_COEFFICIENT: f64 = 0.2;

/// Buckets over a window. Instants are cut to the bucket; values of one bucket add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    granularity: u64,
    length: u64,
    weighted: bool,
    coefficient: f64,
    buckets: Vec<f64>,
    // Numbers of buckets since the origin of time.
    first: Option<u64>,
    last: Option<u64>,
    total: f64,
}

impl Window {
    /// An empty window of `length` with buckets of `granularity`, which is a whole number of seconds.
    pub fn new(length: Nanos, granularity: Nanos, weighted: bool) -> Result<Window, ConfigError> {
        let n = count("window", length, granularity)?;
        Ok(Window {
            granularity: granularity.0,
            length: length.0,
            weighted,
            coefficient: coefficient(n),
            buckets: vec![0.0; n],
            first: None,
            last: None,
            total: 0.0,
        })
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Nanos {
        Nanos(self.length)
    }

    /// The length of a bucket.
    #[must_use]
    pub fn granularity(&self) -> Nanos {
        Nanos(self.granularity)
    }

    /// Whether newer buckets weigh more.
    #[must_use]
    pub fn weighted(&self) -> bool {
        self.weighted
    }

    fn bucket(&self, at: Nanos) -> u64 {
        at.0 / self.granularity.max(1)
    }

    fn slot(&self, bucket: u64) -> usize {
        (bucket % (self.buckets.len() as u64).max(1)) as usize
    }

    fn value(&self, bucket: u64) -> f64 {
        self.buckets.get(self.slot(bucket)).copied().unwrap_or(0.0)
    }

    /// The time of a number of buckets.
    fn span(&self, buckets: u64) -> u64 {
        buckets.saturating_mul(self.granularity)
    }

    /// Adds a value to the bucket of its instant. One that is a window or more older than the newest is dropped.
    pub fn record(&mut self, at: Nanos, value: f64) {
        let bucket = self.bucket(at);
        if self.last != Some(bucket) {
            let behind = self.last.map_or(0, |last| last.saturating_sub(bucket));
            if self.span(behind) >= self.length {
                return;
            }
            if self.first.is_none_or(|first| first > bucket) {
                self.first = Some(bucket);
            }
            match self.last {
                Some(last) if bucket < last => {}
                Some(last) if self.span(bucket - last) < self.length => {
                    for skipped in last + 1..=bucket {
                        let slot = self.slot(skipped);
                        if let Some(old) = self.buckets.get_mut(slot) {
                            self.total -= *old;
                            *old = 0.0;
                        }
                    }
                    self.last = Some(bucket);
                }
                _ => {
                    self.first = Some(bucket);
                    self.buckets.fill(0.0);
                    self.total = 0.0;
                    self.last = Some(bucket);
                }
            }
        }
        let slot = self.slot(bucket);
        if let Some(sum) = self.buckets.get_mut(slot) {
            *sum += value;
        }
        self.total += value;
    }

    /// Whether nothing was recorded for longer than the window.
    #[must_use]
    pub fn is_empty(&self, now: Nanos) -> bool {
        self.last.is_none_or(|last| self.span(self.bucket(now).saturating_sub(last)) > self.length)
    }

    /// The average as of `now`. Seconds since the newest value are left out of the linear one, not counted as zeros.
    #[must_use]
    pub fn average(&self, now: Nanos) -> f64 {
        if self.weighted { self.weighted_average(now) } else { self.linear_average(now) }
    }

    fn linear_average(&self, now: Nanos) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let now = self.bucket(now);
        let seen = self.first.map_or(f64::INFINITY, |first| last.saturating_sub(first) as f64 + 1.0);
        let n = self.buckets.len() as f64;
        if now <= last {
            return six_digits(self.total / seen.min(n));
        }
        let idle = now - last;
        if self.span(idle) >= self.length {
            return 0.0;
        }
        let mut sum = self.total;
        for aged in last + 1..=now {
            sum -= self.value(aged);
        }
        six_digits(sum / seen.min(n - idle as f64))
    }

    fn weighted_average(&self, now: Nanos) -> f64 {
        let Some(last) = self.last.filter(|_| !self.is_empty(now)) else { return 0.0 };
        let n = self.buckets.len() as u64;
        let idle = self.bucket(now).saturating_sub(last);
        let keep = 1.0 - self.coefficient;
        let mut weight = self.coefficient;
        if idle > 0 {
            weight *= power(keep, idle);
        }
        let mut sum = 0.0;
        for back in 0..n.saturating_sub(idle) {
            // The ring has n places: going back from the newest never leaves it, also near the origin of time.
            sum += self.value(last % n + n - back) * weight;
            weight *= keep;
        }
        sum
    }

    /// Changes the length as of `now`, and keeps the newest buckets that fit.
    pub fn resize(&mut self, length: Nanos, now: Nanos) -> Result<(), ConfigError> {
        let n = count("window", length, Nanos(self.granularity))?;
        if length.0 == self.length {
            return Ok(());
        }
        let old = self.buckets.len();
        let mut fresh = vec![0.0; n];
        let mut total = 0.0;
        let mut first = None;
        if let Some(last) = self.last.filter(|_| !self.is_empty(now)) {
            for back in 0..n.min(old) as u64 {
                let Some(bucket) = last.checked_sub(back) else { break };
                let value = self.value(bucket);
                if let Some(place) = fresh.get_mut((bucket % n as u64) as usize) {
                    *place = value;
                }
                total += value;
            }
            first = Some(last.saturating_sub(old as u64 - 1));
        }
        // The newest instant stays, even where nothing of it is left: an enlarged window may reach back to it.
        self.first = first;
        self.total = total;
        self.buckets = fresh;
        self.length = length.0;
        self.coefficient = coefficient(n);
        Ok(())
    }

    /// The content as a plain value.
    #[must_use]
    pub fn state(&self) -> Plain {
        Plain::Map(vec![
            ("window".to_owned(), counted(self.length)),
            ("granularity".to_owned(), counted(self.granularity)),
            ("weighted".to_owned(), Plain::Flag(self.weighted)),
            ("first".to_owned(), Plain::of(self.first, counted)),
            ("last".to_owned(), Plain::of(self.last, counted)),
            ("total".to_owned(), Plain::Real(self.total)),
            ("buckets".to_owned(), Plain::List(self.buckets.iter().map(|b| Plain::Real(*b)).collect())),
        ])
    }

    /// A window from what [`Window::state`] gave.
    pub fn from_state(state: &Reader<'_>) -> Result<Window, ConfigError> {
        let (length, granularity) = (Nanos(state.count("window")?), Nanos(state.count("granularity")?));
        let mut window = Window::new(length, granularity, state.flag("weighted")?)?;
        let buckets = state.reals("buckets")?;
        if buckets.len() != window.buckets.len() {
            let allowed = format!("{} numbers, as many as the window has buckets", window.buckets.len());
            return Err(state.error("buckets", buckets.len(), allowed));
        }
        window.buckets = buckets;
        window.total = state.real("total")?;
        window.first = state.optional_count("first")?;
        window.last = state.optional_count("last")?;
        if window.first.is_some_and(|first| window.last.is_none_or(|last| first > last)) {
            return Err(state.error("first", "later than the last", "a bucket up to the last"));
        }
        Ok(window)
    }
}

fn coefficient(n: usize) -> f64 {
    (1.0 - LOST_WEIGHT.powf(1.0 / n as f64)).max(LEAST_COEFFICIENT)
}

/// A power with a whole exponent, by squaring, as Go's library does it.
fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

fn six_digits(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

fn count(field: &str, length: Nanos, granularity: Nanos) -> Result<usize, ConfigError> {
    if granularity.0 < SECOND || !granularity.0.is_multiple_of(SECOND) {
        let shown = seconds(granularity);
        return Err(ConfigError::new("granularity", shown, "a whole number of seconds, at least 1"));
    }
    let n = length.0.div_ceil(granularity.0);
    if !(1..=MOST_BUCKETS).contains(&n) {
        let allowed = format!("seconds above 0, up to {MOST_BUCKETS} times the granularity");
        return Err(ConfigError::new(field, seconds(length), allowed));
    }
    Ok(n as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * SECOND)
    }

    fn window(length: u64, granularity: u64, weighted: bool) -> Window {
        Window::new(at(length), at(granularity), weighted).unwrap()
    }

    #[test]
    fn an_empty_window_is_zero() {
        for weighted in [false, true] {
            let w = window(60, 1, weighted);
            assert!(w.is_empty(at(0)) && w.is_empty(Nanos::MAX));
            assert_eq!(w.average(at(5)), 0.0);
        }
    }

    #[test]
    fn a_young_window_averages_over_what_it_saw() {
        let mut w = window(60, 1, false);
        w.record(at(100), 10.0);
        assert_eq!(w.average(at(100)), 10.0);
        w.record(at(101), 20.0);
        w.record(at(101), 20.0);
        assert_eq!(w.average(at(101)), 25.0);
        // Since then nothing: not counted as zeros, but old buckets leave the divisor.
        assert_eq!(w.average(at(105)), 25.0);
        // A gap inside does count.
        w.record(at(103), 0.0);
        assert_eq!(w.average(at(103)), 12.5);
        assert_eq!(w.average(at(163)), 0.0);
        assert!(!w.is_empty(at(163)));
        assert!(w.is_empty(at(164)));
    }

    #[test]
    fn time_that_goes_back_adds_or_drops() {
        let mut w = window(10, 1, false);
        w.record(at(100), 10.0);
        w.record(at(95), 2.0);
        assert_eq!(w.average(at(100)), 2.0);
        w.record(at(90), 1e9);
        assert_eq!(w.average(at(100)), 2.0);
        assert_eq!(w.average(at(7)), 2.0);
        w.record(at(200), 3.0);
        assert_eq!(w.average(at(200)), 3.0);
    }

    #[test]
    fn weights_fall_with_age() {
        let mut w = window(60, 1, true);
        w.record(at(100), 10.0);
        assert_eq!(w.average(at(100)), 2.0);
        assert!((w.average(at(101)) - 1.6).abs() < 1e-12);
        assert_eq!(w.average(at(161)), 0.0);
        // A short window trusts its newest bucket more.
        let mut short = window(2, 1, true);
        short.record(at(100), 10.0);
        assert!((short.average(at(100)) - 9.9).abs() < 1e-12);
    }

    #[test]
    fn a_resize_keeps_the_newest() {
        let mut w = window(10, 1, false);
        for t in 0..10 {
            w.record(at(100 + t), t as f64);
        }
        let mut shorter = w.clone();
        shorter.resize(at(5), at(109)).unwrap();
        assert_eq!(shorter.average(at(109)), 7.0);
        let mut stale = w.clone();
        stale.resize(at(5), at(130)).unwrap();
        assert_eq!(stale.average(at(109)), 0.0);
        let same = w.clone();
        w.resize(at(10), at(500)).unwrap();
        assert_eq!(w, same);
        assert!(w.resize(Nanos::ZERO, at(500)).is_err());
    }

    #[test]
    fn state_comes_back_and_damage_is_refused() {
        let mut w = window(6, 2, true);
        w.record(at(9), 1.5);
        let state = w.state();
        assert_eq!(Window::from_state(&Reader::new("state", &state).unwrap()).unwrap(), w);
        let Plain::Map(mut fields) = state else { return };
        fields.retain(|(name, _)| name != "buckets");
        let damaged = Plain::Map(fields);
        assert!(Window::from_state(&Reader::new("state", &damaged).unwrap()).is_err());
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Window::new(at(10), Nanos(1), false).is_err());
        assert!(Window::new(at(10), Nanos::ZERO, false).is_err());
        assert!(Window::new(Nanos::ZERO, at(1), false).is_err());
        assert!(Window::new(Nanos::MAX, at(1), false).is_err());
    }
}
