//! When requests arrive: Poisson with a rate that may change, or a recorded trace.

use super::service::exp1;
use super::{MAX_SECONDS, check_range};
use crate::core::error::ConfigError;
use crate::core::rng::{Rng, stream};
use crate::core::time::Nanos;
use std::sync::Arc;

const SECONDS: &str = "expected 0 to 1e9 seconds";
const RATE: &str = "expected 0 to 1e9 requests a second";
/// More requests than this in one run is taken for a mistake.
const MAX_REQUESTS: f64 = 1e9;

/// Traffic that rises to a multiple of itself and falls back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// The multiple at the top, at least 1.
    pub factor: f64,
    /// When the rise begins, in seconds.
    pub start_s: f64,
    /// How long the rise takes.
    pub ramp_s: f64,
    /// How long the top lasts.
    pub hold_s: f64,
    /// How long the fall takes.
    pub ramp_down_s: f64,
}

impl Spike {
    /// The spike when every value is usable.
    pub fn checked(self) -> Result<Spike, ConfigError> {
        check_range("traffic.factor", self.factor, 1.0, 1e6, "expected 1 to 1e6")?;
        check_range("traffic.start_s", self.start_s, 0.0, MAX_SECONDS, SECONDS)?;
        check_range("traffic.ramp_s", self.ramp_s, 0.0, MAX_SECONDS, SECONDS)?;
        check_range("traffic.hold_s", self.hold_s, 0.0, MAX_SECONDS, SECONDS)?;
        check_range("traffic.ramp_down_s", self.ramp_down_s, 0.0, MAX_SECONDS, SECONDS)?;
        if self.ramp_s + self.hold_s + self.ramp_down_s <= 0.0 {
            return Err(ConfigError::new("traffic.hold_s", self.hold_s, "expected a spike that lasts longer than 0 s"));
        }
        Ok(self)
    }

    /// When it is over, in seconds.
    #[must_use]
    pub fn end_s(&self) -> f64 {
        self.start_s + self.ramp_s + self.hold_s + self.ramp_down_s
    }

    /// The multiple at an instant.
    #[must_use]
    pub fn at(&self, t: f64) -> f64 {
        let rise = t - self.start_s;
        let fall = self.end_s() - t;
        if rise < 0.0 || fall <= 0.0 {
            1.0
        } else if rise < self.ramp_s {
            1.0 + (self.factor - 1.0) * rise / self.ramp_s
        } else if fall < self.ramp_down_s {
            1.0 + (self.factor - 1.0) * fall / self.ramp_down_s
        } else {
            self.factor
        }
    }
}

/// A part of the time line in which the rate goes straight from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segment {
    start: f64,
    end: f64,
    from: f64,
    to: f64,
}

/// A Poisson rate over time, piecewise linear.
#[derive(Clone, Debug, PartialEq)]
pub struct RateProfile {
    segments: Vec<Segment>,
}

impl RateProfile {
    /// One rate from 0 to `duration_s`.
    pub fn constant(rate: f64, duration_s: f64) -> Result<RateProfile, ConfigError> {
        check_range("traffic.rate_rps", rate, 0.0, 1e9, RATE)?;
        RateProfile::build(&[(0.0, rate)], false, duration_s)
    }

    /// From points (seconds, rate): each rate holds until the next point, or with `linear` goes straight to it. The last
    /// one holds to the end.
    pub fn points(points: &[(f64, f64)], linear: bool, duration_s: f64) -> Result<RateProfile, ConfigError> {
        let Some(&(first, _)) = points.first() else {
            return Err(ConfigError::new("traffic.points", "an empty list", "expected at least one [seconds, rate]"));
        };
        if first != 0.0 {
            return Err(ConfigError::new("traffic.points", first, "expected the first point at 0 seconds"));
        }
        for pair in points.windows(2) {
            if let [(a, _), (b, _)] = pair
                && (b <= a || b.is_nan())
            {
                return Err(ConfigError::new("traffic.points", b, "expected times that rise"));
            }
        }
        for &(t, rate) in points {
            check_range("traffic.points", t, 0.0, MAX_SECONDS, SECONDS)?;
            check_range("traffic.points", rate, 0.0, 1e9, RATE)?;
        }
        RateProfile::build(points, linear, duration_s)
    }

    /// A base rate with a spike on it.
    pub fn spike(base: f64, spike: Spike, duration_s: f64) -> Result<RateProfile, ConfigError> {
        check_range("traffic.base_rps", base, 0.0, 1e9, RATE)?;
        let spike = spike.checked()?;
        let top = base * spike.factor;
        let rise_end = spike.start_s + spike.ramp_s;
        let fall = rise_end + spike.hold_s;
        let mut segments = Vec::new();
        let parts = [
            (0.0, spike.start_s, base, base),
            (spike.start_s, rise_end, base, top),
            (rise_end, fall, top, top),
            (fall, spike.end_s(), top, base),
            (spike.end_s(), MAX_SECONDS.max(spike.end_s()), base, base),
        ];
        for (start, end, from, to) in parts {
            if end > start {
                segments.push(Segment { start, end, from, to });
            }
        }
        RateProfile::cut(segments, duration_s)
    }

    fn build(points: &[(f64, f64)], linear: bool, duration_s: f64) -> Result<RateProfile, ConfigError> {
        let mut segments = Vec::new();
        for (i, &(start, from)) in points.iter().enumerate() {
            let next = points.get(i + 1);
            let end = next.map_or(MAX_SECONDS.max(duration_s), |p| p.0);
            let to = next.filter(|_| linear).map_or(from, |p| p.1);
            segments.push(Segment { start, end, from, to });
        }
        RateProfile::cut(segments, duration_s)
    }

    fn cut(mut segments: Vec<Segment>, duration_s: f64) -> Result<RateProfile, ConfigError> {
        check_range("duration_s", duration_s, 1e-6, MAX_SECONDS, "expected 1e-6 to 1e9 seconds")?;
        segments.retain(|s| s.start < duration_s);
        if let Some(last) = segments.last_mut() {
            let end = last.end.min(duration_s);
            last.to = last.from + (last.to - last.from) * (end - last.start) / (last.end - last.start);
            last.end = end;
        }
        let profile = RateProfile { segments };
        let expected = profile.expected();
        if expected > MAX_REQUESTS {
            return Err(ConfigError::new("traffic", format!("about {expected:.0} requests"), "expected at most 1e9"));
        }
        Ok(profile)
    }

    /// How many requests to expect in all.
    #[must_use]
    pub fn expected(&self) -> f64 {
        self.segments.iter().map(|s| 0.5 * (s.from + s.to) * (s.end - s.start)).sum()
    }
}

/// A recorded trace: when requests came and how much work each brought.
#[derive(Clone, Debug)]
pub struct Trace {
    arrival_s: Arc<[f64]>,
    work_s: Arc<[f64]>,
    span_s: f64,
    rate_scale: f64,
    spike: Option<Spike>,
    duration_s: f64,
    rotate: bool,
}

impl Trace {
    /// A trace of sorted arrival times (from 0) and the work of each.
    ///
    /// The trace repeats after its span, which is its last arrival plus its mean gap. A `rate_scale` or a spike lays copies
    /// of the trace over it, each begun elsewhere; a fraction of a copy keeps each of its requests with that chance. With
    /// `rotate`, every seed begins the trace elsewhere.
    pub fn new(
        arrival_s: &[f64],
        work_s: &[f64],
        rate_scale: f64,
        spike: Option<Spike>,
        rotate: bool,
        duration_s: f64,
    ) -> Result<Trace, ConfigError> {
        if arrival_s.is_empty() {
            return Err(ConfigError::new("traffic.trace", "no requests", "expected at least one request"));
        }
        if work_s.len() != arrival_s.len() {
            let what = format!("{} arrivals and {} amounts of work", arrival_s.len(), work_s.len());
            return Err(ConfigError::new("traffic.trace", what, "expected as many of each"));
        }
        let mut last = 0.0;
        for &t in arrival_s {
            check_range(
                "traffic.trace",
                t,
                last,
                MAX_SECONDS,
                "expected arrival times that never fall, 0 to 1e9 seconds",
            )?;
            last = t;
        }
        for &w in work_s {
            check_range("traffic.trace", w, 0.0, MAX_SECONDS, "expected work of 0 to 1e9 seconds")?;
        }
        check_range("traffic.rate_scale", rate_scale, 0.0, 1e6, "expected 0 to 1e6")?;
        check_range("duration_s", duration_s, 1e-6, MAX_SECONDS, "expected 1e-6 to 1e9 seconds")?;
        let spike = spike.map(Spike::checked).transpose()?;
        let n = arrival_s.len() as f64;
        let first = arrival_s.first().copied().unwrap_or(0.0);
        let gap = if n > 1.0 { (last - first) / (n - 1.0) } else { 0.0 };
        let span_s = if last - first + gap > 0.0 { last - first + gap } else { duration_s };
        let trace =
            Trace { arrival_s: arrival_s.into(), work_s: work_s.into(), span_s, rate_scale, spike, duration_s, rotate };
        let all = n * (duration_s / span_s).ceil() * (rate_scale * spike.map_or(1.0, |s| s.factor)).ceil();
        if all > MAX_REQUESTS {
            return Err(ConfigError::new(
                "traffic.rate_scale",
                rate_scale,
                "expected less: over 1e9 requests to lay out",
            ));
        }
        Ok(trace)
    }

    /// The mean work of a request, in seconds.
    #[must_use]
    pub fn mean_work(&self) -> f64 {
        self.work_s.iter().sum::<f64>() / self.work_s.len().max(1) as f64
    }

    fn multiple(&self, t: f64) -> f64 {
        self.rate_scale * self.spike.map_or(1.0, |spike| spike.at(t))
    }

    /// The requests of one run, in order: (instant, work in seconds).
    fn lay_out(&self, seed: u64) -> Vec<(Nanos, f64)> {
        let mut rng = Rng::new(stream(seed, super::streams::TRACE));
        let n = self.arrival_s.len();
        let most = self.rate_scale * self.spike.map_or(1.0, |s| s.factor);
        let copies = most.ceil() as u64;
        let mut out = Vec::new();
        for copy in 0..copies {
            let begin =
                if copy > 0 || self.rotate { rng.below(u32::try_from(n).unwrap_or(u32::MAX)) as usize } else { 0 };
            let origin = self.arrival_s.get(begin).copied().unwrap_or(0.0);
            let mut lap = 0.0;
            let mut i = begin;
            while let (Some(&at), Some(&work)) = (self.arrival_s.get(i), self.work_s.get(i)) {
                let t = at - origin + lap;
                if t >= self.duration_s {
                    break;
                }
                let keep = self.multiple(t) - copy as f64;
                if keep >= 1.0 || (keep > 0.0 && rng.next_f64() < keep) {
                    out.push((Nanos::from_secs_f64(t), work));
                }
                i += 1;
                if i == n {
                    i = 0;
                    lap += self.span_s;
                }
            }
        }
        // Stable, so that requests of one instant keep the order of the trace.
        out.sort_by_key(|request| request.0);
        out
    }
}

/// The traffic of a scenario.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// Poisson with a changing rate.
    Poisson(RateProfile),
    /// A recorded trace.
    Trace(Trace),
}

/// The arrivals of one run.
#[derive(Debug)]
pub(crate) enum Arrivals {
    Poisson { segments: Vec<Segment>, at: usize, now: f64, rng: Rng },
    Listed { requests: std::vec::IntoIter<(Nanos, f64)> },
}

impl Arrivals {
    pub(crate) fn new(traffic: &Traffic, seed: u64) -> Arrivals {
        match traffic {
            Traffic::Poisson(profile) => Arrivals::Poisson {
                segments: profile.segments.clone(),
                at: 0,
                now: 0.0,
                rng: Rng::new(stream(seed, super::streams::ARRIVALS)),
            },
            Traffic::Trace(trace) => Arrivals::Listed { requests: trace.lay_out(seed).into_iter() },
        }
    }

    /// The next arrival and the work that came with it (zero for Poisson traffic).
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(Nanos, f64)> {
        match self {
            Arrivals::Listed { requests } => requests.next(),
            Arrivals::Poisson { segments, at, now, rng } => {
                // Inversion of the cumulative rate: one exponential draw an arrival, whatever the shape.
                let mut need = exp1(rng);
                loop {
                    let s = segments.get(*at)?;
                    let step = if s.from == s.to {
                        let left = (s.end - *now) * s.from;
                        if need < left { Ok(need / s.from) } else { Err(left) }
                    } else {
                        let slope = (s.to - s.from) / (s.end - s.start);
                        let rate = (s.from + slope * (*now - s.start)).max(0.0);
                        let left = 0.5 * (rate + s.to) * (s.end - *now);
                        if need < left {
                            // The root of rate·d + slope·d²/2 = need, in the form that does not cancel.
                            Ok(2.0 * need / (rate + (rate * rate + 2.0 * slope * need).max(0.0).sqrt()))
                        } else {
                            Err(left)
                        }
                    };
                    match step {
                        Ok(d) => {
                            *now = (*now + d).min(s.end);
                            return Some((Nanos::from_secs_f64(*now), 0.0));
                        }
                        Err(left) => {
                            need -= left.max(0.0);
                            *now = s.end;
                            *at += 1;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(traffic: &Traffic, seed: u64) -> Vec<f64> {
        let mut arrivals = Arrivals::new(traffic, seed);
        std::iter::from_fn(|| arrivals.next()).map(|a| a.0.as_secs_f64()).collect()
    }

    #[test]
    fn a_spike_brings_the_expected_number_in_each_part() {
        let spike = Spike { factor: 50.0, start_s: 1000.0, ramp_s: 200.0, hold_s: 300.0, ramp_down_s: 100.0 };
        let profile = RateProfile::spike(2.0, spike, 3000.0).unwrap();
        let expected = [
            (0.0, 1000.0, 2000.0),
            (1000.0, 1200.0, 10200.0),
            (1200.0, 1500.0, 30000.0),
            (1500.0, 1600.0, 5100.0),
            (1600.0, 3000.0, 2800.0),
        ];
        assert!((profile.expected() - expected.iter().map(|e| e.2).sum::<f64>()).abs() < 1e-6);
        let t = times(&Traffic::Poisson(profile), 3);
        assert!(t.windows(2).all(|w| w[0] <= w[1]));
        for (a, b, n) in expected {
            let got = t.iter().filter(|&&x| x >= a && x < b).count() as f64;
            assert!((got - n).abs() < 4.5 * n.sqrt(), "{a}..{b}: {got} against {n}");
        }
        // Inside the ramp, the first half holds a quarter of the rise and half of the base.
        let half = t.iter().filter(|&&x| (1000.0..1100.0).contains(&x)).count() as f64;
        assert!((half - 2650.0).abs() < 4.5 * 2650f64.sqrt(), "{half}");
        for x in [0.0, 999.9, 1100.0, 1300.0, 1550.0, 1600.0] {
            let rate = 2.0 * spike.at(x);
            assert!((2.0..=100.0).contains(&rate));
        }
        assert_eq!(spike.at(1100.0), 25.5);
    }

    #[test]
    fn a_rate_of_zero_is_silence() {
        let profile = RateProfile::points(&[(0.0, 0.0), (10.0, 5.0), (20.0, 0.0)], false, 100.0).unwrap();
        let t = times(&Traffic::Poisson(profile), 1);
        assert!(!t.is_empty() && t.iter().all(|x| (10.0..20.0).contains(x)));
        assert!(times(&Traffic::Poisson(RateProfile::constant(0.0, 100.0).unwrap()), 1).is_empty());
    }

    #[test]
    fn a_trace_keeps_its_gaps_and_laps() {
        let trace = Trace::new(&[0.0, 1.0, 1.5, 4.0], &[1.0, 2.0, 3.0, 4.0], 1.0, None, false, 11.0).unwrap();
        let laid = trace.lay_out(9);
        let span = 4.0 + 4.0 / 3.0;
        let want = [0.0, 1.0, 1.5, 4.0, span, span + 1.0, span + 1.5, span + 4.0, 2.0 * span];
        assert_eq!(laid.len(), want.len());
        for (got, want) in laid.iter().zip(want) {
            assert!((got.0.as_secs_f64() - want).abs() < 1e-8);
        }
        assert_eq!(laid[3].1, 4.0);
        let turned = Trace::new(&[0.0, 1.0, 1.5, 4.0], &[1.0, 2.0, 3.0, 4.0], 1.0, None, true, span).unwrap();
        let starts: std::collections::HashSet<u64> = (0..50).map(|s| turned.lay_out(s)[0].1 as u64).collect();
        assert_eq!(starts.len(), 4);
        assert!((0..50).all(|s| turned.lay_out(s).len() == 4));
    }

    #[test]
    fn copies_multiply_a_trace_only_in_the_window() {
        let at: Vec<f64> = (0..1000).map(f64::from).collect();
        let spike = Spike { factor: 10.0, start_s: 200.0, ramp_s: 0.0, hold_s: 100.0, ramp_down_s: 0.0 };
        let trace = Trace::new(&at, &vec![1.0; 1000], 1.5, Some(spike), true, 1000.0).unwrap();
        let laid = trace.lay_out(4);
        let inside = laid.iter().filter(|r| (200.0..300.0).contains(&r.0.as_secs_f64())).count();
        assert_eq!(inside, 1500);
        let outside = (laid.len() - inside) as f64;
        assert!((outside - 1350.0).abs() < 4.5 * 225f64.sqrt(), "{outside}");
    }

    #[test]
    fn traffic_that_cannot_be_is_refused() {
        assert_eq!(RateProfile::constant(-1.0, 10.0).unwrap_err().field, "traffic.rate_rps");
        assert_eq!(RateProfile::constant(f64::NAN, 10.0).unwrap_err().field, "traffic.rate_rps");
        assert_eq!(RateProfile::constant(1.0, 0.0).unwrap_err().field, "duration_s");
        assert_eq!(RateProfile::points(&[], false, 1.0).unwrap_err().field, "traffic.points");
        assert_eq!(RateProfile::points(&[(0.0, 1.0), (0.0, 2.0)], false, 1.0).unwrap_err().field, "traffic.points");
        assert_eq!(Trace::new(&[], &[], 1.0, None, true, 1.0).unwrap_err().field, "traffic.trace");
        assert_eq!(Trace::new(&[1.0, 0.5], &[1.0, 1.0], 1.0, None, true, 1.0).unwrap_err().field, "traffic.trace");
        assert_eq!(RateProfile::constant(1e9, 1e9).unwrap_err().field, "traffic");
    }
}
