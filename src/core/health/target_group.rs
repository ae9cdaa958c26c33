//! ALB's target group health: when too few targets are healthy, a zone leaves DNS, and requests go to all its targets.

use crate::core::error::ConfigError;

/// The least that has to be healthy: a count, a percentage, or both; missing either is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minimum {
    /// At least so many; None is off.
    pub count: Option<u32>,
    /// At least this percentage of all; None is off.
    pub percent: Option<f64>,
}

impl Minimum {
    fn breached(&self, healthy: u64, total: u64) -> bool {
        // Multiplied out, so that no percentage is rounded.
        let share = |percent: f64| healthy as f64 * 100.0 < percent * total as f64 || total == 0;
        self.count.is_some_and(|count| healthy < u64::from(count)) || self.percent.is_some_and(share)
    }

    fn check(&self, what: &str) -> Result<(), ConfigError> {
        match (self.count, self.percent) {
            (Some(0), _) => Err(ConfigError::new(format!("{what}_count"), 0, "a whole number from 1 on, or None")),
            (_, Some(p)) if !(1.0..=100.0).contains(&p) => {
                Err(ConfigError::new(format!("{what}_percentage"), p, "a number from 1 to 100, or None"))
            }
            _ => Ok(()),
        }
    }
}

/// Both thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failover {
    /// Below it a zone is unhealthy in DNS.
    pub dns: Minimum,
    /// Below it requests go to all targets.
    pub routing: Minimum,
}

impl Failover {
    /// # Errors
    /// [`ConfigError`] for a value out of range, or a DNS threshold below the one for routing.
    pub fn check(self) -> Result<Failover, ConfigError> {
        self.dns.check("dns_failover")?;
        self.routing.check("routing_failover")?;
        if let (Some(dns), Some(routing)) = (self.dns.count, self.routing.count)
            && dns < routing
        {
            let allowed = format!("routing_failover_count ({routing}) or more, or None");
            return Err(ConfigError::new("dns_failover_count", dns, allowed));
        }
        if let (Some(dns), Some(routing)) = (self.dns.percent, self.routing.percent)
            && dns < routing
        {
            let allowed = format!("routing_failover_percentage ({routing}) or more, or None");
            return Err(ConfigError::new("dns_failover_percentage", dns, allowed));
        }
        Ok(self)
    }

    /// To whom requests go.
    #[must_use]
    pub fn mode(&self, healthy: u64, total: u64) -> Mode {
        if healthy == 0 && total > 0 {
            Mode::FailOpen
        } else if total > 0 && self.routing.breached(healthy, total) {
            Mode::RoutingFailover
        } else {
            Mode::Normal
        }
    }

    /// What becomes of each zone. With cross-zone balancing all zones together are judged, else each by itself.
    #[must_use]
    pub fn zones(&self, zones: &[(u64, u64)], cross_zone: bool) -> Vec<Zone> {
        let sum = zones.iter().fold((0, 0), |a: (u64, u64), z| (a.0.saturating_add(z.0), a.1.saturating_add(z.1)));
        let judge = |&(healthy, total): &(u64, u64)| {
            let (h, t) = if cross_zone { sum } else { (healthy, total) };
            let mode = self.mode(h, t);
            let routable = if mode == Mode::Normal { healthy } else { total };
            Zone { dns_healthy: !self.dns.breached(h, t), mode, routable }
        };
        zones.iter().map(judge).collect()
    }
}

/// To whom requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the healthy targets.
    Normal,
    /// To all, because too few are healthy.
    RoutingFailover,
    /// To all, because none is healthy.
    FailOpen,
}

/// What becomes of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Whether DNS names it.
    pub dns_healthy: bool,
    /// To whom its requests go.
    pub mode: Mode,
    /// How many of its targets may get them.
    pub routable: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failover(percent: f64) -> Failover {
        let minimum = Minimum { count: Some(1), percent: Some(percent) };
        Failover { dns: minimum, routing: minimum }
    }

    #[test]
    fn either_threshold_is_enough_and_exactly_at_it_is_not_below() {
        let rules = failover(50.0);
        assert_eq!(rules.mode(2, 4), Mode::Normal);
        assert_eq!(rules.mode(1, 4), Mode::RoutingFailover);
        assert_eq!(rules.mode(0, 4), Mode::FailOpen);
        assert_eq!(rules.mode(0, 0), Mode::Normal);
        let three = Failover { routing: Minimum { count: Some(3), percent: None }, ..failover(50.0) };
        assert_eq!((three.mode(2, 3), three.mode(3, 30)), (Mode::RoutingFailover, Mode::Normal));
        let off = Failover { dns: Minimum::default(), routing: Minimum::default() };
        assert_eq!((off.mode(1, 30), off.mode(0, 30)), (Mode::Normal, Mode::FailOpen));
    }

    #[test]
    fn zones_are_judged_alone_or_together() {
        let rules = failover(50.0);
        let seen =
            |cross| rules.zones(&[(10, 10), (4, 10)], cross).iter().map(|z| (z.dns_healthy, z.routable)).collect();
        let apart: Vec<_> = seen(false);
        let together: Vec<_> = seen(true);
        assert_eq!(apart, [(true, 10), (false, 10)]);
        assert_eq!(together, [(true, 10), (true, 4)]);
        assert!(rules.zones(&[], true).is_empty());
        assert!(!rules.zones(&[(0, 0), (4, 4)], false).iter().any(|z| z.mode != Mode::Normal));
    }

    #[test]
    fn dns_goes_no_later_than_routing() {
        let rules = Failover { dns: Minimum { percent: Some(40.0), ..failover(50.0).dns }, ..failover(50.0) };
        assert_eq!(rules.check().unwrap_err().field, "dns_failover_percentage");
        let rules = Failover { routing: Minimum { count: Some(2), percent: None }, ..failover(50.0) };
        assert_eq!(rules.check().unwrap_err().field, "dns_failover_count");
        for percent in [0.0, 100.1, f64::NAN] {
            assert!(failover(percent).check().is_err());
        }
    }
}
