//! Liveness of the daemon, readable without a system call.

use super::Words;
use super::clock::{now_ns, ticks};
use super::sync::Ordering;

const EPOCH: usize = 0;
const STATE: usize = 1;
const BEAT: usize = 2;
/// Words of the liveness record: epoch, state, heartbeat.
pub(super) const LIVENESS_WORDS: usize = 3;

/// Ticks for which a recent heartbeat is trusted without a look at the clock: microseconds.
const STILL_YOUNG: u64 = 4096;

const SERVING: u64 = 1;
const CLOSED: u64 = 2;

/// The daemon's side of the liveness record: begins and ends an epoch.
pub struct LivenessWriter {
    words: Words,
}

/// The daemon's side of the heartbeat, for another thread than the [`LivenessWriter`]'s.
pub struct Heartbeat {
    words: Words,
}

impl Heartbeat {
    /// A heartbeat of the epoch that a [`LivenessWriter`] over the same words has begun.
    pub fn new(words: Words) -> Heartbeat {
        Heartbeat { words }
    }

    /// Writes the time of a heartbeat, CLOCK_MONOTONIC, ns.
    #[inline]
    pub fn beat(&self, now_ns: u64) {
        self.words.store(BEAT, now_ns, Ordering::Release);
    }
}

impl LivenessWriter {
    /// Begins an epoch with a first heartbeat. `epoch` differs between any two runs of the daemon.
    pub fn new(words: Words, epoch: u64) -> LivenessWriter {
        words.store(EPOCH, epoch, Ordering::Relaxed);
        // Release: a client that sees this epoch's heartbeat sees its number.
        words.store(BEAT, now_ns(), Ordering::Release);
        words.store(STATE, SERVING, Ordering::Release);
        LivenessWriter { words }
    }

    /// Marks the session as over: the client need not wait for the heartbeat to become old.
    pub fn stop(&self) {
        self.words.store(STATE, CLOSED, Ordering::Release);
    }
}

/// Liveness of the daemon as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The last heartbeat is within the bound.
    Serving,
    /// The session is closed, or the last heartbeat is older than the bound.
    Gone,
    /// A restarted daemon serves this session.
    Restarted,
}

/// The client's side of the liveness record.
pub struct LivenessReader {
    words: Words,
    epoch: u64,
    bound_ns: u64,
    /// Tick count when the heartbeat was last seen to be recent.
    young: u64,
}

impl LivenessReader {
    /// Attaches to the current epoch. `bound_ns`: age of a heartbeat beyond which the daemon counts as gone.
    pub fn new(words: Words, bound_ns: u64) -> LivenessReader {
        let epoch = words.load(EPOCH, Ordering::Acquire);
        LivenessReader { words, epoch, bound_ns, young: 0 }
    }

    /// The epoch in the record, whether the daemon lives or not.
    pub fn there(&self) -> u64 {
        self.words.load(EPOCH, Ordering::Acquire)
    }

    /// Makes the current epoch this client's and returns it.
    pub fn adopt(&mut self) -> u64 {
        self.epoch = self.there();
        self.epoch
    }

    /// The daemon's liveness at `now_ns`.
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

    /// The daemon's liveness now, for loops that check without pause: reads the clock only every few
    /// microseconds, and is late by no more than that.
    #[inline]
    pub fn check_often(&mut self) -> Liveness {
        let ticks = ticks();
        let serving = self.words.load(STATE, Ordering::Acquire) == SERVING
            && self.words.load(EPOCH, Ordering::Relaxed) == self.epoch;
        // A counter that was set back looks like one that ran on for long.
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
        let _writer = LivenessWriter::new(words, 7);
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
    fn frequent_checks_see_the_same() {
        let (words, peer) = Words::private(LIVENESS_WORDS);
        let (spare, beat) = (words.alias(), Heartbeat::new(words.alias()));
        let _writer = LivenessWriter::new(words, 7);
        let mut liveness = LivenessReader::new(peer, 1_000_000_000);
        beat.beat(now_ns());
        assert_eq!(liveness.check_often(), Liveness::Serving);
        // A heartbeat that has become old is noticed once the counter has run on.
        beat.beat(now_ns() - 2_000_000_000);
        while liveness.check_often() == Liveness::Serving {}
        assert_eq!(liveness.check_often(), Liveness::Gone);
        beat.beat(now_ns());
        assert_eq!(liveness.check_often(), Liveness::Serving);
        // A new epoch and the end of the session are noticed at once.
        let next = LivenessWriter::new(spare, 8);
        assert_eq!(liveness.check_often(), Liveness::Restarted);
        next.stop();
        assert_eq!(liveness.check_often(), Liveness::Gone);
    }
}
