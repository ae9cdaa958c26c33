//! Watches: who compares many endpoints is told which of them have changed.
#![cfg_attr(not(loom), allow(unsafe_code))]

use super::counters::Cell;
#[cfg(not(loom))]
use super::counters::Kept;
use crate::core::sync::{AtomicU64, Mode, Ordering, between_seq_cst};

/// How many neighbouring slots share a [`Watch`]; a power of two that divides every chunk.
pub const GROUP: u32 = 16;

/// Tells whoever compares many endpoints which of them have changed. It holds a number that is odd while somebody
/// watches; the first change after that makes it even, and it never has the same value again. While nobody watches, a
/// change only reads it, so that threads do not fight for its cache line.
///
/// Where an outer lock orders all changes it also knows which slots have changed since the last start, so that who
/// compares need not look at their neighbours. Threads would have to change two words at once for that.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Watch {
    number: AtomicU64,
    /// The number that the last start gave.
    since: AtomicU64,
    /// Who has changed after it: bit [`bit_of`] a cell.
    changed: AtomicU64,
}

crate::words! { Watch { number, since, changed } }

/// Which bit stands for a cell. That of the next cell is the next one, around a circle of 64.
#[inline(always)]
fn bit_of(cell: &Cell) -> u32 {
    (std::ptr::from_ref(cell).addr() / size_of::<Cell>()) as u32 & 63
}

impl Watch {
    /// The number now. Equal to what [`Watch::start`] gave: nothing has changed since.
    #[inline(always)]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Starts to watch. What is read after this is what the number given stands for.
    #[must_use]
    pub fn start<M: Mode>(&self) -> u64 {
        let number = M::or(&self.number, 1) | 1;
        if !M::SHARED {
            self.since.store(number, Ordering::Relaxed);
            self.changed.store(0, Ordering::Relaxed);
        }
        between_seq_cst();
        number
    }

    /// Who has changed since a start that gave this number: bit n stands for the nth cell from `first` on. `None` when
    /// that is not known.
    #[inline(always)]
    #[must_use]
    pub fn changed<M: Mode>(&self, seen: u64, first: &Cell) -> Option<u64> {
        if M::SHARED || self.since.load(Ordering::Relaxed) != seen {
            return None;
        }
        Some(self.changed.load(Ordering::Relaxed).rotate_right(bit_of(first)))
    }

    /// The load of `cell` has changed. Called after the change: of a change and a start at the same time, either this sees the
    /// start or the reads after the start see the change, for all four are sequentially consistent.
    #[inline(always)]
    pub(crate) fn end<M: Mode>(&self, cell: &Cell) {
        if !M::SHARED {
            let number = self.number.load(Ordering::Relaxed);
            if number != 0 {
                let changed = self.changed.load(Ordering::Relaxed) | 1u64 << bit_of(cell);
                self.changed.store(changed, Ordering::Relaxed);
                self.number.store(number.wrapping_add(1) & !1, Ordering::Relaxed);
            }
            return;
        }
        between_seq_cst();
        if self.number.load(Ordering::SeqCst) & 1 != 0 {
            // Two at once may add 2: the number is odd again, but it is not the one that anybody remembers.
            M::add(&self.number, 1);
        }
    }
}

/// How far behind its cell a watch may stand, in bytes, and which bits of a distance count: whatever a distance is, what
/// it leads to is aligned and no farther away.
// The model checker links by pointers.
#[cfg_attr(loom, allow(dead_code))]
pub(super) const REACH: u64 = 0xf_ff80;

/// The way from a cell to its watch: not a pointer, for cells may stand in memory that each process has elsewhere.
#[cfg(not(loom))]
#[derive(Debug, Default)]
#[repr(C)]
pub struct Link {
    /// Bytes from the start of the cell; 0 leads to the cell itself, which is harmless and useless.
    bytes: AtomicU64,
}

#[cfg(not(loom))]
crate::words! { Link { bytes } }

/// The same for the model checker, whose atomics are no words of memory.
#[cfg(loom)]
pub type Link = std::sync::Arc<Watch>;

#[cfg(not(loom))]
impl Link {
    pub(super) fn set(&self, bytes: usize) {
        self.bytes.store(bytes as u64 & REACH, Ordering::Relaxed);
    }

    /// The watch of the cell that has this link.
    #[inline(always)]
    pub(super) fn of(cell: &Cell) -> &Watch {
        let bytes = (cell.watch.bytes.load(Ordering::Relaxed) & REACH) as usize;
        // SAFETY: cells are aligned to 128 bytes and `REACH` keeps multiples of that, so the result is aligned. Cells of
        // this process alone have a link that nobody but `Block` and `Lone` set, to a watch in the same allocation. Those
        // in shared memory are made by `Block::on`, which sees that `REACH` and one watch more are mapped behind each
        // cell, so that a link that somebody spoilt leads to other words of the mapping. Their memory lives as long as
        // the cell, any bits are a watch, and everybody uses it as atomic words. The provenance is that of the whole
        // allocation, which was exposed when the link was set.
        unsafe { &*std::ptr::with_exposed_provenance::<Watch>(std::ptr::from_ref(cell).addr().wrapping_add(bytes)) }
    }
}

#[cfg(loom)]
impl Cell {
    /// Who watches the slots around.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

#[cfg(not(loom))]
impl Cell {
    /// Who watches the slots around.
    #[inline(always)]
    #[must_use]
    pub fn watch(&self) -> &Watch {
        Link::of(self)
    }
}

/// Whether each cell's watch is within reach, and whether so much is mapped behind each cell as a link can reach.
#[cfg(not(loom))]
pub(super) fn reachable(cells: &Kept<Cell>, watches: &Kept<Watch>, all: &[AtomicU64]) -> bool {
    let bytes = REACH as usize + size_of::<Watch>();
    let (from, words) = (all.as_ptr().addr(), all.as_ptr_range().end.addr());
    let (first, end) = (cells.as_ptr().addr(), cells.as_ptr_range().end.addr());
    let near = (0..cells.len()).all(|slot| {
        let distance = watches
            .get(slot / GROUP as usize)
            .zip(cells.get(slot))
            .and_then(|(watch, cell)| std::ptr::from_ref(watch).addr().checked_sub(std::ptr::from_ref(cell).addr()));
        distance.is_some_and(|distance| distance as u64 & REACH == distance as u64)
    });
    near && from <= first && end.checked_add(bytes).is_some_and(|end| end <= words)
}

/// Makes the links of cells to their watches. Both stand in one allocation or mapping, the watches behind the cells.
#[cfg(not(loom))]
pub(super) fn link(cells: &Kept<Cell>, watches: &Kept<Watch>) {
    let _ = (cells.as_ptr().expose_provenance(), watches.as_ptr().expose_provenance());
    for (slot, cell) in cells.iter().enumerate() {
        if let Some(watch) = watches.get(slot / GROUP as usize) {
            let distance = std::ptr::from_ref(watch).addr().wrapping_sub(std::ptr::from_ref(cell).addr());
            cell.watch.set(distance);
        }
    }
}

/// A watch that is kept for longer than the block is borrowed.
#[derive(Debug)]
pub struct Held {
    #[cfg(not(loom))]
    at: std::ptr::NonNull<Watch>,
    /// What keeps it where it is.
    #[cfg(not(loom))]
    kept: Kept<Watch>,
    #[cfg(loom)]
    watch: Link,
}

// SAFETY: it stands for a shared reference into `kept`, which may go from thread to thread.
#[cfg(not(loom))]
unsafe impl Send for Held {}
// SAFETY: as for `Send`.
#[cfg(not(loom))]
unsafe impl Sync for Held {}

impl Held {
    #[cfg(not(loom))]
    pub(super) fn new(kept: &Kept<Watch>, which: usize) -> Option<Held> {
        Some(Held { at: std::ptr::NonNull::from(kept.get(which)?), kept: kept.clone() })
    }

    #[cfg(loom)]
    pub(super) fn of(cell: &Cell) -> Held {
        Held { watch: cell.watch.clone() }
    }

    /// Whether both are one.
    #[must_use]
    pub fn same(&self, other: &Held) -> bool {
        std::ptr::eq(&raw const **self, &raw const **other)
    }
}

impl std::ops::Deref for Held {
    type Target = Watch;

    #[cfg(not(loom))]
    #[inline(always)]
    fn deref(&self) -> &Watch {
        let _ = &self.kept;
        // SAFETY: it was a reference into what `kept` keeps where it is.
        unsafe { self.at.as_ref() }
    }

    #[cfg(loom)]
    fn deref(&self) -> &Watch {
        &self.watch
    }
}

/// A cell by itself with its watch, for those who count without a pool.
#[derive(Debug)]
#[repr(C)]
pub struct Lone {
    cell: Cell,
    #[cfg(not(loom))]
    watch: Watch,
}

impl Default for Lone {
    fn default() -> Lone {
        #[cfg(not(loom))]
        {
            let lone = Lone { cell: Cell::default(), watch: Watch::default() };
            lone.cell.watch.set(std::mem::offset_of!(Lone, watch));
            lone
        }
        #[cfg(loom)]
        Lone { cell: Cell::default() }
    }
}

impl std::ops::Deref for Lone {
    type Target = Cell;

    #[inline(always)]
    fn deref(&self) -> &Cell {
        #[cfg(not(loom))]
        let _ = (std::ptr::from_ref(self).expose_provenance(), &self.watch);
        &self.cell
    }
}
