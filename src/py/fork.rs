//! Who may be inside a pool while a process forks.

use pyo3::prelude::*;
use std::sync::PoisonError;

/// Held for reading by whoever is inside a pool while detached, and for writing during a fork: a child must not inherit
/// a lock whose holder it has not got, nor half of a change.
#[allow(clippy::disallowed_types)]
static FORKING: std::sync::RwLock<()> = std::sync::RwLock::new(());

thread_local! {
    /// The writing side, while this thread forks.
    #[allow(clippy::disallowed_types)]
    static FORK: std::cell::RefCell<Option<std::sync::RwLockWriteGuard<'static, ()>>> =
        const { std::cell::RefCell::new(None) };
}

/// Lets others run while `work` is inside a pool, which may wait for the lock of an update.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        // A hook of somebody else's, between ours, is in the forking thread itself.
        let forking = FORK.with(|fork| fork.try_borrow().is_ok_and(|fork| fork.is_some()));
        let _gate = if forking { None } else { Some(FORKING.read().unwrap_or_else(PoisonError::into_inner)) };
        work()
    })
}

/// Waits until nobody is inside a pool, and lets nobody in.
#[pyfunction]
pub(crate) fn _before_fork() {
    let gate = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    FORK.with(|fork| fork.replace(Some(gate)));
}

/// Lets everybody in again, in parent and child.
#[pyfunction]
pub(crate) fn _after_fork() {
    FORK.with(|fork| fork.replace(None));
}
