//! What the daemon's threads say of themselves to each other, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Written by one thread each, read by any. Nobody waits for a number here, so that all are relaxed.
#[derive(Default)]
pub(in super::super) struct Activity {
    /// Inference: when it began with the observation the engine works on; 0: the engine has nothing to do.
    busy_since_ns: AtomicU64,
    /// Control: the number of the turn that it is in; 0: it waits for something to happen.
    iteration: AtomicU64,
    /// Control: chunks published, and their median time.
    chunks: AtomicU64,
    chunk_ns: AtomicU64,
    /// Heart: how long the engine has been at the same operation.
    no_progress_ns: AtomicU64,
    /// Heart: times it was kept from beating.
    stalls: AtomicU64,
    /// Heart: times the machine was suspended.
    suspensions: AtomicU64,
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn set(number: &AtomicU64, value: u64) {
    number.store(value, Ordering::Relaxed);
}

impl Activity {
    /// The engine is given an observation.
    pub fn begin(&self, now_ns: u64) {
        // Never 0: the time since boot.
        set(&self.busy_since_ns, now_ns);
    }

    /// The engine is done with it.
    pub fn finish(&self) {
        set(&self.busy_since_ns, 0);
    }

    /// When the engine was given what it works on; 0: it has nothing to do.
    pub fn busy_since_ns(&self) -> u64 {
        get(&self.busy_since_ns)
    }

    /// Whether the engine works on an observation.
    pub fn is_busy(&self) -> bool {
        self.busy_since_ns() != 0
    }

    /// The control thread begins a turn; never 0.
    pub fn begin_iteration(&self, number: u64) {
        set(&self.iteration, number);
    }

    /// The control thread waits.
    pub fn end_iteration(&self) {
        set(&self.iteration, 0);
    }

    /// The control thread's turn; 0: it waits.
    pub fn iteration(&self) -> u64 {
        get(&self.iteration)
    }

    /// Figures for the service manager.
    pub fn set_chunks(&self, chunks: u64, chunk_ns: u64) {
        set(&self.chunks, chunks);
        set(&self.chunk_ns, chunk_ns);
    }

    /// Chunks published, and their median time; 0: there was none.
    pub fn chunks(&self) -> (u64, u64) {
        (get(&self.chunks), get(&self.chunk_ns))
    }

    /// The engine has been at the same operation for so long.
    pub fn set_no_progress(&self, ns: u64) {
        set(&self.no_progress_ns, ns);
    }

    /// How long the engine has been at the same operation; 0: it gets on, or has nothing to do.
    pub fn no_progress_ns(&self) -> u64 {
        get(&self.no_progress_ns)
    }

    /// The hearts' thread was kept from running.
    pub fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub fn stalls(&self) -> u64 {
        get(&self.stalls)
    }

    /// The machine was suspended.
    pub fn suspended(&self) {
        self.suspensions.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub fn suspensions(&self) -> u64 {
        get(&self.suspensions)
    }
}
