//! Control of a running daemon from other threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::DaemonError;
use super::mutex::PiMutex;

/// Limits that may change while a daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Age of an observation, ns, beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Maximum number of sessions. A lower limit ends no open session.
    pub max_clients: usize,
    /// Maximum length of all sessions' segments together, bytes.
    pub max_memory: u64,
    /// Quotas of each user.
    pub per_user: PerUser,
    /// Time without progress in a chunk after which the device counts as lost; None: no limit.
    pub hang_after: Option<Duration>,
}

/// Quotas of one user. None: three quarters of what all other users leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerUser {
    /// Maximum number of sessions.
    pub clients: Option<u64>,
    /// Maximum shared memory, bytes.
    pub memory: Option<u64>,
    /// Maximum number of pending handshakes, and of observers.
    pub connections: Option<u64>,
    /// Maximum number of requests waiting.
    pub requests: Option<u64>,
    /// Maximum number of instructions registered.
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

/// A handle that stops or reconfigures a daemon, from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Commands>);

struct Commands {
    /// An eventfd, readable when there is a command.
    bell: OwnedFd,
    stop: AtomicBool,
    limits: PiMutex<Option<Limits>>,
}

impl Handle {
    /// # Errors
    /// The process has no more descriptors.
    pub fn new() -> Result<Handle, DaemonError> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|errno| DaemonError::System { call: "eventfd", errno })?;
        Ok(Handle(Arc::new(Commands { bell, stop: AtomicBool::new(false), limits: PiMutex::new(None) })))
    }

    /// Stops the daemon: the request in flight is completed, then [`Daemon::run`](super::Daemon::run) returns.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.ring();
    }

    /// Sets new limits.
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

    /// Takes the pending commands: whether to stop, and new limits.
    pub(super) fn take(&self) -> (bool, Option<Limits>) {
        let _ = rustix::io::read(&self.0.bell, &mut [0; 8]);
        let limits = self.0.limits.lock().take();
        (self.0.stop.load(Ordering::Acquire), limits)
    }
}
