//! Bytes that several processes write one at a time and read without waiting: two places, of which the version's lowest
//! bit names the one in force, so that whoever dies in the middle of writing leaves the old.

use super::counters::Kept;
use crate::core::sync::{AtomicU64, Ordering};

/// Bytes for each slot, in each of the two places.
pub const BYTES_A_SLOT: usize = 512;

/// Looks at the lock between two looks at whether its holder is there.
const SPINS: u32 = 10_000;

/// Whose turn it is, and which bytes are in force.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct TableHead {
    lock: AtomicU64,
    version: AtomicU64,
    lengths: [AtomicU64; 2],
}

crate::words! { TableHead { lock, version, lengths } }

/// See the top of this file.
#[derive(Clone, Debug)]
pub struct TableWords {
    head: Kept<TableHead>,
    words: Kept<AtomicU64>,
}

/// The lock; dropping it gives it back.
#[derive(Debug)]
pub struct Held<'a> {
    word: &'a AtomicU64,
    mine: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self.word.compare_exchange(self.mine, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl TableWords {
    /// In these words; half of them for each place.
    #[must_use]
    pub fn new(head: Kept<TableHead>, words: Kept<AtomicU64>) -> TableWords {
        TableWords { head, words }
    }

    /// Changes with the bytes; 0 before the first.
    #[inline(always)]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.head.first().map_or(0, |head| head.version.load(Ordering::Acquire))
    }

    fn half(&self, version: u64) -> Option<(&AtomicU64, &[AtomicU64])> {
        let (which, size) = ((version & 1) as usize, self.words.len() / 2);
        Some((self.head.first()?.lengths.get(which)?, self.words.get(which * size..(which + 1) * size)?))
    }

    /// The bytes in force and their version; `None` when they change faster than they can be read, or cannot be.
    #[must_use]
    pub fn read(&self) -> Option<(u64, Vec<u8>)> {
        (0..64).find_map(|_| {
            let version = self.version();
            if version == 0 {
                return Some((0, Vec::new()));
            }
            let (length, words) = self.half(version)?;
            let length = length.load(Ordering::Acquire) as usize;
            let words = words.get(..length.div_ceil(8))?;
            let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.load(Ordering::Acquire).to_le_bytes()).collect();
            bytes.truncate(length);
            (self.version() == version).then_some((version, bytes))
        })
    }

    /// Puts other bytes in force; their version, or `None` when they are too many. The caller holds the lock.
    pub fn write(&self, bytes: &[u8]) -> Option<u64> {
        let version = self.version().wrapping_add(1).max(2);
        let (length, words) = self.half(version)?;
        let words = words.get(..bytes.len().div_ceil(8))?;
        for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
            let mut raw = [0; 8];
            raw.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(raw), Ordering::Release);
        }
        length.store(bytes.len() as u64, Ordering::Release);
        self.head.first()?.version.store(version, Ordering::Release);
        Some(version)
    }

    /// Waits for the lock. `mine` names this process; of another's name `there` says whether that is still there.
    #[must_use]
    pub fn lock(&self, mine: u64, there: impl Fn(u64) -> bool) -> Option<Held<'_>> {
        let word = &self.head.first()?.lock;
        loop {
            let mut holder = 0;
            for _ in 0..SPINS {
                match word.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(Held { word, mine }),
                    Err(theirs) => holder = theirs,
                }
                std::hint::spin_loop();
            }
            // Nobody of this process waits for itself, so its own name is that of a former one.
            if (holder == mine || !there(holder))
                && word.compare_exchange(holder, mine, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                return Some(Held { word, mine });
            }
            std::thread::yield_now();
        }
    }
}
