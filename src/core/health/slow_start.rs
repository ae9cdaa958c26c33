//! Slow start: an endpoint that has just become usable gets its share by and by.

use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000_000;

/// An endpoint that warms up gets at least this part of its weight, so that it is never left out for good.
const LEAST: f64 = 1e-6;

/// In how many steps a ramp that has none of its own is climbed.
const STEPS: u64 = 100;

/// How the weight grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ramp {
    /// Envoy 1.40: (t / window)^(1 / aggression), not below `min_weight`.
    Envoy {
        /// How steep the beginning is; 1 for a straight line.
        aggression: f64,
        /// The least part of the weight.
        min_weight: f64,
    },
    /// AWS's application load balancer: a straight line; only while somebody else is warm.
    Alb,
    /// HAProxy 2.6, 2.8: sixteenths, by whole seconds.
    Haproxy,
    /// By requests that have ended well: the window is only the longest that it may take.
    Work {
        /// How many of them make an endpoint warm.
        requests: u64,
        /// The least part of the weight.
        min_weight: f64,
    },
}

/// The configuration of slow start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Nanos,
    /// How the weight grows meanwhile.
    pub ramp: Ramp,
}

impl SlowStart {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<SlowStart, ConfigError> {
        let seconds = self.window.as_secs_f64();
        let share = |value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(ConfigError::new("min_weight", value, "a share of the weight from 0 to 1")),
        };
        match self.ramp {
            _ if self.window == Nanos::ZERO => {
                return Err(ConfigError::new("window", seconds, "a positive number of seconds"));
            }
            Ramp::Envoy { aggression, .. } if !(aggression.is_finite() && aggression > 0.0) => {
                return Err(ConfigError::new("aggression", aggression, "a finite number above 0"));
            }
            Ramp::Envoy { min_weight, .. } => share(min_weight)?,
            Ramp::Alb if !(30.0..=900.0).contains(&seconds) => {
                return Err(ConfigError::new("window", seconds, "30 to 900 seconds with ramp=\"alb\""));
            }
            Ramp::Haproxy if self.window.0 < SECOND => {
                return Err(ConfigError::new("window", seconds, "at least 1 second with ramp=\"haproxy\""));
            }
            Ramp::Work { requests: 0, .. } => {
                return Err(ConfigError::new("requests", 0, "a whole number of at least 1"));
            }
            Ramp::Work { min_weight, .. } => share(min_weight)?,
            Ramp::Alb | Ramp::Haproxy => {}
        }
        Ok(self)
    }

    /// The part of its weight that an endpoint has so long after its start, and after so many requests that ended well.
    #[must_use]
    pub fn factor(&self, elapsed: Nanos, done: u64) -> f64 {
        if elapsed >= self.window {
            return 1.0;
        }
        match self.ramp {
            Ramp::Envoy { aggression, min_weight } => {
                let part = elapsed.0.max(1_000_000) as f64 / self.window.0 as f64;
                let grown = if aggression == 1.0 { part } else { part.powf(1.0 / aggression) };
                grown.min(1.0).max(min_weight)
            }
            Ramp::Alb => elapsed.0 as f64 / self.window.0 as f64,
            Ramp::Haproxy => {
                let window = (self.window.0 / SECOND).max(1);
                let sixteenths = (16 * (elapsed.0 / SECOND) + window).checked_div(window).unwrap_or(16);
                sixteenths.min(16) as f64 / 16.0
            }
            Ramp::Work { requests, min_weight } => (done as f64 / requests as f64).min(1.0).max(min_weight),
        }
    }

    /// The same, for a pool: never zero.
    #[must_use]
    pub fn weight_factor(&self, elapsed: Nanos, done: u64) -> f64 {
        self.factor(elapsed, done).max(LEAST)
    }

    /// How long after the start the factor is looked at again.
    #[must_use]
    pub fn next_look(&self, elapsed: Nanos) -> Nanos {
        let every = match self.ramp {
            // As HAProxy does, and by its whole seconds.
            Ramp::Haproxy => (self.window.0 / 20 / SECOND * SECOND).max(SECOND),
            _ => (self.window.0 / STEPS).max(1_000_000),
        };
        let next = (elapsed.0.checked_div(every).unwrap_or(0) + 1).saturating_mul(every);
        Nanos(next.min(self.window.0).max(elapsed.0.saturating_add(1)))
    }

    /// The requests that an endpoint gets while it warms up beside `others` warm ones of the same weight, when one
    /// request comes each second: the integral of its share over the window.
    #[must_use]
    pub fn requests_while_warming(&self, others: u32) -> f64 {
        let others = f64::from(others);
        let share = |seconds: f64| {
            let factor = self.factor(Nanos((seconds * 1e9).round() as u64), 0);
            if factor + others > 0.0 { factor / (factor + others) } else { 0.0 }
        };
        let window = self.window.as_secs_f64();
        let pieces: Vec<f64> = match self.ramp {
            // The parts between which the factor is smooth.
            Ramp::Envoy { aggression, min_weight } => {
                let flat = (window * min_weight.powf(aggression)).clamp(0.0, window);
                vec![0.0, 0.001f64.min(window), flat.max(0.001).min(window), window]
            }
            Ramp::Haproxy => (0..=(window.floor() as u64)).map(|s| s as f64).chain([window]).collect(),
            _ => vec![0.0, window],
        };
        pieces
            .windows(2)
            .map(|piece| match piece {
                [from, to] if to > from => simpson(&share, *from, *to),
                _ => 0.0,
            })
            .sum()
    }
}

/// Simpson's rule over steps that grow from the left end, where a ramp may start steep. The ends are taken a little
/// inside, since a step may lie on them.
fn simpson(f: &impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    const PARTS: u32 = 400;
    let width = to - from;
    let edge = |i: u32| {
        let part = f64::from(i) / f64::from(PARTS);
        from + width * part * part
    };
    let inside = (width * 1e-9).min(1e-7);
    (0..PARTS)
        .map(|i| {
            let (a, b) = (edge(i), edge(i + 1));
            let (fa, fm, fb) = (f((a + inside).min(b)), f(f64::midpoint(a, b)), f((b - inside).max(a)));
            (b - a) / 6.0 * (fa + 4.0 * fm + fb)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(window: u64, ramp: Ramp) -> SlowStart {
        SlowStart { window: Nanos(window * SECOND), ramp }.check().unwrap()
    }

    fn at(slow: &SlowStart, seconds: f64) -> f64 {
        (slow.factor(Nanos((seconds * 1e9) as u64), 0) * 1000.0).round() / 1000.0
    }

    #[test]
    fn the_ramps_are_those_of_their_systems() {
        let envoy = |aggression| of(60, Ramp::Envoy { aggression, min_weight: 0.1 });
        let times = [3.0, 15.0, 30.0, 45.0, 59.0];
        assert_eq!(times.map(|t| at(&envoy(1.0), t)), [0.1, 0.25, 0.5, 0.75, 0.983]);
        assert_eq!(times.map(|t| at(&envoy(1.5), t)), [0.136, 0.397, 0.63, 0.825, 0.989]);
        assert_eq!(times.map(|t| at(&envoy(0.5), t)), [0.1, 0.1, 0.25, 0.563, 0.967]);
        let haproxy = of(60, Ramp::Haproxy);
        let steps = [0.0, 3.0, 4.0, 15.0, 30.0, 45.0, 59.0, 60.0].map(|t| (at(&haproxy, t) * 16.0).round());
        assert_eq!(steps, [1.0, 1.0, 2.0, 5.0, 9.0, 13.0, 16.0, 16.0]);
        assert_eq!([0.0, 45.0, 60.0].map(|t| at(&of(60, Ramp::Alb), t)), [0.0, 0.75, 1.0]);
    }

    #[test]
    fn work_warms_and_time_ends_it() {
        let slow = of(60, Ramp::Work { requests: 10, min_weight: 0.2 });
        assert_eq!([0, 5, 10, 99].map(|done| slow.factor(Nanos::ZERO, done)), [0.2, 0.5, 1.0, 1.0]);
        assert_eq!(slow.factor(Nanos(60 * SECOND), 0), 1.0);
    }

    #[test]
    fn looks_come_at_the_ramps_own_pace_and_end_with_the_window() {
        let haproxy = of(10, Ramp::Haproxy);
        assert_eq!(haproxy.next_look(Nanos::ZERO), Nanos(SECOND));
        assert_eq!(haproxy.next_look(Nanos(SECOND)), Nanos(2 * SECOND));
        assert_eq!(of(60, Ramp::Haproxy).next_look(Nanos::ZERO), Nanos(3 * SECOND));
        let envoy = of(10, Ramp::Envoy { aggression: 1.0, min_weight: 0.1 });
        assert_eq!(envoy.next_look(Nanos(9_950_000_000)), Nanos(10 * SECOND));
        assert!(envoy.next_look(Nanos(20 * SECOND)) > Nanos(20 * SECOND));
        assert!(of(30, Ramp::Alb).weight_factor(Nanos::ZERO, 0) > 0.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |window: u64, ramp| SlowStart { window: Nanos(window * SECOND), ramp }.check().is_err();
        assert!(check(0, Ramp::Haproxy));
        assert!(check(29, Ramp::Alb));
        assert!(check(901, Ramp::Alb));
        assert!(check(10, Ramp::Envoy { aggression: 0.0, min_weight: 0.1 }));
        assert!(check(10, Ramp::Envoy { aggression: f64::NAN, min_weight: 0.1 }));
        assert!(check(10, Ramp::Envoy { aggression: 1.0, min_weight: 1.1 }));
        assert!(check(10, Ramp::Work { requests: 0, min_weight: 0.1 }));
    }
}
