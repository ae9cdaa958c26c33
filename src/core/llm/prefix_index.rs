//! Which endpoint has which prefix in its cache: block hash to the endpoints that hold it, and for each endpoint its
//! blocks by last use. A look-up walks the blocks of a prompt, not the endpoints, and ends where nobody goes on.

use super::lane::{Kind, Lane, Masks, Mixed, Node};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use std::collections::HashMap;
use std::sync::Arc;

/// The most blocks that an endpoint may be given room for.
pub const MAX_CAPACITY: u32 = 1 << 30;

/// Where an endpoint keeps a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// In the memory of the accelerator.
    #[default]
    Gpu,
    /// In the memory of the host.
    Host,
    /// On disk, or somewhere as slow.
    Disk,
}

impl Tier {
    pub(super) fn kind(self) -> Kind {
        match self {
            Tier::Gpu => Kind::Gpu,
            Tier::Host => Kind::Host,
            Tier::Disk => Kind::Disk,
        }
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// How many blocks of a prompt an endpoint holds without a gap from the first one on, each counted in its best tier; and
/// how many of them requests in flight there use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// In the memory of the accelerator.
    pub gpu: u32,
    /// In that of the host.
    pub host: u32,
    /// On disk.
    pub disk: u32,
    /// In use by requests in flight.
    pub active: u32,
}

impl Held {
    /// All of them.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.gpu.saturating_add(self.host).saturating_add(self.disk)
    }
}

/// What one endpoint holds, for a snapshot: least recently used first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The endpoint.
    pub id: Arc<str>,
    /// Room for how many blocks.
    pub capacity: u32,
    /// Blocks that events told of, with the tiers they are in: 1 accelerator, 2 host, 4 disk, added.
    pub told: Vec<(u64, u8)>,
    /// Blocks believed from picks, and for how much longer; `Nanos::MAX` for ever.
    pub guesses: Vec<(u64, Nanos)>,
}

/// Endpoints that still hold all blocks so far, 64 to a word.
#[derive(Clone, Copy, Debug)]
struct Alive {
    at: u32,
    held: u64,
    active: u64,
}

/// The result of a look-up, kept from one to the next for its memory.
#[derive(Debug, Default)]
struct Found {
    held: Vec<Held>,
    touched: Vec<u32>,
    alive: Vec<Alive>,
}

/// Calls `body` with the place of each bit.
#[inline(always)]
pub(super) fn each_bit(mut bits: u64, mut body: impl FnMut(u32)) {
    while bits != 0 {
        body(bits.trailing_zeros());
        bits &= bits - 1;
    }
}

/// The index.
#[derive(Debug)]
pub struct PrefixIndex {
    pub(super) nodes: HashMap<u64, Node, Mixed>,
    pub(super) lanes: Vec<Lane>,
    free: Vec<u32>,
    names: HashMap<Arc<str>, u32>,
    capacity: u32,
    ttl: Nanos,
    /// When the first guess ends.
    next_expiry: Nanos,
    /// The latest instant that anybody spoke of.
    now: Nanos,
    found: Found,
    /// Tokens of the requests so far: how many, and of how many requests. See [`PrefixIndex::mean_tokens`].
    tokens: (f64, f64),
}

impl PrefixIndex {
    /// An index with room for so many blocks an endpoint. What picks say is believed for `ttl`: zero for not at all,
    /// `Nanos::MAX` for as long as there is room.
    ///
    /// # Errors
    /// [`ConfigError`] for a capacity of 0 or beyond [`MAX_CAPACITY`].
    pub fn new(capacity: u32, ttl: Nanos) -> Result<PrefixIndex, ConfigError> {
        check_capacity(capacity)?;
        Ok(PrefixIndex {
            nodes: HashMap::default(),
            lanes: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            capacity,
            ttl,
            next_expiry: Nanos::MAX,
            now: Nanos::ZERO,
            found: Found::default(),
            tokens: (0.0, 0.0),
        })
    }

    /// Room for how many blocks an endpoint has unless told otherwise.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// For how long what picks say is believed.
    #[must_use]
    pub fn ttl(&self) -> Nanos {
        self.ttl
    }

    /// How many different blocks somebody holds or uses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The endpoints it knows, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// How many blocks an endpoint holds by what events told, and by what picks let one believe.
    #[must_use]
    pub fn held_by(&self, id: &str) -> (usize, usize) {
        self.names.get(id).and_then(|&lane| self.lane(lane)).map_or((0, 0), |l| (l.told.len(), l.guesses.len()))
    }

    pub(super) fn lane(&self, lane: u32) -> Option<&Lane> {
        self.lanes.get(lane as usize)
    }

    /// The lane of an endpoint, which gets one now if it has none.
    pub(super) fn enter(&mut self, id: &Arc<str>) -> u32 {
        if let Some(&lane) = self.names.get(id) {
            return lane;
        }
        let fresh = Lane::new(id.clone(), self.capacity);
        let lane = match self.free.pop() {
            Some(lane) => lane,
            None => {
                self.lanes.push(Lane::default());
                self.lanes.len().saturating_sub(1) as u32
            }
        };
        if let Some(place) = self.lanes.get_mut(lane as usize) {
            *place = fresh;
        }
        self.names.insert(id.clone(), lane);
        lane
    }

    /// Takes a lane back that nobody needs.
    pub(super) fn tidy(&mut self, lane: u32) {
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        if place.unused() && self.names.get(&place.id) == Some(&lane) {
            self.names.remove(&place.id);
            *place = Lane::default();
            self.free.push(lane);
        }
    }

    /// Takes the instant in. Time does not go back here: an earlier instant counts as the latest one.
    pub(super) fn at(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        if self.now >= self.next_expiry {
            self.expire();
        }
        self.now
    }

    #[inline(never)]
    fn expire(&mut self) {
        let mut next = Nanos::MAX;
        for lane in 0..self.lanes.len() as u32 {
            let Some(place) = self.lanes.get_mut(lane as usize) else { break };
            // The least recently used one ends first, since each lasts equally long.
            while let Some((&block, &until)) = place.guesses.peek_lru() {
                if until > self.now {
                    next = next.min(until);
                    break;
                }
                place.guesses.pop_lru();
                clear(&mut self.nodes, block, lane, Kind::Guess);
            }
            self.tidy(lane);
        }
        self.next_expiry = next;
    }

    /// An event: the endpoint stores these blocks in a tier now.
    pub fn stored(&mut self, id: &Arc<str>, blocks: &[u64], tier: Tier, now: Nanos) {
        self.at(now);
        let lane = self.enter(id);
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        // Backwards, so that the first block of a prompt is the last to go.
        for &block in blocks.iter().take(place.capacity as usize).rev() {
            let tiers = place.told.get_or_insert_mut(block, || 0);
            *tiers |= tier.bit();
            set(&mut self.nodes, block, lane, tier.kind());
            if tier == Tier::Gpu && place.guesses.pop(&block).is_some() {
                clear(&mut self.nodes, block, lane, Kind::Guess);
            }
        }
        self.trim(lane);
        self.tidy(lane);
    }

    /// An event: the endpoint has these blocks no longer in a tier, or in any.
    pub fn removed(&mut self, id: &str, blocks: &[u64], tier: Option<Tier>, now: Nanos) {
        self.at(now);
        let Some(&lane) = self.names.get(id) else { return };
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        let gone = tier.map_or(u8::MAX, Tier::bit);
        for &block in blocks {
            if let Some(tiers) = place.told.peek_mut(&block) {
                forget(&mut self.nodes, block, lane, *tiers & gone);
                *tiers &= !gone;
                if *tiers == 0 {
                    place.told.pop(&block);
                }
            }
            if gone & Tier::Gpu.bit() != 0 && place.guesses.pop(&block).is_some() {
                clear(&mut self.nodes, block, lane, Kind::Guess);
            }
        }
        self.tidy(lane);
    }

    /// An event: the endpoint has emptied a tier, or all.
    pub fn cleared(&mut self, id: &str, tier: Option<Tier>, now: Nanos) {
        self.at(now);
        let Some(&lane) = self.names.get(id) else { return };
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        let gone = tier.map_or(u8::MAX, Tier::bit);
        let mut kept = Vec::new();
        // From the least recently used on, so that what stays keeps its order.
        while let Some((block, tiers)) = place.told.pop_lru() {
            forget(&mut self.nodes, block, lane, tiers & gone);
            if tiers & !gone != 0 {
                kept.push((block, tiers & !gone));
            }
        }
        for (block, tiers) in kept {
            place.told.put(block, tiers);
        }
        if gone & Tier::Gpu.bit() != 0 {
            while let Some((block, _)) = place.guesses.pop_lru() {
                clear(&mut self.nodes, block, lane, Kind::Guess);
            }
        }
        self.tidy(lane);
    }

    /// Believes that an endpoint will hold these blocks, since a request with them went there. Which of them events told
    /// of already is known better.
    pub fn predict(&mut self, id: &Arc<str>, blocks: &[u64], now: Nanos) {
        self.at(now);
        let lane = self.enter(id);
        self.predict_on(lane, blocks);
        self.tidy(lane);
    }

    pub(super) fn predict_on(&mut self, lane: u32, blocks: &[u64]) {
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        if self.ttl == Nanos::ZERO {
            return;
        }
        let until = if self.ttl == Nanos::MAX { Nanos::MAX } else { self.now.plus(self.ttl) };
        for &block in blocks.iter().take(place.capacity as usize).rev() {
            if !place.told.is_empty() && place.told.get(&block).is_some_and(|tiers| tiers & Tier::Gpu.bit() != 0) {
                continue;
            }
            if place.guesses.put(block, until).is_none() {
                set(&mut self.nodes, block, lane, Kind::Guess);
            }
        }
        self.next_expiry = self.next_expiry.min(until);
        self.trim(lane);
    }

    /// Room for so many blocks on one endpoint from now on.
    ///
    /// # Errors
    /// [`ConfigError`] for a capacity of 0 or beyond [`MAX_CAPACITY`].
    pub fn set_capacity(&mut self, id: &Arc<str>, capacity: u32) -> Result<(), ConfigError> {
        check_capacity(capacity)?;
        let lane = self.enter(id);
        if let Some(place) = self.lanes.get_mut(lane as usize) {
            place.capacity = capacity;
            place.fixed = true;
        }
        self.trim(lane);
        Ok(())
    }

    /// Forgets an endpoint; what is in flight there stays counted.
    pub fn forget(&mut self, id: &str) {
        let Some(&lane) = self.names.get(id) else { return };
        if let Some(place) = self.lanes.get_mut(lane as usize) {
            place.fixed = false;
            place.capacity = self.capacity;
        }
        self.cleared(id, None, Nanos::ZERO);
    }

    /// Lets the least recently used blocks go until the rest has room.
    fn trim(&mut self, lane: u32) {
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        let room = place.capacity as usize;
        while place.told.len() > room {
            let Some((block, tiers)) = place.told.pop_lru() else { break };
            forget(&mut self.nodes, block, lane, tiers);
        }
        while place.guesses.len() > room {
            let Some((block, _)) = place.guesses.pop_lru() else { break };
            clear(&mut self.nodes, block, lane, Kind::Guess);
        }
    }

    /// Looks up who holds how much of a prompt. What is found stands until the next look-up, see
    /// [`PrefixIndex::found`].
    pub fn look_up(&mut self, blocks: &[u64], now: Nanos) {
        self.at(now);
        let Found { held, touched, alive } = &mut self.found;
        for lane in touched.drain(..) {
            if let Some(held) = held.get_mut(lane as usize) {
                *held = Held::default();
            }
        }
        held.resize(self.lanes.len(), Held::default());
        alive.clear();
        let Some(first) = blocks.first().and_then(|block| self.nodes.get(block)) else { return };
        first.each_word(|at, masks| alive.push(Alive { at, held: masks.held(), active: masks.active }));
        let mut end = |at: u32, bits: u64, active: bool, depth: u32| {
            each_bit(bits, |bit| {
                let lane = at * 64 + bit;
                if let Some(held) = held.get_mut(lane as usize) {
                    match active {
                        true => held.active = depth,
                        false => held.gpu = depth.saturating_sub(held.host).saturating_sub(held.disk),
                    }
                    touched.push(lane);
                }
            });
        };
        let mut lower: Vec<(u32, bool)> = Vec::new();
        let mut depth = 0u32;
        for block in blocks {
            let Some(node) = self.nodes.get(block) else { break };
            let mut anybody = 0;
            for word in alive.iter_mut() {
                let masks = node.word(word.at);
                let now_held = word.held & masks.held();
                let now_active = word.active & masks.active;
                if now_held != word.held {
                    end(word.at, word.held & !now_held, false, depth);
                }
                if now_active != word.active {
                    end(word.at, word.active & !now_active, true, depth);
                }
                let slow = now_held & !(masks.gpu | masks.guess);
                if slow != 0 {
                    each_bit(slow, |bit| lower.push((word.at * 64 + bit, masks.host >> bit & 1 == 1)));
                }
                (word.held, word.active) = (now_held, now_active);
                anybody |= now_held | now_active;
            }
            if anybody == 0 {
                break;
            }
            depth = depth.saturating_add(1);
        }
        for word in alive.iter() {
            end(word.at, word.held, false, depth);
            end(word.at, word.active, true, depth);
        }
        for (lane, host) in lower {
            if let Some(held) = held.get_mut(lane as usize) {
                let tier = if host { &mut held.host } else { &mut held.disk };
                *tier = tier.saturating_add(1);
                held.gpu = held.gpu.saturating_sub(1);
            }
        }
    }

    /// What the last look-up found of a lane.
    #[inline(always)]
    pub(super) fn found(&self, lane: u32) -> Held {
        self.found.held.get(lane as usize).copied().unwrap_or_default()
    }

    /// Who holds something of a prompt, and how much; in no order.
    pub fn matches(&mut self, blocks: &[u64], now: Nanos) -> Vec<(Arc<str>, Held)> {
        self.look_up(blocks, now);
        let mut touched = self.found.touched.clone();
        touched.sort_unstable();
        touched.dedup();
        let one = |lane: u32| Some((self.lane(lane)?.id.clone(), self.found(lane)));
        touched.into_iter().filter_map(one).filter(|(_, held)| held.blocks() > 0).collect()
    }

    /// How much one lane holds of a prompt.
    pub(super) fn held_on(&self, lane: u32, blocks: &[u64]) -> Held {
        let (at, bit) = (lane / 64, lane % 64);
        let mut out = Held::default();
        for block in blocks {
            let Some(node) = self.nodes.get(block) else { break };
            let masks = node.word(at);
            let has = |mask: u64| mask >> bit & 1 == 1;
            if has(masks.gpu | masks.guess) {
                out.gpu = out.gpu.saturating_add(1);
            } else if has(masks.host) {
                out.host = out.host.saturating_add(1);
            } else if has(masks.disk) {
                out.disk = out.disk.saturating_add(1);
            } else {
                break;
            }
        }
        out
    }

    /// One more request on a lane uses these blocks.
    pub(super) fn activate(&mut self, lane: u32, blocks: &[u64]) {
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        for &block in blocks {
            let users = place.active.entry(block).or_insert(0);
            *users = users.saturating_add(1);
            if *users == 1 {
                set(&mut self.nodes, block, lane, Kind::Active);
            }
        }
    }

    /// One request less does.
    pub(super) fn deactivate(&mut self, lane: u32, blocks: &[u64]) {
        let Some(place) = self.lanes.get_mut(lane as usize) else { return };
        for &block in blocks {
            if let Some(users) = place.active.get_mut(&block) {
                *users = users.saturating_sub(1);
                if *users == 0 {
                    place.active.remove(&block);
                    clear(&mut self.nodes, block, lane, Kind::Active);
                }
            }
        }
    }

    /// A request brought so many tokens.
    pub(super) fn note_tokens(&mut self, tokens: f64) {
        let (sum, count) = self.tokens;
        // The mean of about the last thousand.
        let keep = 0.999;
        self.tokens = (sum * keep + tokens, count * keep + 1.0);
    }

    /// How many tokens the prompt of a request has that is only reported: the mean so far, 1024 before there is one.
    pub(super) fn mean_tokens(&self) -> f64 {
        let (sum, count) = self.tokens;
        if count > 0.0 { sum / count } else { 1024.0 }
    }

    /// What every endpoint holds, in the order of their ids.
    pub fn save(&mut self, now: Nanos) -> Vec<Saved> {
        let now = self.at(now);
        let left = |until: Nanos| if until == Nanos::MAX { Nanos::MAX } else { until.since(now) };
        let mut out: Vec<Saved> = self
            .names
            .values()
            .filter_map(|&lane| self.lane(lane))
            .map(|lane| Saved {
                id: lane.id.clone(),
                capacity: lane.capacity,
                told: lane.told.iter().rev().map(|(&block, &tiers)| (block, tiers)).collect(),
                guesses: lane.guesses.iter().rev().map(|(&block, &until)| (block, left(until))).collect(),
            })
            .collect();
        out.sort_by(|a, b| a.id.cmp(&b.id));
        out
    }

    /// Takes in what another index saved, beside what is known already.
    ///
    /// # Errors
    /// [`ConfigError`] for a capacity that cannot be; nothing is taken in then.
    pub fn load_saved(&mut self, saved: &[Saved], now: Nanos) -> Result<(), ConfigError> {
        saved.iter().try_for_each(|one| check_capacity(one.capacity))?;
        let now = self.at(now);
        for one in saved {
            let lane = self.enter(&one.id);
            let Some(place) = self.lanes.get_mut(lane as usize) else { continue };
            if one.capacity != self.capacity {
                place.capacity = one.capacity;
                place.fixed = true;
            }
            for &(block, tiers) in &one.told {
                *place.told.get_or_insert_mut(block, || 0) |= tiers;
                for tier in [Tier::Gpu, Tier::Host, Tier::Disk] {
                    if tiers & tier.bit() != 0 {
                        set(&mut self.nodes, block, lane, tier.kind());
                    }
                }
            }
            for &(block, left) in &one.guesses {
                // Never longer than a guess lasts here, so that they go on ending in the order of their use.
                let until = if self.ttl == Nanos::MAX { Nanos::MAX } else { now.plus(left.min(self.ttl)) };
                if until <= now || place.told.contains(&block) {
                    continue;
                }
                if place.guesses.put(block, until).is_none() {
                    set(&mut self.nodes, block, lane, Kind::Guess);
                }
                self.next_expiry = self.next_expiry.min(until);
            }
            self.trim(lane);
            self.tidy(lane);
        }
        Ok(())
    }
}

fn check_capacity(capacity: u32) -> Result<(), ConfigError> {
    if (1..=MAX_CAPACITY).contains(&capacity) {
        return Ok(());
    }
    Err(ConfigError::new("capacity", capacity, format!("a whole number of blocks from 1 to {MAX_CAPACITY}")))
}

pub(super) type Nodes = HashMap<u64, Node, Mixed>;

fn set(nodes: &mut Nodes, block: u64, lane: u32, kind: Kind) {
    *nodes.entry(block).or_default().word_mut(lane / 64).of(kind) |= 1 << (lane % 64);
}

fn clear(nodes: &mut Nodes, block: u64, lane: u32, kind: Kind) {
    if let Some(node) = nodes.get_mut(&block) {
        *node.word_mut(lane / 64).of(kind) &= !(1 << (lane % 64));
        if node.tidy(lane / 64) {
            nodes.remove(&block);
        }
    }
}

/// Clears the bits of these tiers.
fn forget(nodes: &mut Nodes, block: u64, lane: u32, tiers: u8) {
    for tier in [Tier::Gpu, Tier::Host, Tier::Disk] {
        if tiers & tier.bit() != 0 {
            clear(nodes, block, lane, tier.kind());
        }
    }
}

impl Masks {
    /// Who holds the block somewhere.
    #[inline(always)]
    pub(super) fn held(&self) -> u64 {
        self.gpu | self.guess | self.host | self.disk
    }
}
