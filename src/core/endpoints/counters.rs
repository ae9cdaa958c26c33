//! Counters of endpoints: a flat block of padded cells addressed by slot. It grows by chunks that never move, so a
//! lease can give back what it took long after the endpoint has left the pool.

use super::meter::Meter;
use super::signals::{Signals, Told};
use super::table::TableWords;
#[cfg(not(loom))]
use super::table::{BYTES_A_SLOT, TableHead};
#[cfg(not(loom))]
use super::watch;
use super::watch::{Held, Link};
use crate::core::shared::Segment;
#[cfg(not(loom))]
use crate::core::shared::{Area, Layout, Per, Region, Words};
use crate::core::sync::{AtomicU64, Mode, Ordering};
use std::sync::Arc;

pub use super::watch::{GROUP, Lone, Watch};

/// Values that stand still and stay for as long as any of their keepers does, in this process's memory or in memory that
/// several processes share.
#[cfg(not(loom))]
pub type Kept<T> = crate::core::shared::region::Mapped<T>;

/// The same for the model checker, whose atomics are no words of memory.
#[cfg(loom)]
pub type Kept<T> = Arc<Vec<T>>;

/// Work is counted in units of 1/1024 of one request.
pub const UNITS: f64 = 1024.0;

/// The largest cost of one request, in requests: sums of costs stay far from overflow.
pub const MAX_COST: f64 = 8.0e12;

/// The counters of one slot. 128 bytes, so that no two cells share a cache line or the line fetched beside it; what a
/// pick reads is in the first half.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Cell {
    /// Work in flight in [`UNITS`], with the correction of reports; a signed number in two's complement. Changed by
    /// [`Cell::shift`] alone, which tells those who watch.
    load: AtomicU64,
    /// How much of `load` is the correction of reports, in units; signed likewise.
    pub extra: AtomicU64,
    /// Requests in flight.
    pub inflight: AtomicU64,
    /// Not zero: the endpoint must not get work, whatever an index built earlier says.
    pub blocked: AtomicU64,
    /// The latency estimate in seconds, as float bits; 0 bits when there is none.
    pub rtt: AtomicU64,
    /// The estimate as picks compare it, as float bits; 0 bits when there is none.
    pub shown: AtomicU64,
    /// The way to who watches the slots around.
    pub(super) watch: Link,
    /// Leases that ended well. Here, so that a request from begin to end stays in one line.
    pub successes: AtomicU64,
    /// When the correction of reports stops counting; 0 when there is none.
    pub report_until: AtomicU64,
    /// When the latency estimate was made.
    pub rtt_at: AtomicU64,
    /// Leases that ended in failure.
    pub failures: AtomicU64,
    /// Leases that ended in a timeout.
    pub timeouts: AtomicU64,
    /// Leases that the endpoint refused.
    pub rejected: AtomicU64,
    /// Leases that the caller gave up.
    pub cancelled: AtomicU64,
    /// Leases that were dropped without a word.
    pub dropped: AtomicU64,
    /// The last latency in seconds, as float bits; 0 bits when there is none.
    pub last_latency: AtomicU64,
}

impl Cell {
    /// The load that picks compare, in units: what is in flight here, corrected by reports, never below zero.
    #[inline(always)]
    #[must_use]
    pub fn effective_load(&self) -> u64 {
        self.signed_load().max(0) as u64
    }

    /// The same without the floor, which only matters when it is not compared with another.
    #[inline(always)]
    #[must_use]
    pub fn signed_load(&self) -> i64 {
        // Ordered for those who watch, see `Watch`; a plain load on x86-64.
        self.load.load(Ordering::SeqCst) as i64
    }

    /// Leases given out: each is in flight or has ended in one way.
    #[must_use]
    pub fn picks(&self) -> u64 {
        [
            &self.inflight,
            &self.successes,
            &self.failures,
            &self.timeouts,
            &self.rejected,
            &self.cancelled,
            &self.dropped,
        ]
        .iter()
        .fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Acquire)))
    }

    /// Changes the load by so many units, in two's complement.
    #[inline(always)]
    pub fn shift<M: Mode>(&self, units: u64) {
        M::add(&self.load, units);
        self.watch().end::<M>(self);
    }

    /// Takes a report in: from now on the load is `told` plus what is sent and minus what ends from here on.
    pub fn correct<M: Mode>(&self, told: Option<u64>) {
        if M::JOINT {
            return self.correct_jointly::<M>(told);
        }
        let before = self.extra.load(Ordering::Relaxed);
        let sent = self.load.load(Ordering::Acquire).wrapping_sub(before);
        let extra = told.map_or(0, |told| told.wrapping_sub(sent));
        self.extra.store(extra, Ordering::Relaxed);
        self.shift::<M>(extra.wrapping_sub(before));
    }

    /// The same where no lock keeps others from it: each changes the load by what it has changed the correction by.
    fn correct_jointly<M: Mode>(&self, told: Option<u64>) {
        let mut before = self.extra.load(Ordering::Acquire);
        loop {
            let sent = self.load.load(Ordering::Acquire).wrapping_sub(before);
            let extra = told.map_or(0, |told| told.wrapping_sub(sent));
            match self.extra.compare_exchange(before, extra, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.shift::<M>(extra.wrapping_sub(before)),
                Err(now) => before = now,
            }
        }
    }

    /// Takes one request of this many units, unless `limit` requests are in flight.
    #[inline(always)]
    pub fn take<M: Mode>(&self, units: u64, limit: u32) -> bool {
        let before = M::add(&self.inflight, 1);
        self.keep::<M>(before < u64::from(limit), units)
    }

    /// The same, and nobody ever sees one more than there is: for picks that go by the number itself.
    #[inline(always)]
    pub fn take_exactly<M: Mode>(&self, units: u64, limit: u32) -> bool {
        let mut before = self.inflight.load(Ordering::Acquire);
        loop {
            if before >= u64::from(limit) {
                return false;
            }
            match self.inflight.compare_exchange(before, before + 1, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return self.keep::<M>(true, units),
                Err(now) => before = now,
            }
        }
    }

    /// Keeps a request that is counted, unless it is one too many or nothing new may come.
    #[inline(always)]
    fn keep<M: Mode>(&self, fits: bool, units: u64) -> bool {
        // Between a pick's look and this, a drain may have found nothing in flight: whoever comes later sees its flag,
        // since [`Cell::idle`] and this change one word.
        if !fits || (M::SHARED && self.blocked.load(Ordering::Acquire) != 0) {
            M::sub(&self.inflight, 1);
            // Who looked in between saw one more than there is.
            self.watch().end::<M>(self);
            return false;
        }
        self.shift::<M>(units);
        true
    }

    /// Whether nothing is in flight. With the flag set before, nothing new comes after a yes.
    #[must_use]
    pub fn idle(&self) -> bool {
        // Not a load: a change that adds nothing is ordered with every take.
        self.inflight.fetch_add(0, Ordering::AcqRel) == 0
    }

    /// Gives one request of this many units back.
    #[inline(always)]
    pub fn give<M: Mode>(&self, units: u64) {
        M::sub(&self.inflight, 1);
        self.shift::<M>(units.wrapping_neg());
    }

    /// Forgets what the slot's former endpoint did. What is in flight is not touched: it is zero when a slot is
    /// reused, and a pick that still holds an older snapshot may be adding to it right now.
    pub fn forget<M: Mode>(&self) {
        self.correct::<M>(None);
        for cell in [
            &self.rtt,
            &self.shown,
            &self.rtt_at,
            &self.report_until,
            &self.successes,
            &self.failures,
            &self.timeouts,
            &self.rejected,
            &self.cancelled,
            &self.dropped,
            &self.last_latency,
        ] {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// So many values in this process's own memory, as their default is.
#[cfg(not(loom))]
fn heap<T: Words>(count: usize) -> Kept<T> {
    heap_of(&Region::heap(count * size_of::<T>() / 8), 0, count)
}

/// So many values from a word on. The region has them: the caller made it large enough.
#[cfg(not(loom))]
#[allow(clippy::unwrap_used)] // regions of the heap are aligned, and large enough by the caller's own sum
fn heap_of<T: Words>(region: &Region, from: usize, count: usize) -> Kept<T> {
    region.part(from, count * size_of::<T>() / 8).and_then(|part| part.mapped()).unwrap()
}

#[cfg(loom)]
fn heap<T: Default>(count: usize) -> Kept<T> {
    Arc::new((0..count).map(|_| T::default()).collect())
}

/// Cells and their watches.
#[cfg(not(loom))]
fn chunk(shift: u32) -> (Kept<Cell>, Kept<Watch>) {
    let (count, line) = (1usize << shift, size_of::<Cell>() / 8);
    let groups = count / GROUP as usize;
    let region = Region::heap((count + groups) * line);
    let (cells, watches) = (heap_of(&region, 0, count), heap_of(&region, count * line, groups));
    watch::link(&cells, &watches);
    (cells, watches)
}

#[cfg(loom)]
fn chunk(shift: u32) -> (Kept<Cell>, Kept<Watch>) {
    let mut watch = Link::default();
    let cell = |at: u32| {
        if at.is_multiple_of(GROUP) {
            watch = Link::default();
        }
        Cell { watch: watch.clone(), ..Cell::default() }
    };
    (Arc::new((0..1u32 << shift).map(cell).collect()), heap(0))
}

// Which of a segment's areas is whose.
#[cfg(not(loom))]
const WATCHES: usize = 0;
#[cfg(not(loom))]
const SIGNALS: usize = 1;
#[cfg(not(loom))]
const METERS: usize = 2;
#[cfg(not(loom))]
const TOLD: usize = 3;
#[cfg(not(loom))]
const WORN: usize = 4;
#[cfg(not(loom))]
const TABLE_HEAD: usize = 5;
#[cfg(not(loom))]
const TABLE: usize = 6;

/// What a block needs of a segment beside the cells.
#[cfg(not(loom))]
#[must_use]
pub fn areas() -> Vec<Area> {
    let area = |bytes: usize, per| Area { bytes: bytes as u32, per };
    vec![
        area(size_of::<Watch>(), Per::Slots(GROUP)),
        area(size_of::<Signals>(), Per::Slot),
        area(size_of::<Meter>(), Per::Slot),
        area(size_of::<Told>(), Per::Segment),
        area(size_of::<Worn>(), Per::Segment),
        area(size_of::<TableHead>(), Per::Segment),
        area(2 * BYTES_A_SLOT, Per::Slot),
    ]
}

/// The most endpoints of a pool that several processes have in common, at a time.
pub const MOST_SHARED: u32 = 4096;

/// How many bytes have to be mapped for a segment: more than it has by what a link to a watch can reach.
#[cfg(not(loom))]
#[must_use]
pub fn mapped_bytes(layout: &Layout) -> u64 {
    layout.bytes() + watch::REACH + size_of::<Watch>() as u64
}

/// All cells of a pool. Cloning shares the cells.
#[derive(Clone, Debug)]
pub struct Block {
    first: Kept<Cell>,
    rest: Vec<Kept<Cell>>,
    shift: u32,
    watches: Vec<Kept<Watch>>,
    /// What endpoints told, in chunks of the same size.
    signals: Vec<Kept<Signals>>,
    told: Kept<Told>,
    /// What passive health counts, in chunks of the same size; empty where that is off.
    meters: Vec<Kept<Meter>>,
    /// Where nginx's rule is in use: how much weight is withheld in all.
    worn: Option<Kept<Worn>>,
    /// Where several processes have it in common: then it does not grow.
    segment: Option<Segment>,
    /// What passive health has in common there.
    table: Option<TableWords>,
    /// Whether what moves in turns is to be a copy of what is in common.
    // The model checker has no segments, and so nothing in common.
    #[cfg_attr(loom, allow(dead_code))]
    apart: bool,
    /// How often an endpoint that might get work has been blocked; counted by each process for itself.
    blocks: Arc<AtomicU64>,
}

/// How many turns of one kind can be told apart.
#[cfg(not(loom))]
const TURNS: u32 = 16;

/// How much weight is withheld in all.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Worn {
    units: AtomicU64,
}

crate::words! { Worn { units } }
crate::words! { Cell {
    load, extra, inflight, blocked, rtt, shown, watch, report_until, rtt_at, successes, failures, timeouts, rejected,
    cancelled, dropped, last_latency,
} }

impl Block {
    /// A block whose first chunk has room for `slots` endpoints.
    #[must_use]
    pub fn for_slots(slots: usize) -> Block {
        // Chunks of one size, a power of two: a slot's place is a shift and a mask.
        let shift = slots.next_power_of_two().trailing_zeros().clamp(4, 12);
        let (first, watches) = chunk(shift);
        let mut block = Block {
            first,
            rest: Vec::new(),
            shift,
            watches: vec![watches],
            signals: vec![heap(1 << shift)],
            told: heap(1),
            meters: Vec::new(),
            worn: None,
            segment: None,
            table: None,
            apart: false,
            blocks: Arc::default(),
        };
        block.grow_to(slots);
        block
    }

    /// A block that stands in memory of several processes, all words of which are to be zero or what others of them
    /// have made of them. `None` where the parts do not fit.
    #[cfg(not(loom))]
    #[must_use]
    pub fn on(segment: &Segment, all: &Region) -> Option<Block> {
        let area = |index| segment.area(index);
        let (cells, watches, told) = (segment.cells(), area(WATCHES)?, area(TOLD)?);
        let (cells, watches): (Kept<Cell>, Kept<Watch>) = (cells.mapped()?, watches.mapped()?);
        let (signals, meters): (Kept<Signals>, Kept<Meter>) = (area(SIGNALS)?.mapped()?, area(METERS)?.mapped()?);
        let (told, worn): (Kept<Told>, Kept<Worn>) = (told.mapped()?, area(WORN)?.mapped()?);
        let (table_head, table) = (area(TABLE_HEAD)?.mapped()?, area(TABLE)?.mapped()?);
        let count = cells.len();
        let fits = count.is_power_of_two()
            && (16..=4096).contains(&count)
            && [signals.len(), meters.len(), watches.len() * GROUP as usize].iter().all(|&n| n >= count)
            && watch::reachable(&cells, &watches, all.words());
        fits.then(|| {
            watch::link(&cells, &watches);
            Block {
                first: cells,
                rest: Vec::new(),
                shift: count.trailing_zeros(),
                watches: vec![watches],
                signals: vec![signals],
                told,
                meters: vec![meters],
                worn: Some(worn),
                segment: Some(segment.clone()),
                table: Some(TableWords::new(table_head, table)),
                apart: false,
                blocks: Arc::default(),
            }
        })
    }

    /// Adds chunks until `slots` slots exist.
    pub fn grow_to(&mut self, slots: usize) {
        while self.slots() < slots && self.segment.is_none() {
            let (cells, watches) = chunk(self.shift);
            self.rest.push(cells);
            self.watches.push(watches);
            self.signals.push(heap(1 << self.shift));
        }
        if !self.meters.is_empty() {
            self.measure(self.worn.is_some());
        }
    }

    /// Makes room for what passive health counts; with `wears` also for weights that failures lower.
    pub fn measure(&mut self, wears: bool) {
        while self.meters.len() <= self.rest.len() {
            self.meters.push(heap(1 << self.shift));
        }
        if wears && self.worn.is_none() {
            self.worn = Some(heap(1));
        }
    }

    /// The segment that it stands in, where several processes have it in common.
    #[must_use]
    pub fn segment(&self) -> Option<&Segment> {
        self.segment.as_ref()
    }

    /// The table of passive health that several processes have in common.
    #[must_use]
    pub fn table(&self) -> Option<&TableWords> {
        self.table.as_ref()
    }

    /// The same block for somebody who only looks ahead: turns that are taken on it move for nobody else.
    #[must_use]
    pub fn apart(&self) -> Block {
        Block { apart: true, ..self.clone() }
    }

    /// The count of turns that pickers of one name have in common in all processes, among those of `place`; `None` in a
    /// pool of one process, and where the segment has no room for more.
    #[cfg(not(loom))]
    #[must_use]
    pub fn turns(&self, name: u64, place: u32) -> Option<Kept<AtomicU64>> {
        let words = self.segment.as_ref()?.words(name, TURNS)?.part((place % TURNS) as usize, 1)?;
        if !self.apart {
            return words.mapped();
        }
        let copy = Region::heap(1);
        if let (Some(to), Some(from)) = (copy.words().first(), words.words().first()) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        copy.mapped()
    }

    /// The model checker has no segments under its pickers.
    #[cfg(loom)]
    #[must_use]
    pub fn turns(&self, _: u64, _: u32) -> Option<Kept<AtomicU64>> {
        None
    }

    /// Who watches a slot.
    #[cfg(not(loom))]
    #[must_use]
    pub fn held_watch(&self, slot: u32) -> Option<Held> {
        let mask = (1usize << self.shift) - 1;
        Held::new(self.watches.get((slot >> self.shift) as usize)?, (slot as usize & mask) / GROUP as usize)
    }

    /// The same for the model checker.
    #[cfg(loom)]
    #[must_use]
    pub fn held_watch(&self, slot: u32) -> Option<Held> {
        Some(Held::of(self.cell(slot)?))
    }

    /// What passive health counts of a slot.
    #[inline(always)]
    #[must_use]
    pub fn meter(&self, slot: u32) -> Option<&Meter> {
        let mask = (1usize << self.shift) - 1;
        self.meters.get((slot >> self.shift) as usize)?.get(slot as usize & mask)
    }

    /// Whether failures lower weights here.
    #[must_use]
    pub fn wears(&self) -> bool {
        self.worn.is_some()
    }

    /// Whether some weight is lowered now.
    #[inline(always)]
    #[must_use]
    pub fn worn(&self) -> bool {
        self.worn_units().is_some_and(|worn| worn.load(Ordering::Relaxed) != 0)
    }

    #[inline(always)]
    fn worn_units(&self) -> Option<&AtomicU64> {
        self.worn.as_ref()?.first().map(|worn| &worn.units)
    }

    /// Withholds so much more of a slot's weight, at most all of it.
    pub fn wear(&self, slot: u32, units: u64, most: u64) {
        if let (Some(meter), Some(worn)) = (self.meter(slot), self.worn_units()) {
            let before = meter.worn.load(Ordering::Relaxed);
            let after = before.saturating_add(units).min(most);
            meter.worn.store(after, Ordering::Relaxed);
            worn.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Gives back one unit of what is withheld of a slot's weight.
    pub fn mend(&self, slot: u32) {
        if let (Some(meter), Some(worn)) = (self.meter(slot), self.worn_units())
            && meter.worn.load(Ordering::Relaxed) > 0
        {
            meter.worn.fetch_sub(1, Ordering::Relaxed);
            worn.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets what passive health counted of a slot's former endpoint.
    pub fn forget_meter(&self, slot: u32) {
        if let Some(meter) = self.meter(slot) {
            if let Some(worn) = self.worn_units() {
                worn.fetch_sub(meter.worn.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            meter.forget();
        }
    }

    /// Says whether a slot's endpoint must not get work, whatever an index built earlier says.
    pub fn block(&self, slot: u32, blocked: bool) {
        let Some(cell) = self.cell(slot) else { return };
        // Most are as they were, and a look does not take the line away from those who pick.
        let same = (cell.blocked.load(Ordering::Acquire) != 0) == blocked;
        if !same && cell.blocked.swap(u64::from(blocked), Ordering::AcqRel) == 0 && blocked {
            self.blocks.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Changes whenever somebody is blocked who was not. Who reads this and then finds nobody blocked need not look again
    /// while it stays the same. `None` where other processes block as well.
    #[inline(always)]
    #[must_use]
    pub fn blocks(&self) -> Option<u64> {
        self.segment.is_none().then(|| self.blocks.load(Ordering::Acquire))
    }

    /// The cell of a slot; `None` for a slot that does not exist.
    #[inline(always)]
    #[must_use]
    pub fn cell(&self, slot: u32) -> Option<&Cell> {
        match self.first.get(slot as usize) {
            Some(cell) => Some(cell),
            None => self.cell_beyond(slot),
        }
    }

    // Not a call: a pick that called something would have to save its registers first.
    #[inline(always)]
    fn cell_beyond(&self, slot: u32) -> Option<&Cell> {
        let mask = (1usize << self.shift) - 1;
        self.rest.get(((slot >> self.shift) as usize).checked_sub(1)?)?.get(slot as usize & mask)
    }

    /// What a slot's endpoint told.
    #[must_use]
    pub fn signals(&self, slot: u32) -> Option<&Signals> {
        let mask = (1usize << self.shift) - 1;
        self.signals.get((slot >> self.shift) as usize)?.get(slot as usize & mask)
    }

    /// The chunk that a slot's signals are in, and their place there: for whoever keeps them.
    #[must_use]
    pub fn signals_of(&self, slot: u32) -> Option<(Kept<Signals>, usize)> {
        let mask = (1usize << self.shift) - 1;
        Some((self.signals.get((slot >> self.shift) as usize)?.clone(), slot as usize & mask))
    }

    /// In which order they told it.
    #[must_use]
    pub fn told(&self) -> Option<&Told> {
        self.told.first()
    }

    /// The cells of neighbouring slots, when they stand beside each other.
    #[inline(always)]
    #[must_use]
    pub fn run(&self, from: u32, count: usize) -> Option<&[Cell]> {
        self.first.get(from as usize..(from as usize).checked_add(count)?)
    }

    /// How many slots exist.
    #[must_use]
    pub fn slots(&self) -> usize {
        (self.rest.len() + 1) << self.shift
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::sync::{Exclusive, Shared};

    #[test]
    fn a_cell_fills_its_two_lines() {
        assert_eq!(size_of::<Cell>(), 128);
    }

    #[test]
    fn cells_stay_where_they_are_when_the_block_grows() {
        let mut block = Block::for_slots(3);
        let before: *const Cell = block.cell(2).unwrap();
        let clone = block.clone();
        block.grow_to(1000);
        assert_eq!(before, std::ptr::from_ref(block.cell(2).unwrap()));
        assert!(block.cell(999).is_some());
        assert!(clone.cell(999).is_none());
        block.cell(2).unwrap().take::<Shared>(5, u32::MAX);
        assert_eq!(clone.cell(2).unwrap().effective_load(), 5);
    }

    #[test]
    fn a_watch_sees_the_first_change_of_its_group_and_of_no_other() {
        let block = Block::for_slots(40);
        let cell = |slot| block.cell(slot).unwrap();
        assert!(std::ptr::eq(cell(0).watch(), cell(GROUP - 1).watch()));
        assert!(!std::ptr::eq(cell(0).watch(), cell(GROUP).watch()));
        assert!(std::ptr::eq(cell(GROUP).watch(), &raw const *block.held_watch(GROUP + 3).unwrap()));
        cell(3).take::<Shared>(1, u32::MAX);
        let (seen, other) = (cell(0).watch().start::<Shared>(), cell(GROUP).watch().start::<Shared>());
        assert_eq!((cell(0).watch().start::<Shared>(), cell(0).watch().value()), (seen, seen));
        cell(3).give::<Shared>(1);
        assert_ne!(cell(0).watch().value(), seen);
        assert_eq!(cell(GROUP).watch().value(), other);
        let quiet = cell(0).watch().value();
        cell(3).correct::<Exclusive>(Some(7));
        assert_eq!(cell(0).watch().value(), quiet, "nobody watches");
        let again = cell(0).watch().start::<Shared>();
        assert!(again > seen);
        assert!(!cell(1).take::<Exclusive>(1, 0));
        assert_ne!(cell(0).watch().value(), again, "a refusal may have been seen as a request in flight");
    }

    #[test]
    fn picks_are_those_in_flight_and_those_that_ended() {
        let cell = Lone::default();
        (0..3).for_each(|_| assert!(cell.take::<Exclusive>(1, u32::MAX)));
        cell.give::<Exclusive>(1);
        Exclusive::add(&cell.timeouts, 1);
        assert_eq!(cell.picks(), 3);
    }

    #[test]
    fn a_full_cell_takes_nothing() {
        let cell = Lone::default();
        assert!(cell.take::<Exclusive>(1024, 1));
        assert!(!cell.take::<Exclusive>(1024, 1));
        cell.give::<Exclusive>(1024);
        assert_eq!(cell.effective_load(), 0);
        assert!(cell.take::<Exclusive>(0, 1));
    }

    #[test]
    fn a_report_replaces_the_load_and_its_end_brings_back_what_was_sent() {
        let cell = Lone::default();
        cell.take::<Exclusive>(3 * 1024, u32::MAX);
        cell.correct::<Exclusive>(Some(1024));
        assert_eq!(cell.effective_load(), 1024);
        cell.take::<Exclusive>(1024, u32::MAX);
        assert_eq!(cell.effective_load(), 2048);
        cell.give::<Exclusive>(3 * 1024);
        assert_eq!((cell.effective_load(), cell.signed_load()), (0, -1024));
        cell.correct::<Exclusive>(Some(512));
        assert_eq!(cell.effective_load(), 512);
        cell.correct::<Exclusive>(None);
        assert_eq!(cell.effective_load(), 1024);
        cell.give::<Exclusive>(1024);
        assert_eq!(cell.signed_load(), 0);
    }
}
