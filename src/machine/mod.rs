//! The machine: its files, its users, its faults, and the telemetry of its cards.

mod check;
mod telemetry;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use check::{Check, Checks, Verdict};
pub use telemetry::Telemetry;

/// Directory of lock files.
pub const LOCKS: &str = "/run/lock";

/// The root directory below which `/dev`, `/sys`, `/proc`, `/etc` and `/opt` are read.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::at("/")
    }
}

impl Root {
    /// A root at another directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A path below this root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// The trimmed text of a file, if it can be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_string())
    }

    /// The name of a user or group id in `etc/passwd` or `etc/group`.
    pub fn named(&self, file: &str, id: u32) -> String {
        let text = self.text(file).unwrap_or_default();
        let entry = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let mut names = entry.filter(|e| e.get(2).and_then(|n| n.parse().ok()) == Some(id)).map(|e| e[0]);
        names.next().map_or_else(|| id.to_string(), str::to_string)
    }
}

/// A user and its groups, to check another user's access (that of a service).
#[derive(Clone, Debug)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group ids.
    pub gids: Vec<u32>,
}

impl User {
    /// True if the user has all these permissions on a file: 4 read, 2 write, 1 execute or search.
    pub fn may(&self, file: &fs::Metadata, what: u32) -> bool {
        let shift = if file.uid() == self.uid {
            6
        } else if self.gids.contains(&file.gid()) {
            3
        } else {
            0
        };
        self.uid == 0 || file.mode() >> shift & what == what
    }
}

/// Free bytes of the file system at `path` for users other than root.
pub fn free(path: &Path) -> Option<u64> {
    let fs = rustix::fs::statvfs(path).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Formats a number of bytes for people.
pub fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
