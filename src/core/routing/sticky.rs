//! Which endpoint a session is bound to, for a while and for so many sessions at most.

use crate::core::error::ConfigError;
use crate::core::sync::{Mutex, MutexGuard};
use crate::core::time::Nanos;
use lru::LruCache;
use std::collections::HashSet;
use std::sync::Arc;

/// What a full table does with one more session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The session that was not used for longest goes.
    #[default]
    Evict,
    /// The new session is not kept, until an old one has expired (HAProxy's `nopurge`).
    Refuse,
}

/// The most sessions that a table may be made for.
pub const MOST: usize = 1 << 26;

#[derive(Debug)]
struct Bond {
    endpoint: Arc<str>,
    expires: Nanos,
}

#[derive(Debug)]
struct Inner {
    // In order of use, which is the order of expiry too: `renew` moves both or neither.
    bonds: LruCache<u128, Bond>,
    names: HashSet<Arc<str>>,
    evicted: u64,
}

/// A table of sessions (HAProxy's stick table). Keys are 128-bit hashes, so that a session costs the same whatever its
/// key is. Any number of threads may use it.
#[derive(Debug)]
pub struct StickyTable {
    capacity: usize,
    ttl: Nanos,
    renew: bool,
    when_full: WhenFull,
    // Held for a look-up in a hash map, without anything of a caller's inside.
    inner: Mutex<Inner>,
}

impl StickyTable {
    /// A table for `capacity` sessions that are kept for `ttl`, from their last use (`renew`) or from their first.
    ///
    /// # Errors
    /// [`ConfigError`] for no room or no time.
    pub fn new(capacity: usize, ttl: Nanos, renew: bool, when_full: WhenFull) -> Result<StickyTable, ConfigError> {
        if capacity == 0 || capacity > MOST {
            return Err(ConfigError::new("capacity", capacity, format!("a whole number from 1 to {MOST}")));
        }
        if ttl == Nanos::ZERO {
            return Err(ConfigError::new("ttl", ttl.as_secs_f64(), "more than 0 seconds"));
        }
        let inner = Inner { bonds: LruCache::unbounded(), names: HashSet::new(), evicted: 0 };
        Ok(StickyTable { capacity, ttl, renew, when_full, inner: Mutex::new(inner) })
    }

    /// A key's place: XXH3 of 128 bits, so that no two sessions meet by accident.
    #[must_use]
    pub fn hash(key: &[u8]) -> u128 {
        xxhash_rust::xxh3::xxh3_128(key)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The endpoint of a session; the look renews it where looks do.
    pub fn get(&self, key: u128, now: Nanos) -> Option<Arc<str>> {
        let mut inner = self.lock();
        let expires = inner.bonds.peek(&key)?.expires;
        if now >= expires {
            inner.bonds.pop(&key);
            return None;
        }
        if !self.renew {
            return inner.bonds.peek(&key).map(|bond| bond.endpoint.clone());
        }
        let bond = inner.bonds.get_mut(&key)?;
        // Not backwards: a clock that is set back takes no time from anybody.
        bond.expires = bond.expires.max(now.plus(self.ttl));
        Some(bond.endpoint.clone())
    }

    /// Binds a session; false when the table is full and refuses.
    pub fn set(&self, key: u128, endpoint: &str, now: Nanos) -> bool {
        let mut inner = self.lock();
        inner.expire(now, 2);
        if !inner.bonds.contains(&key) && inner.bonds.len() >= self.capacity {
            if self.when_full == WhenFull::Refuse {
                inner.expire(now, usize::MAX);
                if inner.bonds.len() >= self.capacity {
                    return false;
                }
            } else {
                inner.bonds.pop_lru();
                inner.evicted = inner.evicted.saturating_add(1);
            }
        }
        let endpoint = inner.name(endpoint);
        inner.bonds.put(key, Bond { endpoint, expires: now.plus(self.ttl) });
        true
    }

    /// Lets a session go; whether there was one.
    pub fn remove(&self, key: u128) -> bool {
        self.lock().bonds.pop(&key).is_some()
    }

    /// Lets all sessions of an endpoint go; how many there were.
    pub fn forget(&self, endpoint: &str) -> usize {
        let mut inner = self.lock();
        let keys: Vec<u128> =
            inner.bonds.iter().filter(|(_, bond)| &*bond.endpoint == endpoint).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(inner.bonds.pop(key)));
        inner.names.remove(endpoint);
        keys.len()
    }

    /// Drops what has expired; how many that were.
    pub fn expire(&self, now: Nanos) -> usize {
        self.lock().expire(now, usize::MAX)
    }

    /// How many sessions it holds, those included that have expired and were not looked for since.
    pub fn len(&self) -> usize {
        self.lock().bonds.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions had to go for others.
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }
}

impl Inner {
    fn expire(&mut self, now: Nanos, most: usize) -> usize {
        let mut gone = 0;
        while gone < most && self.bonds.peek_lru().is_some_and(|(_, bond)| now >= bond.expires) {
            self.bonds.pop_lru();
            gone += 1;
        }
        gone
    }

    /// One text for all sessions of an endpoint.
    fn name(&mut self, endpoint: &str) -> Arc<str> {
        if let Some(known) = self.names.get(endpoint) {
            return known.clone();
        }
        // Names that no session has any more, now and then.
        if self.names.len().is_power_of_two() && self.names.len() >= 64 {
            self.names.retain(|name| Arc::strong_count(name) > 1);
        }
        let name: Arc<str> = Arc::from(endpoint);
        self.names.insert(name.clone());
        name
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const S: Nanos = Nanos(1_000_000_000);

    fn table(capacity: usize, renew: bool, when_full: WhenFull) -> StickyTable {
        StickyTable::new(capacity, Nanos(10 * S.0), renew, when_full).unwrap()
    }

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * S.0)
    }

    #[test]
    fn sessions_end_when_their_time_is_over() {
        let kept = table(8, true, WhenFull::Evict);
        let fixed = table(8, false, WhenFull::Evict);
        for table in [&kept, &fixed] {
            assert!(table.set(1, "a", at(0)));
            assert_eq!(table.get(1, at(9)).as_deref(), Some("a"));
        }
        assert_eq!((kept.get(1, at(18)).as_deref(), fixed.get(1, at(10))), (Some("a"), None));
        assert_eq!((kept.get(1, at(28)), kept.len()), (None, 0));
    }

    #[test]
    fn a_full_table_lets_the_least_used_go_or_refuses() {
        let evicts = table(2, true, WhenFull::Evict);
        (1..=2).for_each(|key| assert!(evicts.set(key, "a", at(0))));
        evicts.get(1, at(1));
        assert!(evicts.set(3, "b", at(1)));
        assert_eq!((evicts.get(2, at(1)), evicts.get(1, at(1)).as_deref(), evicts.evicted()), (None, Some("a"), 1));

        let refuses = table(2, true, WhenFull::Refuse);
        (1..=2).for_each(|key| assert!(refuses.set(key, "a", at(0))));
        assert!(!refuses.set(3, "b", at(9)));
        assert!(refuses.set(1, "b", at(9)), "a session that it has may move");
        assert!(refuses.set(3, "b", at(10)), "one has expired");
    }

    #[test]
    fn what_is_let_go_is_gone() {
        let table = table(8, true, WhenFull::Evict);
        for (key, name) in [(1, "a"), (2, "b"), (3, "a")] {
            table.set(key, name, at(0));
        }
        assert_eq!((table.forget("a"), table.len(), table.remove(2), table.remove(2)), (2, 1, true, false));
        table.set(4, "c", at(0));
        assert_eq!((table.expire(at(9)), table.expire(at(10)), table.is_empty()), (0, 1, true));
    }

    #[test]
    fn a_million_keys_stay_within_the_bound() {
        let table = table(1000, true, WhenFull::Evict);
        for key in 0..1_000_000u128 {
            table.set(key, if key % 3 == 0 { "a" } else { "b" }, Nanos(key as u64));
            assert!(table.len() <= 1000);
        }
        assert_eq!((table.len(), table.evicted()), (1000, 999_000));
    }

    #[test]
    fn names_of_endpoints_long_gone_do_not_pile_up() {
        let table = table(4, true, WhenFull::Evict);
        (0..10_000u128).for_each(|key| assert!(table.set(key, &format!("e{key}"), at(0))));
        assert!(table.lock().names.len() <= 65);
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_away() {
        let table = table(4, true, WhenFull::Evict);
        table.set(1, "a", at(100));
        assert_eq!(table.get(1, at(5)).as_deref(), Some("a"));
        assert_eq!(table.get(1, at(109)).as_deref(), Some("a"));
    }
}
