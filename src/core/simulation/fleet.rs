//! The fleet: server types, bounds, what is launched next, what it costs.

use super::check_range;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// One type of server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerType {
    /// Its name.
    pub name: String,
    /// How fast it works: a request's service takes work over speed.
    pub speed: f64,
    /// The weight that balancers get for it.
    pub weight: f64,
    /// How many requests it serves at once.
    pub concurrency: u32,
    /// What an hour costs, billed by the second from launch to termination.
    pub price_per_hour: f64,
    /// Its share of the fleet, relative to the other types.
    pub share: f64,
    /// How many of this type there may be at once.
    pub max: u32,
}

/// Which type is launched next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchOrder {
    /// The type that is furthest below its share.
    Share,
    /// The first type that is below its `max`.
    Order,
}

/// A fleet and its scaling loop.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Fewest servers that a decision may ask for.
    pub min: u32,
    /// Most servers that a decision may ask for.
    pub max: u32,
    /// Servers that are ready at the start.
    pub initial: u32,
    /// How many requests may wait at a server; `None` for no limit.
    pub queue_limit: Option<u32>,
    /// From launch to ready: load and warm-up.
    pub cold_start: Nanos,
    /// Time between two decisions.
    pub decision_interval: Nanos,
    /// Age of the metrics that a decision sees.
    pub metric_delay: Nanos,
    /// The time that metrics are averaged over.
    pub metric_period: Nanos,
    /// The server types, at least one.
    pub types: Vec<ServerType>,
    /// Which type is launched next.
    pub launch: LaunchOrder,
}

impl FleetConfig {
    /// An error about the first value that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.types.is_empty() {
            return Err(ConfigError::new("fleet.types", "an empty list", "expected at least one server type"));
        }
        if self.max == 0 || self.max > 1_000_000 {
            return Err(ConfigError::new("fleet.max", self.max, "expected 1 to 1000000 servers"));
        }
        if self.min > self.max {
            return Err(ConfigError::new("fleet.min", self.min, format!("expected at most fleet.max, {}", self.max)));
        }
        if self.initial < self.min || self.initial > self.max {
            let allowed = format!("expected fleet.min to fleet.max, {} to {}", self.min, self.max);
            return Err(ConfigError::new("fleet.initial", self.initial, allowed));
        }
        if self.decision_interval == Nanos::ZERO {
            return Err(ConfigError::new("fleet.decision_interval_s", 0, "expected more than 0 seconds"));
        }
        if self.metric_period == Nanos::ZERO {
            return Err(ConfigError::new("fleet.metric_period_s", 0, "expected more than 0 seconds"));
        }
        let mut share = 0.0;
        let mut room: u64 = 0;
        for (i, kind) in self.types.iter().enumerate() {
            let field = |name: &str| format!("fleet.types[{i}].{name}");
            check_range(&field("speed"), kind.speed, 1e-6, 1e6, "expected 1e-6 to 1e6")?;
            check_range(&field("weight"), kind.weight, 0.0, 1e6, "expected 0 to 1e6")?;
            check_range(&field("price_per_hour"), kind.price_per_hour, 0.0, 1e9, "expected 0 to 1e9")?;
            check_range(&field("share"), kind.share, 0.0, 1e9, "expected 0 to 1e9")?;
            if kind.concurrency == 0 {
                return Err(ConfigError::new(field("concurrency"), 0, "expected at least 1"));
            }
            share += kind.share;
            room += u64::from(kind.max);
        }
        if self.launch == LaunchOrder::Share && share <= 0.0 {
            return Err(ConfigError::new(
                "fleet.types",
                "shares that add up to 0",
                "expected at least one share above 0",
            ));
        }
        if room < u64::from(self.max) {
            let allowed = format!("expected at most the sum of the types' max, {room}");
            return Err(ConfigError::new("fleet.max", self.max, allowed));
        }
        Ok(())
    }

    /// The type to launch when there are `counts` of each; `None` when every type is at its maximum.
    pub(crate) fn next_type(&self, counts: &[u32]) -> Option<u32> {
        let total: f64 = counts.iter().map(|&n| f64::from(n)).sum::<f64>() + 1.0;
        let shares: f64 = self.types.iter().map(|t| t.share).sum();
        let mut best: Option<(f64, usize)> = None;
        for (i, (kind, &count)) in self.types.iter().zip(counts).enumerate() {
            if count >= kind.max {
                continue;
            }
            let lack = match self.launch {
                LaunchOrder::Order => return u32::try_from(i).ok(),
                // A type of share 0 is launched only when the others are at their maximum.
                LaunchOrder::Share if kind.share <= 0.0 => f64::MIN,
                LaunchOrder::Share => total * kind.share / shares - f64::from(count),
            };
            if best.is_none_or(|(most, _)| lack > most) {
                best = Some((lack, i));
            }
        }
        best.and_then(|(_, i)| u32::try_from(i).ok())
    }
}

/// What a server costs from launch to `end`: whole seconds, rounded up, of its hourly price.
pub(crate) fn price(kind: &ServerType, launched: u64, end: u64) -> f64 {
    let seconds = end.saturating_sub(launched).div_ceil(1_000_000_000);
    kind.price_per_hour * seconds as f64 / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn kind(name: &str, share: f64, max: u32) -> ServerType {
        ServerType { name: name.into(), speed: 1.0, weight: 1.0, concurrency: 1, price_per_hour: 3.6, share, max }
    }

    fn fleet(types: Vec<ServerType>, launch: LaunchOrder) -> FleetConfig {
        FleetConfig {
            min: 0,
            max: 10,
            initial: 0,
            queue_limit: None,
            cold_start: Nanos::ZERO,
            decision_interval: Nanos(1),
            metric_delay: Nanos::ZERO,
            metric_period: Nanos(1),
            types,
            launch,
        }
    }

    fn grow(config: &FleetConfig, n: usize) -> Vec<u32> {
        let mut counts = vec![0; config.types.len()];
        for _ in 0..n {
            let i = config.next_type(&counts).unwrap();
            counts[i as usize] += 1;
        }
        counts
    }

    #[test]
    fn shares_hold_at_every_size() {
        let config = fleet(vec![kind("a", 3.0, 100), kind("b", 1.0, 100)], LaunchOrder::Share);
        assert_eq!(grow(&config, 4), [3, 1]);
        assert_eq!(grow(&config, 8), [6, 2]);
        assert_eq!(grow(&config, 1), [1, 0]);
    }

    #[test]
    fn order_fills_the_first_type_first() {
        let config = fleet(vec![kind("a", 0.0, 3), kind("b", 0.0, 100)], LaunchOrder::Order);
        assert_eq!(grow(&config, 5), [3, 2]);
        let full = fleet(vec![kind("a", 1.0, 3)], LaunchOrder::Share);
        assert_eq!(full.next_type(&[3]), None);
        assert_eq!(full.check().unwrap_err().field, "fleet.max");
    }

    #[test]
    fn billing_is_by_the_whole_second() {
        let a = kind("a", 1.0, 1);
        assert_eq!(price(&a, 0, 1), 0.001);
        assert_eq!(price(&a, 5, 3_600_000_000_005), 3.6);
    }
}
