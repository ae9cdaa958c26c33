//! Predictive scaling: a forecast raises capacity before it is needed, and never lowers it.
//!
//! Source: EC2 Auto Scaling user guide, predictive scaling; the service model of botocore 1.44.5.

use super::config::Config;
use super::tell::Tale;
use super::{CloudPolicy, Seen, named};
use crate::core::autoscaling::plain::{Reader, counted, instant};
use crate::core::autoscaling::rounding::ceil_capacity;
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY, MAX_METRIC, metric_error};
use crate::core::error::{ConfigError, MetricError};
use crate::core::time::Nanos;

/// The most values of a forecast: a year of minutes.
const MOST: usize = 527_040;

/// The upper bound with a forecast above it: left alone, or raised to the forecast and so many percent more.
#[must_use]
pub fn effective_max(max: i64, forecast: f64, buffer: Option<i64>) -> i64 {
    match buffer {
        None => max,
        Some(percent) => ceil_capacity(forecast * (100 + percent) as f64 / 100.0).max(max),
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Forecast {
    start: Nanos,
    period: Nanos,
    values: Vec<f64>,
}

impl Forecast {
    fn index(&self, at: Nanos) -> Option<usize> {
        if at < self.start || self.period == Nanos::ZERO {
            return None;
        }
        usize::try_from(at.since(self.start).0 / self.period.0).ok()
    }

    /// The largest value of the periods that this span touches.
    fn peak(&self, from: Nanos, to: Nanos) -> Option<f64> {
        let first = self.index(from.max(self.start))?;
        let last = self.index(to)?.min(self.values.len().saturating_sub(1));
        self.values.get(first..=last)?.iter().copied().reduce(f64::max)
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct PredictiveScaling {
    act: bool,
    buffer_time: Nanos,
    max_buffer: Option<i64>,
    target: Option<f64>,
    bounds: Bounds,
    forecast: Option<Forecast>,
    raised: i64,
    serial: u64,
}

impl PredictiveScaling {
    /// A policy without a forecast.
    pub fn new(c: &Config<'_>) -> Result<PredictiveScaling, ConfigError> {
        let increase = c.choice("max_capacity_breach", &[("honor", false), ("increase", true)])?;
        let max_buffer = c.optional("max_capacity_buffer", |c, n| c.whole(n, 0, 100))?;
        if increase != max_buffer.is_some() {
            let allowed = "percent from 0 to 100 with max_capacity_breach=\"increase\", and None otherwise";
            return Err(c.refuse("max_capacity_buffer", allowed));
        }
        let bounds = c.bounds("min_capacity", "max_capacity")?;
        Ok(PredictiveScaling {
            act: c.choice("mode", &[("forecast_only", false), ("forecast_and_scale", true)])?,
            buffer_time: c.seconds_up_to("scheduling_buffer_time", 3600.0)?,
            max_buffer,
            target: c.optional("target", Config::positive)?,
            raised: bounds.max,
            bounds,
            forecast: None,
            serial: 0,
        })
    }

    fn need(&self, value: f64) -> f64 {
        self.target.map_or(value, |t| value / t)
    }

    /// When the next larger need will be launched.
    fn next_launch(&self, now: Nanos, need: i64) -> Option<(Nanos, i64)> {
        let f = self.forecast.as_ref()?;
        let from = f.index(now.plus(self.buffer_time).max(f.start))?;
        let later = f.values.iter().enumerate().skip(from);
        later.map(|(i, v)| (i as u64, ceil_capacity(self.need(*v)))).find(|(_, n)| *n > need).map(|(i, n)| {
            let change = Nanos(f.start.0.saturating_add(f.period.0.saturating_mul(i)));
            (change.since(self.buffer_time), n)
        })
    }

    /// Takes a new forecast in place of the old one.
    pub fn forecast(&mut self, start: Nanos, period: Nanos, values: Vec<f64>) -> Result<(), ConfigError> {
        if period == Nanos::ZERO {
            return Err(ConfigError::new("period", 0, "seconds above 0"));
        }
        if values.is_empty() || values.len() > MOST {
            return Err(ConfigError::new(
                "values",
                format!("{} values", values.len()),
                format!("from 1 to {MOST} values"),
            ));
        }
        if let Some((i, v)) = values.iter().enumerate().find(|(_, v)| !(0.0..=MAX_METRIC).contains(*v)) {
            return Err(ConfigError::new(format!("values[{i}]"), v, "a finite number of 0 or more"));
        }
        self.forecast = Some(Forecast { start, period, values });
        Ok(())
    }

    /// The upper bound is the configured one again.
    pub fn reset_max(&mut self) {
        self.raised = self.bounds.max;
    }
}

impl CloudPolicy for PredictiveScaling {
    fn kind(&self) -> &'static str {
        "predictive_scaling"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let now = seen.now;
        let asked = seen.obs.asked();
        let mut tale = Tale::new(seen.obs);
        let peak = self.forecast.as_ref().and_then(|f| f.peak(now, now.plus(self.buffer_time)));
        let need = peak.map(|v| self.need(v));
        tale.both("forecast", Plain::of(need, Plain::Real));
        if let (true, Some(need)) = (self.act, need) {
            // A raised bound stays until it is reset.
            self.raised = self.raised.max(effective_max(self.bounds.max, need, self.max_buffer));
        }
        let shown = need.map_or(self.raised, |n| self.raised.max(effective_max(self.bounds.max, n, self.max_buffer)));
        tale.both("effective_max", Plain::Whole(shown));
        let rounded = need.map(ceil_capacity);
        tale.both("need", Plain::of(rounded, Plain::Whole));
        let mut wanted = asked;
        match rounded {
            None => tale.missing(),
            Some(n) if n > asked && !self.act => tale.limit("forecast_only"),
            Some(n) => wanted = asked.max(n),
        }
        let next = self.next_launch(now, rounded.unwrap_or(0));
        tale.detail("next_launch_at", Plain::of(next, |(at, _)| Plain::Real(at.as_secs_f64())));
        tale.detail("next_need", Plain::of(next, |(_, n)| Plain::Whole(n)));
        let desired = tale.bound(Bounds { max: self.raised, ..self.bounds }, wanted);
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, now))
    }

    fn record(&mut self, name: &str, _value: Option<f64>, _at: Nanos) -> Result<(), MetricError> {
        Err(metric_error(name, "a sample", "this policy reads a forecast; give it one with set_forecast"))
    }

    fn learn(&mut self, given: &Plain) -> Result<(), ConfigError> {
        let c = Config::new("forecast", given)?;
        if c.is_none("values") {
            self.reset_max();
            return Ok(());
        }
        let c = Config::new("", given)?;
        let values = c.numbers("values")?;
        let at = |name| c.number(name, "finite seconds of 0 or more", |x| x >= 0.0).map(Nanos::from_secs_f64);
        self.forecast(at("start")?, at("period")?, values)
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        let forecast = Plain::of(self.forecast.as_ref(), |f| {
            Plain::Map(vec![
                named("start", instant(f.start)),
                named("period", instant(f.period)),
                named("values", Plain::List(f.values.iter().map(|v| Plain::Real(*v)).collect())),
            ])
        });
        vec![
            named("serial", counted(self.serial)),
            named("max_capacity", Plain::Whole(self.raised)),
            named("forecast", forecast),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let serial = f.count("serial")?;
        let raised = f.whole("max_capacity")?;
        if !(self.bounds.max..=MAX_CAPACITY).contains(&raised) {
            return Err(f.error("max_capacity", raised, "this policy's max_capacity or more"));
        }
        let mut other = PredictiveScaling { forecast: None, serial, raised, ..self.clone() };
        if let Some(r) = f.optional_map("forecast")? {
            other.forecast(Nanos(r.count("start")?), Nanos(r.count("period")?), r.reals("values")?)?;
        }
        *self = other;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_bound_follows_the_forecast_only_where_it_may() {
        assert_eq!(effective_max(40, 50.0, Some(10)), 55);
        assert_eq!(effective_max(40, 50.0, Some(0)), 50);
        assert_eq!(effective_max(40, 50.0, None), 40);
        assert_eq!(effective_max(40, 30.0, Some(10)), 40);
        assert_eq!(effective_max(40, 1e300, Some(100)), MAX_CAPACITY);
    }

    #[test]
    fn a_span_touches_periods() {
        let f = Forecast { start: Nanos(100), period: Nanos(10), values: vec![1.0, 5.0, 2.0] };
        assert_eq!(f.peak(Nanos(100), Nanos(109)), Some(1.0));
        assert_eq!(f.peak(Nanos(105), Nanos(110)), Some(5.0));
        assert_eq!(f.peak(Nanos(95), Nanos(100)), Some(1.0));
        assert_eq!(f.peak(Nanos(80), Nanos(90)), None);
        assert_eq!(f.peak(Nanos(129), Nanos(1000)), Some(2.0));
        assert_eq!(f.peak(Nanos(130), Nanos(1000)), None);
    }
}
