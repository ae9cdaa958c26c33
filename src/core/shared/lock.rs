//! Locks that outlive their holder: the word says who has it, and one whose process has ended is taken over.

use super::processes::{Kind, Process};
use super::seat::Seat;
use super::segment::Segment;
use crate::core::sync::{AtomicU64, Ordering};

/// A lock that is held; dropping it releases it.
#[derive(Debug)]
pub(super) struct Held<'a> {
    word: &'a AtomicU64,
    mine: u64,
}

impl Held<'_> {
    /// Whether it still is: false when somebody took the holder for dead.
    pub fn still(&self) -> bool {
        self.word.load(Ordering::Acquire) == self.mine
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self.word.compare_exchange(self.mine, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Segment {
    /// Takes the lock at a word of the head, or says who has it. `None` inside `Err`: somebody was quicker.
    pub(super) fn lock_at(
        &self,
        at: usize,
        seat: &Seat,
        alive: impl Fn(Process) -> bool,
    ) -> Result<Held<'_>, Option<Process>> {
        let word = self.word(at).ok_or(None)?;
        let mine = (u64::from(seat.row()) + 1) << 32 | u64::from(seat.generation());
        let now = word.load(Ordering::Acquire);
        if now != 0
            && let Some(holder) = self.holder(now)
            && (now == mine || alive(holder))
        {
            return Err(Some(holder));
        }
        match word.compare_exchange(now, mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Held { word, mine }),
            Err(_) => Err(None),
        }
    }

    /// The process that a lock's word names, if it may still be there.
    fn holder(&self, word: u64) -> Option<Process> {
        let row = u32::try_from((word >> 32).checked_sub(1)?).ok().filter(|row| *row <= self.layout.processes)?;
        let state = self.state(row);
        let there = !matches!(state.kind, Kind::Free | Kind::Dead) && state.generation == word as u32;
        there.then(|| self.process(row, state))
    }
}
