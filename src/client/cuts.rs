//! Flushes and episodes, of which the requests' class tells the actions' class, without either waiting.

use crate::shm::sync::{AtomicU64, Ordering, fence};

/// Episodes and flushes so far. Every number only grows, or is about the newest of them.
pub(super) struct Cuts {
    /// Number of episodes begun by this client.
    episodes: AtomicU64,
    /// Last ticket from before the newest episode.
    before: AtomicU64,
    /// The daemon's number of the newest episode, 0: it has none; above it the low half of the connection's number.
    number: AtomicU64,
    /// Last ticket whose chunk is flushed.
    flushed: AtomicU64,
}

/// An episode that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    /// Last ticket from before it.
    pub before: u64,
    /// The connection it was begun over.
    pub connection: u64,
    /// The daemon's number of it; 0: the daemon doesn't count them.
    pub number: u32,
}

impl Cuts {
    pub fn new() -> Cuts {
        let zero = || AtomicU64::new(0);
        Cuts { episodes: zero(), before: zero(), number: zero(), flushed: zero() }
    }

    /// Requests: begins an episode.
    pub fn begin(&self, Episode { before, connection, number }: Episode) {
        self.before.store(before, Ordering::Relaxed);
        self.number.store(connection << 32 | u64::from(number), Ordering::Relaxed);
        let episodes = self.episodes.load(Ordering::Relaxed) + 1;
        // Release: whoever sees that there is one more sees its numbers, or those of a later one.
        self.episodes.store(episodes, Ordering::Release);
    }

    /// Requests: flushes what has been submitted so far.
    pub fn flush(&self, submitted: &AtomicU64) {
        // After the new instruction has become the current one: a submission that is not seen here has seen it.
        fence(Ordering::SeqCst);
        self.flushed.store(submitted.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Number of episodes begun. Real-time safe.
    #[inline]
    pub fn episodes(&self) -> u64 {
        self.episodes.load(Ordering::Acquire)
    }

    /// The newest episode; its parts may be of two, of which the later has then been counted too. Real-time safe.
    pub fn episode(&self) -> Episode {
        let number = self.number.load(Ordering::Relaxed);
        Episode {
            before: self.before.load(Ordering::Relaxed),
            connection: number >> 32,
            number: number as u32,
        }
    }

    /// Last ticket whose chunk is flushed; 0: none. Real-time safe.
    #[inline]
    pub fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }
}

/// Submissions: announces a ticket before the number of its instruction is looked up. Real-time safe.
#[inline]
pub(super) fn announce(submitted: &AtomicU64, ticket: u64) {
    submitted.store(ticket, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}
