//! First: fills endpoints in the pool's order, so that the last ones stay free and can be taken away.

use super::{Allow, Choice, Context, Draws, Policy};
use crate::core::endpoints::{Member, View};
use crate::core::sync::Mode;

/// Takes the first endpoint that has a free place (HAProxy's and Caddy's `first`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First;

impl Policy for First {
    type Index<M: Mode> = Vec<Member>;

    fn build<M: Mode>(&self, _: &View, members: &[Member], _: &[&Vec<Member>], _: &Draws) -> Vec<Member> {
        members.to_vec()
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Vec<Member>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        index.iter().find(|m| cx.view.available(**m)).map(|&m| m.into())
    }

    fn choose<M: Mode>(&self, index: &Vec<Member>, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        index.iter().find(|m| cx.view.available(**m) && allow(m.index)).map(|&m| m.into())
    }
}
