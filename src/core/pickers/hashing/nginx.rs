//! What nginx's three hashes share: servers that are down keep their place, tries are counted, and where they end, or
//! where there is no key, smooth round robin decides.

use super::super::round_robin::smooth::{self, Smooth};
use super::super::{Allow, Choice, Context, Draws, Policy, Start};
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;

/// How many places a pick looks at before round robin decides: the first and 20 more (nginx 1.22 and 1.31).
pub(super) const TRIES: usize = 21;

/// Whole weights up to this are used as they are.
const MAX_WHOLE: f64 = 2_147_483_648.0;

/// What the largest weight becomes where weights are not whole numbers.
const SCALED: f64 = 256.0;

/// An endpoint that has a place, whether it may be picked or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub member: Member,
    /// Whether it belongs to the rank.
    pub eligible: bool,
    /// Its weight, a whole number.
    pub weight: u64,
}

/// Everybody who shares a rank's fate as primary or backup and has a weight, in the pool's order. Endpoints that are
/// unhealthy or draining are among them, so that the others keep their keys.
pub(super) fn peers(view: &View, members: &[Member]) -> Vec<Peer> {
    let Some(first) = members.first() else { return Vec::new() };
    let backup = |index: u32| view.backups.get(index as usize).copied();
    let mut rank = members.iter().peekable();
    let mut out: Vec<Peer> = Vec::with_capacity(view.slots.len());
    for (index, (&slot, &weight)) in (0u32..).zip(view.slots.iter().zip(&view.weights)) {
        let member = rank.next_if(|m| m.index == index);
        if member.is_some() || (backup(index) == backup(first.index) && weight > 0.0) {
            let eligible = member.is_some();
            let member = member.copied().unwrap_or(Member { index, slot, weight });
            out.push(Peer { member, eligible, weight: 0 });
        }
    }
    let most = out.iter().fold(0.0f64, |most, p| most.max(p.member.weight));
    let as_is = most <= MAX_WHOLE && out.iter().all(|p| p.member.weight.fract() == 0.0);
    let scale = if as_is { 1.0 } else { SCALED / most };
    for peer in &mut out {
        peer.weight = ((peer.member.weight * scale).round() as u64).max(1);
    }
    out
}

/// The round robin behind a hash: nginx's own, with nginx's own state.
pub(super) struct Turns<M: Mode>(smooth::Index<M>);

const SMOOTH: Smooth = Smooth { start: Start::After(0) };

impl<M: Mode> Turns<M> {
    pub fn build(view: &View, members: &[Member], before: &[&Turns<M>], draws: &Draws) -> Turns<M> {
        let before: Vec<&smooth::Index<M>> = before.iter().map(|turns| &turns.0).collect();
        Turns(SMOOTH.build(view, members, &before, draws))
    }

    /// The next turn, of all or of those allowed.
    #[inline(never)]
    pub fn next(&self, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        match allow {
            None => SMOOTH.pick::<M>(&self.0, cx, 0),
            Some(allow) => SMOOTH.choose::<M>(&self.0, cx, 0, allow),
        }
    }
}

/// Servers side by side on a line as long as the sum of their weights.
pub struct Line<M: Mode> {
    peers: Vec<Peer>,
    ends: Vec<u64>,
    total: u64,
    turns: Turns<M>,
}

impl<M: Mode> Line<M> {
    pub(super) fn build(view: &View, members: &[Member], before: &[&Line<M>], draws: &Draws) -> Line<M> {
        let peers = peers(view, members);
        let mut total = 0u64;
        let ends = peers
            .iter()
            .map(|peer| {
                total += peer.weight;
                total
            })
            .collect();
        let before: Vec<&Turns<M>> = before.iter().map(|line| &line.turns).collect();
        Line { turns: Turns::build(view, members, &before, draws), peers, ends, total }
    }

    /// The next in turn.
    pub(super) fn turn(&self, cx: &Context<'_>, allow: Option<Allow<'_>>) -> Option<Choice> {
        self.turns.next(cx, allow)
    }

    /// The server at one of a row of hashes, the first that can be had; else the next in turn.
    #[inline(always)]
    pub(super) fn pick(
        &self,
        hashes: impl Iterator<Item = u64>,
        cx: &Context<'_>,
        allow: Option<Allow<'_>>,
    ) -> Option<Choice> {
        for hash in hashes.take(TRIES) {
            let at = hash.checked_rem(self.total)?;
            let peer = self.peers.get(self.ends.partition_point(|&end| end <= at))?;
            if peer.eligible && cx.view.available(peer.member) && allow.is_none_or(|allow| allow(peer.member.index)) {
                return Some(peer.member.into());
            }
        }
        self.turns.next(cx, allow)
    }
}
