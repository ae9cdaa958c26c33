//! A segment: made once, opened by many.

use super::layout::{Area, CELL, FORMAT, HEAD, Layout, Plan};
use super::region::{LINE, Region};
use crate::core::error::ConfigError;
use crate::core::sync::{AtomicU64, Ordering};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// `aibalshm`, stored when everything else is in place.
const MAGIC: u64 = u64::from_le_bytes(*b"aibalshm");

// Words of the head. What changes at different rates has lines of its own.
const MAGIC_AT: usize = 0;
/// Format, hash of the layout, words in all, and the numbers of the layout.
const FORMAT_AT: usize = 1;
const SUM_AT: usize = 8;
pub(super) const EPOCH_AT: usize = HEAD - 3 * LINE;
pub(super) const WRITER_AT: usize = HEAD - 2 * LINE;
pub(super) const TAKER_AT: usize = HEAD - 2 * LINE + 1;
pub(super) const HIGH_AT: usize = HEAD - LINE;
pub(super) const USED_AT: usize = HEAD - LINE + 1;

/// Why memory is not a segment that this program can use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It is shorter than a segment of its layout.
    #[error("the segment is truncated: {found} bytes, and its layout needs {needed}")]
    Truncated {
        /// Bytes that it should have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// Whoever makes it has not finished, or never will.
    #[error("the segment is not complete: whoever made it has not finished")]
    Unfinished,
    /// It is something else.
    #[error("this memory is no segment of aibalance")]
    Foreign,
    /// Another version of aibalance made it.
    #[error("the segment has format {found}, and this version of aibalance uses {expected}")]
    Version {
        /// The format that it has.
        found: u64,
        /// The format that this program has.
        expected: u64,
    },
    /// Its numbers do not belong together.
    #[error("the segment's head is corrupted")]
    Corrupted,
    /// Its layout is that of another build, or of other options.
    #[error("the segment has another layout than this build of aibalance uses")]
    Layout,
    /// It cannot be made here, for something is here already.
    #[error("the memory is not empty")]
    Occupied,
    /// There can be no such layout.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Memory with a pool's shared state in it. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub(super) region: Region,
    pub(super) head: Region,
    pub(super) rows: Region,
    pub(super) cells: Region,
    pub(super) layout: Layout,
    pub(super) plan: Plan,
}

/// A word of a region; zero for one that it does not have.
#[inline(always)]
pub(super) fn load(region: &Region, at: usize) -> u64 {
    region.words().get(at).map_or(0, |word| word.load(Ordering::Acquire))
}

/// Sets a word of a region, if it has it.
#[inline(always)]
pub(super) fn store(region: &Region, at: usize, value: u64) {
    if let Some(word) = region.words().get(at) {
        word.store(value, Ordering::Release);
    }
}

fn sum(numbers: &[u64]) -> u64 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|word| word.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

impl Segment {
    /// Makes a segment in fresh memory, which is all zero. Nobody can open it before this is done.
    ///
    /// # Errors
    /// [`OpenError::Config`] for a layout that cannot be, [`OpenError::Truncated`] for too little memory,
    /// [`OpenError::Occupied`] when the memory is not fresh.
    pub fn create(region: &Region, layout: Layout) -> Result<Segment, OpenError> {
        let layout = layout.check()?;
        let segment = Segment::over(region, layout)?;
        if segment.head.words().iter().any(|word| word.load(Ordering::Acquire) != 0) {
            return Err(OpenError::Occupied);
        }
        let numbers = segment.numbers();
        for (at, number) in (FORMAT_AT..).zip(numbers) {
            store(&segment.head, at, number);
        }
        store(&segment.head, SUM_AT, sum(&numbers));
        store(&segment.head, MAGIC_AT, MAGIC);
        Ok(segment)
    }

    /// Opens a segment that somebody made with the same areas. Numbers in its head are believed once they fit each
    /// other, this build and the memory; what is read later is checked when it is used.
    ///
    /// # Errors
    /// [`OpenError`], which says what is wrong. [`OpenError::Unfinished`] may pass.
    pub fn open(region: &Region, areas: &[Area]) -> Result<Segment, OpenError> {
        let found = region.words().len() as u64 * 8;
        let head = region.part(0, HEAD).ok_or(OpenError::Truncated { needed: HEAD as u64 * 8, found })?;
        match load(&head, MAGIC_AT) {
            MAGIC => {}
            0 => return Err(OpenError::Unfinished),
            _ => return Err(OpenError::Foreign),
        }
        let format = load(&head, FORMAT_AT);
        if format != FORMAT {
            return Err(OpenError::Version { found: format, expected: FORMAT });
        }
        let mut numbers = [0; SUM_AT - FORMAT_AT];
        for (at, number) in (FORMAT_AT..).zip(&mut numbers) {
            *number = load(&head, at);
        }
        if load(&head, SUM_AT) != sum(&numbers) {
            return Err(OpenError::Corrupted);
        }
        let [_, _, _, slots, processes, blob, picker_words] = numbers;
        let layout = Layout::from_numbers([slots, processes, blob, picker_words], areas).ok_or(OpenError::Corrupted)?;
        let segment = Segment::over(region, layout)?;
        if segment.numbers() != numbers {
            return Err(OpenError::Layout);
        }
        Ok(segment)
    }

    fn over(region: &Region, layout: Layout) -> Result<Segment, OpenError> {
        let plan = layout.plan();
        let too_short =
            || OpenError::Truncated { needed: plan.total as u64 * 8, found: region.words().len() as u64 * 8 };
        let part = |range: &std::ops::Range<usize>| region.part(range.start, range.len()).ok_or_else(too_short);
        let region = part(&(0..plan.total))?;
        let (head, rows, cells) = (part(&(0..HEAD))?, part(&plan.rows)?, part(&plan.cells)?);
        Ok(Segment { region, head, rows, cells, layout, plan })
    }

    fn numbers(&self) -> [u64; SUM_AT - FORMAT_AT] {
        let [slots, processes, blob, picker_words] = self.layout.numbers();
        [FORMAT, self.layout.hash(), self.plan.total as u64, slots, processes, blob, picker_words]
    }

    /// How large it is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cells, [`CELL`] words a slot. `Region::mapped` makes them cells.
    #[must_use]
    pub fn cells(&self) -> &Region {
        &self.cells
    }

    /// The words of one cell.
    #[inline(always)]
    #[must_use]
    pub fn cell(&self, slot: u32) -> Option<&[AtomicU64]> {
        let from = (slot as usize).checked_mul(CELL)?;
        self.cells.words().get(from..from.checked_add(CELL)?)
    }

    /// The memory of one of the layout's areas.
    #[must_use]
    pub fn area(&self, index: usize) -> Option<Region> {
        let range = self.plan.areas.get(index)?;
        self.region.part(range.start, range.len())
    }

    /// One of the words of the head.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.head.words().get(at)
    }
}
