//! The last failure of a daemon, kept in a file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Path of the file when the daemon runs as the installed service.
pub const DEFAULT_PATH: &str = "/var/lib/pi0rt/last-failure";

/// The failure that ended a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// Time of the failure.
    pub at: SystemTime,
    /// Process id of the daemon.
    pub pid: u32,
    /// The reason in one line: the daemon's error, or what the next daemon found.
    pub reason: String,
}

impl LastFailure {
    /// A failure at the current time.
    pub fn now(pid: u32, reason: &str) -> Self {
        Self { at: SystemTime::now(), pid, reason: reason.lines().collect::<Vec<_>>().join("; ") }
    }

    /// Describes the failure in one line.
    pub fn line(&self) -> String {
        let ago = SystemTime::now().duration_since(self.at).unwrap_or_default().as_secs();
        format!("{} ago, of process {}: {}", rounded(ago), self.pid, self.reason)
    }

    /// Path of this daemon's file in the service manager's state directory; `None` if there is none.
    pub fn path() -> Option<PathBuf> {
        let directories = std::env::var_os("STATE_DIRECTORY")?;
        // Several directories are separated by colons.
        let first = directories.to_str()?.split(':').next()?;
        (!first.is_empty()).then(|| Path::new(first).join("last-failure"))
    }

    /// Writes the file, replacing the previous failure.
    ///
    /// # Errors
    /// If the file can't be written; the previous failure is then still there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let seconds = self.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let text = format!("time={seconds}\nprocess={}\nreason={}\n", self.pid, self.reason);
        super::replace::replace(path, &text)
    }

    /// Reads the file; `None` if there is no failure.
    ///
    /// # Errors
    /// If the file can't be read, or has another format.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let parsed = (|| {
            let seconds = value("time")?.parse().ok()?;
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
            Some(Self { at, pid: value("process")?.parse().ok()?, reason: value("reason")?.to_owned() })
        })();
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "expected time=, process= and reason=");
        parsed.map(Some).ok_or_else(wrong)
    }
}

/// Formats a duration in a suitable unit.
fn rounded(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_replaces_what_was() {
        let path = std::env::temp_dir().join(format!("pi0rt-last-failure-{}", std::process::id()));
        assert_eq!(LastFailure::read(&path).unwrap(), None);
        for reason in ["device lost: a\nb", "second"] {
            LastFailure::now(7, reason).write(&path).unwrap();
            let read = LastFailure::read(&path).unwrap().unwrap();
            assert_eq!((read.pid, read.reason), (7, reason.replace('\n', "; ")));
            assert!(read.at.elapsed().unwrap() < Duration::from_secs(3600));
        }
        std::fs::write(&path, "time=x\nprocess=1\nreason=\n").unwrap();
        assert_eq!(LastFailure::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn how_long_ago_it_was_is_said_in_a_unit_that_fits() {
        for (seconds, words) in [
            (119, "119 s"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(rounded(seconds), words);
        }
    }
}
