//! What is wrong with an installation, and how to mend it.
//!
//! [`examine`] looks at what a daemon with this configuration needs, and at the daemon that serves, if one does.
//! It only reads: nothing is sent to the daemon, no card is opened, no file written.

mod cache;
mod card;
mod checkpoint;
mod configuration;
mod daemon;
mod limits;
mod memory;
mod processor;
mod socket;

use std::path::{Path, PathBuf};

use rustix::process::{getgroups, getuid};

use super::Source;
use super::config::Config;
use super::failure::{self, LastFailure};
use crate::daemon::{Report, ReportError};
use crate::tenstorrent::DeviceLock;
use crate::tenstorrent::preflight::{Root, User};

pub use crate::tenstorrent::preflight::Severity;

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `socket`, `checkpoint` and so on.
    pub topic: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, with path or process.
    pub what: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

/// Where to look, and for whom.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Where `/dev`, `/sys`, `/proc`, `/etc` and `/opt` are. Paths of the configuration are taken as they are.
    pub root: Root,
    /// The record of the last failure.
    pub last_failure: PathBuf,
    /// Directory of the cards' locks.
    pub locks: PathBuf,
    /// Who wants to connect.
    pub user: User,
    /// Free bytes below which a file system counts as nearly full.
    pub least_free: u64,
}

impl Default for Probe {
    /// This machine, and the user who asks.
    fn default() -> Self {
        let mut gids: Vec<u32> =
            getgroups().unwrap_or_default().into_iter().map(|gid| gid.as_raw()).collect();
        gids.push(rustix::process::getegid().as_raw());
        Self {
            root: Root::default(),
            last_failure: LastFailure::path().unwrap_or_else(|| failure::DEFAULT_PATH.into()),
            locks: DeviceLock::DIR.into(),
            user: User { uid: getuid().as_raw(), gids },
            least_free: 256 << 20,
        }
    }
}

/// What the topics look at.
struct Scene<'a> {
    probe: &'a Probe,
    config: &'a Config,
    socket: PathBuf,
    /// What the daemon says of itself.
    daemon: Result<Report, ReportError>,
    /// Bytes of the checkpoint's weights; 0: unknown.
    weights: u64,
}

impl Scene<'_> {
    fn report(&self) -> Option<&Report> {
        self.daemon.as_ref().ok()
    }

    /// A number of kilobytes that `/proc/meminfo` gives, in bytes.
    fn memory(&self, name: &str) -> Option<u64> {
        let text = self.probe.root.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }
}

/// Findings of one topic.
struct Findings<'a> {
    topic: &'static str,
    all: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), remedy.into());
        self.all.push(Finding { topic: self.topic, severity, what, remedy });
    }

    fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, what, remedy);
    }

    fn warn(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, what, remedy);
    }

    fn note(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Note, what, remedy);
    }
}

/// Looks at everything, in the order in which to mend it. A configuration that is wrong hides what depends on it.
pub fn examine(probe: &Probe, source: &Source) -> Vec<Finding> {
    let mut all = Vec::new();
    let config = configuration::look(source, &mut Findings { topic: "configuration", all: &mut all });
    if let Some(config) = config {
        let socket = config.socket();
        let daemon = Report::read(&socket);
        let weights = config.policy.checkpoint.as_deref().map_or(0, checkpoint::weights);
        let scene = Scene { probe, config: &config, socket, daemon, weights };
        type Topic = (&'static str, fn(&Scene<'_>, &mut Findings<'_>));
        let topics: [Topic; 8] = [
            ("checkpoint", checkpoint::look),
            ("tokenizer", checkpoint::look_at_tokenizer),
            ("weight cache", cache::look),
            ("card", card::look),
            ("memory", memory::look),
            ("limits", limits::look),
            ("socket", socket::look),
            ("daemon", daemon::look),
        ];
        for (topic, look) in topics {
            look(&scene, &mut Findings { topic, all: &mut all });
        }
    }
    processor::look(probe, &mut Findings { topic: "processor", all: &mut all });
    all
}

/// Whether somebody has to do something.
pub fn is_wrong(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity > Severity::Note)
}

/// Free bytes of the file system that a path is on, for those who aren't root.
fn free(path: &Path) -> Option<u64> {
    let fs = rustix::fs::statvfs(path).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
