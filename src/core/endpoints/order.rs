//! In which order endpoints gained and gave back requests. Kept only for pools in which some policy asks for it.

use crate::core::sync::{AtomicBool, Mutex, Ordering};

/// The order of the last change of each slot.
#[derive(Debug, Default)]
pub struct Order {
    kept: AtomicBool,
    stamps: Mutex<Stamps>,
}

/// A count of changes, and the count at which each slot changed last.
#[derive(Debug, Default)]
pub struct Stamps {
    count: u64,
    of: Vec<u64>,
}

impl Stamps {
    /// A stamp later than all others.
    pub fn fresh(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The stamp of a slot; 0 when it has not changed.
    #[must_use]
    pub fn of(&self, slot: u32) -> u64 {
        self.of.get(slot as usize).copied().unwrap_or(0)
    }
}

impl Order {
    /// From now on changes are noted.
    pub fn keep(&self) {
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
        let mut stamps = self.stamps.lock();
        let stamp = stamps.fresh();
        let at = slot as usize;
        if at >= stamps.of.len() {
            stamps.of.resize(at + 1, 0);
        }
        if let Some(place) = stamps.of.get_mut(at) {
            *place = stamp;
        }
    }

    /// Looks at the stamps, for the length of one pick.
    pub fn with<T>(&self, look: impl FnOnce(&mut Stamps) -> T) -> T {
        look(&mut self.stamps.lock())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn later_changes_have_later_stamps_once_somebody_asks() {
        let order = Order::default();
        order.note(3);
        assert_eq!(order.with(|s| s.of(3)), 0);
        order.keep();
        order.note(3);
        order.note(1);
        order.with(|s| {
            assert!(s.of(3) > 0 && s.of(1) > s.of(3) && s.of(0) == 0 && s.of(9) == 0);
            assert!(s.fresh() > s.of(1));
        });
    }
}
