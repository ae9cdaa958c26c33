//! Asks for a cell's line in good time.
#![cfg_attr(not(loom), allow(unsafe_code))]

use super::counters::Cell;

impl Cell {
    /// This cell is read now and perhaps written at once. Where another core has its line, one way there and back is saved:
    /// the line comes ready to be written, and the cells that are compared are fetched at the same time. Nothing depends on
    /// it, and where only one thread counts it costs more than it brings.
    #[inline(always)]
    pub fn soon_written(&self) {
        // The standard library's prefetch with that hint becomes one for reading, unless the whole program is made for
        // newer processors. Older ones take this instruction for none at all.
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        // SAFETY: a hint, of which no program sees anything but the time; the address is that of a reference.
        unsafe {
            std::arch::asm!("prefetchw [{0}]", in(reg) std::ptr::from_ref(self), options(nostack, preserves_flags, readonly));
        }
        #[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pstl1keep, [{0}]", in(reg) std::ptr::from_ref(self), options(nostack, preserves_flags, readonly));
        }
    }
}
