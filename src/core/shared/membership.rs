//! Who is in the pool, as bytes that mean nothing here, by epoch: two places, of which the epoch's lowest bit names the one in
//! force. A writer fills the other and then changes the epoch, so that a crash at any point leaves the old in force.

use super::layout::BLOB_HEAD;
use super::lock::Held;
use super::processes::Process;
use super::region::Region;
use super::relax;
use super::seat::Seat;
use super::segment::{EPOCH_AT, Segment, WRITER_AT, load, store};
use crate::core::sync::Ordering;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

// Words before the bytes.
const EPOCH_OF: usize = 0;
const LENGTH_OF: usize = 1;
const SUM_OF: usize = 2;

#[cfg(not(loom))]
const READS: u32 = 64;
#[cfg(loom)]
const READS: u32 = 2;

/// Why no membership could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Others published faster than this could read. Another try may do.
    #[error("the membership changed while it was read")]
    Changing,
    /// What is in force is not what was published.
    #[error("the segment's membership is corrupted")]
    Corrupted,
}

/// Why the writers' lock is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("another process writes")]
pub struct Locked {
    /// Who has it; `None` when somebody was quicker just now.
    pub by: Option<Process>,
}

/// Why nothing was published. What was in force still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The membership is larger than the segment has room for.
    #[error("the membership has {bytes} bytes, and the segment has room for {room}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The room.
        room: u32,
    },
    /// Somebody took this process for dead and the lock away from it.
    #[error("the writers' lock was lost")]
    Lost,
}

impl Segment {
    /// The number of the membership in force; 0 before the first.
    #[inline(always)]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        load(&self.head, EPOCH_AT)
    }

    fn half(&self, epoch: u64) -> Option<Region> {
        let [even, odd] = &self.plan.halves;
        let range = if epoch & 1 == 0 { even } else { odd };
        self.region.part(range.start, range.len())
    }

    /// The membership in force and its epoch; no bytes at epoch 0.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self) -> Result<(u64, Vec<u8>), ReadError> {
        let mut result = Err(ReadError::Changing);
        for _ in 0..READS {
            let epoch = self.epoch();
            if epoch == 0 {
                return Ok((0, Vec::new()));
            }
            let bytes = self.half(epoch).and_then(|half| read(&half, epoch, self.layout.blob));
            // What a later writer put into this half it put there after an epoch that would be seen here.
            if self.epoch() == epoch {
                return bytes.map(|bytes| (epoch, bytes)).ok_or(ReadError::Corrupted);
            }
            result = Err(ReadError::Changing);
            relax();
        }
        result
    }

    /// The writers' lock. A holder that is no longer alive loses it, and what it had begun is as if it had not.
    /// `alive` says whether a process is there, and is the one that started then.
    ///
    /// # Errors
    /// [`Locked`]: the caller waits as it sees fit and tries again.
    pub fn lock(&self, seat: &Seat, alive: impl Fn(Process) -> bool) -> Result<Writer<'_>, Locked> {
        let held = self.lock_at(WRITER_AT, seat, alive).map_err(|by| Locked { by })?;
        Ok(Writer { segment: self, held })
    }
}

/// The bytes of a half that is of this epoch and whole.
fn read(half: &Region, epoch: u64, room: u32) -> Option<Vec<u8>> {
    let length = usize::try_from(load(half, LENGTH_OF)).ok().filter(|length| *length <= room as usize)?;
    if load(half, EPOCH_OF) != epoch {
        return None;
    }
    let words = half.words().get(BLOB_HEAD..)?.get(..length.div_ceil(8))?;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect();
    bytes.truncate(length);
    (xxh3_64_with_seed(&bytes, epoch) == load(half, SUM_OF)).then_some(bytes)
}

/// The right to publish; dropping it releases the lock. A child of `fork` must not drop its copy: it has its parent's
/// name.
#[derive(Debug)]
pub struct Writer<'a> {
    segment: &'a Segment,
    held: Held<'a>,
}

impl Writer<'_> {
    /// Publishes a membership: others see it at their next look at the epoch, which is the answer.
    ///
    /// # Errors
    /// [`PublishError`]; then the old one is still in force.
    pub fn publish(&self, bytes: &[u8]) -> Result<u64, PublishError> {
        let room = self.segment.layout.blob;
        let too_large = PublishError::TooLarge { bytes: bytes.len(), room };
        if bytes.len() > room as usize {
            return Err(too_large);
        }
        let before = self.segment.epoch();
        let epoch = match before.wrapping_add(1) {
            // There is none so far in any life of a pool; a corrupted one may be.
            0 => 2,
            next => next,
        };
        if !self.held.still() {
            return Err(PublishError::Lost);
        }
        let half = self.segment.half(epoch).ok_or(too_large)?;
        store(&half, EPOCH_OF, epoch);
        store(&half, LENGTH_OF, bytes.len() as u64);
        store(&half, SUM_OF, xxh3_64_with_seed(bytes, epoch));
        for (at, chunk) in (BLOB_HEAD..).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            store(&half, at, u64::from_le_bytes(word));
        }
        let swap = |word: &crate::core::sync::AtomicU64| {
            word.compare_exchange(before, epoch, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if self.held.still() && self.segment.word(EPOCH_AT).is_some_and(swap) {
            Ok(epoch)
        } else {
            Err(PublishError::Lost)
        }
    }
}
