//! Weights as places of one unit each, where an algorithm knows only equal places.
//!
//! An endpoint has a place for each unit of weight, and one more for what is left over, which takes only that part of
//! the keys that come by. So every weight counts exactly, and a weight that changes moves keys of that endpoint alone.

use super::super::Context;
use crate::core::endpoints::{Member, View};
use crate::core::hash;
use crate::core::rng::mix64;

/// The most places of one endpoint.
pub(super) const MOST: f64 = 64.0;

/// The rest of a weight that is not worth a place.
const NOTHING: f64 = 1e-9;

/// Makes what is drawn for a share independent of all else that a key is hashed for.
const SALT: u64 = 0x2545_f491_4f6c_dd1d;

/// A share that takes every key.
pub(super) const WHOLE: u64 = u64::MAX;

fn power_of_two_at_least(x: f64) -> f64 {
    libm::exp2(libm::ceil(libm::log2(x)))
}

/// The unit that suits a largest weight: 1 from 1 to 64, else the power of two that brings it there. It depends on
/// nothing else, so that endpoints that come and go seldom change it.
pub(super) fn unit(most: f64) -> f64 {
    if most > MOST {
        power_of_two_at_least(most / MOST)
    } else if most > 0.0 {
        power_of_two_at_least(most).min(1.0)
    } else {
        1.0
    }
}

/// The largest weight of a pool, whether its owner may be picked or not.
pub(super) fn largest(view: &View) -> f64 {
    view.weights.iter().copied().fold(0.0, f64::max)
}

/// How many places a weight has, and the share of the last one.
pub(super) fn places(weight: f64, unit: f64) -> (u32, u64) {
    let units = weight / unit;
    let (whole, rest) = (libm::floor(units), units - libm::floor(units));
    if rest < NOTHING && whole >= 1.0 {
        return (whole as u32, WHOLE);
    }
    (whole as u32 + 1, ((rest * 18_446_744_073_709_551_616.0) as u64).max(1))
}

/// Whether a place of this share takes a key.
#[inline(always)]
pub(super) fn takes(share: u64, key: u64, place: u64) -> bool {
    share == WHOLE || mix64(key ^ mix64(place ^ SALT)) < share
}

/// The best of some members by weighted rendezvous: where the places give no answer, this does, and moves no key that it
/// need not move either.
pub(super) fn rendezvous(
    key: u64,
    cx: &Context<'_>,
    members: impl Iterator<Item = Member>,
    usable: impl Fn(Member) -> bool,
) -> Option<Member> {
    let mut best: Option<(f64, Member)> = None;
    for member in members.filter(|&m| usable(m)) {
        let seed = cx.view.hash_keys.get(member.index as usize).map_or(0, |text| hash::xxh64(text.as_bytes()));
        let u = ((mix64(key ^ mix64(seed ^ SALT)) >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0;
        let score = member.weight / -libm::log(u);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, member));
        }
    }
    best.map(|(_, member)| member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_brings_the_largest_weight_to_64_places_at_most() {
        for (most, expected) in [(1.0, 1.0), (7.5, 1.0), (64.0, 1.0), (65.0, 2.0), (128.0, 2.0), (100.0, 2.0)] {
            assert_eq!(unit(most), expected, "{most}");
        }
        assert_eq!((unit(0.1), unit(0.5), unit(0.6), unit(0.0)), (0.125, 0.5, 1.0, 1.0));
        for most in [f64::MIN_POSITIVE, 1e-300, 1e300, f64::MAX] {
            let places = most / unit(most);
            assert!((0.49..=65.0).contains(&places), "{most} {places}");
        }
    }

    #[test]
    fn a_weight_is_whole_places_and_a_rest() {
        assert_eq!(places(1.0, 1.0), (1, WHOLE));
        assert_eq!(places(5.0, 1.0), (5, WHOLE));
        assert_eq!(places(2.5, 1.0), (3, 1 << 63));
        assert_eq!(places(1e-300, 1.0), (1, 1));
        assert_eq!(places(0.3, 0.1).0, 3);
    }
}
