//! Peak EWMA: latency times requests in flight, best of two.

use super::sampler::Sampler;
use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::counters::UNITS;
use crate::core::endpoints::{Member, View};
use crate::core::sync::{Mode, Ordering};

/// Of two endpoints drawn by weight, the one whose estimated latency times (work in flight + 1) over weight is less.
///
/// After Finagle's and linkerd's Peak EWMA. The estimate belongs to the pool; see [`crate::core::endpoints::latency`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeakEwma;

impl PeakEwma {
    #[inline(always)]
    fn cost(cx: &Context<'_>, mean: f64, member: Member) -> f64 {
        let Some(cell) = cx.cell(member) else { return f64::INFINITY };
        let rtt = cx.latency.estimate(cell, mean, cx.now);
        // While nothing is known at all, every estimate is zero and the work in flight decides.
        let rtt = if rtt > 0.0 { rtt } else { 1.0 };
        rtt * (cell.effective_load() as f64 + UNITS) / member.weight
    }

    #[inline(never)]
    fn any<M: Mode>(index: &Index, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let mean = f64::from_bits(cx.mean_latency.load(Ordering::Relaxed));
        let n = index.0.len();
        if n > 1 {
            // A few more draws are cheaper than a walk; the walk finds whatever is left.
            for _ in 0..4 {
                let (a, b) = index.0.two::<M>(cx.draws);
                let usable = |at| index.0.get(at).filter(|&m| cx.view.available(m) && allow(m.index));
                match (usable(a), usable(b)) {
                    (Some(a), Some(b)) => {
                        let second = Self::cost(cx, mean, b) < Self::cost(cx, mean, a);
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
                let cost = Self::cost(cx, mean, member);
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
            let mean = f64::from_bits(cx.mean_latency.load(Ordering::Relaxed));
            let (a, b) = index.0.two::<M>(cx.draws);
            let (a, b) = (index.0.get(a)?, index.0.get(b)?);
            let member = if Self::cost(cx, mean, b) < Self::cost(cx, mean, a) { b } else { a };
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
