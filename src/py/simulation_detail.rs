//! The binding of what a simulation may have beyond plain servers and one balancer: plain values in, plain values out.

use super::simulation::{ServiceArgs, phase, work};
use crate::core::error::ConfigError;
use crate::core::simulation::detail::{
    Antagonists, BatchModel, Class, DetailConfig, DetailResults, Discipline, Failures, Hedge, Lengths, Pull, Reports,
    Retry, Tokens, Users, WarmUp,
};
use crate::core::simulation::{Assign, Balancer, Dispatchers, Law, View, Work};
use crate::core::time::Nanos;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct BatchArgs {
    step_s: f64,
    sequence_s: f64,
    prefill_s: f64,
    cached_s: f64,
    chunk: u32,
    kv_tokens: u64,
    block_tokens: u32,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ClassArgs {
    name: String,
    share: f64,
    priority: u8,
    service: Option<ServiceArgs>,
    slo_s: Option<f64>,
}

/// Attempts, backoff, budget, burst, attempt timeout.
type RetryArgs = (u32, f64, Option<f64>, f64, Option<f64>);
/// After seconds, after a quantile, budget, burst, cancel.
type HedgeArgs = (Option<f64>, Option<f64>, Option<f64>, f64, bool);

/// What `aibalance.simulation` gives for a detailed run.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct DetailArgs {
    discipline: String,
    sharing_limit: Option<u32>,
    batch: Option<BatchArgs>,
    input: Option<ServiceArgs>,
    output: Option<ServiceArgs>,
    prefix: u64,
    pull: Option<(Option<u32>, Option<f64>)>,
    retry: Option<RetryArgs>,
    hedge: Option<HedgeArgs>,
    fresh_work: bool,
    network: Option<ServiceArgs>,
    users: Option<(u32, ServiceArgs)>,
    classes: Vec<ClassArgs>,
    failures: Option<(f64, f64, f64)>,
    antagonists: Option<(f64, f64, f64, f64)>,
    warm_up: Option<(f64, f64)>,
    reports: Option<(Option<f64>, bool)>,
}

/// Several balancers.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct DispatcherArgs {
    view: String,
    refresh_s: f64,
    correct: bool,
    assign: String,
}

/// Tokens of a trace, a row a request: prompt and answer; blocks end to end and where each row's begin.
#[derive(FromPyObject)]
pub(super) struct TokenArgs<'py>(
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, i64>,
    PyReadonlyArray1<'py, i64>,
);

fn law(service: &ServiceArgs, field: &str) -> Result<Law, ConfigError> {
    match work(service) {
        Ok(Work::Drawn(law)) => Ok(law),
        Ok(Work::Given { .. }) => Err(ConfigError::new(field, "given", "expected a law")),
        Err(e) => Err(ConfigError::new(e.field.replacen("service", field, 1), e.value, e.allowed)),
    }
}

fn lengths(service: &ServiceArgs, field: &str) -> Result<Lengths, ConfigError> {
    if service.kind == "geometric" {
        return Lengths::geometric(service.a.first().copied().unwrap_or(f64::NAN));
    }
    Ok(Lengths::Drawn(law(service, field)?))
}

fn rows(of: &TokenArgs<'_>) -> Result<Tokens, ConfigError> {
    let whole = |x: i64| u32::try_from(x.max(0)).unwrap_or(u32::MAX);
    let pairs = of.0.as_array().iter().zip(of.1.as_array()).map(|(&a, &b)| (whole(a), whole(b))).collect();
    let offsets: Vec<usize> = of.3.as_array().iter().map(|&x| x.max(0) as usize).collect();
    let blocks: Vec<u64> = of.2.as_array().iter().map(|&x| x as u64).collect();
    if !offsets.is_sorted() || offsets.last().is_some_and(|&last| last > blocks.len()) {
        return Err(ConfigError::new("traffic.trace", "blocks", "expected offsets that rise to their number"));
    }
    Ok(Tokens::Rows { lengths: pairs, blocks: blocks.into(), offsets: offsets.into() })
}

pub(super) fn detail(of: &DetailArgs, tokens: Option<&TokenArgs<'_>>) -> Result<DetailConfig, ConfigError> {
    let discipline = match (of.discipline.as_str(), &of.batch) {
        ("fifo", _) => Discipline::Fifo,
        ("priority", _) => Discipline::Priority,
        ("sharing", _) => Discipline::Sharing { limit: of.sharing_limit },
        ("batch", Some(b)) => Discipline::Batch(BatchModel {
            step_s: b.step_s,
            sequence_s: b.sequence_s,
            prefill_s: b.prefill_s,
            cached_s: b.cached_s,
            chunk: b.chunk,
            kv_tokens: b.kv_tokens,
            block_tokens: b.block_tokens,
        }),
        (other, _) => {
            return Err(ConfigError::new("fleet.discipline", other, "expected fifo, priority, sharing or batch"));
        }
    };
    let tokens = match (tokens, &of.input, &of.output) {
        (Some(columns), _, _) => Some(rows(columns)?),
        (None, Some(input), Some(output)) => Some(Tokens::Drawn {
            input: lengths(input, "service.input_tokens")?,
            output: lengths(output, "service.output_tokens")?,
            prefix: of.prefix,
        }),
        _ => None,
    };
    let span = Nanos::from_secs_f64;
    let mut classes = Vec::with_capacity(of.classes.len());
    for class in &of.classes {
        classes.push(Class {
            name: class.name.clone(),
            share: class.share,
            priority: class.priority,
            work: class.service.as_ref().map(|one| law(one, "classes.service")).transpose()?,
            slo: class.slo_s.map(span),
        });
    }
    let users = match &of.users {
        Some((count, think)) => Some(Users { count: *count, think: law(think, "traffic.think")? }),
        None => None,
    };
    Ok(DetailConfig {
        discipline,
        tokens,
        pull: of.pull.map(|(limit, longest)| Pull { limit, longest_wait: longest.map(span) }),
        retry: of.retry.map(|(attempts, backoff, budget, burst, timeout)| Retry {
            attempts,
            backoff: span(backoff),
            budget,
            burst,
            attempt_timeout: timeout.map(span),
        }),
        hedge: of.hedge.map(|(after, quantile, budget, burst, cancel)| Hedge {
            after: after.map(span),
            quantile,
            budget,
            burst,
            cancel,
        }),
        fresh_work: of.fresh_work,
        network: of.network.as_ref().map(|one| law(one, "network.delay")).transpose()?,
        users,
        classes,
        failures: of.failures.map(|(up_s, down_s, detect)| Failures { up_s, down_s, detect: span(detect) }),
        antagonists: of.antagonists.map(|(share, speed, on_s, off_s)| Antagonists { share, speed, on_s, off_s }),
        warm_up: of.warm_up.map(|(speed, lasts)| WarmUp { speed, lasts: span(lasts) }),
        reports: of.reports.map(|(every, probes)| Reports { every: every.map(span), probes }),
    })
}

/// These balancers as one.
pub(super) fn dispatchers(
    of: &DispatcherArgs,
    all: Vec<Box<dyn Balancer + Send>>,
    seed: u64,
) -> Result<Dispatchers, ConfigError> {
    let view = match of.view.as_str() {
        "local" => View::Local,
        "board" => View::Board { refresh: Nanos::from_secs_f64(of.refresh_s), correct: of.correct },
        "idle" => View::IdleQueue,
        other => return Err(ConfigError::new("dispatchers.view", other, "expected local, board or idle")),
    };
    let assign = match of.assign.as_str() {
        "random" => Assign::Random,
        "rotate" => Assign::Rotate,
        other => return Err(ConfigError::new("dispatchers.assign", other, "expected random or rotate")),
    };
    Dispatchers::new(all, view, assign, seed)
}

/// Counts and means of a detailed run.
pub(super) fn to_python<'py>(py: Python<'py>, of: &DetailResults) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let classes = PyList::empty(py);
    for class in &of.classes {
        classes.append((class.name.as_str(), phase(py, &class.requests)?))?;
    }
    out.set_item("classes", classes)?;
    for (name, count) in [
        ("attempts", of.attempts),
        ("retries", of.retries),
        ("retries_denied", of.retries_denied),
        ("hedges", of.hedges),
        ("hedges_denied", of.hedges_denied),
        ("hedge_wins", of.hedge_wins),
        ("failures", of.failures),
        ("turned_away", of.turned_away),
        ("tokens_written", of.tokens_written),
        ("prompt_tokens_computed", of.prompt_computed),
        ("prompt_tokens_reused", of.prompt_reused),
        ("preemptions", of.preemptions),
    ] {
        out.set_item(name, count)?;
    }
    out.set_item("eta_error_s", of.eta_error_s())?;
    out.set_item("first_token_mean_s", of.first_token_mean_s())?;
    for (name, q) in [("first_token_p50_s", 0.5), ("first_token_p90_s", 0.9), ("first_token_p99_s", 0.99)] {
        out.set_item(name, of.first_token_s(q))?;
    }
    out.set_item("token_mean_s", of.token_mean_s())?;
    Ok(out)
}
