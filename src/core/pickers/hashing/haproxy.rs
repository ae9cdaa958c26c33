//! HAProxy's consistent and map-based hashes (2.6 and 2.8), for keys and for source addresses.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::bounded::Bound;
use super::circle::{Circle, Point};
use crate::core::endpoints::{Member, View};
use crate::core::hash::{self, KeyHash};
use crate::core::sync::{Mode, Ordering};
use std::net::IpAddr;

/// Nodes for a unit of weight.
const SCALE: f64 = 16.0;

/// The most nodes of one endpoint: HAProxy's largest weight, 256, times 16.
const MAX_NODES: f64 = 4096.0;

/// The most entries of a map whose weights are taken as they are.
const MAX_MAP: u64 = 65_536;

/// What a key is and how it becomes 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Any bytes, by a hash function.
    Bytes(KeyHash),
    /// A client's address, whose words are added without carry.
    Source,
}

/// What a hash is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// `hash-type consistent`: the nearest node of a ring, on either side.
    Ring {
        /// `hash-balance-factor`.
        bounded_load: Option<Bound>,
    },
    /// `hash-type map-based`: a table as long as the sum of weights over their greatest common divisor.
    Map,
}

/// Hashing as HAProxy does it. Endpoints that may not be picked are not in ring or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Haproxy {
    /// How keys are hashed.
    pub keys: Keys,
    /// Whether the full avalanche follows.
    pub avalanche: bool,
    /// Where the hash is looked up.
    pub lookup: Lookup,
}

impl Haproxy {
    fn finished(&self, hash: u32) -> Option<u64> {
        Some(u64::from(if self.avalanche { hash::avalanche(hash) } else { hash }))
    }

    fn source_key(&self, address: Option<IpAddr>) -> Option<u64> {
        let words = |octets: &[u8]| {
            let word = |four: &[u8]| four.iter().fold(0u32, |word, &b| word << 8 | u32::from(b));
            octets.chunks(4).fold(0, |hash, four| hash ^ word(four))
        };
        self.finished(match address? {
            IpAddr::V4(v4) => words(&v4.octets()),
            IpAddr::V6(v6) => words(&v6.octets()),
        })
    }
}

/// The ring or the map, as positions of members.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    ring: Circle,
    map: Vec<u32>,
    /// Nodes of each member, and of those before it.
    shares: Vec<(u64, u64)>,
    total: u64,
}

impl Index {
    /// The node nearest to a hash; of two at the same distance the one before it.
    #[inline(always)]
    fn nearest(&self, hash: u32) -> Option<usize> {
        let at = self.ring.find(u64::from(hash) << 32);
        let before = at.checked_sub(1).unwrap_or(self.ring.len().checked_sub(1)?);
        let place = |at| self.ring.point(at).map(|point| (point.hash >> 32) as u32);
        let (back, ahead) = (hash.wrapping_sub(place(before)?), place(at)?.wrapping_sub(hash));
        Some(if back <= ahead { before } else { at })
    }

    fn member(&self, position: u32) -> Option<Member> {
        self.members.get(position as usize).copied()
    }

    /// Whether a member has fewer requests than its part of the bound.
    fn below(&self, bound: Option<Bound>, position: u32, inflight: u64, cx: &Context<'_>) -> bool {
        let Some(bound) = bound else { return true };
        let Some(&(own, before)) = self.shares.get(position as usize) else { return false };
        let slots = bound.slots(inflight);
        let (each, rest) = (slots / self.total.max(1), slots % self.total.max(1));
        let upto = |nodes: u64| nodes * rest / self.total.max(1);
        let part = own * each + upto(before + own) - upto(before);
        let served = self.member(position).and_then(|m| cx.cell(m)).map(|c| c.inflight.load(Ordering::Relaxed));
        served.is_some_and(|served| served < part.max(1))
    }

    /// Nodes of a member, by its place in the pool.
    pub(in crate::core::pickers) fn nodes(&self, index: u32) -> u64 {
        let position = self.members.partition_point(|m| m.index < index);
        self.shares.get(position).map_or(1, |&(own, _)| own)
    }

    #[inline(never)]
    fn walk(&self, lookup: Lookup, key: u64, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        let usable = |m: Member| cx.view.available(m) && allow.is_none_or(|allow| allow(m.index));
        let Lookup::Ring { bounded_load } = lookup else {
            // HAProxy asks round robin here; going on from the entry keeps a key's second choice.
            let at = key.checked_rem(self.map.len() as u64)? as usize;
            let (head, tail) = (self.map.get(..at)?, self.map.get(at..)?);
            return tail.iter().chain(head).filter_map(|&p| self.member(p)).find(|&m| usable(m)).map(Into::into);
        };
        let from = self.nearest(key as u32)?;
        let inflight = if bounded_load.is_some() { super::bounded::inflight(cx.view) } else { 0 };
        let home = self.ring.owner(from)?;
        if let Some(member) = self.member(home).filter(|&m| usable(m) && self.below(bounded_load, home, inflight, cx)) {
            return Some(member.into());
        }
        let mut asked = vec![false; self.members.len()];
        let mut above = None;
        for position in self.ring.from(from) {
            if std::mem::replace(asked.get_mut(position as usize)?, true) {
                continue;
            }
            let Some(member) = self.member(position).filter(|&m| usable(m)) else { continue };
            if self.below(bounded_load, position, inflight, cx) {
                return Some(member.into());
            }
            above = above.or(Some(member));
        }
        // Everybody below the bound is out of reach: better one request too many than none served.
        above.map(Into::into)
    }
}

/// A server's place on the ring: its number, given as `hash_key`, or a hash of any other text.
fn place(key: &str) -> u32 {
    match key.parse::<u32>() {
        Ok(number) => number.wrapping_mul(4096),
        Err(_) => hash::xxh32(key.as_bytes()),
    }
}

fn ring(view: &View, members: &[Member]) -> Index {
    let most = members.iter().fold(0.0f64, |most, m| most.max(m.weight * SCALE));
    let scale = SCALE * (MAX_NODES / most).min(1.0);
    let (mut total, mut points) = (0, Vec::new());
    let mut shares = Vec::with_capacity(members.len());
    for (owner, member) in (0u32..).zip(members) {
        let place = place(view.hash_keys.get(member.index as usize).map_or("", |k| k));
        let nodes = ((member.weight * scale).round() as u32).max(1);
        for node in 0..nodes {
            points.push(Point { hash: u64::from(hash::avalanche(place.wrapping_add(node))) << 32, owner });
        }
        shares.push((u64::from(nodes), total));
        total += u64::from(nodes);
    }
    Index { members: members.to_vec(), ring: Circle::new(points), map: Vec::new(), shares, total }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

/// Whole weights without a common divisor.
fn reduced(members: &[Member]) -> Vec<u64> {
    let scaled = |scale: f64| -> Vec<u64> {
        let whole: Vec<u64> = members.iter().map(|m| ((m.weight * scale).round() as u64).max(1)).collect();
        let divisor = whole.iter().fold(0, |a, &b| gcd(a, b)).max(1);
        whole.into_iter().map(|w| w / divisor).collect()
    };
    let most = members.iter().fold(0.0f64, |most, m| most.max(m.weight));
    let whole = members.iter().all(|m| m.weight.fract() == 0.0);
    let as_is = if whole { scaled(1.0) } else { Vec::new() };
    let longest = MAX_MAP.max(members.len() as u64);
    if whole && as_is.iter().try_fold(0u64, |sum, &w| sum.checked_add(w)).is_some_and(|sum| sum <= longest) {
        as_is
    } else {
        scaled(256.0 / most)
    }
}

/// Every entry goes to the first of those with the largest score in whole rounds, which then pays a round.
fn map(members: &[Member]) -> Vec<u32> {
    let weights = reduced(members);
    let total: i64 = weights.iter().map(|&w| w as i64).sum();
    if total as usize == members.len() {
        return (0..members.len() as u32).collect();
    }
    let mut scores = vec![0i64; weights.len()];
    (0..total)
        .filter_map(|_| {
            let mut best: Option<(i64, u32)> = None;
            for ((score, &weight), position) in scores.iter_mut().zip(&weights).zip(0u32..) {
                *score += weight as i64;
                let rounds = (*score + total).checked_div(total).unwrap_or(0);
                if best.is_none_or(|(most, _)| rounds > most) {
                    best = Some((rounds, position));
                }
            }
            let (_, position) = best?;
            *scores.get_mut(position as usize)? -= total;
            Some(position)
        })
        .collect()
}

impl Policy for Haproxy {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn keys(&self) -> &'static str {
        match self.keys {
            Keys::Bytes(_) => super::ANYTHING,
            Keys::Source => super::ADDRESSES,
        }
    }

    fn plain_keys(&self) -> bool {
        false
    }

    fn text_key(&self, text: &str) -> Option<u64> {
        match self.keys {
            Keys::Bytes(_) => self.bytes_key(text.as_bytes()),
            Keys::Source => self.source_key(text.parse().ok()),
        }
    }

    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        match self.keys {
            Keys::Bytes(function) => self.finished(function.of(bytes)),
            Keys::Source => self.source_key(super::packed_address(bytes)),
        }
    }

    fn whole_key(&self, number: u64) -> Option<u64> {
        match self.keys {
            Keys::Bytes(_) => self.bytes_key(&number.to_le_bytes()),
            Keys::Source => self.source_key(u32::try_from(number).ok().map(|v4| IpAddr::V4(v4.into()))),
        }
    }

    fn ready_key(&self, hash: u64) -> Option<u64> {
        Some(hash & u64::from(u32::MAX))
    }

    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        draws.next::<M>() >> 32
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        match self.lookup {
            Lookup::Ring { .. } => ring(view, members),
            Lookup::Map => Index { members: members.to_vec(), map: map(members), ..Index::default() },
        }
    }

    fn build_cost(&self, members: usize) -> u64 {
        let members = members as u64;
        match self.lookup {
            Lookup::Ring { .. } => members * 64 * 60,
            // Every entry asks everybody.
            Lookup::Map => (members * members * 16).min(MAX_MAP.max(members) * members) * 2,
        }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let position = match self.lookup {
            Lookup::Ring { bounded_load: None } => index.ring.owner(index.nearest(key as u32)?)?,
            Lookup::Ring { .. } => return index.walk(self.lookup, key, cx, None),
            Lookup::Map => index.map.get(key.checked_rem(index.map.len() as u64)? as usize).copied()?,
        };
        let member = index.member(position)?;
        if cx.view.available(member) {
            return Some(member.into());
        }
        index.walk(self.lookup, key, cx, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        index.walk(self.lookup, key, cx, Some(allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[f64]) -> Vec<Member> {
        (0u32..).zip(weights).map(|(i, &weight)| Member { index: i, slot: i, weight }).collect()
    }

    #[test]
    fn a_map_of_equals_is_their_order_and_others_are_spread() {
        assert_eq!(map(&members(&[7.0, 7.0, 7.0])), [0, 1, 2]);
        let weights = [3.0, 5.0, 7.0, 2.0];
        let got = map(&members(&weights));
        for (position, weight) in (0u32..).zip(weights) {
            assert_eq!(got.iter().filter(|&&p| p == position).count(), weight as usize);
        }
        assert_eq!(map(&members(&[0.5, 1.0])).len(), 3);
        assert!(map(&members(&[1e15, 1.0])).len() <= 257);
    }

    #[test]
    fn the_words_of_an_address_are_added_without_carry() {
        let policy = Haproxy { keys: Keys::Source, avalanche: false, lookup: Lookup::Map };
        assert_eq!(policy.text_key("127.0.0.1"), Some(0x7f00_0001));
        assert_eq!(policy.text_key("1:2:3:4:5:6:7:8"), Some(0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008));
        assert_eq!(policy.bytes_key(&[127, 0, 0, 1]), Some(0x7f00_0001));
        assert_eq!(policy.text_key("nobody"), None);
    }
}
