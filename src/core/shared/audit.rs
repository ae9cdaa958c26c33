//! Taking back what dead processes held.
//!
//! No log says what a dead process had begun. Instead the shared counts of a slot are compared with the sum of what
//! the others have of it, read while none of them was inside a change of that slot: the difference is what the dead have left there,
//! wherever the killing fell. It does not depend on what the living do meanwhile, so it can be subtracted later, by one
//! atomic instruction; and it is zero once that has happened, so whoever dies here leaves nothing that the next could
//! take twice.

use super::layout::{CELL_EXTRA, CELL_INFLIGHT, CELL_LOAD, OWN};
use super::processes::{Kind, Process, State};
use super::region::Region;
use super::relax;
use super::seat::{Seat, idle, inside, requests};
use super::segment::{Segment, TAKER_AT};
use crate::core::sync::Ordering;

/// How often one call looks at each slot until nobody is inside a change of it, and how often more at all slots together.
#[cfg(not(loom))]
const LOOKS: (u32, u32) = (64, 50_000);
#[cfg(loom)]
const LOOKS: (u32, u32) = (2, 0);

/// What was taken back from one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The slot.
    pub slot: u32,
    /// Requests that are in flight no longer.
    pub requests: i64,
    /// Units that the load is smaller by.
    pub units: i64,
}

/// What [`Segment::take_back`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Another process does it: nothing was done here.
    pub busy: bool,
    /// Processes that were found dead.
    pub dead: u32,
    /// Rows that are free again.
    pub freed: u32,
    /// What was taken back, a slot each. Whoever watches these slots has to be told.
    pub taken: Vec<Taken>,
    /// Slots on which there was no quiet moment. Their counts are still too high: call again soon.
    pub pending: u32,
}

fn pair(own: &Region, slot: u32) -> (u64, u64) {
    let from = slot as usize * OWN;
    match own.words().get(from..from + OWN) {
        Some([work, units]) => (work.load(Ordering::Acquire), units.load(Ordering::Acquire)),
        _ => (0, 0),
    }
}

/// What the comparison of counts goes by.
pub(super) struct Audit<'a> {
    segment: &'a Segment,
    /// The rows that are counted: everybody's but those of the dead.
    others: Vec<Region>,
    /// How many rows had been used when they were collected.
    high: u32,
    /// The rows' first words as they were at the begin of a look.
    works: Vec<u64>,
    /// Looks that are left to all slots together.
    spare: u32,
}

impl Audit<'_> {
    /// By how much the counts of a slot differ from what the others have there: requests and units. `None` when there
    /// was no quiet moment.
    pub fn difference(&mut self, slot: u32) -> Option<(i64, i64)> {
        let mut least = LOOKS.0;
        while least > 0 || self.spare > 0 {
            match least {
                0 => self.spare -= 1,
                _ => least -= 1,
            }
            if let Some(found) = self.look(slot) {
                return Some(found);
            }
            relax();
        }
        None
    }

    /// One look; `None` when somebody was inside a change.
    fn look(&mut self, slot: u32) -> Option<(i64, i64)> {
        self.works.clear();
        let (mut held, mut held_units) = (0i64, 0u64);
        for own in &self.others {
            let (work, units) = pair(own, slot);
            if inside(work) {
                return None;
            }
            self.works.push(work);
            held = held.wrapping_add(requests(work));
            held_units = held_units.wrapping_add(units);
        }
        let cell = self.segment.cell(slot)?;
        let word = |at: usize| cell.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        let (inflight, extra, load) = (word(CELL_INFLIGHT), word(CELL_EXTRA), word(CELL_LOAD));
        // A change of which something was seen above had begun before, and this sees that: every change of a count
        // publishes what its thread did earlier. Nor has a process joined, for it says so before it counts anything.
        let quiet = self.others.iter().zip(&self.works).all(|(own, work)| pair(own, slot).0 == *work);
        let units = load.wrapping_sub(extra).wrapping_sub(held_units) as i64;
        (quiet && self.segment.high() == self.high).then_some(((inflight as i64).wrapping_sub(held), units))
    }
}

impl Segment {
    /// Takes back what processes held that are no longer alive, and frees their rows. Any process may call this at any
    /// time; one at a time does it. `alive` says whether a process is there, and is the one that started then. It must
    /// not say no of one that is: such a process goes on to change counts that nobody has it down for.
    pub fn take_back(&self, seat: &Seat, alive: impl Fn(Process) -> bool) -> Report {
        let mut report = Report::default();
        let Ok(held) = self.lock_at(TAKER_AT, seat, &alive) else {
            return Report { busy: true, ..report };
        };
        let (dead, mut audit) = self.bury(seat, &alive, &mut report);
        for slot in (0..self.layout.slots).filter(|slot| dead.iter().any(|row| row.has_left(*slot))) {
            match audit.difference(slot) {
                Some((0, 0)) => {}
                Some((requests, units)) if held.still() => {
                    self.subtract(slot, requests, units);
                    report.taken.push(Taken { slot, requests, units });
                }
                _ => report.pending += 1,
            }
        }
        // A row is freed when no slot needs to know any more who was dead.
        if report.pending == 0 && held.still() {
            report.freed += dead.iter().map(|row| u32::from(row.free(self))).sum::<u32>();
        }
        report
    }

    /// Marks the rows of those who are no longer alive, frees those of processes that have left, and says who is dead.
    pub(super) fn bury(
        &self,
        seat: &Seat,
        alive: impl Fn(Process) -> bool,
        report: &mut Report,
    ) -> (Vec<Dead>, Audit<'_>) {
        let high = self.high();
        let mut audit = Audit { segment: self, others: Vec::new(), high, works: Vec::new(), spare: LOOKS.1 };
        let mut dead = Vec::new();
        for row in 0..high {
            let state = self.state(row);
            let there = matches!(state.kind, Kind::Joining | Kind::Live | Kind::Leaving);
            if there && row != seat.row() {
                if !alive(self.process(row, state)) {
                    report.dead += u32::from(self.turn(row, state, State { kind: Kind::Dead, ..state }));
                } else if state.kind == Kind::Leaving {
                    report.freed += u32::from(self.free_if_clean(row, state));
                }
            }
            let Some(own) = self.own(row) else { continue };
            let state = self.state(row);
            if state.kind == Kind::Dead {
                dead.push(Dead { row, state, own });
            } else {
                audit.others.push(own);
            }
        }
        (dead, audit)
    }

    /// Takes a difference off a slot's counts.
    pub(super) fn subtract(&self, slot: u32, requests: i64, units: i64) {
        let word = |at: usize| self.cell(slot).and_then(|cell| cell.get(at));
        if let (Some(inflight), Some(load)) = (word(CELL_INFLIGHT), word(CELL_LOAD)) {
            inflight.fetch_sub(requests as u64, Ordering::SeqCst);
            load.fetch_sub(units as u64, Ordering::SeqCst);
        }
    }
}

/// A row whose process is gone.
pub(super) struct Dead {
    row: u32,
    state: State,
    pub own: Region,
}

impl Dead {
    /// Whether its process had something on a slot, or was inside a change of it.
    pub fn has_left(&self, slot: u32) -> bool {
        let (work, units) = pair(&self.own, slot);
        !idle(work) || units != 0
    }

    fn free(&self, segment: &Segment) -> bool {
        self.own.words().iter().for_each(|word| word.store(0, Ordering::Release));
        segment.turn(self.row, self.state, State { kind: Kind::Free, ..self.state })
    }
}
