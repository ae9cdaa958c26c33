//! Leases in a pool that several processes have in common.
#![allow(unsafe_code)]

use super::super::Raw;
use super::{LeaseObject, Stage, UNTIMED, lease_in};
use crate::core::endpoints::{Cell, Snapshot};
use crate::core::pool::Taken;
use crate::core::time::Nanos;
use crate::py::Counting;
use crate::py::door::Ending;
use crate::py::endpoint::Payload;
use crate::py::pool::Pool;
use pyo3::prelude::*;

/// Gives back what no lease can be made of.
#[cold]
pub(super) fn gave_up(pool: &Pool, cell: &Cell, taken: Taken) {
    if pool.core.joint().is_some() {
        pool.core.give_jointly(cell, taken.choice.slot, taken.units);
    } else {
        cell.give::<Counting>(taken.units);
    }
}

/// The same as [`lease_in`] in a pool that several processes have in common.
///
/// # Safety
/// Attached.
pub(in super::super) unsafe fn lease_jointly(
    py: Python<'_>,
    snapshot: &Snapshot<Payload>,
    pool: &Py<Pool>,
    taken: Taken,
    now: Nanos,
) -> Raw {
    // SAFETY: attached; nobody has seen the lease yet.
    unsafe {
        let object = lease_in(py, snapshot, pool, taken, now);
        if !object.is_null() {
            let lease = &mut *object.cast::<LeaseObject>();
            lease.stage = Stage::Joint;
            lease.life = pool.get().core.joint().map_or(0, |joint| joint.life() as u16);
        }
        object
    }
}

impl LeaseObject {
    /// Whether it was taken by this process, and not inherited by a fork.
    pub(super) fn is_mine(&self) -> bool {
        self.pool().core.joint().is_none_or(|joint| joint.life() as u16 == self.life)
    }

    /// Gives the work back, if it is this process's to give.
    #[inline(never)]
    pub(super) fn end_jointly(&mut self, ending: Ending) {
        self.stage = Stage::Done;
        if !self.is_mine() {
            return;
        }
        let pool = self.pool();
        let real = pool.clock.now();
        let now = ending.now.unwrap_or(real);
        let measured = (self.start != UNTIMED.0 && !self.token && pool.core.tracks_latency())
            .then(|| now.since(Nanos(self.start)).as_secs_f64());
        // SAFETY: the pool is alive, so its cells are.
        let cell = unsafe { &*self.cell };
        let latency = ending.latency.or(measured);
        pool.core.settle_jointly(cell, self.slot, self.units, ending.outcome, latency, ending.hint, now);
        pool.core.order().note(self.slot);
        if pool.core.watched() {
            self.tell(ending);
        }
        pool.look_around_at(real);
        if self.work.is_some() {
            self.drop_work();
        }
    }
}
