//! The immutable picture of a pool that every pick reads.

use super::counters::{Block, Cell};
use super::tiers::Tier;
use crate::core::error::PickError;
use crate::core::sync::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// One endpoint that may be picked: its place in the pool, its counters, its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Place in the pool's list of endpoints.
    pub index: u32,
    /// Place in the block of counters.
    pub slot: u32,
    /// Effective weight, more than zero.
    pub weight: f64,
}

/// How many endpoints are in which state, for messages and statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All endpoints.
    pub total: usize,
    /// Unhealthy ones.
    pub unhealthy: usize,
    /// Draining ones.
    pub draining: usize,
    /// Those of weight zero.
    pub zero_weight: usize,
}

/// What a policy sees of a snapshot.
#[derive(Clone, Debug)]
pub struct View {
    /// The counters.
    pub block: Block,
    /// Slot of each endpoint.
    pub slots: Vec<u32>,
    /// Most requests in flight of each endpoint; `u32::MAX` for any number.
    pub limits: Vec<u32>,
    /// Whether any endpoint has a limit.
    pub limited: bool,
    /// Text that places each endpoint in a hash.
    pub hash_keys: Arc<[Arc<str>]>,
    /// Id of each endpoint.
    pub ids: Arc<[Arc<str>]>,
    /// Weight of each endpoint, also of those that may not be picked.
    pub weights: Vec<f64>,
    /// The part of its weight that each endpoint has so far; empty when all have all of it.
    pub warmth: Vec<f64>,
    /// Changes with everything but [`View::warmth`]: what an index that does not go by that is built from.
    pub generation: u64,
    /// The epoch of the membership that it shows, in a pool of several processes; else 0.
    pub epoch: u64,
    /// Whether each endpoint is a backup.
    pub backups: Vec<bool>,
    /// Who is asked for a request, and in which order. Never empty.
    pub tiers: Vec<Tier>,
    /// Whether too few endpoints are healthy, so that health is ignored.
    pub panic: bool,
    /// Counts by state.
    pub totals: Totals,
}

impl View {
    /// Whether a member may get one more request right now.
    #[inline(always)]
    #[must_use]
    pub fn available(&self, member: Member) -> bool {
        self.may_take(member.index, member.slot)
    }

    /// The same, by place and slot.
    #[inline(always)]
    #[must_use]
    pub fn may_take(&self, index: u32, slot: u32) -> bool {
        self.block.cell(slot).is_some_and(|cell| self.free(cell, index))
    }

    /// The same, for a cell at hand.
    #[inline(always)]
    #[must_use]
    pub fn free(&self, cell: &Cell, index: u32) -> bool {
        cell.blocked.load(Ordering::Relaxed) == 0 && (!self.limited || self.below_limit(cell, index))
    }

    fn below_limit(&self, cell: &Cell, index: u32) -> bool {
        cell.inflight.load(Ordering::SeqCst) < u64::from(self.limit(index))
    }

    /// Whether an endpoint has as many requests in flight as it may have.
    #[inline(always)]
    #[must_use]
    pub fn full(&self, cell: &Cell, index: u32) -> bool {
        !self.below_limit(cell, index)
    }

    /// The most requests an endpoint may have in flight.
    #[inline(always)]
    #[must_use]
    pub fn limit(&self, index: u32) -> u32 {
        if self.limited { self.limits.get(index as usize).copied().unwrap_or(0) } else { u32::MAX }
    }

    /// Why nothing could be picked among those that the caller allows, `excluded` being left out.
    #[must_use]
    pub fn refusal(&self, excluded: usize, allow: &dyn Fn(u32) -> bool) -> PickError {
        let Totals { total, unhealthy, draining, zero_weight } = self.totals;
        if total == 0 {
            PickError::NoEndpoints
        } else if self
            .tiers
            .iter()
            .flat_map(Tier::members)
            .any(|m| allow(m.index) && self.block.cell(m.slot).is_some_and(|c| c.blocked.load(Ordering::Relaxed) == 0))
        {
            PickError::Overloaded { retry_after: None }
        } else {
            PickError::NoHealthyEndpoint { total, unhealthy, draining, zero_weight, excluded }
        }
    }
}

impl<P: Clone> Snapshot<P> {
    /// One without endpoints.
    #[must_use]
    pub fn of_nobody() -> Snapshot<P> {
        let view = View {
            block: Block::for_slots(0),
            slots: Vec::new(),
            limits: Vec::new(),
            limited: false,
            hash_keys: Arc::new([]),
            ids: Arc::new([]),
            weights: Vec::new(),
            warmth: Vec::new(),
            generation: 0,
            epoch: 0,
            backups: Vec::new(),
            tiers: vec![Tier::of(Vec::new(), 100)],
            panic: false,
            totals: Totals::default(),
        };
        Snapshot { view, payload: Vec::new(), ids: Arc::default() }
    }

    /// The same for somebody who only looks ahead: see [`Block::apart`].
    #[must_use]
    pub fn apart(&self) -> Snapshot<P> {
        let view = View { block: self.view.block.apart(), ..self.view.clone() };
        Snapshot { view, payload: self.payload.clone(), ids: self.ids.clone() }
    }
}

/// A view, and what the host language hangs on each endpoint.
#[derive(Debug)]
pub struct Snapshot<P> {
    /// What policies see.
    pub view: View,
    /// The payload of each endpoint.
    pub payload: Vec<P>,
    /// Place of each id.
    pub ids: Arc<HashMap<Arc<str>, u32>>,
}
