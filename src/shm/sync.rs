//! The one place atomics come from, so that a model checker can take their place.

pub use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Tells the processor that this is a busy loop.
#[inline]
pub fn spin_hint() {
    std::hint::spin_loop();
}
