//! Where an instance is started: market, zone, offer.

use super::{Cause, Group, Instance, Phase};
use crate::core::capacity::mixed;
use crate::core::capacity::offers::{Market, Offer, Used, choose};
use std::collections::HashMap;

impl Group {
    /// The zones of the offers, in the order in which they were given.
    pub(super) fn zones(&self) -> Vec<String> {
        let mut zones: Vec<String> = Vec::new();
        for o in &self.offers {
            if !zones.contains(&o.zone) {
                zones.push(o.zone.clone());
            }
        }
        zones
    }

    /// How many count in each zone.
    pub(super) fn by_zone(&self) -> HashMap<&str, i64> {
        let mut counts = HashMap::new();
        for i in self.active() {
            *counts.entry(i.zone.as_str()).or_default() += 1;
        }
        counts
    }

    pub(super) fn in_zone(&self, zone: &str, pooled: bool) -> i64 {
        self.instances.iter().filter(|i| i.zone == zone && !i.phase.leaving() && i.pooled == pooled).count() as i64
    }

    /// Every offer of a market, with what is used of it.
    pub(super) fn used(&self, market: Market) -> Vec<Used<'_>> {
        let of = |o: &Offer| self.instances.iter().filter(|i| o.is(&i.kind, &i.zone, i.market)).count() as u64;
        self.offers.iter().filter(|o| o.market == market).map(|offer| Used { offer, running: of(offer) }).collect()
    }

    fn open(&self, offer: &Offer) -> bool {
        !self.blocked.iter().any(|(kind, zone, market, _)| offer.is(kind, zone, *market))
    }

    /// The offer to take in a zone, of those that `fits` lets through.
    pub(super) fn offer_in(
        &self,
        zone: &str,
        market: Market,
        wanted: i64,
        fits: &dyn Fn(&Offer) -> bool,
    ) -> Option<Offer> {
        let used: Vec<Used<'_>> = self.used(market);
        let here: Vec<Used<'_>> =
            used.into_iter().filter(|u| u.offer.zone == zone && self.open(u.offer) && fits(u.offer)).collect();
        let at = choose(self.config.strategy(market), &here, wanted.max(1).unsigned_abs())?;
        here.get(at).map(|u| u.offer.clone())
    }

    /// The market that the next instance is bought in, so that the shares are those of the policy.
    pub(super) fn market(&self) -> Market {
        let (on_demand, _) = mixed::split(self.desired, self.config.base, self.config.percent);
        let have = self.active().filter(|i| i.market == Market::OnDemand && !self.extra(i)).count() as i64;
        if have < on_demand { Market::OnDemand } else { Market::Spot }
    }

    /// An offer for one more: in the zone with the fewest, or in the next that has one.
    pub(super) fn place(
        &self,
        market: Market,
        wanted: i64,
        pooled: bool,
        fits: &dyn Fn(&Offer) -> bool,
    ) -> Option<Offer> {
        let mut zones: Vec<(i64, String)> = self.zones().into_iter().map(|z| (self.in_zone(&z, pooled), z)).collect();
        // A stable sort: of equal zones the first that was given.
        zones.sort_by_key(|(n, _)| *n);
        if !self.config.best_effort {
            let fewest = zones.first().map(|(n, _)| *n);
            zones.retain(|(n, _)| Some(*n) == fewest);
        }
        zones.iter().find_map(|(_, zone)| self.offer_in(zone, market, wanted, fits))
    }

    /// Starts one. Says whether there was an offer.
    pub(super) fn launch(&mut self, wanted: i64, reason: &'static str) -> bool {
        let market = self.market();
        let mut offer = self.place(market, wanted, false, &|_| true);
        if offer.is_none() && market == Market::Spot && self.config.fallback {
            offer = self.place(Market::OnDemand, wanted, false, &|_| true);
        }
        let Some(offer) = offer else { return false };
        self.start(&offer, None, false, reason);
        true
    }

    /// Starts one from an offer.
    pub(super) fn start(
        &mut self,
        offer: &Offer,
        replaces: Option<(u64, Cause)>,
        pooled: bool,
        reason: &'static str,
    ) -> u64 {
        self.last += 1;
        let number = self.last;
        let mut instance = Instance::of(number, offer, (self.template, self.configuration), self.now);
        instance.replaces = replaces;
        instance.pooled = pooled;
        instance.protected = self.config.protect_new;
        self.instances.push(instance);
        self.counts.launched += 1;
        self.say(if pooled { "launch_into_pool" } else { "launch" }, number, reason);
        self.enter(number, Phase::Launching);
        number
    }
}
