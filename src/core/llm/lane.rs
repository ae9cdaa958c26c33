//! The parts of the index: one lane an endpoint, one node a block.

use super::load::Load;
use crate::core::rng::wyrand;
use crate::core::time::Nanos;
use lru::LruCache;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Hashes a block's hash once more, by one multiplication: callers' hashes may be numbers in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixed;

/// See [`Mixed`].
#[derive(Debug, Default)]
pub struct Mixer(u64);

impl BuildHasher for Mixed {
    type Hasher = Mixer;

    #[inline(always)]
    fn build_hasher(&self) -> Mixer {
        Mixer::default()
    }
}

impl Hasher for Mixer {
    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.0 = wyrand(number ^ 0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = wyrand(self.0.rotate_left(8) ^ u64::from(byte) ^ 0x9e37_79b9_7f4a_7c15);
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// In which way an endpoint has to do with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gpu,
    Host,
    Disk,
    /// Believed to be on the accelerator.
    Guess,
    /// In use by a request in flight.
    Active,
}

/// One bit an endpoint, for 64 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub gpu: u64,
    pub host: u64,
    pub disk: u64,
    pub guess: u64,
    pub active: u64,
}

impl Masks {
    #[inline(always)]
    pub fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Gpu => &mut self.gpu,
            Kind::Host => &mut self.host,
            Kind::Disk => &mut self.disk,
            Kind::Guess => &mut self.guess,
            Kind::Active => &mut self.active,
        }
    }

    fn is_empty(&self) -> bool {
        self.held() | self.active == 0
    }
}

/// Who has to do with a block: the first 64 lanes, and the words of others that are not empty, in order.
#[derive(Debug, Default)]
pub(super) struct Node {
    low: Masks,
    more: Vec<(u32, Masks)>,
}

impl Node {
    #[inline(always)]
    pub fn word(&self, at: u32) -> Masks {
        if at == 0 { self.low } else { self.word_beyond(at) }
    }

    fn word_beyond(&self, at: u32) -> Masks {
        let place = self.more.binary_search_by_key(&at, |&(at, _)| at).ok();
        place.and_then(|place| self.more.get(place)).map_or_else(Masks::default, |&(_, masks)| masks)
    }

    pub fn word_mut(&mut self, at: u32) -> &mut Masks {
        if at == 0 {
            return &mut self.low;
        }
        let place = match self.more.binary_search_by_key(&at, |&(at, _)| at) {
            Ok(place) => place,
            Err(place) => {
                self.more.insert(place, (at, Masks::default()));
                place
            }
        };
        // The place exists: it was found, or has just been made.
        self.more.get_mut(place).map_or(&mut self.low, |(_, masks)| masks)
    }

    pub fn each_word(&self, mut body: impl FnMut(u32, &Masks)) {
        if !self.low.is_empty() {
            body(0, &self.low);
        }
        self.more.iter().for_each(|(at, masks)| body(*at, masks));
    }

    /// Drops a word that is empty; whether nothing is left.
    pub fn tidy(&mut self, at: u32) -> bool {
        if at != 0 && self.word(at).is_empty() {
            self.more.retain(|&(other, _)| other != at);
        }
        self.low.is_empty() && self.more.is_empty()
    }
}

/// What is known of one endpoint.
#[derive(Debug)]
pub(super) struct Lane {
    pub id: Arc<str>,
    pub capacity: u32,
    /// Whether the capacity is its own, and must be remembered.
    pub fixed: bool,
    /// Blocks that events told of, and in which tiers they are.
    pub told: LruCache<u64, u8, Mixed>,
    /// Blocks believed from picks, and until when.
    pub guesses: LruCache<u64, Nanos, Mixed>,
    /// How many requests in flight use a block.
    pub active: HashMap<u64, u32, Mixed>,
    pub load: Load,
    /// In how many pickers' pools it is.
    pub seats: u32,
}

impl Lane {
    pub fn new(id: Arc<str>, capacity: u32) -> Lane {
        Lane { id, capacity, ..Lane::default() }
    }

    /// Whether it can go.
    pub fn unused(&self) -> bool {
        self.seats == 0
            && !self.fixed
            && self.load.requests == 0
            && self.told.is_empty()
            && self.guesses.is_empty()
            && self.active.is_empty()
    }

    /// Blocks in use by requests in flight: shared ones once, those that no hash names each.
    pub fn decode_blocks(&self) -> u64 {
        (self.active.len() as u64).saturating_add(self.load.private)
    }
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            id: "".into(),
            capacity: 0,
            fixed: false,
            told: LruCache::unbounded_with_hasher(Mixed),
            guesses: LruCache::unbounded_with_hasher(Mixed),
            active: HashMap::default(),
            load: Load::default(),
            seats: 0,
        }
    }
}
