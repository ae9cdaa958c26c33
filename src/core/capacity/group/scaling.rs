//! As many as are desired, where they belong.

use super::{Cause, Group, Instance, Phase};
use crate::core::capacity::offers::Market;
use crate::core::capacity::termination::{self, Leaver};
use crate::core::capacity::{mixed, warm_pool};
use std::collections::HashSet;

impl Group {
    /// Whoever stood for another is there: the other goes.
    pub(super) fn finish_replacements(&mut self) {
        let done: Vec<(u64, u64, Cause, bool)> = self
            .active()
            .filter_map(|i| i.replaces.map(|(old, cause)| (i.number, old, cause, i.phase == Phase::InService)))
            .collect();
        for (number, old, cause, ready) in done {
            let there = self.find(old).is_some_and(Instance::active);
            if there && ready {
                self.retire(old, cause.name(), false);
            }
            if !there || ready {
                if let Some(i) = self.find_mut(number) {
                    i.replaces = None;
                }
                self.changes += 1;
            }
        }
    }

    /// Whoever may be interrupted soon gets somebody who stands for it, of an offer that is as good or better.
    pub(super) fn rebalance_capacity(&mut self) {
        if !self.config.capacity_rebalance {
            return;
        }
        let stood_for = self.stood_for();
        let at_risk = self.active().filter(|i| i.at_risk && !stood_for.contains(&i.number));
        let at_risk: Vec<u64> = at_risk.map(|i| i.number).collect();
        for number in at_risk {
            if self.size() >= self.limit() {
                return;
            }
            let Some(i) = self.find(number) else { continue };
            let rate = self
                .used(i.market)
                .iter()
                .find(|u| u.offer.is(&i.kind, &i.zone, i.market))
                .map(|u| u.offer.interruption_rate);
            let rate = rate.unwrap_or(1.0);
            let (kind, zone, market) = (i.kind.clone(), i.zone.clone(), i.market);
            let offer = self.place(market, 1, false, &|o| !o.is(&kind, &zone, market) && o.interruption_rate <= rate);
            if let Some(offer) = offer {
                self.start(&offer, Some((number, Cause::Capacity)), false, Cause::Capacity.name());
            }
        }
    }

    /// Whoever has somebody that stands for it.
    pub(super) fn stood_for(&self) -> HashSet<u64> {
        self.active().filter_map(|i| i.replaces.map(|(old, _)| old)).collect()
    }

    /// Starts what is missing and takes out what is too much.
    pub(super) fn scale(&mut self) {
        let mut counted = self.size() - self.extras();
        while counted < self.desired {
            let most = if self.extras() > 0 { self.limit() } else { self.bounds.max };
            if self.size() >= most || !self.add(self.desired - counted) {
                break;
            }
            counted += 1;
        }
        // Each turn takes one out or frees one from standing for another, so this ends.
        while counted > self.desired {
            let Some(number) = self.too_much() else { break };
            let reuse = self.room_in_pool();
            self.retire(number, "scale in", reuse);
            self.finish_replacements();
            counted = self.size() - self.extras();
        }
        while self.size() > self.limit().max(self.desired) {
            let newest = self.active().filter(|i| self.extra(i)).map(|i| i.number).max();
            let Some(number) = newest else { break };
            self.retire(number, "no room", false);
        }
    }

    /// One more, from the pool if it has one that is ready.
    fn add(&mut self, wanted: i64) -> bool {
        let waiting = self.instances.iter().filter(|i| i.pooled && i.phase == Phase::Waiting);
        let counts = self.by_zone();
        let many = |zone: &str| counts.get(zone).copied().unwrap_or(0);
        let warm = waiting.min_by_key(|i| (many(&i.zone), i.number)).map(|i| i.number);
        match warm {
            Some(number) => {
                self.draw(number, "scale out");
                true
            }
            None => self.launch(wanted, "scale out"),
        }
    }

    /// Whom to take out: those named, then the market that has too many, who is not in service yet, the zone with the
    /// most, and the termination policies.
    fn too_much(&self) -> Option<u64> {
        let free = |i: &&Instance| !i.protected && !self.extra(i);
        if let Some(named) = self.prefer.iter().find(|n| self.find(**n).is_some_and(|i| i.active() && free(&i))) {
            return Some(*named);
        }
        let all: Vec<&Instance> = self.active().filter(free).collect();
        let (on_demand, spot) = mixed::split(self.desired, self.config.base, self.config.percent);
        let have = |m: Market| self.active().filter(|i| i.market == m && !self.extra(i)).count() as i64;
        let market = if have(Market::OnDemand) > on_demand {
            Some(Market::OnDemand)
        } else {
            (have(Market::Spot) > spot).then_some(Market::Spot)
        };
        let mut some: Vec<&Instance> = all.iter().copied().filter(|i| market.is_none_or(|m| i.market == m)).collect();
        if some.is_empty() {
            some = all;
        }
        if let Some(newest) = some.iter().filter(|i| i.phase != Phase::InService).map(|i| i.number).max() {
            return Some(newest);
        }
        self.by_policy(&some)
    }

    /// Of these the one that goes: of the zone with the most, by the termination policies.
    pub(super) fn by_policy(&self, some: &[&Instance]) -> Option<u64> {
        let counts = self.by_zone();
        let many = |zone: &str| counts.get(zone).copied().unwrap_or(0);
        // Of equal zones the first.
        let zones = self.zones();
        let place = |zone: &str| zones.iter().position(|z| z == zone).unwrap_or(usize::MAX);
        let mut full: Vec<&str> = Vec::new();
        for i in some {
            if !full.contains(&i.zone.as_str()) {
                full.push(&i.zone);
            }
        }
        let zone = full.into_iter().min_by_key(|z| (std::cmp::Reverse(many(z)), place(z)))?.to_owned();
        let here: Vec<&&Instance> = some.iter().filter(|i| i.zone == zone).collect();
        // Whoever may be interrupted goes before anybody else.
        let risk = here.iter().any(|i| i.at_risk);
        let here = here.into_iter().filter(|i| i.at_risk == risk);
        let here: Vec<&&Instance> = here.collect();
        let market = here.first().map(|i| i.market)?;
        let used = self.used(market);
        let leavers: Vec<Leaver<'_>> = here
            .iter()
            .filter(|i| i.market == market)
            .map(|i| Leaver {
                number: i.number,
                launched: i.launched,
                template: i.template,
                configuration: i.configuration,
                offer: used.iter().find(|u| u.offer.is(&i.kind, &i.zone, i.market)).copied(),
            })
            .collect();
        termination::choose(&self.config.termination, &leavers, self.config.strategy(market), &used, self.now)
    }

    /// Evens the zones out when all is quiet: one is started before one goes.
    pub(super) fn rebalance_zones(&mut self) {
        let quiet = self.active().all(|i| i.phase == Phase::InService)
            && self.extras() == 0
            && self.size() == self.desired
            && !self.refresh.as_ref().is_some_and(super::Refresh::running);
        if !self.config.zone_rebalance || !quiet {
            return;
        }
        let zones = self.zones();
        let mut counts: Vec<i64> = zones.iter().map(|z| self.in_zone(z, false)).collect();
        let mut moved: HashSet<u64> = HashSet::new();
        while self.size() < self.limit() {
            let order = |at: &usize| counts.get(*at).copied().unwrap_or(0);
            let mut places: Vec<usize> = (0..zones.len()).collect();
            places.sort_by_key(order);
            let (Some(least), Some(most)) = (places.first().map(order), places.last().map(order)) else { return };
            if most - least <= 1 {
                return;
            }
            let found = places.iter().rev().find_map(|&from| {
                let some: Vec<&Instance> = self
                    .active()
                    .filter(|i| {
                        zones.get(from) == Some(&i.zone)
                            && !i.protected
                            && i.replaces.is_none()
                            && !moved.contains(&i.number)
                    })
                    .collect();
                let number = self.by_policy(&some)?;
                let market = self.find(number)?.market;
                let offer = places
                    .iter()
                    .filter(|&&to| order(&from) - order(&to) > 1)
                    .find_map(|&to| Some((to, self.offer_in(zones.get(to)?, market, 1, &|_| true)?)));
                offer.map(|(to, offer)| (from, to, number, offer))
            });
            let Some((from, to, number, offer)) = found else { return };
            moved.insert(number);
            for (at, change) in [(from, -1), (to, 1)] {
                if let Some(n) = counts.get_mut(at) {
                    *n += change;
                }
            }
            self.start(&offer, Some((number, Cause::Zone)), false, Cause::Zone.name());
        }
    }

    fn pool_size(&self) -> i64 {
        self.config.pool.map_or(0, |p| warm_pool::size(self.bounds.max, self.desired, p.prepared, p.min_size))
    }

    fn pooled(&self) -> i64 {
        self.instances.iter().filter(|i| (i.pooled && !i.phase.leaving()) || (i.reuse && i.phase.leaving())).count()
            as i64
    }

    fn room_in_pool(&self) -> bool {
        self.config.pool.is_some_and(|p| p.reuse) && self.pooled() < self.pool_size()
    }

    /// Fills the pool, or takes out of it what is too much.
    pub(super) fn fill_pool(&mut self) {
        if self.config.pool.is_none() {
            return;
        }
        let (wanted, mut have) = (self.pool_size(), self.pooled());
        while have < wanted {
            let Some(offer) = self.place(Market::OnDemand, wanted - have, true, &|_| true) else { return };
            self.start(&offer, None, true, "the pool is not full");
            have += 1;
        }
        while have > wanted {
            // Whoever is not ready goes first, then the youngest.
            let some = self.instances.iter().filter(|i| i.pooled && !i.phase.leaving());
            let Some(number) = some.max_by_key(|i| (i.phase != Phase::Waiting, i.number)).map(|i| i.number) else {
                return;
            };
            self.retire(number, "the pool is too full", false);
            have -= 1;
        }
    }
}
