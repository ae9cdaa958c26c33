//! What one process has in a segment, and the counting of what it takes.
//!
//! Each change of a shared count is also noted in a row of the process's own, one pair of words a slot. The first word
//! has three fields: how many threads are between begin and end of a change (16 bits), requests (24 bits, signed), and
//! how many changes have ended (24 bits). A change begins by adding one to the first field and ends by one addition to
//! all three. So whoever reads the word twice, with nobody in between and the same number both times, knows that what
//! it read meanwhile, the shared counts included, is exactly what the changes that had ended then have left behind.
//! The second word has the units.

use super::layout::{CELL_INFLIGHT, CELL_LOAD, OWN};
use super::region::Region;
use crate::core::sync::{AtomicU64, Ordering};

const INSIDE: u64 = 1;
const REQUEST: u64 = 1 << 16;
const ENDED: u64 = 1 << 40;

/// Whether a thread is between begin and end, or was when its process ended.
#[inline(always)]
pub(super) fn inside(work: u64) -> bool {
    work & 0xffff != 0
}

/// The requests of a row's first word.
#[inline(always)]
pub(super) fn requests(work: u64) -> i64 {
    ((work << 24) as i64) >> 40
}

/// Nobody inside and no requests.
#[inline(always)]
pub(super) fn idle(work: u64) -> bool {
    work & (ENDED - 1) == 0
}

/// A process's place in a segment. What was taken through it is given back through it, in the same process: a child of
/// `fork` that has a copy neither takes nor gives, for those leases are its parent's. Several threads may use it; up to
/// 65,535 at once, and up to 8,388,607 requests on one slot.
#[derive(Clone, Debug)]
pub struct Seat {
    row: u32,
    generation: u32,
    own: Region,
    words: Region,
}

impl Seat {
    pub(super) fn new(row: u32, generation: u32, own: Region, words: Region) -> Seat {
        Seat { row, generation, own, words }
    }

    /// The row of the table of processes.
    #[must_use]
    pub fn row(&self) -> u32 {
        self.row
    }

    /// How often the row had been used before.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn words(&self) -> &Region {
        &self.words
    }

    #[inline(always)]
    pub(super) fn pair(&self, slot: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let from = slot as usize * OWN;
        match self.own.words().get(from..from + OWN) {
            Some([work, units]) => Some((work, units)),
            _ => None,
        }
    }

    /// Takes a request of so many units: `add` adds it to the shared counts, or says that it must not. Whether it did;
    /// never for a slot that does not exist.
    #[inline(always)]
    pub fn take(&self, slot: u32, units: u64, add: impl FnOnce() -> bool) -> bool {
        let Some((work, own)) = self.pair(slot) else { return false };
        work.fetch_add(INSIDE, Ordering::AcqRel);
        let took = add();
        if took {
            own.fetch_add(units, Ordering::AcqRel);
            work.fetch_add(ENDED + REQUEST - INSIDE, Ordering::AcqRel);
        } else {
            work.fetch_add(ENDED - INSIDE, Ordering::AcqRel);
        }
        took
    }

    /// Gives a request of so many units back: `sub` takes it off the shared counts.
    #[inline(always)]
    pub fn give(&self, slot: u32, units: u64, sub: impl FnOnce()) {
        let Some((work, own)) = self.pair(slot) else { return };
        work.fetch_add(INSIDE, Ordering::AcqRel);
        sub();
        own.fetch_sub(units, Ordering::AcqRel);
        work.fetch_add(ENDED - REQUEST - INSIDE, Ordering::AcqRel);
    }

    /// Changes the units of requests in flight, in two's complement: `shift` changes the shared load. With zero units:
    /// `shift` changes the load and its correction by the same, such as `Cell::correct`.
    #[inline(always)]
    pub fn shift(&self, slot: u32, units: u64, shift: impl FnOnce()) {
        let Some((work, own)) = self.pair(slot) else { return };
        work.fetch_add(INSIDE, Ordering::AcqRel);
        shift();
        own.fetch_add(units, Ordering::AcqRel);
        work.fetch_add(ENDED - INSIDE, Ordering::AcqRel);
    }

    /// Requests and units that this process has on a slot.
    #[must_use]
    pub fn has(&self, slot: u32) -> (i64, i64) {
        self.pair(slot)
            .map_or((0, 0), |(work, own)| (requests(work.load(Ordering::Acquire)), own.load(Ordering::Acquire) as i64))
    }
}

/// Adds a request to a cell's words: what [`Seat::take`] wants, where no `endpoints::Cell` is at hand.
pub fn add(cell: &[AtomicU64], units: u64) -> bool {
    let (Some(inflight), Some(load)) = (cell.get(CELL_INFLIGHT), cell.get(CELL_LOAD)) else { return false };
    inflight.fetch_add(1, Ordering::SeqCst);
    load.fetch_add(units, Ordering::SeqCst);
    true
}

/// The opposite of [`add`].
pub fn sub(cell: &[AtomicU64], units: u64) {
    if let (Some(inflight), Some(load)) = (cell.get(CELL_INFLIGHT), cell.get(CELL_LOAD)) {
        inflight.fetch_sub(1, Ordering::SeqCst);
        load.fetch_sub(units, Ordering::SeqCst);
    }
}
