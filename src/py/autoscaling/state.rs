//! A policy's memory as a plain dictionary (numbers, text, lists, None), and back. Instants are whole nanoseconds.

use super::read::{real, refuse};
use crate::core::autoscaling::PolicyState;
use crate::core::autoscaling::alarm::Datapoint;
use crate::core::autoscaling::memory::{Acted, Effects, Last, Memory, OutCooldown, WarmUp};
use crate::core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

/// The layout's number: another one is refused.
const VERSION: u64 = 1;

pub(super) fn to_dict<'py>(py: Python<'py>, state: &PolicyState) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("version", VERSION)?;
    out.set_item("kind", state.kind())?;
    match state {
        PolicyState::One { metric, period, datapoints, memory, .. } => {
            out.set_item("metric", metric)?;
            out.set_item("period", period.0)?;
            out.set_item("serial", memory.serial)?;
            out.set_item("seen", memory.seen)?;
            out.set_item("datapoints", datapoints_to(py, datapoints)?)?;
            effects_to(&out, &memory.effects)?;
            let last = match &memory.last {
                None => None,
                Some(l) => {
                    let d = PyDict::new(py);
                    d.set_item("serial", l.serial)?;
                    d.set_item("at", l.at.0)?;
                    d.set_item("asked", l.asked)?;
                    d.set_item("desired", l.desired)?;
                    let prior = PyDict::new(py);
                    effects_to(&prior, &l.prior)?;
                    d.set_item("prior", prior)?;
                    Some(d)
                }
            };
            out.set_item("last", last)?;
        }
        PolicyState::Combined { serial, policies } => {
            out.set_item("serial", serial)?;
            let all: Vec<_> = policies.iter().map(|p| to_dict(py, p)).collect::<PyResult<_>>()?;
            out.set_item("policies", PyList::new(py, all)?)?;
        }
    }
    Ok(out)
}

// Lists, not tuples, so that JSON gives back what it was given.
fn datapoints_to<'py>(py: Python<'py>, points: &[Datapoint]) -> PyResult<Bound<'py, PyList>> {
    let out = PyList::empty(py);
    for p in points {
        let row = PyList::new(py, [p.period, p.count])?;
        for value in [p.sum, p.min, p.max, p.placed, p.work] {
            row.append(value)?;
        }
        out.append(row)?;
    }
    Ok(out)
}

fn effects_to(out: &Bound<'_, PyDict>, e: &Effects) -> PyResult<()> {
    out.set_item("out_cooldown", e.out.map(|c| vec![c.at.0, c.base.unsigned_abs()]))?;
    out.set_item("scaled_in", e.scaled_in.map(|at| at.0))?;
    let warming: Vec<_> = e.warming.iter().map(|w| vec![w.at.0, w.count.unsigned_abs()]).collect();
    out.set_item("warming", warming)?;
    out.set_item("acted", e.acted.map(|a| vec![a.period, a.desired.unsigned_abs()]))
}

/// Reads the fields of one dictionary and knows where it is.
struct Fields<'a, 'py> {
    at: &'a str,
    dict: &'a Bound<'py, PyDict>,
}

impl<'py> Fields<'_, 'py> {
    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    fn get(&self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.dict.get_item(name)?.ok_or_else(|| refuse(self.at, self.dict, &format!("the key {name} is needed")))
    }

    fn number(&self, name: &str) -> PyResult<u64> {
        let value = self.get(name)?;
        number(&value).ok_or_else(|| refuse(&self.path(name), &value, "a whole number of 0 or more"))
    }

    fn capacity(&self, name: &str) -> PyResult<i64> {
        let value = self.get(name)?;
        signed(&value).ok_or_else(|| refuse(&self.path(name), &value, "a capacity"))
    }

    fn row(&self, name: &str, length: usize) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let value = self.get(name)?;
        if value.is_none() { Ok(None) } else { row(&self.path(name), &value, length).map(Some) }
    }

    fn rows(&self, name: &str, length: usize) -> PyResult<Vec<Vec<Bound<'py, PyAny>>>> {
        let value = self.get(name)?;
        let list = value.cast::<PyList>().map_err(|_| refuse(&self.path(name), &value, "a list of lists"))?;
        list.iter().enumerate().map(|(i, r)| row(&format!("{}[{i}]", self.path(name)), &r, length)).collect()
    }

    fn effects(&self) -> PyResult<Effects> {
        let pair = |name: &str, cells: &[Bound<'py, PyAny>]| match cells {
            [a, b] => number(a).zip(signed(b)).ok_or_else(|| refuse(&self.path(name), a, "a number and a capacity")),
            _ => Err(refuse(self.at, self.dict, "pairs")),
        };
        let out = self.row("out_cooldown", 2)?.map(|r| pair("out_cooldown", &r)).transpose()?;
        let acted = self.row("acted", 2)?.map(|r| pair("acted", &r)).transpose()?;
        let scaled_in = if self.get("scaled_in")?.is_none() { None } else { Some(Nanos(self.number("scaled_in")?)) };
        let warming = self.rows("warming", 2)?.iter().map(|r| pair("warming", r)).collect::<PyResult<Vec<_>>>()?;
        Ok(Effects {
            out: out.map(|(at, base)| OutCooldown { at: Nanos(at), base }),
            scaled_in,
            warming: warming.into_iter().map(|(at, count)| WarmUp { at: Nanos(at), count }).collect(),
            acted: acted.map(|(period, desired)| Acted { period, desired }),
        })
    }
}

fn number(value: &Bound<'_, PyAny>) -> Option<u64> {
    if value.is_instance_of::<PyBool>() { None } else { value.extract().ok() }
}

fn signed(value: &Bound<'_, PyAny>) -> Option<i64> {
    number(value).and_then(|n| i64::try_from(n).ok())
}

fn row<'py>(at: &str, value: &Bound<'py, PyAny>, length: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
    match value.cast::<PyList>() {
        Ok(list) if list.len() == length => Ok(list.iter().collect()),
        _ => Err(refuse(at, value, &format!("a list of {length} numbers"))),
    }
}

fn datapoint(at: &str, cells: &[Bound<'_, PyAny>], whole: &Bound<'_, PyDict>) -> PyResult<Datapoint> {
    let read = || match cells {
        [period, count, sum, min, max, placed, work] => Some(Datapoint {
            period: number(period)?,
            count: number(count)?,
            sum: real(sum)?,
            min: real(min)?,
            max: real(max)?,
            placed: real(placed)?,
            work: real(work)?,
        }),
        _ => None,
    };
    read().ok_or_else(|| refuse(at, whole, "datapoints are [period, count, sum, min, max, placed, work]"))
}

pub(super) fn from_dict(at: &str, value: &Bound<'_, PyAny>) -> PyResult<PolicyState> {
    let dict = value.cast::<PyDict>().map_err(|_| refuse(at, value, "a dictionary, as state() gives"))?;
    let f = Fields { at, dict };
    let version = f.number("version")?;
    if version != VERSION {
        return Err(refuse(&f.path("version"), &f.get("version")?, &format!("{VERSION}")));
    }
    let kind = f.get("kind")?;
    let kind: &'static str = match kind.extract::<String>().unwrap_or_default().as_str() {
        "target_tracking" => "target_tracking",
        "step_scaling" => "step_scaling",
        "combined" => {
            let policies = f.get("policies")?;
            let list = policies.cast::<PyList>().map_err(|_| refuse(&f.path("policies"), &policies, "a list"))?;
            let read = list.iter().enumerate().map(|(i, p)| from_dict(&format!("{at}.policies[{i}]"), &p));
            return Ok(PolicyState::Combined { serial: f.number("serial")?, policies: read.collect::<PyResult<_>>()? });
        }
        _ => return Err(refuse(&f.path("kind"), &kind, "one of target_tracking, step_scaling, combined")),
    };
    let metric = f.get("metric")?;
    let points = f.rows("datapoints", 7)?;
    let seen = if f.get("seen")?.is_none() { None } else { Some(f.capacity("seen")?) };
    let last = f.get("last")?;
    let last = if last.is_none() {
        None
    } else {
        let path = f.path("last");
        let dict = last.cast::<PyDict>().map_err(|_| refuse(&path, &last, "a dictionary or None"))?;
        let l = Fields { at: &path, dict };
        let prior = l.get("prior")?;
        let inner = l.path("prior");
        let dict = prior.cast::<PyDict>().map_err(|_| refuse(&inner, &prior, "a dictionary"))?;
        Some(Last {
            serial: l.number("serial")?,
            at: Nanos(l.number("at")?),
            asked: l.capacity("asked")?,
            desired: l.capacity("desired")?,
            prior: Fields { at: &inner, dict }.effects()?,
        })
    };
    Ok(PolicyState::One {
        kind,
        metric: metric.extract().map_err(|_| refuse(&f.path("metric"), &metric, "text"))?,
        period: Nanos(f.number("period")?),
        datapoints: points.iter().map(|r| datapoint(&f.path("datapoints"), r, dict)).collect::<PyResult<_>>()?,
        memory: Box::new(Memory { serial: f.number("serial")?, effects: f.effects()?, last, seen }),
    })
}
