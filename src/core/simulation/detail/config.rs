//! What a detailed run depends on.

use super::batch::BatchModel;
use crate::core::error::ConfigError;
use crate::core::rng::Rng;
use crate::core::simulation::service::{Law, exp1};
use crate::core::simulation::{MAX_SECONDS, check_range};
use crate::core::time::Nanos;
use std::sync::Arc;

/// In what order and how fast a server serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discipline {
    /// First come first served.
    Fifo,
    /// By the class's priority, 0 first; nobody in service is interrupted.
    Priority,
    /// Processor sharing: requests share the server's cores evenly; at most `limit` at once, the others wait.
    Sharing {
        /// Requests in service at once; `None` for no limit.
        limit: Option<u32>,
    },
    /// Continuous batching of generated text.
    Batch(BatchModel),
}

/// How many tokens a request reads or writes.
#[derive(Clone, Debug)]
pub enum Lengths {
    /// Drawn and rounded, not below 0.
    Drawn(Law),
    /// Geometric on 1, 2, … with this mean.
    Geometric(f64),
}

impl Lengths {
    /// Geometric lengths of this mean, at least 1.
    pub fn geometric(mean: f64) -> Result<Lengths, ConfigError> {
        check_range("service.output_tokens.mean", mean, 1.0, 1e9, "expected 1 to 1e9 tokens")?;
        Ok(Lengths::Geometric(mean))
    }

    pub(crate) fn sample(&self, rng: &mut Rng) -> u64 {
        match self {
            Lengths::Drawn(law) => law.sample(rng).round() as u64,
            Lengths::Geometric(mean) if *mean <= 1.0 => 1,
            // The whole part of an exponential is geometric.
            Lengths::Geometric(mean) => 1 + (exp1(rng) / -libm::log1p(-1.0 / mean)) as u64,
        }
    }
}

/// Where a batch server's tokens come from.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// From laws. Requests of one key share this many tokens at the front of their prompts.
    Drawn {
        /// Prompt tokens.
        input: Lengths,
        /// Tokens to generate.
        output: Lengths,
        /// Shared tokens at the front; 0 for none.
        prefix: u64,
    },
    /// From a trace: the work that comes with an arrival is the row.
    Rows {
        /// Prompt tokens and tokens to generate, by row.
        lengths: Arc<[(u32, u32)]>,
        /// Names of prompt blocks of all rows, end to end.
        blocks: Arc<[u64]>,
        /// Row i has `blocks[offsets[i]..offsets[i + 1]]`; empty without blocks.
        offsets: Arc<[usize]>,
    },
}

/// Workers pull from one queue instead of a balancer pushing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pull {
    /// How many may wait.
    pub limit: Option<u32>,
    /// A request whose expected wait is longer is turned away.
    pub longest_wait: Option<Nanos>,
}

/// Failed attempts are repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Before retry k a uniform wait of up to (2^k - 1) of these.
    pub backoff: Nanos,
    /// Credit that each request brings; a retry takes 1. `None` for no budget.
    pub budget: Option<f64>,
    /// Credit that is there at the start, and kept at most.
    pub burst: f64,
    /// An attempt without an answer for so long has failed.
    pub attempt_timeout: Option<Nanos>,
}

/// A second attempt while the first is under way; the first answer counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// After so long.
    pub after: Option<Nanos>,
    /// After this quantile of the latencies seen so far.
    pub quantile: Option<f64>,
    /// Credit that each request brings; a hedge takes 1. `None` for no budget.
    pub budget: Option<f64>,
    /// Credit that is there at the start, and kept at most.
    pub burst: f64,
    /// Whether the loser's work is cancelled.
    pub cancel: bool,
}

/// Users who think, ask, and wait for the answer before they think again.
#[derive(Clone, Debug)]
pub struct Users {
    /// How many.
    pub count: u32,
    /// From an answer to the next request.
    pub think: Law,
}

/// A class of requests.
#[derive(Clone, Debug)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its share of the requests, relative to the others.
    pub share: f64,
    /// 0 goes first.
    pub priority: u8,
    /// Its own law of work; `None` for the scenario's.
    pub work: Option<Law>,
    /// Its own objective; `None` for the scenario's.
    pub slo: Option<Nanos>,
}

/// Servers die and come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failures {
    /// Mean time to failure of a server, exponential.
    pub up_s: f64,
    /// Mean time to repair, exponential.
    pub down_s: f64,
    /// How long balancers go on choosing a dead server, whose requests fail at once.
    pub detect: Nanos,
}

/// Neighbours that slow some servers down now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antagonists {
    /// Share of the servers that have such a neighbour, 0 to 1.
    pub share: f64,
    /// Speed while it is at work, relative to the usual, above 0.
    pub speed: f64,
    /// Mean time at work, exponential.
    pub on_s: f64,
    /// Mean time at rest, exponential; 0 for never at rest.
    pub off_s: f64,
}

/// What servers tell balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reports {
    /// Every server tells every balancer so often; not at all when `None`.
    pub every: Option<Nanos>,
    /// Balancers that probe get their answers, with each request and at once.
    pub probes: bool,
}

/// A server that has just become ready is slow at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// Speed at the begin, relative to the usual; it rises in ten equal steps.
    pub speed: f64,
    /// How long until the usual speed.
    pub lasts: Nanos,
}

/// Everything a detailed run adds.
#[derive(Clone, Debug)]
pub struct DetailConfig {
    /// How servers serve.
    pub discipline: Discipline,
    /// Tokens, for [`Discipline::Batch`] and only for it.
    pub tokens: Option<Tokens>,
    /// Workers pull; the balancer is not asked.
    pub pull: Option<Pull>,
    /// Retries.
    pub retry: Option<Retry>,
    /// Hedging.
    pub hedge: Option<Hedge>,
    /// Every attempt draws its own work, instead of the request.
    pub fresh_work: bool,
    /// One-way delay between balancer and server.
    pub network: Option<Law>,
    /// A closed loop; the scenario's own traffic must be empty.
    pub users: Option<Users>,
    /// Classes; empty for one.
    pub classes: Vec<Class>,
    /// Failures.
    pub failures: Option<Failures>,
    /// Antagonists.
    pub antagonists: Option<Antagonists>,
    /// Warm-up.
    pub warm_up: Option<WarmUp>,
    /// Reports and probes.
    pub reports: Option<Reports>,
}

impl Default for DetailConfig {
    fn default() -> DetailConfig {
        DetailConfig {
            discipline: Discipline::Fifo,
            tokens: None,
            pull: None,
            retry: None,
            hedge: None,
            fresh_work: false,
            network: None,
            users: None,
            classes: Vec::new(),
            failures: None,
            antagonists: None,
            warm_up: None,
            reports: None,
        }
    }
}

const SECONDS: &str = "expected more than 0 and at most 1e9 seconds";

fn span(field: &str, seconds: f64) -> Result<(), ConfigError> {
    check_range(field, seconds, 1e-9, MAX_SECONDS, SECONDS).map(drop)
}

fn credit(field: &str, budget: Option<f64>, burst: f64) -> Result<(), ConfigError> {
    if let Some(budget) = budget {
        check_range(&format!("{field}.budget"), budget, 0.0, 100.0, "expected 0 to 100 a request")?;
    }
    check_range(&format!("{field}.budget_burst"), burst, 0.0, 1e9, "expected 0 to 1e9").map(drop)
}

impl DetailConfig {
    /// An error about the first value that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.discipline {
            Discipline::Sharing { limit: Some(0) } => {
                return Err(ConfigError::new("fleet.sharing_limit", 0, "expected at least 1"));
            }
            Discipline::Batch(model) => {
                for (name, value) in [
                    ("step_s", model.step_s),
                    ("sequence_s", model.sequence_s),
                    ("prefill_s_per_token", model.prefill_s),
                    ("cached_s_per_token", model.cached_s),
                ] {
                    let field = format!("service.{name}");
                    check_range(&field, value, 0.0, 1e6, "expected 0 to 1e6 seconds")?;
                }
                if model.step_s + model.sequence_s <= 0.0 {
                    return Err(ConfigError::new("service.step_s", model.step_s, "expected a step that takes time"));
                }
                if model.chunk == 0 {
                    return Err(ConfigError::new("service.prefill_chunk", 0, "expected at least 1 token"));
                }
                if model.kv_tokens == 0 {
                    return Err(ConfigError::new("service.kv_tokens", 0, "expected at least 1 token"));
                }
                if self.tokens.is_none() {
                    return Err(ConfigError::new("service.kind", "llm", "expected tokens from laws or a trace"));
                }
                if self.fresh_work {
                    return Err(ConfigError::new("service.draw", "attempt", "expected request with service.kind llm"));
                }
                if let Some(class) = self.classes.iter().find(|class| class.work.is_some()) {
                    let allowed = "expected none with service.kind llm";
                    return Err(ConfigError::new("classes.service", &class.name, allowed));
                }
            }
            _ if self.tokens.is_some() => {
                return Err(ConfigError::new("service.kind", "tokens", "expected the batch discipline"));
            }
            _ => {}
        }
        if let Some(retry) = &self.retry {
            if retry.attempts == 0 || retry.attempts > 1000 {
                return Err(ConfigError::new("retries.max_attempts", retry.attempts, "expected 1 to 1000"));
            }
            if retry.attempt_timeout == Some(Nanos::ZERO) {
                return Err(ConfigError::new("retries.attempt_timeout_s", 0, "expected more than 0 seconds"));
            }
            credit("retries", retry.budget, retry.burst)?;
        }
        if let Some(hedge) = &self.hedge {
            if hedge.after.is_some() == hedge.quantile.is_some() {
                return Err(ConfigError::new("hedging", "both or none", "expected one of after_s and after_quantile"));
            }
            if let Some(q) = hedge.quantile {
                check_range("hedging.after_quantile", q, 0.0, 0.9999, "expected 0 to 0.9999")?;
            }
            credit("hedging", hedge.budget, hedge.burst)?;
            if self.pull.is_some() {
                return Err(ConfigError::new("hedging", "a shared queue", "expected balancers that push"));
            }
        }
        if let Some(users) = &self.users
            && (users.count == 0 || users.count > 1_000_000)
        {
            return Err(ConfigError::new("traffic.users", users.count, "expected 1 to 1000000"));
        }
        if !self.classes.is_empty() {
            let mut shares = 0.0;
            for (i, class) in self.classes.iter().enumerate() {
                let field = format!("classes[{i}].share");
                shares += check_range(&field, class.share, 0.0, 1e9, "expected 0 to 1e9")?;
            }
            if shares <= 0.0 || self.classes.len() > 1000 {
                return Err(ConfigError::new("classes", shares, "expected 1 to 1000 with a share above 0 in all"));
            }
        }
        if let Some(failures) = &self.failures {
            span("failures.mean_up_s", failures.up_s)?;
            span("failures.mean_down_s", failures.down_s)?;
        }
        if let Some(one) = &self.antagonists {
            check_range("antagonists.share", one.share, 0.0, 1.0, "expected 0 to 1")?;
            check_range("antagonists.speed", one.speed, 1e-3, 1e3, "expected 0.001 to 1000")?;
            span("antagonists.mean_on_s", one.on_s)?;
            check_range("antagonists.mean_off_s", one.off_s, 0.0, MAX_SECONDS, "expected 0 to 1e9 seconds")?;
        }
        if self.reports.is_some_and(|reports| reports.every == Some(Nanos::ZERO)) {
            return Err(ConfigError::new("reports.every_s", 0, "expected more than 0 seconds"));
        }
        if let Some(one) = &self.warm_up {
            check_range("fleet.warm_speed", one.speed, 1e-3, 1.0, "expected 0.001 to 1")?;
        }
        Ok(())
    }
}
