//! The memory as a plain dictionary (numbers, text, lists, None), and back. Instants are whole nanoseconds.

use super::super::read::{refuse, whole};
use crate::core::autoscaling::hpa::behavior::{Event, Past};
use crate::core::autoscaling::hpa::conditions::{Conditions, NAMES, Reason};
use crate::core::autoscaling::hpa::outcome::reason_named;
use crate::core::autoscaling::hpa::state::{Memory, Undo};
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

/// The layout's number: another one is refused.
const VERSION: u64 = 1;

fn events<'py>(py: Python<'py>, list: &[Event]) -> PyResult<Bound<'py, PyList>> {
    let out = PyList::empty(py);
    for e in list {
        let row = PyList::empty(py);
        row.append(e.change)?;
        row.append(e.at.0)?;
        row.append(e.outdated)?;
        out.append(row)?;
    }
    Ok(out)
}

pub(super) fn to_dict<'py>(py: Python<'py>, m: &Memory) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("version", VERSION)?;
    out.set_item("kind", "hpa")?;
    out.set_item("serial", m.serial)?;
    let past = PyList::empty(py);
    for p in &m.recommendations {
        let row = PyList::empty(py);
        row.append(p.replicas)?;
        row.append(p.at.0)?;
        past.append(row)?;
    }
    out.set_item("recommendations", past)?;
    out.set_item("scale_up_events", events(py, &m.ups)?)?;
    out.set_item("scale_down_events", events(py, &m.downs)?)?;
    let conditions = PyDict::new(py);
    for (name, reason) in NAMES.iter().zip(m.conditions.0) {
        conditions.set_item(name, reason.map(Reason::name))?;
    }
    out.set_item("conditions", conditions)?;
    out.set_item("desired_replicas", m.status_desired)?;
    out.set_item("last_scale", m.last_scale.map(|t| t.0))?;
    let last = match &m.last {
        None => None,
        Some(u) => {
            let d = PyDict::new(py);
            d.set_item("serial", u.serial)?;
            d.set_item("at", u.at.0)?;
            d.set_item("scale_up_events", events(py, &u.ups)?)?;
            d.set_item("scale_down_events", events(py, &u.downs)?)?;
            d.set_item("scaled_to_zero", u.zero.map(Reason::name))?;
            d.set_item("desired_replicas", u.status_desired)?;
            d.set_item("last_scale", u.last_scale.map(|t| t.0))?;
            Some(d)
        }
    };
    out.set_item("last", last)?;
    Ok(out)
}

/// One level of a state, which knows where it is.
struct Fields<'a, 'py> {
    at: String,
    dict: &'a Bound<'py, PyDict>,
}

impl<'py> Fields<'_, 'py> {
    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    fn get(&self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.dict.get_item(name)?.ok_or_else(|| refuse(&self.path(name), self.dict.as_any(), "what state() gave"))
    }

    fn number(&self, name: &str) -> PyResult<u64> {
        number(&self.path(name), &self.get(name)?)
    }

    fn time(&self, name: &str) -> PyResult<Option<Nanos>> {
        let value = self.get(name)?;
        if value.is_none() { Ok(None) } else { number(&self.path(name), &value).map(|n| Some(Nanos(n))) }
    }

    fn replicas(&self, name: &str) -> PyResult<i32> {
        replicas(&self.path(name), &self.get(name)?)
    }

    fn rows(&self, name: &str, width: usize) -> PyResult<Vec<Bound<'py, PyList>>> {
        let value = self.get(name)?;
        let wrong = |v: &Bound<'_, PyAny>| refuse(&self.path(name), v, &format!("a list of lists of {width}"));
        let list = value.cast::<PyList>().map_err(|_| wrong(&value))?;
        list.iter()
            .map(|row| row.cast_into::<PyList>().map_err(|e| wrong(&e.into_inner())))
            .map(|row| row.and_then(|row| if row.len() == width { Ok(row) } else { Err(wrong(row.as_any())) }))
            .collect()
    }

    fn events(&self, name: &str) -> PyResult<Vec<Event>> {
        let path = self.path(name);
        self.rows(name, 3)?
            .iter()
            .map(|row| {
                let flag = row.get_item(2)?;
                let change = row.get_item(0)?;
                let outdated = flag.cast::<PyBool>().map_err(|_| refuse(&path, &flag, "True or False"))?.is_true();
                let at = Nanos(number(&path, &row.get_item(1)?)?);
                match replicas(&path, &change)? {
                    change @ 1.. => Ok(Event { change, at, outdated }),
                    _ => Err(refuse(&path, &change, "a change of 1 or more")),
                }
            })
            .collect()
    }

    fn reason(&self, name: &str, place: usize) -> PyResult<Option<Reason>> {
        let value = self.get(name)?;
        if value.is_none() {
            return Ok(None);
        }
        let text: String = value.extract().unwrap_or_default();
        let found = reason_named(&text).filter(|r| r.place() == place);
        found.map(Some).ok_or_else(|| refuse(&self.path(name), &value, "a reason that this condition may have"))
    }
}

fn number(path: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let found = if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() };
    found.ok_or_else(|| refuse(path, value, "a whole number of 0 or more that fits in 64 bits"))
}

/// Raw recommendations may be anything that fits: they were not bounded yet.
fn replicas(path: &str, value: &Bound<'_, PyAny>) -> PyResult<i32> {
    let found = whole(value).and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
    found.ok_or_else(|| refuse(path, value, "a whole number from 0 to 2147483647"))
}

pub(super) fn from_dict(state: &Bound<'_, PyAny>) -> PyResult<Memory> {
    let dict = state.cast::<PyDict>().map_err(|_| refuse("state", state, "a dictionary that state() gave"))?;
    let f = Fields { at: "state".to_owned(), dict };
    if f.number("version")? != VERSION {
        return Err(refuse("state.version", &f.get("version")?, &format!("{VERSION}")));
    }
    let kind = f.get("kind")?;
    if kind.extract::<String>().ok().as_deref() != Some("hpa") {
        return Err(refuse("state.kind", &kind, "hpa, as this policy is"));
    }
    let recommendations = f
        .rows("recommendations", 2)?
        .iter()
        .map(|row| {
            let path = f.path("recommendations");
            Ok(Past { replicas: replicas(&path, &row.get_item(0)?)?, at: Nanos(number(&path, &row.get_item(1)?)?) })
        })
        .collect::<PyResult<_>>()?;
    let conditions = f.get("conditions")?;
    let dict = conditions.cast::<PyDict>().map_err(|_| refuse("state.conditions", &conditions, "a dictionary"))?;
    let c = Fields { at: "state.conditions".to_owned(), dict };
    let mut found = Conditions::default();
    for (place, name) in NAMES.iter().enumerate() {
        if let Some(reason) = c.reason(name, place)? {
            found.set(reason);
        }
    }
    let last = f.get("last")?;
    let last = if last.is_none() {
        None
    } else {
        let dict = last.cast::<PyDict>().map_err(|_| refuse("state.last", &last, "a dictionary or None"))?;
        let l = Fields { at: "state.last".to_owned(), dict };
        Some(Box::new(Undo {
            serial: l.number("serial")?,
            at: Nanos(l.number("at")?),
            ups: l.events("scale_up_events")?,
            downs: l.events("scale_down_events")?,
            zero: l.reason("scaled_to_zero", 1)?,
            status_desired: l.replicas("desired_replicas")?,
            last_scale: l.time("last_scale")?,
        }))
    };
    Ok(Memory {
        recommendations,
        ups: f.events("scale_up_events")?,
        downs: f.events("scale_down_events")?,
        conditions: found,
        status_desired: f.replicas("desired_replicas")?,
        last_scale: f.time("last_scale")?,
        serial: f.number("serial")?,
        last,
    })
}
