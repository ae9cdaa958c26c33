//! One pool for all processes of a host: the part of it that is memory.
//!
//! A [`Segment`] is a [`Region`] of words that several processes have mapped. This room makes no call to the system:
//! mapping, pids, start times and whether a process is alive are arguments.
//!
//! ```
//! use aibalance::core::shared::{Layout, Region, Segment, add, sub};
//!
//! let layout = Layout { slots: 8, ..Layout::default() };
//! let region = Region::heap(layout.bytes() as usize / 8); // a mapping, in earnest
//! let segment = Segment::create(&region, layout)?; // others: Segment::open(&region, &[])
//! let seat = segment.join(4242, 1)?; // pid and start time
//! let alive = |process: aibalance::core::shared::Process| process.pid == 4242;
//!
//! // Membership: a load of the epoch says whether there is something to read.
//! segment.lock(&seat, alive)?.publish(b"who is in")?;
//! assert_eq!(segment.read()?, (1, b"who is in".to_vec()));
//! seat.seen(segment.epoch());
//!
//! // Counts: the shared ones change inside a change of the process's own.
//! let cell = segment.cell(3).unwrap();
//! assert!(seat.take(3, 1024, || add(cell, 1024)));
//! seat.give(3, 1024, || sub(cell, 1024));
//! assert!(segment.may_reuse(3, 1));
//!
//! // The dead: any survivor takes back what they held.
//! assert_eq!(segment.take_back(&seat, alive).dead, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod audit;
pub mod layout;
mod lock;
pub mod membership;
pub mod processes;
pub mod region;
mod rotation;
pub mod seat;
pub mod segment;

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod script_tests;
#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

pub use audit::{Report, Taken};
pub use layout::{Area, Layout, Per};
pub use membership::{Locked, PublishError, ReadError, Writer};
pub use processes::{Process, TableFull};
pub use region::Region;
#[cfg(not(loom))]
pub use region::{Mapped, Words};
pub use seat::{Seat, add, sub};
pub use segment::{OpenError, Segment};

/// Between two looks at what others change.
#[inline]
fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
