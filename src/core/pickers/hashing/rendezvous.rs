//! Rendezvous hashing, also called highest random weight.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::bounded::Bound;
use crate::core::endpoints::{Member, View};
use crate::core::hash;
use crate::core::rng::mix64;
use crate::core::sync::{Mode, Ordering};
use xxhash_rust::xxh64::Xxh64;

/// Whose hash decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// Our own: XXH64 of key and endpoint, mixed, by weight.
    #[default]
    Mixed,
    /// Caddy 2.11: XXH64 of endpoint and key together; weights do not count.
    Caddy,
    /// Traefik 3.7: FNV-1a of key and endpoint together, by weight.
    Traefik,
}

/// Every endpoint draws a number from the key, and the best wins (Thaler and Ravishankar 1998); by weight the number u
/// counts as weight / -ln u (Mosharaf and others; Traefik). When an endpoint goes, only its own keys move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rendezvous {
    /// Whose hash decides.
    pub variant: Variant,
    /// The most that an endpoint may have of the requests in flight; beyond it a key goes to its next best.
    pub bounded_load: Option<Bound>,
}

/// The members with what their texts contribute.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    texts: Vec<std::sync::Arc<str>>,
    seeds: Vec<u64>,
    equal: bool,
    total: f64,
}

impl Rendezvous {
    /// The best of those wanted.
    #[inline(always)]
    fn best(&self, index: &Index, key: u64, cx: &Context<'_>, wanted: impl Fn(Member) -> bool) -> Option<Member> {
        // The number of a draw u in (0, 1): 53 bits, as many as a double holds.
        let share = |x: u64| ((x >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0;
        let text = |i: usize| index.texts.get(i).map_or(&[][..], |text| text.as_bytes());
        match self.variant {
            Variant::Mixed if index.equal => {
                best_of(index, |i, _| mix64(key ^ index.seeds.get(i).copied().unwrap_or(0)), wanted)
            }
            Variant::Mixed => {
                let score = |i: usize, member: Member| {
                    let seed = index.seeds.get(i).copied().unwrap_or(0);
                    member.weight / -libm::log(share(mix64(key ^ seed)))
                };
                best_of(index, score, wanted)
            }
            Variant::Traefik => {
                let score = |i: usize, member: Member| {
                    let u = hash::fnv1a(key, text(i)) as f64 / 18_446_744_073_709_551_616.0;
                    member.weight / -libm::log(u)
                };
                best_of(index, score, wanted)
            }
            Variant::Caddy => {
                // A request without a key brings a number instead of bytes.
                let number = key.to_le_bytes();
                let bytes = if key == 0 { cx.bytes } else { &number };
                let score = |i: usize, _| {
                    let mut state = Xxh64::new(0);
                    state.update(text(i));
                    state.update(bytes);
                    state.digest()
                };
                best_of(index, score, wanted)
            }
        }
    }

    #[inline(never)]
    fn among(&self, index: &Index, key: u64, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        let usable = |m: Member| cx.view.available(m) && allow.is_none_or(|allow| allow(m.index));
        if let Some(bound) = self.bounded_load {
            let inflight = |m: Member| cx.cell(m).map_or(0, |cell| cell.inflight.load(Ordering::Relaxed));
            let slots = bound.slots(index.members.iter().map(|&m| inflight(m)).sum()) as f64;
            let below = |m: Member| (inflight(m) as f64) < (slots * m.weight / index.total).ceil();
            if let Some(member) = self.best(index, key, cx, |m| usable(m) && below(m)) {
                return Some(member.into());
            }
        }
        self.best(index, key, cx, usable).map(Into::into)
    }
}

/// Where the largest number is that a key and a seed make, the first of equals. Nothing but the seeds is looked at.
#[inline(always)]
fn most(seeds: &[u64], key: u64) -> usize {
    let (mut at, mut most) = (0, 0);
    for (i, &seed) in seeds.iter().enumerate() {
        let number = mix64(key ^ seed);
        if number > most {
            (at, most) = (i, number);
        }
    }
    at
}

/// Of the members wanted the one with the largest score, the first of equals.
#[inline(always)]
fn best_of<S: PartialOrd>(
    index: &Index,
    score: impl Fn(usize, Member) -> S,
    wanted: impl Fn(Member) -> bool,
) -> Option<Member> {
    let mut best: Option<(S, Member)> = None;
    for (i, &member) in index.members.iter().enumerate() {
        let score = score(i, member);
        if best.as_ref().is_none_or(|(most, _)| score > *most) && wanted(member) {
            best = Some((score, member));
        }
    }
    best.map(|(_, member)| member)
}

impl Policy for Rendezvous {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;
    const RAW: bool = true;

    #[inline(always)]
    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        Some(match self.variant {
            Variant::Mixed => hash::xxh64(bytes),
            Variant::Traefik => hash::fnv1a(hash::FNV1A_START, bytes),
            Variant::Caddy => 0,
        })
    }

    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        draws.next::<M>() | 1
    }

    fn ready_key(&self, hash: u64) -> Option<u64> {
        match self.variant {
            Variant::Mixed | Variant::Traefik => Some(hash),
            Variant::Caddy => self.whole_key(hash),
        }
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        let texts = members.iter().filter_map(|m| view.hash_keys.get(m.index as usize).cloned());
        let texts: Vec<std::sync::Arc<str>> = texts.collect();
        Index {
            seeds: texts.iter().map(|text| hash::xxh64(text.as_bytes())).collect(),
            texts,
            equal: members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight)),
            total: members.iter().map(|m| m.weight).sum(),
            members: members.to_vec(),
        }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        if self.bounded_load.is_none() {
            let member = match self.variant {
                Variant::Mixed if index.equal => index.members.get(most(&index.seeds, key)).copied()?,
                _ => self.best(index, key, cx, |_| true)?,
            };
            if cx.view.available(member) {
                return Some(member.into());
            }
        }
        self.among(index, key, cx, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.among(index, key, cx, Some(allow))
    }
}
