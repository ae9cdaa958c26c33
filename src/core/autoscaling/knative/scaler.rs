//! From what the autoscaler asks for to what is written: bounds, the initial scale, and the way to zero.

use super::config::KnativeConfig;
use crate::core::time::Nanos;

const SECOND: u64 = 1_000_000_000;

/// Added to the progress deadline before an activation counts as failed.
const ACTIVATION_BUFFER: Nanos = Nanos(30 * SECOND);

/// When to look again at a service that is in proxy mode already.
const PROXY_RECHECK: Nanos = Nanos(3 * SECOND);

/// Whether a revision has traffic and pods to serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It serves.
    Active,
    /// It waits for pods.
    Activating,
    /// It has nothing to do.
    Inactive,
}

impl Activity {
    /// All of them.
    pub const ALL: [Activity; 3] = [Activity::Active, Activity::Activating, Activity::Inactive];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Activity::Active => "active",
            Activity::Activating => "activating",
            Activity::Inactive => "inactive",
        }
    }
}

/// What the scaler looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleInput {
    /// What the autoscaler asks for; below 0 when it does not know.
    pub desired: i32,
    /// Replicas as last written.
    pub replicas: i32,
    /// The activity.
    pub activity: Activity,
    /// For how long it has been that.
    pub held: Nanos,
    /// Whether the initial scale was reached once.
    pub initialized: bool,
    /// Whether the service leads through the activator.
    pub proxying: bool,
    /// For how long it has; `None` is never.
    pub proxied: Option<Nanos>,
    /// Whether a probe finds the activator in the path.
    pub probe_ok: bool,
}

/// What the scaler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleOutput {
    /// What there should be; -1 is not known.
    pub want: i32,
    /// What to write, if that differs from what there is.
    pub patch: Option<i32>,
    /// When to look again.
    pub requeue_after: Option<Nanos>,
    /// Whether the activator was probed for.
    pub probed: bool,
    /// Whether to go on probing.
    pub keep_probing: bool,
    /// What moved or held it.
    pub limit: Option<&'static str>,
}

/// The decision of the scaler.
#[must_use]
pub fn scale(config: &KnativeConfig, input: &ScaleInput) -> ScaleOutput {
    let mut out = ScaleOutput {
        want: input.desired,
        patch: None,
        requeue_after: None,
        probed: false,
        keep_probing: false,
        limit: None,
    };
    if input.desired < 0 && input.activity != Activity::Activating {
        out.limit = Some("no_decision");
        return out;
    }
    let (mut min, max) = config.scale_bounds();
    let mut lower = "min_scale";
    if config.initial_scale > 1 && config.initial_scale > min && !input.initialized && config.reachable {
        min = config.initial_scale;
        lower = "initial_scale";
    }
    if out.want < min {
        out.want = min;
        out.limit = Some(lower);
    } else if max != 0 && out.want > max {
        out.want = max;
        out.limit = Some("max_scale");
    }
    if out.want == 0 && !to_zero(config, input, &mut out) {
        return out;
    }
    out.patch = Some(out.want).filter(|want| *want != input.replicas);
    out
}

/// Whether the last pod may go now; if not, `out` says what is to be done instead and whether that is written.
fn to_zero(config: &KnativeConfig, input: &ScaleInput, out: &mut ScaleOutput) -> bool {
    if !config.enable_scale_to_zero {
        out.want = 1;
        out.limit = Some("scale_to_zero_disabled");
        return true;
    }
    match input.activity {
        Activity::Activating => {
            let timeout = config.progress_deadline.plus(ACTIVATION_BUFFER);
            if input.held > timeout {
                return true;
            }
            out.want = -1;
            out.requeue_after = Some(timeout);
            out.limit = Some("activating");
            false
        }
        Activity::Active => {
            if input.held >= config.stable_window {
                out.requeue_after = input.proxying.then_some(PROXY_RECHECK);
                out.limit = Some("deactivating");
                return false;
            }
            out.want = 1;
            out.requeue_after = Some(config.stable_window.since(input.held));
            out.limit = Some("stable_window");
            true
        }
        Activity::Inactive => inactive_to_zero(config, input, out),
    }
}

fn inactive_to_zero(config: &KnativeConfig, input: &ScaleInput, out: &mut ScaleOutput) -> bool {
    // With unlimited burst capacity the activator is in the path anyway.
    if config.scraped() {
        out.probed = true;
        if !input.probe_ok {
            out.keep_probing = true;
            out.limit = Some("activator_probe");
            return false;
        }
    }
    let grace = config.scale_to_zero_grace_period;
    let retention = if config.reachable { config.scale_to_zero_pod_retention_period } else { Nanos::ZERO };
    if input.held >= grace.max(retention) {
        return true;
    }
    if input.held < retention {
        out.requeue_after = Some(retention.since(input.held));
        out.limit = Some("pod_retention_period");
        return false;
    }
    let left = grace.since(input.proxied.unwrap_or(Nanos::ZERO));
    if left == Nanos::ZERO {
        return true;
    }
    out.requeue_after = Some(left);
    out.limit = Some("grace_period");
    false
}

/// The next activity for what is wanted and ready, whether the initial scale counts as reached, and the system's word.
#[must_use]
pub fn next_activity(
    config: &KnativeConfig,
    before: Activity,
    initialized: bool,
    want: i32,
    ready: i64,
) -> (Activity, bool, &'static str) {
    let (min, _) = config.scale_bounds();
    let threshold = i64::from(if initialized { min.max(1) } else { min.max(config.initial_scale) });
    let reached = initialized || ready >= threshold;
    let moves = want > 0 || before != Activity::Inactive;
    if want == 0 || threshold == 0 {
        let timed_out = before == Activity::Activating && threshold > 0;
        (Activity::Inactive, reached, if timed_out { "TimedOut" } else { "NoTraffic" })
    } else if !moves {
        (Activity::Inactive, reached, "NoTraffic")
    } else if ready < threshold {
        (Activity::Activating, reached, "Queued")
    } else {
        (Activity::Active, reached, "")
    }
}
