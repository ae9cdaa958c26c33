//! Atomics and locks under one name, from std or, in the model checker, from loom; and how counters are counted.

// The one place where std's locks are named.
#![allow(clippy::disallowed_types)]

#[cfg(loom)]
use loom::sync as imp;
#[cfg(not(loom))]
use std::sync as imp;

pub use imp::atomic::{AtomicBool, AtomicU64, Ordering};

/// Stands between two sequentially consistent accesses where that matters. For the machine it is nothing: the accesses
/// say it. Loom takes them for acquire and release and knows sequential consistency of fences only.
#[inline(always)]
pub fn between_seq_cst() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// A guard of [`Mutex`].
pub type MutexGuard<'a, T> = imp::MutexGuard<'a, T>;

/// A mutex for writers. What it guards stays usable after a panic of another holder: no state here is half-applied.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(imp::Mutex::new(value))
    }

    /// The lock, if nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How the counters of a pool are changed. A type parameter, so that no pick branches on it.
pub trait Mode: Copy + Send + Sync + 'static {
    /// What guards state of many words for the length of one pick.
    type Gate: Default + std::fmt::Debug + Send + Sync + 'static;
    /// Held while inside the gate.
    type Guard<'a>;
    /// Whether several threads change counters at once, so that what was just read may be old already.
    const SHARED: bool;
    /// Whether these are threads of several processes, one of which may end at any point.
    const JOINT: bool = false;

    /// Adds, wrapping, and gives the value before.
    fn add(cell: &AtomicU64, value: u64) -> u64;

    /// Subtracts, wrapping, and gives the value before.
    #[inline(always)]
    fn sub(cell: &AtomicU64, value: u64) -> u64 {
        Self::add(cell, value.wrapping_neg())
    }

    /// Gives a value in `0..length` and moves the cell one on, around the circle.
    fn rotate(cell: &AtomicU64, length: u64) -> u64;

    /// Sets these bits and gives the value before; sequentially consistent where threads share the cell.
    fn or(cell: &AtomicU64, bits: u64) -> u64;

    /// Sets a new value and gives the one before.
    fn replace(cell: &AtomicU64, value: u64) -> u64;

    /// Enters the gate.
    fn enter(gate: &Self::Gate) -> Self::Guard<'_>;
}

/// Counters that several threads change at once: every change is one atomic instruction.
#[derive(Clone, Copy, Debug)]
pub struct Shared;

/// Counters whose every change some outer lock already orders, such as Python's GIL: a change is a load and a store.
/// Using it without such a lock is memory-safe and loses counts.
#[derive(Clone, Copy, Debug)]
pub struct Exclusive;

impl Mode for Shared {
    type Gate = Mutex<()>;
    type Guard<'a> = MutexGuard<'a, ()>;
    const SHARED: bool = true;

    #[inline(always)]
    fn add(cell: &AtomicU64, value: u64) -> u64 {
        // Not just AcqRel: `Watch` needs its order with loads that follow, and it costs nothing on x86-64 and ARMv8.1.
        cell.fetch_add(value, Ordering::SeqCst)
    }

    #[inline(always)]
    fn rotate(cell: &AtomicU64, length: u64) -> u64 {
        cell.fetch_add(1, Ordering::Relaxed).checked_rem(length).unwrap_or(0)
    }

    #[inline(always)]
    fn or(cell: &AtomicU64, bits: u64) -> u64 {
        cell.fetch_or(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn replace(cell: &AtomicU64, value: u64) -> u64 {
        cell.swap(value, Ordering::AcqRel)
    }

    fn enter(gate: &Mutex<()>) -> MutexGuard<'_, ()> {
        gate.lock()
    }
}

/// Counters that several processes change at once, as [`Shared`]. Each process notes what it has of them, so that it can
/// be taken back when the process ends; so requests are taken and given back through its `Seat`.
#[derive(Clone, Copy, Debug)]
pub struct Joint;

impl Mode for Joint {
    type Gate = Mutex<()>;
    type Guard<'a> = MutexGuard<'a, ()>;
    const SHARED: bool = true;
    const JOINT: bool = true;

    #[inline(always)]
    fn add(cell: &AtomicU64, value: u64) -> u64 {
        Shared::add(cell, value)
    }

    #[inline(always)]
    fn rotate(cell: &AtomicU64, length: u64) -> u64 {
        Shared::rotate(cell, length)
    }

    #[inline(always)]
    fn or(cell: &AtomicU64, bits: u64) -> u64 {
        Shared::or(cell, bits)
    }

    #[inline(always)]
    fn replace(cell: &AtomicU64, value: u64) -> u64 {
        Shared::replace(cell, value)
    }

    fn enter(gate: &Mutex<()>) -> MutexGuard<'_, ()> {
        gate.lock()
    }
}

impl Mode for Exclusive {
    type Gate = ();
    type Guard<'a> = ();
    const SHARED: bool = false;

    #[inline(always)]
    fn add(cell: &AtomicU64, value: u64) -> u64 {
        let before = cell.load(Ordering::Relaxed);
        cell.store(before.wrapping_add(value), Ordering::Relaxed);
        before
    }

    #[inline(always)]
    fn rotate(cell: &AtomicU64, length: u64) -> u64 {
        let at = cell.load(Ordering::Relaxed);
        let next = at.wrapping_add(1);
        cell.store(if next >= length { 0 } else { next }, Ordering::Relaxed);
        at
    }

    #[inline(always)]
    fn or(cell: &AtomicU64, bits: u64) -> u64 {
        let before = cell.load(Ordering::Relaxed);
        cell.store(before | bits, Ordering::Relaxed);
        before
    }

    #[inline(always)]
    fn replace(cell: &AtomicU64, value: u64) -> u64 {
        let before = cell.load(Ordering::Relaxed);
        cell.store(value, Ordering::Relaxed);
        before
    }

    #[inline(always)]
    fn enter(_: &()) {}
}
