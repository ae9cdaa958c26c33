//! Bounded loads: no endpoint gets more than its share of the requests in flight times a factor.
//!
//! After Mirrokni, Thorup and Zadimoghaddam (2016); the arithmetic is that of Envoy 1.40 and HAProxy 2.6 and 2.8.

use super::super::{Allow, Choice, Context};
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::sync::Ordering;
use rand_mt::Mt;

/// The largest factor: HAProxy's own limit.
const MAX_FACTOR: f64 = 655.35;

/// By how much an endpoint's share of the requests in flight may be exceeded, in whole percent as Envoy and HAProxy
/// have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(u32);

impl Bound {
    /// From a factor such as 1.25.
    ///
    /// # Errors
    /// [`ConfigError`] for a factor below 1 or above 655.35, or with more than two decimals.
    pub fn new(factor: f64) -> Result<Bound, ConfigError> {
        let percent = (factor * 100.0).round();
        if !((1.0..=MAX_FACTOR).contains(&factor) && (percent / 100.0 - factor).abs() < 1e-9) {
            let allowed = "a factor from 1 to 655.35 in whole percent, such as 1.25";
            return Err(ConfigError::new("bounded_load", factor, allowed));
        }
        Ok(Bound(percent as u32))
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// How many requests all endpoints together may have, the new one included.
    pub(super) fn slots(self, inflight: u64) -> u64 {
        (inflight + 1).saturating_mul(u64::from(self.0)).saturating_add(99) / 100
    }
}

/// Requests in flight in the whole pool.
pub(super) fn inflight(view: &View) -> u64 {
    let cells = view.slots.iter().filter_map(|&slot| view.block.cell(slot));
    cells.map(|cell| cell.inflight.load(Ordering::Relaxed)).sum()
}

/// Envoy's rule: an endpoint may have one request more than its slots, and a key whose home is over that is offered to
/// the others in an order that the key shuffles.
pub(super) struct Envoy<'a> {
    pub bound: Bound,
    pub members: &'a [Member],
    pub key: u64,
    pub allow: Option<Allow<'a>>,
}

impl Envoy<'_> {
    /// The load of a member relative to its slots.
    fn load(&self, cx: &Context<'_>, slots: u64, total: f64, member: Member) -> f64 {
        let own = (slots as f64 * (member.weight / total)).ceil().max(1.0);
        cx.cell(member).map_or(f64::INFINITY, |cell| cell.inflight.load(Ordering::Relaxed) as f64 / own)
    }

    /// `home` itself, or whoever takes its place.
    pub fn pick(&self, home: Choice, cx: &Context<'_>) -> Option<Choice> {
        let total: f64 = self.members.iter().map(|m| m.weight).sum();
        let slots = self.bound.slots(inflight(cx.view));
        let member = self.members.iter().copied().find(|m| m.index == home.index)?;
        let mut least = (self.load(cx, slots, total, member), home);
        if least.0 <= 1.0 {
            return Some(home);
        }
        let mut generator = Mt::new(self.key as u32);
        let mut order: Vec<Member> = self.members.to_vec();
        for left in (1..=order.len() as u32).rev() {
            let width = (1u64 << 32) / u64::from(left);
            let drawn = loop {
                let drawn = u64::from(generator.next_u32()) / width;
                if drawn < u64::from(left) {
                    break drawn as usize;
                }
            };
            let at = order.len() - left as usize;
            order.swap(at, at + drawn);
            let Some(&other) = order.get(at) else { break };
            let taken = other.index == home.index;
            if taken || !cx.view.available(other) || self.allow.is_some_and(|allow| !allow(other.index)) {
                continue;
            }
            let load = self.load(cx, slots, total, other);
            if load <= 1.0 {
                return Some(other.into());
            }
            if load < least.0 {
                least = (load, other.into());
            }
        }
        Some(least.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_whole_percent() {
        assert_eq!(Bound::new(1.1).unwrap().slots(9), 11);
        assert_eq!(Bound::new(1.25).unwrap().factor(), 1.25);
        for bad in [0.99, 0.0, -1.0, f64::NAN, f64::INFINITY, 1.001, 700.0] {
            assert!(Bound::new(bad).unwrap_err().to_string().starts_with("bounded_load: "));
        }
    }
}
