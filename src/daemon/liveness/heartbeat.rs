//! The heartbeat thread: writes the sessions' heartbeats, checks the other threads for progress, and pings the
//! service manager's watchdog for as long as they make progress.
//!
//! Nothing it does can block: no contended lock, no allocation, no file, no log, and no system call but the
//! clock's, its own sleep, a write to an eventfd and one datagram without waiting. Whatever a client makes
//! other threads do, no heartbeat is later than two intervals, unless the machine gives this thread no core.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

use super::activity::Activity;
use super::progress::{ProgressMonitor, SuspendDetector};
use crate::device::steps;
use crate::shm::Heartbeat;
use crate::shm::clock::{boot_ns, now_ns};

/// Maximum number of sessions of a daemon.
pub(in super::super) const MAX_SESSIONS: usize = 1024;
/// Heartbeats in a row that have to be late to count as a stall.
const STALL_HEARTBEATS: u32 = 5;

/// State of a daemon that is alive: heartbeats are written, and the control thread and the engine are idle or
/// make progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivitySummary {
    /// Number of open sessions.
    pub sessions: usize,
    /// Number of chunks published.
    pub chunks: u64,
    /// Median chunk time, ns; 0 before the first chunk.
    pub chunk_ns: u64,
}

/// Keep-alive callback, called on the heartbeat thread: must not block. False: the ping could not be sent and
/// is repeated with the next heartbeat.
pub type KeepAlive = Box<dyn FnMut(&ActivitySummary) -> bool + Send>;

/// A keep-alive callback, its interval, and when it was last called.
struct Attached {
    ping: KeepAlive,
    every: Duration,
    pinged_ns: u64,
}

/// Heartbeats of all sessions, shared between the heartbeat thread and those that open and end sessions.
pub(in super::super) struct HeartbeatTable {
    entries: Box<[Entry]>,
    /// Number of entries that were ever taken.
    used: AtomicUsize,
    count: AtomicUsize,
    /// A new keep-alive callback, for the thread to pick up with the next heartbeat.
    keep_alive: Mutex<Option<Attached>>,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

/// An entry for the heartbeat of one session.
#[derive(Default)]
struct Entry {
    taken: AtomicBool,
    /// Locked only by the session that has taken the entry, to set or clear it: a thread preempted meanwhile
    /// delays no other session's heartbeat. The heartbeat thread skips a locked entry: its heartbeat was
    /// written a moment ago, or its session is over.
    beat: Mutex<Option<Heartbeat>>,
}

/// A session's entry in the heartbeat table. Dropping it frees the entry.
pub(in super::super) struct HeartbeatEntry {
    heartbeats: Arc<HeartbeatTable>,
    index: usize,
}

impl HeartbeatTable {
    fn new() -> HeartbeatTable {
        HeartbeatTable {
            entries: (0..MAX_SESSIONS).map(|_| Entry::default()).collect(),
            used: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            keep_alive: Mutex::default(),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Adds a session's heartbeat. None: all [`MAX_SESSIONS`] entries are taken.
    pub fn add(self: &Arc<Self>, beat: Heartbeat) -> Option<HeartbeatEntry> {
        let free = |entry: &Entry| {
            entry.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let index = self.entries.iter().position(free)?;
        beat.beat(now_ns());
        *self.entries[index].beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(beat);
        self.used.fetch_max(index + 1, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.wake();
        Some(HeartbeatEntry { heartbeats: self.clone(), index })
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn beat(&self, now_ns: u64) {
        for entry in &self.entries[..self.used.load(Ordering::SeqCst)] {
            if let Ok(entry) = entry.beat.try_lock()
                && let Some(beat) = &*entry
            {
                beat.beat(now_ns);
            }
        }
    }
}

impl Drop for HeartbeatEntry {
    fn drop(&mut self) {
        let entry = &self.heartbeats.entries[self.index];
        let beat = entry.beat.lock().unwrap_or_else(PoisonError::into_inner).take();
        entry.taken.store(false, Ordering::SeqCst);
        self.heartbeats.count.fetch_sub(1, Ordering::SeqCst);
        // After the entry is unlocked: dropping it may unmap a segment.
        drop(beat);
    }
}

/// Handle of the heartbeat thread. Dropping it ends the thread.
pub(in super::super) struct HeartbeatThread {
    pub heartbeats: Arc<HeartbeatTable>,
    pub activity: Arc<Activity>,
    thread: Option<JoinHandle<()>>,
    id: Pid,
}

impl HeartbeatThread {
    /// Starts the thread. `bell`, an eventfd, is written to when the control thread has something to check.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(interval: Duration, bell: Arc<OwnedFd>) -> io::Result<HeartbeatThread> {
        let (heartbeats, activity) = (Arc::new(HeartbeatTable::new()), Arc::new(Activity::default()));
        let (to, from) = sync_channel(1);
        let (own, shared) = (heartbeats.clone(), activity.clone());
        let thread = std::thread::Builder::new().name("heart".into()).spawn(move || {
            let _ = to.send(gettid());
            HeartbeatLoop::new(&own, &shared, interval, &bell).run();
        })?;
        let _ = heartbeats.thread.set(thread.thread().clone());
        let id = from.recv().map_err(io::Error::other)?;
        Ok(HeartbeatThread { heartbeats, activity, thread: Some(thread), id })
    }

    /// The system's number of the thread.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Has `ping` called at least once per `every`, as long as all threads make progress.
    pub fn keep_alive(&self, every: Duration, ping: KeepAlive) {
        let attached = Attached { ping, every, pinged_ns: 0 };
        *self.heartbeats.keep_alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(attached);
        self.heartbeats.wake();
    }
}

impl Drop for HeartbeatThread {
    fn drop(&mut self) {
        self.heartbeats.stop.store(true, Ordering::SeqCst);
        self.heartbeats.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State of the running thread.
struct HeartbeatLoop<'a> {
    heartbeats: &'a HeartbeatTable,
    activity: &'a Activity,
    interval: Duration,
    bell: &'a OwnedFd,
    /// Time of the last heartbeat; 0 while no session is open.
    last_ns: u64,
    engine: ProgressMonitor,
    control: ProgressMonitor,
    suspensions: SuspendDetector,
    keep_alive: Option<Attached>,
}

impl<'a> HeartbeatLoop<'a> {
    fn new(
        heartbeats: &'a HeartbeatTable,
        activity: &'a Activity,
        interval: Duration,
        bell: &'a OwnedFd,
    ) -> HeartbeatLoop<'a> {
        HeartbeatLoop {
            heartbeats,
            activity,
            interval,
            bell,
            last_ns: 0,
            engine: ProgressMonitor::default(),
            control: ProgressMonitor::default(),
            suspensions: SuspendDetector::default(),
            keep_alive: None,
        }
    }

    fn run(&mut self) {
        while !self.heartbeats.stop.load(Ordering::SeqCst) {
            let next = self.beat(now_ns());
            // Returns at once if the thread was unparked since it checked.
            match next {
                Some(at) => {
                    std::thread::park_timeout(Duration::from_nanos(at.saturating_sub(now_ns())));
                }
                None => std::thread::park(),
            }
        }
    }

    /// Writes all heartbeats. Returns when the next are due; None: not before there is a session.
    fn beat(&mut self, now: u64) -> Option<u64> {
        self.heartbeats.beat(now);
        let interval = self.interval.as_nanos() as u64;
        let stall = interval * u64::from(STALL_HEARTBEATS);
        if self.last_ns > 0 && now.saturating_sub(self.last_ns) > stall {
            self.activity.stalled();
        }
        self.check_suspended();
        let no_progress = self.engine.check(now, self.activity.busy_since_ns(), steps(), stall);
        self.activity.set_no_progress(no_progress);
        let stuck = self.control.check(now, self.activity.iteration(), 0, stall);
        if no_progress == 0 && stuck == 0 {
            self.keep_alive_due(now);
        }
        let used = self.heartbeats.count.load(Ordering::SeqCst) > 0 || self.activity.is_busy();
        self.last_ns = if used { now } else { 0 };
        match &self.keep_alive {
            _ if used => Some(now + interval),
            Some(attached) => Some(now + attached.every.as_nanos() as u64 / 4),
            None => None,
        }
    }

    fn check_suspended(&mut self) {
        let (before, boot, after) = (now_ns(), boot_ns(), now_ns());
        if self.suspensions.check(before, boot, after) {
            self.activity.suspended();
            let _ = rustix::io::write(self.bell, &1u64.to_ne_bytes());
        }
    }

    fn keep_alive_due(&mut self, now: u64) {
        if let Ok(mut given) = self.heartbeats.keep_alive.try_lock()
            && let Some(attached) = given.take()
        {
            self.keep_alive = Some(attached);
        }
        let Some(attached) = &mut self.keep_alive else { return };
        if u128::from(now.saturating_sub(attached.pinged_ns)) < attached.every.as_nanos() / 2 {
            return;
        }
        let (chunks, chunk_ns) = self.activity.chunks();
        let sessions = self.heartbeats.count.load(Ordering::SeqCst);
        if (attached.ping)(&ActivitySummary { sessions, chunks, chunk_ns }) {
            attached.pinged_ns = now;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::shm::{Liveness, LivenessReader, LivenessWriter, Words};

    const MS: u64 = 1_000_000;

    fn activity() -> (Arc<HeartbeatTable>, Activity, OwnedFd) {
        (Arc::new(HeartbeatTable::new()), Activity::default(), eventfd(0, EventfdFlags::NONBLOCK).unwrap())
    }

    /// A keep-alive callback that counts its calls and can be told to fail.
    fn counting(heartbeats: &HeartbeatTable, every: Duration) -> (Arc<AtomicU64>, Arc<AtomicBool>) {
        let (count, deaf) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, is_deaf) = (count.clone(), deaf.clone());
        let ping = move |_: &ActivitySummary| {
            counted.fetch_add(1, Ordering::SeqCst);
            !is_deaf.load(Ordering::SeqCst)
        };
        *heartbeats.keep_alive.lock().unwrap() = Some(Attached { ping: Box::new(ping), every, pinged_ns: 0 });
        (count, deaf)
    }

    #[test]
    fn hearts_beat_from_when_they_are_added_until_they_are_taken_out() {
        let (heartbeats, ..) = activity();
        let (words, peer) = Words::private(3);
        let felt = LivenessReader::new(peer, 1000);
        let entry = heartbeats.add(Heartbeat::new(words.alias())).unwrap();
        let _writer = LivenessWriter::new(words, 7);
        assert_eq!(felt.check(now_ns()), Liveness::Restarted);
        heartbeats.beat(5000);
        assert_eq!(felt.check(6000), Liveness::Restarted);
        assert_eq!(felt.check(6001), Liveness::Gone);
        drop(entry);
        heartbeats.beat(9000);
        assert_eq!(felt.check(9000), Liveness::Gone);
        assert_eq!(heartbeats.count.load(Ordering::SeqCst), 0);
    }

    /// A session that is preempted while it sets or clears its entry delays no other session's heartbeat.
    #[test]
    fn a_place_that_is_locked_is_passed_over() {
        let (heartbeats, ..) = activity();
        let pairs: Vec<_> = (0..3).map(|_| Words::private(3)).collect();
        let entries: Vec<_> =
            pairs.iter().map(|(words, _)| heartbeats.add(Heartbeat::new(words.alias())).unwrap()).collect();
        let locked = heartbeats.entries[1].beat.lock().unwrap();
        // Nor does it keep others from being added.
        let (words, _peer) = Words::private(3);
        let _more = heartbeats.add(Heartbeat::new(words)).unwrap();
        heartbeats.beat(77);
        let beats: Vec<_> = pairs.iter().map(|(words, _)| words.load(2, Ordering::SeqCst)).collect();
        assert_eq!((beats[0], beats[2]), (77, 77));
        assert_ne!(beats[1], 77);
        drop(locked);
        drop(entries);
    }

    #[test]
    fn there_is_a_place_for_1024_sessions_and_each_is_given_back() {
        let (heartbeats, ..) = activity();
        let (words, _) = Words::private(3);
        for _ in 0..3 {
            let entries: Vec<_> =
                std::iter::from_fn(|| heartbeats.add(Heartbeat::new(words.alias()))).collect();
            assert_eq!(entries.len(), MAX_SESSIONS);
        }
    }

    #[test]
    fn a_watchdog_is_fed_while_both_threads_get_on() {
        let (heartbeats, activity, bell) = activity();
        let (count, deaf) = counting(&heartbeats, Duration::from_millis(100));
        let mut beating = HeartbeatLoop::new(&heartbeats, &activity, Duration::from_millis(10), &bell);
        let mut now = 1_000_000 * MS;
        // The engine's steps are counted for the whole process, other tests' too: work and steps are told apart
        // in the tests of `progress`.
        let mut attached = |ms: u64, change: &dyn Fn(u64)| {
            let before = count.load(Ordering::SeqCst);
            for tick in 0..ms / 10 {
                change(tick);
                now += 10 * MS;
                beating.beat(now);
            }
            count.load(Ordering::SeqCst) - before
        };
        // Idle: one every 50 ms, to have one in each 100.
        assert_eq!(attached(1000, &|_| ()), 20);
        // Observations come and go; the control thread iterates.
        assert_eq!(
            attached(1000, &|tick| (activity.begin(tick + 1), activity.begin_iteration(tick + 1)).0),
            20
        );
        activity.finish();
        // The control thread stays in the same iteration.
        activity.begin_iteration(5);
        assert!(attached(1000, &|_| ()) <= 1);
        activity.end_iteration();
        assert_eq!(attached(1000, &|_| ()), 20);
        // A ping that failed is repeated with the next heartbeat.
        deaf.store(true, Ordering::SeqCst);
        assert!(attached(1000, &|_| ()) > 90);
    }

    #[test]
    fn an_idle_daemon_feeds_its_watchdog_in_time_and_sleeps_without_one() {
        let (heartbeats, activity, bell) = activity();
        let mut beating = HeartbeatLoop::new(&heartbeats, &activity, Duration::from_millis(10), &bell);
        assert_eq!(beating.beat(7 * MS), None);
        let (_count, _) = counting(&heartbeats, Duration::from_millis(100));
        let next = beating.beat(1000 * MS).unwrap();
        assert!(next <= 1050 * MS, "{next}");
        // With a session, or with work in progress, it wakes for the heartbeats.
        activity.begin(1);
        assert_eq!(beating.beat(1000 * MS), Some(1010 * MS));
        activity.finish();
        let (words, _) = Words::private(3);
        let _place = heartbeats.add(Heartbeat::new(words)).unwrap();
        assert_eq!(beating.beat(1000 * MS), Some(1010 * MS));
    }

    #[test]
    fn a_heart_that_was_kept_from_beating_is_a_stall() {
        let (heartbeats, activity, bell) = activity();
        let mut beating = HeartbeatLoop::new(&heartbeats, &activity, Duration::from_millis(10), &bell);
        activity.begin(1);
        for (at, stalls) in [(1000, 0), (1050, 0), (1101, 1), (1110, 1), (2000, 2)] {
            beating.beat(at * MS);
            assert_eq!(activity.stalls(), stalls, "{at}");
        }
        activity.finish();
        beating.beat(2010 * MS);
        // Without a session nobody waits for a heartbeat.
        beating.beat(9000 * MS);
        assert_eq!(activity.stalls(), 2);
    }
}
