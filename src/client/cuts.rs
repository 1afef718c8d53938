//! Flushes and episodes, of which the requests' class tells the actions' class, without either waiting.

use super::player::Flush;
use crate::shm::sync::{AtomicU64, Ordering, fence};

/// Episodes and flushes so far. Every number only grows, or is about the newest of them.
pub(super) struct Cuts {
    /// Number of episodes begun by this client.
    episodes: AtomicU64,
    /// Last ticket from before the newest episode.
    ended: AtomicU64,
    /// The daemon's number of the newest episode, 0: it has none; above it the low half of the connection's number.
    number: AtomicU64,
    /// Twice the number of flushes; odd while one is being written down.
    flushes: AtomicU64,
    /// The parts of the newest flush.
    flush: [AtomicU64; 3],
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
        Cuts {
            episodes: zero(),
            ended: zero(),
            number: zero(),
            flushes: zero(),
            flush: [zero(), zero(), zero()],
        }
    }

    /// Requests: begins an episode.
    pub fn begin(&self, Episode { before, connection, number }: Episode) {
        self.ended.store(before, Ordering::Relaxed);
        self.number.store(connection << 32 | u64::from(number), Ordering::Relaxed);
        let episodes = self.episodes.load(Ordering::Relaxed) + 1;
        // Release: whoever sees that there is one more sees its numbers, or those of a later one.
        self.episodes.store(episodes, Ordering::Release);
    }

    /// Requests: flushes what isn't computed for `prompt_id`, which has become the current instruction. `begun`: the last
    /// ticket that the daemon had begun before it knew of the flush; None: it doesn't say, so what has been submitted
    /// so far counts for begun.
    pub fn flush(&self, submitted: &AtomicU64, prompt_id: u32, begun: Option<u64>) {
        // After the new instruction has become the current one: a submission that is not seen here has seen it.
        fence(Ordering::SeqCst);
        let until = submitted.load(Ordering::Relaxed);
        let before = begun.map_or(until, |begun| begun.min(until));
        let flushes = self.flushes.load(Ordering::Relaxed);
        self.flushes.store(flushes + 1, Ordering::Relaxed);
        // Whoever sees one of the parts sees that they are being written.
        fence(Ordering::Release);
        for (part, value) in self.flush.iter().zip([before, until, prompt_id.into()]) {
            part.store(value, Ordering::Relaxed);
        }
        self.flushes.store(flushes + 2, Ordering::Release);
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
            before: self.ended.load(Ordering::Relaxed),
            connection: number >> 32,
            number: number as u32,
        }
    }

    /// A number that changes with each flush. Real-time safe.
    #[inline]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// The newest flush, and its number; None while another one is being written down: it isn't over yet. Real-time
    /// safe.
    pub fn flushed(&self) -> Option<(u64, Flush)> {
        let flushes = self.flushes();
        let [before, until, prompt_id] = self.flush.each_ref().map(|part| part.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = flushes & 1 == 0 && self.flushes.load(Ordering::Relaxed) == flushes;
        is_whole.then_some((flushes, Flush { before, until, prompt_id: prompt_id as u32 }))
    }
}

/// Submissions: announces a ticket before the number of its instruction is looked up. Real-time safe.
#[inline]
pub(super) fn announce(submitted: &AtomicU64, ticket: u64) {
    submitted.store(ticket, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}
