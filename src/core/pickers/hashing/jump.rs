//! Jump hashes: no table, and only the last endpoint of the pool can go without moving the keys of others.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::nginx::{Peer, peers};
use crate::core::endpoints::{Member, View};
use crate::core::rng::mix64;
use crate::core::sync::Mode;

/// The step of SplitMix64's counter.
pub(super) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How often a key whose bucket cannot be had is hashed on before all endpoints are asked.
pub(super) const REHASHES: u64 = 32;

/// The most buckets that weights may make before they are scaled down together.
const MAX_BUCKETS: u64 = 1 << 20;

/// A bucket is a unit of weight, after weights have lost their common divisor; endpoints stand in the pool's order.
/// Those that may not be picked keep their buckets, so that the others keep their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Lamping and Veach (2014): about ln n steps.
    Jump,
    /// JumpBackHash (Ertl 2024) over SplitMix64: at most 5/3 random numbers on average.
    JumpBack,
}

/// The endpoints, and who owns each bucket; nothing where it is one each.
#[derive(Debug, Default)]
pub struct Index {
    peers: Vec<Peer>,
    owners: Vec<u32>,
}

pub(super) fn jump(mut key: u64, buckets: u64) -> u64 {
    let (mut bucket, mut next) = (0u64, 0u64);
    while next < buckets {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket
}

fn jump_back(key: u64, buckets: u64) -> u64 {
    let mut state = key;
    let mut draw = || {
        state = state.wrapping_add(STEP);
        mix64(state)
    };
    if buckets < 2 {
        return 0;
    }
    let first = draw();
    let mut left = (first ^ (first >> 32)) & (buckets.next_power_of_two() - 1);
    while left != 0 {
        let top = 1u64 << (63 - left.leading_zeros());
        let candidate = top + ((first >> (32 * (left.count_ones() % 2))) & (top - 1));
        if candidate < buckets {
            return candidate;
        }
        'draws: loop {
            let drawn = draw();
            for half in [drawn, drawn >> 32] {
                let value = half & (2 * top - 1);
                if value < top {
                    break 'draws;
                }
                if value < buckets {
                    return value;
                }
            }
        }
        left ^= top;
    }
    0
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

impl Jump {
    #[inline(always)]
    fn peer(self, index: &Index, key: u64) -> Option<(usize, Peer)> {
        let buckets = if index.owners.is_empty() { index.peers.len() } else { index.owners.len() } as u64;
        let bucket = match self {
            Jump::Jump => jump(key, buckets),
            Jump::JumpBack => jump_back(key, buckets),
        } as usize;
        let place = if index.owners.is_empty() { bucket } else { *index.owners.get(bucket)? as usize };
        Some((place, index.peers.get(place).copied()?))
    }

    #[inline(never)]
    fn walk(self, index: &Index, cx: &Context<'_>, key: u64, allow: Option<Allow<'_>>) -> Option<Choice> {
        let usable = |peer: &Peer| {
            peer.eligible && cx.view.available(peer.member) && allow.is_none_or(|allow| allow(peer.member.index))
        };
        let mut at = 0;
        for attempt in 0..REHASHES {
            let key = if attempt == 0 { key } else { mix64(key ^ attempt.wrapping_mul(STEP)) };
            let (place, peer) = self.peer(index, key)?;
            if usable(&peer) {
                return Some(peer.member.into());
            }
            at = place;
        }
        let (head, tail) = (index.peers.get(..at)?, index.peers.get(at..)?);
        tail.iter().chain(head).find(|peer| usable(peer)).map(|peer| peer.member.into())
    }
}

impl Policy for Jump {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        let peers = peers(view, members);
        let divisor = peers.iter().fold(0, |a, p| gcd(a, p.weight)).max(1);
        let total: u64 = peers.iter().map(|p| p.weight / divisor).sum();
        let owners = if total == peers.len() as u64 {
            Vec::new()
        } else {
            let scale = (MAX_BUCKETS as f64 / total as f64).min(1.0);
            let buckets = |p: &Peer| (((p.weight / divisor) as f64 * scale).round() as usize).max(1);
            (0u32..).zip(&peers).flat_map(|(i, p)| std::iter::repeat_n(i, buckets(p))).collect()
        };
        Index { peers, owners }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let (_, peer) = self.peer(index, key)?;
        if peer.eligible && cx.view.available(peer.member) {
            return Some(peer.member.into());
        }
        self.walk(index, cx, key, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.walk(index, cx, key, Some(allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_buckets() {
        let known = [(1, 1, 0), (3_735_883_980, 666, 361), (1, 128, 55), (129, 128, 120)];
        let far =
            [(10_863_919_174_838_991, 11, 6), (2_016_238_256_797_177_309, 11, 3), (1_673_758_223_894_951_030, 11, 5)];
        for (key, buckets, bucket) in known.into_iter().chain(far) {
            assert_eq!(jump(key, buckets), bucket);
        }
        let keys = [9_184_114_998_275_508_886, 7_090_183_756_869_893_925, 9_650_971_699_621_254_459];
        assert_eq!(keys.map(|key| jump_back(key, 3)), [1, 0, 2]);
    }

    #[test]
    fn another_bucket_takes_keys_and_moves_none_between_the_others() {
        for of in [jump, jump_back] {
            for key in (0..2000).map(mix64) {
                for buckets in 1..40 {
                    let (before, after) = (of(key, buckets), of(key, buckets + 1));
                    assert!(before < buckets && (after == before || after == buckets));
                }
            }
        }
    }
}
