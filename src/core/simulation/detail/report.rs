//! What a detailed run measured beside what every run does.

use super::super::SimulationError;
use super::super::report::PhaseResults;
use hdrhistogram::Histogram;

/// One class of requests.
#[derive(Clone, Debug)]
pub struct ClassResults {
    /// Its name.
    pub name: String,
    /// What happened to its requests that count.
    pub requests: PhaseResults,
}

/// Counts and means of a detailed run. Counts are of the whole run, also of requests that do not count elsewhere.
#[derive(Clone, Debug)]
pub struct DetailResults {
    /// By class, in the order of the configuration.
    pub classes: Vec<ClassResults>,
    /// Attempts that were sent.
    pub attempts: u64,
    /// Of them retries.
    pub retries: u64,
    /// Retries that the budget forbade.
    pub retries_denied: u64,
    /// Of them hedges.
    pub hedges: u64,
    /// Hedges that the budget forbade.
    pub hedges_denied: u64,
    /// Requests that the hedge answered.
    pub hedge_wins: u64,
    /// Servers that died.
    pub failures: u64,
    /// Requests turned away since their expected wait was too long.
    pub turned_away: u64,
    /// Sum over pulled requests of |expected wait - wait|, in nanoseconds, and how many.
    pub eta_error: (u128, u64),
    /// Tokens written.
    pub tokens_written: u64,
    /// Prompt tokens that were computed.
    pub prompt_computed: u64,
    /// Prompt tokens found in a prefix cache.
    pub prompt_reused: u64,
    /// Sequences that lost their place in a batch.
    pub preemptions: u64,
    /// Time to the first token of requests that count, in nanoseconds; empty without batches.
    pub first_token: Histogram<u64>,
    /// The exact sum of it.
    pub first_token_sum: u128,
    /// Sum over answered requests of the time in the batch, in nanoseconds, of those that count.
    pub batch_time: u128,
    /// Sum of their tokens.
    pub batch_tokens: u64,
}

impl DetailResults {
    pub(crate) fn new(names: Vec<String>) -> Result<DetailResults, SimulationError> {
        let histogram = || {
            Histogram::new_with_bounds(1, 1_000_000_000_000_000_000, 3)
                .map_err(|_| SimulationError::Broken("a histogram's bounds"))
        };
        let mut classes = Vec::with_capacity(names.len());
        for name in names {
            classes.push(ClassResults { name, requests: PhaseResults::new()? });
        }
        Ok(DetailResults {
            classes,
            attempts: 0,
            retries: 0,
            retries_denied: 0,
            hedges: 0,
            hedges_denied: 0,
            hedge_wins: 0,
            failures: 0,
            turned_away: 0,
            eta_error: (0, 0),
            tokens_written: 0,
            prompt_computed: 0,
            prompt_reused: 0,
            preemptions: 0,
            first_token: histogram()?,
            first_token_sum: 0,
            batch_time: 0,
            batch_tokens: 0,
        })
    }

    /// A quantile of the time to the first token in seconds; NaN without any.
    #[must_use]
    pub fn first_token_s(&self, q: f64) -> f64 {
        if self.first_token.is_empty() {
            return f64::NAN;
        }
        self.first_token.median_equivalent(self.first_token.value_at_quantile(q)) as f64 / 1e9
    }

    /// Mean time to the first token in seconds; NaN without any.
    #[must_use]
    pub fn first_token_mean_s(&self) -> f64 {
        self.first_token_sum as f64 / 1e9 / self.first_token.len() as f64
    }

    /// Mean time in the batch over tokens written, in seconds; NaN without any.
    #[must_use]
    pub fn token_mean_s(&self) -> f64 {
        self.batch_time as f64 / 1e9 / self.batch_tokens as f64
    }

    /// Mean error of the expected wait, in seconds; NaN without any.
    #[must_use]
    pub fn eta_error_s(&self) -> f64 {
        self.eta_error.0 as f64 / 1e9 / self.eta_error.1 as f64
    }
}
