//! Memory as words that several threads, and several processes, change at once. The only unsafe code of the core.
#![cfg_attr(not(loom), allow(unsafe_code))]

use crate::core::sync::AtomicU64;
use std::sync::Arc;

/// How many words a line has: 128 bytes, as [`crate::core::endpoints::Cell`].
#[cfg(not(loom))]
pub const LINE: usize = 16;
/// Fewer for the model checker, which looks after every word of a segment.
#[cfg(loom)]
pub const LINE: usize = 4;

#[cfg(not(loom))]
pub use mapped::{Mapped, Region, Words};

#[cfg(not(loom))]
mod mapped {
    use super::{Arc, AtomicU64, LINE};
    use std::any::Any;
    use std::marker::PhantomData;
    use std::ptr::NonNull;

    #[derive(Default)]
    #[repr(align(128))]
    struct Line {
        _words: [AtomicU64; LINE],
    }

    /// Words in memory that may be shared with other processes, and what keeps them mapped. Cloning shares the words.
    #[derive(Clone)]
    pub struct Region {
        start: NonNull<AtomicU64>,
        words: usize,
        keep: Arc<dyn Any + Send + Sync>,
    }

    // SAFETY: the pointer is to words that are only ever used as atomics, through shared references, and that live as
    // long as `keep`, which may itself go from thread to thread. Nothing here belongs to one thread.
    unsafe impl Send for Region {}
    // SAFETY: as for `Send`.
    unsafe impl Sync for Region {}

    impl std::fmt::Debug for Region {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Region").field("words", &self.words).finish_non_exhaustive()
        }
    }

    impl Region {
        /// Words of this process alone, all zero.
        #[must_use]
        pub fn heap(words: usize) -> Region {
            let lines: Box<[Line]> = (0..words.div_ceil(LINE)).map(|_| Line::default()).collect();
            let keep = Arc::new(lines);
            let start = NonNull::from(&keep[..]).cast();
            Region { start, words, keep }
        }

        /// The words at `start`, which stay there for as long as `keep` lives. `None` for a null pointer, and for one that
        /// is not aligned to 128 bytes; mappings are aligned to pages.
        ///
        /// # Safety
        /// `words` words from `start` on are mapped, readable and writable until `keep` is dropped, and whoever in this
        /// process uses them does so through this type. What other processes write there, and when, does not matter.
        #[must_use]
        pub unsafe fn from_raw(start: *mut u64, words: usize, keep: Arc<dyn Any + Send + Sync>) -> Option<Region> {
            let start = NonNull::new(start.cast::<AtomicU64>())?;
            let fits = words.checked_mul(8).is_some_and(|bytes| isize::try_from(bytes).is_ok());
            (fits && start.addr().get().is_multiple_of(LINE * 8)).then_some(Region { start, words, keep })
        }

        /// The words.
        #[inline(always)]
        #[must_use]
        pub fn words(&self) -> &[AtomicU64] {
            // SAFETY: `from_raw` was promised, and `heap` and `part` see to it, that so many words are mapped from here on
            // while `keep` lives, which is longer than the reference. An `AtomicU64` has the size and alignment of a
            // `u64` and is valid whatever its bits are. Others change the words meanwhile, in this process as
            // atomics only, and in other processes by whatever means: for this one an atomic access of a word always
            // gives some value.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
        }

        /// Some of the words, as a region that keeps all of them mapped; `None` when there are not so many.
        #[must_use]
        pub fn part(&self, from: usize, words: usize) -> Option<Region> {
            let part = self.words().get(from..from.checked_add(words)?)?;
            Some(Region { start: NonNull::from(part).cast(), words, keep: self.keep.clone() })
        }

        /// The words as values of a type that is made of words, as many as there is room for; `None` where the
        /// region is not aligned for it.
        #[must_use]
        pub fn mapped<T: Words>(&self) -> Option<Mapped<T>> {
            let size = size_of::<T>();
            let fits = size > 0 && self.start.addr().get().is_multiple_of(align_of::<T>());
            fits.then(|| Mapped { count: self.words * 8 / size, region: self.clone(), of: PhantomData })
        }
    }

    /// A type that is made of [`AtomicU64`] and of nothing else, so that any bits are a value of it, and that others may
    /// change while it is looked at. Implement it with [`crate::words`], which looks at every field.
    ///
    /// # Safety
    /// Exactly that.
    pub unsafe trait Words: Send + Sync {}

    // SAFETY: it is one.
    unsafe impl Words for AtomicU64 {}
    // SAFETY: an array has no padding, and these elements are words.
    unsafe impl<T: Words, const N: usize> Words for [T; N] {}

    /// Values in a region; a slice that keeps its memory mapped.
    #[derive(Debug)]
    pub struct Mapped<T> {
        region: Region,
        count: usize,
        of: PhantomData<fn() -> T>,
    }

    // Not derived: whoever clones it clones no `T`.
    impl<T> Clone for Mapped<T> {
        fn clone(&self) -> Mapped<T> {
            Mapped { region: self.region.clone(), count: self.count, of: PhantomData }
        }
    }

    impl<T: Words> std::ops::Deref for Mapped<T> {
        type Target = [T];

        #[inline(always)]
        fn deref(&self) -> &[T] {
            // SAFETY: `mapped` saw that the start is aligned for `T` and that `count` of them fit into the region, which
            // is mapped while `self` lives. Any bits are a `T`, for it is made of atomics only, and so may be
            // changed by others meanwhile.
            unsafe { std::slice::from_raw_parts(self.region.start.as_ptr().cast::<T>(), self.count) }
        }
    }
}

/// [`Region::from_raw`] over what `keep` has.
#[cfg(all(test, not(loom)))]
pub(super) fn from_heap_for_tests(start: *mut u64, words: usize, keep: Arc<Region>) -> Option<Region> {
    // SAFETY: the tests give the words of `keep`, which lives as long as the region.
    unsafe { Region::from_raw(start, words, keep) }
}

/// Says that a struct may stand in shared memory: `words! { Cell { load, extra, inflight } }` names every field, and
/// each has to be made of [`AtomicU64`] alone. Give the struct `repr(C)`, so that every build has the same order.
#[macro_export]
macro_rules! words {
    ($type:ty { $($field:tt),+ $(,)? }) => {
        #[cfg(not(loom))]
        const _: () = {
            fn is_words<T: $crate::core::shared::region::Words>(_: &T) {}
            // Never called: it only has to compile.
            #[allow(dead_code)]
            fn every_field(value: &$type) {
                // Without `..`: a field that is not named does not compile.
                let Self_ { $($field),+ } = value;
                $(is_words($field);)+
            }
            use $type as Self_;
            // No room for anything but the fields, except at the end.
            assert!(size_of::<$type>() % 8 == 0);
            // SAFETY: every field is made of atomic words, as `every_field` has the compiler see; so is their struct.
            #[allow(unsafe_code)]
            unsafe impl $crate::core::shared::region::Words for $type {}
        };
    };
}

/// The same for the model checker, whose atomics are no words of memory.
#[cfg(loom)]
#[derive(Clone, Debug)]
pub struct Region {
    all: Arc<Vec<AtomicU64>>,
    from: usize,
    words: usize,
}

#[cfg(loom)]
impl Region {
    /// Words of this process alone, all zero.
    #[must_use]
    pub fn heap(words: usize) -> Region {
        Region { all: Arc::new((0..words).map(|_| AtomicU64::new(0)).collect()), from: 0, words }
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.all.get(self.from..self.from + self.words).unwrap_or_default()
    }

    /// Some of the words; `None` when there are not so many.
    #[must_use]
    pub fn part(&self, from: usize, words: usize) -> Option<Region> {
        self.words().get(from..from.checked_add(words)?)?;
        Some(Region { all: self.all.clone(), from: self.from + from, words })
    }
}
