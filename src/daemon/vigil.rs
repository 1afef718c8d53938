//! Whether the inference thread gets on with its work, and who is told so.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::device::steps;

/// A sign of life: the control thread has beaten its hearts, and the inference thread has nothing to do
/// or has got on with what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Sessions there are.
    pub sessions: usize,
    /// Chunks published.
    pub chunks: u64,
    /// Half of them took no longer; 0: there was none.
    pub chunk_ns: u64,
}

/// Where signs of life go.
pub(super) struct Pulses {
    to: SyncSender<Pulse>,
    pub every: Duration,
    sent_ns: u64,
}

impl Pulses {
    /// At least `every` so often, as long as there is something to say. A receiver that doesn't keep up
    /// misses some: nobody waits for it.
    pub fn new(to: SyncSender<Pulse>, every: Duration) -> Self {
        Self { to, every, sent_ns: 0 }
    }

    /// Sends one, if it is time.
    pub fn send(&mut self, now_ns: u64, pulse: impl FnOnce() -> Pulse) {
        if u128::from(now_ns.saturating_sub(self.sent_ns)) >= self.every.as_nanos() / 2 {
            self.sent_ns = now_ns;
            let _ = self.to.try_send(pulse());
        }
    }
}

/// What the inference thread was at when it was looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct At {
    busy: bool,
    turns: u64,
    steps: u64,
}

/// Watches the inference thread, from the control thread.
#[derive(Default)]
pub(super) struct Vigil {
    at: At,
    looked_ns: u64,
    /// How long it has been at the same.
    still_ns: u64,
}

impl Vigil {
    /// Looks at it. Whether it gets on; else for how long it has not, nanoseconds.
    ///
    /// `at_most_ns`: time since the last look beyond which this thread itself was kept from looking, a
    /// stopped process for example, which says nothing of the other.
    pub fn look(&mut self, now_ns: u64, busy: bool, turns: u64, at_most_ns: u64) -> Result<(), u64> {
        let at = At { busy, turns, steps: steps() };
        let since_ns = now_ns.saturating_sub(std::mem::replace(&mut self.looked_ns, now_ns));
        if !busy || at != self.at {
            (self.at, self.still_ns) = (at, 0);
            return Ok(());
        }
        self.still_ns += since_ns.min(at_most_ns);
        Err(self.still_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn only_what_is_busy_and_stands_still_while_it_is_watched_counts() {
        let mut vigil = Vigil::default();
        let mut look = |now, busy, turns| vigil.look(now, busy, turns, 10);
        assert_eq!(look(100, false, 0), Ok(()));
        assert_eq!(look(200, false, 0), Ok(()));
        assert_eq!(look(205, true, 1), Ok(()));
        assert_eq!(look(210, true, 1), Err(5));
        // The watcher itself was stopped for a while.
        assert_eq!(look(1000, true, 1), Err(15));
        assert_eq!(look(1005, true, 2), Ok(()));
        assert_eq!(look(1010, true, 2), Err(5));
        crate::device::step();
        assert_eq!(look(1015, true, 2), Ok(()));
        assert_eq!(look(1020, false, 2), Ok(()));
    }

    #[test]
    fn pulses_come_in_time_and_wait_for_nobody() {
        let (to, from) = sync_channel(1);
        let mut pulses = Pulses::new(to, Duration::from_nanos(100));
        let mut count = 0;
        for now in (1000..1200).step_by(10) {
            pulses.send(now, || {
                count += 1;
                Pulse { chunks: count, ..Pulse::default() }
            });
        }
        assert_eq!((count, from.try_recv().unwrap().chunks), (4, 1));
        assert!(from.try_recv().is_err());
    }
}
