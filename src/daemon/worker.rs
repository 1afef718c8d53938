//! A worker thread for jobs that would block the control thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mutex::PiMutex;

/// How long dropping a worker waits for its thread. A thread stuck in a system call is left to the end of the
/// process.
const PATIENCE: Duration = Duration::from_secs(2);

/// A thread that does one job after the other.
pub(super) struct Worker<Job, Done> {
    queues: Arc<Queues<Job, Done>>,
    thread: Option<JoinHandle<()>>,
}

/// Queues of jobs and results. Locked for a push or a pop, never during a job: the control thread has the
/// higher priority.
struct Queues<Job, Done> {
    jobs: PiMutex<Jobs<Job>>,
    done: PiMutex<VecDeque<Done>>,
}

struct Jobs<Job> {
    waiting: VecDeque<Job>,
    stopping: bool,
}

impl<Job: Send + 'static, Done: Send + 'static> Worker<Job, Done> {
    /// Starts the thread. `bell`, an eventfd, is written to after each job that has a result.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(
        name: &str,
        bell: Arc<OwnedFd>,
        mut work: impl FnMut(Job) -> Option<Done> + Send + 'static,
    ) -> io::Result<Self> {
        let jobs = PiMutex::new(Jobs { waiting: VecDeque::new(), stopping: false });
        let queues = Arc::new(Queues { jobs, done: PiMutex::default() });
        let own = queues.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(job) = own.next() {
                if let Some(done) = work(job) {
                    own.done.lock().push_back(done);
                    let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
                }
            }
        })?;
        Ok(Worker { queues, thread: Some(thread) })
    }

    /// Queues a job behind those submitted before.
    pub fn submit(&self, job: Job) {
        self.queues.jobs.lock().waiting.push_back(job);
        self.wake();
    }

    /// Takes a result, in the order of the jobs.
    pub fn take(&self) -> Option<Done> {
        self.queues.done.lock().pop_front()
    }
}

impl<Job, Done> Worker<Job, Done> {
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl<Job, Done> Queues<Job, Done> {
    /// Waits for a job; None: there won't be any more.
    fn next(&self) -> Option<Job> {
        loop {
            let mut jobs = self.jobs.lock();
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.stopping {
                return None;
            }
            drop(jobs);
            // Returns at once if a job was submitted since.
            std::thread::park();
        }
    }
}

impl<Job, Done> Drop for Worker<Job, Done> {
    fn drop(&mut self) {
        self.queues.jobs.lock().stopping = true;
        self.wake();
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            if Instant::now() >= end {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}
