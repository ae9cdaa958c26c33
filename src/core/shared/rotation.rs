//! Rotation words: pickers of one kind and with the same parameters find the same ones in every process.

use super::region::Region;
use super::segment::{Segment, USED_AT};
use crate::core::sync::{AtomicU64, Ordering};

impl Segment {
    /// `count` words that belong to a name, zero at first; the same ones for everybody who asks for the same name and
    /// count. `None` when the segment has no room for more of them.
    #[must_use]
    pub fn words(&self, name_hash: u64, count: u32) -> Option<Region> {
        // Zero is a place that is free.
        let name = (name_hash ^ u64::from(count).rotate_left(32)).max(1);
        let table = self.region.part(self.plan.table.start, self.plan.table.len())?;
        let entries = table.words().len() / 2;
        let packed = (0..entries).find_map(|step| {
            let at = (name as usize).wrapping_add(step) % entries;
            let [key, place] = table.words().get(2 * at..2 * at + 2)? else { return None };
            let found = match key.compare_exchange(0, name, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => name,
                Err(found) => found,
            };
            (found == name).then(|| self.place(place, count))
        })??;
        let (from, found) = ((packed >> 32).checked_sub(1)? as usize, packed as u32);
        let room = self.plan.picker_words.clone();
        let fits = found == count && from.checked_add(count as usize)? <= room.len();
        fits.then(|| self.region.part(room.start + from, count as usize))?
    }

    /// Where an entry's words are, one more than the offset in the upper half and their count in the lower. Nobody waits
    /// for whoever made the entry, who may be dead: each that finds it empty brings words, and the first has its way.
    fn place(&self, place: &AtomicU64, count: u32) -> Option<u64> {
        match place.load(Ordering::Acquire) {
            0 => {}
            packed => return Some(packed),
        }
        let (used, room) = (self.word(USED_AT)?, self.plan.picker_words.len() as u64);
        let count = u64::from(count);
        let end = |from: u64| from.checked_add(count).filter(|end| *end <= room);
        let from = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, end).ok()?;
        let packed = from.wrapping_add(1) << 32 | count;
        match place.compare_exchange(0, packed, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(packed),
            Err(theirs) => {
                // Words that nobody has used since can go back; else they are lost, once for such a race.
                let _ = used.compare_exchange(from + count, from, Ordering::AcqRel, Ordering::Acquire);
                Some(theirs)
            }
        }
    }
}
