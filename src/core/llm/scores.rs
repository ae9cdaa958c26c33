//! The scores over the same inputs: what is cached, what is to do, and how strong the endpoint is. Four are published ones,
//! one is ours.

use super::load::Seen;
use super::prefix_index::Held;
use crate::core::endpoints::Member;
use crate::core::error::ConfigError;
use crate::core::time::Nanos;

/// How cache and load become one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Ours: the tokens to compute before the first token of the answer, how full the memory is, and what the request does
    /// to others.
    Ttft {
        /// How much a token of the request's own counts against one that waits there: once for this request, and for
        /// those who come after it as the share of busy endpoints says, or as often as is given here.
        fresh_scale: Option<f64>,
        /// How many mean prompts a memory costs that is half full.
        memory_scale: f64,
        /// How many mean prompts the requests of an endpoint cost that has its share of them, times as often as a token
        /// of the request's own counts.
        crowd_scale: f64,
    },
    /// NVIDIA Dynamo's KV router: blocks to prefill, less what is cached, plus blocks in use.
    Dynamo {
        /// How much a block to prefill counts against one in use.
        prefill_scale: f64,
        /// How fast what is cached counts less where much is to prefill already.
        credit_decay: f64,
        /// What a request in flight costs by itself, in blocks.
        request_weight: f64,
    },
    /// LMetric (SGLang's gateway): new tokens times requests.
    Lmetric,
    /// vLLM production-stack: the share of the prompt that is cached, less the load relative to the mean.
    Loadaware {
        /// How much load counts.
        beta: f64,
    },
    /// SGLang's gateway: by cache, unless loads differ by too much.
    CacheAware {
        /// More than this share of the prompt must be cached.
        match_threshold: f64,
        /// Loads differ when the largest is this many requests above the least...
        balance_abs: f64,
        /// ...and so many times as large.
        balance_rel: f64,
    },
}

/// What to make of a report that is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// What was sent there is the load.
    #[default]
    Own,
    /// The endpoint counts as full, unless all do.
    Saturated,
}

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The score.
    pub score: Score,
    /// What a block in the memory of the accelerator, in that of the host, and on disk is worth, in blocks that need no
    /// prefill.
    pub credits: [f64; 3],
    /// 0: the best; more: by chance, the better the likelier.
    pub temperature: f64,
    /// Nobody gets more than this many times its share of the requests in flight.
    pub bounded_load: Option<f64>,
    /// How old a report may be.
    pub max_report_age: Nanos,
    /// And what when it is older.
    pub stale: Stale,
}

fn number(field: &str, value: f64, low: f64, high: f64) -> Result<(), ConfigError> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    let most = if high == f64::MAX { String::new() } else { format!(" and at most {high}") };
    Err(ConfigError::new(field, value, format!("a finite number of at least {low}{most}")))
}

impl Options {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<Options, ConfigError> {
        match self.score {
            Score::Dynamo { prefill_scale, credit_decay, request_weight } => {
                number("prefill_scale", prefill_scale, 0.0, f64::MAX)?;
                number("credit_decay", credit_decay, 0.0, f64::MAX)?;
                number("request_weight", request_weight, 0.0, f64::MAX)?;
            }
            Score::Ttft { fresh_scale, memory_scale, crowd_scale } => {
                number("fresh_scale", fresh_scale.unwrap_or(0.0), 0.0, f64::MAX)?;
                number("memory_scale", memory_scale, 0.0, f64::MAX)?;
                number("crowd_scale", crowd_scale, 0.0, f64::MAX)?;
            }
            Score::Lmetric => {}
            Score::Loadaware { beta } => number("beta", beta, 0.0, f64::MAX)?,
            Score::CacheAware { match_threshold, balance_abs, balance_rel } => {
                number("match_threshold", match_threshold, 0.0, 1.0)?;
                number("balance_abs", balance_abs, 0.0, f64::MAX)?;
                number("balance_rel", balance_rel, 1.0, f64::MAX)?;
            }
        }
        for (i, credit) in self.credits.into_iter().enumerate() {
            number(&format!("credits[{i}]"), credit, 0.0, 1.0)?;
        }
        number("temperature", self.temperature, 0.0, f64::MAX)?;
        if let Some(factor) = self.bounded_load {
            number("bounded_load", factor, 1.0, f64::MAX)?;
        }
        Ok(self)
    }

    /// Blocks of a prompt that need no prefill.
    #[must_use]
    pub fn credit(&self, held: Held) -> f64 {
        let [gpu, host, disk] = self.credits;
        gpu * f64::from(held.gpu) + host * f64::from(held.host) + disk * f64::from(held.disk)
    }
}

/// The request that looks for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Tokens of its prompt.
    pub tokens: f64,
    /// Tokens of a block.
    pub block: f64,
    /// Blocks that it will use.
    pub blocks: f64,
    /// Tokens of the prompts so far, on the average.
    pub mean: f64,
}

/// One endpoint that may get it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub member: Member,
    /// What it has of the prompt.
    pub held: Held,
    /// What it has to do.
    pub seen: Seen,
    /// Blocks that it has room for.
    pub room: f64,
    /// The score, the less the better.
    pub cost: f64,
    /// What decides among equals, the less the better.
    pub tie: f64,
    /// Whether it is left out unless all are: it has its bound of requests, or its report is too old.
    pub spared: bool,
}

impl Candidate {
    /// Requests there with this one, by strength: a mean endpoint has the strength 1.
    fn crowd(&self, mean_weight: f64) -> f64 {
        (self.seen.requests + 1.0) * mean_weight / self.member.weight
    }
}

/// Fills in cost, tie and whom to spare.
pub fn judge(options: &Options, asked: &Asked, candidates: &mut [Candidate]) {
    let count = candidates.len().max(1) as f64;
    let weights: f64 = candidates.iter().map(|c| c.member.weight).sum();
    let mean_weight = weights / count;
    spare(options, weights, candidates);
    let fresh = |c: &Candidate| (asked.tokens - options.credit(c.held) * asked.block).max(0.0);
    match options.score {
        Score::Ttft { .. } => {
            let Some(prices) = Prices::of(options, asked, candidates) else { return };
            for c in candidates.iter_mut() {
                (c.cost, c.tie) = (prices.terms(asked, c, fresh(c)).iter().sum(), 0.0);
            }
        }
        Score::Dynamo { prefill_scale, credit_decay, request_weight } => {
            // A division takes as long as the rest of a candidate.
            let per_token = 1.0 / asked.block;
            let least = match credit_decay > 0.0 {
                true => candidates.iter().map(|c| c.seen.prefill).fold(f64::INFINITY, f64::min),
                false => 0.0,
            };
            for c in candidates.iter_mut() {
                let mut credit = options.credit(c.held);
                if credit_decay > 0.0 {
                    let ahead = (c.seen.prefill - least) * per_token;
                    credit /= 1.0 + credit_decay * ahead / asked.blocks.max(1.0);
                }
                let prefill = (c.seen.prefill + asked.tokens) * per_token - credit;
                let decode = c.seen.decode + (asked.blocks - f64::from(c.held.active)).max(0.0);
                let cost = prefill_scale * prefill.max(0.0) + decode + request_weight * c.seen.requests;
                (c.cost, c.tie) = (cost / c.member.weight, 0.0);
            }
        }
        Score::Lmetric => {
            for c in candidates.iter_mut() {
                (c.cost, c.tie) = (fresh(c) * c.crowd(mean_weight), c.crowd(mean_weight));
            }
        }
        Score::Loadaware { beta } => {
            // One request less than with this one, so that equal endpoints are compared by those that are there.
            let load = |c: &Candidate| c.crowd(mean_weight) - 1.0;
            let mean = candidates.iter().map(load).sum::<f64>() / count;
            for c in candidates.iter_mut() {
                let cached = if asked.tokens > 0.0 { 1.0 - fresh(c) / asked.tokens } else { 0.0 };
                (c.cost, c.tie) = (beta * (load(c) - mean) / mean.max(1.0) - cached, 0.0);
            }
        }
        Score::CacheAware { match_threshold, balance_abs, balance_rel } => {
            let loads = candidates.iter().map(|c| c.crowd(mean_weight) - 1.0);
            let (most, least) = loads.fold((0.0f64, f64::INFINITY), |(m, l), load| (m.max(load), l.min(load)));
            let uneven = most - least > balance_abs && most > balance_rel * least;
            let best = candidates.iter().map(|c| options.credit(c.held)).fold(0.0, f64::max);
            let cached = best * asked.block > match_threshold * asked.tokens;
            for c in candidates.iter_mut() {
                let by_cache = cached && !uneven;
                (c.cost, c.tie) = match by_cache {
                    true => (fresh(c), c.crowd(mean_weight)),
                    false => (c.crowd(mean_weight), 0.0),
                };
            }
        }
    }
}

/// What the terms of [`Score::Ttft`] are called.
pub const TERMS: [&str; 5] = ["waiting", "own", "others", "memory", "crowd"];

/// What [`Score::Ttft`] makes of a candidate, in tokens by strength; the sum is its cost. Empty for other scores.
#[must_use]
pub fn terms(options: &Options, asked: &Asked, candidates: &[Candidate]) -> Vec<[f64; 5]> {
    let Some(prices) = Prices::of(options, asked, candidates) else { return Vec::new() };
    let fresh = |c: &Candidate| (asked.tokens - options.credit(c.held) * asked.block).max(0.0);
    candidates.iter().map(|c| prices.terms(asked, c, fresh(c))).collect()
}

/// The prices of [`Score::Ttft`] for one request.
#[derive(Clone, Copy, Debug)]
struct Prices {
    /// Of a token that the request has computed, for itself...
    own: f64,
    /// ...and for those whom that delays.
    others: f64,
    /// Of memory that is half full.
    memory: f64,
    /// Of a request in flight.
    crowd: f64,
}

impl Prices {
    fn of(options: &Options, asked: &Asked, candidates: &[Candidate]) -> Option<Prices> {
        let Score::Ttft { fresh_scale, memory_scale, crowd_scale } = options.score else { return None };
        let (mut strength, mut busy, mut requests) = (0.0, 0.0, 0.0);
        for c in candidates {
            strength += c.member.weight;
            busy += if c.seen.prefill > 0.0 { c.member.weight } else { 0.0 };
            requests += c.seen.requests;
        }
        let count = candidates.len().max(1) as f64;
        let mean = strength / count;
        // A token delays its own request and, in a queue at utilization r, r / (1 - r) others on the average. r is the
        // share of the strength where somebody waits for a first token. One endpoint more is taken to be idle, so that
        // there is an end.
        let scale = fresh_scale.unwrap_or_else(|| (strength + mean) / (strength + mean - busy));
        let delayed = (scale - 1.0).max(0.0);
        // An endpoint of three times the strength is through in a third of the time, and has three times as many others:
        // what they wait for is not by its weight. The crowd is: as much of it as there is strength is the same for all.
        let crowd = crowd_scale * scale * asked.mean / (requests / count + 1.0);
        let (others, memory) = (delayed / mean, memory_scale * asked.mean);
        Some(Prices { own: scale.min(1.0), others, memory, crowd })
    }

    #[inline(always)]
    fn terms(&self, asked: &Asked, c: &Candidate, fresh: f64) -> [f64; 5] {
        let used = c.seen.decode + (asked.blocks - f64::from(c.held.active)).max(0.0);
        // k / (1 - k) of the share in use, k: one when half is, and without bound towards the end.
        let full = used / (c.room - used).max(c.room * 1e-3);
        // A division takes as long as the rest of a candidate.
        let by = (1.0 / c.member.weight).min(f64::MAX);
        let crowd = self.crowd * c.seen.requests * by;
        [c.seen.prefill * by, self.own * fresh * by, self.others * fresh, self.memory * full * by, crowd]
    }
}

/// Marks those who are left out unless all are.
fn spare(options: &Options, weights: f64, candidates: &mut [Candidate]) {
    if options.bounded_load.is_none() && options.stale == Stale::Own {
        return;
    }
    let total: f64 = candidates.iter().map(|c| c.seen.requests).sum();
    for c in candidates.iter_mut() {
        let full = options.bounded_load.is_some_and(|factor| {
            // As for bounded loads of hashing pickers: at most ceil(factor * share), this one included.
            let most = (factor * (total + 1.0) * c.member.weight / weights).ceil();
            c.seen.requests + 1.0 > most
        });
        c.spared = full || (options.stale == Stale::Saturated && c.seen.stale);
    }
}

#[allow(clippy::indexing_slicing)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TTFT: Score = Score::Ttft { fresh_scale: None, memory_scale: 1.0, crowd_scale: 1.0 };

    fn options(score: Score) -> Options {
        let (credits, max_report_age) = ([1.0, 0.75, 0.25], Nanos::MAX);
        Options { score, credits, temperature: 0.0, bounded_load: None, max_report_age, stale: Stale::Own }
    }

    const ASKED: Asked = Asked { tokens: 64.0, block: 16.0, blocks: 4.0, mean: 32.0 };

    fn candidate(index: u32, weight: f64, requests: f64, prefill: f64) -> Candidate {
        let seen = Seen { requests, prefill, ..Seen::default() };
        let member = Member { index, slot: index, weight };
        Candidate { member, held: Held::default(), seen, room: 1e9, cost: 0.0, tie: 0.0, spared: false }
    }

    #[test]
    fn own_tokens_count_as_the_share_of_busy_endpoints_says() {
        for (weights, busy, expected) in [
            (vec![], 0, 1.0),
            (vec![1.0; 4], 0, 1.0),
            (vec![1.0; 4], 2, 5.0 / 3.0),
            (vec![1.0; 4], 4, 5.0),
            (vec![3.0, 1.0], 1, 6.0 / 3.0),
            (vec![1e-300; 2], 1, 1.5),
            (vec![1e300; 2], 2, 3.0),
        ] {
            let fleet: Vec<_> = (0u32..).zip(weights).map(|(n, w)| candidate(n, w, 1.0, f64::from(n < busy))).collect();
            let prices = Prices::of(&options(TTFT), &ASKED, &fleet);
            let Some(prices) = prices else { unreachable!("a score of ours") };
            let mean = fleet.iter().map(|c| c.member.weight).sum::<f64>() / fleet.len() as f64;
            let scale = if fleet.is_empty() { prices.own } else { prices.own + prices.others * mean };
            assert!((scale - expected).abs() < 1e-9, "{busy} of {fleet:?}: {scale}");
        }
        assert!(Prices::of(&options(Score::Lmetric), &ASKED, &[]).is_none());
    }

    #[test]
    fn the_terms_add_up_to_the_cost() {
        let mut fleet = [candidate(0, 3.0, 5.0, 100.0), candidate(1, 1.0, 0.0, 0.0)];
        judge(&options(TTFT), &ASKED, &mut fleet);
        let found = terms(&options(TTFT), &ASKED, &fleet);
        assert_eq!(fleet.map(|c| c.cost).to_vec(), found.iter().map(|t| t.iter().sum::<f64>()).collect::<Vec<_>>());
        let crowd = 2.0 * 32.0 / 3.5 * 5.0 / 3.0;
        assert!((found[0][4] - crowd).abs() < 1e-9, "a busy strength of 3 of 6: twice");
        assert!(terms(&options(Score::Lmetric), &ASKED, &fleet).is_empty());
    }

    #[test]
    fn a_prefix_that_all_share_is_worth_a_copy_where_nobody_is() {
        // All of a crowd on the k of n who have the prefix, and the mean prompt is little else.
        for (n, waiting) in [(2u32, 8.0), (4, 8.0), (8, 8.0), (64, 8.0), (2, 0.0), (4, 0.0), (8, 0.0), (64, 0.0)] {
            for k in 1..n {
                let each = f64::from(10 * n) / f64::from(k);
                let mut fleet: Vec<_> = (0..n).map(|i| candidate(i, 1.0, 0.0, 0.0)).collect();
                for c in fleet.iter_mut().take(k as usize) {
                    c.held.gpu = 3;
                    c.seen = Seen { requests: each, prefill: waiting * each, ..Seen::default() };
                }
                let asked = Asked { mean: 64.0, ..ASKED };
                judge(&options(TTFT), &asked, &mut fleet);
                assert!(fleet[0].cost > fleet[n as usize - 1].cost, "{k} of {n}");
            }
        }
    }
}
