//! Detection of a thread without progress, and of a suspended machine.

/// Position of a thread at a check: its work, and the step within.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    /// Identifies the work; 0: idle.
    work: u64,
    step: u64,
}

/// Measures for how long a thread has made no progress, from another thread.
#[derive(Default)]
pub(in super::super) struct ProgressMonitor {
    position: Position,
    checked_ns: u64,
    /// Time without progress so far, ns.
    no_progress_ns: u64,
}

impl ProgressMonitor {
    /// Time since the thread last advanced to another step or to other work, ns; 0: it advances or is idle
    /// (`work` is 0).
    ///
    /// `at_most_ns` bounds the time that one check can add: after a longer gap the checking thread itself was
    /// kept from running, as in a stopped process, which says nothing about the other thread.
    pub fn check(&mut self, now_ns: u64, work: u64, step: u64, at_most_ns: u64) -> u64 {
        let position = Position { work, step };
        let since_ns = now_ns.saturating_sub(std::mem::replace(&mut self.checked_ns, now_ns));
        if work == 0 || position != self.position {
            (self.position, self.no_progress_ns) = (position, 0);
        } else {
            self.no_progress_ns += since_ns.min(at_most_ns);
        }
        self.no_progress_ns
    }
}

/// Detects suspensions of the machine: meanwhile CLOCK_MONOTONIC, the clock of all shared times, stands still,
/// and CLOCK_BOOTTIME doesn't.
#[derive(Default)]
pub(in super::super) struct SuspendDetector {
    /// Upper bound of CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns; 0: not known yet.
    offset_ns: u64,
}

impl SuspendDetector {
    /// Longest suspension that is too short to matter, ns.
    const SHORT_NS: u64 = 100_000_000;

    /// True if the machine was suspended since the last call. `boot_ns` was read between the two other times:
    /// the thread may have been preempted between any two.
    pub fn check(&mut self, before_ns: u64, boot_ns: u64, after_ns: u64) -> bool {
        let [most, least] = [before_ns, after_ns].map(|ns| boot_ns.saturating_sub(ns));
        let suspended = self.offset_ns > 0 && least > self.offset_ns + Self::SHORT_NS;
        if suspended || self.offset_ns == 0 {
            self.offset_ns = most.max(1);
        }
        self.offset_ns = self.offset_ns.min(most.max(1));
        suspended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_busy_and_stands_still_while_it_is_watched_counts() {
        let mut monitor = ProgressMonitor::default();
        let mut check = |now, work, step| monitor.check(now, work, step, 10);
        assert_eq!(check(100, 0, 0), 0);
        assert_eq!(check(200, 0, 0), 0);
        assert_eq!(check(205, 7, 0), 0);
        assert_eq!(check(210, 7, 0), 5);
        // The checking thread itself was stopped for a while.
        assert_eq!(check(1000, 7, 0), 15);
        // Other work; another step of the same work.
        assert_eq!(check(1005, 8, 0), 0);
        assert_eq!(check(1010, 8, 0), 5);
        assert_eq!(check(1015, 8, 1), 0);
        assert_eq!(check(1020, 8, 1), 5);
        assert_eq!(check(1025, 0, 1), 0);
        assert_eq!(check(1030, 0, 1), 0);
    }

    #[test]
    fn a_suspension_is_told_from_a_thread_that_did_not_run() {
        const SECOND: u64 = 1_000_000_000;
        let mut detector = SuspendDetector::default();
        // A suspension from before this daemon is no news.
        let (mut now, mut ahead) = (1000 * SECOND, 5000 * SECOND);
        let mut check = |now: u64, ahead: u64, gaps: [u64; 2]| {
            detector.check(now, now + gaps[0] + ahead, now + gaps[0] + gaps[1])
        };
        assert!(!check(now, ahead, [0, 0]));
        for gaps in [[0, 0], [3 * SECOND, 0], [0, 3 * SECOND], [SECOND, SECOND], [0, 0]] {
            now += 10 * SECOND;
            assert!(!check(now, ahead, gaps), "{gaps:?}");
        }
        ahead += SECOND / 2;
        assert!(check(now, ahead, [0, 1000]));
        assert!(!check(now, ahead, [0, 0]));
        // Nor if the thread was preempted just before.
        assert!(!check(now, ahead, [3 * SECOND, 0]));
        ahead += SECOND;
        assert!(check(now, ahead, [0, 0]));
        // Clocks that drift apart a little are no suspension.
        assert!(!check(now, ahead + SECOND / 100, [0, 0]));
    }

    /// On a machine that was never suspended.
    #[test]
    fn a_clock_that_is_never_ahead_is_no_suspension() {
        let mut detector = SuspendDetector::default();
        assert!((1..10).all(|now| !detector.check(now, now, now)));
        assert!(detector.check(100, 100 + 2 * SuspendDetector::SHORT_NS, 100));
    }
}
