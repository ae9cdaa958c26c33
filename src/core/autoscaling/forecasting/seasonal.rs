//! Additive Holt–Winters with one season or several.

use super::{LARGEST, check, share};
use crate::core::error::ConfigError;

/// How fast each part follows the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    /// Of the level.
    pub alpha: f64,
    /// Of the trend.
    pub beta: f64,
    /// Of each season.
    pub gammas: Vec<f64>,
}

impl Smoothing {
    /// Checked: each from 0 to 1.
    pub fn checked(self) -> Result<Smoothing, ConfigError> {
        share("alpha", self.alpha)?;
        share("beta", self.beta)?;
        self.gammas.iter().try_for_each(|&g| share("gamma", g).map(drop))?;
        Ok(self)
    }
}

/// One season: what each of its places adds to the level.
#[derive(Clone, Debug, PartialEq)]
pub struct Season {
    /// What each place adds.
    pub values: Vec<f64>,
    /// The place of the next value.
    pub next: usize,
}

impl Season {
    fn now(&self) -> f64 {
        self.values.get(self.next).copied().unwrap_or(0.0)
    }

    fn step(&mut self, change: f64) {
        if let Some(value) = self.values.get_mut(self.next) {
            *value += change;
        }
        self.next = if self.next + 1 >= self.values.len() { 0 } else { self.next + 1 };
    }

    fn ahead(&self, steps: usize) -> f64 {
        let place = (self.next + (steps - 1) % self.values.len().max(1)) % self.values.len().max(1);
        self.values.get(place).copied().unwrap_or(0.0)
    }
}

/// The model after the values that it saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seasonal {
    /// Its parameters.
    pub smoothing: Smoothing,
    /// The level.
    pub level: f64,
    /// The trend a step.
    pub trend: f64,
    /// The seasons, the shortest first.
    pub seasons: Vec<Season>,
    /// The sum of the squares of the errors one step ahead.
    pub squares: f64,
    /// How many such errors there were.
    pub errors: u64,
    /// How many values it saw, gaps included.
    pub seen: u64,
}

/// Periods that ascend, and a series that holds the longest twice.
pub(crate) fn check_periods(periods: &[usize], length: usize) -> Result<usize, ConfigError> {
    let text = || format!("{periods:?}");
    let Some(&longest) = periods.last() else {
        return Err(ConfigError::new("periods", text(), "at least one period"));
    };
    if periods.first().is_some_and(|&p| p < 2) || !periods.is_sorted_by(|a, b| a < b) {
        return Err(ConfigError::new("periods", text(), "whole numbers of 2 or more that ascend"));
    }
    if length / 2 < longest {
        let allowed = format!("twice the longest period ({longest}) or more");
        return Err(ConfigError::new("series", format!("{length} values"), allowed));
    }
    Ok(longest)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.filter(|v| !v.is_nan()) {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

impl Seasonal {
    /// The state after the first of the longest seasons: the level is its mean, the trend what the next one is higher,
    /// each place of a season its mean distance from the level; a longer season holds what the shorter ones leave.
    pub fn begin(series: &[f64], periods: &[usize], smoothing: Smoothing) -> Result<Seasonal, ConfigError> {
        let smoothing = smoothing.checked()?;
        check("series", series, true)?;
        let longest = check_periods(periods, series.len())?;
        if smoothing.gammas.len() != periods.len() {
            return Err(ConfigError::new("gamma", format!("{:?}", smoothing.gammas), "one for each period"));
        }
        let (first, rest) = series.split_at(longest);
        let steps = rest.iter().zip(first).map(|(b, a)| (b - a) / longest as f64);
        let trend = mean(steps).unwrap_or(0.0);
        let level = mean(first.iter().copied()).unwrap_or(0.0);
        let mut left: Vec<f64> = first.iter().map(|x| x - level).collect();
        let mut seasons = Vec::with_capacity(periods.len());
        for &period in periods {
            let places = (0..period).map(|i| mean(left.iter().skip(i).step_by(period).copied()).unwrap_or(0.0));
            let values: Vec<f64> = places.collect();
            for (x, place) in left.iter_mut().zip(values.iter().cycle()) {
                *x -= place;
            }
            seasons.push(Season { next: longest % period, values });
        }
        let seen = longest as u64;
        Ok(Seasonal { smoothing, level, trend, seasons, squares: 0.0, errors: 0, seen })
    }

    /// The model after the whole series.
    pub fn new(series: &[f64], periods: &[usize], smoothing: Smoothing) -> Result<Seasonal, ConfigError> {
        let mut model = Seasonal::begin(series, periods, smoothing)?;
        model.run(series.get(model.seen as usize..).unwrap_or(&[]));
        Ok(model)
    }

    /// Takes up values that were checked.
    pub(crate) fn run(&mut self, values: &[f64]) {
        let (alpha, beta) = (self.smoothing.alpha, self.smoothing.beta);
        match (self.seasons.as_mut_slice(), self.smoothing.gammas.as_slice()) {
            // One season is the everyday case: everything stays in registers.
            ([season], [gamma]) => {
                let (mut level, mut trend, mut squares, mut errors) =
                    (self.level, self.trend, self.squares, self.errors);
                let back = gamma * (1.0 - alpha);
                for &x in values {
                    let expected = level + trend;
                    let error = x - expected - season.now();
                    if error.is_nan() {
                        level = expected;
                        season.step(0.0);
                        continue;
                    }
                    level = expected + alpha * error;
                    trend += alpha * beta * error;
                    season.step(back * error);
                    squares += error * error;
                    errors += 1;
                }
                (self.level, self.trend, self.squares, self.errors) = (level, trend, squares, errors);
                self.seen = self.seen.saturating_add(values.len() as u64);
            }
            _ => values.iter().for_each(|&x| self.step(x)),
        }
    }

    // In the form of error correction, which is the same recurrence: with the error e of the forecast one step ahead,
    // the level moves by alpha e, the trend by alpha beta e, a season by gamma (1 - alpha) e.
    fn step(&mut self, x: f64) {
        let expected = self.level + self.trend;
        let error = x - expected - self.seasons.iter().map(Season::now).sum::<f64>();
        self.seen = self.seen.saturating_add(1);
        let gap = error.is_nan();
        let error = if gap { 0.0 } else { error };
        self.level = expected + self.smoothing.alpha * error;
        self.trend += self.smoothing.alpha * self.smoothing.beta * error;
        for (season, gamma) in self.seasons.iter_mut().zip(&self.smoothing.gammas) {
            season.step(gamma * (1.0 - self.smoothing.alpha) * error);
        }
        if !gap {
            self.squares += error * error;
            self.errors += 1;
        }
    }

    /// Takes up one more value; NaN is a gap, at which it believes itself.
    pub fn update(&mut self, value: f64) -> Result<(), ConfigError> {
        if value.abs() > LARGEST {
            return Err(ConfigError::new("value", value, "a number up to 1e150, or NaN for a gap"));
        }
        self.step(value);
        Ok(())
    }

    /// The standard deviation of the errors one step ahead; 0 without any.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        if self.errors == 0 { 0.0 } else { (self.squares / self.errors as f64).sqrt() }
    }

    /// What it expects 1, 2, ... steps ahead.
    pub fn forecast(&self, horizon: usize) -> impl Iterator<Item = f64> + '_ {
        (1..=horizon).map(|h| {
            let season: f64 = self.seasons.iter().map(|s| s.ahead(h)).sum();
            self.level + h as f64 * self.trend + season
        })
    }

    /// The standard deviation of its error 1, 2, ... steps ahead, were the errors independent and equal.
    pub fn deviations(&self, horizon: usize) -> impl Iterator<Item = f64> + '_ {
        let (alpha, beta) = (self.smoothing.alpha, self.smoothing.beta);
        let (sigma, mut sum) = (self.sigma(), 1.0);
        (1..=horizon).map(move |h| {
            let deviation = sigma * f64::sqrt(sum);
            let mut weight = alpha + alpha * beta * h as f64;
            for (season, gamma) in self.seasons.iter().zip(&self.smoothing.gammas) {
                if h % season.values.len().max(1) == 0 {
                    weight += gamma * (1.0 - alpha);
                }
            }
            sum += weight * weight;
            deviation
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn smoothing(alpha: f64, beta: f64, gammas: &[f64]) -> Smoothing {
        Smoothing { alpha, beta, gammas: gammas.to_vec() }
    }

    fn textbook(xs: &[f64], m: usize, alpha: f64, beta: f64, gamma: f64) -> (f64, f64, Vec<f64>) {
        let mut level = xs[..m].iter().sum::<f64>() / m as f64;
        let mut trend = (0..m).map(|i| (xs[m + i] - xs[i]) / m as f64).sum::<f64>() / m as f64;
        let mut season: Vec<f64> = xs[..m].iter().map(|x| x - level).collect();
        for (i, x) in xs.iter().enumerate().skip(m) {
            let before = level;
            level = alpha * (x - season[i % m]) + (1.0 - alpha) * (level + trend);
            trend = beta * (level - before) + (1.0 - beta) * trend;
            season[i % m] = gamma * (x - level) + (1.0 - gamma) * season[i % m];
        }
        (level, trend, season)
    }

    #[test]
    fn one_season_is_the_textbook_recurrence() {
        let xs: Vec<f64> = (0..23).map(|i| f64::from(i * i % 17) + 0.3 * f64::from(i)).collect();
        for m in [2, 5, 7] {
            let model = Seasonal::new(&xs, &[m], smoothing(0.4, 0.2, &[0.3])).unwrap();
            let (level, trend, season) = textbook(&xs, m, 0.4, 0.2, 0.3);
            assert!((model.level - level).abs() < 1e-12 && (model.trend - trend).abs() < 1e-12);
            assert!(model.seasons[0].values.iter().zip(&season).all(|(a, b)| (a - b).abs() < 1e-12));
            let next: Vec<f64> = model.forecast(2).collect();
            assert!((next[1] - (level + 2.0 * trend + season[(xs.len() + 1) % m])).abs() < 1e-12);
        }
    }

    #[test]
    fn two_seasons_that_add_up_forecast_themselves() {
        let of = |i: usize| 100.0 + [0.0, 3.0, 9.0, 3.0][i % 4] + [0.0, 0.0, 0.0, 5.0, -5.0, 1.0, 2.0][(i / 4) % 7];
        let xs: Vec<f64> = (0..84).map(of).collect();
        let model = Seasonal::new(&xs, &[4, 28], smoothing(0.3, 0.1, &[0.2, 0.2])).unwrap();
        for (h, expected) in model.forecast(60).enumerate() {
            assert!((expected - of(84 + h)).abs() < 1e-9, "{h}: {expected}");
        }
        assert!(model.sigma() < 1e-9);
    }

    #[test]
    fn a_gap_moves_time_and_nothing_else() {
        let xs = [1.0, 5.0, 1.0, 5.0, f64::NAN, 5.0, 1.0, f64::NAN];
        let model = Seasonal::new(&xs, &[2], smoothing(0.5, 0.0, &[0.5])).unwrap();
        let next: Vec<f64> = model.forecast(2).collect();
        assert!((next[0] - 1.0).abs() < 1e-12 && (next[1] - 5.0).abs() < 1e-12);
        assert_eq!((model.seen, model.errors), (8, 4));
        let mut again = Seasonal::begin(&xs, &[2], smoothing(0.5, 0.0, &[0.5])).unwrap();
        xs[2..].iter().for_each(|&x| again.update(x).unwrap());
        assert_eq!(again, model);
    }

    #[test]
    fn intervals_widen_with_the_horizon_and_the_season() {
        let xs: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 11)).collect();
        let model = Seasonal::new(&xs, &[4], smoothing(0.4, 0.1, &[0.3])).unwrap();
        let d: Vec<f64> = model.deviations(6).collect();
        assert_eq!(d[0], model.sigma());
        assert!(d.is_sorted());
        let c: Vec<f64> = d.windows(2).map(|w| (w[1] * w[1] - w[0] * w[0]) / (d[0] * d[0])).collect();
        assert!((c[0] - (0.4 + 0.04_f64).powi(2)).abs() < 1e-9);
        assert!((c[3] - (0.4 + 0.16 + 0.3 * 0.6_f64).powi(2)).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be() {
        let xs = vec![1.0; 20];
        let s = || smoothing(0.5, 0.5, &[0.5]);
        for periods in [&[][..], &[1], &[11], &[4, 4], &[5, 2]] {
            assert!(Seasonal::new(&xs, periods, s()).is_err(), "{periods:?}");
        }
        assert!(Seasonal::new(&xs, &[2, 4], s()).is_err());
        assert!(Seasonal::new(&[1.0, 2.0, f64::INFINITY, 1.0], &[2], s()).is_err());
        assert!(Seasonal::new(&xs, &[2], smoothing(-0.1, 0.5, &[0.5])).is_err());
        assert!(Seasonal::new(&[f64::NAN; 8], &[2], s()).unwrap().forecast(3).all(|x| x == 0.0));
    }
}
