//! Multi-probe consistent hashing.

use super::super::{Allow, Choice, Context, Draws, Policy};
use super::circle::{Circle, Point};
use super::ring::push_decimal;
use super::units;
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::hash;
use crate::core::rng;
use crate::core::sync::Mode;

/// The most probes.
pub const MAX_PROBES: u32 = 1024;

/// One point a unit of weight on a circle, and several probes a key, of which the one that is closest to the point after
/// it decides (Appleton and O'Reilly, "Multi-probe consistent hashing", 2015). Even with little memory: a share
/// exceeds the mean by about 1 / (probes - 1) at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiProbe {
    /// Probes for each key.
    pub probes: u32,
}

impl Default for MultiProbe {
    fn default() -> MultiProbe {
        MultiProbe { probes: 21 }
    }
}

impl MultiProbe {
    /// Checks the parameter.
    ///
    /// # Errors
    /// [`ConfigError`] naming it.
    pub fn check(self) -> Result<MultiProbe, ConfigError> {
        if (1..=MAX_PROBES).contains(&self.probes) {
            Ok(self)
        } else {
            Err(ConfigError::new("probes", self.probes, format!("a whole number from 1 to {MAX_PROBES}")))
        }
    }
}

/// A point's owner, as a position among the members, its share, and what tells it from others when a key asks.
#[derive(Clone, Copy, Debug)]
struct Place {
    member: u32,
    share: u64,
    hash: u64,
}

/// The circle, whose owners are places, and the members.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    places: Vec<Place>,
    circle: Circle,
}

impl Index {
    fn place(&self, at: usize) -> Option<Place> {
        self.places.get(self.circle.owner(at)? as usize).copied()
    }

    fn member(&self, place: Place) -> Option<Member> {
        self.members.get(place.member as usize).copied()
    }
}

impl MultiProbe {
    #[inline(always)]
    fn probes(self, key: u64) -> impl Iterator<Item = u64> {
        let start = rng::mix64(key);
        (0..u64::from(self.probes)).map(move |i| rng::draw(start, i))
    }

    /// The position of the point that the closest probe finds.
    #[inline(always)]
    fn closest(self, index: &Index, key: u64) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for probe in self.probes(key) {
            let at = index.circle.find(probe);
            let distance = index.circle.point(at)?.hash.wrapping_sub(probe);
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// The same, as if points that do not take the key and members that may not be had were not on the circle.
    #[inline(never)]
    fn among(self, index: &Index, cx: &Context<'_>, key: u64, allow: Option<Allow<'_>>) -> Option<Choice> {
        let usable = |m: Member| cx.view.available(m) && allow.is_none_or(|allow| allow(m.index));
        let mut best: Option<(u64, Member)> = None;
        for probe in self.probes(key) {
            let mut at = index.circle.find(probe);
            for _ in 0..index.circle.len() {
                let distance = index.circle.point(at)?.hash.wrapping_sub(probe);
                // What is further than the best so far need not be asked.
                if best.is_some_and(|(least, _)| distance >= least) {
                    break;
                }
                let place = index.place(at)?;
                let member = index.member(place)?;
                if units::takes(place.share, key, place.hash) && usable(member) {
                    best = Some((distance, member));
                    break;
                }
                at = if at + 1 < index.circle.len() { at + 1 } else { 0 };
            }
            if best.is_none() {
                break;
            }
        }
        let found = best.map(|(_, member)| member);
        // Only rests of weights are left, and none of them takes this key.
        found.or_else(|| units::rendezvous(key, cx, index.members.iter().copied(), usable)).map(Choice::from)
    }
}

impl Policy for MultiProbe {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        let unit = units::unit(units::largest(view));
        let (mut places, mut points) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
        let mut text = String::new();
        for (position, member) in (0u32..).zip(members) {
            let key = view.hash_keys.get(member.index as usize).map_or("", |k| k);
            let (count, last) = units::places(member.weight, unit);
            for i in 0..count {
                text.clear();
                text.push_str(key);
                text.push('_');
                push_decimal(&mut text, u64::from(i));
                let hash = hash::xxh64(text.as_bytes());
                points.push(Point { hash, owner: places.len() as u32 });
                let share = if i + 1 == count { last } else { units::WHOLE };
                places.push(Place { member: position, share, hash });
            }
        }
        Index { members: members.to_vec(), places, circle: Circle::new(points) }
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 200
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let place = index.place(self.closest(index, key)?)?;
        let member = index.member(place)?;
        if units::takes(place.share, key, place.hash) && cx.view.available(member) {
            return Some(member.into());
        }
        self.among(index, cx, key, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.among(index, cx, key, Some(allow))
    }
}
