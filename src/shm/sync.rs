//! The only source of atomics, so that a model checker can replace them: with `--cfg loom` the tests of
//! `shm::model` and `client::model` run this crate's code over loom's.

#[cfg(all(loom, test))]
pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Tells the processor that this is a busy-wait loop.
#[inline]
pub fn spin_hint() {
    std::hint::spin_loop();
}
