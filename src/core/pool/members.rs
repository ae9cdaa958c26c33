//! Who is in a pool, and the picture that is made of it.

use super::options::Options;
use super::passive::Passive;
use super::warmth::Warming;
use super::writer::{Rebuild, Reports};
use crate::core::endpoints::endpoint::check_weight;
use crate::core::endpoints::{Block, Endpoint, Health, Member, Snapshot, Tier, View};
use crate::core::error::ConfigError;
use crate::core::health::failover::{Candidate, Plan};
use crate::core::sync::{Joint, Mode, Mutex};
use crate::core::time::Nanos;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// What stays of an endpoint over an update: slot, health, drain and warming.
type Kept = (u32, Health, Option<Nanos>, Option<Warming>);

/// Why there is no slot.
fn full(slots: usize, retired: usize) -> ConfigError {
    let waits = match retired {
        0 => String::new(),
        n => format!("; {n} of its places wait for requests of endpoints that have left"),
    };
    ConfigError::new("endpoints", "more", format!("at most {slots} in this shared pool, as it was made{waits}"))
}

#[derive(Clone, Debug)]
pub(super) struct Place<P> {
    pub endpoint: Endpoint<P>,
    pub slot: u32,
    pub health: Health,
    pub drain: Option<Nanos>,
    pub warming: Option<Warming>,
}

impl<P> Place<P> {
    pub fn new(endpoint: Endpoint<P>, slot: u32) -> Place<P> {
        Place { endpoint, slot, health: Health::Healthy, drain: None, warming: None }
    }
}

pub(super) struct Writer<P> {
    pub places: Vec<Place<P>>,
    pub block: Block,
    /// Slots of endpoints that have left; free once nothing is in flight there.
    pub retired: Vec<u32>,
    pub next_slot: u32,
    pub pickers: Vec<Weak<dyn Rebuild<P>>>,
    pub made: u64,
    pub seed: u64,
    /// The latest instant that a change came with.
    pub now: Nanos,
    pub generation: u64,
    /// Whether it is being changed here, and not only followed.
    pub edits: bool,
    /// The epoch of the segment that this is of; 0 where there is none.
    pub epoch: u64,
}

impl<P> Writer<P> {
    /// Of nobody so far.
    pub fn new(block: Block, seed: u64) -> Writer<P> {
        Writer {
            places: Vec::new(),
            block,
            retired: Vec::new(),
            next_slot: 0,
            pickers: Vec::new(),
            made: 0,
            seed,
            now: Nanos::ZERO,
            generation: 0,
            edits: true,
            epoch: 0,
        }
    }
}

impl<P: Clone> Writer<P> {
    /// Gives each endpoint its slot: the one it has, or a free one. Changes nothing in case of error.
    pub fn placed<M: Mode>(
        &mut self,
        endpoints: Vec<Endpoint<P>>,
        reports: &Mutex<Reports>,
    ) -> Result<Vec<Place<P>>, ConfigError> {
        let mut seen: HashMap<Arc<str>, usize> = HashMap::with_capacity(endpoints.len());
        for (i, endpoint) in endpoints.iter().enumerate() {
            check_weight(&format!("endpoints[{i}].weight"), endpoint.weight)?;
            if let Some(first) = seen.insert(endpoint.id.clone(), i) {
                return Err(ConfigError::new(
                    format!("endpoints[{i}].id"),
                    format!("{:?}", endpoint.id),
                    format!("an id that is unique in the pool; endpoints[{first}] has the same"),
                ));
            }
        }
        let old: HashMap<Arc<str>, Kept> =
            self.places.iter().map(|p| (p.endpoint.id.clone(), (p.slot, p.health, p.drain, p.warming))).collect();
        endpoints
            .into_iter()
            .map(|endpoint| {
                let (slot, health, drain, warming) = match old.get(&endpoint.id) {
                    Some(kept) => *kept,
                    None => (self.free_slot::<M>(reports)?, Health::Healthy, None, None),
                };
                Ok(Place { health, drain, warming, ..Place::new(endpoint, slot) })
            })
            .collect()
    }

    /// A slot of nobody.
    ///
    /// # Errors
    /// [`ConfigError`] where the room for slots is bounded and taken. What this has taken before the error is then lost to
    /// this process until it takes over the membership that is in force.
    pub fn free_slot<M: Mode>(&mut self, reports: &Mutex<Reports>) -> Result<u32, ConfigError> {
        let most = self.block.segment().map(|segment| segment.layout().slots);
        let idle = |slot: u32| match self.block.segment() {
            Some(segment) => segment.may_reuse(slot, 0),
            None => self.block.cell(slot).is_some_and(|cell| cell.idle()),
        };
        let at = self.retired.iter().position(|&slot| idle(slot));
        let slot = match at {
            Some(at) => self.retired.swap_remove(at),
            None if most.is_some_and(|most| self.next_slot >= most) => {
                return Err(full(self.block.slots(), self.retired.len()));
            }
            None => {
                self.next_slot += 1;
                self.block.grow_to(self.next_slot as usize);
                self.next_slot - 1
            }
        };
        if let Some(cell) = self.block.cell(slot) {
            // A report that comes by an older snapshot corrects the same load: one at a time.
            let _one = reports.lock();
            if most.is_some() { cell.forget::<Joint>() } else { cell.forget::<M>() }
        }
        if let Some(signals) = self.block.signals(slot) {
            signals.forget();
        }
        self.block.forget_meter(slot);
        Ok(slot)
    }

    /// The picture of now, and when an endpoint that warms up is due for more. `alike` is a picture of the same endpoints
    /// in the same order.
    pub fn snapshot(
        &mut self,
        options: &Options,
        passive: &Passive,
        alike: Option<&Snapshot<P>>,
    ) -> (Arc<Snapshot<P>>, Nanos) {
        let standings = self.standings(options, passive);
        let standing = |index: u32| standings.get(index as usize).copied().unwrap_or_default();
        let (warmth, next) = self.warmth(options);
        let warm = |index: u32| warmth.get(index as usize).copied().unwrap_or(1.0);
        let member = |(index, place): (u32, &Place<P>)| Candidate {
            member: Member { index, slot: place.slot, weight: place.endpoint.weight * warm(index) },
            health: standing(index).0,
            draining: place.drain.is_some() || standing(index).1,
            backup: place.endpoint.backup,
            priority: place.endpoint.priority,
            zone: place.endpoint.zone.clone(),
        };
        let candidates: Vec<Candidate> = (0u32..).zip(&self.places).map(member).collect();
        let Plan { tiers, panic, mut totals } = Plan::new(&candidates, &options.rules);
        // Who rests does not leave.
        totals.draining = self.places.iter().filter(|place| place.drain.is_some()).count();
        let mut eligible = vec![false; self.next_slot as usize];
        for member in tiers.iter().flat_map(Tier::members) {
            if let Some(eligible) = eligible.get_mut(member.slot as usize) {
                *eligible = true;
            }
        }
        for slot in self.places.iter().map(|p| p.slot).chain(self.retired.iter().copied()) {
            self.block.block(slot, !eligible.get(slot as usize).copied().unwrap_or(false));
        }
        let limits: Vec<u32> = self.places.iter().map(|p| p.endpoint.max_inflight).collect();
        let snapshot = Snapshot {
            view: View {
                block: self.block.clone(),
                slots: self.places.iter().map(|p| p.slot).collect(),
                limited: limits.iter().any(|&l| l != u32::MAX),
                limits,
                hash_keys: match alike {
                    Some(before) => before.view.hash_keys.clone(),
                    None => self.places.iter().map(|p| p.endpoint.hash_key.clone()).collect(),
                },
                ids: match alike {
                    Some(before) => before.view.ids.clone(),
                    None => self.places.iter().map(|p| p.endpoint.id.clone()).collect(),
                },
                weights: self.places.iter().map(|p| p.endpoint.weight).collect(),
                generation: self.generation,
                epoch: self.epoch,
                backups: self.places.iter().map(|p| p.endpoint.backup).collect(),
                tiers,
                panic,
                totals,
                warmth: Vec::new(),
            },
            payload: self.places.iter().map(|p| p.endpoint.payload.clone()).collect(),
            ids: match alike {
                Some(before) => before.ids.clone(),
                None => Arc::new((0u32..).zip(&self.places).map(|(i, p)| (p.endpoint.id.clone(), i)).collect()),
            },
        };
        (Arc::new(Snapshot { view: View { warmth, ..snapshot.view }, ..snapshot }), next)
    }
}
