//! The policy: who gets a prompt, by what is cached and what is to do.

use super::prefix_index::PrefixIndex;
use super::scores::{Asked, Candidate, Options, judge, terms};
use super::ticket::Ticket;
use crate::core::endpoints::signals::Told;
use crate::core::endpoints::{Member, View};
use crate::core::error::ConfigError;
use crate::core::pickers::{Allow, Choice, Context, Draws, Key, Policy};
use crate::core::rng;
use crate::core::sync::{Mode, Mutex, MutexGuard};
use crate::core::time::Nanos;
use std::sync::Arc;

/// The most tokens that a block may have.
pub const MAX_BLOCK: u64 = 1 << 20;

/// An index, and how many tokens its blocks have. Several pickers may share one.
#[derive(Debug)]
pub struct Shared {
    /// The index. Held for the length of one look-up or change, never across a call of the host's.
    pub(super) index: Mutex<PrefixIndex>,
    pub(super) block_tokens: u64,
}

impl Shared {
    /// An index whose blocks have so many tokens.
    ///
    /// # Errors
    /// [`ConfigError`] for a block size of 0 or beyond [`MAX_BLOCK`], or a capacity that cannot be.
    pub fn new(block_tokens: u64, capacity: u32, ttl: Nanos) -> Result<Arc<Shared>, ConfigError> {
        if !(1..=MAX_BLOCK).contains(&block_tokens) {
            let allowed = format!("a whole number of tokens from 1 to {MAX_BLOCK}");
            return Err(ConfigError::new("block_size", block_tokens, allowed));
        }
        Ok(Arc::new(Shared { index: Mutex::new(PrefixIndex::new(capacity, ttl)?), block_tokens }))
    }

    /// The index, for a moment.
    pub fn index(&self) -> MutexGuard<'_, PrefixIndex> {
        self.index.lock()
    }

    /// How many tokens a block has.
    #[must_use]
    pub fn block_tokens(&self) -> u64 {
        self.block_tokens
    }
}

/// The endpoints of one picker's pool, which the index keeps in mind for as long as they are in it.
#[derive(Debug)]
struct Seats {
    shared: Arc<Shared>,
    taken: Mutex<Taken>,
}

/// Who has a seat, since which state of the pool.
#[derive(Debug, Default)]
struct Taken {
    generation: Option<u64>,
    ids: Arc<[Arc<str>]>,
}

impl Seats {
    /// Takes in who is in the pool now. Who has left it is forgotten.
    fn take(&self, view: &View) {
        let mut taken = self.taken.lock();
        // Others of the same generation are those of another pool, to which the picker's policy has moved.
        let newer = taken.generation.is_none_or(|before| match view.generation.cmp(&before) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => taken.ids != view.ids,
            std::cmp::Ordering::Less => false,
        });
        if !newer {
            return;
        }
        let now = Taken { generation: Some(view.generation), ids: view.ids.clone() };
        let before = std::mem::replace(&mut *taken, now).ids;
        let mut index = self.shared.index.lock();
        for (id, &slot) in view.ids.iter().zip(&view.slots) {
            let lane = index.enter(id);
            if let Some(place) = index.lanes.get_mut(lane as usize) {
                place.seats = place.seats.saturating_add(1);
                place.load.source = view.block.signals_of(slot);
            }
        }
        leave(&mut index, &before, true);
    }
}

/// Gives seats back; whoever has none is forgotten if so wished.
fn leave(index: &mut PrefixIndex, ids: &[Arc<str>], forgotten: bool) {
    for id in ids {
        let lane = index.enter(id);
        let Some(place) = index.lanes.get_mut(lane as usize) else { continue };
        place.seats = place.seats.saturating_sub(1);
        if place.seats > 0 {
            continue;
        }
        place.load.source = None;
        place.catch_up();
        if forgotten {
            index.forget(id);
        }
        index.tidy(lane);
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        let ids = self.taken.lock().ids.clone();
        leave(&mut self.shared.index.lock(), &ids, false);
    }
}

/// A prompt as the policy reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prompt<'a> {
    /// The hashes of its blocks.
    pub blocks: &'a [u64],
    /// Its tokens, those in no block too.
    pub tokens: u64,
}

impl<'a> Prompt<'a> {
    /// What stands for it where a pick wants a key.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> Key<'a> {
        Key { hash: self.tokens, bytes: bytemuck::cast_slice(self.blocks) }
    }
}

/// What a choice was made of, for one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Who, and what of it was compared.
    pub candidate: Candidate,
    /// Its place in the pool.
    pub index: u32,
    /// Tokens of the prompt that it would have to prefill.
    pub fresh: f64,
    /// The terms of its cost, for a score that has some: see [`super::scores::TERMS`].
    pub terms: Option<[f64; 5]>,
}

/// Chooses by prefix and load. The key of a pick is a prompt: its tokens, and the hashes of its blocks as bytes.
#[derive(Clone, Debug)]
pub struct PrefixAware {
    shared: Arc<Shared>,
    seats: Arc<Seats>,
    options: Options,
}

/// The members of one rank, each with its lane.
#[derive(Debug, Default)]
pub struct Ranked(Vec<(Member, u32)>);

impl PrefixAware {
    /// A policy on an index.
    ///
    /// # Errors
    /// [`ConfigError`] naming the option.
    pub fn new(shared: &Arc<Shared>, options: Options) -> Result<PrefixAware, ConfigError> {
        let seats = Arc::new(Seats { shared: shared.clone(), taken: Mutex::new(Taken::default()) });
        Ok(PrefixAware { shared: shared.clone(), seats, options: options.check()? })
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The index.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The same options on an empty index of the same measures.
    ///
    /// # Errors
    /// None that the index did not have when it was made.
    pub fn afresh(&self) -> Result<PrefixAware, ConfigError> {
        let (capacity, ttl) = {
            let index = self.shared.index.lock();
            (index.capacity(), index.ttl())
        };
        PrefixAware::new(&Shared::new(self.shared.block_tokens, capacity, ttl)?, self.options)
    }

    /// Takes the work of a request that was given to an endpoint, and believes that its prompt will be cached there.
    #[must_use]
    pub fn charge(&self, view: &View, choice: Choice, prompt: Prompt<'_>, now: Nanos) -> Option<Ticket> {
        let id = view.ids.get(choice.index as usize)?;
        let mut index = self.shared.index.lock();
        let block = self.shared.block_tokens;
        index.at(now);
        let lane = index.enter(id);
        let cached = self.options.credit(index.held_on(lane, prompt.blocks)) * block as f64;
        let fresh = (prompt.tokens as f64 - cached).max(0.0).round() as u64;
        index.predict_on(lane, prompt.blocks);
        index.note_tokens(prompt.tokens as f64);
        drop(index);
        let named = (prompt.blocks.len() as u64).saturating_mul(block);
        Some(Ticket::new(&self.shared, lane, prompt.blocks, fresh, prompt.tokens.saturating_sub(named)))
    }

    fn asked(&self, blocks: usize, tokens: u64, mean: f64) -> Asked {
        let block = self.shared.block_tokens as f64;
        let named = (blocks as u64).max(tokens.div_ceil(self.shared.block_tokens));
        Asked { tokens: tokens as f64, block, blocks: named as f64, mean }
    }

    /// All who may take a prompt, judged.
    fn judged(
        &self,
        members: &Ranked,
        view: &View,
        Prompt { blocks, tokens }: Prompt<'_>,
        now: Nanos,
        allow: Allow<'_>,
    ) -> (Asked, Vec<Candidate>) {
        let mut index = self.shared.index.lock();
        index.look_up(blocks, now);
        let (now, mean) = (index.at(now), index.mean_tokens());
        let reported = view.block.told().is_some_and(Told::any_engine);
        let mut out = Vec::with_capacity(members.0.len());
        for &(member, lane) in &members.0 {
            if !view.available(member) || !allow(member.index) {
                continue;
            }
            let held = index.found(lane);
            let Some(place) = index.lanes.get_mut(lane as usize) else { continue };
            if reported {
                place.catch_up();
            }
            let seen = place.seen(now, self.options.max_report_age, mean);
            let room = f64::from(place.capacity);
            out.push(Candidate { member, held, seen, room, cost: 0.0, tie: 0.0, spared: false });
        }
        drop(index);
        let asked = self.asked(blocks.len(), tokens, mean);
        judge(&self.options, &asked, &mut out);
        (asked, out)
    }

    /// What the next choice for a prompt would be made of.
    #[must_use]
    pub fn parts(&self, view: &View, prompt: Prompt<'_>, now: Nanos) -> Vec<Part> {
        let tiers = view.tiers.iter().flat_map(|tier| tier.groups.iter());
        let mut out = Vec::new();
        for group in tiers {
            let members = self.ranked(&group.members, view);
            let (asked, candidates) = self.judged(&members, view, prompt, now, &|_| true);
            let mut terms = terms(&self.options, &asked, &candidates).into_iter();
            for candidate in candidates {
                let cached = self.options.credit(candidate.held) * self.shared.block_tokens as f64;
                let fresh = (prompt.tokens as f64 - cached).max(0.0);
                out.push(Part { candidate, index: candidate.member.index, fresh, terms: terms.next() });
            }
        }
        out
    }

    fn ranked(&self, members: &[Member], view: &View) -> Ranked {
        let mut index = self.shared.index.lock();
        let lane = |&member: &Member| Some((member, index.enter(view.ids.get(member.index as usize)?)));
        Ranked(members.iter().filter_map(lane).collect())
    }

    fn best<M: Mode>(&self, members: &Ranked, cx: &Context<'_>, tokens: u64, allow: Allow<'_>) -> Option<Choice> {
        let blocks = bytemuck::try_cast_slice(cx.bytes).unwrap_or(&[]);
        let (_, candidates) = self.judged(members, cx.view, Prompt { blocks, tokens }, cx.now, allow);
        let all = candidates.iter().all(|c| c.spared);
        let open = || candidates.iter().filter(|c| all || !c.spared);
        if self.options.temperature > 0.0 {
            return by_chance::<M>(open(), self.options.temperature, cx.draws).map(|c| c.member.into());
        }
        let mut best: Option<&Candidate> = None;
        let mut equal = 1u32;
        for candidate in open() {
            if let Some(other) = best {
                let order = (candidate.cost, candidate.tie).partial_cmp(&(other.cost, other.tie));
                match order {
                    Some(std::cmp::Ordering::Less) => equal = 1,
                    Some(std::cmp::Ordering::Equal) => {
                        equal = equal.saturating_add(1);
                        // Reservoir sampling: the k-th of equals replaces with chance 1/k.
                        if rng::below((cx.draws.next::<M>() >> 32) as u32, equal) != 0 {
                            continue;
                        }
                    }
                    _ => continue,
                }
            }
            best = Some(candidate);
        }
        best.map(|c| c.member.into())
    }
}

/// One of them with chances `exp(-(cost - least) / ((most - least) * temperature))`, as Dynamo's router draws.
fn by_chance<'a, M: Mode>(
    open: impl Iterator<Item = &'a Candidate> + Clone,
    temperature: f64,
    draws: &Draws,
) -> Option<&'a Candidate> {
    let (least, most) =
        open.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), c| (l.min(c.cost), m.max(c.cost)));
    let range = (most - least) * temperature;
    let chance = |c: &Candidate| if range > 0.0 { (-(c.cost - least) / range).exp() } else { 1.0 };
    let total: f64 = open.clone().map(chance).sum();
    let mut left = (draws.next::<M>() >> 11) as f64 / (1u64 << 53) as f64 * total;
    let mut last = None;
    for candidate in open {
        last = Some(candidate);
        left -= chance(candidate);
        if left < 0.0 {
            break;
        }
    }
    last
}

impl Policy for PrefixAware {
    type Index<M: Mode> = Ranked;

    const TIMED: bool = true;

    const RAW: bool = true;

    fn keys(&self) -> &'static str {
        "a prompt"
    }

    fn plain_keys(&self) -> bool {
        false
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], _: &[&Ranked], _: &Draws) -> Ranked {
        self.seats.take(view);
        self.ranked(members, view)
    }

    fn build_cost(&self, members: usize) -> u64 {
        members as u64 * 60
    }

    fn pick<M: Mode>(&self, members: &Ranked, cx: &Context<'_>, tokens: u64) -> Option<Choice> {
        self.best::<M>(members, cx, tokens, &|_| true)
    }

    fn choose<M: Mode>(&self, members: &Ranked, cx: &Context<'_>, tokens: u64, allow: Allow<'_>) -> Option<Choice> {
        if members.0.is_empty() { None } else { self.best::<M>(members, cx, tokens, allow) }
    }
}
