//! Offers of capacity, and which of them to take.
//!
//! Source: EC2 Auto Scaling user guide, allocation strategies. It names what a strategy prefers and no formula; where it
//! is silent, the rule is ours and stands at the strategy.

use crate::core::autoscaling::clouds::config::Config;
use crate::core::error::ConfigError;
use std::cmp::Ordering;

/// Two interruption rates that differ by no more than this are alike: one band of AWS's Spot Advisor.
const BAND: f64 = 0.05;

/// How capacity is bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Market {
    /// It stays until it is given back.
    OnDemand,
    /// It may be taken away.
    Spot,
}

impl Market {
    /// Both, by name.
    pub const NAMES: [(&'static str, Market); 2] = [("on_demand", Market::OnDemand), ("spot", Market::Spot)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self == Market::Spot { "spot" } else { "on_demand" }
    }
}

/// Instances of one type that can be had in one zone and one market.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The instance type.
    pub kind: String,
    /// The zone.
    pub zone: String,
    /// The market.
    pub market: Market,
    /// An hour of it.
    pub price: f64,
    /// How many a group can have of it at once; `None` is not known, and taken for enough.
    pub depth: Option<u64>,
    /// The share that is reclaimed in a month.
    pub interruption_rate: f64,
    /// Lower is preferred.
    pub priority: i64,
}

impl Offer {
    /// Reads one from a configuration.
    pub fn read(c: &Config<'_>) -> Result<Offer, ConfigError> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let depth = c.optional("depth", Config::capacity)?;
        Ok(Offer {
            kind: c.text("type")?.to_owned(),
            zone: c.text("zone")?.to_owned(),
            market: c.choice("market", &Market::NAMES)?,
            price: c.number("price", "a number from 0 to 1e9", |x| (0.0..=1e9).contains(&x))?,
            depth: depth.map(i64::unsigned_abs),
            interruption_rate: c.number("interruption_rate", "a number from 0 to 1", share)?,
            priority: c.whole("priority", 0, i64::from(i32::MAX))?,
        })
    }

    /// Whether it is the pool that something came from.
    #[must_use]
    pub fn is(&self, kind: &str, zone: &str, market: Market) -> bool {
        self.kind == kind && self.zone == zone && self.market == market
    }
}

/// How offers of one market and zone are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The so many cheapest, evenly.
    LowestPrice(usize),
    /// The deepest; of equally deep ones the least interrupted.
    CapacityOptimized,
    /// By priority among those that are deep enough for all that is still to be started, else the deepest.
    CapacityOptimizedPrioritized,
    /// The cheapest among those that are deep enough and about as seldom interrupted as the best; else the deepest.
    PriceCapacityOptimized,
    /// All, evenly.
    Diversified,
    /// By priority.
    Prioritized,
}

impl Strategy {
    /// Those for spot; `pools` is of the first.
    #[must_use]
    pub fn for_spot(pools: usize) -> [(&'static str, Strategy); 5] {
        [
            ("lowest_price", Strategy::LowestPrice(pools.max(1))),
            ("capacity_optimized", Strategy::CapacityOptimized),
            ("capacity_optimized_prioritized", Strategy::CapacityOptimizedPrioritized),
            ("price_capacity_optimized", Strategy::PriceCapacityOptimized),
            ("diversified", Strategy::Diversified),
        ]
    }

    /// Those for on-demand.
    pub const FOR_ON_DEMAND: [(&'static str, Strategy); 2] =
        [("prioritized", Strategy::Prioritized), ("lowest_price", Strategy::LowestPrice(1))];
}

/// An offer beside what is used of it.
#[derive(Clone, Copy, Debug)]
pub struct Used<'a> {
    /// The offer.
    pub offer: &'a Offer,
    /// Instances that came from it and are there.
    pub running: u64,
}

impl Used<'_> {
    /// How many more can be had.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.offer.depth.map_or(u64::MAX, |d| d.saturating_sub(self.running))
    }

    fn deepest_first(&self, other: &Used<'_>) -> Ordering {
        let rate = self.offer.interruption_rate.total_cmp(&other.offer.interruption_rate);
        other.left().cmp(&self.left()).then(rate)
    }

    fn cheapest_first(&self, other: &Used<'_>) -> Ordering {
        self.offer.price.total_cmp(&other.offer.price)
    }
}

/// The place of the offer to take one instance of, when `wanted` are still to be started. The first of equals.
#[must_use]
pub fn choose(strategy: Strategy, offers: &[Used<'_>], wanted: u64) -> Option<usize> {
    let open: Vec<(usize, &Used<'_>)> = offers.iter().enumerate().filter(|(_, o)| o.left() > 0).collect();
    let deep: Vec<_> = open.iter().copied().filter(|(_, o)| o.left() >= wanted).collect();
    let first = |some: &[(usize, &Used<'_>)], by: &dyn Fn(&Used<'_>, &Used<'_>) -> Ordering| {
        some.iter().min_by(|a, b| by(a.1, b.1).then(a.0.cmp(&b.0))).map(|(i, _)| *i)
    };
    let deepest = || first(&open, &|a, b| a.deepest_first(b));
    let evenly = |a: &Used<'_>, b: &Used<'_>| a.running.cmp(&b.running).then(a.cheapest_first(b));
    match strategy {
        Strategy::LowestPrice(pools) => {
            let mut by_price = open.clone();
            by_price.sort_by(|a, b| a.1.cheapest_first(b.1));
            by_price.truncate(pools.max(1));
            first(&by_price, &evenly)
        }
        Strategy::CapacityOptimized => deepest(),
        Strategy::CapacityOptimizedPrioritized if deep.is_empty() => deepest(),
        Strategy::CapacityOptimizedPrioritized => first(&deep, &|a, b| a.offer.priority.cmp(&b.offer.priority)),
        Strategy::PriceCapacityOptimized if deep.is_empty() => deepest(),
        Strategy::PriceCapacityOptimized => {
            let calm = calmest(deep.iter().map(|(_, o)| o.offer));
            let calm: Vec<_> = deep.iter().copied().filter(|(_, o)| o.offer.interruption_rate <= calm).collect();
            first(&calm, &|a, b| a.cheapest_first(b))
        }
        Strategy::Diversified => first(&open, &evenly),
        Strategy::Prioritized => first(&open, &|a, b| a.offer.priority.cmp(&b.offer.priority)),
    }
}

/// The highest interruption rate that is about as good as the best.
fn calmest<'a>(offers: impl Iterator<Item = &'a Offer>) -> f64 {
    // A hair more, so that 0.05 beside 0.1 is one band in floats as well.
    offers.map(|o| o.interruption_rate).fold(f64::INFINITY, f64::min) + BAND + 1e-9
}

/// Which of two offers a strategy would rather be rid of: `Less` is given up first.
#[must_use]
pub fn give_up(strategy: Strategy, a: &Used<'_>, b: &Used<'_>, all: &[Used<'_>]) -> Ordering {
    match strategy {
        Strategy::LowestPrice(pools) => {
            let rank = |u: &Used<'_>| all.iter().filter(|o| o.cheapest_first(u) == Ordering::Less).count();
            let (beyond_a, beyond_b) = (rank(a) >= pools, rank(b) >= pools);
            let dear = b.cheapest_first(a);
            let full = b.running.cmp(&a.running);
            beyond_b.cmp(&beyond_a).then(if beyond_a { dear.then(full) } else { full.then(dear) })
        }
        Strategy::CapacityOptimized => b.deepest_first(a),
        Strategy::CapacityOptimizedPrioritized | Strategy::Prioritized => b.offer.priority.cmp(&a.offer.priority),
        Strategy::PriceCapacityOptimized => {
            let calm = calmest(all.iter().map(|u| u.offer));
            let wild = |u: &Used<'_>| u.offer.interruption_rate > calm;
            wild(b).cmp(&wild(a)).then(b.cheapest_first(a))
        }
        Strategy::Diversified => b.running.cmp(&a.running).then(b.cheapest_first(a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(price: f64, depth: Option<u64>, rate: f64, priority: i64) -> Offer {
        let (kind, zone) = (format!("t{priority}"), "a".to_owned());
        Offer { kind, zone, market: Market::Spot, price, depth, interruption_rate: rate, priority }
    }

    fn pick(strategy: Strategy, offers: &[Offer], running: &[u64], wanted: u64) -> Option<usize> {
        let used: Vec<_> = offers.iter().zip(running).map(|(offer, &running)| Used { offer, running }).collect();
        choose(strategy, &used, wanted)
    }

    #[test]
    fn each_strategy_takes_its_own() {
        let offers = [
            offer(0.5, Some(4), 0.2, 2),
            offer(0.4, Some(2), 0.3, 1),
            offer(0.6, Some(50), 0.08, 3),
            offer(0.7, Some(20), 0.04, 0),
        ];
        let none = [0; 4];
        assert_eq!(pick(Strategy::LowestPrice(1), &offers, &none, 10), Some(1));
        assert_eq!(pick(Strategy::LowestPrice(2), &offers, &[0, 1, 0, 0], 10), Some(0));
        assert_eq!(pick(Strategy::LowestPrice(2), &offers, &[0, 2, 0, 0], 10), Some(0), "the cheapest is used up");
        assert_eq!(pick(Strategy::CapacityOptimized, &offers, &none, 10), Some(2));
        assert_eq!(pick(Strategy::CapacityOptimizedPrioritized, &offers, &none, 10), Some(3));
        assert_eq!(pick(Strategy::CapacityOptimizedPrioritized, &offers, &none, 3), Some(3));
        assert_eq!(pick(Strategy::CapacityOptimizedPrioritized, &offers, &none, 100), Some(2), "none is deep enough");
        assert_eq!(pick(Strategy::PriceCapacityOptimized, &offers, &none, 10), Some(2));
        assert_eq!(pick(Strategy::PriceCapacityOptimized, &offers, &none, 100), Some(2));
        assert_eq!(pick(Strategy::Diversified, &offers, &[1, 1, 0, 0], 10), Some(2));
        assert_eq!(pick(Strategy::Prioritized, &offers, &none, 10), Some(3));
    }

    #[test]
    fn nothing_is_taken_from_what_is_empty() {
        let offers = [offer(0.5, Some(1), 0.2, 2), offer(0.4, Some(0), 0.3, 1)];
        for (_, strategy) in Strategy::for_spot(2).into_iter().chain(Strategy::FOR_ON_DEMAND) {
            assert_eq!(pick(strategy, &offers, &[0, 0], 1), Some(0));
            assert_eq!(pick(strategy, &offers, &[1, 0], 1), None);
            assert_eq!(pick(strategy, &[], &[], 1), None);
        }
        // Where depth is not known, the interruption rate says what is there.
        let unknown = [offer(0.5, None, 0.2, 2), offer(0.6, None, 0.05, 1)];
        assert_eq!(pick(Strategy::CapacityOptimized, &unknown, &[0, 0], 5), Some(1));
        assert_eq!(pick(Strategy::PriceCapacityOptimized, &unknown, &[0, 0], 5), Some(1));
    }

    #[test]
    fn what_is_given_up_first_is_what_would_be_taken_last() {
        let offers = [offer(0.5, Some(40), 0.04, 2), offer(0.4, Some(9), 0.3, 1), offer(0.6, Some(20), 0.08, 3)];
        let used: Vec<_> = offers.iter().map(|offer| Used { offer, running: 1 }).collect();
        let first = |strategy: Strategy| {
            let mut order = [0, 1, 2];
            order.sort_by(|&i: &usize, &j: &usize| give_up(strategy, &used[i], &used[j], &used));
            order[0]
        };
        assert_eq!(first(Strategy::LowestPrice(1)), 2);
        assert_eq!(first(Strategy::CapacityOptimized), 1);
        assert_eq!(first(Strategy::CapacityOptimizedPrioritized), 2);
        assert_eq!(first(Strategy::PriceCapacityOptimized), 1);
        assert_eq!(first(Strategy::Prioritized), 2);
        assert_eq!(first(Strategy::Diversified), 2);
    }
}
