//! Compute Engine's managed instance groups: several signals, a stabilization period, scale-in control, schedules.
//!
//! Source: Google Cloud, understanding autoscaler decisions; Compute Engine v1, AutoscalingPolicy (revision 20261106).

use super::config::Config;
use super::filters::{Cap, Peak};
use super::tell::{Tale, value};
use super::{CloudPolicy, Seen, named};
use crate::core::autoscaling::plain::{Reader, counted};
use crate::core::autoscaling::rounding::{ceil_capacity, proportional_need};
use crate::core::autoscaling::told::{Plain, Written};
use crate::core::autoscaling::{Bounds, MAX_CAPACITY, metric_error};
use crate::core::error::{ConfigError, MetricError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The mean over the instances that serve.
    Utilization,
    /// What the whole group has to do.
    Group,
}

#[derive(Clone, Debug)]
struct Signal {
    metric: String,
    kind: Kind,
    target: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    On,
    OnlyScaleOut,
    Off,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct Mig {
    signals: Vec<Signal>,
    mode: Mode,
    stabilization: Peak,
    control: Option<Cap>,
    bounds: Bounds,
    serial: u64,
}

impl Mig {
    /// A policy with an empty memory.
    pub fn new(c: &Config<'_>) -> Result<Mig, ConfigError> {
        let read = |s: Config<'_>| {
            Ok(Signal {
                metric: s.text("metric")?.to_owned(),
                kind: s.choice("kind", &[("utilization", Kind::Utilization), ("group", Kind::Group)])?,
                target: s.positive("target")?,
            })
        };
        let modes = [("on", Mode::On), ("only_scale_out", Mode::OnlyScaleOut), ("off", Mode::Off)];
        let control = c.maps("scale_in_control")?;
        Ok(Mig {
            signals: c.maps("signals")?.into_iter().map(read).collect::<Result<_, ConfigError>>()?,
            mode: c.choice("mode", &modes)?,
            stabilization: Peak::new(c.seconds_up_to("stabilization_period", 3600.0)?, false),
            control: control.first().map(Cap::new).transpose()?,
            bounds: c.bounds("min_replicas", "max_replicas")?,
            serial: 0,
        })
    }
}

fn floors(given: &Plain) -> Result<Vec<i64>, ConfigError> {
    let c = Config::new("floors", given)?;
    if c.is_none("floors") { Ok(Vec::new()) } else { c.wholes("floors") }
}

impl CloudPolicy for Mig {
    fn kind(&self) -> &'static str {
        "managed_instance_group"
    }

    fn recommend(&mut self, seen: &Seen<'_>) -> Result<Written, MetricError> {
        let floors = floors(seen.given).map_err(|e| metric_error(&e.field, e.value, e.allowed))?;
        let values: Vec<Option<f64>> =
            self.signals.iter().map(|s| value(seen.obs, &s.metric, false)).collect::<Result<_, _>>()?;
        let (now, asked, serving) = (seen.now, seen.obs.asked(), seen.obs.current);
        let mut tale = Tale::new(seen.obs);
        let mut raw: Option<i64> = None;
        for (signal, value) in self.signals.iter().zip(values) {
            let need = match (signal.kind, value) {
                (_, None) => None,
                // Without an instance that serves there is no utilization.
                (Kind::Utilization, Some(v)) => (serving > 0).then(|| proportional_need(serving, v, signal.target)),
                (Kind::Group, Some(v)) => Some(v / signal.target),
            };
            let size = need.map(ceil_capacity);
            tale.stage(&signal.metric, Plain::of(size, Plain::Whole));
            raw = raw.max(size);
        }
        tale.both("recommended", Plain::of(raw, Plain::Whole));
        let mut size = asked;
        if let Some(n) = raw {
            if self.stabilization.is_empty() {
                self.stabilization.over(asked, now);
            }
            size = self.stabilization.over(n, now);
            // The window keeps what is there and adds nothing.
            size = size.min(asked.max(n));
            if size != n {
                tale.limit("stabilization");
            }
            tale.both("stabilized", Plain::Whole(size));
            if let Some(cap) = &mut self.control {
                let (_, floor) = cap.floor(asked, n, now);
                tale.both("scale_in_floor", Plain::Whole(floor));
                if floor.min(asked) > size {
                    size = floor.min(asked);
                    tale.limit("scale_in_control");
                }
            }
        } else if !self.signals.is_empty() {
            tale.missing();
        } else {
            // Schedules alone: what they do not ask for is not needed.
            size = self.bounds.min;
        }
        let floor = floors.into_iter().max().unwrap_or(0).clamp(0, MAX_CAPACITY);
        tale.both("schedule_floor", Plain::Whole(floor));
        if floor > size {
            size = floor;
            tale.limit("schedule");
        }
        size = tale.bound(self.bounds, size);
        tale.detail("size", Plain::Whole(size));
        let desired = match self.mode {
            Mode::On => size,
            Mode::OnlyScaleOut => size.max(asked),
            Mode::Off => asked,
        };
        if desired != size {
            tale.limit("mode");
        }
        self.serial = self.serial.wrapping_add(1);
        Ok(tale.end(desired, self.serial, now))
    }

    fn fields(&self) -> Vec<(String, Plain)> {
        vec![
            named("serial", counted(self.serial)),
            named("stabilization", self.stabilization.state()),
            named("scale_in", Plain::of(self.control.as_ref(), |c| c.peak().state())),
        ]
    }

    fn take(&mut self, f: &Reader<'_>) -> Result<(), ConfigError> {
        let serial = f.count("serial")?;
        let stabilization = self.stabilization.read(f, "stabilization")?;
        let peak = self.control.as_ref().map(|c| c.peak().read(f, "scale_in")).transpose()?;
        if let (Some(cap), Some(peak)) = (&mut self.control, peak) {
            cap.put(peak);
        }
        (self.serial, self.stabilization) = (serial, stabilization);
        Ok(())
    }
}
