//! The one place atomics come from, so that a model checker can take their place: with `--cfg loom`
//! the tests of `shm::model` run the code of this module over loom's.

#[cfg(all(loom, test))]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Tells the processor that this is a busy loop.
#[inline]
pub fn spin_hint() {
    std::hint::spin_loop();
}
