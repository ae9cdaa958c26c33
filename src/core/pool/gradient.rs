//! Adaptive concurrency: a limit that follows from how long requests take. Envoy's gradient controller.
//!
//! From time to time few requests are let through, and how long those take is what a request takes of itself (the
//! minimum RTT). Between those times the limit grows while requests take about as long as that, and shrinks in
//! proportion once they take longer, which is when they wait in somebody's queue.

use crate::core::error::ConfigError;
use crate::core::rng;
use crate::core::time::Nanos;

/// The parameters; the defaults are Envoy's, or those of its documented example where it has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientConfig {
    /// How long samples are gathered for one step of the limit.
    pub update_interval: Nanos,
    /// Which quantile of the samples stands for them, 0 to 1.
    pub percentile: f64,
    /// The most that the limit can be.
    pub max_limit: u32,
    /// The least that it can be, and what it is while the minimum RTT is measured.
    pub min_limit: u32,
    /// How long after a measurement of the minimum RTT the next begins.
    pub min_rtt_interval: Nanos,
    /// How many requests are measured for it.
    pub min_rtt_requests: u32,
    /// By which part of the interval the next measurement is put off at most, at random.
    pub jitter: f64,
    /// Which part of the minimum RTT a request may take longer before the limit shrinks.
    pub buffer: f64,
}

impl Default for GradientConfig {
    fn default() -> GradientConfig {
        GradientConfig {
            update_interval: Nanos(100_000_000),
            percentile: 0.5,
            max_limit: 1000,
            min_limit: 3,
            min_rtt_interval: Nanos(60_000_000_000),
            min_rtt_requests: 50,
            jitter: 0.15,
            buffer: 0.25,
        }
    }
}

impl GradientConfig {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`ConfigError`] for one that cannot be.
    pub fn check(self) -> Result<GradientConfig, ConfigError> {
        let whole = |field: &str, value: u32| {
            if value > 0 { Ok(()) } else { Err(ConfigError::new(field, value, "a whole number of at least 1")) }
        };
        let part = |field: &str, value: f64, most: f64| {
            if (0.0..=most).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::new(field, value, format!("a number from 0 to {most}")))
            }
        };
        let time = |field: &str, value: Nanos| {
            if value >= Nanos(1_000_000) {
                Ok(())
            } else {
                Err(ConfigError::new(field, value.as_secs_f64(), "at least 0.001 seconds"))
            }
        };
        time("update_interval", self.update_interval)?;
        time("min_rtt_interval", self.min_rtt_interval)?;
        whole("min_limit", self.min_limit)?;
        whole("min_rtt_requests", self.min_rtt_requests)?;
        if self.max_limit < self.min_limit {
            return Err(ConfigError::new("max_limit", self.max_limit, "a whole number of at least min_limit"));
        }
        part("percentile", self.percentile, 1.0)?;
        part("jitter", self.jitter, 1.0)?;
        part("buffer", self.buffer, 100.0)?;
        Ok(self)
    }
}

/// Microseconds in bins of two decimal digits, as circllhist keeps them: what Envoy takes its quantiles from.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// Left edge, width and count, by left edge.
    bins: Vec<(u64, u64, u64)>,
    count: u64,
}

impl Histogram {
    fn insert(&mut self, micros: u64) {
        let mut width = 1u64;
        while micros / width >= 100 {
            width = width.saturating_mul(10);
        }
        let left = micros / width * width;
        // Below ten, a bin of two digits is a tenth wide; whole numbers are its left edge, whatever its width.
        match self.bins.binary_search_by_key(&left, |bin| bin.0) {
            Ok(at) => {
                if let Some(bin) = self.bins.get_mut(at) {
                    bin.2 += 1;
                }
            }
            Err(at) => self.bins.insert(at, (left, width, 1)),
        }
        self.count += 1;
    }

    /// The quantile, by linear interpolation within its bin.
    fn quantile(&self, q: f64) -> f64 {
        let wanted = q * self.count as f64;
        let mut below = 0.0;
        let last = self.bins.len().saturating_sub(1);
        for (i, &(left, width, count)) in self.bins.iter().enumerate() {
            let until = below + count as f64;
            if until >= wanted || i == last {
                let width = match left {
                    0 => 0.0,
                    1..10 => 0.1,
                    _ => width as f64,
                };
                return left as f64 + ((wanted - below) / count as f64).clamp(0.0, 1.0) * width;
            }
            below = until;
        }
        0.0
    }

    fn clear(&mut self) {
        self.bins.clear();
        self.count = 0;
    }
}

/// How often in a row the limit may be at its least before the minimum RTT is measured anew: it may be wrong.
const TOO_LOW: u32 = 5;

/// The controller. Times are those of one clock; one that goes back stands still.
#[derive(Clone, Debug)]
pub struct Gradient {
    config: GradientConfig,
    seed: u64,
    windows: u64,
    limit: u32,
    /// The limit before a measurement of the minimum RTT, and after it; `None` outside of one.
    deferred: Option<u32>,
    /// Requests that began before are not counted.
    epoch: Nanos,
    next_min_rtt: Nanos,
    next_update: Nanos,
    now: Nanos,
    min_rtt: u64,
    sample_rtt: u64,
    gradient: f64,
    at_least: u32,
    samples: Histogram,
}

impl Gradient {
    /// A controller that begins with a measurement of the minimum RTT.
    ///
    /// # Errors
    /// [`ConfigError`] for parameters that cannot be.
    pub fn new(config: GradientConfig, seed: u64, now: Nanos) -> Result<Gradient, ConfigError> {
        let config = config.check()?;
        let mut made = Gradient {
            config,
            seed,
            windows: 0,
            limit: config.min_limit,
            deferred: None,
            epoch: now,
            next_min_rtt: Nanos::MAX,
            next_update: now.plus(config.update_interval),
            now,
            min_rtt: 0,
            sample_rtt: 0,
            gradient: 1.0,
            at_least: 0,
            samples: Histogram::default(),
        };
        made.measure(now);
        Ok(made)
    }

    /// The parameters.
    pub fn config(&self) -> &GradientConfig {
        &self.config
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The minimum RTT in seconds; `None` before it was measured first.
    pub fn min_rtt(&self) -> Option<f64> {
        (self.min_rtt > 0).then(|| self.min_rtt as f64 / 1e6)
    }

    /// The quantile of the last window in seconds; `None` before the first.
    pub fn sample_rtt(&self) -> Option<f64> {
        (self.sample_rtt > 0).then(|| self.sample_rtt as f64 / 1e6)
    }

    /// What the limit was multiplied by last, before its headroom: 0.5 to 2.
    pub fn gradient(&self) -> f64 {
        self.gradient
    }

    /// Whether the minimum RTT is being measured.
    pub fn measuring(&self) -> bool {
        self.deferred.is_some()
    }

    /// What time alone brings: the end of a window of samples, the start of a measurement.
    pub fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        // Of both at the same time, the window ends first: it was to end before the measurement could begin.
        if !self.measuring() && self.next_update <= self.now.min(self.next_min_rtt) {
            self.update();
            // Windows in which nobody asked had no samples, and change nothing.
            let step = self.config.update_interval.0.max(1);
            let missed = self.now.since(self.next_update).0 / step + 1;
            self.next_update = self.next_update.plus(Nanos(step.saturating_mul(missed)));
        }
        if !self.measuring() && self.next_min_rtt <= self.now {
            self.measure(self.now);
        }
    }

    /// A request that began at `start` has taken so many seconds until `now`. One that began before the measurement in
    /// which it ends is not counted.
    pub fn sample(&mut self, start: Nanos, seconds: f64, now: Nanos) {
        self.advance(now);
        if start < self.epoch {
            return;
        }
        let micros = (seconds.clamp(0.0, 1e10) * 1e6).round();
        self.samples.insert(micros as u64);
        if self.measuring() && self.samples.count >= u64::from(self.config.min_rtt_requests) {
            self.measured();
        }
    }

    fn measure(&mut self, now: Nanos) {
        self.deferred = Some(self.limit);
        self.set(self.config.min_limit);
        self.samples.clear();
        self.epoch = now;
        self.next_min_rtt = Nanos::MAX;
    }

    fn measured(&mut self) {
        self.min_rtt = self.take();
        let before = self.deferred.unwrap_or(self.config.min_limit);
        self.set(before);
        self.deferred = None;
        // Envoy draws whole milliseconds.
        let interval = self.config.min_rtt_interval.0 / 1_000_000;
        let range = (interval as f64 * self.config.jitter).ceil() as u64;
        let late = rng::draw(self.seed, self.windows).checked_rem(range).unwrap_or(0);
        self.windows += 1;
        self.next_min_rtt = self.now.plus(self.config.min_rtt_interval).plus(Nanos(late.saturating_mul(1_000_000)));
        self.next_update = self.now.plus(self.config.update_interval);
    }

    fn take(&mut self) -> u64 {
        // One at least: a request that takes no time at all would stop the division.
        let found = (self.samples.quantile(self.config.percentile) as u64).max(1);
        self.samples.clear();
        found
    }

    fn update(&mut self) {
        if self.samples.count == 0 {
            return;
        }
        self.sample_rtt = self.take();
        // Envoy's integers: the buffered minimum stays a fraction, the limit is cut.
        let buffered = self.min_rtt as f64 * (1.0 + self.config.buffer);
        self.gradient = (buffered / self.sample_rtt as f64).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * self.gradient;
        let limit = (limit + limit.sqrt()) as u32;
        self.set(limit.clamp(self.config.min_limit, self.config.max_limit));
    }

    fn set(&mut self, limit: u32) {
        let least = self.config.min_limit;
        let stuck = !self.measuring() && self.limit == least && limit == least;
        self.at_least = if stuck { self.at_least + 1 } else { 0 };
        self.limit = limit;
        if self.at_least >= TOO_LOW {
            self.next_min_rtt = self.now;
        }
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn controller(change: impl FnOnce(&mut GradientConfig)) -> Gradient {
        let mut config = GradientConfig { jitter: 0.0, buffer: 0.0, min_rtt_requests: 5, ..GradientConfig::default() };
        change(&mut config);
        Gradient::new(config, 1, Nanos(0)).unwrap()
    }

    /// `n` requests of so many milliseconds, all ending at an instant in milliseconds.
    fn requests(g: &mut Gradient, n: u32, took: f64, at: u64) {
        for _ in 0..n {
            g.sample(Nanos(at * MS), took * 1e-3, Nanos(at * MS));
        }
    }

    #[test]
    fn it_measures_first_at_the_least_limit() {
        let mut g = controller(|_| {});
        assert_eq!((g.limit(), g.measuring(), g.min_rtt()), (3, true, None));
        requests(&mut g, 4, 10.0, 1);
        assert!(g.measuring());
        requests(&mut g, 1, 10.0, 1);
        assert!(!g.measuring());
        // Bins of two digits: 10 ms is in [10, 11), and the median lies in its middle.
        assert_eq!(g.min_rtt(), Some(0.0105));
    }

    #[test]
    fn one_step_is_the_gradient_and_a_root_of_headroom() {
        let mut g = controller(|_| {});
        requests(&mut g, 5, 10.0, 0);
        requests(&mut g, 1, 10.0, 50);
        assert_eq!(g.limit(), 3);
        g.advance(Nanos(100 * MS));
        // A gradient of 1: 3 + sqrt(3) is 4.
        assert_eq!((g.limit(), g.gradient()), (4, 1.0));
        requests(&mut g, 1, 1.0, 150);
        g.advance(Nanos(200 * MS));
        // Twice at most: 8 + sqrt(8) is 10.
        assert_eq!((g.limit(), g.gradient()), (10, 2.0));
        requests(&mut g, 1, 500.0, 250);
        g.advance(Nanos(300 * MS));
        // Half at least: 5 + sqrt(5) is 7.
        assert_eq!((g.limit(), g.gradient()), (7, 0.5));
        // A window without samples changes nothing.
        g.advance(Nanos(900 * MS));
        assert_eq!(g.limit(), 7);
    }

    #[test]
    fn the_buffer_forgives_and_the_bounds_hold() {
        for (buffer, limit) in [(0.0, 3), (0.5, 4), (1.0, 6)] {
            let mut g = controller(|c| c.buffer = buffer);
            requests(&mut g, 5, 100.0, 0);
            requests(&mut g, 1, 150.0, 50);
            g.advance(Nanos(100 * MS));
            assert_eq!(g.limit(), limit, "{buffer}");
        }
        let mut g = controller(|c| c.max_limit = 5);
        requests(&mut g, 5, 10.0, 0);
        for i in 1..20 {
            requests(&mut g, 1, 1.0, i * 100 - 50);
            g.advance(Nanos(i * 100 * MS));
        }
        assert_eq!(g.limit(), 5);
    }

    #[test]
    fn it_settles_where_requests_begin_to_queue() {
        // A server of 40 places and 10 ms a request: with n in flight a request takes 10 ms * max(1, n / 40). The limit
        // at rest is where n = n * 40 / n * 1.25 + sqrt of that: between 50 and 60.
        let mut g = controller(|c| {
            c.buffer = 0.25;
            c.min_rtt_interval = Nanos(3_600_000 * MS);
        });
        requests(&mut g, 5, 10.0, 0);
        for i in 1..200 {
            let took = 10.0 * (f64::from(g.limit()) / 40.0).max(1.0);
            requests(&mut g, 20, took, i * 100 - 50);
            g.advance(Nanos(i * 100 * MS));
        }
        assert!((50..=60).contains(&g.limit()), "{}", g.limit());
    }

    #[test]
    fn the_minimum_is_measured_again_and_old_requests_do_not_count() {
        let mut g = controller(|c| c.min_rtt_interval = Nanos(1_000 * MS));
        requests(&mut g, 5, 10.0, 0);
        requests(&mut g, 1, 10.0, 50);
        g.advance(Nanos(100 * MS));
        assert_eq!(g.limit(), 4);
        g.advance(Nanos(999 * MS));
        assert!(!g.measuring());
        g.advance(Nanos(1_000 * MS));
        assert_eq!((g.measuring(), g.limit()), (true, 3));
        for _ in 0..9 {
            g.sample(Nanos(999 * MS), 5.0, Nanos(1_001 * MS));
        }
        assert!(g.measuring());
        requests(&mut g, 5, 20.0, 1_002);
        // The limit from before comes back.
        assert_eq!((g.measuring(), g.limit(), g.min_rtt()), (false, 4, Some(0.0205)));
    }

    #[test]
    fn the_jitter_puts_a_measurement_off_by_a_part_of_the_interval() {
        let mut seen = Vec::new();
        for seed in 0..50 {
            let config = GradientConfig {
                jitter: 0.5,
                min_rtt_requests: 1,
                min_rtt_interval: Nanos(1_000 * MS),
                ..GradientConfig::default()
            };
            let mut g = Gradient::new(config, seed, Nanos(0)).unwrap();
            requests(&mut g, 1, 1.0, 0);
            let start = (0..3_000).find(|&at| {
                g.advance(Nanos(at * MS));
                g.measuring()
            });
            seen.push(start.unwrap());
        }
        assert!(seen.iter().all(|at| (1_000..1_500).contains(at)), "{seen:?}");
        assert!(seen.iter().max().unwrap() - seen.iter().min().unwrap() > 300);
    }

    #[test]
    fn five_windows_at_the_least_limit_measure_anew() {
        let mut g = controller(|_| {});
        requests(&mut g, 5, 1.0, 0);
        for i in 1..=5 {
            assert!(!g.measuring());
            requests(&mut g, 1, 100.0, i * 100 - 50);
            g.advance(Nanos(i * 100 * MS));
            assert_eq!(g.limit(), 3);
        }
        assert!(g.measuring());
    }

    #[test]
    fn time_that_goes_back_and_odd_latencies_do_no_harm() {
        let mut g = controller(|_| {});
        for (took, at) in [(0.0, 9), (f64::NAN, 3), (f64::INFINITY, 0), (-1.0, u64::MAX / MS), (1e300, 1)] {
            requests(&mut g, 5, took, at);
            assert!((3..=1000).contains(&g.limit()));
        }
        g.advance(Nanos::MAX);
        g.advance(Nanos(0));
    }

    #[test]
    fn parameters_that_cannot_be_are_refused() {
        let ok = GradientConfig::default();
        for wrong in [
            GradientConfig { update_interval: Nanos(0), ..ok },
            GradientConfig { min_rtt_interval: Nanos(0), ..ok },
            GradientConfig { percentile: 1.1, ..ok },
            GradientConfig { percentile: f64::NAN, ..ok },
            GradientConfig { max_limit: 2, ..ok },
            GradientConfig { min_limit: 0, ..ok },
            GradientConfig { min_rtt_requests: 0, ..ok },
            GradientConfig { jitter: -0.1, ..ok },
            GradientConfig { buffer: f64::INFINITY, ..ok },
        ] {
            assert!(Gradient::new(wrong, 0, Nanos(0)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn quantiles_are_those_of_two_digit_bins() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile(0.5), 0.0);
        for micros in [1_234, 1_267, 5_600, 99] {
            h.insert(micros);
        }
        // 99, then two in [1200, 1300), then [5600, 5700).
        assert_eq!(h.quantile(0.25), 100.0);
        assert_eq!(h.quantile(0.5), 1_250.0);
        assert_eq!(h.quantile(0.75), 1_300.0);
        assert_eq!(h.quantile(1.0), 5_700.0);
    }
}
