//! Threads that share the jobs of one operation at a time.
//!
//! Jobs are claimed from one counter, so a thread that is slow or not running takes fewer of them
//! and nobody waits for it to turn up. Between operations threads look for work for a bounded time
//! and then sleep; the thread that calls [`Pool::run`] works too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use crossbeam_utils::CachePadded;
use rustix::thread::{CpuSet, Pid, futex, gettid, sched_setaffinity};

use crate::device::DeviceError;

/// Looks at the counter before a thread sleeps: some 50 µs.
const SPINS: usize = 2000;

struct Shared {
    /// Number of the operation in the upper half, jobs nobody has claimed in the lower.
    ticket: CachePadded<AtomicU64>,
    /// Jobs finished; what the caller sleeps on.
    done: CachePadded<AtomicU32>,
    /// Number of the operation; what workers sleep on.
    epoch: AtomicU32,
    // The operation. Only who holds a claim on one of its jobs reads these: until that job is done
    // the operation can't be replaced.
    jobs: AtomicUsize,
    call: AtomicPtr<()>,
    data: AtomicPtr<()>,
    sleepers: AtomicU32,
    waiting: AtomicBool,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// Calls the closure behind `data`.
type Call = unsafe fn(*const (), usize, usize);

impl Shared {
    /// Claims and runs jobs until none is left; the number of the last operation seen.
    fn work(&self, thread: usize) -> u32 {
        let mut ticket = self.ticket.load(Ordering::SeqCst);
        loop {
            let left = ticket as u32;
            if left == 0 {
                return (ticket >> 32) as u32;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {}
                Err(now) => {
                    ticket = now;
                    continue;
                }
            }
            let jobs = self.jobs.load(Ordering::Acquire);
            let data = self.data.load(Ordering::Acquire);
            // SAFETY: `run` stored a `Call` there before it published the ticket just claimed.
            let call: Call = unsafe { std::mem::transmute(self.call.load(Ordering::Acquire)) };
            // SAFETY: `run` returns, and so ends the closure's life, only after all jobs are done.
            let ran = catch_unwind(AssertUnwindSafe(|| unsafe { call(data, jobs - left as usize, thread) }));
            if ran.is_err() {
                self.panicked.store(true, Ordering::SeqCst);
            }
            let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
            if done as usize == jobs && self.waiting.load(Ordering::SeqCst) {
                let _ = futex::wake(&self.done, futex::Flags::PRIVATE, 1);
            }
            ticket = self.ticket.load(Ordering::SeqCst);
        }
    }

    /// Runs jobs until the pool ends.
    fn serve(&self, thread: usize) {
        while !self.stop.load(Ordering::SeqCst) {
            let seen = self.work(thread);
            let mut spins = 0;
            while self.epoch.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
                if spins < SPINS {
                    spins += 1;
                    std::hint::spin_loop();
                } else {
                    self.sleepers.fetch_add(1, Ordering::SeqCst);
                    let _ = futex::wait(&self.epoch, futex::Flags::PRIVATE, seen, None);
                    self.sleepers.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }
    }
}

/// A number of threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    ids: Vec<Pid>,
    /// Number of the last operation. A cell, so that only one thread at a time can run operations.
    epoch: Cell<u32>,
}

impl Pool {
    /// Starts `threads - 1` workers. Worker `i` is pinned to core `pin[i]`; `pin[0]` is the
    /// caller's, who may do the same with [`pin`].
    pub fn new(threads: usize, pin_to: &[usize]) -> Result<Self, DeviceError> {
        let shared = Arc::new(Shared {
            ticket: CachePadded::new(AtomicU64::new(0)),
            done: CachePadded::new(AtomicU32::new(0)),
            epoch: AtomicU32::new(0),
            jobs: AtomicUsize::new(0),
            call: AtomicPtr::new(std::ptr::null_mut()),
            data: AtomicPtr::new(std::ptr::null_mut()),
            sleepers: AtomicU32::new(0),
            waiting: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new(), ids: Vec::new(), epoch: Cell::new(0) };
        let (to, ids) = sync_channel(threads);
        for thread in 1..threads {
            let (shared, core) = (Arc::clone(&pool.shared), pin_to.get(thread).copied());
            let to = to.clone();
            let worker = std::thread::Builder::new()
                .name(format!("pi0rt-cpu-{thread}"))
                .spawn(move || {
                    let _ = to.send(gettid());
                    drop(to);
                    if let Some(core) = core {
                        pin(core);
                    }
                    shared.serve(thread);
                })
                .map_err(|e| DeviceError::Unsupported {
                    what: format!("{threads} threads"),
                    device: "cpu".into(),
                    why: e.to_string(),
                })?;
            pool.workers.push(worker);
        }
        drop(to);
        pool.ids = ids.iter().collect();
        Ok(pool)
    }

    /// The system's numbers of the threads, without the caller's.
    pub fn workers(&self) -> &[Pid] {
        &self.ids
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(job, thread)` for every job, on any thread, and returns when all are done.
    pub fn run<F: Fn(usize, usize) + Sync>(&self, jobs: usize, f: F) -> Result<(), DeviceError> {
        /// # Safety
        /// `data` is a live `F`.
        unsafe fn call<F: Fn(usize, usize)>(data: *const (), job: usize, thread: usize) {
            // SAFETY: as the caller vouches.
            unsafe { (*data.cast::<F>())(job, thread) }
        }
        if jobs == 0 {
            return Ok(());
        }
        if jobs == 1 || self.workers.is_empty() {
            (0..jobs).for_each(|job| f(job, 0));
            return Ok(());
        }
        let shared = &*self.shared;
        shared.jobs.store(jobs, Ordering::Release);
        shared.call.store(call::<F> as Call as *mut (), Ordering::Release);
        shared.data.store((&raw const f).cast::<()>().cast_mut(), Ordering::Release);
        shared.done.store(0, Ordering::SeqCst);
        let epoch = self.epoch.get().wrapping_add(1);
        self.epoch.set(epoch);
        // Jobs are counted in 32 bits: a matrix would need billions of rows to have more.
        shared.ticket.store(u64::from(epoch) << 32 | jobs as u32 as u64, Ordering::SeqCst);
        shared.epoch.store(epoch, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _ = futex::wake(&shared.epoch, futex::Flags::PRIVATE, i32::MAX as u32);
        }
        shared.work(0);
        let mut spins = 0;
        loop {
            let done = shared.done.load(Ordering::SeqCst);
            if done as usize == jobs {
                break;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                shared.waiting.store(true, Ordering::SeqCst);
                if shared.done.load(Ordering::SeqCst) == done {
                    let _ = futex::wait(&shared.done, futex::Flags::PRIVATE, done, None);
                }
            }
        }
        shared.waiting.store(false, Ordering::SeqCst);
        if shared.panicked.swap(false, Ordering::SeqCst) {
            return Err(DeviceError::Lost("a kernel panicked".into()));
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.store(self.epoch.get().wrapping_add(1), Ordering::SeqCst);
        let _ = futex::wake(&self.shared.epoch, futex::Flags::PRIVATE, i32::MAX as u32);
        for worker in self.workers.drain(..) {
            // Workers catch panics.
            let _ = worker.join();
        }
    }
}

/// Pins the calling thread to `core`.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    if let Err(e) = sched_setaffinity(None, &set) {
        log::warn!("core {core}: could not pin a thread to it: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads, &[]).unwrap();
            for jobs in [0, 1, 2, 7, 100, 1000] {
                for _ in 0..50 {
                    let ran: Vec<AtomicUsize> = (0..jobs).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(jobs, |job, thread| {
                        assert!(thread < threads);
                        ran[job].fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
                    assert!(ran.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{threads} {jobs}");
                }
            }
        }
    }

    #[test]
    fn work_after_sleep_is_done() {
        let pool = Pool::new(3, &[]).unwrap();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(64, |job, _| {
                sum.fetch_add(job, Ordering::Relaxed);
            })
            .unwrap();
            assert_eq!(sum.into_inner(), 63 * 32);
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_lives() {
        let pool = Pool::new(2, &[]).unwrap();
        assert!(matches!(pool.run(9, |job, _| assert_ne!(job, 4)), Err(DeviceError::Lost(_))));
        assert!(pool.run(9, |_, _| ()).is_ok());
    }
}
