//! The binding of the forecasts.

use super::door::shown;
use crate::core::autoscaling::forecasting::{Holt, Season, Seasonal, Smoothing, fit};
use crate::core::error::ConfigError;
use crate::core::sync::Mutex;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A series of floats from an array, or from any sequence of numbers; None in it is a gap.
pub(super) fn series(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    if let Ok(array) = value.extract::<PyReadonlyArray1<'_, f64>>() {
        return Ok(array.as_array().iter().copied().collect());
    }
    let wrong = || PyErr::from(ConfigError::new(field, shown(value), "a sequence of numbers"));
    if let Ok(all) = value.extract::<Vec<f64>>() {
        return Ok(all);
    }
    let items: Vec<Option<f64>> = value.extract().map_err(|_| wrong())?;
    Ok(items.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

/// Holt's linear method over a series: the levels, the trends.
#[pyfunction]
fn _holt(series_: &Bound<'_, PyAny>, alpha: f64, beta: f64) -> PyResult<(Vec<f64>, Vec<f64>)> {
    let found = Holt::new(&series("series", series_)?, alpha, beta)?;
    Ok((found.levels, found.trends))
}

/// Additive Holt-Winters after a series.
#[pyclass(frozen, module = "aibalance._core", name = "SeasonalModel")]
pub(crate) struct SeasonalModel {
    // Held for one step or one forecast, without Python inside.
    inner: Mutex<Seasonal>,
}

#[pymethods]
impl SeasonalModel {
    /// Parameters that are None are fitted.
    #[staticmethod]
    fn fit(
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        periods: Vec<usize>,
        alpha: Option<f64>,
        beta: Option<f64>,
        gamma: Option<f64>,
        evaluations: usize,
    ) -> PyResult<SeasonalModel> {
        let values = series("series", values)?;
        let inner = py.detach(|| fit(&values, &periods, alpha, beta, gamma, evaluations))?;
        Ok(SeasonalModel { inner: Mutex::new(inner) })
    }

    fn update(&self, value: Option<f64>) -> PyResult<()> {
        Ok(self.inner.lock().update(value.unwrap_or(f64::NAN))?)
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        self.inner.lock().forecast(horizon).collect()
    }

    fn deviations(&self, horizon: usize) -> Vec<f64> {
        self.inner.lock().deviations(horizon).collect()
    }

    /// The most that it expects at steps `first` to `last`, each with so many standard deviations added.
    fn peak(&self, first: usize, last: usize, deviations: f64) -> f64 {
        let model = self.inner.lock();
        let expected = model.forecast(last).zip(model.deviations(last));
        expected.skip(first.saturating_sub(1)).map(|(m, d)| m + deviations * d).fold(f64::NEG_INFINITY, f64::max)
    }

    #[getter]
    fn alpha(&self) -> f64 {
        self.inner.lock().smoothing.alpha
    }

    #[getter]
    fn beta(&self) -> f64 {
        self.inner.lock().smoothing.beta
    }

    #[getter]
    fn gammas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let gammas = self.inner.lock().smoothing.gammas.clone();
        PyTuple::new(py, gammas)
    }

    #[getter]
    fn level(&self) -> f64 {
        self.inner.lock().level
    }

    #[getter]
    fn trend(&self) -> f64 {
        self.inner.lock().trend
    }

    #[getter]
    fn seasonals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let seasons = self.inner.lock().seasons.clone();
        let each: Vec<_> = seasons.iter().map(|s| PyTuple::new(py, &s.values)).collect::<PyResult<_>>()?;
        PyTuple::new(py, each)
    }

    #[getter]
    fn periods<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let periods: Vec<usize> = self.inner.lock().seasons.iter().map(|s| s.values.len()).collect();
        PyTuple::new(py, periods)
    }

    #[getter]
    fn sigma(&self) -> f64 {
        self.inner.lock().sigma()
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let m = self.inner.lock().clone();
        let out = PyDict::new(py);
        out.set_item("alpha", m.smoothing.alpha)?;
        out.set_item("beta", m.smoothing.beta)?;
        out.set_item("gammas", m.smoothing.gammas.clone())?;
        out.set_item("level", m.level)?;
        out.set_item("trend", m.trend)?;
        out.set_item("seasons", m.seasons.iter().map(|s| s.values.clone()).collect::<Vec<_>>())?;
        out.set_item("next", m.seasons.iter().map(|s| s.next).collect::<Vec<_>>())?;
        out.set_item("squares", m.squares)?;
        out.set_item("errors", m.errors)?;
        out.set_item("seen", m.seen)?;
        Ok(out)
    }

    #[staticmethod]
    fn of_state(state: &Bound<'_, PyDict>) -> PyResult<SeasonalModel> {
        let wrong =
            |name: &str| PyErr::from(ConfigError::new(format!("state.{name}"), "what it is", "what state() gives"));
        fn get<'py, T: for<'a> FromPyObject<'a, 'py>>(
            state: &Bound<'py, PyDict>,
            name: &str,
            wrong: impl Fn(&str) -> PyErr,
        ) -> PyResult<T> {
            state.get_item(name)?.ok_or_else(|| wrong(name))?.extract().map_err(|_| wrong(name))
        }
        let gammas: Vec<f64> = get(state, "gammas", wrong)?;
        let smoothing = Smoothing { alpha: get(state, "alpha", wrong)?, beta: get(state, "beta", wrong)?, gammas };
        let smoothing = smoothing.checked()?;
        let values: Vec<Vec<f64>> = get(state, "seasons", wrong)?;
        let next: Vec<usize> = get(state, "next", wrong)?;
        let fits = values.len() == next.len() && values.len() == smoothing.gammas.len() && !values.is_empty();
        if !fits || values.iter().zip(&next).any(|(v, n)| *n >= v.len() || v.iter().any(|x| !x.is_finite())) {
            return Err(wrong("seasons"));
        }
        let seasons = values.into_iter().zip(next).map(|(values, next)| Season { values, next }).collect();
        let (level, trend, squares): (f64, f64, f64) =
            (get(state, "level", wrong)?, get(state, "trend", wrong)?, get(state, "squares", wrong)?);
        if !(level.is_finite() && trend.is_finite() && squares >= 0.0) {
            return Err(wrong("level"));
        }
        let (errors, seen) = (get(state, "errors", wrong)?, get(state, "seen", wrong)?);
        let model = Seasonal { smoothing, level, trend, seasons, squares, errors, seen };
        Ok(SeasonalModel { inner: Mutex::new(model) })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let state = slf.get().state(slf.py())?;
        Ok((slf.get_type().getattr("of_state")?, (state,)))
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<SeasonalModel>()?;
    m.add_function(wrap_pyfunction!(_holt, m)?)
}
