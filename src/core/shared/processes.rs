//! Who uses a segment: a row a process, with the process's identity and the membership that it last saw.

use super::audit::Report;
use super::layout::{CELL_INFLIGHT, OWN, ROW};
use super::region::Region;
use super::seat::Seat;
use super::segment::{EPOCH_AT, HIGH_AT, Segment, load, store};
use crate::core::sync::{AtomicU64, Ordering};
use thiserror::Error;

// Words of a row.
const STATE_AT: usize = 0;
const START_AT: usize = 1;
const SEEN_AT: usize = 2;

/// What a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    Joining,
    Live,
    /// It takes no more, and has leases out.
    Leaving,
    /// Its process is gone, and what it had has to be taken back.
    Dead,
}

/// A row's first word: generation, pid and kind, so that all three change at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub generation: u32,
    pub pid: u32,
    pub kind: Kind,
}

impl State {
    pub fn of(word: u64) -> State {
        let kind = match word & 0xff {
            0 => Kind::Free,
            1 => Kind::Joining,
            2 => Kind::Live,
            3 => Kind::Leaving,
            // Whatever else is there is nobody's.
            _ => Kind::Dead,
        };
        State { generation: (word >> 40) as u32, pid: (word >> 8) as u32, kind }
    }

    pub fn word(self) -> u64 {
        u64::from(self.generation & 0xff_ffff) << 40 | u64::from(self.pid) << 8 | self.kind as u64
    }

    fn next(self, pid: u32, kind: Kind) -> State {
        State { generation: self.generation.wrapping_add(1) & 0xff_ffff, pid, kind }
    }
}

/// A process as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its row.
    pub row: u32,
    /// Its pid.
    pub pid: u32,
    /// When it started, in the caller's own measure; 0 when it was stopped before it could say, and the pid has to do.
    pub start: u64,
}

/// Why a process cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {0} process rows of the segment are taken")]
pub struct TableFull(pub u32);

impl Segment {
    pub(super) fn row_word(&self, row: u32, at: usize) -> Option<&AtomicU64> {
        self.rows.words().get((row as usize).checked_mul(ROW)?.checked_add(at)?)
    }

    pub(super) fn state(&self, row: u32) -> State {
        State::of(self.row_word(row, STATE_AT).map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// Puts a row from one state into another, unless it is in neither by now.
    pub(super) fn turn(&self, row: u32, from: State, to: State) -> bool {
        let swap = |word: &AtomicU64| {
            // A corrupted word is its state's, though not its state's own.
            let now = word.load(Ordering::Acquire);
            State::of(now) == from && word.compare_exchange(now, to.word(), Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        self.row_word(row, STATE_AT).is_some_and(swap)
    }

    pub(super) fn process(&self, row: u32, state: State) -> Process {
        // Before a row is live its start may be that of a former process.
        let known = matches!(state.kind, Kind::Live | Kind::Leaving);
        let start = self.row_word(row, START_AT).filter(|_| known).map_or(0, |word| word.load(Ordering::Acquire));
        Process { row, pid: state.pid, start }
    }

    /// Rows that were ever used are below this.
    pub(super) fn high(&self) -> u32 {
        (load(&self.head, HIGH_AT).min(u64::from(self.layout.processes))) as u32
    }

    pub(super) fn own(&self, row: u32) -> Option<Region> {
        let from = (row as usize).checked_mul(self.plan.own_stride)?;
        let all = self.plan.own.clone();
        let from = all.start.checked_add(from).filter(|from| *from < all.end)?;
        self.region.part(from, self.layout.slots as usize * OWN)
    }

    /// The processes that are in, or were and have not been taken back.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        (0..self.high())
            .map(|row| (row, self.state(row)))
            .filter(|(_, state)| state.kind != Kind::Free)
            .map(|(row, state)| self.process(row, state))
            .collect()
    }

    /// Joins as a process. A process may join several times, each for itself; a child of `fork` joins anew. One that
    /// left with leases out and comes back gets its row back.
    ///
    /// # Errors
    /// [`TableFull`]. [`Segment::make_room`] helps where some are dead.
    pub fn join(&self, pid: u32, start: u64) -> Result<Seat, TableFull> {
        let processes = self.layout.processes;
        let back = (0..processes).find_map(|row| {
            let state = self.state(row);
            let mine = Process { row, pid, start };
            let same = state.kind == Kind::Leaving && self.process(row, state) == mine;
            let live = state.next(pid, Kind::Live);
            (same && self.turn(row, state, live)).then(|| self.seat(row, live))?
        });
        back.or_else(|| (0..processes).find_map(|row| self.claim(row, pid, start))).ok_or(TableFull(processes))
    }

    fn claim(&self, row: u32, pid: u32, start: u64) -> Option<Seat> {
        let state = self.state(row);
        if state.kind != Kind::Free {
            return None;
        }
        let joining = self.enter(row, state, pid, start)?;
        // After the claim: whoever found the row free and reused a slot had published that slot's end before.
        self.row_word(row, SEEN_AT)?.store(load(&self.head, EPOCH_AT), Ordering::Release);
        // Before anything is counted: an audit that saw a count of this row sees the row too.
        self.word(HIGH_AT)?.fetch_max(u64::from(row) + 1, Ordering::AcqRel);
        let live = State { kind: Kind::Live, ..joining };
        self.turn(row, joining, live).then(|| self.seat(row, live))?
    }

    /// Puts a name on a row.
    fn enter(&self, row: u32, state: State, pid: u32, start: u64) -> Option<State> {
        let joining = state.next(pid, Kind::Joining);
        if !self.turn(row, state, joining) {
            return None;
        }
        self.row_word(row, START_AT)?.store(start, Ordering::Release);
        Some(joining)
    }

    /// [`Segment::take_back`] by a process that is not in, for a table that is full of the dead.
    pub fn make_room(&self, pid: u32, start: u64, alive: impl Fn(Process) -> bool) -> Report {
        // One row more than there are processes: it has no counts, so another may step in where its process has died.
        let row = self.layout.processes;
        let state = self.state(row);
        let taken = state.kind != Kind::Free && alive(self.process(row, state));
        let joining = if taken { None } else { self.enter(row, state, pid, start) };
        let live = joining.map(|joining| (joining, State { kind: Kind::Live, ..joining }));
        let (Some((_, live)), Some(none), Some(words)) = (
            live.filter(|(joining, live)| self.turn(row, *joining, *live)),
            self.region.part(0, 0),
            self.rows.part(row as usize * ROW, ROW),
        ) else {
            return Report { busy: true, ..Report::default() };
        };
        let report = self.take_back(&Seat::new(row, live.generation, none, words), alive);
        self.turn(row, live, State { kind: Kind::Free, ..live });
        report
    }

    fn seat(&self, row: u32, state: State) -> Option<Seat> {
        let words = self.rows.part(row as usize * ROW, ROW)?;
        Some(Seat::new(row, state.generation, self.own(row)?, words))
    }

    /// Whether the row is still this process's: false once somebody took it for dead, which is a fault of `alive`. Then
    /// what goes through the seat is counted for nobody, and the process should join anew.
    #[must_use]
    pub fn has(&self, seat: &Seat) -> bool {
        let state = self.state(seat.row());
        state.generation == seat.generation() && matches!(state.kind, Kind::Live | Kind::Leaving)
    }

    /// Leaves in order. A process with leases out keeps its row, and its [`Seat`] goes on to give back; the row is free
    /// once nothing is out, or after its process has ended and been taken back. Whether the row is free already.
    /// Nothing may be taken through the seat any more.
    pub fn leave(&self, seat: &Seat) -> bool {
        let state = self.state(seat.row());
        if state.generation != seat.generation() {
            return true;
        }
        let leaving = State { kind: Kind::Leaving, ..state };
        if state.kind == Kind::Live && !self.turn(seat.row(), state, leaving) {
            return false;
        }
        self.free_if_clean(seat.row(), leaving)
    }

    /// Frees a row of a process that leaves, when it has nothing out.
    pub(super) fn free_if_clean(&self, row: u32, leaving: State) -> bool {
        let clean = self.own(row).is_some_and(|own| {
            own.words().chunks_exact(OWN).all(|pair| match pair {
                [work, units] => super::seat::idle(work.load(Ordering::Acquire)) && units.load(Ordering::Acquire) == 0,
                _ => true,
            })
        });
        clean && self.turn(row, leaving, State { kind: Kind::Free, ..leaving })
    }

    /// Whether a slot may get another endpoint: nothing is in flight on it, and every process has seen the epoch from
    /// which on the slot was nobody's.
    #[must_use]
    pub fn may_reuse(&self, slot: u32, retired_at: u64) -> bool {
        let empty = self.cell(slot).and_then(|cell| cell.get(CELL_INFLIGHT));
        (0..self.layout.processes).all(|row| {
            let Some(word) = self.row_word(row, STATE_AT) else { return false };
            // Not a load: whoever joins after this change that changes nothing sees the epoch that this one knows.
            let state = State::of(word.fetch_add(0, Ordering::AcqRel));
            let seen = || self.row_word(row, SEEN_AT).map_or(0, |seen| seen.load(Ordering::Acquire));
            match state.kind {
                Kind::Free | Kind::Dead => true,
                Kind::Joining => false,
                Kind::Live | Kind::Leaving => seen() >= retired_at,
            }
        }) && empty.is_some_and(|empty| empty.fetch_add(0, Ordering::AcqRel) == 0)
    }
}

impl Seat {
    /// From now on this process hands out nothing that a membership older than this has. Called after its pickers have
    /// changed over.
    pub fn seen(&self, epoch: u64) {
        store(self.words(), SEEN_AT, epoch);
    }
}
