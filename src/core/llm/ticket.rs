//! What a request in flight holds of its endpoint: tokens to prefill until its first token, blocks until its end.

use super::policy::Shared;
use crate::core::endpoints::Work;
use crate::core::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// The work of one request, given back when it is dropped. Changed only while the index is locked.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    lane: u32,
    blocks: Box<[u64]>,
    /// Tokens to prefill.
    prefill: AtomicU64,
    /// Tokens that no hash names, in units; signed in two's complement, as corrections may take off more than there is.
    loose: AtomicU64,
    /// Blocks that those take.
    private: AtomicU64,
}

/// Blocks for so many units of tokens.
fn blocks_for(units: i64, block: u64) -> u64 {
    (units.max(0) as u64).div_ceil(1024).div_ceil(block.max(1))
}

impl Ticket {
    /// Takes the work of a request. `loose` are its tokens that no hash names.
    pub(super) fn new(shared: &Arc<Shared>, lane: u32, blocks: &[u64], prefill: u64, loose: u64) -> Ticket {
        let units = loose.saturating_mul(1024).min(i64::MAX as u64);
        let private = blocks_for(units as i64, shared.block_tokens);
        let mut index = shared.index.lock();
        if let Some(place) = index.lanes.get_mut(lane as usize) {
            place.catch_up();
            let load = &mut place.load;
            load.requests = load.requests.saturating_add(1);
            load.prefill = load.prefill.saturating_add(prefill);
            load.private = load.private.saturating_add(private);
        }
        index.activate(lane, blocks);
        drop(index);
        Ticket {
            shared: shared.clone(),
            lane,
            blocks: blocks.into(),
            prefill: AtomicU64::new(prefill),
            loose: AtomicU64::new(units),
            private: AtomicU64::new(private),
        }
    }
}

impl Work for Ticket {
    fn first_token(&self) {
        let mut index = self.shared.index.lock();
        if let Some(place) = index.lanes.get_mut(self.lane as usize) {
            place.catch_up();
            place.load.prefill = place.load.prefill.saturating_sub(self.prefill.swap(0, Ordering::Relaxed));
        }
    }

    fn add(&self, units: i64) {
        let mut index = self.shared.index.lock();
        if let Some(place) = index.lanes.get_mut(self.lane as usize) {
            place.catch_up();
            let loose = (self.loose.load(Ordering::Relaxed) as i64).saturating_add(units);
            self.loose.store(loose as u64, Ordering::Relaxed);
            let after = blocks_for(loose, self.shared.block_tokens);
            let before = self.private.swap(after, Ordering::Relaxed);
            place.load.private = place.load.private.saturating_sub(before).saturating_add(after);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut index = self.shared.index.lock();
        if let Some(place) = index.lanes.get_mut(self.lane as usize) {
            place.catch_up();
            let load = &mut place.load;
            load.requests = load.requests.saturating_sub(1);
            load.prefill = load.prefill.saturating_sub(self.prefill.swap(0, Ordering::Relaxed));
            load.private = load.private.saturating_sub(self.private.swap(0, Ordering::Relaxed));
        }
        index.deactivate(self.lane, &self.blocks);
        index.tidy(self.lane);
    }
}
