//! Memory that the processes of a host share, and their comings and goings.

mod memory;
mod process;

use crate::core::endpoints::Block;
use crate::core::endpoints::counters::{MOST_SHARED, areas};
use crate::core::error::ConfigError;
use crate::core::pool::joint::tell;
use crate::core::pool::{Joint, Membership};
use crate::core::shared::{Layout, OpenError, ReadError, Region, Seat, Segment, TableFull};
use crate::py::home::Wanted;

pub(crate) use memory::{Named, unlink};
pub(crate) use process::{alive, this};

/// Bytes of a membership for each endpoint, and for all together.
const BYTES_EACH: u32 = 1024;
const BYTES_LEAST: u32 = 65_536;

/// Rotation words: enough for 256 kinds of pickers.
const PICKER_WORDS: u32 = 4096;

impl Wanted {
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

/// So often a name is tried whose memory somebody else makes anew at the same moment.
const TRIES: u32 = 100;

/// Enters the memory of a name. `endpoints` are how many it is to begin with, if it may be made.
pub(crate) fn enter(wanted: &Wanted, endpoints: Option<usize>) -> Result<Entered, ConfigError> {
    Wanted::checked(&wanted.name)?;
    let fail = |why: String| ConfigError::new("shared", format!("{:?}", wanted.name), why);
    for _ in 0..TRIES {
        let door = Named::open(&wanted.name, endpoints.is_some())?;
        if !door.is_empty()? {
            if let Some((region, segment, found)) = inhabited(&door, &wanted.name)? {
                return entered(segment, &region, door, Some(found)).map_err(fail);
            }
            if endpoints.is_none() {
                break;
            }
            // From the start: somebody else may be the first in what has the name now.
            door.give_up()?;
            continue;
        }
        let Some(endpoints) = endpoints else { break };
        let layout = wanted.layout(endpoints)?;
        door.resize(&layout)?;
        let region = door.map()?;
        let segment = Segment::create(&region, layout).map_err(|error| fail(error.to_string()))?;
        return entered(segment, &region, door, None).map_err(fail);
    }
    Err(fail(match endpoints {
        Some(_) => "a name that others do not make anew all the time".to_owned(),
        None => "a name that some process has a shared pool of; nobody is in that one".to_owned(),
    }))
}

/// What somebody is in; `None` for memory that is nobody's.
type Inhabited = Option<(Region, Segment, (u64, Membership))>;

fn inhabited(door: &Named, name: &str) -> Result<Inhabited, ConfigError> {
    let unlinks = |why: String| {
        let allowed = format!("{why}. Pool.unlink({name:?}) gives up what is there");
        ConfigError::new("shared", format!("{name:?}"), allowed)
    };
    let region = door.map()?;
    let segment = match Segment::open(&region, &areas()) {
        Ok(segment) if segment.processes().into_iter().any(alive) => segment,
        // Nobody is in it, or whoever made it has died before it was done.
        Ok(_) | Err(OpenError::Unfinished) => return Ok(None),
        Err(error) => return Err(unlinks(error.to_string())),
    };
    let Some((epoch, bytes)) = read(&segment).map_err(|error| unlinks(error.to_string()))? else { return Ok(None) };
    let membership = Membership::decode(&bytes, segment.layout().slots);
    let membership = membership.ok_or_else(|| unlinks("the membership is corrupted".into()))?;
    Ok(Some((region, segment, (epoch, membership))))
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
    let seat = join(&segment, &block)?;
    Ok(Entered { block, joint: Joint::new(segment, seat, process::this(), alive), found, door })
}

/// Joins as this process. Where there is no place, those of dead processes are taken back first: whoever else is in may
/// be idle. `block` stands on the segment.
pub(crate) fn join(segment: &Segment, block: &Block) -> Result<Seat, String> {
    let (pid, start) = process::this();
    let mut full = 0;
    for _ in 0..30 {
        match segment.join(pid, start) {
            Ok(seat) => return Ok(seat),
            Err(TableFull(processes)) => full = processes,
        }
        let report = segment.make_room(pid, start, alive);
        tell(block, &report);
        if report.freed == 0 {
            // Somebody leaves, perhaps, or takes back just now.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    Err(format!("at most {full} processes at a time: that many use it"))
}
