//! Outlier detection: Envoy 1.40's rules, gRPC's where A50 differs, and a robust mode that looks at the median.
//!
//! Pure: counts and the time come in, verdicts go out.

use crate::core::error::ConfigError;
use crate::core::rng::Rng;
use crate::core::time::Nanos;
use serde::{Deserialize, Serialize};

/// The most ticks that are made up for one by one when nobody looked for long.
const MOST_TICKS: u64 = 10_000;

/// What makes a median absolute deviation comparable with a standard deviation.
const NORMAL: f64 = 1.4826;

/// Whose rules they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavour {
    /// Envoy's.
    #[default]
    Envoy,
    /// gRPC's, proposal A50.
    Grpc,
    /// Ours: median and median absolute deviation instead of mean and standard deviation.
    Robust,
}

/// The configuration. Percents are whole numbers from 0 to 100; an `enforcing` one is the chance that what is detected
/// is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Whose rules.
    pub flavour: Flavour,
    /// How often rates are looked at and ejected endpoints come back.
    pub interval: Nanos,
    /// How long the first ejection lasts; the k-th in a row k times as long.
    pub base_ejection_time: Nanos,
    /// The longest one; at least the base counts.
    pub max_ejection_time: Nanos,
    /// The most that is added by chance, in whole milliseconds.
    pub max_ejection_time_jitter: Nanos,
    /// The largest part of the endpoints that may be out.
    pub max_ejection_percent: u32,
    /// Whether one may be out however few there are.
    pub always_eject_one_host: bool,
    /// Failures in a row that eject; 0 for never.
    pub consecutive_5xx: u32,
    /// See the type.
    pub enforcing_consecutive_5xx: u32,
    /// Gateway failures (502, 503, 504, no answer) in a row that eject; 0 for never.
    pub consecutive_gateway_failure: u32,
    /// See the type.
    pub enforcing_consecutive_gateway_failure: u32,
    /// Whether requests that got no answer are counted apart.
    pub split_external_local_origin_errors: bool,
    /// Requests in a row without an answer that eject, where those are counted apart; 0 for never.
    pub consecutive_local_origin_failure: u32,
    /// See the type.
    pub enforcing_consecutive_local_origin_failure: u32,
    /// See the type.
    pub enforcing_success_rate: u32,
    /// See the type.
    pub enforcing_local_origin_success_rate: u32,
    /// The fewest endpoints with enough requests for success rates to be compared.
    pub success_rate_minimum_hosts: u32,
    /// The fewest requests of an interval for an endpoint to take part.
    pub success_rate_request_volume: u64,
    /// How many standard deviations below the mean are too many, in thousandths.
    pub success_rate_stdev_factor: u32,
    /// See the type.
    pub enforcing_failure_percentage: u32,
    /// See the type.
    pub enforcing_failure_percentage_local_origin: u32,
    /// Percents of failures from which (gRPC: above which) an endpoint is ejected.
    pub failure_percentage_threshold: u32,
    /// The fewest endpoints with enough requests for that.
    pub failure_percentage_minimum_hosts: u32,
    /// The fewest requests of an interval for an endpoint to take part.
    pub failure_percentage_request_volume: u64,
    /// Whether word that an endpoint is healthy ends its ejection.
    pub successful_active_health_check_uneject_host: bool,
    /// Robust: how many deviations from the median are too many.
    pub deviations: f64,
    /// Robust: how much worse than the median a share of failures must be whatever the deviation is, 0 to 1.
    pub failure_floor: f64,
    /// Robust: how many times the median a latency must be; `None` leaves latencies alone.
    pub latency_factor: Option<f64>,
    /// Robust: how much longer than the median it must be, in seconds.
    pub latency_floor: f64,
}

impl OutlierDetection {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] naming the parameter.
    pub fn check(self) -> Result<OutlierDetection, ConfigError> {
        for (field, value) in [("interval", self.interval), ("base_ejection_time", self.base_ejection_time)] {
            if value.0 < 1_000_000 {
                return Err(ConfigError::new(field, value.as_secs_f64(), "at least a millisecond (0.001)"));
            }
        }
        for (field, value) in [
            ("max_ejection_percent", self.max_ejection_percent),
            ("enforcing_consecutive_5xx", self.enforcing_consecutive_5xx),
            ("enforcing_consecutive_gateway_failure", self.enforcing_consecutive_gateway_failure),
            ("enforcing_consecutive_local_origin_failure", self.enforcing_consecutive_local_origin_failure),
            ("enforcing_success_rate", self.enforcing_success_rate),
            ("enforcing_local_origin_success_rate", self.enforcing_local_origin_success_rate),
            ("enforcing_failure_percentage", self.enforcing_failure_percentage),
            ("enforcing_failure_percentage_local_origin", self.enforcing_failure_percentage_local_origin),
            ("failure_percentage_threshold", self.failure_percentage_threshold),
        ] {
            if value > 100 {
                return Err(ConfigError::new(field, value, "a whole number of percents from 0 to 100"));
            }
        }
        let positive = [("deviations", self.deviations), ("latency_factor", self.latency_factor.unwrap_or(1.0))];
        if let Some((field, value)) = positive.into_iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return Err(ConfigError::new(field, value, "a finite number above 0"));
        }
        if !(0.0..=1.0).contains(&self.failure_floor) {
            return Err(ConfigError::new("failure_floor", self.failure_floor, "a share from 0 to 1"));
        }
        if !(self.latency_floor.is_finite() && self.latency_floor >= 0.0) {
            return Err(ConfigError::new("latency_floor", self.latency_floor, "a finite number of at least 0 seconds"));
        }
        Ok(self)
    }

    /// Whether rates matter, so that every interval is looked at.
    #[must_use]
    pub fn rates(&self) -> bool {
        self.flavour == Flavour::Robust
            || self.enforcing_success_rate > 0
            || self.enforcing_failure_percentage > 0
            || (self.split_external_local_origin_errors
                && (self.enforcing_local_origin_success_rate > 0 || self.enforcing_failure_percentage_local_origin > 0))
    }

    fn longest(&self) -> Nanos {
        self.max_ejection_time.max(self.base_ejection_time)
    }

    fn lasts(&self, multiplier: u32) -> Nanos {
        Nanos(self.base_ejection_time.0.saturating_mul(u64::from(multiplier))).min(self.longest())
    }
}

/// What an endpoint did in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Volume {
    /// Answers that were good.
    pub successes: u64,
    /// Answers that were not; those that never came too, unless they are counted apart.
    pub failures: u64,
    /// Requests without an answer, where they are counted apart.
    pub unreached: u64,
    /// Its latency in seconds, where that is known.
    pub latency: Option<f64>,
}

impl Volume {
    fn total(&self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// The same seen from the connection: an answer is a success.
    fn reached(&self) -> Volume {
        Volume { successes: self.total(), failures: self.unreached, unreached: 0, latency: None }
    }

    fn rate(&self) -> f64 {
        100.0 * self.successes as f64 / self.total().max(1) as f64
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Failures in a row.
    Consecutive5xx,
    /// Gateway failures in a row.
    GatewayFailure,
    /// Requests in a row without an answer.
    LocalOrigin,
}

/// What is kept of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Since when it is out.
    pub ejected_at: Option<Nanos>,
    /// How often it has been.
    pub ejections: u64,
    multiplier: u32,
    jitter: Nanos,
    back_at: Nanos,
}

/// The endpoints of a pool, by slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detector {
    config: OutlierDetection,
    hosts: Vec<Option<Host>>,
    count: usize,
    ejected: usize,
    next: Nanos,
    rng: Rng,
}

impl Detector {
    /// Nobody yet; the first interval ends one interval after `now`.
    #[must_use]
    pub fn new(config: OutlierDetection, seed: u64, now: Nanos) -> Detector {
        let next = now.plus(config.interval);
        Detector { config, hosts: Vec::new(), count: 0, ejected: 0, next, rng: Rng::new(seed) }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &OutlierDetection {
        &self.config
    }

    /// The same by another configuration.
    #[must_use]
    pub fn configured(self, config: OutlierDetection) -> Detector {
        Detector { config, ..self }
    }

    /// Starts the intervals again.
    pub fn start(&mut self, now: Nanos) {
        self.next = now.plus(self.config.interval);
    }

    /// Takes part from now on; nothing when it does already.
    pub fn join(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.hosts.len() <= slot {
            self.hosts.resize(slot + 1, None);
        }
        if let Some(place @ None) = self.hosts.get_mut(slot) {
            *place = Some(Host::default());
            self.count += 1;
        }
    }

    /// Takes part no longer.
    pub fn leave(&mut self, slot: u32) {
        if let Some(host) = self.hosts.get_mut(slot as usize).and_then(Option::take) {
            self.count -= 1;
            self.ejected -= usize::from(host.ejected_at.is_some());
        }
    }

    /// What is kept of an endpoint.
    #[must_use]
    pub fn host(&self, slot: u32) -> Option<&Host> {
        self.hosts.get(slot as usize)?.as_ref()
    }

    /// Whether an endpoint is out.
    #[must_use]
    pub fn out(&self, slot: u32) -> bool {
        self.host(slot).is_some_and(|host| host.ejected_at.is_some())
    }

    /// When an endpoint that is out comes back: at the first tick after its time.
    #[must_use]
    pub fn back_at(&self, slot: u32) -> Option<Nanos> {
        let host = self.host(slot)?;
        let until = host.ejected_at?.plus(self.config.lasts(host.multiplier)).plus(host.jitter);
        let late = until.since(self.next).0.div_ceil(self.config.interval.0.max(1));
        Some(self.next.plus(Nanos(late.saturating_mul(self.config.interval.0))))
    }

    /// When the next interval ends, if that matters.
    #[must_use]
    pub fn next(&self) -> Nanos {
        let busy = self.ejected > 0 || self.hosts.iter().flatten().any(|host| host.multiplier > 0);
        if busy || self.config.rates() { self.next } else { Nanos::MAX }
    }

    fn may_eject(&self) -> bool {
        let most = f64::from(self.config.max_ejection_percent);
        let share = |ejected: usize| 100.0 * ejected as f64 / self.count.max(1) as f64;
        match self.config.flavour {
            // The first is always let through.
            Flavour::Grpc => share(self.ejected) < most,
            _ => share(self.ejected + 1) <= most || (self.config.always_eject_one_host && self.ejected == 0),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.next_u64() % 100 < u64::from(percent)
    }

    fn eject(&mut self, slot: u32, enforcing: u32, now: Nanos) -> bool {
        if self.host(slot).is_none_or(|host| host.ejected_at.is_some()) || !self.may_eject() || !self.chance(enforcing)
        {
            return false;
        }
        let most = self.config.max_ejection_time_jitter.0 / 1_000_000;
        let jitter = Nanos(self.rng.next_u64().checked_rem(most.saturating_add(1)).unwrap_or(0) * 1_000_000);
        let (base, longest) = (self.config.base_ejection_time.0, self.config.longest().0);
        let grpc = self.config.flavour == Flavour::Grpc;
        if let Some(Some(host)) = self.hosts.get_mut(slot as usize) {
            host.ejected_at = Some(now);
            host.ejections += 1;
            host.jitter = jitter;
            if grpc || u64::from(host.multiplier).saturating_mul(base) < longest.saturating_add(base) {
                host.multiplier = host.multiplier.saturating_add(1);
            }
            self.ejected += 1;
        }
        true
    }

    /// Failures in a row have reached their limit; whether that ejects.
    pub fn crossed(&mut self, slot: u32, reason: Reason, now: Nanos) -> bool {
        let enforcing = match reason {
            Reason::Consecutive5xx => self.config.enforcing_consecutive_5xx,
            Reason::GatewayFailure => self.config.enforcing_consecutive_gateway_failure,
            Reason::LocalOrigin => self.config.enforcing_consecutive_local_origin_failure,
        };
        self.eject(slot, enforcing, now)
    }

    /// Lets an endpoint back in; whether it was out.
    pub fn uneject(&mut self, slot: u32, now: Nanos) -> bool {
        match self.hosts.get_mut(slot as usize) {
            Some(Some(host)) if host.ejected_at.is_some() => {
                host.ejected_at = None;
                host.back_at = now;
                self.ejected -= 1;
                true
            }
            _ => false,
        }
    }

    /// Makes up for the intervals that have ended. `volumes` are those of the first of them; in the others nothing
    /// happened. Gives whose state has changed.
    pub fn tick(&mut self, volumes: &[(u32, Volume)], now: Nanos) -> Vec<u32> {
        let mut changed = Vec::new();
        let (mut first, mut done) = (true, 0);
        while self.next <= now {
            let at = self.next;
            if self.config.flavour == Flavour::Grpc {
                self.judge(if first { volumes } else { &[] }, at, &mut changed);
                self.release(at, &mut changed);
            } else {
                self.release(at, &mut changed);
                self.judge(if first { volumes } else { &[] }, at, &mut changed);
            }
            first = false;
            done += 1;
            let idle = self.ejected == 0 && self.hosts.iter().flatten().all(|host| host.multiplier == 0);
            let step = self.config.interval.0.max(1);
            let whole = if idle || done >= MOST_TICKS { now.since(at).0 / step } else { 0 };
            self.next = Nanos(at.0.saturating_add(whole.saturating_add(1).saturating_mul(step)));
            if self.next == Nanos::MAX {
                break;
            }
        }
        changed
    }

    /// Who has been out long enough comes back; who has stayed in for an interval is trusted more.
    fn release(&mut self, now: Nanos, changed: &mut Vec<u32>) {
        let config = self.config;
        let mut back = Vec::new();
        for (slot, host) in (0u32..).zip(&mut self.hosts) {
            let Some(host) = host else { continue };
            let Some(since) = host.ejected_at else {
                // The tick right after the one that let it in is too soon, as was recorded.
                if host.multiplier > 0 && (config.flavour == Flavour::Grpc || now.since(host.back_at) > config.interval)
                {
                    host.multiplier -= 1;
                }
                continue;
            };
            let lasts = config.lasts(host.multiplier).plus(host.jitter);
            let over = match config.flavour {
                Flavour::Grpc => now.since(since) > lasts,
                _ => now.since(since) >= lasts,
            };
            if over {
                back.push(slot);
            }
        }
        for slot in back {
            self.uneject(slot, now);
            changed.push(slot);
        }
    }

    fn judge(&mut self, volumes: &[(u32, Volume)], now: Nanos, changed: &mut Vec<u32>) {
        let c = self.config;
        let seen: Vec<(u32, Volume)> =
            volumes.iter().copied().filter(|(slot, _)| self.host(*slot).is_some() && !self.out(*slot)).collect();
        if c.flavour == Flavour::Robust {
            self.judge_by_median(&seen, now, changed);
        } else {
            self.judge_rates(&seen, c.enforcing_success_rate, c.enforcing_failure_percentage, now, changed);
        }
        if c.split_external_local_origin_errors {
            let reached: Vec<(u32, Volume)> = seen.iter().map(|(slot, v)| (*slot, v.reached())).collect();
            let (rate, percentage) =
                (c.enforcing_local_origin_success_rate, c.enforcing_failure_percentage_local_origin);
            self.judge_rates(&reached, rate, percentage, now, changed);
        }
    }

    fn judge_rates(&mut self, seen: &[(u32, Volume)], rate: u32, percentage: u32, now: Nanos, changed: &mut Vec<u32>) {
        let c = self.config;
        let enough = |volume: u64| move |(_, v): &&(u32, Volume)| v.total() >= volume.max(1);
        let rates: Vec<(u32, f64)> =
            seen.iter().filter(enough(c.success_rate_request_volume)).map(|(slot, v)| (*slot, v.rate())).collect();
        if !rates.is_empty() && rates.len() >= c.success_rate_minimum_hosts as usize {
            let threshold = success_rate_threshold(&rates, f64::from(c.success_rate_stdev_factor) / 1000.0);
            for (slot, own) in &rates {
                if *own < threshold && self.eject(*slot, rate, now) {
                    changed.push(*slot);
                }
            }
        }
        let rates: Vec<(u32, f64)> = seen
            .iter()
            .filter(enough(c.failure_percentage_request_volume))
            .map(|(slot, v)| (*slot, v.rate()))
            .collect();
        if !rates.is_empty() && rates.len() >= c.failure_percentage_minimum_hosts as usize {
            let threshold = f64::from(c.failure_percentage_threshold);
            for (slot, own) in &rates {
                let failed = 100.0 - own;
                let over = if c.flavour == Flavour::Grpc { failed > threshold } else { failed >= threshold };
                if over && self.eject(*slot, percentage, now) {
                    changed.push(*slot);
                }
            }
        }
    }

    /// Shares of failures and latencies against their medians, the worst first. A share that is too high by itself needs
    /// no comparison: of many that are equally bad the median says nothing.
    fn judge_by_median(&mut self, seen: &[(u32, Volume)], now: Nanos, changed: &mut Vec<u32>) {
        let c = self.config;
        let busy: Vec<&(u32, Volume)> =
            seen.iter().filter(|(_, v)| v.total() >= c.failure_percentage_request_volume.max(1)).collect();
        let enough = busy.len() >= c.failure_percentage_minimum_hosts as usize;
        let shares: Vec<(u32, f64)> = busy.iter().map(|(slot, v)| (*slot, 1.0 - v.rate() / 100.0)).collect();
        let latencies: Vec<(u32, f64)> =
            busy.iter().filter_map(|(slot, v)| Some((*slot, v.latency.filter(|l| l.is_finite())?))).collect();
        let ceiling = f64::from(c.failure_percentage_threshold) / 100.0;
        let mut bad: Vec<(u32, f64)> = Vec::new();
        let (median, spread) = median_and_spread(&shares);
        for &(slot, share) in &shares {
            let apart = (share - median).max(0.0);
            let worse = enough && share > 0.0 && apart > (c.deviations * spread).max(c.failure_floor);
            if worse || share >= ceiling.max(f64::MIN_POSITIVE) {
                bad.push((slot, 1e9 + share));
            }
        }
        if let Some(factor) = c.latency_factor.filter(|_| enough) {
            let (median, spread) = median_and_spread(&latencies);
            for &(slot, latency) in &latencies {
                let apart = latency - median;
                let limit = (c.deviations * spread).max(c.latency_floor).max(median * (factor - 1.0));
                if apart > limit && !bad.iter().any(|(other, _)| *other == slot) {
                    bad.push((slot, apart.min(1e8)));
                }
            }
        }
        bad.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (slot, _) in bad {
            if self.eject(slot, c.enforcing_success_rate, now) {
                changed.push(slot);
            }
        }
    }
}

/// The success rate below which an endpoint is an outlier: the mean less so many standard deviations of all (not of a
/// sample).
#[must_use]
pub fn success_rate_threshold(rates: &[(u32, f64)], factor: f64) -> f64 {
    let n = rates.len().max(1) as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / n;
    let variance = rates.iter().map(|(_, rate)| (rate - mean) * (rate - mean)).sum::<f64>() / n;
    mean - factor * variance.sqrt()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    if values.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

fn median_and_spread(values: &[(u32, f64)]) -> (f64, f64) {
    let mut of: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let middle = median(&mut of);
    let mut apart: Vec<f64> = of.iter().map(|value| (value - middle).abs()).collect();
    (middle, NORMAL * median(&mut apart))
}
