//! One instance, and where it is in its life.

use super::About;
use crate::core::capacity::offers::{Market, Offer};
use crate::core::time::Nanos;

/// Where an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ordered; not there yet.
    Launching,
    /// From the pool, or started anew: booting.
    Starting,
    /// There; a hook holds it.
    LaunchHook,
    /// Loading the model.
    Loading,
    /// Answering test requests.
    Warming,
    /// Working.
    InService,
    /// On the way into the pool.
    Resting,
    /// In the pool.
    Waiting,
    /// No new work; what is in flight may end.
    Draining,
    /// Out of service; a hook holds it.
    TerminateHook,
    /// The server stops.
    Stopping,
    /// The machine goes.
    Terminating,
}

impl Phase {
    /// All, by name.
    pub const NAMES: [(&'static str, Phase); 12] = [
        ("launching", Phase::Launching),
        ("starting", Phase::Starting),
        ("launch_hook", Phase::LaunchHook),
        ("loading", Phase::Loading),
        ("warming", Phase::Warming),
        ("in_service", Phase::InService),
        ("resting", Phase::Resting),
        ("waiting", Phase::Waiting),
        ("draining", Phase::Draining),
        ("terminate_hook", Phase::TerminateHook),
        ("stopping", Phase::Stopping),
        ("terminating", Phase::Terminating),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Phase::NAMES.iter().find(|(_, p)| *p == self).map_or("", |(n, _)| n)
    }

    /// On the way out.
    #[must_use]
    pub fn leaving(self) -> bool {
        matches!(self, Phase::Draining | Phase::TerminateHook | Phase::Stopping | Phase::Terminating)
    }
}

/// What an instance is replaced for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A refresh.
    Refresh,
    /// It may be interrupted soon.
    Capacity,
    /// Its zone has too many.
    Zone,
}

impl Cause {
    /// All, by name.
    pub const NAMES: [(&'static str, Cause); 3] = [
        ("instance_refresh", Cause::Refresh),
        ("capacity_rebalance", Cause::Capacity),
        ("zone_rebalance", Cause::Zone),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Cause::NAMES.iter().find(|(_, c)| *c == self).map_or("", |(n, _)| n)
    }
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// In the order in which they were started.
    pub number: u64,
    /// Its type.
    pub kind: String,
    /// Its zone.
    pub zone: String,
    /// How it was bought.
    pub market: Market,
    /// An hour of it, when it was started.
    pub price: f64,
    /// The version of its template.
    pub template: i64,
    /// Whether that is a launch configuration.
    pub configuration: bool,
    /// When it was started.
    pub launched: Nanos,
    /// Where it is.
    pub phase: Phase,
    /// Since when.
    pub since: Nanos,
    /// When that ends if nobody says so before; `None` is never.
    pub until: Option<Nanos>,
    /// Where it goes after boot and hook.
    pub next: Phase,
    /// Whether it belongs to the pool.
    pub pooled: bool,
    /// Whether it goes back into the pool when it has left.
    pub reuse: bool,
    /// Whether scaling in leaves it alone.
    pub protected: bool,
    /// Whether it gets requests while in service.
    pub sending: bool,
    /// Whether it has been said that it may be interrupted.
    pub at_risk: bool,
    /// When it has to be gone.
    pub must_end: Option<Nanos>,
    /// When its hook began.
    pub hook_since: Nanos,
    /// Whether the hook at the start still waits for it.
    pub meets_hook: bool,
    /// Whom it stands for, and why.
    pub replaces: Option<(u64, Cause)>,
}

impl Instance {
    pub(super) fn of(number: u64, offer: &Offer, template: (i64, bool), now: Nanos) -> Instance {
        Instance {
            number,
            kind: offer.kind.clone(),
            zone: offer.zone.clone(),
            market: offer.market,
            price: offer.price,
            template: template.0,
            configuration: template.1,
            launched: now,
            phase: Phase::Launching,
            since: now,
            until: None,
            next: Phase::Loading,
            pooled: false,
            reuse: false,
            protected: false,
            sending: true,
            at_risk: false,
            must_end: None,
            hook_since: Nanos::ZERO,
            meets_hook: true,
            replaces: None,
        }
    }

    /// Whether it counts for the group.
    #[must_use]
    pub fn active(&self) -> bool {
        !self.pooled && !self.phase.leaving()
    }

    /// Whether it will count soon.
    #[must_use]
    pub fn starting(&self) -> bool {
        self.active() && self.phase != Phase::InService
    }

    pub(super) fn about(&self) -> About {
        About {
            kind: self.kind.clone(),
            zone: self.zone.clone(),
            market: self.market,
            price: self.price,
            template: self.template,
        }
    }
}
