//! nginx's `ip_hash`.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::nginx::Line;
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;
use std::net::IpAddr;

const FACTOR: u64 = 113;
const MODULUS: u64 = 6271;
const START: u64 = 89;

/// `ip_hash` of nginx (1.22 and 1.31): the first three bytes of an IPv4 address, all of an IPv6 address. Endpoints that
/// may not be picked keep their part of the sum of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpHash;

/// One round over the address takes h to h * factor + rest: those two numbers are all there is to a key.
fn packed(bytes: &[u8]) -> u64 {
    let (factor, rest) = bytes
        .iter()
        .fold((1, 0), |(factor, rest), &byte| (factor * FACTOR % MODULUS, (rest * FACTOR + u64::from(byte)) % MODULUS));
    factor << 32 | rest
}

fn tries(key: u64) -> impl Iterator<Item = u64> {
    let (factor, rest) = (key >> 32, key & u64::from(u32::MAX));
    std::iter::successors(Some(START), move |h| Some((h * factor + rest) % MODULUS)).skip(1)
}

impl IpHash {
    fn address_key(address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => packed(v4.octets().get(..3).unwrap_or(&[])),
            IpAddr::V6(v6) => packed(&v6.octets()),
        }
    }
}

impl Policy for IpHash {
    type Index<M: Mode> = Line<M>;
    const KEYED: bool = true;

    fn keys(&self) -> &'static str {
        super::ADDRESSES
    }

    fn plain_keys(&self) -> bool {
        false
    }

    fn text_key(&self, text: &str) -> Option<u64> {
        text.parse().ok().map(IpHash::address_key)
    }

    fn bytes_key(&self, bytes: &[u8]) -> Option<u64> {
        super::packed_address(bytes).map(IpHash::address_key)
    }

    fn whole_key(&self, number: u64) -> Option<u64> {
        u32::try_from(number).ok().map(|v4| IpHash::address_key(IpAddr::V4(v4.into())))
    }

    fn ready_key(&self, _: u64) -> Option<u64> {
        None
    }

    fn no_key<M: Mode>(&self, draws: &Draws) -> u64 {
        IpHash::address_key(IpAddr::V4(((draws.next::<M>() >> 32) as u32).into()))
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Line<M>], draws: &Draws) -> Line<M> {
        Line::build(view, members, before, draws)
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Line<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        index.pick(tries(key), cx, None)
    }

    fn choose<M: Mode>(&self, index: &Line<M>, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        index.pick(tries(key), cx, Some(allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_go_on_from_the_hash_before() {
        let mut h = START;
        let want: Vec<u64> = (0..30)
            .map(|_| {
                for byte in [10, 20, 255] {
                    h = (h * FACTOR + byte) % MODULUS;
                }
                h
            })
            .collect();
        let key = IpHash.text_key("10.20.255.7").unwrap();
        assert_eq!(tries(key).take(30).collect::<Vec<_>>(), want);
        assert_eq!(Some(key), IpHash.whole_key(0x0a14_ff00));
        assert_ne!(IpHash.text_key("::ffff:10.20.255.7"), Some(key));
        assert_eq!(IpHash.text_key("10.20.255"), None);
    }
}
