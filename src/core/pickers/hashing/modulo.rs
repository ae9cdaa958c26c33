//! nginx's `hash`: the key's hash modulo the sum of weights.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::nginx::Line;
use crate::core::endpoints::{Member, View};
use crate::core::hash;
use crate::core::sync::Mode;

/// `hash key` of nginx (1.22 and 1.31): not consistent. Every try adds 15 bits of the key's CRC-32, from the second on
/// with the number of the try before the key. Endpoints that may not be picked keep their part of the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NginxHash;

/// A key is its CRC-32, and its length above: enough to know the CRC-32 of anything before it.
fn tries(key: u64) -> impl Iterator<Item = u64> {
    let part = |crc: u32| u64::from((crc >> 16) & 0x7fff);
    let (crc, length) = (key as u32, key >> 32);
    let first = part(crc);
    std::iter::once(first).chain((1u32..).scan(first, move |sum, attempt| {
        let mut state = crc32fast::Hasher::new();
        state.update(attempt.to_string().as_bytes());
        state.combine(&crc32fast::Hasher::new_with_initial_len(crc, length));
        *sum += part(state.finalize());
        Some(*sum)
    }))
}

impl Policy for NginxHash {
    type Index<M: Mode> = Line<M>;
    const KEYED: bool = true;

    fn plain_keys(&self) -> bool {
        false
    }

    #[inline(always)]
    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        Some((bytes.len() as u64) << 32 | u64::from(hash::crc32(bytes)))
    }

    fn ready_key(&self, hash: u64) -> Option<u64> {
        // A hash alone does not say what the next tries are: it is a key of 8 bytes.
        self.whole_key(hash)
    }

    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        8 << 32 | (draws.next::<M>() >> 32)
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Line<M>], draws: &Draws) -> Line<M> {
        Line::build(view, members, before, draws)
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Line<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        match key {
            0 => index.turn(cx, None),
            key => index.pick(tries(key), cx, None),
        }
    }

    fn choose<M: Mode>(&self, index: &Line<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        match key {
            0 => index.turn(cx, Some(allow)),
            key => index.pick(tries(key), cx, Some(allow)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_tries_hash_their_number_before_the_key() {
        let key = NginxHash.bytes_key(b"user-1").unwrap();
        let mut sum = 0;
        let want: Vec<u64> = ["", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]
            .iter()
            .map(|number| {
                sum += u64::from((hash::crc32(format!("{number}user-1").as_bytes()) >> 16) & 0x7fff);
                sum
            })
            .collect();
        assert_eq!(tries(key).take(12).collect::<Vec<_>>(), want);
    }
}
