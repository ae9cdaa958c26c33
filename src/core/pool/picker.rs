//! A picker: a policy on a pool, publishing one pointer to the snapshot and its own index.

use super::split::Split;
use super::writer::{Pool, Publish, Rebuild};
use crate::core::endpoints::{Cell, Member, Snapshot, Tier};
use crate::core::error::PickError;
use crate::core::pickers::{Allow, Choice, Context, Draws, Key, Policy, Seen};
use crate::core::rng;
use crate::core::sync::{AtomicU64, Mode, Mutex, Ordering};
use crate::core::time::Nanos;
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

/// What one pick reads: a snapshot and the indexes of its ranks.
pub struct State<L: Policy, M: Mode, P> {
    /// The endpoints.
    pub snapshot: Arc<Snapshot<P>>,
    first: L::Index<M>,
    rest: Vec<L::Index<M>>,
    split: Option<Split>,
}

impl<L: Policy, M: Mode, P> State<L, M, P> {
    pub(super) fn build(
        policy: &L,
        snapshot: Arc<Snapshot<P>>,
        before: Option<&State<L, M, P>>,
        draws: &Draws,
    ) -> State<L, M, P> {
        let view = &snapshot.view;
        let split = Split::new(&view.tiers, L::KEYED, before.and_then(|state| state.split.as_ref()));
        let indexes = before.map(State::indexes).unwrap_or_default();
        let make = |members: &[Member]| policy.build::<M>(view, members, &indexes, draws);
        let mut rest: Vec<L::Index<M>> = if L::KEYED {
            view.tiers.iter().map(|tier| make(&tier.merged(&view.weights))).collect()
        } else {
            view.tiers.iter().flat_map(|tier| &tier.groups).map(|group| make(&group.members)).collect()
        };
        // Where requests are shared the first index has nobody, so that the way that most picks go stays as short as it is.
        let first = if split.is_some() || rest.is_empty() { make(&[]) } else { rest.remove(0) };
        State { snapshot, first, rest, split }
    }

    fn indexes(&self) -> Vec<&L::Index<M>> {
        std::iter::once(&self.first).chain(&self.rest).collect()
    }

    /// The index that a request asks first, where requests are shared.
    fn drawn(&self, policy: &L, cx: &Context<'_>, key: u64) -> Option<&L::Index<M>> {
        self.rest.get(self.split.as_ref()?.draw::<L, M>(policy, cx.draws, key))
    }

    /// Chooses from the first rank that has somebody.
    #[inline(always)]
    pub fn pick(&self, policy: &L, cx: &Context<'_>, key: u64) -> Option<Choice> {
        match policy.pick::<M>(&self.first, cx, key) {
            Some(choice) => Some(choice),
            None if self.rest.is_empty() => None,
            // A copy, so that only this way needs the context in memory.
            None => self.pick_rest(policy, &{ *cx }, key),
        }
    }

    /// Chooses once the quick way has led nowhere.
    #[inline(always)]
    fn go_on(&self, policy: &L, cx: &Context<'_>, key: u64) -> Option<Choice> {
        match policy.go_on::<M>(&self.first, cx, key) {
            Some(choice) => Some(choice),
            None if self.rest.is_empty() => None,
            None => self.pick_rest(policy, &{ *cx }, key),
        }
    }

    #[inline(never)]
    fn pick_rest(&self, policy: &L, cx: &Context<'_>, key: u64) -> Option<Choice> {
        let drawn = self.drawn(policy, cx, key).and_then(|index| policy.pick::<M>(index, cx, key));
        drawn.or_else(|| self.rest.iter().find_map(|index| policy.pick::<M>(index, cx, key)))
    }

    /// Chooses among those allowed.
    pub fn choose(&self, policy: &L, cx: &Context<'_>, key: u64, allow: Allow<'_>) -> Option<Choice> {
        let drawn = self.drawn(policy, cx, key).and_then(|index| policy.choose::<M>(index, cx, key, allow));
        drawn.or_else(|| self.indexes().into_iter().find_map(|index| policy.choose::<M>(index, cx, key, allow)))
    }

    /// Makes many picks.
    ///
    /// # Errors
    /// The reason when one of them cannot be made.
    pub fn fill(&self, policy: &L, cx: &Context<'_>, out: &mut [u32]) -> Result<(), PickError> {
        // In one go only where every pick would find somebody in the first rank: a pick that does not has drawn already.
        let somebody = |tier: &Tier| tier.members().any(|&member| cx.view.available(member));
        let first = self.split.is_none() && cx.view.tiers.first().is_some_and(somebody);
        let made = if first { policy.fill::<M>(&self.first, cx, out) } else { 0 };
        for place in out.get_mut(made..).unwrap_or_default() {
            let key = if L::KEYED { policy.no_key::<M>(cx.draws) } else { 0 };
            *place = self.pick(policy, cx, key).ok_or_else(|| cx.view.refusal(0, &|_| true))?.index;
        }
        Ok(())
    }

    /// Makes a pick for each key, as many as both slices have.
    ///
    /// # Errors
    /// The reason when one of them cannot be made.
    pub fn fill_keys(&self, policy: &L, cx: &Context<'_>, keys: &[u64], out: &mut [u32]) -> Result<(), PickError> {
        let mut made = 0;
        while let (Some(keys), Some(out)) = (keys.get(made..), out.get_mut(made..)) {
            let more = policy.fill_keys::<M>(&self.first, cx, keys, out);
            made += more;
            let (Some(&key), Some(place)) = (keys.get(more), out.get_mut(more)) else { break };
            let choice = self.pick_rest(policy, cx, key).ok_or_else(|| cx.view.refusal(0, &|_| true))?;
            *place = choice.index;
            made += 1;
        }
        Ok(())
    }
}

/// Which endpoints a caller allows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Places in the pool, sorted, that may not be chosen.
    pub exclude: Vec<u32>,
    /// Places in the pool, sorted, of which one must be chosen; any when `None`.
    pub subset: Option<Vec<u32>>,
}

impl Filter {
    /// Whether an endpoint is allowed.
    #[must_use]
    pub fn allows(&self, index: u32) -> bool {
        self.exclude.binary_search(&index).is_err()
            && self.subset.as_ref().is_none_or(|s| s.binary_search(&index).is_ok())
    }

    /// Whether every endpoint is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.subset.is_none()
    }

    /// Forbids one more endpoint.
    pub fn forbid(&mut self, index: u32) {
        if let Err(at) = self.exclude.binary_search(&index) {
            self.exclude.insert(at, index);
        }
    }

    /// How many endpoints of a pool of `total` are left out.
    #[must_use]
    pub fn left_out(&self, total: usize) -> usize {
        (0..total as u32).filter(|&i| !self.allows(i)).count()
    }
}

/// A request that was given to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// To whom.
    pub choice: Choice,
    /// The work it brought.
    pub units: u64,
}

/// A policy at work on a pool. `N` is how the pool counts, which is how the picker does, but where several processes
/// have the pool in common.
pub struct Picker<L: Policy, M: Mode, P, N: Mode = M> {
    pool: Arc<Pool<N, P>>,
    policy: L,
    state: ArcSwap<State<L, M, P>>,
    version: AtomicU64,
    draws: Draws,
    stream: u64,
    /// For a handle: the picker that it is one of.
    whole: Option<Arc<Picker<L, M, P, N>>>,
    /// How many handles there have been.
    handles: AtomicU64,
    /// See [`Picker::retired`].
    retired: Mutex<Vec<Arc<State<L, M, P>>>>,
}

/// From so many endpoints on an old state is kept until a writer frees it: freeing 10,000 takes longer than a thousand
/// picks. Where one lock orders everything a pick waits for the writer anyway.
const LARGE: usize = 256;

impl<L: Policy, M: Mode, P: Clone + Send + Sync + 'static> Picker<L, M, P> {
    /// A picker on a pool, which keeps it up to date for as long as it lives.
    pub fn new(pool: &Arc<Pool<M, P>>, policy: L) -> Arc<Picker<L, M, P>> {
        Picker::made(pool, policy, None)
    }
}

/// How often a request looks again when others were quicker. Each time one of them got its place, so that few looks do.
const LOOKS: u32 = 64;

impl<L: Policy, M: Mode, P: Clone + Send + Sync + 'static, N: Mode> Picker<L, M, P, N> {
    /// Whether a request is taken only while what was compared still holds.
    const EXACT: bool = L::EXACT && M::SHARED;

    /// The same as [`Picker::new`] where the pool's own way of counting is not the picker's: in a pool of several processes.
    pub fn jointly(pool: &Arc<Pool<N, P>>, policy: L) -> Arc<Picker<L, M, P, N>> {
        Picker::made(pool, policy, None)
    }

    fn made(pool: &Arc<Pool<N, P>>, policy: L, whole: Option<Arc<Picker<L, M, P, N>>>) -> Arc<Picker<L, M, P, N>> {
        pool.register(|snapshot, stream, seed| {
            let seed = rng::stream(seed, stream);
            let draws = if whole.is_some() { Draws::alone(seed) } else { Draws::new(seed) };
            let state = match &whole {
                Some(whole) if !policy.rotates() => whole.state.load_full(),
                _ => Arc::new(State::build(&policy, snapshot, None, &draws)),
            };
            let picker = Picker {
                pool: pool.clone(),
                policy,
                state: ArcSwap::from(state),
                version: AtomicU64::new(1),
                draws,
                stream,
                whole,
                handles: AtomicU64::new(0),
                retired: Mutex::default(),
            };
            if L::TIMED {
                pool.track_latency();
            }
            if picker.policy.ordered() {
                pool.order().keep();
            }
            if let Some(lifetime) = picker.policy.report_lifetime()
                && let Some(told) = picker.state().snapshot.view.block.told()
            {
                told.ask_for_gap(lifetime);
            }
            Arc::new(picker)
        })
    }

    /// A picker of nobody: what a host holds in the place of one that counts otherwise.
    pub fn of_nobody(pool: &Arc<Pool<N, P>>, policy: L) -> Arc<Picker<L, M, P, N>> {
        let draws = Draws::default();
        let state = State::build(&policy, Arc::new(Snapshot::of_nobody()), None, &draws);
        Arc::new(Picker {
            pool: pool.clone(),
            policy,
            state: ArcSwap::from_pointee(state),
            version: AtomicU64::new(1),
            draws,
            stream: 0,
            whole: None,
            handles: AtomicU64::new(0),
            retired: Mutex::default(),
        })
    }

    /// A handle for one thread, so that threads do not wait for each other nor for each other's cache lines. It draws by
    /// itself. A policy that takes turns has a rotation of its own in each handle, and each handle after the first starts
    /// elsewhere in it; the index of any other policy is that of the whole picker. Weights, health and requests in flight
    /// are the pool's, as for every picker. A handle of a handle is one more of the same picker. Threads that share a handle may
    /// draw alike.
    pub fn local(self: &Arc<Self>) -> Arc<Picker<L, M, P, N>> {
        let whole = self.whole.as_ref().unwrap_or(self);
        let before = whole.handles.fetch_add(1, Ordering::AcqRel);
        Picker::made(&whole.pool, whole.policy.staggered(before), Some(whole.clone()))
    }

    /// Whether this is a handle for one thread.
    pub fn is_local(&self) -> bool {
        self.whole.is_some()
    }

    /// The picker of which a handle shows the states.
    fn source(&self) -> Option<&Arc<Picker<L, M, P, N>>> {
        self.whole.as_ref().filter(|_| !self.policy.rotates())
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<Pool<N, P>> {
        &self.pool
    }

    /// The policy.
    #[inline(always)]
    pub fn policy(&self) -> &L {
        &self.policy
    }

    /// The policy as it was given: that of a handle may start elsewhere.
    pub fn given_policy(&self) -> &L {
        self.whole.as_ref().map_or(&self.policy, |whole| &whole.policy)
    }

    /// Chance.
    pub fn draws(&self) -> &Draws {
        &self.draws
    }

    /// The state that picks read. It may be kept for as long as [`Picker::version`] stays what it was before the load.
    pub fn state(&self) -> Arc<State<L, M, P>> {
        self.state.load_full()
    }

    /// The state that picks read, for the length of one of them.
    #[inline(always)]
    pub fn load(&self) -> Guard<Arc<State<L, M, P>>> {
        self.state.load()
    }

    /// Changes whenever a new state is published.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the pool has changed since this state was built, because the rebuild waits for [`Pool::advance`].
    pub fn behind(&self, state: &State<L, M, P>) -> bool {
        !Self::same(&state.snapshot, &self.pool.snapshot())
    }

    /// Whether two snapshots are the same to this policy.
    fn same(one: &Arc<Snapshot<P>>, other: &Arc<Snapshot<P>>) -> bool {
        if L::KEYED { one.view.generation == other.view.generation } else { Arc::ptr_eq(one, other) }
    }

    /// What a pick on this state works with.
    #[inline(always)]
    pub fn context<'a>(&'a self, state: &'a State<L, M, P>, units: u64, now: Nanos) -> Context<'a> {
        Context {
            view: &state.snapshot.view,
            draws: &self.draws,
            latencies: self.pool.latencies(),
            order: self.pool.order(),
            deferred: self.pool.deferred(),
            units,
            now,
            bytes: &[],
            seen: None,
        }
    }

    /// A key for a pick that has none: any endpoint will do.
    #[inline(always)]
    pub fn key<'a>(&self, key: Option<Key<'a>>) -> Key<'a> {
        match key {
            Some(key) => key,
            None if L::KEYED => self.policy.no_key::<M>(&self.draws).into(),
            None => Key::default(),
        }
    }

    /// What a pick by a key works with, and the key's 64 bits.
    #[inline(always)]
    fn by_key<'a>(
        &'a self,
        state: &'a State<L, M, P>,
        key: Option<Key<'a>>,
        units: u64,
        now: Nanos,
    ) -> (Context<'a>, u64) {
        let mut cx = self.context(state, units, now);
        let key = self.key(key);
        if L::RAW {
            cx.bytes = key.bytes;
        }
        (cx, key.hash)
    }

    /// Decides, and counts nothing but the policy's own rotation.
    #[inline(always)]
    pub fn pick(&self, state: &State<L, M, P>, key: Option<Key<'_>>, now: Nanos) -> Option<Choice> {
        let key = self.key(key);
        let (cx, hash) = self.by_key(state, Some(key), 1024, now);
        let choice = state.pick(&self.policy, &cx, hash)?;
        self.admitted(state, key, choice, now)
    }

    /// This choice, or another where it is on probation and has had its probes.
    #[inline(always)]
    pub fn admitted(&self, state: &State<L, M, P>, key: Key<'_>, choice: Choice, now: Nanos) -> Option<Choice> {
        if self.pool.alert() && !self.admits(state, choice, now) {
            let (cx, hash) = self.by_key(state, Some(key), 1024, now);
            return self.pick_another(state, &cx, hash, choice);
        }
        Some(choice)
    }

    #[inline(always)]
    fn admits(&self, state: &State<L, M, P>, choice: Choice, now: Nanos) -> bool {
        let view = &state.snapshot.view;
        view.panic || view.block.meter(choice.slot).is_none_or(|meter| self.pool.admit(&view.block, meter, choice, now))
    }

    /// Chooses once more: the first choice is on probation, and has had its probes.
    #[inline(never)]
    fn pick_another(&self, state: &State<L, M, P>, cx: &Context<'_>, key: u64, first: Choice) -> Option<Choice> {
        let mut filter = Filter::default();
        filter.forbid(first.index);
        loop {
            let choice = state.choose(&self.policy, cx, key, &|index| filter.allows(index))?;
            if self.admits(state, choice, cx.now) {
                return Some(choice);
            }
            filter.forbid(choice.index);
        }
    }

    /// The first half of [`Picker::pick`], for policies that have one: see [`Policy::quick`].
    #[inline(always)]
    pub fn quick(&self, state: &State<L, M, P>, key: Key<'_>) -> Option<Choice> {
        let (cx, key) = self.by_key(state, Some(key), 1024, Nanos::ZERO);
        self.policy.quick::<M>(&state.first, &cx, key)
    }

    /// The second half.
    #[inline(always)]
    pub fn go_on(&self, state: &State<L, M, P>, key: Key<'_>) -> Option<Choice> {
        let (cx, key) = self.by_key(state, Some(key), 1024, Nanos::ZERO);
        state.go_on(&self.policy, &cx, key)
    }

    /// Decides, and takes the work of one request.
    #[inline(always)]
    pub fn acquire(&self, state: &State<L, M, P>, key: Option<Key<'_>>, units: u64, now: Nanos) -> Option<Taken> {
        let key = self.key(key);
        let (mut cx, hash) = self.by_key(state, Some(key), units, now);
        let seen = Seen::new(u32::MAX);
        if M::SHARED {
            cx.seen = Some(&seen);
        }
        let choice = state.pick(&self.policy, &cx, hash)?;
        let cell = cx.view.block.cell(choice.slot)?;
        if self.take(cell, choice, units, &cx) {
            if self.pool.alert() && !self.admits(state, choice, now) {
                self.give(cell, choice, units);
                let mut filter = Filter::default();
                filter.forbid(choice.index);
                return self.acquire_from(state, Some(key), units, now, filter);
            }
            self.note(choice);
            return Some(Taken { choice, units });
        }
        // Somebody else took its place between the look and the taking.
        self.acquire_from(state, Some(key), units, now, Filter::default())
    }

    #[inline(always)]
    fn take(&self, cell: &Cell, choice: Choice, units: u64, cx: &Context<'_>) -> bool {
        let limit = cx.view.limit(choice.index);
        let take = || {
            if Self::EXACT {
                cell.take_exactly::<M>(units, limit.min(cx.seen.map_or(limit, |seen| seen.get().saturating_add(1))))
            } else {
                cell.take::<M>(units, limit)
            }
        };
        if M::JOINT { self.pool.take_jointly(cell, choice.slot, units, cx.view.epoch, take) } else { take() }
    }

    #[inline(always)]
    fn give(&self, cell: &Cell, choice: Choice, units: u64) {
        if M::JOINT { self.pool.give_jointly(cell, choice.slot, units) } else { cell.give::<M>(units) }
    }

    /// A request was taken. What pickers of other policies take is seen at the next look, which is soon enough.
    #[inline(always)]
    fn note(&self, choice: Choice) {
        if self.policy.ordered() {
            self.pool.order().note(choice.slot);
        }
    }

    /// Decides among those allowed, and takes the work of one request.
    #[inline(never)]
    pub fn acquire_from(
        &self,
        state: &State<L, M, P>,
        key: Option<Key<'_>>,
        units: u64,
        now: Nanos,
        mut filter: Filter,
    ) -> Option<Taken> {
        let (mut cx, key) = self.by_key(state, key, units, now);
        let seen = Seen::new(u32::MAX);
        let mut looks = if Self::EXACT { LOOKS } else { 0 };
        cx.seen = Some(&seen).filter(|_| Self::EXACT);
        loop {
            let choice = state.choose(&self.policy, &cx, key, &|index| filter.allows(index))?;
            let cell = cx.view.block.cell(choice.slot)?;
            if looks == 0 {
                seen.set(u32::MAX);
            }
            if self.take(cell, choice, units, &cx) {
                if !self.pool.alert() || self.admits(state, choice, now) {
                    self.note(choice);
                    return Some(Taken { choice, units });
                }
                self.give(cell, choice, units);
            } else if looks > 0 && cx.view.free(cell, choice.index) {
                // It has room, but is perhaps no longer who should have the request.
                looks -= 1;
                continue;
            }
            filter.forbid(choice.index);
        }
    }

    /// Up to `k` different endpoints in the order in which one request would try them. The first choice moves the
    /// rotation as a pick does, the others as retries do.
    pub fn ranked(
        &self,
        state: &State<L, M, P>,
        key: Option<Key<'_>>,
        k: usize,
        now: Nanos,
        mut filter: Filter,
    ) -> Vec<Choice> {
        let (cx, key) = self.by_key(state, key, 1024, now);
        let mut out = Vec::new();
        while out.len() < k {
            let choice = if out.is_empty() && filter.is_empty() {
                state.pick(&self.policy, &cx, key)
            } else {
                state.choose(&self.policy, &cx, key, &|index| filter.allows(index))
            };
            let Some(choice) = choice else { break };
            filter.forbid(choice.index);
            out.push(choice);
        }
        out
    }

    /// The cell of a choice.
    pub fn cell<'a>(&self, state: &'a State<L, M, P>, choice: Choice) -> Option<&'a Cell> {
        state.snapshot.view.block.cell(choice.slot)
    }
}

impl<L: Policy, M: Mode, P, N: Mode> Picker<L, M, P, N> {
    fn publish(&self, state: Arc<State<L, M, P>>) {
        let old = self.state.swap(state);
        self.version.fetch_add(1, Ordering::AcqRel);
        // A handle that shows another picker's states leaves them to it.
        if M::SHARED && old.snapshot.payload.len() >= LARGE && (self.whole.is_none() || self.policy.rotates()) {
            self.retired.lock().push(old);
        }
    }

    /// Shows the old states that wait for the next change or [`Pool::advance`] to be freed, so that no pick has to do it.
    /// Where somebody is at them just now none is shown.
    pub fn retired<E>(&self, mut show: impl FnMut(&Arc<State<L, M, P>>) -> Result<(), E>) -> Result<(), E> {
        self.retired.try_lock().map_or(Ok(()), |retired| retired.iter().try_for_each(&mut show))
    }
}

impl<L: Policy, M: Mode, P: Clone + Send + Sync + 'static, N: Mode> Rebuild<P> for Picker<L, M, P, N> {
    fn build_cost(&self, snapshot: &Snapshot<P>) -> u64 {
        self.policy.build_cost(snapshot.view.tiers.iter().map(|tier| tier.members().count()).sum())
    }

    fn prepare(self: Arc<Self>, snapshot: &Arc<Snapshot<P>>) -> Publish {
        if self.source().is_some() {
            // Pickers publish in the order in which they were made, so that of the whole is there by then.
            return Box::new(move || {
                if let Some(whole) = self.source() {
                    self.publish(whole.state.load_full());
                }
            });
        }
        let old = self.state.load_full();
        let state = Arc::new(State::build(&self.policy, snapshot.clone(), Some(&old), &self.draws));
        Box::new(move || self.publish(state))
    }

    fn purge(&self) {
        // Whoever still picks with one keeps it; the lock is given back before anything is dropped.
        let gone: Vec<_> = self.retired.lock().extract_if(.., |state| Arc::strong_count(state) == 1).collect();
        drop(gone);
    }

    fn warms(&self) -> bool {
        !L::KEYED
    }

    fn outdated(&self, snapshot: &Arc<Snapshot<P>>) -> bool {
        let state = self.state.load();
        !Self::same(&state.snapshot, snapshot)
            || self.source().is_some_and(|whole| !Arc::ptr_eq(&state, &whole.state.load()))
            || state.indexes().iter().any(|index| self.policy.wants_rebuild::<M>(index))
    }

    fn unsettled(&self) -> bool {
        let state = self.state.load();
        state.indexes().iter().any(|index| self.policy.unsettled::<M>(index))
    }

    fn reseed(&self, seed: u64) {
        self.draws.reseed(rng::stream(seed, self.stream));
    }
}
