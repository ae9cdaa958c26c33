//! Tiers: who is asked for a request, and in which order.

use super::snapshot::Member;

/// Endpoints that one index is made of: those of a zone, or a whole tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The endpoints.
    pub members: Vec<Member>,
    /// The zone's turns relative to those of the other zones; 1 where zones do not count.
    pub share: f64,
}

/// How the groups of a tier share its requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Zones {
    /// There is one group.
    #[default]
    One,
    /// By turns, earliest deadline first, weighted by [`Group::share`].
    Turns,
    /// The first group is the caller's own zone and keeps this share of the requests, in 1/10,000; the rest is drawn by
    /// [`Group::share`], of which the first group has none.
    Own(u32),
}

/// Endpoints of one priority that are alike healthy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tier {
    /// The groups; one, but for zones.
    pub groups: Vec<Group>,
    /// How they share.
    pub zones: Zones,
    /// Percents of all requests that ask this tier first. All tiers together have 100, or 0 when nobody can be had.
    pub percent: u32,
}

impl Tier {
    /// A tier without zones.
    #[must_use]
    pub fn of(members: Vec<Member>, percent: u32) -> Tier {
        Tier { groups: vec![Group { members, share: 1.0 }], zones: Zones::One, percent }
    }

    /// All endpoints of the tier.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    /// Whether there is nobody in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    /// The tier as one group in the pool's order, by these weights, scaled so that each zone has its share: what a policy
    /// that goes by keys is built from. Such a policy knows no slow start, which would move keys to and fro.
    #[must_use]
    pub fn merged(&self, weights: &[f64]) -> Vec<Member> {
        let full = |m: &Member| Member { weight: weights.get(m.index as usize).copied().unwrap_or(m.weight), ..*m };
        let mut all: Vec<Member> = match self.zones {
            Zones::Turns => self
                .groups
                .iter()
                .flat_map(|group| {
                    let members: Vec<Member> = group.members.iter().map(full).collect();
                    let scale = group.share / members.iter().map(|m| m.weight).sum::<f64>();
                    members.into_iter().map(move |m| Member { weight: m.weight * scale, ..m })
                })
                .collect(),
            Zones::One | Zones::Own(_) => self.members().map(full).collect(),
        };
        all.sort_unstable_by_key(|m| m.index);
        all
    }
}
