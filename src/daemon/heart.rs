//! The thread that proves life: it beats the sessions' hearts, watches the other threads, and feeds the
//! service manager's watchdog for as long as they get on.
//!
//! Nothing it does can block: no lock that anybody could hold, no allocation, no file, no log, and no
//! system call but the clock's, its own sleep and one datagram that isn't waited for. Whatever a client makes
//! other threads do, no heartbeat is later than two intervals, unless the machine gives this thread no core.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

use super::vigil::{Suspensions, Vigil};
use super::vitals::Vitals;
use crate::device::steps;
use crate::shm::Beat;
use crate::shm::clock::{boot_ns, now_ns};

/// Sessions that a daemon can have.
pub(super) const MAX_SESSIONS: usize = 1024;
/// Heartbeats that may be late together before that counts as a stall.
const STALL_BEATS: u32 = 5;

/// A sign of life: the hearts beat, the control thread gets on, and the engine has nothing to do or gets on
/// with what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Sessions there are.
    pub sessions: usize,
    /// Chunks published.
    pub chunks: u64,
    /// Median of the time they took, nanoseconds; 0: there was none.
    pub chunk_ns: u64,
}

/// Who is given signs of life, on the thread that beats the hearts: must not block. False: it could not take
/// this one, and is given the next one soon.
pub type Watchdog = Box<dyn FnMut(&Pulse) -> bool + Send>;

/// A watchdog, and when it was given something.
struct Fed {
    dog: Watchdog,
    every: Duration,
    fed_ns: u64,
}

/// What this thread shares with those that open and end sessions.
pub(super) struct Hearts {
    places: Box<[Seat]>,
    /// Places beyond this one were never taken.
    used: AtomicUsize,
    count: AtomicUsize,
    /// To be taken at the next beat.
    watchdog: Mutex<Option<Fed>>,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

/// Room for one session's heart.
#[derive(Default)]
struct Seat {
    taken: AtomicBool,
    /// Locked by whoever has taken it, to put something in or take it out, and by nobody else: a thread that is
    /// kept from running meanwhile holds up no other session's heart. The thread that beats passes over what is
    /// locked: it beat a moment ago, or is over.
    beat: Mutex<Option<Beat>>,
}

/// A session's place among the hearts. Dropping it gives it back.
pub(super) struct Place {
    hearts: Arc<Hearts>,
    index: usize,
}

impl Hearts {
    fn new() -> Hearts {
        Hearts {
            places: (0..MAX_SESSIONS).map(|_| Seat::default()).collect(),
            used: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            watchdog: Mutex::default(),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Has a session's heart beaten. None: there are [`MAX_SESSIONS`].
    pub fn add(self: &Arc<Self>, beat: Beat) -> Option<Place> {
        let free = |seat: &Seat| {
            seat.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let index = self.places.iter().position(free)?;
        beat.beat(now_ns());
        *self.places[index].beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(beat);
        self.used.fetch_max(index + 1, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.wake();
        Some(Place { hearts: self.clone(), index })
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn beat(&self, now_ns: u64) {
        for place in &self.places[..self.used.load(Ordering::SeqCst)] {
            if let Ok(place) = place.beat.try_lock()
                && let Some(beat) = &*place
            {
                beat.beat(now_ns);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = &self.hearts.places[self.index];
        let beat = seat.beat.lock().unwrap_or_else(PoisonError::into_inner).take();
        seat.taken.store(false, Ordering::SeqCst);
        self.hearts.count.fetch_sub(1, Ordering::SeqCst);
        // Here, and not where the place is locked: it may be what a segment is unmapped with.
        drop(beat);
    }
}

/// The thread. It ends when this is dropped.
pub(super) struct Heartbeat {
    pub hearts: Arc<Hearts>,
    pub vitals: Arc<Vitals>,
    thread: Option<JoinHandle<()>>,
    id: Pid,
}

impl Heartbeat {
    /// Starts the thread. `bell`, an eventfd, is rung when there is something for the control thread to see.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(interval: Duration, bell: Arc<OwnedFd>) -> io::Result<Heartbeat> {
        let (hearts, vitals) = (Arc::new(Hearts::new()), Arc::new(Vitals::default()));
        let (to, from) = sync_channel(1);
        let (own, said) = (hearts.clone(), vitals.clone());
        let thread = std::thread::Builder::new().name("heart".into()).spawn(move || {
            let _ = to.send(gettid());
            Beating::new(&own, &said, interval, &bell).run();
        })?;
        let _ = hearts.thread.set(thread.thread().clone());
        let id = from.recv().map_err(io::Error::other)?;
        Ok(Heartbeat { hearts, vitals, thread: Some(thread), id })
    }

    /// The system's number of the thread.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Has signs of life given to a watchdog at least `every` so often.
    pub fn feed(&self, every: Duration, dog: Watchdog) {
        let fed = Fed { dog, every, fed_ns: 0 };
        *self.hearts.watchdog.lock().unwrap_or_else(PoisonError::into_inner) = Some(fed);
        self.hearts.wake();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.hearts.stop.store(true, Ordering::SeqCst);
        self.hearts.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does.
struct Beating<'a> {
    hearts: &'a Hearts,
    vitals: &'a Vitals,
    interval: Duration,
    bell: &'a OwnedFd,
    /// When the hearts beat last; 0: they need not, there was no session.
    beaten_ns: u64,
    inference: Vigil,
    control: Vigil,
    suspensions: Suspensions,
    watchdog: Option<Fed>,
}

impl<'a> Beating<'a> {
    fn new(hearts: &'a Hearts, vitals: &'a Vitals, interval: Duration, bell: &'a OwnedFd) -> Beating<'a> {
        Beating {
            hearts,
            vitals,
            interval,
            bell,
            beaten_ns: 0,
            inference: Vigil::default(),
            control: Vigil::default(),
            suspensions: Suspensions::default(),
            watchdog: None,
        }
    }

    fn run(&mut self) {
        while !self.hearts.stop.load(Ordering::SeqCst) {
            let next = self.beat(now_ns());
            // Woken at once by whoever has unparked it since it looked.
            match next {
                Some(at) => {
                    std::thread::park_timeout(Duration::from_nanos(at.saturating_sub(now_ns())));
                }
                None => std::thread::park(),
            }
        }
    }

    /// One beat of all hearts; when there has to be another one. None: not before there is a session.
    fn beat(&mut self, now: u64) -> Option<u64> {
        self.hearts.beat(now);
        let interval = self.interval.as_nanos() as u64;
        let stall = interval * u64::from(STALL_BEATS);
        if self.beaten_ns > 0 && now.saturating_sub(self.beaten_ns) > stall {
            self.vitals.stalled();
        }
        self.notice_suspensions();
        let still = self.inference.look(now, self.vitals.busy_since_ns(), steps(), stall);
        self.vitals.set_still(still);
        let stuck = self.control.look(now, self.vitals.turn(), 0, stall);
        if still == 0 && stuck == 0 {
            self.feed(now);
        }
        let used = self.hearts.count.load(Ordering::SeqCst) > 0 || self.vitals.is_busy();
        self.beaten_ns = if used { now } else { 0 };
        match &self.watchdog {
            _ if used => Some(now + interval),
            Some(fed) => Some(now + fed.every.as_nanos() as u64 / 4),
            None => None,
        }
    }

    fn notice_suspensions(&mut self) {
        let (before, boot, after) = (now_ns(), boot_ns(), now_ns());
        if self.suspensions.notice(before, boot, after) {
            self.vitals.suspended();
            let _ = rustix::io::write(self.bell, &1u64.to_ne_bytes());
        }
    }

    fn feed(&mut self, now: u64) {
        if let Ok(mut given) = self.hearts.watchdog.try_lock()
            && let Some(fed) = given.take()
        {
            self.watchdog = Some(fed);
        }
        let Some(fed) = &mut self.watchdog else { return };
        if u128::from(now.saturating_sub(fed.fed_ns)) < fed.every.as_nanos() / 2 {
            return;
        }
        let (chunks, chunk_ns) = self.vitals.chunks();
        let sessions = self.hearts.count.load(Ordering::SeqCst);
        if (fed.dog)(&Pulse { sessions, chunks, chunk_ns }) {
            fed.fed_ns = now;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::shm::{Heart, Life, Pulse as Felt, Words};

    const MS: u64 = 1_000_000;

    fn vitals() -> (Arc<Hearts>, Vitals, OwnedFd) {
        (Arc::new(Hearts::new()), Vitals::default(), eventfd(0, EventfdFlags::NONBLOCK).unwrap())
    }

    /// A watchdog that counts, and takes nothing while it is told not to.
    fn counting(hearts: &Hearts, every: Duration) -> (Arc<AtomicU64>, Arc<AtomicBool>) {
        let (count, deaf) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, is_deaf) = (count.clone(), deaf.clone());
        let dog = move |_: &Pulse| {
            counted.fetch_add(1, Ordering::SeqCst);
            !is_deaf.load(Ordering::SeqCst)
        };
        *hearts.watchdog.lock().unwrap() = Some(Fed { dog: Box::new(dog), every, fed_ns: 0 });
        (count, deaf)
    }

    #[test]
    fn hearts_beat_from_when_they_are_added_until_they_are_taken_out() {
        let (hearts, ..) = vitals();
        let (words, peer) = Words::private(3);
        let felt = Felt::new(peer, 1000);
        let place = hearts.add(Beat::new(words.alias())).unwrap();
        let _heart = Heart::new(words, 7);
        assert_eq!(felt.feel(now_ns()), Life::Restarted);
        hearts.beat(5000);
        assert_eq!(felt.feel(6000), Life::Restarted);
        assert_eq!(felt.feel(6001), Life::Gone);
        drop(place);
        hearts.beat(9000);
        assert_eq!(felt.feel(9000), Life::Gone);
        assert_eq!(hearts.count.load(Ordering::SeqCst), 0);
    }

    /// Whoever puts a heart in or takes one out, and is kept from running meanwhile, holds up nobody else's.
    #[test]
    fn a_place_that_is_locked_is_passed_over() {
        let (hearts, ..) = vitals();
        let pairs: Vec<_> = (0..3).map(|_| Words::private(3)).collect();
        let places: Vec<_> =
            pairs.iter().map(|(words, _)| hearts.add(Beat::new(words.alias())).unwrap()).collect();
        let locked = hearts.places[1].beat.lock().unwrap();
        // Nor does it keep others from coming.
        let (words, _peer) = Words::private(3);
        let _more = hearts.add(Beat::new(words)).unwrap();
        hearts.beat(77);
        let beats: Vec<_> = pairs.iter().map(|(words, _)| words.load(2, Ordering::SeqCst)).collect();
        assert_eq!((beats[0], beats[2]), (77, 77));
        assert_ne!(beats[1], 77);
        drop(locked);
        drop(places);
    }

    #[test]
    fn there_is_a_place_for_1024_sessions_and_each_is_given_back() {
        let (hearts, ..) = vitals();
        let (words, _) = Words::private(3);
        for _ in 0..3 {
            let places: Vec<_> = std::iter::from_fn(|| hearts.add(Beat::new(words.alias()))).collect();
            assert_eq!(places.len(), MAX_SESSIONS);
        }
    }

    #[test]
    fn a_watchdog_is_fed_while_both_threads_get_on() {
        let (hearts, vitals, bell) = vitals();
        let (count, deaf) = counting(&hearts, Duration::from_millis(100));
        let mut beating = Beating::new(&hearts, &vitals, Duration::from_millis(10), &bell);
        let mut now = 1_000_000 * MS;
        // The engine's operations are counted for the whole process, other tests' too: only work that does not
        // change and steps that do are told apart in `vigil`.
        let mut fed = |ms: u64, change: &dyn Fn(u64)| {
            let before = count.load(Ordering::SeqCst);
            for tick in 0..ms / 10 {
                change(tick);
                now += 10 * MS;
                beating.beat(now);
            }
            count.load(Ordering::SeqCst) - before
        };
        // Nothing to do: one in 50 ms, to have one in each 100.
        assert_eq!(fed(1000, &|_| ()), 20);
        // Observations come and go; the control thread turns.
        assert_eq!(fed(1000, &|tick| (vitals.begin(tick + 1), vitals.begin_turn(tick + 1)).0), 20);
        vitals.finish();
        // The control thread is at the same for long.
        vitals.begin_turn(5);
        assert!(fed(1000, &|_| ()) <= 1);
        vitals.end_turn();
        assert_eq!(fed(1000, &|_| ()), 20);
        // One that can't take it is asked again with the next beat.
        deaf.store(true, Ordering::SeqCst);
        assert!(fed(1000, &|_| ()) > 90);
    }

    #[test]
    fn an_idle_daemon_feeds_its_watchdog_in_time_and_sleeps_without_one() {
        let (hearts, vitals, bell) = vitals();
        let mut beating = Beating::new(&hearts, &vitals, Duration::from_millis(10), &bell);
        assert_eq!(beating.beat(7 * MS), None);
        let (_count, _) = counting(&hearts, Duration::from_millis(100));
        let next = beating.beat(1000 * MS).unwrap();
        assert!(next <= 1050 * MS, "{next}");
        // With a session, or with something to do, the hearts are what it wakes for.
        vitals.begin(1);
        assert_eq!(beating.beat(1000 * MS), Some(1010 * MS));
        vitals.finish();
        let (words, _) = Words::private(3);
        let _place = hearts.add(Beat::new(words)).unwrap();
        assert_eq!(beating.beat(1000 * MS), Some(1010 * MS));
    }

    #[test]
    fn a_heart_that_was_kept_from_beating_is_a_stall() {
        let (hearts, vitals, bell) = vitals();
        let mut beating = Beating::new(&hearts, &vitals, Duration::from_millis(10), &bell);
        vitals.begin(1);
        for (at, stalls) in [(1000, 0), (1050, 0), (1101, 1), (1110, 1), (2000, 2)] {
            beating.beat(at * MS);
            assert_eq!(vitals.stalls(), stalls, "{at}");
        }
        vitals.finish();
        beating.beat(2010 * MS);
        // Without a session nobody waits for a beat.
        beating.beat(9000 * MS);
        assert_eq!(vitals.stalls(), 2);
    }
}
