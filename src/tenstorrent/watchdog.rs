//! Notices a call that does not return.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread that calls a handler when an armed deadline passes.
///
/// One call at a time is watched: [`arm`](Self::arm) the watchdog, and drop the returned guard when the
/// call has returned. Arming takes a lock and does not allocate; the thread is woken only if it would
/// otherwise sleep past the deadline. Expiry is decided under the same lock: once a guard has been dropped,
/// its deadline never fires. Dropping the watchdog ends and joins its thread.
///
/// ```
/// # use std::{sync::mpsc, time::Duration};
/// let (lost, seen) = mpsc::channel();
/// let watchdog = pi0rt::tenstorrent::Watchdog::new(move |what| lost.send(what).unwrap())?;
/// drop(watchdog.arm("a call that returns", Duration::from_secs(60)));
/// let _guard = watchdog.arm("a call that doesn't", Duration::from_millis(1));
/// assert_eq!(seen.recv().unwrap(), "a call that doesn't");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    armed: Option<Deadline>,
    /// The time until which the thread sleeps; `None` if until it is woken.
    waking: Option<Instant>,
    end: bool,
}

#[derive(Clone, Copy)]
struct Deadline {
    what: &'static str,
    at: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watched call. Dropping it disarms the watchdog.
#[must_use = "the call is watched as long as this lives"]
pub struct Armed<'a>(&'a Watchdog);

impl Watchdog {
    /// Starts the thread. It calls `expired` with the name of each call that overruns; meanwhile arming and
    /// disarming wait, so it should do little: mark the device lost, log, end the process.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub fn new(expired: impl FnMut(&'static str) + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let watched = shared.clone();
        let thread =
            std::thread::Builder::new().name("watchdog".into()).spawn(move || watch(&watched, expired))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Watches a call that should return within `limit`, from now until the returned guard is dropped.
    ///
    /// # Panics
    /// If a call is being watched already.
    pub fn arm(&self, what: &'static str, limit: Duration) -> Armed<'_> {
        let mut state = self.shared.lock();
        assert!(state.armed.is_none(), "the watchdog watches one call at a time");
        // A limit beyond the clock's range is none.
        state.armed = Instant::now().checked_add(limit).map(|at| Deadline { what, at });
        if let Some(Deadline { at, .. }) = state.armed
            && state.waking.is_none_or(|waking| at < waking)
        {
            self.shared.changed.notify_one();
        }
        Armed(self)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.shared.lock().armed = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The handler may have panicked; nothing is left to report it to.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, mut expired: impl FnMut(&'static str)) {
    let mut state = shared.lock();
    while !state.end {
        let now = Instant::now();
        match state.armed {
            Some(Deadline { what, at }) if at <= now => {
                state.armed = None;
                expired(what);
            }
            armed => {
                // Nothing armed: keep sleeping until the last deadline, so that the next call, whose
                // deadline is later, need not wake this thread.
                state.waking = armed.map(|d| d.at).or(state.waking.filter(|&at| at > now));
                state = match state.waking {
                    Some(at) => {
                        let wait = shared.changed.wait_timeout(state, at - now);
                        wait.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn watchdog() -> (Watchdog, Receiver<&'static str>) {
        let (sender, receiver) = channel();
        (Watchdog::new(move |what| sender.send(what).unwrap()).unwrap(), receiver)
    }

    #[test]
    fn a_call_that_blocks_is_noticed_while_it_blocks() {
        let (watchdog, expired) = watchdog();
        let guard = watchdog.arm("read", Duration::from_millis(5));
        // The blocking call that only the watchdog ends.
        assert_eq!(expired.recv(), Ok("read"));
        drop(guard);
        let _again = watchdog.arm("write", Duration::from_millis(5));
        assert_eq!(expired.recv(), Ok("write"));
    }

    #[test]
    fn a_call_that_returned_never_fires_late() {
        let (watchdog, expired) = watchdog();
        for _ in 0..2000 {
            // Long enough to be disarmed in time or short enough to fire: either way, nothing may fire
            // after the guard has been dropped.
            let guard = watchdog.arm("short", Duration::from_micros(20));
            drop(guard);
            while expired.try_recv().is_ok() {}
            assert!(watchdog.shared.lock().armed.is_none());
            assert!(expired.try_recv().is_err(), "fired after it was disarmed");
        }
    }

    #[test]
    fn a_shorter_deadline_wakes_a_thread_that_sleeps_towards_a_later_one() {
        let (watchdog, expired) = watchdog();
        drop(watchdog.arm("long", Duration::from_secs(3600)));
        let _guard = watchdog.arm("short", Duration::from_millis(1));
        assert_eq!(expired.recv(), Ok("short"));
    }

    #[test]
    fn dropping_it_ends_its_thread() {
        let (watchdog, expired) = watchdog();
        drop(watchdog.arm("call", Duration::from_secs(3600)));
        let shared = watchdog.shared.clone();
        drop(watchdog);
        assert_eq!(Arc::strong_count(&shared), 1, "the thread is gone");
        assert!(expired.recv().is_err(), "and its handler with it, never called");
    }

    #[test]
    fn a_limit_beyond_all_clocks_is_none() {
        let (watchdog, expired) = watchdog();
        drop(watchdog.arm("forever", Duration::MAX));
        drop(watchdog);
        assert!(expired.recv().is_err());
    }

    #[test]
    #[should_panic(expected = "one call at a time")]
    fn two_calls_at_once_are_a_mistake() {
        let (watchdog, _expired) = watchdog();
        let _one = watchdog.arm("one", Duration::from_secs(3600));
        let _two = watchdog.arm("two", Duration::from_secs(3600));
    }
}
