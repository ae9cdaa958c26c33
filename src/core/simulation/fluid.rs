//! A fleet as a fluid: work flows in at a rate, ready servers drain it, a policy looks every so often. No request has an
//! event of its own, so that weeks of traffic take milliseconds.

use super::{SimulationError, check_range};
use crate::core::autoscaling::hpa::calculator::Reading;
use crate::core::autoscaling::hpa::{self, HorizontalPodAutoscaler, quantity};
use crate::core::autoscaling::proportional::Proportional;
use crate::core::autoscaling::told::Outcome;
use crate::core::autoscaling::{MAX_CAPACITY, Observation, Policy};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use std::collections::VecDeque;

/// How the fleet and the loop are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FluidConfig {
    /// Seconds a tick, which is how long one rate holds.
    pub tick_s: f64,
    /// Work a second that one ready server does.
    pub capacity: f64,
    /// Seconds from the decision until a server works.
    pub boot_s: f64,
    /// Ticks between decisions.
    pub period: u64,
    /// Ticks by which the policy sees the metrics late, beyond the one in which they are measured.
    pub lag: u64,
    /// Ready servers at the start.
    pub initial: i64,
    /// The fewest and the most that may be desired.
    pub min: i64,
    /// See `min`.
    pub max: i64,
}

impl FluidConfig {
    /// Checked.
    pub fn checked(self) -> Result<FluidConfig, ConfigError> {
        check_range("tick", self.tick_s, 1e-6, super::MAX_SECONDS, "seconds from 1e-6 to 1e9")?;
        check_range("capacity", self.capacity, 1e-12, 1e15, "work a second from 1e-12 to 1e15")?;
        check_range("cold_start", self.boot_s, 0.0, super::MAX_SECONDS, "seconds from 0 to 1e9")?;
        if self.period == 0 {
            return Err(ConfigError::new("period", 0, "ticks of 1 or more"));
        }
        if !(0..=MAX_CAPACITY).contains(&self.min) {
            return Err(ConfigError::new("min_servers", self.min, "a whole number from 0"));
        }
        if !(self.min..=MAX_CAPACITY).contains(&self.max) {
            return Err(ConfigError::new("max_servers", self.max, "a whole number from min_servers"));
        }
        if !(self.min..=self.max).contains(&self.initial) {
            return Err(ConfigError::new("initial", self.initial, "a whole number from min_servers to max_servers"));
        }
        Ok(self)
    }
}

/// What a policy sees: the fleet as it is, and the metrics of the last tick that has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FluidView {
    /// What the last decision wanted.
    pub desired: i64,
    /// Servers that work now.
    pub ready: i64,
    /// Servers that start.
    pub starting: i64,
    /// Servers that worked in the measured tick.
    pub servers: i64,
    /// Work a second that came in.
    pub rate: f64,
    /// Work a second that was offered, what had waited included.
    pub demand: f64,
    /// Work that was done over what could have been; 0 without servers.
    pub utilization: f64,
    /// Work that waited at the end.
    pub backlog: f64,
}

impl FluidView {
    /// The metrics by name.
    #[must_use]
    pub fn metrics(&self) -> [(&'static str, Option<f64>); 10] {
        let n = self.servers as f64;
        let each = |v: f64| {
            if n > 0.0 {
                Some(v / n)
            } else if v > 0.0 {
                None
            } else {
                Some(0.0)
            }
        };
        [
            ("utilization", Some(self.utilization)),
            ("utilization_percent", Some(100.0 * self.utilization)),
            ("busy", Some(self.utilization * n)),
            ("arrivals_per_s", Some(self.rate)),
            ("arrivals_per_s_per_server", each(self.rate)),
            ("demand", Some(self.demand)),
            ("demand_per_server", each(self.demand)),
            ("queue", Some(self.backlog)),
            ("queue_per_server", each(self.backlog)),
            ("servers", Some(n)),
        ]
    }
}

/// Decides how many servers there should be; `None` leaves it.
pub trait FluidPolicy {
    /// The decision at this instant.
    fn decide(&mut self, now: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError>;
}

fn observed<T>(view: &FluidView, f: impl FnOnce(&Observation<'_>) -> T) -> T {
    let metrics = view.metrics();
    let (current, desired, warming) = (view.ready, Some(view.desired), view.starting);
    f(&Observation { current, desired, warming, metrics: &metrics })
}

impl FluidPolicy for Box<dyn Policy> {
    fn decide(&mut self, now: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError> {
        let found = observed(view, |obs| self.recommend(obs, now));
        found.map(|r| Some(r.desired)).map_err(|e| SimulationError::Scaler(e.to_string()))
    }
}

impl FluidPolicy for Proportional {
    fn decide(&mut self, now: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError> {
        let found = observed(view, |obs| self.recommend(obs, now));
        found.map(|r| Some(r.desired())).map_err(|e| SimulationError::Scaler(e.to_string()))
    }
}

impl FluidPolicy for HorizontalPodAutoscaler {
    fn decide(&mut self, now: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError> {
        let metrics = view.metrics();
        let value = |key: &str| metrics.iter().find(|(name, _)| *name == key).and_then(|(_, value)| *value);
        let milli = |key: &str| value(key).and_then(quantity::milli_of).map_or(Reading::Missing, Reading::One);
        let narrow = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
        let seen = hpa::Seen {
            current: narrow(view.ready),
            asked: narrow(view.desired),
            status: narrow(view.ready.saturating_add(view.starting)),
            pods: None,
        };
        Ok(Some(self.recommend(&seen, milli, now).desired.into()))
    }
}

/// One value a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FluidTimeline {
    /// What was wanted after the tick's decision.
    pub desired: Vec<i64>,
    /// Servers that worked.
    pub ready: Vec<i64>,
    /// Servers that started.
    pub starting: Vec<i64>,
    /// Work that waited at the end.
    pub backlog: Vec<f64>,
    /// Work done over what could have been.
    pub utilization: Vec<f64>,
    /// How often a decision changed what was wanted.
    pub changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    servers: i64,
    rate: f64,
    demand: f64,
    utilization: f64,
    backlog: f64,
}

/// The loop.
#[derive(Clone, Debug)]
pub struct Fluid {
    config: FluidConfig,
    tick: u64,
    desired: i64,
    ready: i64,
    starting: VecDeque<(Nanos, i64)>,
    backlog: f64,
    measured: VecDeque<Measured>,
    timeline: FluidTimeline,
}

impl Fluid {
    /// A fleet at its start.
    pub fn new(config: FluidConfig) -> Result<Fluid, ConfigError> {
        let config = config.checked()?;
        Ok(Fluid {
            config,
            tick: 0,
            desired: config.initial,
            ready: config.initial,
            starting: VecDeque::new(),
            backlog: 0.0,
            measured: VecDeque::new(),
            timeline: FluidTimeline::default(),
        })
    }

    fn booting(&self) -> i64 {
        self.starting.iter().map(|(_, n)| n).sum()
    }

    /// Goes through the rates, one a tick; call it again for more.
    pub fn run(&mut self, rates: &[f64], policy: &mut dyn FluidPolicy) -> Result<(), SimulationError> {
        for (i, &rate) in rates.iter().enumerate() {
            if !(rate.is_finite() && (0.0..=1e15).contains(&rate)) {
                return Err(ConfigError::new(format!("rates[{i}]"), rate, "work a second from 0 to 1e15").into());
            }
            self.step(rate, policy)?;
        }
        Ok(())
    }

    fn step(&mut self, rate: f64, policy: &mut dyn FluidPolicy) -> Result<(), SimulationError> {
        let c = self.config;
        let now = Nanos::from_secs_f64(self.tick as f64 * c.tick_s);
        while let Some(&(at, n)) = self.starting.front()
            && at <= now
        {
            self.ready += n;
            self.starting.pop_front();
        }
        if self.tick.is_multiple_of(c.period) {
            self.decide(now, policy)?;
        }
        self.actuate(now);
        let work = self.backlog + rate * c.tick_s;
        let capacity = self.ready as f64 * c.capacity * c.tick_s;
        let served = work.min(capacity);
        let demand = work / c.tick_s;
        self.backlog = work - served;
        let utilization = if self.ready == 0 { 0.0 } else { served / capacity };
        self.measured.push_back(Measured { servers: self.ready, rate, demand, utilization, backlog: self.backlog });
        while self.measured.len() as u64 > c.lag.saturating_add(1) {
            self.measured.pop_front();
        }
        self.timeline.desired.push(self.desired);
        self.timeline.ready.push(self.ready);
        self.timeline.starting.push(self.booting());
        self.timeline.backlog.push(self.backlog);
        self.timeline.utilization.push(utilization);
        self.tick += 1;
        Ok(())
    }

    fn decide(&mut self, now: Nanos, policy: &mut dyn FluidPolicy) -> Result<(), SimulationError> {
        // The oldest kept measurement is the one that has just arrived, once so many ticks have passed.
        if self.tick <= self.config.lag {
            return Ok(());
        }
        let Some(&m) = self.measured.front() else { return Ok(()) };
        let view = FluidView {
            desired: self.desired,
            ready: self.ready,
            starting: self.booting(),
            servers: m.servers,
            rate: m.rate,
            demand: m.demand,
            utilization: m.utilization,
            backlog: m.backlog,
        };
        if let Some(wanted) = policy.decide(now, &view)? {
            let wanted = wanted.clamp(self.config.min, self.config.max);
            if wanted != self.desired {
                self.desired = wanted;
                self.timeline.changes += 1;
            }
        }
        Ok(())
    }

    /// Starts what is missing; else stops the youngest that start, and then ready ones at once.
    fn actuate(&mut self, now: Nanos) {
        let mut surplus = self.ready + self.booting() - self.desired;
        if surplus < 0 {
            if self.config.boot_s == 0.0 {
                self.ready -= surplus;
            } else {
                self.starting.push_back((now.plus(Nanos::from_secs_f64(self.config.boot_s)), -surplus));
            }
        }
        while surplus > 0 {
            let Some((_, n)) = self.starting.back_mut() else { break };
            let gone = surplus.min(*n);
            *n -= gone;
            surplus -= gone;
            if *n == 0 {
                self.starting.pop_back();
            }
        }
        self.ready -= surplus.max(0);
    }

    /// What happened.
    #[must_use]
    pub fn finish(self) -> FluidTimeline {
        self.timeline
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Plan(Vec<Option<i64>>, Vec<FluidView>);

    impl FluidPolicy for Plan {
        fn decide(&mut self, _: Nanos, view: &FluidView) -> Result<Option<i64>, SimulationError> {
            self.1.push(*view);
            Ok(if self.0.is_empty() { None } else { self.0.remove(0) })
        }
    }

    const BASE: FluidConfig =
        FluidConfig { tick_s: 10.0, capacity: 10.0, boot_s: 0.0, period: 1, lag: 0, initial: 2, min: 0, max: 50 };

    fn run(config: FluidConfig, rates: &[f64], plan: Vec<Option<i64>>) -> (FluidTimeline, Vec<FluidView>) {
        let mut policy = Plan(plan, Vec::new());
        let mut fluid = Fluid::new(config).unwrap();
        fluid.run(rates, &mut policy).unwrap();
        (fluid.finish(), policy.1)
    }

    #[test]
    fn backlog_and_what_is_seen() {
        let (t, seen) = run(BASE, &[10.0, 30.0, 0.0], vec![]);
        assert_eq!(t.backlog, [0.0, 100.0, 0.0]);
        assert_eq!(t.utilization, [0.5, 1.0, 0.5]);
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[1].demand, seen[1].backlog, seen[1].utilization), (30.0, 100.0, 1.0));
    }

    #[test]
    fn lag_and_period_delay_decisions() {
        let (_, seen) = run(FluidConfig { lag: 2, ..BASE }, &[1.0, 2.0, 3.0, 4.0, 5.0], vec![]);
        assert_eq!(seen.iter().map(|v| v.rate).collect::<Vec<_>>(), [1.0, 2.0]);
        let (_, seen) = run(FluidConfig { period: 2, ..BASE }, &[1.0, 2.0, 3.0, 4.0, 5.0], vec![]);
        assert_eq!(seen.iter().map(|v| v.rate).collect::<Vec<_>>(), [2.0, 4.0]);
    }

    #[test]
    fn boot_time_and_cancelling_the_youngest() {
        let c = FluidConfig { boot_s: 20.0, ..BASE };
        let (t, _) = run(c, &[0.0; 6], vec![Some(4), Some(6), Some(3), Some(1)]);
        assert_eq!(t.ready, [2, 2, 2, 3, 1, 1]);
        assert_eq!(t.starting, [0, 2, 4, 0, 0, 0]);
        assert_eq!(t.changes, 4);
        let (t, _) = run(FluidConfig { max: 5, ..BASE }, &[0.0; 3], vec![Some(9)]);
        assert_eq!(t.desired, [2, 5, 5]);
    }

    #[test]
    fn without_servers() {
        let c = FluidConfig { initial: 0, ..BASE };
        let (t, seen) = run(c, &[1.0, 1.0], vec![]);
        assert_eq!((t.backlog[1], t.utilization[1]), (20.0, 0.0));
        assert_eq!(seen[0].metrics()[8], ("queue_per_server", None));
    }

    #[test]
    fn what_cannot_be() {
        for c in [
            FluidConfig { tick_s: 0.0, ..BASE },
            FluidConfig { capacity: f64::NAN, ..BASE },
            FluidConfig { boot_s: -1.0, ..BASE },
            FluidConfig { period: 0, ..BASE },
            FluidConfig { initial: 99, ..BASE },
            FluidConfig { min: 9, max: 3, ..BASE },
        ] {
            assert!(Fluid::new(c).is_err(), "{c:?}");
        }
        let mut fluid = Fluid::new(BASE).unwrap();
        assert!(fluid.run(&[f64::NAN], &mut Plan(vec![], vec![])).is_err());
    }
}
