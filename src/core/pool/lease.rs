//! What a lease is in the core: a slot, units of work, and a start. The ledger keeps those that only an id names; a
//! [`LeaseCell`] is what a host holds that ends leases from several threads.

use crate::core::endpoints::{Cell, Work};
use crate::core::error::LeaseError;
use crate::core::sync::{AtomicU64, Mode, Ordering};
use crate::core::time::Nanos;
use std::collections::HashMap;
use std::sync::Arc;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was served.
    Success,
    /// It failed.
    Failure,
    /// It took too long.
    Timeout,
    /// The endpoint refused it (429, overload): back-pressure, not failure.
    Rejected,
    /// The caller gave it up: no latency, no failure.
    Cancelled,
    /// It was dropped without a word: no latency, no failure, counted.
    Dropped,
}

/// The work that a lease holds. Any number of threads may give it back; one does.
#[derive(Debug)]
pub struct LeaseCell {
    /// One more than the units that it holds; zero when they have been given back.
    held: AtomicU64,
}

impl LeaseCell {
    /// A lease that holds this many units, taken from a cell with [`Cell::take`].
    #[must_use]
    pub fn new(units: u64) -> LeaseCell {
        LeaseCell { held: AtomicU64::new(units.saturating_add(1)) }
    }

    /// The units that it holds; `None` once they have been given back.
    #[must_use]
    pub fn units(&self) -> Option<u64> {
        self.held.load(Ordering::Acquire).checked_sub(1)
    }

    /// Gives the work back to its cell; false when that has happened already.
    pub fn give<M: Mode>(&self, cell: &Cell) -> bool {
        let units = M::replace(&self.held, 0).checked_sub(1);
        if let Some(units) = units {
            cell.give::<M>(units);
        }
        units.is_some()
    }

    /// Corrects the work that it holds.
    ///
    /// # Errors
    /// [`LeaseError::Released`] when it holds none any more.
    pub fn adjust<M: Mode>(&self, cell: &Cell, units: u64) -> Result<(), LeaseError> {
        let mut before = self.held.load(Ordering::Acquire);
        loop {
            if before == 0 {
                return Err(LeaseError::Released);
            }
            let after = units.saturating_add(1);
            match self.held.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        cell.shift::<M>(units.wrapping_sub(before - 1));
        Ok(())
    }
}

/// A lease in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The slot it is on.
    pub slot: u32,
    /// The work it took.
    pub units: u64,
    /// When it was given out.
    pub start: Nanos,
    /// Whether how long it lasts is a latency: not when nothing said when it began, nor after its first token.
    pub measured: bool,
}

/// Leases that are known by id: place and generation, so that an old id never names a new lease.
#[derive(Debug, Default)]
pub struct Ledger {
    places: Vec<(u32, Option<Entry>)>,
    free: Vec<u32>,
    /// What some leases hold besides, by id.
    works: HashMap<u64, Arc<dyn Work>>,
}

impl Ledger {
    /// Enters a lease and gives its id.
    pub fn enter(&mut self, entry: Entry) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let mut generation = 0;
        if let Some(slot) = self.places.get_mut(place as usize) {
            slot.0 = slot.0.wrapping_add(1).max(1);
            slot.1 = Some(entry);
            generation = slot.0;
        }
        u64::from(generation) << 32 | u64::from(place)
    }

    /// Takes a lease out.
    ///
    /// # Errors
    /// [`LeaseError::NotLive`] when no live lease has this id.
    pub fn take(&mut self, id: u64) -> Result<Entry, LeaseError> {
        let place = id as u32;
        let entry = match self.places.get_mut(place as usize) {
            Some((generation, entry)) if u64::from(*generation) == id >> 32 => entry.take(),
            _ => None,
        };
        let entry = entry.ok_or(LeaseError::NotLive(id))?;
        self.free.push(place);
        if !self.works.is_empty() {
            self.works.remove(&id);
        }
        Ok(entry)
    }

    /// Hangs work on a live lease: it is dropped when the lease ends.
    pub fn hang(&mut self, id: u64, work: Arc<dyn Work>) {
        if self.get(id).is_some() {
            self.works.insert(id, work);
        }
    }

    /// The work that hangs on a lease.
    #[must_use]
    pub fn work(&self, id: u64) -> Option<Arc<dyn Work>> {
        self.works.get(&id).cloned()
    }

    /// Changes the work of a lease.
    ///
    /// # Errors
    /// [`LeaseError::NotLive`] when no live lease has this id.
    pub fn set_units(&mut self, id: u64, units: u64) -> Result<Entry, LeaseError> {
        match self.places.get_mut(id as u32 as usize) {
            Some((generation, Some(entry))) if u64::from(*generation) == id >> 32 => {
                let before = *entry;
                entry.units = units;
                Ok(before)
            }
            _ => Err(LeaseError::NotLive(id)),
        }
    }

    /// From now on how long the lease lasts is no latency; whether it was before.
    ///
    /// # Errors
    /// [`LeaseError::NotLive`] when no live lease has this id.
    pub fn stop_measuring(&mut self, id: u64) -> Result<bool, LeaseError> {
        match self.places.get_mut(id as u32 as usize) {
            Some((generation, Some(entry))) if u64::from(*generation) == id >> 32 => {
                Ok(std::mem::take(&mut entry.measured))
            }
            _ => Err(LeaseError::NotLive(id)),
        }
    }

    /// A live lease.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Entry> {
        match self.places.get(id as u32 as usize) {
            Some((generation, entry)) if u64::from(*generation) == id >> 32 => *entry,
            _ => None,
        }
    }

    /// All live leases, with their ids.
    pub fn live(&self) -> impl Iterator<Item = (u64, Entry)> {
        let id = |place: u32, generation: u32| u64::from(generation) << 32 | u64::from(place);
        (0u32..).zip(&self.places).filter_map(move |(at, (generation, e))| e.map(|e| (id(at, *generation), e)))
    }

    /// Takes out all leases that started at or before an instant.
    pub fn expire(&mut self, until: Nanos) -> Vec<Entry> {
        let mut out = Vec::new();
        for (place, (generation, entry)) in (0u32..).zip(&mut self.places) {
            if let Some(old) = entry.take_if(|e| e.start <= until) {
                out.push(old);
                self.free.push(place);
                self.works.remove(&(u64::from(*generation) << 32 | u64::from(place)));
            }
        }
        out
    }

    /// How many leases are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether no lease is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::core::endpoints::counters::Lone;
    use crate::core::sync::Shared;

    #[test]
    fn a_lease_gives_back_what_it_holds_once() {
        let (cell, lease) = (Lone::default(), LeaseCell::new(5));
        assert!(cell.take::<Shared>(5, 1));
        lease.adjust::<Shared>(&cell, 9).unwrap();
        assert_eq!((lease.units(), cell.effective_load()), (Some(9), 9));
        assert!(lease.give::<Shared>(&cell));
        assert!(!lease.give::<Shared>(&cell));
        assert_eq!(lease.adjust::<Shared>(&cell, 1), Err(LeaseError::Released));
        assert_eq!((lease.units(), cell.effective_load()), (None, 0));
    }

    #[derive(Debug)]
    struct Counted {
        alive: Arc<()>,
    }

    impl Work for Counted {
        fn first_token(&self) {
            assert!(Arc::strong_count(&self.alive) > 0);
        }
        fn add(&self, _: i64) {}
    }

    #[test]
    fn what_hangs_on_a_lease_is_dropped_when_that_ends() {
        let mut ledger = Ledger::default();
        let (alive, entry) = (Arc::new(()), Entry { slot: 1, units: 2, start: Nanos(3), measured: true });
        let work = || Arc::new(Counted { alive: alive.clone() });
        let (a, b) = (ledger.enter(entry), ledger.enter(Entry { start: Nanos(9), ..entry }));
        ledger.hang(a, work());
        ledger.hang(b, work());
        ledger.hang(77, work());
        assert_eq!(Arc::strong_count(&alive), 3);
        assert!(ledger.work(a).is_some() && ledger.work(77).is_none());
        assert!(ledger.take(a).is_ok());
        assert!(ledger.work(a).is_none());
        assert_eq!((Arc::strong_count(&alive), ledger.expire(Nanos(9)).len()), (2, 1));
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn an_id_works_once_and_never_names_another_lease() {
        let mut ledger = Ledger::default();
        let entry = Entry { slot: 1, units: 2, start: Nanos(3), measured: true };
        let id = ledger.enter(entry);
        assert_eq!(ledger.stop_measuring(id), Ok(true));
        assert_eq!(ledger.stop_measuring(id), Ok(false));
        assert_eq!(ledger.take(id), Ok(Entry { measured: false, ..entry }));
        assert!(ledger.stop_measuring(id).is_err());
        assert_eq!(ledger.take(id), Err(LeaseError::NotLive(id)));
        let other = ledger.enter(entry);
        assert_ne!(id, other);
        assert_eq!(ledger.take(id), Err(LeaseError::NotLive(id)));
        assert_eq!(ledger.len(), 1);
        assert_eq!(ledger.expire(Nanos(2)), []);
        assert_eq!(ledger.expire(Nanos(3)), [entry]);
        assert!(ledger.is_empty());
        assert!(ledger.take(u64::MAX).is_err());
    }
}
