//! Activity of the daemon's threads, published to each other without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each value is written by one thread and read by any. No thread waits for one, so all accesses are relaxed.
#[derive(Default)]
pub(in super::super) struct Activity {
    /// Inference thread: when the engine was given the current observation; 0: the engine is idle.
    busy_since_ns: AtomicU64,
    /// Control thread: number of its current loop iteration; 0: it waits for events.
    iteration: AtomicU64,
    /// Control thread: number of chunks published, and their median time.
    chunks: AtomicU64,
    chunk_ns: AtomicU64,
    /// Heartbeat thread: time without progress of the engine.
    no_progress_ns: AtomicU64,
    /// Heartbeat thread: times it was kept from running.
    stalls: AtomicU64,
    /// Heartbeat thread: times the machine was suspended.
    suspensions: AtomicU64,
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn set(number: &AtomicU64, value: u64) {
    number.store(value, Ordering::Relaxed);
}

impl Activity {
    /// Marks the engine as busy since `now_ns`.
    pub fn begin(&self, now_ns: u64) {
        // Never 0: the time since boot.
        set(&self.busy_since_ns, now_ns);
    }

    /// Marks the engine as idle.
    pub fn finish(&self) {
        set(&self.busy_since_ns, 0);
    }

    /// When the engine was given the current observation; 0: it is idle.
    pub fn busy_since_ns(&self) -> u64 {
        get(&self.busy_since_ns)
    }

    /// True if the engine works on an observation.
    pub fn is_busy(&self) -> bool {
        self.busy_since_ns() != 0
    }

    /// Marks the beginning of a loop iteration of the control thread; `number` is never 0.
    pub fn begin_iteration(&self, number: u64) {
        set(&self.iteration, number);
    }

    /// Marks the control thread as waiting for events.
    pub fn end_iteration(&self) {
        set(&self.iteration, 0);
    }

    /// The current loop iteration of the control thread; 0: it waits for events.
    pub fn iteration(&self) -> u64 {
        get(&self.iteration)
    }

    /// Publishes the figures for the service manager's status line.
    pub fn set_chunks(&self, chunks: u64, chunk_ns: u64) {
        set(&self.chunks, chunks);
        set(&self.chunk_ns, chunk_ns);
    }

    /// Number of chunks published, and their median time, ns; 0 before the first.
    pub fn chunks(&self) -> (u64, u64) {
        (get(&self.chunks), get(&self.chunk_ns))
    }

    /// Publishes for how long the engine has made no progress.
    pub fn set_no_progress(&self, ns: u64) {
        set(&self.no_progress_ns, ns);
    }

    /// For how long the engine has made no progress, ns; 0: it advances or is idle.
    pub fn no_progress_ns(&self) -> u64 {
        get(&self.no_progress_ns)
    }

    /// Counts a stall: the heartbeat thread was kept from running.
    pub fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of stalls so far.
    pub fn stalls(&self) -> u64 {
        get(&self.stalls)
    }

    /// Counts a suspension of the machine.
    pub fn suspended(&self) {
        self.suspensions.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of suspensions so far.
    pub fn suspensions(&self) -> u64 {
        get(&self.suspensions)
    }
}
