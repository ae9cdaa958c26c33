//! Passive health of several processes: its table travels as bytes in the segment. Whoever changes it does so alone and
//! from what is in force; the others take it in at their next pick. Who is at the table of its own process besides waits.

use super::passive::{Passive, Table};
use crate::core::endpoints::Block;
use crate::core::endpoints::table::TableWords;
use crate::core::shared::{Process, Segment};
use crate::core::sync::{AtomicU64, Ordering};

/// What passive health has of a segment.
pub(super) struct Common {
    words: TableWords,
    segment: Segment,
    alive: fn(Process) -> bool,
    /// The version that was taken in last.
    seen: AtomicU64,
    /// Stands for this process at the lock.
    me: AtomicU64,
}

fn name_of(process: Process) -> u64 {
    (u64::from(process.row) + 1) << 32 | (process.start.rotate_left(16) ^ u64::from(process.pid)) & 0xffff_ffff
}

impl Common {
    pub fn new(words: TableWords, segment: Segment, alive: fn(Process) -> bool, me: Process) -> Common {
        let [seen, me] = [0, name_of(me)].map(AtomicU64::new);
        Common { words, segment, alive, seen, me }
    }

    fn there(&self, name: u64) -> bool {
        self.segment.processes().into_iter().any(|process| name_of(process) == name && (self.alive)(process))
    }

    /// A forked child is another process.
    pub fn renamed(&self, me: Process) {
        self.me.store(name_of(me), Ordering::Release);
    }

    #[inline(always)]
    pub fn behind(&self) -> bool {
        self.words.version() != self.seen.load(Ordering::Acquire)
    }

    /// Takes in what is in force. Gives its bytes, and whether somebody's standing is another than before.
    fn load(&self, table: &mut Table) -> (Vec<u8>, bool) {
        let Some((version, bytes)) = self.words.read() else { return (Vec::new(), false) };
        self.seen.store(version, Ordering::Release);
        if version == 0 {
            return (bytes, false);
        }
        let before = table.standings();
        let changed = table.take_bytes(&bytes) && table.standings() != before;
        (bytes, changed)
    }
}

impl Passive {
    /// Works on the table: in a pool of several processes alone among them, from what is in force.
    pub fn with<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.lock();
        self.with_locked(&mut table, work)
    }

    pub(super) fn with_locked<R>(&self, table: &mut Table, work: impl FnOnce(&mut Table) -> R) -> R {
        let Some(common) = &self.common else { return work(table) };
        let _held = common.words.lock(common.me.load(Ordering::Acquire), |name| common.there(name));
        let (before, changed) = common.load(table);
        if changed {
            self.stale.store(true, Ordering::Release);
        }
        let result = work(table);
        let after = table.bytes();
        if after != before
            && let Some(version) = common.words.write(&after)
        {
            common.seen.store(version, Ordering::Release);
        }
        result
    }

    /// Takes in what other processes have made of the table, if they have.
    pub fn refresh(&self, block: &Block) {
        let Some(common) = &self.common else { return };
        let mut table = self.table.lock();
        let (_, changed) = common.load(&mut table);
        self.settle(&table, block, changed);
    }

    /// The table for somebody who does not change it for others.
    pub fn apart<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.lock();
        if let Some(common) = &self.common {
            let _ = common.load(&mut table);
        }
        work(&mut table)
    }
}
