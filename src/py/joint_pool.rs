//! What a pool does that several processes have in common: it enters, catches up, changes with the others waiting, and
//! takes back what dead processes held.

use crate::core::endpoints::Endpoint as CoreEndpoint;
use crate::core::error::ConfigError;
use crate::core::pool::{Membership, Options, Pool as CorePool};
use crate::core::rng;
use crate::core::shared::PublishError;
use crate::core::time::Nanos;
use crate::py::Counting;
use crate::py::clock::Clock;
use crate::py::door::shown;
use crate::py::endpoint::{Endpoint, Payload};
use crate::py::fork::detached;
use crate::py::home::Wanted;
use crate::py::pool::Pool;
use crate::py::shared::{self, Entered, alive};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::{Arc, PoisonError, Weak};

pub(crate) use crate::py::home::Home;

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// The pools of this process that are shared: a forked child joins each.
static SHARED: Lock<Vec<Inherited>> = Lock::new(Vec::new());

/// A shared pool of this process, for as long as it is there.
type Inherited = (Weak<CorePool<Counting, Payload>>, Weak<Home>);

/// How long a change waits for other writers.
const PATIENCE: Nanos = Nanos(10_000_000_000);

fn own_name(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let allowed = "the name of a shared pool (str), a SharedMemory, or None";
    let name = value.extract::<String>().map_err(|_| ConfigError::new("shared", shown(value), allowed))?;
    Wanted::checked(&name)?;
    Ok(name)
}

/// The memory of a name.
pub(crate) fn named(name: &Bound<'_, PyAny>) -> PyResult<Wanted> {
    Ok(Wanted { name: own_name(name)?, endpoints: None, processes: 64 })
}

/// What a pool's `shared=` asks for.
pub(crate) fn wanted(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Wanted>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    let Ok(name) = value.getattr("name") else { return named(value).map(Some) };
    Ok(Some(Wanted {
        name: own_name(&name)?,
        endpoints: value.getattr("max_endpoints")?.extract()?,
        processes: value.getattr("max_processes")?.extract()?,
    }))
}

/// Gives up the memory of a name.
pub(crate) fn unlink(name: &Bound<'_, PyAny>) -> PyResult<()> {
    Ok(shared::unlink(&own_name(name)?)?)
}

/// A pool's core, what the process has besides, and whether it has just been made.
type Made = (Arc<CorePool<Counting, Payload>>, Option<Arc<Home>>, bool);

/// Enters the memory of a name. `fresh` are the endpoints and options of a pool that may be made; without them there has
/// to be one, and the seed is `seed`.
pub(crate) fn enter(
    py: Python<'_>,
    wanted: Wanted,
    fresh: Option<(Vec<CoreEndpoint<Payload>>, Options)>,
    seed: u64,
) -> PyResult<Made> {
    let (endpoints, given) = fresh.map_or((None, None), |(endpoints, options)| (Some(endpoints), Some(options)));
    for (i, endpoint) in endpoints.iter().flatten().enumerate() {
        carry(py, endpoint, &format!("endpoints[{i}]"))?;
    }
    let count = endpoints.as_ref().map(Vec::len);
    let Entered { block, joint, found, door } = detached(py, || shared::enter(&wanted, count))?;
    let home = Arc::new(Home::new(wanted.name));
    let fail = |allowed: String| ConfigError::new("shared", format!("{:?}", home.name), allowed);
    let row = joint.seat().map_or(0, |seat| u64::from(seat.row()));
    let mut options = match (&found, given) {
        (Some((_, membership)), Some(given)) => {
            let there = Options { seed: given.seed, ..membership.options.clone() };
            if there != given {
                let allowed = "the options that the pool of this name was made with: it has others";
                return Err(fail(allowed.to_owned()).into());
            }
            given
        }
        (Some((_, membership)), None) => Options { seed, ..membership.options.clone() },
        (None, Some(given)) => given,
        (None, None) => return Err(fail("a name that some process has a shared pool of".to_owned()).into()),
    };
    // Processes that were given one seed do not draw in step.
    options.seed = rng::stream(options.seed, row.wrapping_add(1));
    let core: Arc<CorePool<Counting, Payload>> = CorePool::joint_on(block, joint, options)?;
    let fresh = found.is_none();
    match found {
        Some((epoch, membership)) => take_over(py, &core, &home, epoch, membership, true).map(drop)?,
        None => {
            let first = detached(py, || {
                core.fill(endpoints.unwrap_or_default())?;
                let Some(joint) = core.joint() else { return Ok(None) };
                let membership = core.membership(|payload| payload.get().note());
                let bytes = membership.encode();
                let failed = |why: String| fail(format!("memory that can be written: {why}"));
                let seat = joint.seat().ok_or_else(|| failed("there is no place".into()))?;
                let writer = joint.segment().lock(seat, alive).map_err(|error| failed(error.to_string()))?;
                let epoch = writer.publish(&bytes).map_err(|error| failed(error.to_string()))?;
                core.published(epoch);
                Ok::<_, ConfigError>(Some(membership))
            });
            if let Some(membership) = first? {
                drop(home.know(&membership.guests, &core.snapshot().payload));
            }
        }
    }
    drop(door);
    let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(core, _)| core.strong_count() > 0);
    all.push((Arc::downgrade(&core), Arc::downgrade(&home)));
    drop(all);
    Ok((core, Some(home), fresh))
}

fn carry(py: Python<'_>, endpoint: &CoreEndpoint<Payload>, field: &str) -> PyResult<()> {
    endpoint.payload.get().carry(py, field)
}

/// Makes the objects of a membership's endpoints, and has the core take it over. False when somebody else is at it.
fn take_over(
    py: Python<'_>,
    core: &CorePool<Counting, Payload>,
    home: &Home,
    epoch: u64,
    membership: Membership,
    waits: bool,
) -> PyResult<bool> {
    let payload = |guest| home.known(guest).map_or_else(|| Endpoint::from_guest(py, guest), Ok);
    let payloads = membership.guests.iter().map(payload).collect::<PyResult<Vec<Payload>>>()?;
    let before = home.know(&membership.guests, &payloads);
    let done = if waits {
        detached(py, || core.take_over(epoch, membership, payloads, true))
    } else {
        core.take_over(epoch, membership, payloads, false)
    };
    drop(before);
    Ok(done)
}

/// How a pool travels: one that has a name by its name, another with all that is in it, as `object` has it.
pub(crate) fn reduced<'py>(pool: &Bound<'py, Pool>) -> PyResult<Bound<'py, PyTuple>> {
    let py = pool.py();
    if let Some(name) = pool.get().shared() {
        let open = py.import("aibalance._shared")?.getattr("_opened")?;
        let clock = pool.get().given_clock(py);
        return (open, (name, clock)).into_pyobject(py);
    }
    let (args, kw) = pool.get().__getnewargs_ex__(py)?;
    let make = py.import("copyreg")?.getattr("__newobj_ex__")?;
    (make, (pool.get_type(), args, kw), pool.get().__getstate__(py)?).into_pyobject(py)
}

impl Pool {
    /// What a pick does first: takes in what other processes have changed, does what is due, looks for dead ones. Nothing
    /// in a pool of this process alone. Gives the time.
    pub fn keep_up(&self, py: Python<'_>) -> Nanos {
        let now = self.clock.now();
        self.keep_up_at(py, now);
        now
    }

    /// The same at this instant.
    #[inline(always)]
    pub fn keep_up_at(&self, py: Python<'_>, now: Nanos) {
        if let Some(joint) = self.core.joint() {
            if joint.behind() {
                self.catch_up_or_go_on(py);
            }
            self.core.keep_healthy();
            if now >= joint.next() {
                self.core.expire(now);
            }
            self.look_around_at(now);
        }
    }

    /// Looks for dead processes, if that is due.
    #[inline(always)]
    pub fn look_around(&self) {
        if self.home.is_some() {
            self.look_around_at(self.clock.now());
        }
    }

    /// The same when it is `now` by the pool's clock. Processes live and die by the system's.
    #[inline(always)]
    pub fn look_around_at(&self, now: Nanos) {
        let real = if matches!(self.clock, Clock::System) { now } else { Clock::System.now() };
        if let Some(home) = &self.home
            && home.looks(real)
        {
            self.take_back();
        }
    }

    /// Takes back what dead processes held.
    #[cold]
    pub fn take_back(&self) {
        if let Some(home) = &self.home
            && home.is_mine()
        {
            self.core.take_back();
        }
    }

    #[cold]
    #[inline(never)]
    fn catch_up_or_go_on(&self, py: Python<'_>) {
        // What cannot be read leaves in force what this process has.
        if let Err(error) = self.catch_up(py, false) {
            error.write_unraisable(py, None);
        }
    }

    /// Takes in what other processes have changed, and shows it.
    fn catch_up(&self, py: Python<'_>, waits: bool) -> PyResult<()> {
        let (Some(joint), Some(home)) = (self.core.joint(), &self.home) else { return Ok(()) };
        let fail = |why: String| PyErr::from(ConfigError::new("shared", format!("{:?}", home.name), why));
        // Once more where somebody has changed it meanwhile: flags are to be those of the latest.
        for _ in 0..16 {
            if !joint.behind() {
                break;
            }
            let found =
                shared::read(joint.segment()).map_err(|error| fail(format!("memory that is whole: {error}")))?;
            let Some((epoch, bytes)) = found else { break };
            let membership = Membership::decode(&bytes, joint.segment().layout().slots);
            let membership =
                membership.ok_or_else(|| fail("memory that is whole: the membership is corrupted".into()))?;
            if !take_over(py, &self.core, home, epoch, membership, waits)? {
                break;
            }
            self.show();
        }
        Ok(())
    }

    /// Makes endpoints ready to travel.
    pub(super) fn carry(&self, py: Python<'_>, endpoints: &[CoreEndpoint<Payload>]) -> PyResult<()> {
        if self.home.is_some() {
            for (i, endpoint) in endpoints.iter().enumerate() {
                carry(py, endpoint, &format!("endpoints[{i}]"))?;
            }
        }
        Ok(())
    }

    /// Changes the pool for all processes: alone among the writers, from what is in force.
    pub(super) fn change_jointly<E: Into<PyErr> + Send>(
        &self,
        py: Python<'_>,
        home: &Home,
        change: impl FnOnce(&CorePool<Counting, Payload>) -> Result<(), E> + Send,
    ) -> PyResult<()> {
        let core = &self.core;
        let Some(joint) = core.joint() else { return Ok(()) };
        let fail = |why: String| PyErr::from(ConfigError::new("shared", format!("{:?}", home.name), why));
        let no_place = || fail("a pool that this process has joined: there was no place for it".into());
        let (segment, seat) = (joint.segment(), joint.seat().ok_or_else(no_place)?);
        let from = Clock::System.now();
        let writer = detached(py, || {
            loop {
                match segment.lock(seat, alive) {
                    Ok(writer) => return Ok(writer),
                    Err(locked) if Clock::System.now().since(from) > PATIENCE => return Err(locked),
                    Err(_) => std::thread::sleep(std::time::Duration::from_micros(50)),
                }
            }
        });
        let writer = writer.map_err(|locked| match locked.by {
            Some(process) => {
                fail(format!("a pool that can be changed: process {} has been at it for 10 s", process.pid))
            }
            None => fail("a pool that can be changed: others have been at it for 10 s".into()),
        })?;
        self.catch_up(py, true)?;
        let done = detached(py, || {
            change(core)?;
            let membership = core.membership(|payload| payload.get().note());
            let bytes = membership.encode();
            Ok::<_, E>(writer.publish(&bytes).map(|epoch| (epoch, membership)))
        });
        match done {
            Ok(Ok((epoch, membership))) => {
                detached(py, || core.published(epoch));
                let before = home.know(&membership.guests, &core.snapshot().payload);
                drop(before);
                Ok(())
            }
            failed => {
                // What has been changed here is not in force: back to what is.
                joint.doubt();
                self.catch_up(py, true)?;
                Err(match failed {
                    Err(error) => error.into(),
                    Ok(Err(error @ PublishError::TooLarge { .. })) => {
                        ConfigError::new("endpoints", "more", error.to_string()).into()
                    }
                    Ok(Err(error)) => fail(error.to_string()),
                    Ok(Ok(_)) => fail("".into()),
                })
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.home.as_ref().is_some_and(|home| home.is_mine()) {
            self.core.leave_segment();
        }
    }
}

/// A forked child joins the shared pools that it has inherited, as a process of its own.
#[pyfunction]
pub(crate) fn _rejoin_after_fork() -> PyResult<()> {
    let all: Vec<_> = SHARED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(|(core, home)| core.upgrade().zip(home.upgrade()))
        .collect();
    for (core, home) in all {
        let Some(joint) = core.joint() else { continue };
        let seat = shared::join(joint.segment(), &core.snapshot().view.block);
        let seat = seat.map_err(|why| ConfigError::new("shared", format!("{:?}", home.name), why))?;
        core.rejoin(seat, shared::this());
        home.moved_in();
    }
    Ok(())
}
