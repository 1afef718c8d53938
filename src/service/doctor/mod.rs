//! Checks of an installation, with remedies for their findings.
//!
//! [`examine`] checks what a daemon with this configuration needs, and the daemon that serves, if one does.
//! It only reads: nothing is sent to the daemon, no card is opened, no file written.

mod checkpoint;
mod configuration;
mod contract;
mod daemon;
mod device;
mod limits;
mod memory;
mod processor;
mod socket;
mod tokenizer;

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{getgroups, getuid};

use super::Source;
use super::config::Config;
use super::failure::{self, LastFailure};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::daemon::{Report, ReportError};
pub use crate::machine::{Check, Verdict};
use crate::machine::{Checks, LOCKS, Root, User, size};

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
struct Scene<'a> {
    probe: &'a Probe,
    config: &'a Config,
    socket: PathBuf,
    /// The daemon's report of itself.
    daemon: Result<Report, ReportError>,
    /// The configured checkpoint as described by headers, processors and profile; `None` if none is
    /// configured.
    checkpoint: Option<Result<Checkpoint, CheckpointError>>,
    /// Size of the checkpoint's weights, bytes; 0 if unknown.
    weights: u64,
}

impl Scene<'_> {
    fn report(&self) -> Option<&Report> {
        self.daemon.as_ref().ok()
    }

    /// An entry of `/proc/meminfo`, converted from kilobytes to bytes.
    fn memory(&self, name: &str) -> Option<u64> {
        let text = self.probe.root.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }
}

/// Runs all checks, in the order in which to fix their findings. A wrong configuration hides the checks
/// that depend on it.
pub fn examine(probe: &Probe, source: &Source) -> Vec<Check> {
    let mut all = Vec::new();
    let config = configuration::look(source, &mut Checks { topic: "configuration", all: &mut all });
    if let Some(config) = config {
        let socket = config.socket();
        let daemon = Report::read(&socket);
        let dir = config.policy.checkpoint.as_deref();
        let weights = dir.map_or(0, checkpoint::weights);
        let checkpoint = dir.map(|dir| Checkpoint::open_with(dir, config.policy.profile.as_deref()));
        let scene = Scene { probe, config: &config, socket, daemon, checkpoint, weights };
        type Topic = (&'static str, fn(&Scene<'_>, &mut Checks<'_>));
        let topics: [Topic; 9] = [
            ("checkpoint", checkpoint::look),
            ("cameras", contract::look_at_cameras),
            ("rate", contract::look_at_rate),
            ("tokenizer", tokenizer::look),
            ("device", device::look),
            ("memory", memory::look),
            ("limits", limits::look),
            ("socket", socket::look),
            ("daemon", daemon::look),
        ];
        for (topic, look) in topics {
            look(&scene, &mut Checks { topic, all: &mut all });
        }
    }
    processor::look(probe, &mut Checks { topic: "processor", all: &mut all });
    all
}

/// True if a finding needs action.
pub fn is_wrong(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict > Verdict::Note)
}
