//! Finding the smoothing parameters.

use super::seasonal::check_periods;
use super::{Seasonal, Smoothing, check};
use crate::core::error::ConfigError;
use cobyla::{RhoBeg, StopTols, minimize};

type Constraint = fn(&[f64], &mut ()) -> f64;

/// The model with the parameters whose errors one step ahead have the least squares; those that are given stay.
///
/// The search is Powell's COBYLA from 0.3, 0.02 and 0.1, within 0 to 1, in at most `evaluations` passes.
pub fn fit(
    series: &[f64],
    periods: &[usize],
    alpha: Option<f64>,
    beta: Option<f64>,
    gamma: Option<f64>,
    evaluations: usize,
) -> Result<Seasonal, ConfigError> {
    check_periods(periods, series.len())?;
    check("series", series, true)?;
    let with = |x: &[f64]| {
        let mut free = x.iter().copied();
        let mut next = |fixed: Option<f64>| fixed.unwrap_or_else(|| free.next().unwrap_or(0.0).clamp(0.0, 1.0));
        let (alpha, beta) = (next(alpha), next(beta));
        Smoothing { alpha, beta, gammas: periods.iter().map(|_| next(gamma)).collect() }
    };
    let mut start = Vec::new();
    let gammas = periods.iter().map(|_| (gamma, 0.1));
    for (fixed, from) in [(alpha, 0.3), (beta, 0.02)].into_iter().chain(gammas) {
        if fixed.is_none() {
            start.push(from);
        }
    }
    let begun = Seasonal::begin(series, periods, with(&start))?;
    let rest = series.get(begun.seen as usize..).unwrap_or(&[]);
    if start.is_empty() {
        return Seasonal::new(series, periods, with(&start));
    }
    let squares = |x: &[f64]| {
        let mut model = begun.clone();
        model.smoothing = with(x);
        model.run(rest);
        if model.squares.is_finite() { model.squares } else { f64::MAX }
    };
    // Relative to where it begins, so that the search sees series of every scale alike.
    let first = squares(&start);
    if first == 0.0 {
        return Seasonal::new(series, periods, with(&start));
    }
    let cost = |x: &[f64], _: &mut ()| squares(x) / first;
    let bounds = vec![(0.0, 1.0); start.len()];
    let constraints: [Constraint; 0] = [];
    let stop = StopTols { ftol_rel: 1e-5, xtol_rel: 1e-3, ..StopTols::default() };
    let found = minimize(cost, &start, &bounds, &constraints, (), evaluations.max(1), RhoBeg::All(0.2), Some(stop));
    let best = match found {
        Ok((_, x, _)) | Err((_, x, _)) => x,
    };
    // A search that was cut short may end worse than it began.
    if squares(&best) <= first {
        Seasonal::new(series, periods, with(&best))
    } else {
        Seasonal::new(series, periods, with(&start))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn series(n: usize) -> Vec<f64> {
        let mut noise = 12345_u64;
        let mut level = 100.0;
        let made = (0..n).map(|i| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let e = (noise >> 33) as f64 / f64::from(1_u32 << 31) - 0.5;
            level += 0.2 * e;
            level + 10.0 * f64::sin(i as f64 * std::f64::consts::TAU / 24.0) + e
        });
        made.collect()
    }

    #[test]
    fn is_better_than_where_it_began_and_near_the_best_of_a_grid() {
        let xs = series(480);
        let found = fit(&xs, &[24], None, None, None, 300).unwrap();
        let mut best = f64::MAX;
        for a in 0..=20 {
            for b in [0.0, 0.01, 0.1, 0.5] {
                for g in 0..=10 {
                    let s = Smoothing { alpha: 0.05 * f64::from(a), beta: b, gammas: vec![0.1 * f64::from(g)] };
                    best = best.min(Seasonal::new(&xs, &[24], s).unwrap().squares);
                }
            }
        }
        assert!(found.squares <= best * 1.01, "{} against {best}", found.squares);
    }

    #[test]
    fn what_is_given_stays() {
        let xs = series(96);
        let found = fit(&xs, &[24], Some(0.7), None, Some(0.0), 100).unwrap();
        assert_eq!((found.smoothing.alpha, found.smoothing.gammas[0]), (0.7, 0.0));
        let all = fit(&xs, &[24], Some(0.7), Some(0.1), Some(0.2), 100).unwrap();
        assert_eq!(all.smoothing, Smoothing { alpha: 0.7, beta: 0.1, gammas: vec![0.2] });
        assert!(fit(&xs, &[24], Some(2.0), None, None, 100).is_err());
        assert!(fit(&xs, &[49], None, None, None, 100).is_err());
        assert!(fit(&[0.0; 8], &[2], None, None, None, 100).unwrap().squares == 0.0);
    }
}
