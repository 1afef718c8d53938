//! A mutex with priority inheritance, for data shared between real-time threads and others.
//!
//! Under `SCHED_FIFO` a thread that is preempted while it holds a mutex runs again only when all threads above
//! it sleep. A thread that waits for the mutex waits as long, even if it has the highest priority of all. Here
//! the holder runs at the priority of the highest waiter until it unlocks (futex(2), `FUTEX_LOCK_PI`); the
//! mutex is then handed to that waiter, so that a thread that locks it again at once can't be faster.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::futex::{Flags, lock_pi, trylock_pi, unlock_pi};
use rustix::thread::gettid;

use crate::shm::sync::spin_hint;

/// Attempts to lock before the thread sleeps: the mutex is only held for short.
const SPINS: usize = 100;

thread_local!(
    /// The system's number of the thread; 0: not asked for yet.
    static ID: Cell<u32> = const { Cell::new(0) };
);

#[inline]
fn id() -> u32 {
    if ID.get() == 0 {
        ID.set(gettid().as_raw_pid() as u32);
    }
    ID.get()
}

/// A mutex whose holder inherits the priority of its waiters.
#[derive(Default)]
pub(crate) struct PiMutex<T> {
    /// The holder's thread number plus the kernel's flags; 0: unlocked.
    word: AtomicU32,
    /// Only accessed while `word` is held.
    value: UnsafeCell<T>,
}

// SAFETY: one thread at a time has access to the value, as with the standard library's mutex.
unsafe impl<T: Send> Sync for PiMutex<T> {}

impl<T> PiMutex<T> {
    pub const fn new(value: T) -> Self {
        PiMutex { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Locks the mutex, waiting if necessary.
    ///
    /// # Panics
    /// If this thread holds it already, or a thread has ended without unlocking it.
    #[inline]
    pub fn lock(&self) -> PiMutexGuard<'_, T> {
        let id = id();
        if !self.try_take(id) && !self.spin(id) {
            self.wait();
        }
        PiMutexGuard { mutex: self, id, _of_this_thread: PhantomData }
    }

    #[inline]
    fn try_take(&self, id: u32) -> bool {
        self.word.compare_exchange(0, id, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn spin(&self, id: u32) -> bool {
        (0..SPINS).any(|_| {
            spin_hint();
            self.word.load(Ordering::Relaxed) == 0 && self.try_take(id)
        })
    }

    /// Unlocks a mutex that another thread waits for.
    #[cold]
    fn hand_over(&self) {
        // It fails only for a thread that doesn't hold the mutex.
        let _ = unlock_pi(&self.word, Flags::PRIVATE);
    }

    #[cold]
    fn wait(&self) {
        loop {
            match lock_pi(&self.word, Flags::PRIVATE, None) {
                Ok(()) => return,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => panic!("FUTEX_LOCK_PI: {errno}"),
            }
        }
    }
}

/// Checks that the kernel has such mutexes; otherwise it would only show under contention.
///
/// # Errors
/// It has none, or the process may not use them.
pub(super) fn check() -> Result<(), Errno> {
    let word = AtomicU32::new(0);
    trylock_pi(&word, Flags::PRIVATE)?;
    unlock_pi(&word, Flags::PRIVATE)
}

/// Guard of a locked mutex. Dropping it unlocks. The thread that has locked a mutex has to unlock it.
pub(crate) struct PiMutexGuard<'a, T> {
    mutex: &'a PiMutex<T>,
    /// The system's number of the thread.
    id: u32,
    _of_this_thread: PhantomData<*const ()>,
}

impl<T> Deref for PiMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the mutex is locked for as long as the guard lives.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for PiMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and there is one guard.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for PiMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.mutex.word.compare_exchange(self.id, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.mutex.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

    use super::*;

    #[test]
    fn what_many_threads_do_is_done_one_after_the_other() {
        let count = PiMutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| *count.lock() += 1));
            }
        });
        assert_eq!(*count.lock(), 80_000);
        assert_eq!(count.word.load(Ordering::SeqCst), 0);
        check().unwrap();
    }

    #[test]
    fn a_panic_lets_it_go() {
        let value = Arc::new(PiMutex::new(7));
        let other = value.clone();
        let panicked = std::thread::spawn(move || {
            let _locked = other.lock();
            panic!("as it was told");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*value.lock(), 7);
    }

    /// One thread unlocks and locks again without end: the waiters get their turn all the same.
    #[test]
    fn a_waiter_is_next() {
        let (value, stop) = (PiMutex::new(()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _locked = value.lock();
                    (0..200).for_each(|_| spin_hint());
                }
            });
            for _ in 0..200 {
                drop(value.lock());
                std::thread::sleep(Duration::from_micros(100));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// One core for three threads: the lowest holds the mutex, the middle one computes without end, the highest
    /// waits.
    #[test]
    fn a_holder_is_not_kept_from_letting_go_by_threads_below_those_who_wait() {
        let fifo = |priority| {
            let parameters = libc::sched_param { sched_priority: priority };
            // SAFETY: the parameters are there; 0 is the calling thread.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
        };
        if !std::thread::spawn(move || fifo(1)).join().unwrap() {
            return eprintln!("skipped: this user may not use SCHED_FIFO here");
        }
        let core = sched_getcpu();
        let begin = move |priority| {
            let mut cores = CpuSet::new();
            cores.set(core);
            sched_setaffinity(None, &cores).unwrap();
            assert!(fifo(priority));
        };
        let value = PiMutex::new(());
        let [held, wanted, had] = [const { AtomicBool::new(false) }; 3];
        let get = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        let set = |flag: &AtomicBool| flag.store(true, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begin(1);
                let _locked = value.lock();
                set(&held);
                while !get(&wanted) {
                    std::thread::sleep(Duration::from_micros(100));
                }
                // Long enough for the others to arrive.
                (0..100).for_each(|_| std::thread::sleep(Duration::from_micros(50)));
            });
            let middle = scope.spawn(|| {
                begin(2);
                while !get(&wanted) {
                    std::thread::sleep(Duration::from_micros(100));
                }
                // Less than the 0.95 s after which the kernel lets other threads run.
                let end = Instant::now() + Duration::from_millis(700);
                while !get(&had) && Instant::now() < end {
                    spin_hint();
                }
                get(&had)
            });
            scope.spawn(|| {
                begin(3);
                while !get(&held) {
                    std::thread::sleep(Duration::from_micros(100));
                }
                set(&wanted);
                drop(value.lock());
                set(&had);
            });
            assert!(middle.join().unwrap(), "the highest thread waits for the middle one");
        });
    }
}
