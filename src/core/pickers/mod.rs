//! Policies: how one of the eligible endpoints is chosen. A policy sees eligibility and effective weight, never health.

pub mod first;
pub mod hashing;
pub mod idle_queue;
pub mod latency;
pub mod least_connections;
pub mod least_request;
pub mod least_time;
pub mod prequal;
pub mod random;
pub mod reported_weights;
pub mod round_robin;
mod sampler;
mod scan;

use crate::core::endpoints::{Averages, Cell, Member, Order, View};
use crate::core::hash;
use crate::core::rng;
use crate::core::sync::{AtomicBool, AtomicU64, Exclusive, Mode, Ordering};
use crate::core::time::Nanos;

pub use first::First;
pub use hashing::haproxy::Haproxy;
pub use hashing::ip_hash::IpHash;
pub use hashing::jump::Jump;
pub use hashing::memento::MementoHash;
pub use hashing::multi_probe::MultiProbe;
pub use hashing::rendezvous::Rendezvous;
pub use hashing::variants::{Modulo, Ring};
pub use hashing::{maglev::Maglev, ring::RingHash};
pub use idle_queue::JoinIdleQueue;
pub use latency::PeakEwma;
pub use least_connections::LeastConnections;
pub use least_request::LeastRequest;
pub use least_time::LeastTime;
pub use prequal::Prequal;
pub use random::{RingDraws, WeightedRandom};
pub use reported_weights::ClientSideWeightedRoundRobin;
pub use round_robin::{RoundRobin, Schedule, Start};

/// The chosen endpoint: its place in the pool and its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Place in the pool's list of endpoints.
    pub index: u32,
    /// Place in the block of counters.
    pub slot: u32,
}

impl From<Member> for Choice {
    #[inline(always)]
    fn from(m: Member) -> Choice {
        Choice { index: m.index, slot: m.slot }
    }
}

/// A picker's own source of chance: draw number i of its seed, so that one addition hands out a draw.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Draws {
    counter: AtomicU64,
    /// Whether one thread alone draws.
    alone: bool,
}

impl Draws {
    /// A source that starts at draw 0 of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Draws {
        Draws { counter: AtomicU64::new(seed), alone: false }
    }

    /// A source for one thread alone. Its draws do not wait for what the thread has written before, so that a pick's looks
    /// at endpoints begin while the one before it still takes its work. Several threads may get the same draw from it.
    #[must_use]
    pub fn alone(seed: u64) -> Draws {
        Draws { alone: true, ..Draws::new(seed) }
    }

    /// Starts again at draw 0 of another seed: what a forked child does.
    pub fn reseed(&self, seed: u64) {
        self.counter.store(seed, Ordering::Relaxed);
    }

    /// A source that will draw what this one would.
    #[must_use]
    pub fn copy(&self) -> Draws {
        Draws { counter: AtomicU64::new(self.counter.load(Ordering::Relaxed)), alone: self.alone }
    }

    /// The next 64 random bits.
    #[inline(always)]
    pub fn next<M: Mode>(&self) -> u64 {
        let before = if M::SHARED && self.alone {
            Exclusive::add(&self.counter, rng::WY_STEP)
        } else {
            M::add(&self.counter, rng::WY_STEP)
        };
        rng::wyrand(before.wrapping_add(rng::WY_STEP))
    }
}

/// A request's key: 64 bits that the policy itself made of it, and its bytes for policies that hash them together with
/// every endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key<'a> {
    /// What [`Policy::bytes_key`] or one of its sisters made of it.
    pub hash: u64,
    /// The bytes; looked at only where [`Policy::RAW`] is set.
    pub bytes: &'a [u8],
}

impl From<u64> for Key<'_> {
    #[inline(always)]
    fn from(hash: u64) -> Self {
        Key { hash, bytes: &[] }
    }
}

/// What one pick works with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The endpoints.
    pub view: &'a View,
    /// Chance.
    pub draws: &'a Draws,
    /// The latencies of the pool.
    pub latencies: &'a Averages,
    /// In which order endpoints gained and gave back requests; noted for policies that are `ordered`.
    pub order: &'a Order,
    /// Set when a policy would like to be rebuilt by and by.
    pub deferred: &'a AtomicBool,
    /// The work that the request brings, in units.
    pub units: u64,
    /// The instant of the pick; zero for policies that do not need it.
    pub now: Nanos,
    /// The bytes of the key, where [`Policy::RAW`] is set.
    pub bytes: &'a [u8],
    /// Where a policy says how many requests its choice had in flight when it was compared. There only where threads count
    /// together and the choice is to have a request at once.
    pub seen: Option<&'a Seen>,
}

/// How many requests an endpoint was seen to have in flight.
pub type Seen = std::cell::Cell<u32>;

impl Context<'_> {
    /// Says how many requests the choice has in flight.
    #[inline(always)]
    pub fn note_seen(&self, requests: u64) {
        if let Some(seen) = self.seen {
            seen.set(u32::try_from(requests).unwrap_or(u32::MAX));
        }
    }

    /// These are compared, and one of them is perhaps to have a request: see [`Cell::soon_written`].
    #[inline(always)]
    pub fn soon_written<M: Mode>(&self, cells: [&Cell; 2]) {
        if M::SHARED && self.seen.is_some() {
            cells.into_iter().for_each(Cell::soon_written);
        }
    }

    /// The cell of a member.
    #[inline(always)]
    #[must_use]
    pub fn cell(&self, member: Member) -> Option<&Cell> {
        self.view.block.cell(member.slot)
    }
}

/// Says whether the caller allows an endpoint, by its place in the pool.
pub type Allow<'a> = &'a dyn Fn(u32) -> bool;

/// A way of choosing. Its index is built for every new set of eligible endpoints; what must outlive that, such as a
/// rotation, is handed from the old index to the new one.
pub trait Policy: Clone + Send + Sync + 'static {
    /// What is prepared for one set of endpoints.
    type Index<M: Mode>: Send + Sync + 'static;

    /// Whether a pick needs to know the time.
    const TIMED: bool = false;

    /// Whether a pick depends on its key.
    const KEYED: bool = false;

    /// Whether a choice is right only as long as it has no more requests in flight than [`Context::note_seen`] was told, so that
    /// where threads take at the same time a request is taken only while that holds.
    const EXACT: bool = false;

    /// Whether a pick needs to know in which order endpoints gained and gave back requests.
    fn ordered(&self) -> bool {
        false
    }

    /// After how long a silence an endpoint's reported rates begin anew; `None` when the policy reads none.
    fn report_lifetime(&self) -> Option<Nanos> {
        None
    }

    /// Whether a pick needs the bytes of its key.
    const RAW: bool = false;

    /// What a key may be, for messages.
    fn keys(&self) -> &'static str {
        hashing::ANYTHING
    }

    /// The 64 bits that stand for a key of these bytes; `None` for a key that the policy cannot use.
    #[inline(always)]
    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        Some(hash::xxh64(bytes))
    }

    /// The same for a text.
    #[inline(always)]
    fn text_key(&self, text: &str) -> Option<u64> {
        self.bytes_key(text.as_bytes())
    }

    /// The same for a whole number.
    #[inline(always)]
    fn whole_key(&self, number: u64) -> Option<u64> {
        self.bytes_key(&number.to_le_bytes())
    }

    /// The same for a hash that the caller has already.
    #[inline(always)]
    fn ready_key(&self, hash: u64) -> Option<u64> {
        Some(hash)
    }

    /// Stands for the key of a request that has none: any will do.
    #[inline(always)]
    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        draws.next::<M>()
    }

    /// Whether a key is nothing but its XXH64, so that a batch of keys can be hashed without asking.
    fn plain_keys(&self) -> bool {
        !Self::RAW
    }

    /// Whether picks move a state of many words, so that a per-thread handle has one of its own.
    fn rotates(&self) -> bool {
        false
    }

    /// The policy of the per-thread handle before which so many were made: the first takes turns as this one does, the
    /// others start elsewhere.
    #[must_use]
    fn staggered(&self, _before: u64) -> Self {
        self.clone()
    }

    /// Prepares an index for the members of one rank. `before` are the indexes of all ranks that it replaces; none at
    /// the first build.
    fn build<M: Mode>(
        &self,
        view: &View,
        members: &[Member],
        before: &[&Self::Index<M>],
        draws: &Draws,
    ) -> Self::Index<M>;

    /// Roughly how long a build takes, in nanoseconds.
    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 10
    }

    /// Whether a rebuild would make picks cheaper, although nothing has changed.
    fn wants_rebuild<M: Mode>(&self, _index: &Self::Index<M>) -> bool {
        false
    }

    /// Whether a rebuild will be wanted later, although nothing changes.
    fn unsettled<M: Mode>(&self, _index: &Self::Index<M>) -> bool {
        false
    }

    /// Chooses; `None` when no member can take the request.
    fn pick<M: Mode>(&self, index: &Self::Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice>;

    /// Whether [`Policy::quick`] and [`Policy::go_on`] are the two halves of [`Policy::pick`].
    const QUICK: bool = false;

    /// The way that most picks go: it calls nothing, so that whoever goes it has nothing to save. `None` where it does
    /// not lead to a choice.
    #[inline(always)]
    fn quick<M: Mode>(&self, _index: &Self::Index<M>, _cx: &Context<'_>, _key: u64) -> Option<Choice> {
        None
    }

    /// Chooses once [`Policy::quick`] has not.
    #[inline(always)]
    fn go_on<M: Mode>(&self, index: &Self::Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.pick(index, cx, key)
    }

    /// Chooses among those that the caller allows.
    fn choose<M: Mode>(&self, index: &Self::Index<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice>;

    /// Fills `out` with picks, as `pick` would give them one by one. What cannot be had ends it early; the number of
    /// picks made is returned.
    fn fill<M: Mode>(&self, index: &Self::Index<M>, cx: &Context<'_>, out: &mut [u32]) -> usize {
        let mut made = 0;
        for place in out.iter_mut() {
            match self.pick(index, cx, if Self::KEYED { self.no_key::<M>(cx.draws) } else { 0 }) {
                Some(choice) => *place = choice.index,
                None => break,
            }
            made += 1;
        }
        made
    }

    /// Fills `out` with a pick for each key, as `pick` would give them one by one. What cannot be had ends it early;
    /// the number of picks made is returned.
    fn fill_keys<M: Mode>(&self, index: &Self::Index<M>, cx: &Context<'_>, keys: &[u64], out: &mut [u32]) -> usize {
        fill_singly::<M, Self>(self, index, cx, keys, out)
    }
}

/// Fills `out` by a pick for each key.
fn fill_singly<M: Mode, L: Policy>(
    policy: &L,
    index: &L::Index<M>,
    cx: &Context<'_>,
    keys: &[u64],
    out: &mut [u32],
) -> usize {
    let mut made = 0;
    for (&key, place) in keys.iter().zip(out) {
        let Some(choice) = policy.pick::<M>(index, cx, key) else { break };
        *place = choice.index;
        made += 1;
    }
    made
}

/// The places of members in the pool, when all of them may take a request right now: what a table look-up in bulk
/// needs. `None` when somebody would have to be skipped.
fn all_free(cx: &Context<'_>, members: &[Member]) -> Option<Vec<u32>> {
    members.iter().map(|&m| cx.view.available(m).then_some(m.index)).collect()
}

/// Fills `out` with the places that positions of members stand for.
#[inline(always)]
fn fill_places(places: &[u32], keys: &[u64], out: &mut [u32], position: impl Fn(u64) -> u32) -> usize {
    let mut made = 0;
    if (0u32..).zip(places).all(|(i, &place)| i == place) {
        for (&key, out) in keys.iter().zip(out) {
            *out = position(key);
            made += 1;
        }
    } else {
        for (&key, out) in keys.iter().zip(out) {
            *out = places.get(position(key) as usize).copied().unwrap_or(0);
            made += 1;
        }
    }
    made
}
