//! The inputs of the checks.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{getgroups, getuid};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::daemon::{Report, ReportError};
use crate::machine::{LOCKS, Root, User};
use crate::service::config::Config;
use crate::service::failure::{self, LastFailure};

/// Where the checks look, and for which user.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Root of `/dev`, `/sys`, `/proc`, `/etc` and `/opt`. Paths of the configuration are used as they are.
    pub root: Root,
    /// File of the last failure.
    pub last_failure: PathBuf,
    /// Directory of the cards' lock files.
    pub locks: PathBuf,
    /// The user who wants to connect.
    pub user: User,
    /// Free space below which a file system counts as nearly full, bytes.
    pub least_free: u64,
    /// Time limit for an operation of a chunk, if the daemon sets none.
    pub unlimited: Duration,
}

impl Default for Probe {
    /// This machine and the current user.
    fn default() -> Self {
        let mut gids: Vec<u32> =
            getgroups().unwrap_or_default().into_iter().map(|gid| gid.as_raw()).collect();
        gids.push(rustix::process::getegid().as_raw());
        Self {
            root: Root::default(),
            last_failure: LastFailure::path().unwrap_or_else(|| failure::DEFAULT_PATH.into()),
            locks: LOCKS.into(),
            user: User { uid: getuid().as_raw(), gids },
            least_free: 256 << 20,
            unlimited: crate::daemon::health::UNLIMITED,
        }
    }
}

/// The inputs of all topics.
pub(super) struct Scene<'a> {
    pub probe: &'a Probe,
    pub config: &'a Config,
    pub socket: PathBuf,
    /// The daemon's report of itself.
    pub daemon: Result<Report, ReportError>,
    /// The configured checkpoint as described by headers, processors and profile; `None` if none is
    /// configured.
    pub checkpoint: Option<Result<Checkpoint, CheckpointError>>,
    /// Size of the checkpoint's weights, bytes; 0 if unknown.
    pub weights: u64,
}

impl Scene<'_> {
    pub fn report(&self) -> Option<&Report> {
        self.daemon.as_ref().ok()
    }

    /// An entry of `/proc/meminfo`, converted from kilobytes to bytes.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = self.probe.root.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }
}
