//! The ring, the latest chunk, the playback, the doorbell and the signs of life under loom: every interleaving of
//! two processes at a bound of preemptions, with every value that the memory model lets a load see,
//! and with a peer that stops after each of its stores.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --features client --lib shm::model`
//!
//! The bound is 2 preemptions, or `LOOM_MAX_PREEMPTIONS`. Whatever a test lets a process do, it does
//! with the code that the daemon and the client use; only [`words`](super::words) is another one.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

mod doorbell;
mod latest;
mod liveness;
mod playback;
mod ring;

use super::words::Fuse;

const PREEMPTIONS: usize = 2;

/// Runs a model in every interleaving, and says how many there were.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 100_000;
    let before = COUNT.load(Relaxed);
    builder.check(move || {
        COUNT.fetch_add(1, Relaxed);
        model();
    });
    println!("{} interleavings", COUNT.load(Relaxed) - before);
}
