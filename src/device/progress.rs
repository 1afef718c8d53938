//! Progress of this process's devices: a sign of life of work that takes long.

use std::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

/// A number that grows with every operation that a device has been given and is done with: one that
/// stands still while a chunk is computed hangs, or is slower than its watcher's patience.
pub fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// Counts one more operation.
pub(crate) fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}
