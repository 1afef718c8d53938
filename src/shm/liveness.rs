//! Whether the daemon lives, known without a system call.

use super::Words;
use super::clock::{now_ns, ticks};
use super::sync::Ordering;

const EPOCH: usize = 0;
const STATE: usize = 1;
const BEAT: usize = 2;
/// Words of the liveness line.
pub(super) const LIVENESS_WORDS: usize = 3;

/// Ticks for which a beat that was young is not looked at again: microseconds.
const STILL_YOUNG: u64 = 4096;

const SERVING: u64 = 1;
const CLOSED: u64 = 2;

/// The daemon's end: begins and ends a life.
pub struct LivenessWriter {
    words: Words,
}

/// The daemon's end: says that this life goes on. Another thread's than the [`LivenessWriter`]'s.
pub struct Heartbeat {
    words: Words,
}

impl Heartbeat {
    /// Of a life that a [`LivenessWriter`] over the same words has begun.
    pub fn new(words: Words) -> Heartbeat {
        Heartbeat { words }
    }

    /// One beat.
    #[inline]
    pub fn beat(&self, now_ns: u64) {
        self.words.store(BEAT, now_ns, Ordering::Release);
    }
}

impl LivenessWriter {
    /// Starts to beat. `epoch` tells one daemon's life from the next.
    pub fn new(words: Words, epoch: u64) -> LivenessWriter {
        words.store(EPOCH, epoch, Ordering::Relaxed);
        // Release: whoever feels this life's beat sees its epoch.
        words.store(BEAT, now_ns(), Ordering::Release);
        words.store(STATE, SERVING, Ordering::Release);
        LivenessWriter { words }
    }

    /// The session is over: the client need not wait for the beat to become old.
    pub fn stop(&self) {
        self.words.store(STATE, CLOSED, Ordering::Release);
    }
}

/// What the client knows of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It served within the bound.
    Serving,
    /// It has closed the session, or its last beat is older than the bound.
    Gone,
    /// Another life of the daemon serves this session.
    Restarted,
}

/// The client's end.
pub struct LivenessReader {
    words: Words,
    epoch: u64,
    bound_ns: u64,
    /// When the beat was last seen to be young.
    young: u64,
}

impl LivenessReader {
    /// Feels for the life that is there now. `bound_ns`: age of a beat beyond which the daemon is
    /// taken for gone.
    pub fn new(words: Words, bound_ns: u64) -> LivenessReader {
        let epoch = words.load(EPOCH, Ordering::Acquire);
        LivenessReader { words, epoch, bound_ns, young: 0 }
    }

    /// The daemon's life this client belongs to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The daemon's life that is there now, whether it serves or not.
    pub fn there(&self) -> u64 {
        self.words.load(EPOCH, Ordering::Acquire)
    }

    /// Takes the life that is there now for the one this client belongs to, and returns its epoch.
    pub fn adopt(&mut self) -> u64 {
        self.epoch = self.there();
        self.epoch
    }

    /// Whether the daemon lives, at `now_ns`.
    #[inline]
    pub fn check(&self, now_ns: u64) -> Liveness {
        if self.words.load(STATE, Ordering::Acquire) != SERVING {
            return Liveness::Gone;
        }
        let beat = self.words.load(BEAT, Ordering::Acquire);
        if now_ns.saturating_sub(beat) > self.bound_ns {
            return Liveness::Gone;
        }
        if self.words.load(EPOCH, Ordering::Relaxed) != self.epoch {
            return Liveness::Restarted;
        }
        Liveness::Serving
    }

    /// Whether the daemon lives, now. For loops that ask without end: reads the clock only once some
    /// microseconds have passed since it last did, and is late by no more than that.
    #[inline]
    pub fn check_often(&mut self) -> Liveness {
        let ticks = ticks();
        let serving = self.words.load(STATE, Ordering::Acquire) == SERVING
            && self.words.load(EPOCH, Ordering::Relaxed) == self.epoch;
        // A counter that was set back counts as one that ran on for long.
        if serving && ticks.wrapping_sub(self.young) < STILL_YOUNG {
            return Liveness::Serving;
        }
        let life = self.check(now_ns());
        if life == Liveness::Serving {
            self.young = ticks;
        }
        life
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_beats_other_epochs_and_closed_sessions_are_told_apart() {
        let (words, peer) = Words::private(LIVENESS_WORDS);
        let (spare, beat) = (words.alias(), Heartbeat::new(words.alias()));
        let _heart = LivenessWriter::new(words, 7);
        let liveness = LivenessReader::new(peer, 1000);
        beat.beat(5000);
        assert_eq!(liveness.check(5000), Liveness::Serving);
        assert_eq!(liveness.check(4000), Liveness::Serving);
        assert_eq!(liveness.check(6000), Liveness::Serving);
        assert_eq!(liveness.check(6001), Liveness::Gone);
        beat.beat(6000);
        assert_eq!(liveness.check(6001), Liveness::Serving);
        let next = LivenessWriter::new(spare, 8);
        beat.beat(6000);
        assert_eq!(liveness.check(6001), Liveness::Restarted);
        next.stop();
        assert_eq!(liveness.check(6001), Liveness::Gone);
    }

    #[test]
    fn whoever_asks_often_learns_the_same() {
        let (words, peer) = Words::private(LIVENESS_WORDS);
        let (spare, beat) = (words.alias(), Heartbeat::new(words.alias()));
        let _heart = LivenessWriter::new(words, 7);
        let mut liveness = LivenessReader::new(peer, 1_000_000_000);
        beat.beat(now_ns());
        assert_eq!(liveness.check_often(), Liveness::Serving);
        // A beat that has become old is noticed once the counter has run on.
        beat.beat(now_ns() - 2_000_000_000);
        while liveness.check_often() == Liveness::Serving {}
        assert_eq!(liveness.check_often(), Liveness::Gone);
        beat.beat(now_ns());
        assert_eq!(liveness.check_often(), Liveness::Serving);
        // Another life, and the end, are noticed at once.
        let next = LivenessWriter::new(spare, 8);
        assert_eq!(liveness.check_often(), Liveness::Restarted);
        next.stop();
        assert_eq!(liveness.check_often(), Liveness::Gone);
    }
}
