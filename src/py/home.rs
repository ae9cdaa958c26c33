//! What a process has of a shared pool besides the memory, and what it asks for the memory with.

use crate::core::error::ConfigError;
use crate::core::pool::Guest;
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;
use crate::py::clock::Clock;
use crate::py::endpoint::Payload;
use std::collections::HashMap;
use std::sync::Arc;

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// How often, at most, a process that works looks for dead ones.
const LOOK_EVERY: Nanos = Nanos(250_000_000);

/// What a shared pool is asked for with.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Its name.
    pub name: String,
    /// The most endpoints; by the number of endpoints when `None`.
    pub endpoints: Option<u32>,
    /// The most processes at a time.
    pub processes: u32,
}

impl Wanted {
    /// Checks a name: it becomes that of a file.
    pub fn checked(name: &str) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
            let allowed = "1 to 100 letters, digits, \".\", \"_\" or \"-\", not beginning with \".\"";
            return Err(ConfigError::new("shared", format!("{name:?}"), allowed));
        }
        Ok(())
    }
}

/// What a process has of a shared pool besides the memory.
pub(crate) struct Home {
    pub name: String,
    /// The process that has joined: a child of it has not, until it does.
    pid: AtomicU64,
    looked: AtomicU64,
    /// The endpoints of the current membership as they came, and their objects.
    known: Lock<HashMap<Arc<str>, (Guest, Payload)>>,
}

impl Home {
    pub fn new(name: String) -> Home {
        let [pid, looked] = [u64::from(std::process::id()), Clock::System.now().0].map(AtomicU64::new);
        Home { name, pid, looked, known: Lock::default() }
    }

    /// Whether this process is the one that has joined.
    pub fn is_mine(&self) -> bool {
        self.pid.load(Ordering::Relaxed) == u64::from(std::process::id())
    }

    /// This process has joined.
    pub fn moved_in(&self) {
        self.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
    }

    /// Whether it is time to look for dead processes; then it is not for a while.
    #[inline(always)]
    pub fn looks(&self, now: Nanos) -> bool {
        let last = self.looked.load(Ordering::Relaxed);
        if now.since(Nanos(last)) < LOOK_EVERY {
            return false;
        }
        self.looked.store(now.0, Ordering::Relaxed);
        true
    }

    /// The object of an endpoint that was known before and is as it was.
    pub fn known(&self, guest: &Guest) -> Option<Payload> {
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get(&guest.id).filter(|(same, _)| same == guest).map(|(_, payload)| payload.clone())
    }

    /// From now on these are known; what goes is given back, for dropping it may run any code.
    pub fn know(&self, guests: &[Guest], payloads: &[Payload]) -> impl Sized + use<> {
        let fresh = guests.iter().zip(payloads).map(|(g, p)| (g.id.clone(), (g.clone(), p.clone()))).collect();
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *known, fresh)
    }
}
