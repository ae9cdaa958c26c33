//! Memory that the processes of a host share, and their comings and goings.

mod memory;
mod process;

use crate::core::endpoints::Block;
use crate::core::endpoints::counters::{MOST_SHARED, areas};
use crate::core::error::ConfigError;
use crate::core::pool::{Guest, Joint, Membership};
use crate::core::shared::{Layout, OpenError, ReadError, Region, Seat, Segment};
use crate::core::sync::{AtomicU64, Ordering};
use crate::core::time::Nanos;
use crate::py::clock::Clock;
use crate::py::endpoint::Payload;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use memory::{Named, unlink};
pub(crate) use process::{alive, this};

#[allow(clippy::disallowed_types)]
type Lock<T> = std::sync::Mutex<T>;

/// How often, at most, a process that works looks for dead ones.
const LOOK_EVERY: Nanos = Nanos(250_000_000);

/// Bytes of a membership for each endpoint, and for all together.
const BYTES_EACH: u32 = 1024;
const BYTES_LEAST: u32 = 65_536;

/// Rotation words: enough for 256 kinds of pickers.
const PICKER_WORDS: u32 = 4096;

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

    fn layout(&self, endpoints: usize) -> Result<Layout, ConfigError> {
        let slots = match self.endpoints {
            Some(most) => most.max(16).next_power_of_two(),
            None => (endpoints as u32).saturating_mul(4).clamp(64, MOST_SHARED).next_power_of_two(),
        };
        if endpoints > slots as usize {
            let allowed = format!("at most {slots} endpoints in a shared pool");
            return Err(ConfigError::new("endpoints", endpoints, allowed));
        }
        let blob = (slots * BYTES_EACH).max(BYTES_LEAST);
        Layout { slots, processes: self.processes, blob, picker_words: PICKER_WORDS, areas: areas() }.check()
    }
}

/// A pool's memory, entered.
pub(crate) struct Entered {
    pub block: Block,
    pub joint: Joint,
    /// Who is in the pool, and since which epoch; nobody knows yet when this process has made the memory.
    pub found: Option<(u64, Membership)>,
    /// Until it is dropped nobody else enters.
    pub door: Named,
}

/// Enters the memory of a name. `endpoints` are how many it is to begin with, if it may be made.
pub(crate) fn enter(wanted: &Wanted, endpoints: Option<usize>) -> Result<Entered, ConfigError> {
    Wanted::checked(&wanted.name)?;
    let fail = |why: String| ConfigError::new("shared", format!("{:?}", wanted.name), why);
    let unlinks = |why: String| fail(format!("{why}. Pool.unlink({:?}) gives up what is there", wanted.name));
    let door = Named::open(&wanted.name, endpoints.is_some())?;
    if !door.is_empty()? {
        let region = door.map()?;
        match Segment::open(&region, &areas()) {
            Ok(segment) if segment.processes().into_iter().any(alive) => {
                let found = read(&segment).map_err(|error| unlinks(error.to_string()))?;
                if let Some((epoch, bytes)) = found {
                    let slots = segment.layout().slots;
                    let membership = Membership::decode(&bytes, slots);
                    let membership = membership.ok_or_else(|| unlinks("the membership is corrupted".into()))?;
                    return entered(segment, &region, door, Some((epoch, membership))).map_err(fail);
                }
            }
            // Nobody is in it, or whoever made it has died before it was done: it is nobody's.
            Ok(_) | Err(OpenError::Unfinished) => {}
            Err(error) => return Err(unlinks(error.to_string())),
        }
    }
    let Some(endpoints) = endpoints else {
        return Err(fail("a name that some process has a shared pool of; nobody is in that one".to_owned()));
    };
    let layout = wanted.layout(endpoints)?;
    let door = if door.is_empty()? { door } else { door.renew()? };
    door.resize(&layout)?;
    let region = door.map()?;
    let segment = Segment::create(&region, layout).map_err(|error| fail(error.to_string()))?;
    entered(segment, &region, door, None).map_err(fail)
}

/// The membership in force; `None` when there has never been one.
pub(crate) fn read(segment: &Segment) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
    loop {
        match segment.read() {
            Ok((0, _)) => return Ok(None),
            Ok(found) => return Ok(Some(found)),
            Err(ReadError::Changing) => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
}

fn entered(
    segment: Segment,
    region: &Region,
    door: Named,
    found: Option<(u64, Membership)>,
) -> Result<Entered, String> {
    let truncated = || "memory of the size that its layout says: it is truncated".to_owned();
    let block = Block::on(&segment, region).ok_or_else(truncated)?;
    let seat = join(&segment)?;
    Ok(Entered { block, joint: Joint::new(segment, seat, process::this(), alive), found, door })
}

/// Joins as this process.
pub(crate) fn join(segment: &Segment) -> Result<Seat, String> {
    let (pid, start) = process::this();
    let full =
        |full: crate::core::shared::TableFull| format!("at most {} processes at a time: that many use it", full.0);
    let mut last = Err(String::new());
    // Those who work take the places of the dead back within a second.
    for _ in 0..30 {
        last = segment.join(pid, start).map_err(full);
        if last.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    last
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
