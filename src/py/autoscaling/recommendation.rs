//! Recommendations as Python sees them. Words and dictionaries are made when they are asked for.

use super::observation::removable;
use super::plain;
use super::read::shown;
use super::removal;
use crate::core::autoscaling::recommendation::Rule;
use crate::core::autoscaling::told::{Outcome, Written};
use crate::core::autoscaling::{Action, Limit, Recommendation, Signal, StageValue};
use crate::core::error::ConfigError;
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// How many servers there should be, and why.
///
/// >>> from aibalance.autoscaling import TargetTracking
/// >>> policy = TargetTracking(metric="cpu", target=50, max_capacity=40, high_alarm=None, low_alarm=None)
/// >>> policy.recommend({"current": 10, "metrics": {"cpu": 75.0}}, now=0.0)
/// Recommendation(15, current=10, action='scale_out')
#[pyclass(frozen, eq, module = "aibalance.autoscaling", name = "Recommendation")]
pub(crate) struct PyRecommendation {
    inner: Inner,
    remove: Vec<String>,
}

/// The AWS policies' own kind, or the outcome of any other system.
enum Inner {
    Aws(Box<Recommendation>),
    Other(Box<dyn Outcome>),
}

impl PyRecommendation {
    pub(super) fn new(inner: Recommendation) -> PyRecommendation {
        PyRecommendation { inner: Inner::Aws(Box::new(inner)), remove: Vec::new() }
    }

    pub(super) fn told(outcome: impl Outcome + 'static) -> PyRecommendation {
        PyRecommendation { inner: Inner::Other(Box::new(outcome)), remove: Vec::new() }
    }

    /// With the instances that it would take away first, if the observation has instances.
    pub(super) fn ranked(mut self, observation: &Bound<'_, PyAny>, now: Nanos) -> PyResult<PyRecommendation> {
        let desired = self.desired();
        if let Some(first) = removable(observation, |instances| removal::first(instances, desired, now))? {
            self.remove = first;
        }
        Ok(self)
    }

    /// That of an AWS policy.
    pub(super) fn inner(&self) -> Option<&Recommendation> {
        match &self.inner {
            Inner::Aws(r) => Some(r),
            Inner::Other(_) => None,
        }
    }

    /// Number and instant of another system's.
    pub(super) fn identity(&self) -> Option<(u64, Nanos)> {
        match &self.inner {
            Inner::Aws(_) => None,
            Inner::Other(o) => Some((o.serial(), o.at())),
        }
    }
}

impl PartialEq for PyRecommendation {
    fn eq(&self, other: &PyRecommendation) -> bool {
        let same = match (&self.inner, &other.inner) {
            (Inner::Aws(a), Inner::Aws(b)) => a == b,
            (Inner::Other(a), Inner::Other(b)) => Written::of(&**a) == Written::of(&**b),
            _ => false,
        };
        same && self.remove == other.remove
    }
}

fn stage<'py>(py: Python<'py>, value: StageValue) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        StageValue::Nothing => py.None().into_bound(py),
        StageValue::Whole(n) => n.into_pyobject(py)?.into_any(),
        StageValue::Real(x) => x.into_pyobject(py)?.into_any(),
        StageValue::Word(w) => w.into_pyobject(py)?.into_any(),
    })
}

fn details<'py>(py: Python<'py>, r: &Recommendation) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("alarm", r.signal.name())?;
    out.set_item("wanted", r.wanted)?;
    out.set_item("warming", r.warming)?;
    out.set_item("in_flight", (r.asked - r.base).max(0))?;
    match r.rule {
        Rule::TargetTracking(_) => {
            out.set_item("metric", r.metric)?;
            out.set_item("measured_at", r.measured_at)?;
            out.set_item("need", r.need)?;
            out.set_item("projected_metric", r.projected_metric())?;
        }
        Rule::StepScaling(_) => {
            out.set_item("metric", r.metric)?;
            out.set_item("step", r.step)?;
            out.set_item("adjustment", r.adjustment)?;
        }
        Rule::Combined => {
            let parts: Vec<Py<PyAny>> = r
                .parts
                .iter()
                .map(|p| Ok(Bound::new(py, PyRecommendation::new(p.clone()))?.into_any().unbind()))
                .collect::<PyResult<_>>()?;
            out.set_item("policies", PyTuple::new(py, parts)?)?;
        }
    }
    Ok(out)
}

#[pymethods]
impl PyRecommendation {
    /// The capacity that there should be.
    #[getter]
    fn desired(&self) -> i64 {
        match &self.inner {
            Inner::Aws(r) => r.desired,
            Inner::Other(o) => o.desired(),
        }
    }

    /// The capacity in service when it was made.
    #[getter]
    fn current(&self) -> i64 {
        match &self.inner {
            Inner::Aws(r) => r.current,
            Inner::Other(o) => o.current(),
        }
    }

    /// "scale_out", "scale_in", "none" or "insufficient_data": against what had been asked for before.
    #[getter]
    fn action(&self) -> &'static str {
        match &self.inner {
            Inner::Aws(r) => r.action().name(),
            Inner::Other(o) => o.action().name(),
        }
    }

    /// One sentence for people; its wording may change.
    #[getter]
    fn reason(&self) -> String {
        match &self.inner {
            Inner::Aws(r) => r.reason(),
            Inner::Other(o) => o.reason(),
        }
    }

    /// What kept it from being what the metric alone asks for: "min_capacity", "max_capacity", "in_flight", "warming",
    /// "scale_out_cooldown", "scale_in_cooldown", "disable_scale_in", "zero_capacity", "not_unanimous" (AWS), or
    /// "tolerance", "stabilization", "scale_up_limit", "scale_down_limit", "min_replicas", "max_replicas",
    /// "missing_metrics", "scaling_disabled" (Kubernetes), or None.
    #[getter]
    fn limited_by(&self) -> Option<&str> {
        match &self.inner {
            Inner::Aws(r) => r.limited_by.map(Limit::name),
            Inner::Other(o) => o.limited_by(),
        }
    }

    /// The stages in order, each a name and the value after it.
    #[getter]
    fn trace<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let stages: Vec<(String, Bound<'py, PyAny>)> = match &self.inner {
            Inner::Aws(r) => r.trace().into_iter().map(|(n, v)| Ok((n, stage(py, v)?))).collect::<PyResult<_>>()?,
            Inner::Other(o) => {
                o.trace().iter().map(|(n, v)| Ok((n.clone(), plain::to(py, v)?))).collect::<PyResult<_>>()?
            }
        };
        PyList::new(py, stages)
    }

    /// The instances to remove first, so many that `desired` are left, if the observation had `instances`: else empty.
    #[getter]
    fn remove<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.remove)
    }

    /// What the policy's own system would show: the alarm's state, the metric, the raw need or the step, in-flight
    /// capacity, the metric projected to the new capacity; of several policies, each one's recommendation.
    #[getter]
    fn details<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match &self.inner {
            Inner::Aws(r) => details(py, r),
            Inner::Other(o) => plain::to_dict(py, &o.details()),
        }
    }

    fn __repr__(&self) -> String {
        let mut text =
            format!("Recommendation({}, current={}, action='{}'", self.desired(), self.current(), self.action());
        if let Some(limit) = self.limited_by() {
            text.push_str(&format!(", limited_by='{limit}'"));
        }
        text.push(')');
        text
    }

    fn __hash__(&self) -> u64 {
        let (serial, at) = match &self.inner {
            Inner::Aws(r) => (r.serial, r.at),
            Inner::Other(o) => (o.serial(), o.at()),
        };
        serial ^ at.0.rotate_left(32) ^ self.desired().unsigned_abs().rotate_left(17)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let rebuild = slf.get_type().getattr("_rebuild")?;
        let fields = match &slf.get().inner {
            Inner::Aws(r) => pack(slf.py(), r)?,
            Inner::Other(o) => pack_told(slf.py(), &**o)?,
        };
        fields.set_item("remove", &slf.get().remove)?;
        Ok((rebuild, (fields,)))
    }

    /// Makes one again from what `__reduce__` wrote.
    #[staticmethod]
    fn _rebuild(fields: &Bound<'_, PyDict>) -> PyResult<PyRecommendation> {
        let mut made = if fields.contains("told")? {
            PyRecommendation::told(unpack_told(fields)?)
        } else {
            PyRecommendation::new(unpack(fields)?)
        };
        if fields.contains("remove")? {
            made.remove = get(fields, "remove")?;
        }
        Ok(made)
    }

    /// This one with the instances that it would take away first, for who puts policies together.
    fn _ranked(&self, observation: &Bound<'_, PyAny>, now: f64) -> PyResult<PyRecommendation> {
        let made = match &self.inner {
            Inner::Aws(r) => PyRecommendation::new((**r).clone()),
            Inner::Other(o) => PyRecommendation::told(Written::of(&**o)),
        };
        made.ranked(observation, Nanos::from_secs_f64(now))
    }
}

/// Any other system's outcome travels as what it tells.
fn pack_told<'py>(py: Python<'py>, o: &dyn Outcome) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("told", true)?;
    out.set_item("current", o.current())?;
    out.set_item("desired", o.desired())?;
    out.set_item("action", o.action().name())?;
    out.set_item("limited_by", o.limited_by())?;
    out.set_item("reason", o.reason())?;
    out.set_item("trace", plain::to_dict(py, &o.trace())?)?;
    out.set_item("details", plain::to_dict(py, &o.details())?)?;
    out.set_item("serial", o.serial())?;
    out.set_item("at", o.at().0)?;
    Ok(out)
}

fn unpack_told(fields: &Bound<'_, PyDict>) -> PyResult<Written> {
    let action: String = get(fields, "action")?;
    let actions = [Action::ScaleOut, Action::ScaleIn, Action::None, Action::InsufficientData];
    Ok(Written {
        current: get(fields, "current")?,
        desired: get(fields, "desired")?,
        action: word("action", &action, &actions, Action::name)?,
        limited_by: get(fields, "limited_by")?,
        reason: get(fields, "reason")?,
        trace: plain::from_dict(&get(fields, "trace")?)?,
        details: plain::from_dict(&get(fields, "details")?)?,
        serial: get(fields, "serial")?,
        at: Nanos(get(fields, "at")?),
    })
}

fn pack<'py>(py: Python<'py>, r: &Recommendation) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for (name, n) in
        [("current", r.current), ("asked", r.asked), ("desired", r.desired), ("warming", r.warming), ("base", r.base)]
    {
        out.set_item(name, n)?;
    }
    for (name, n) in [("wanted", r.wanted), ("adjustment", r.adjustment), ("vote", r.vote)] {
        out.set_item(name, n)?;
    }
    let (rule, goal) = match r.rule {
        Rule::TargetTracking(t) => ("target_tracking", t),
        Rule::StepScaling(t) => ("step_scaling", t),
        Rule::Combined => ("combined", 0.0),
    };
    out.set_item("rule", (rule, goal))?;
    out.set_item("limited_by", r.limited_by.map(Limit::name))?;
    out.set_item("signal", r.signal.name())?;
    out.set_item("name", &*r.name)?;
    out.set_item("metric", r.metric)?;
    out.set_item("measured_at", r.measured_at)?;
    out.set_item("need", r.need)?;
    out.set_item("step", r.step)?;
    out.set_item("period", r.period)?;
    out.set_item("repeat", r.repeat)?;
    out.set_item("serial", r.serial)?;
    out.set_item("at", r.at.0)?;
    let parts: Vec<Bound<'py, PyDict>> = r.parts.iter().map(|p| pack(py, p)).collect::<PyResult<_>>()?;
    out.set_item("parts", parts)?;
    Ok(out)
}

fn get<'py, T: for<'a> FromPyObject<'a, 'py>>(fields: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    let damaged = |shown: String| PyErr::from(ConfigError::new(name, shown, "what a pickled Recommendation holds"));
    let value = fields.get_item(name)?.ok_or_else(|| damaged("nothing".to_owned()))?;
    value.extract().map_err(|_| damaged(shown(&value)))
}

fn word<T: Copy>(name: &str, text: &str, all: &[T], named: impl Fn(T) -> &'static str) -> PyResult<T> {
    let found = all.iter().copied().find(|t| named(*t) == text);
    found.ok_or_else(|| ConfigError::new(name, text, "what a pickled Recommendation holds").into())
}

fn unpack(fields: &Bound<'_, PyDict>) -> PyResult<Recommendation> {
    let (rule, goal): (String, f64) = get(fields, "rule")?;
    let rule = match rule.as_str() {
        "target_tracking" => Rule::TargetTracking(goal),
        "step_scaling" => Rule::StepScaling(goal),
        "combined" => Rule::Combined,
        other => return Err(ConfigError::new("rule", other, "what a pickled Recommendation holds").into()),
    };
    let limit: Option<String> = get(fields, "limited_by")?;
    let signal: String = get(fields, "signal")?;
    let signals = [Signal::Ok, Signal::High, Signal::Low, Signal::InsufficientData];
    let name: String = get(fields, "name")?;
    let parts: Vec<Bound<'_, PyDict>> = get(fields, "parts")?;
    Ok(Recommendation {
        current: get(fields, "current")?,
        asked: get(fields, "asked")?,
        desired: get(fields, "desired")?,
        warming: get(fields, "warming")?,
        limited_by: limit.map(|l| word("limited_by", &l, &Limit::ALL, Limit::name)).transpose()?,
        signal: word("signal", &signal, &signals, Signal::name)?,
        rule,
        name: name.into(),
        metric: get(fields, "metric")?,
        measured_at: get(fields, "measured_at")?,
        base: get(fields, "base")?,
        need: get(fields, "need")?,
        wanted: get(fields, "wanted")?,
        step: get(fields, "step")?,
        adjustment: get(fields, "adjustment")?,
        vote: get(fields, "vote")?,
        period: get(fields, "period")?,
        repeat: get(fields, "repeat")?,
        serial: get(fields, "serial")?,
        at: Nanos(get(fields, "at")?),
        parts: parts.iter().map(unpack).collect::<PyResult<_>>()?,
    })
}
