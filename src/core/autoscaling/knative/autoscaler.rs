//! The step from window averages to a number of pods: rates, panic, activation scale, delay, burst capacity.

use super::config::KnativeConfig;
use super::go_i32;
use super::max_window::MaxWindow;
use crate::core::time::Nanos;

/// Whether it panics, and what it asked for while it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Panic {
    /// When the panic threshold was last exceeded; `None` is no panic.
    pub since: Option<Nanos>,
    /// The most pods that were asked for in this panic.
    pub most: i32,
}

impl Panic {
    /// A new autoscaler that finds several pods may have been restarted under load: it begins in panic.
    #[must_use]
    pub fn at_start(ready: i32, now: Nanos) -> Panic {
        if ready > 1 { Panic { since: Some(now), most: ready } } else { Panic::default() }
    }
}

/// What a step decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Pods that the stable window asks for, before rates.
    pub stable_pods: f64,
    /// Pods that the panic window asks for, before rates.
    pub panic_pods: f64,
    /// What the rates make of the stable one.
    pub stable_desired: i32,
    /// What the rates make of the panic one.
    pub panic_desired: i32,
    /// Whether a rate limited the stable number.
    pub up_limited: bool,
    /// Whether the scale-down rate lifted the stable number.
    pub down_limited: bool,
    /// Whether the activation scale lifted it.
    pub activated: bool,
    /// Whether it panics.
    pub panicking: bool,
    /// Before the delay.
    pub undelayed: i32,
    /// Pods that there should be.
    pub desired: i32,
    /// The excess burst capacity.
    pub burst_capacity: i32,
}

/// One step for averages of the stable and the panic window and `ready` pods.
pub fn step(
    config: &KnativeConfig,
    panic: &mut Panic,
    delay: Option<&mut MaxWindow>,
    (stable, panicky): (f64, f64),
    ready: i32,
    now: Nanos,
) -> Decision {
    let (total, target) = config.total_and_target();
    let pods = f64::from(ready.max(1));
    let up = (config.max_scale_up_rate * pods).ceil();
    let down = if config.reachable { (pods / config.max_scale_down_rate).floor() } else { 0.0 };
    let (stable_pods, panic_pods) = ((stable / target).ceil(), (panicky / target).ceil());
    let bounded = |wanted: f64| go_i32(wanted.max(down).min(up));
    let (mut a, mut b) = (bounded(stable_pods), bounded(panic_pods));
    let mut activated = false;
    if config.activation_scale > 1 {
        if stable_pods > 0.0 && config.activation_scale > a {
            a = config.activation_scale;
            activated = true;
        }
        if panic_pods > 0.0 && config.activation_scale > b {
            b = config.activation_scale;
        }
    }
    if panic_pods / pods >= config.panic_threshold() {
        panic.since = Some(now);
    } else if panic.since.is_some_and(|since| since.plus(config.stable_window) < now) {
        *panic = Panic::default();
    }
    let mut desired = a;
    if panic.since.is_some() {
        panic.most = panic.most.max(a.max(b));
        desired = panic.most;
    }
    let undelayed = desired;
    if let Some(buffer) = delay.filter(|_| config.reachable) {
        buffer.record(now, desired);
        desired = buffer.current().unwrap_or(desired);
    }
    let burst = config.target_burst_capacity;
    let burst_capacity = if burst == 0.0 {
        0
    } else if burst < 0.0 {
        -1
    } else {
        go_i32((f64::from(ready) * total - burst - panicky).floor())
    };
    Decision {
        stable_pods,
        panic_pods,
        stable_desired: a,
        panic_desired: b,
        up_limited: stable_pods > up,
        down_limited: stable_pods < down,
        activated,
        panicking: panic.since.is_some(),
        undelayed,
        desired,
        burst_capacity,
    }
}
