//! Where the system has no shared memory that this program knows how to use: every name is refused.

use crate::core::endpoints::Block;
use crate::core::error::ConfigError;
use crate::core::pool::{Joint, Membership};
use crate::core::shared::{Process, ReadError, Seat, Segment};
use crate::py::home::Wanted;

/// What there never is here.
pub(crate) struct Entered {
    pub block: Block,
    pub joint: Joint,
    pub found: Option<(u64, Membership)>,
    pub door: (),
}

fn refused(name: &str) -> ConfigError {
    ConfigError::new("shared", format!("{name:?}"), "None: shared pools need a system with POSIX shared memory")
}

pub(crate) fn enter(wanted: &Wanted, _: Option<usize>) -> Result<Entered, ConfigError> {
    Err(refused(&wanted.name))
}

pub(crate) fn unlink(name: &str) -> Result<(), ConfigError> {
    Err(refused(name))
}

pub(crate) fn read(_: &Segment) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
    Ok(None)
}

pub(crate) fn join(_: &Segment, _: &Block) -> Result<Seat, String> {
    Err("there is no shared memory".to_owned())
}

pub(crate) fn this() -> (u32, u64) {
    (std::process::id(), 1)
}

pub(crate) fn alive(_: Process) -> bool {
    true
}
