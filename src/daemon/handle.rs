//! What steers a running daemon.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::DaemonError;
use super::mutex::PiMutex;

/// What may change while a daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Age of an observation beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Most clients at a time. Those there are stay.
    pub max_clients: usize,
    /// Most bytes of all clients' segments together.
    pub max_memory: u64,
    /// What each user may have of what all may.
    pub per_user: PerUser,
    /// Time without progress in a chunk after which the device is lost; None: no limit.
    pub hang_after: Option<Duration>,
}

/// Most that the clients of one user may have together. None: three quarters of what all other users leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerUser {
    /// Sessions.
    pub clients: Option<u64>,
    /// Bytes of shared memory.
    pub memory: Option<u64>,
    /// Connections that have not said hello, and as many observers.
    pub connections: Option<u64>,
    /// Requests that wait.
    pub requests: Option<u64>,
    /// Instructions that are kept.
    pub instructions: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_age_ns: 0,
            max_clients: 24,
            max_memory: 1 << 30,
            per_user: PerUser::default(),
            hang_after: None,
        }
    }
}

/// Steers a daemon, from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Commands>);

struct Commands {
    /// Readable: there is an order.
    bell: OwnedFd,
    stop: AtomicBool,
    limits: PiMutex<Option<Limits>>,
}

impl Handle {
    /// # Errors
    /// No more descriptors.
    pub fn new() -> Result<Handle, DaemonError> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|errno| DaemonError::System { call: "eventfd", errno })?;
        Ok(Handle(Arc::new(Commands { bell, stop: AtomicBool::new(false), limits: PiMutex::new(None) })))
    }

    /// The request in flight is answered, then [`Daemon::run`](super::Daemon::run) returns.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.ring();
    }

    /// Other limits from now on.
    pub fn limit(&self, limits: Limits) {
        *self.0.limits.lock() = Some(limits);
        self.ring();
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    /// The orders since the last call: whether to stop, new limits.
    pub(super) fn take(&self) -> (bool, Option<Limits>) {
        let _ = rustix::io::read(&self.0.bell, &mut [0; 8]);
        let limits = self.0.limits.lock().take();
        (self.0.stop.load(Ordering::Acquire), limits)
    }
}
