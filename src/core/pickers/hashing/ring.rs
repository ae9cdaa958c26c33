//! Envoy's ring.

use super::super::{Allow, Choice, Context, Draws, Policy, all_free, fill_places, fill_singly};
use super::bounded::{Bound, Envoy};
use super::circle::{Circle, GONE, Point};
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::hash;
use crate::core::sync::Mode;
use std::collections::HashMap;
use std::sync::Arc;

/// The largest ring, Envoy's own limit.
pub const MAX_RING: u64 = 8_388_608;

/// By how much weights that differ widely may make a ring larger than its points times its endpoints: one endpoint of
/// next to no weight would otherwise make a ring of millions.
const MOST_GROWTH: u64 = 32;

/// The hash that places the points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PointHash {
    /// XXH64 with seed 0.
    #[default]
    Xxh64,
    /// MurmurHash64A with Envoy's seed.
    Murmur2,
}

/// How large the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingSize {
    /// This many points for an endpoint of the least weight.
    Points(u64),
    /// Envoy's bounds for the whole ring.
    Bounds {
        /// At least this many points.
        min: u64,
        /// At most this many points.
        max: u64,
    },
}

/// Consistent hashing on Envoy's ring (Envoy 1.40, RING_HASH).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingHash {
    /// How large the ring is.
    pub size: RingSize,
    /// What places the points.
    pub hash: PointHash,
    /// Envoy's `hash_balance_factor`.
    pub bounded_load: Option<Bound>,
}

impl Default for RingHash {
    fn default() -> RingHash {
        RingHash { size: RingSize::Points(1024), hash: PointHash::Xxh64, bounded_load: None }
    }
}

impl RingHash {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<RingHash, ConfigError> {
        let whole = |field: &str, v: u64| {
            if (1..=MAX_RING).contains(&v) {
                Ok(())
            } else {
                Err(ConfigError::new(field, v, format!("a whole number from 1 to {MAX_RING}")))
            }
        };
        match self.size {
            RingSize::Points(points) => whole("points", points)?,
            RingSize::Bounds { min, max } => {
                whole("min_size", min)?;
                whole("max_size", max)?;
                if min > max {
                    return Err(ConfigError::new("min_size", min, format!("at most max_size, which is {max}")));
                }
            }
        }
        Ok(self)
    }

    /// Points of a member of the least weight, and that weight; `None` where the size of the whole ring is the rule,
    /// also where widely different weights would make the ring too large.
    fn own_points(&self, members: &[Member]) -> Option<(f64, f64)> {
        let RingSize::Points(points) = self.size else { return None };
        let least = members.iter().map(|m| m.weight).fold(f64::INFINITY, f64::min);
        let points = points as f64;
        let sum: f64 = members.iter().map(|m| (points * (m.weight / least)).round()).sum();
        (sum <= self.bounds(members.len()).1).then_some((points, least))
    }

    fn bounds(&self, members: usize) -> (f64, f64) {
        let (min, max) = match self.size {
            RingSize::Points(points) => {
                let min = points.saturating_mul(members as u64).min(MAX_RING);
                (min, min.saturating_mul(MOST_GROWTH).min(MAX_RING))
            }
            RingSize::Bounds { min, max } => (min, max),
        };
        (min as f64, max as f64)
    }
}

/// The members and their circle.
#[derive(Debug, Default)]
pub struct Index {
    members: Vec<Member>,
    circle: Circle,
    /// What each member's points are made of and how many there are, where its count is its own; else nothing.
    own: Vec<(Arc<str>, u32)>,
}

impl Index {
    #[inline(always)]
    fn owner(&self, at: usize) -> Option<Member> {
        self.members.get(self.circle.owner(at)? as usize).copied()
    }

    /// Walks on from a position until an endpoint can be had. Every endpoint is asked once.
    #[inline(never)]
    fn walk(&self, from: usize, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let mut asked = vec![false; self.members.len()];
        let mut left = self.members.len();
        for place in self.circle.from(from) {
            let seen = asked.get_mut(place as usize)?;
            if std::mem::replace(seen, true) {
                continue;
            }
            let member = self.members.get(place as usize).copied()?;
            if cx.view.available(member) && allow(member.index) {
                return Some(member.into());
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        // A member whose share is less than one point has no place on the ring, and is asked last.
        let rest = self.members.iter().zip(asked).filter(|&(_, asked)| !asked);
        rest.map(|(m, _)| *m).find(|&m| cx.view.available(m) && allow(m.index)).map(Choice::from)
    }
}

impl RingHash {
    fn point(&self, text: &mut String, key: &str, i: u64) -> u64 {
        text.clear();
        text.push_str(key);
        text.push('_');
        push_decimal(text, i);
        match self.hash {
            PointHash::Xxh64 => hash::xxh64(text.as_bytes()),
            PointHash::Murmur2 => hash::murmur64a(text.as_bytes(), hash::ENVOY_MURMUR_SEED),
        }
    }

    /// The circle of members that have their own counts. What has not changed since `before` is taken from there: a sort
    /// of millions of points takes long.
    fn circle_of(&self, own: &[(Arc<str>, u32)], before: &[&Index]) -> Circle {
        let mut text = String::new();
        let mut points = Vec::new();
        let mut make = |place: u32, key: &str, count: u32, points: &mut Vec<Point>| {
            points.extend((0..u64::from(count)).map(|i| Point { hash: self.point(&mut text, key, i), owner: place }));
        };
        if let Some(old) = before.iter().max_by_key(|index| index.own.len()) {
            let mut known: HashMap<&(Arc<str>, u32), u32> = old.own.iter().zip(0u32..).collect();
            let mut now = vec![GONE; old.own.len()];
            let mut fresh = Vec::new();
            for (place, member) in (0u32..).zip(own) {
                // Taken out, for two members may have one text.
                match known.remove(member).and_then(|at| now.get_mut(at as usize)) {
                    Some(now) => *now = place,
                    None => fresh.push((place, member)),
                }
            }
            if fresh.len() < own.len() / 2 {
                fresh.iter().for_each(|(place, (key, count))| make(*place, key, *count, &mut points));
                return old.circle.changed(&now, points);
            }
        }
        (0u32..).zip(own).for_each(|(place, (key, count))| make(place, key, *count, &mut points));
        Circle::new(points)
    }

    /// A pick that is not simply the key's home.
    #[inline(never)]
    fn slowly(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Option<Allow<'_>>) -> Option<Choice> {
        let anybody = allow.unwrap_or(&|_| true);
        let home = index.walk(index.circle.find(key), cx, anybody)?;
        match self.bounded_load {
            Some(bound) => Envoy { bound, members: &index.members, key, allow }.pick(home, cx),
            None => Some(home),
        }
    }
}

impl Policy for RingHash {
    type Index<M: Mode> = Index;
    const KEYED: bool = true;

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index], _: &Draws) -> Index {
        if let Some((points, least)) = self.own_points(members) {
            // Each member's count is its own: another that comes or goes moves none of its points.
            let count = |m: &Member| (points * (m.weight / least)).round() as u32;
            let key = |m: &Member| view.hash_keys.get(m.index as usize).cloned().unwrap_or_default();
            let own: Vec<_> = members.iter().map(|m| (key(m), count(m))).collect();
            return Index { members: members.to_vec(), circle: self.circle_of(&own, before), own };
        }
        let total: f64 = members.iter().map(|m| m.weight).sum();
        let least = members.iter().map(|m| m.weight / total).fold(f64::INFINITY, f64::min);
        let (min, max) = self.bounds(members.len());
        // Envoy scales so that the least weight gets a whole number of points, in double arithmetic whose rounding
        // decides where fractions run over from one host to the next.
        let scale = ((least * min).ceil() / least).min(max);
        let room = if scale.is_finite() { scale.ceil() as usize } else { 0 };
        let mut points = Vec::with_capacity(room);
        let (mut current, mut target) = (0.0, 0.0);
        let mut text = String::new();
        for (place, member) in (0u32..).zip(members) {
            let key = view.hash_keys.get(member.index as usize).map_or("", |k| k);
            target += scale * (member.weight / total);
            let mut i = 0u64;
            while current < target {
                points.push(Point { hash: self.point(&mut text, key, i), owner: place });
                i += 1;
                current += 1.0;
            }
        }
        Index { members: members.to_vec(), circle: Circle::new(points), own: Vec::new() }
    }

    fn build_cost(&self, members: usize) -> u64 {
        let (min, max) = self.bounds(members);
        min.max(members as f64).min(max) as u64 * 100
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.quick::<M>(index, cx, key).or_else(|| self.go_on::<M>(index, cx, key))
    }

    const QUICK: bool = true;

    #[inline(always)]
    fn quick<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let at = index.circle.find(key);
        let member = index.owner(at)?;
        if cx.view.available(member) && self.bounded_load.is_none() {
            return Some(member.into());
        }
        None
    }

    fn go_on<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.slowly(index, cx, key, None)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        self.slowly(index, cx, key, Some(allow))
    }

    fn fill_keys<M: Mode>(&self, index: &Index, cx: &Context<'_>, keys: &[u64], out: &mut [u32]) -> usize {
        match all_free(cx, &index.members) {
            Some(places) if index.circle.len() > 0 && self.bounded_load.is_none() => {
                fill_places(&places, keys, out, |key| index.circle.owner_of(key))
            }
            _ => fill_singly::<M, Self>(self, index, cx, keys, out),
        }
    }
}

pub(super) fn push_decimal(text: &mut String, n: u64) {
    if n >= 10 {
        push_decimal(text, n / 10);
    }
    text.push(char::from(b'0' + (n % 10) as u8));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::Endpoint;
    use crate::core::pool::options::Options;
    use crate::core::pool::{Pool, picker::Picker};
    use crate::core::rng::Rng;
    use crate::core::sync::Exclusive;
    use crate::core::time::Nanos;

    fn endpoint(i: u32, weight: f64) -> Endpoint<()> {
        let id: Arc<str> = format!("e{i}").into();
        Endpoint {
            id,
            // Some share a place on the ring.
            hash_key: format!("host{}", i % 40).into(),
            weight,
            backup: false,
            priority: 0,
            zone: "".into(),
            max_inflight: u32::MAX,
            passive: None,
            payload: (),
        }
    }

    #[test]
    fn a_ring_that_has_changed_is_one_made_anew() {
        let made = (0..50).map(|i| endpoint(i, f64::from(1 + i % 4))).collect();
        let pool = Pool::<Exclusive, ()>::new(made, Options::default()).unwrap();
        let policy = RingHash { size: RingSize::Points(30), ..RingHash::default() };
        let picker = Picker::new(&pool, policy.clone());
        let mut rng = Rng::new(9);
        for step in 0..120u32 {
            let who = format!("e{}", rng.below(50));
            match rng.below(5) {
                0 => _ = pool.remove(&who),
                1 => _ = pool.add(endpoint(rng.below(50), 2.0), Nanos::ZERO),
                // Less than the least of the others now and then, which changes everybody's points.
                2 => _ = pool.set_weight(&who, 0.5, |()| Some(())),
                3 => pool.update((0..50).rev().map(|i| endpoint(i, 1.0)).collect(), Nanos::ZERO).unwrap(),
                _ => _ = pool.set_weight(&who, f64::from(1 + rng.below(4)), |()| Some(())),
            }
            pool.advance(Nanos::ZERO);
            let (state, anew) = (picker.state(), Picker::new(&pool, policy.clone()));
            for key in 0..300u64 {
                let key = hash::xxh64(&key.to_le_bytes());
                let choices = (
                    picker.pick(&state, Some(key.into()), Nanos(0)),
                    anew.pick(&anew.state(), Some(key.into()), Nanos(0)),
                );
                assert_eq!(choices.0, choices.1, "step {step}");
            }
        }
    }
}
