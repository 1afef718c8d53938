//! Whether a thread gets on with its work, and whether the machine was suspended.

/// What a thread was at when it was looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    /// What it works on; 0: nothing.
    work: u64,
    step: u64,
}

/// Watches a thread, from another one.
#[derive(Default)]
pub(in super::super) struct ProgressMonitor {
    position: Position,
    checked_ns: u64,
    /// How long it has been at the same.
    no_progress_ns: u64,
}

impl ProgressMonitor {
    /// How long the thread has been at the same step of the same work, nanoseconds; 0: it gets on, or has
    /// nothing to do (`work` is 0).
    ///
    /// `at_most_ns`: time since the last look beyond which the watcher itself was kept from looking, a
    /// stopped process for example, which says nothing of the other thread.
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

/// Notices that the machine was suspended: CLOCK_MONOTONIC, which all times are of, stood still meanwhile,
/// and CLOCK_BOOTTIME did not.
#[derive(Default)]
pub(in super::super) struct SuspendDetector {
    /// By how much CLOCK_BOOTTIME is ahead, at most; 0: not known yet.
    offset_ns: u64,
}

impl SuspendDetector {
    /// A suspension that is too short to matter, or none.
    const SHORT_NS: u64 = 100_000_000;

    /// Whether the machine was suspended since the last call. `boot_ns` was read between the two other times:
    /// the thread may have been kept from running between any two.
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
        let mut vigil = ProgressMonitor::default();
        let mut check = |now, work, step| vigil.check(now, work, step, 10);
        assert_eq!(check(100, 0, 0), 0);
        assert_eq!(check(200, 0, 0), 0);
        assert_eq!(check(205, 7, 0), 0);
        assert_eq!(check(210, 7, 0), 5);
        // The watcher itself was stopped for a while.
        assert_eq!(check(1000, 7, 0), 15);
        // Other work, another step of the same.
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
        // The machine has been suspended before this daemon: no news.
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
        // Also if it was kept from running just before.
        assert!(!check(now, ahead, [3 * SECOND, 0]));
        ahead += SECOND;
        assert!(check(now, ahead, [0, 0]));
        // Clocks that come apart by a little are no suspension.
        assert!(!check(now, ahead + SECOND / 100, [0, 0]));
    }

    /// On a machine that never was.
    #[test]
    fn a_clock_that_is_never_ahead_is_no_suspension() {
        let mut detector = SuspendDetector::default();
        assert!((1..10).all(|now| !detector.check(now, now, now)));
        assert!(detector.check(100, 100 + 2 * SuspendDetector::SHORT_NS, 100));
    }
}
