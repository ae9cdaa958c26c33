//! In which order endpoints gained and gave back requests. Kept only for pools in which some policy asks for it.

use crate::core::sync::{AtomicBool, AtomicU64, Ordering};
use std::sync::OnceLock;

/// Slots of the first stretch; each of those after it is twice as long as the one before.
const FIRST: usize = 64;

/// Stretches: together they hold every slot that a `u32` can name.
const STRETCHES: usize = 27;

/// The order of the last change of each slot. Noting a change waits for nobody, and neither does a look.
#[derive(Debug, Default)]
pub struct Order {
    kept: AtomicBool,
    count: Count,
    /// The count at which each slot changed last.
    stamps: [OnceLock<Box<[AtomicU64]>>; STRETCHES],
}

/// How many changes there were; by itself, for every release looks whether the order is kept.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// Which stretch a slot is in, and where in it.
fn place(slot: u32) -> (usize, usize) {
    let from = slot as usize + FIRST;
    let stretch = (from / FIRST).ilog2() as usize;
    (stretch, from - (FIRST << stretch))
}

impl Order {
    /// From now on changes are noted.
    pub fn keep(&self) {
        let _ = self.made(0);
        self.kept.store(true, Ordering::Release);
    }

    /// Notes that a slot gained or gave back a request.
    #[inline(always)]
    pub fn note(&self, slot: u32) {
        if self.kept.load(Ordering::Relaxed) {
            self.stamp(slot);
        }
    }

    #[inline(never)]
    fn stamp(&self, slot: u32) {
        let (stretch, at) = place(slot);
        let Some(stamps) = self.made(stretch) else { return };
        let now = self.count.0.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        if let Some(stamp) = stamps.get(at) {
            // Of two changes at once the later one counts, whoever writes last.
            stamp.fetch_max(now, Ordering::AcqRel);
        }
    }

    /// A stretch, which is there from then on.
    fn made(&self, stretch: usize) -> Option<&[AtomicU64]> {
        let stamps = self.stamps.get(stretch)?;
        if stamps.get().is_none() {
            // Whoever is second takes what the first has put there.
            let _ = stamps.set((0..FIRST << stretch).map(|_| AtomicU64::new(0)).collect());
        }
        stamps.get().map(|stamps| &**stamps)
    }

    /// How many changes there were. Whoever is stamped with it is behind all of them, and before all to come.
    #[inline(always)]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.count.0.load(Ordering::Acquire)
    }

    /// For looks at many slots.
    #[inline(always)]
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { order: self, stamps: &[], first: 0 }
    }
}

/// Looks at stamps, one slot after another: slots near each other are quickest.
#[derive(Debug)]
pub struct Reader<'a> {
    order: &'a Order,
    /// The stretch of the last look, and its first slot.
    stamps: &'a [AtomicU64],
    first: u32,
}

impl Reader<'_> {
    /// At which count a slot changed; 0 when it has not.
    #[inline(always)]
    pub fn of(&mut self, slot: u32) -> u64 {
        let here = self.stamps.get(slot.wrapping_sub(self.first) as usize);
        here.map_or_else(|| self.turn_to(slot), |stamp| stamp.load(Ordering::Acquire))
    }

    #[inline(never)]
    fn turn_to(&mut self, slot: u32) -> u64 {
        let (stretch, at) = place(slot);
        let Some(stamps) = self.order.stamps.get(stretch).and_then(OnceLock::get) else { return 0 };
        (self.stamps, self.first) = (stamps, slot - at as u32);
        stamps.get(at).map_or(0, |stamp| stamp.load(Ordering::Acquire))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn of(order: &Order, slot: u32) -> u64 {
        order.reader().of(slot)
    }

    #[test]
    fn later_changes_have_later_stamps_once_somebody_asks() {
        let order = Order::default();
        order.note(3);
        assert_eq!((of(&order, 3), order.now()), (0, 0));
        order.keep();
        order.note(3);
        order.note(1);
        assert!(of(&order, 3) > 0 && of(&order, 1) > of(&order, 3) && of(&order, 0) == 0 && of(&order, 9) == 0);
        assert_eq!(order.now(), of(&order, 1));
    }

    #[test]
    fn every_slot_has_a_stamp_of_its_own() {
        let order = Order::default();
        order.keep();
        let slots: Vec<u32> = (0..1000).chain([65_535, 65_536, 100_000]).collect();
        slots.iter().for_each(|&slot| order.note(slot));
        let mut reader = order.reader();
        for (&slot, stamp) in slots.iter().zip(1..) {
            assert_eq!((of(&order, slot), reader.of(slot)), (stamp, stamp));
        }
        assert_eq!((reader.of(2000), reader.of(u32::MAX), reader.of(0)), (0, 0, 1));
        assert!(place(u32::MAX).0 < STRETCHES);
    }
}
