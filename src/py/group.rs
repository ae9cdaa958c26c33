//! The binding of groups: configuration, commands and memory are plain values both ways.

use super::autoscaling::{moment, plain_from, plain_to};
use crate::core::autoscaling::told::Plain;
use crate::core::capacity::group::{Action, Command, Group, GroupConfig};
use crate::core::sync::{Mutex, MutexGuard};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// The native half of a group.
#[pyclass(frozen, module = "aibalance._core", name = "GroupEngine")]
pub(crate) struct GroupEngine {
    // Held for one step, without Python inside.
    group: Mutex<Group>,
}

impl GroupEngine {
    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock()
    }
}

/// Kind, instance, at, reason, value, type, zone, market, price, template.
fn tell<'py>(py: Python<'py>, a: Action) -> PyResult<Bound<'py, PyTuple>> {
    let instance = (a.number > 0).then(|| format!("i-{}", a.number));
    let head = (a.kind, instance, a.at.as_secs_f64(), a.reason, a.value);
    let about = a.about.map(|b| (b.kind, b.zone, b.market.name(), b.price, b.template));
    (head, about).into_pyobject(py)
}

fn actions<'py>(py: Python<'py>, all: Vec<Action>) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, all.into_iter().map(|a| tell(py, a)).collect::<PyResult<Vec<_>>>()?)
}

#[pymethods]
impl GroupEngine {
    #[new]
    fn new(config: &Bound<'_, PyAny>) -> PyResult<GroupEngine> {
        let config = GroupConfig::new(&plain_from("config", config)?)?;
        Ok(GroupEngine { group: Mutex::new(Group::new(config)) })
    }

    fn step<'py>(&self, py: Python<'py>, now: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let now = moment("now", now)?;
        let all = self.lock().step(now);
        actions(py, all)
    }

    fn act<'py>(
        &self,
        py: Python<'py>,
        verb: &str,
        values: &Bound<'_, PyAny>,
        now: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let now = moment("now", now)?;
        let command = Command::read(verb, &plain_from("values", values)?)?;
        let all = self.lock().act(&command, now)?;
        actions(py, all)
    }

    fn view<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let view: Plain = self.lock().view();
        plain_to(py, &view)
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.lock().state();
        plain_to(py, &state)
    }

    fn restore(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = plain_from("state", state)?;
        Ok(self.lock().restore(&state)?)
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<GroupEngine>()
}
