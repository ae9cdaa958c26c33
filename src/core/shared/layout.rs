//! What stands where in a segment. A process computes it anew from a few checked numbers of the head, and from then on
//! believes its own sums only.

use super::region::LINE;
use crate::core::error::ConfigError;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// The number of this arrangement. One more with every change of what stands where, or of what it means.
pub const FORMAT: u64 = 1;

/// Most slots of a segment.
pub const MAX_SLOTS: u32 = 1 << 16;

/// Most processes of a segment.
pub const MAX_PROCESSES: u32 = 1 << 10;

/// Largest membership, in bytes.
pub const MAX_BLOB: u32 = 64 << 20;

/// Most rotation words.
pub const MAX_PICKER_WORDS: u32 = 1 << 20;

/// Words of one cell: a [`LINE`].
pub const CELL: usize = LINE;

/// The words of a cell that take-back needs, in the order of `endpoints::Cell`.
pub const CELL_LOAD: usize = 0;
/// See [`CELL_LOAD`].
pub const CELL_EXTRA: usize = 1;
/// See [`CELL_LOAD`].
pub const CELL_INFLIGHT: usize = 2;

/// Words of what one process has on one slot: a count of operations and requests, and units.
pub(super) const OWN: usize = 2;

/// Words of one process.
pub(super) const ROW: usize = LINE;

/// Words before a membership: its epoch, length and checksum.
pub(super) const BLOB_HEAD: usize = LINE;

pub(super) const HEAD: usize = 6 * LINE;

/// How often an area's value occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Once a slot.
    Slot,
    /// Once for so many neighbouring slots.
    Slots(u32),
    /// Once.
    Segment,
}

/// Room for values of one type, which is the program's own matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Size of one value in bytes; a multiple of 8.
    pub bytes: u32,
    /// How many there are.
    pub per: Per,
}

impl Area {
    fn count(self, slots: u32) -> u32 {
        match self.per {
            Per::Slot => slots,
            Per::Slots(each) => slots.div_ceil(each.max(1)),
            Per::Segment => 1,
        }
    }
}

/// How large a segment is. Whoever opens one takes the numbers from its head; the areas belong to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Room for so many endpoints, 1 to 65,536.
    pub slots: u32,
    /// Room for so many processes at a time, 1 to 1,024.
    pub processes: u32,
    /// Largest membership in bytes, up to 64 MiB. There are two of them.
    pub blob: u32,
    /// Rotation words for pickers, up to 1,048,576.
    pub picker_words: u32,
    /// Room for values beside the cells, 16 at most, each value up to 4 KiB.
    pub areas: Vec<Area>,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { slots: 1024, processes: 64, blob: 1 << 20, picker_words: 4096, areas: Vec::new() }
    }
}

/// Offsets and lengths, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub halves: [Range<usize>; 2],
    pub rows: Range<usize>,
    pub own: Range<usize>,
    /// Words from one process's row of counts to the next.
    pub own_stride: usize,
    pub cells: Range<usize>,
    pub table: Range<usize>,
    pub picker_words: Range<usize>,
    pub areas: Vec<Range<usize>>,
    pub total: usize,
}

fn check(field: &str, value: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(field, value, format!("a number from {least} to {most}")))
}

impl Layout {
    /// The layout, if there can be such a segment.
    ///
    /// # Errors
    /// [`ConfigError`] for a number out of range.
    pub fn check(self) -> Result<Layout, ConfigError> {
        check("slots", self.slots, 1, MAX_SLOTS)?;
        check("processes", self.processes, 1, MAX_PROCESSES)?;
        check("blob", self.blob, 0, MAX_BLOB)?;
        check("picker_words", self.picker_words, 0, MAX_PICKER_WORDS)?;
        check("areas", self.areas.len() as u32, 0, 16)?;
        for (i, area) in self.areas.iter().enumerate() {
            check(&format!("areas[{i}].bytes"), area.bytes, 8, 4096)?;
            if !area.bytes.is_multiple_of(8) {
                return Err(ConfigError::new(format!("areas[{i}].bytes"), area.bytes, "a multiple of 8"));
            }
        }
        Ok(self)
    }

    /// Size of the segment in bytes. Memory that nobody has touched costs nothing on most systems.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.plan().total as u64 * 8
    }

    /// Entries of the table of rotation words: a power of two, twice as many as there can be names of one word each up to
    /// a limit.
    fn entries(&self) -> usize {
        (self.picker_words as usize).clamp(LINE / 2, 1024).next_power_of_two() * 2
    }

    pub(super) fn plan(&self) -> Plan {
        let mut at = HEAD;
        let mut area = |words: usize| {
            let from = at;
            at += words.next_multiple_of(LINE);
            from..from + words
        };
        let half = BLOB_HEAD + (self.blob as usize).div_ceil(8);
        let (slots, processes) = (self.slots as usize, self.processes as usize);
        let own_stride = (slots * OWN).next_multiple_of(LINE);
        Plan {
            halves: [area(half), area(half)],
            // And one for who makes room in a full table.
            rows: area((processes + 1) * ROW),
            own: area(processes * own_stride),
            own_stride,
            cells: area(slots * CELL),
            table: area(self.entries() * 2),
            picker_words: area(self.picker_words as usize),
            areas: self.areas.iter().map(|a| area(a.bytes as usize / 8 * a.count(self.slots) as usize)).collect(),
            total: at,
        }
    }

    /// The numbers of the head, in their order.
    pub(super) fn numbers(&self) -> [u64; 4] {
        [self.slots, self.processes, self.blob, self.picker_words].map(u64::from)
    }

    /// A layout of these numbers, which somebody else wrote.
    pub(super) fn from_numbers(numbers: [u64; 4], areas: &[Area]) -> Option<Layout> {
        let [slots, processes, blob, picker_words] = numbers.map(|n| u32::try_from(n).ok());
        let areas = areas.to_vec();
        Layout { slots: slots?, processes: processes?, blob: blob?, picker_words: picker_words?, areas }.check().ok()
    }

    /// Stands for every number of the layout, of its areas and of this arrangement.
    pub(super) fn hash(&self) -> u64 {
        let mut words = vec![FORMAT, CELL as u64, OWN as u64, ROW as u64, self.areas.len() as u64];
        words.extend(self.numbers());
        for area in &self.areas {
            words.extend([u64::from(area.bytes), u64::from(area.count(self.slots))]);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        xxh3_64(&bytes)
    }
}
