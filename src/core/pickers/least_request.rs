//! Least requests: the best of d distinct choices, or of all.

use super::round_robin::{edf::Deadlines, heir_of};
use super::sampler::Sampler;
use super::scan::Scan;
use super::{Allow, Choice, Context, Draws, Policy, Start};
use crate::core::endpoints::counters::UNITS;
use crate::core::endpoints::{Cell, Member, View};
use crate::core::error::ConfigError;
use crate::core::rng;
use crate::core::sync::{AtomicU64, Exclusive, Mode, Mutex, Ordering};

/// Which of several equally loaded endpoints gets the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Any of them, each as likely.
    #[default]
    Random,
    /// The first in the pool's order.
    First,
    /// The last in the pool's order.
    Last,
    /// The next after the one that a tie went to before.
    Rotate,
    /// The one with the largest weight, then the first.
    Heaviest,
    /// The one that was drawn last, as in nginx's `random two`.
    LastDrawn,
}

/// The most choices there may be.
pub const MAX_CHOICES: u32 = 64;

/// Takes the least loaded of `choices` endpoints drawn by weight, or of all. The load is the sum of costs in flight;
/// it is compared relative to the weight. After Mitzenmacher (2001) for two choices; distinct draws and weights are
/// where it differs from Envoy and gRPC, which draw with replacement and know no weights here.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastRequest {
    /// How many endpoints are compared.
    pub choices: u32,
    /// Compare all endpoints instead.
    pub full_scan: bool,
    /// Draw with replacement, as Envoy and gRPC do.
    pub replace: bool,
    /// How strongly load counts against weight: the score is load^bias / weight.
    pub bias: f64,
    /// Whether the new request counts in the load.
    pub after: bool,
    /// Who wins a tie.
    pub ties: Ties,
    /// Endpoints of different weight go by Envoy's schedule from this start instead: weight / (load + 1)^bias, read when
    /// an endpoint has had its turn.
    pub edf: Option<Start>,
}

impl Default for LeastRequest {
    fn default() -> LeastRequest {
        LeastRequest {
            choices: 2,
            full_scan: false,
            replace: false,
            bias: 1.0,
            after: true,
            ties: Ties::Random,
            edf: None,
        }
    }
}

impl LeastRequest {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<LeastRequest, ConfigError> {
        if !(1..=MAX_CHOICES).contains(&self.choices) {
            return Err(ConfigError::new("choices", self.choices, format!("a whole number from 1 to {MAX_CHOICES}")));
        }
        if !(self.bias.is_finite() && self.bias >= 0.0) {
            return Err(ConfigError::new("bias", self.bias, "a finite number, not negative"));
        }
        if self.ties == Ties::Rotate && !self.full_scan {
            return Err(ConfigError::new("ties", "rotate", "\"rotate\" needs full_scan=True"));
        }
        if self.ties == Ties::LastDrawn && self.full_scan {
            return Err(ConfigError::new("ties", "last_drawn", "another one with full_scan=True: nobody is drawn"));
        }
        Ok(self)
    }

    #[inline(always)]
    fn score(&self, cx: &Context<'_>, member: Member) -> f64 {
        // Signed, since a processor turns signed numbers into floats in one step; a load stays far below 2^62.
        let load = cx.cell(member).map_or(i64::MAX / 2, |cell| cell.signed_load().max(0));
        self.score_of(cx, load, member)
    }

    #[inline(always)]
    fn score_of(&self, cx: &Context<'_>, load: i64, member: Member) -> f64 {
        self.score_with(if self.after { cx.units } else { 0 }, load, member)
    }

    /// The score with what the request adds.
    #[inline(always)]
    fn score_with(&self, units: u64, load: i64, member: Member) -> f64 {
        let load = (load + units as i64) as f64;
        if self.bias == 1.0 { load / member.weight } else { load.powf(self.bias) / member.weight }
    }

    /// Whether a tie between a candidate and the best so far goes to the candidate.
    fn wins_tie(&self, candidate: Member, best: Member) -> bool {
        match self.ties {
            Ties::Random | Ties::Rotate => false,
            Ties::First => candidate.index < best.index,
            Ties::Last => candidate.index > best.index,
            Ties::LastDrawn => true,
            Ties::Heaviest => {
                candidate.weight > best.weight || (candidate.weight == best.weight && candidate.index < best.index)
            }
        }
    }

    fn better(&self, cx: &Context<'_>, a: Member, b: Member) -> Member {
        let (x, y) = (self.score(cx, a), self.score(cx, b));
        if y < x || (y == x && self.wins_tie(b, a)) { b } else { a }
    }

    /// Whether loads alone decide.
    #[inline(always)]
    fn by_load_alone(&self, equal: bool) -> bool {
        equal && self.bias == 1.0
    }

    /// Scores as the scan compares them: a float that is not negative compares as its bits do.
    #[inline(always)]
    fn score_bits(&self, units: u64) -> impl Fn(&Cell, Member) -> u64 {
        move |cell, member| self.score_with(units, cell.signed_load().max(0), member).to_bits()
    }

    /// The best of all members, as long as nobody has blocked it since the index was built.
    #[inline(always)]
    fn least<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>) -> Option<Choice> {
        let member = if self.by_load_alone(index.equal) {
            index.scan.least(cx, 0, self.ties, &index.rotation, load_alone)
        } else {
            let units = if self.after { cx.units } else { 0 };
            index.scan.least(cx, units, self.ties, &index.rotation, self.score_bits(units))
        };
        member.filter(|&m| cx.view.available(m)).map(Choice::from)
    }

    /// The best of all members that may take the request, by a look at each.
    fn scan<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let members = &index.sampler.members;
        let from = if self.ties == Ties::Rotate {
            let from = index.rotation.load(Ordering::Relaxed) as u32;
            members.partition_point(|m| m.index < from)
        } else {
            0
        };
        let mut best: Option<(Member, f64)> = None;
        let mut equal = 1u32;
        let (tail, head) = (members.get(from..).unwrap_or(&[]), members.get(..from).unwrap_or(&[]));
        for &member in tail.iter().chain(head) {
            if !cx.view.available(member) || !allow(member.index) {
                continue;
            }
            let score = self.score(cx, member);
            match best {
                Some((_, least)) if score > least => continue,
                Some((other, least)) if score == least => {
                    equal += 1;
                    // Reservoir sampling: the k-th of equals replaces with chance 1/k.
                    let take = match self.ties {
                        Ties::Random => rng::below((cx.draws.next::<M>() >> 32) as u32, equal) == 0,
                        _ => self.wins_tie(member, other),
                    };
                    if !take {
                        continue;
                    }
                }
                _ => equal = 1,
            }
            best = Some((member, score));
        }
        if self.ties == Ties::Rotate
            && let Some((member, _)) = best
        {
            M::replace(&index.rotation, u64::from(member.index) + 1);
        }
        best.map(|(member, _)| member.into())
    }

    /// The best of `choices` members, when some of the first draw could not be had or more than two are wanted.
    fn draw<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, allow: Allow<'_>) -> Option<Choice> {
        let n = index.sampler.len();
        let wanted = if self.replace { self.choices as usize } else { (self.choices as usize).min(n) };
        let (mut taken, mut used) = ([0u32; MAX_CHOICES as usize], 0usize);
        let mut best: Option<Member> = None;
        for _ in 0..wanted {
            let at = match taken.get(..used) {
                Some(before) if used > 0 && !self.replace => index.sampler.another::<M>(cx.draws, before),
                _ => index.sampler.one::<M>(cx.draws),
            };
            if let Some(place) = taken.get_mut(used) {
                *place = at;
                used += 1;
            }
            let Some(member) = index.sampler.get(at) else { continue };
            if cx.view.available(member) && allow(member.index) {
                best = Some(best.map_or(member, |b| self.better(cx, b, member)));
            }
        }
        best.map(Choice::from).or_else(|| self.scan::<M>(index, cx, allow))
    }
}

impl LeastRequest {
    #[inline(never)]
    fn pick_slowly<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>) -> Option<Choice> {
        self.choose::<M>(index, cx, 0, &|_| true)
    }

    /// Envoy's schedule for these members, when they have one.
    fn deadlines<M: Mode>(&self, sampler: &Sampler, before: &[&Index<M>], draws: &Draws) -> Option<Mutex<Deadlines>> {
        let start = self.edf.filter(|_| sampler.weighted())?;
        let members = &sampler.members;
        let heir = heir_of(before, members, |old| &old.sampler.members);
        let old = heir.and_then(|old| Some(old.deadlines.as_ref()?.lock().carried(&old.sampler.members, members)));
        let fresh = || {
            let weights: Vec<f64> = members.iter().map(|m| m.weight).collect();
            let picks = match start {
                Start::After(n) => n,
                Start::Random => draws.next::<Exclusive>(),
            };
            Deadlines::after(&weights, picks)
        };
        Some(Mutex::new(old.unwrap_or_else(fresh)))
    }

    fn turn<M: Mode>(
        &self,
        index: &Index<M>,
        deadlines: &Mutex<Deadlines>,
        cx: &Context<'_>,
        allow: Allow<'_>,
    ) -> Option<Choice> {
        let usable = |at| index.sampler.get(at).is_some_and(|m| cx.view.available(m) && allow(m.index));
        let weight = |at| {
            index.sampler.get(at).map_or(1.0, |m| {
                let load = cx.cell(m).map_or(0, |cell| cell.effective_load()) as f64 / UNITS + 1.0;
                m.weight / if self.bias == 1.0 { load } else { load.powf(self.bias) }
            })
        };
        index.sampler.get(deadlines.lock().next(usable, weight)?).map(Choice::from)
    }
}

/// Where weights are the same, the load is the score.
#[inline(always)]
fn load_alone(cell: &Cell, _: Member) -> u64 {
    cell.effective_load()
}

/// The members, how to draw them, and where ties rotate.
#[derive(Debug)]
pub struct Index<M: Mode> {
    sampler: Sampler,
    /// Place in the pool's order, of those for whom ties rotate.
    rotation: AtomicU64,
    deadlines: Option<Mutex<Deadlines>>,
    way: Way,
    /// Whether all weights are the same.
    equal: bool,
    scan: Scan<M>,
}

/// How a pick goes, settled when the index is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Two distinct choices of one weight: loads alone decide.
    TwoEqual,
    /// Two distinct choices by score.
    Two,
    /// The best of all.
    All,
    #[default]
    Other,
}

impl Policy for LeastRequest {
    type Index<M: Mode> = Index<M>;

    fn rotates(&self) -> bool {
        self.full_scan || self.edf.is_some()
    }

    fn staggered(&self, before: u64) -> LeastRequest {
        LeastRequest { edf: self.edf.map(|start| start.staggered(before)), ..self.clone() }
    }

    fn build<M: Mode>(&self, view: &View, members: &[Member], before: &[&Index<M>], draws: &Draws) -> Index<M> {
        let rotation = before.first().map_or(0, |b| b.rotation.load(Ordering::Relaxed));
        let sampler = Sampler::new(members);
        let deadlines = self.deadlines(&sampler, before, draws);
        let two = deadlines.is_none() && self.choices == 2 && !self.full_scan && !self.replace && members.len() > 1;
        let way = match two {
            true if self.ties == Ties::Random && self.bias == 1.0 && !sampler.weighted() => Way::TwoEqual,
            true => Way::Two,
            false if self.full_scan && deadlines.is_none() => Way::All,
            false => Way::Other,
        };
        let scan = Scan::new(view, if self.full_scan { members } else { &[] });
        let equal = !sampler.weighted();
        if way == Way::All && self.by_load_alone(equal) {
            scan.prepare(view, 0, load_alone);
        } else if way == Way::All {
            // For what most requests bring.
            let units = if self.after { UNITS as u64 } else { 0 };
            scan.prepare(view, units, self.score_bits(units));
        }
        Index { sampler, rotation: AtomicU64::new(rotation), deadlines, way, equal, scan }
    }

    #[inline(always)]
    fn pick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, key: u64) -> Option<Choice> {
        self.quick(index, cx, key).or_else(|| self.go_on(index, cx, key))
    }

    const QUICK: bool = true;

    #[inline(always)]
    fn quick<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        if index.way != Way::TwoEqual {
            return None;
        }
        let (a, b) = index.sampler.two_equal::<M>(cx.draws);
        let (a, b) = (index.sampler.get(a)?, index.sampler.get(b)?);
        let (ca, cb) = (cx.cell(a)?, cx.cell(b)?);
        cx.soon_written::<M>([ca, cb]);
        let (member, cell) = if cb.signed_load() < ca.signed_load() { (b, cb) } else { (a, ca) };
        cx.view.free(cell, member.index).then(|| member.into())
    }

    #[inline(always)]
    fn go_on<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64) -> Option<Choice> {
        match index.way {
            Way::Two => {
                let (a, b) = index.sampler.two::<M>(cx.draws);
                let (a, b) = (index.sampler.get(a)?, index.sampler.get(b)?);
                cx.soon_written::<M>([cx.cell(a)?, cx.cell(b)?]);
                let member = self.better(cx, a, b);
                if cx.view.available(member) {
                    return Some(member.into());
                }
            }
            Way::All => {
                if let Some(choice) = self.least(index, cx) {
                    return Some(choice);
                }
            }
            Way::TwoEqual | Way::Other => {}
        }
        self.pick_slowly::<M>(index, cx)
    }

    fn choose<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, _: u64, allow: Allow<'_>) -> Option<Choice> {
        if index.sampler.len() == 0 {
            None
        } else if let Some(deadlines) = &index.deadlines {
            self.turn(index, deadlines, cx, allow)
        } else if self.full_scan {
            self.scan::<M>(index, cx, allow)
        } else {
            self.draw::<M>(index, cx, allow)
        }
    }

    fn fill<M: Mode>(&self, index: &Index<M>, cx: &Context<'_>, out: &mut [u32]) -> usize {
        let mut made = 0;
        if index.way == Way::TwoEqual {
            // Nothing is taken meanwhile, so the loads stay what they are.
            let loads: Option<Vec<(i64, u32)>> = index
                .sampler
                .members
                .iter()
                .map(|&m| {
                    let cell = cx.cell(m)?;
                    cx.view.free(cell, m.index).then(|| (cell.signed_load(), m.index))
                })
                .collect();
            if let Some(loads) = loads {
                for place in out.iter_mut() {
                    let (a, b) = index.sampler.two_equal::<M>(cx.draws);
                    let (Some(a), Some(b)) = (loads.get(a as usize), loads.get(b as usize)) else { break };
                    *place = if b.0 < a.0 { b.1 } else { a.1 };
                    made += 1;
                }
                return made;
            }
        }
        for place in out.iter_mut() {
            let Some(choice) = self.pick::<M>(index, cx, 0) else { break };
            *place = choice.index;
            made += 1;
        }
        made
    }
}
