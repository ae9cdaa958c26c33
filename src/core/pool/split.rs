//! Which tier and which zone a request asks first, when they share the requests.

use crate::core::endpoints::{Tier, Zones};
use crate::core::pickers::round_robin::edf::Deadlines;
use crate::core::pickers::{Draws, Policy};
use crate::core::rng;
use crate::core::sync::{Mode, Mutex};
use std::sync::Arc;

/// How requests are shared among the indexes of a state.
#[derive(Debug)]
pub(super) struct Split {
    shares: Vec<Share>,
}

/// One tier: the percents up to which it is drawn, its first index, and how its zones share.
#[derive(Debug)]
struct Share {
    upto: u32,
    from: usize,
    zones: Turns,
}

#[derive(Clone, Debug)]
enum Turns {
    One,
    /// Weights, and whose turn it is. Kept over rebuilds for as long as the weights are the same.
    Deadlines(Vec<f64>, Arc<Mutex<Deadlines>>),
    /// What the own zone keeps in 1/10,000, and the shares of the others added up.
    Own(u32, Vec<f64>),
}

impl Turns {
    fn of(tier: &Tier, before: Option<&Turns>) -> Turns {
        let shares = || tier.groups.iter().map(|group| group.share);
        match tier.zones {
            Zones::One => Turns::One,
            Zones::Turns => {
                let weights: Vec<f64> = shares().collect();
                match before {
                    Some(Turns::Deadlines(same, deadlines)) if *same == weights => {
                        Turns::Deadlines(weights, deadlines.clone())
                    }
                    _ => {
                        let deadlines = Deadlines::after(&weights, 0);
                        Turns::Deadlines(weights, Arc::new(Mutex::new(deadlines)))
                    }
                }
            }
            Zones::Own(kept) => {
                let add = |sum: &mut f64, share: f64| {
                    *sum += share;
                    Some(*sum)
                };
                Turns::Own(kept, shares().scan(0.0, add).collect())
            }
        }
    }

    /// Which of the tier's groups.
    fn next<M: Mode>(&self, draws: &Draws) -> usize {
        match self {
            Turns::One => 0,
            Turns::Deadlines(weights, deadlines) => {
                let weight = |at: u32| weights.get(at as usize).copied().unwrap_or(1.0);
                deadlines.lock().next(|_| true, weight).map_or(0, |at| at as usize)
            }
            Turns::Own(kept, upto) => {
                let draw = draws.next::<M>();
                if rng::below((draw >> 32) as u32, 10_000) < *kept {
                    return 0;
                }
                let at = f64::from(draw as u32) / 4_294_967_296.0 * upto.last().copied().unwrap_or(0.0);
                upto.partition_point(|&sum| sum <= at)
            }
        }
    }
}

impl Split {
    /// The split of these tiers; `None` when all requests ask the first group. `merged` says that a tier has one index
    /// whatever its zones.
    pub fn new(tiers: &[Tier], merged: bool, before: Option<&Split>) -> Option<Split> {
        if let Some(first) = tiers.first()
            && first.percent >= 100
            && (merged || first.zones == Zones::One)
        {
            return None;
        }
        let (mut upto, mut from) = (0, 0);
        let mut shares = Vec::new();
        for (i, tier) in tiers.iter().enumerate() {
            upto += tier.percent;
            if tier.percent > 0 {
                let old = before.and_then(|split| split.shares.get(i)).map(|share| &share.zones);
                let zones = if merged { Turns::One } else { Turns::of(tier, old) };
                shares.push(Share { upto, from, zones });
            }
            from += if merged { 1 } else { tier.groups.len() };
        }
        (!shares.is_empty()).then_some(Split { shares })
    }

    /// The place of the index that a request asks first. Envoy draws the tier by the hash that places the key, where there
    /// is one.
    pub fn draw<L: Policy, M: Mode>(&self, policy: &L, draws: &Draws, key: u64) -> usize {
        let draw = match L::KEYED {
            true if policy.plain_keys() => key,
            // Other hashes are taken by a modulus as well, and must not meet this one.
            true => rng::wyrand(key.wrapping_add(rng::WY_STEP)),
            false if self.shares.len() > 1 => draws.next::<M>(),
            false => 0,
        };
        let percent = (draw % 100) as u32;
        let share = self.shares.iter().find(|share| percent < share.upto).or(self.shares.last());
        share.map_or(0, |share| share.from + share.zones.next::<M>(draws))
    }
}
