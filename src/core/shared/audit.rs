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
use crate::core::sync::{AtomicU64, Ordering};

/// How often one call looks at one slot until nobody is inside a change of it.
#[cfg(not(loom))]
const LOOKS: u32 = 20_000;
#[cfg(loom)]
const LOOKS: u32 = 2;

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

impl Segment {
    /// Takes back what processes held that are no longer alive, and frees their rows. Any process may call this at any
    /// time; one at a time does it. `alive` says whether a process is there, and is the one that started then.
    pub fn take_back(&self, seat: &Seat, alive: impl Fn(Process) -> bool) -> Report {
        let mut report = Report::default();
        let Ok(held) = self.lock_at(TAKER_AT, seat, &alive) else {
            return Report { busy: true, ..report };
        };
        let (mut dead, mut others) = (Vec::new(), Vec::new());
        let high = self.high();
        for row in 0..high {
            let state = self.bury(row, seat, &alive, &mut report);
            let Some(own) = self.own(row) else { continue };
            if state.kind == Kind::Dead {
                dead.push((row, state, own));
            } else {
                others.push(own);
            }
        }
        if dead.is_empty() {
            return report;
        }
        let mut looks = Vec::new();
        for slot in 0..self.layout.slots {
            let left = |(work, units): (u64, u64)| !idle(work) || units != 0;
            if !dead.iter().any(|(_, _, own)| left(pair(own, slot))) {
                continue;
            }
            let Some(cell) = self.cell(slot) else { continue };
            match self.difference(cell, slot, (&others, high), &mut looks) {
                Some((0, 0)) => {}
                Some((requests, units)) if held.still() => {
                    if let (Some(inflight), Some(load)) = (cell.get(CELL_INFLIGHT), cell.get(CELL_LOAD)) {
                        inflight.fetch_sub(requests as u64, Ordering::SeqCst);
                        load.fetch_sub(units as u64, Ordering::SeqCst);
                    }
                    report.taken.push(Taken { slot, requests, units });
                }
                _ => report.pending += 1,
            }
        }
        // A row is freed when no slot needs to know any more who was dead.
        if report.pending == 0 && held.still() {
            for (row, state, own) in dead {
                own.words().iter().for_each(|word| word.store(0, Ordering::Release));
                report.freed += u32::from(self.turn(row, state, State { kind: Kind::Free, ..state }));
            }
        }
        report
    }

    /// Marks a row whose process is no longer alive, and frees one that has left; the state after that.
    fn bury(&self, row: u32, seat: &Seat, alive: impl Fn(Process) -> bool, report: &mut Report) -> State {
        let state = self.state(row);
        let there = matches!(state.kind, Kind::Joining | Kind::Live | Kind::Leaving);
        if !there || row == seat.row() {
            return state;
        }
        if !alive(self.process(row, state)) {
            let dead = State { kind: Kind::Dead, ..state };
            report.dead += u32::from(self.turn(row, state, dead));
        } else if state.kind == Kind::Leaving {
            report.freed += u32::from(self.free_if_clean(row, state));
        }
        self.state(row)
    }

    /// By how much the counts of a slot differ from the sum of what `others` have there: requests and units.
    fn difference(
        &self,
        cell: &[AtomicU64],
        slot: u32,
        (others, high): (&[Region], u32),
        looks: &mut Vec<u64>,
    ) -> Option<(i64, i64)> {
        let word = |at: usize| cell.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        for _ in 0..LOOKS {
            if let Some(found) = self.look(word, slot, (others, high), looks) {
                return Some(found);
            }
            relax();
        }
        None
    }

    /// One look; `None` when somebody was inside a change.
    #[inline]
    fn look(
        &self,
        word: impl Fn(usize) -> u64,
        slot: u32,
        (others, high): (&[Region], u32),
        looks: &mut Vec<u64>,
    ) -> Option<(i64, i64)> {
        looks.clear();
        let (mut held, mut units) = (0i64, 0u64);
        for own in others {
            let (work, own_units) = pair(own, slot);
            if inside(work) {
                return None;
            }
            looks.push(work);
            held = held.wrapping_add(requests(work));
            units = units.wrapping_add(own_units);
        }
        let (inflight, extra, load) = (word(CELL_INFLIGHT), word(CELL_EXTRA), word(CELL_LOAD));
        // A change of which something was seen above has begun before, and this sees that: every change of a count
        // publishes what its thread did earlier.
        let same = others.iter().zip(&*looks).all(|(own, work)| pair(own, slot).0 == *work);
        // Nor has a process joined meanwhile: it says so before it counts anything.
        let same = same && self.high() == high;
        let units = load.wrapping_sub(extra).wrapping_sub(units) as i64;
        same.then_some(((inflight as i64).wrapping_sub(held), units))
    }
}
