//! Peak EWMA: latency times requests in flight, best of two.

use super::sampler::Sampler;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::counters::UNITS;
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;

/// Of two endpoints drawn by weight, the one whose estimated latency times (work in flight + 1) over weight is less.
///
/// After Finagle's and linkerd's Peak EWMA. The estimate belongs to the pool; see [`crate::core::endpoints::latency`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeakEwma;

impl PeakEwma {
    /// What an endpoint counts as of which nothing is known; brings the stored estimates up to date before.
    #[inline(always)]
    pub(super) fn unknown(cx: &Context<'_>) -> f64 {
        if cx.latencies.stale(cx.now) {
            cx.latencies.refresh(cx.view.slots.iter().filter_map(|&slot| cx.view.block.cell(slot)), cx.now);
        }
        cx.latencies.unknown()
    }

    #[inline(always)]
    fn cost(cx: &Context<'_>, unknown: f64, member: Member) -> f64 {
        let Some(cell) = cx.cell(member) else { return f64::INFINITY };
        let rtt = cx.latencies.shown(cell, unknown);
        rtt * (cell.signed_load().max(0) as f64 + UNITS) / member.weight
    }

    #[inline(never)]
    fn any<M: Mode>(index: &Index, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let unknown = Self::unknown(cx);
        if index.0.len() > 1 {
            // A few more draws are cheaper than a walk; the walk finds whatever is left.
            for _ in 0..4 {
                let (a, b) = index.0.two::<M>(cx.draws);
                let usable = |at| index.0.get(at).filter(|&m| cx.view.available(m) && allow(m.index));
                match (usable(a), usable(b)) {
                    (Some(a), Some(b)) => {
                        let second = Self::cost(cx, unknown, b) < Self::cost(cx, unknown, a);
                        return Some(if second { b } else { a }.into());
                    }
                    (Some(one), None) | (None, Some(one)) => return Some(one.into()),
                    (None, None) => {}
                }
            }
        }
        let mut best: Option<(f64, Member)> = None;
        for &member in &index.0.members {
            if cx.view.available(member) && allow(member.index) {
                let cost = Self::cost(cx, unknown, member);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, member));
                }
            }
        }
        best.map(|(_, member)| member.into())
    }
}

/// The members and how to draw them.
#[derive(Debug, Default)]
pub struct Index(Sampler);

impl Policy for PeakEwma {
    type Index<M: Mode> = Index;
    const TIMED: bool = true;

    fn build<M: Mode>(&self, _: &View, members: &[Member], _: &[&Index], _: &Draws) -> Index {
        Index(Sampler::new(members))
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64) -> Option<Choice> {
        if index.0.len() > 1 {
            let unknown = Self::unknown(cx);
            let (a, b) = index.0.two::<M>(cx.draws);
            let (a, b) = (index.0.get(a)?, index.0.get(b)?);
            cx.soon_written::<M>([cx.cell(a)?, cx.cell(b)?]);
            let member = if Self::cost(cx, unknown, b) < Self::cost(cx, unknown, a) { b } else { a };
            if cx.view.available(member) {
                return Some(member.into());
            }
        }
        Self::any::<M>(index, cx, &|_| true)
    }

    fn choose<M: Mode>(&self, index: &Index, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        Self::any::<M>(index, cx, allow)
    }
}
