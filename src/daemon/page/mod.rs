//! The statistics page: a file beside the socket, `PATH.stats`, with the daemon's state, readable without
//! asking the daemon. It is locked for as long as the daemon lives, and empty until it serves.
//!
//! The page consists of 64-bit little-endian words. The daemon writes all of it at once, ten times a second
//! while there is a session and after each change of the sessions. The same sequence number stands near the
//! beginning and at the end of each part, so that a reader can detect a concurrent write.

mod report;
mod sections;
mod words;

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;

pub use self::report::{LastInvalid, Quota, Report, SessionReport, UserReport};
use self::words::policy_words;
use super::outage::Outage;
use super::{DaemonError, writer_lock};
use crate::control::PolicyDescription;

/// Attempts of a reader that meets concurrent writes.
const TRIES: usize = 8;

/// Why a daemon's report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No daemon serves the socket.
    #[error("no daemon serves {}{}", .socket.display(), match .last { Some(pid) => format!(" (process {pid} did and ended without a word)"), None => String::new() })]
    NoDaemon {
        /// Path of the socket.
        socket: PathBuf,
        /// Process of a daemon that left its page behind.
        last: Option<u32>,
    },
    /// The page can't be read.
    #[error("{}: {error}", .path.display())]
    File {
        /// Path of the page.
        path: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// The page is not in a format known here.
    #[error("{}: {what}", .path.display())]
    Format {
        /// Path of the page.
        path: PathBuf,
        /// Description of the problem.
        what: String,
    },
}

/// Path of a file beside the socket.
pub(super) fn beside(socket: &Path, suffix: &str) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The daemon's side of the statistics page. Dropping it removes the file.
pub(super) struct Page {
    file: File,
    path: PathBuf,
    sequence: u64,
    /// The constant end of each report: the policy's description.
    policy: Vec<u64>,
    words: Vec<u64>,
    bytes: Vec<u8>,
    /// Failing writes are logged once, not ten times a second.
    outage: Outage,
}

impl Page {
    /// Creates the file, empty and locked, for the daemon's user and group. A page left by a crashed daemon is
    /// removed, not overwritten: a process that has it open keeps the old one, and can't touch the new one.
    ///
    /// # Errors
    /// One of the system calls that create the file failed.
    pub fn create(socket: &Path) -> Result<Page, DaemonError> {
        let path = beside(socket, ".stats");
        let error = |call| {
            let path = path.clone();
            move |errno| DaemonError::Socket { path, call, errno }
        };
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(error("remove what a crashed daemon left")(errno)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Nobody else can open it before it is locked.
        let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
        let page = Page {
            file: fd.map_err(error("open statistics"))?.into(),
            path: path.clone(),
            sequence: 0,
            policy: Vec::new(),
            words: Vec::new(),
            bytes: Vec::new(),
            outage: Outage::default(),
        };
        writer_lock::hold(&page.file).map_err(|failed| {
            error("F_OFD_SETLK of statistics")(Errno::from_io_error(&failed).unwrap_or(Errno::IO))
        })?;
        // Independent of the umask.
        rustix::fs::fchmod(&page.file, Mode::from_raw_mode(0o640)).map_err(error("chmod"))?;
        Ok(page)
    }

    /// Sets the group that may read the page, and the policy's description for every report.
    ///
    /// # Errors
    /// This user may not give files to that group.
    pub fn describe(&mut self, group: Option<u32>, policy: &PolicyDescription) -> Result<(), DaemonError> {
        if let Some(group) = group {
            let owned = rustix::fs::fchown(&self.file, None, Some(Gid::from_raw(group)));
            owned.map_err(|errno| DaemonError::Socket { path: self.path.clone(), call: "chown", errno })?;
        }
        self.policy = policy_words(policy);
        Ok(())
    }

    /// Writes a report. A full file system doesn't keep the daemon from serving.
    pub fn write(&mut self, report: &Report) {
        self.sequence += 1;
        report.encode(self.sequence, &self.policy, &mut self.words);
        self.bytes.clear();
        self.bytes.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        if let Some(error) = self.outage.news(self.file.write_all_at(&self.bytes, 0)) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.path);
    }
}

impl Report {
    /// Reads the page of the daemon that serves `socket`, without asking the daemon.
    ///
    /// # Errors
    /// No daemon, or a page that can't be read or decoded.
    pub fn read(socket: &Path) -> Result<Report, ReportError> {
        let path = beside(socket, ".stats");
        let unreadable = |error| ReportError::File { path: path.clone(), error };
        let no_daemon = |last| Err(ReportError::NoDaemon { socket: socket.to_owned(), last });
        let mut page = match File::open(&path) {
            Ok(page) => page,
            Err(missing) if missing.kind() == ErrorKind::NotFound => return no_daemon(None),
            Err(error) => return Err(unreadable(error)),
        };
        let alive = writer_lock::is_held(&page).map_err(unreadable)?;
        let (mut without_policy, mut bytes) = (None, Vec::new());
        for _ in 0..TRIES {
            bytes.clear();
            page.rewind().and_then(|()| page.read_to_end(&mut bytes)).map_err(unreadable)?;
            match Report::decode(&bytes) {
                Ok(report) if !alive => return no_daemon(report.map(|report| report.pid)),
                Ok(None) if bytes.is_empty() => {
                    let what = "empty: the daemon is starting".into();
                    return Err(ReportError::Format { path, what });
                }
                Ok(Some(report)) if report.policy.is_some() => return Ok(report),
                // A daemon of an earlier version, or a session came or went during the write.
                Ok(Some(report)) => without_policy = Some(report),
                Ok(None) => {}
                Err(what) => return Err(ReportError::Format { path, what }),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        without_policy
            .ok_or(ReportError::Format { path, what: "it changes faster than it can be read".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::words::{HEAD_WORDS, SESSION_WORDS};
    use super::*;
    use crate::control::{Dimension, Fault, Guided};
    use crate::shm::{Count, STATS_WORDS, Stats};
    use proptest::prelude::*;

    fn report() -> Report {
        let mut words = [0; STATS_WORDS];
        words[Count::Published as usize] = 7;
        Report {
            pid: 42,
            epoch: 9,
            model: "ü".repeat(100),
            device: "cpu".into(),
            stats: Stats::from_words(&words),
            sessions: vec![
                SessionReport {
                    id: 3,
                    pid: 5,
                    uid: 1000,
                    submitted: 8,
                    prefix_age: 2,
                    guidance: Some(Guided::NotPlayed),
                    ..Default::default()
                };
                2
            ],
            no_progress_ns: Some(11),
            users: vec![user(1000), user(0)],
            last_invalid: Some(LastInvalid {
                session: 3,
                at_ns: 5,
                fault: Fault::ChunkPosition { index: 1, value: -2.5 },
                row: 49,
            }),
            ..Report::default()
        }
    }

    fn policy() -> PolicyDescription {
        let state = vec![Dimension { name: "waist".into(), ..Dimension::default() }; 2];
        PolicyDescription { model: "golden".into(), state_dim: 2, state, ..PolicyDescription::default() }
    }

    fn user(uid: u32) -> UserReport {
        let quota = |has| Quota { has, may_have: has + 1 };
        UserReport {
            uid,
            left_out: 2,
            sessions: quota(3),
            memory: quota(5),
            held: 4,
            silent: quota(7),
            observers: quota(9),
            requests: quota(11),
            instructions: quota(13),
        }
    }

    fn bytes(report: &Report, sequence: u64) -> Vec<u8> {
        let mut words = Vec::new();
        report.encode(sequence, &policy_words(&policy()), &mut words);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_half_a_write_is_not() {
        let new = bytes(&report(), 2);
        let read = Report::decode(&new).unwrap().unwrap();
        assert_eq!((read.pid, read.epoch, read.device.as_str()), (42, 9, "cpu"));
        assert_eq!(read.model, "ü".repeat(63));
        assert_eq!(read.stats.count(Count::Published), 7);
        assert_eq!((&read.sessions, &read.policy), (&report().sessions, &Some(policy())));
        assert_eq!((&read.users, read.no_progress_ns), (&report().users, Some(11)));
        assert_eq!(read.last_invalid, report().last_invalid);
        let old = bytes(&report(), 1);
        for cut in (24..new.len() - 8).step_by(8) {
            let mut mixed = new[..cut].to_vec();
            mixed.extend(&old[cut..]);
            assert!(Report::decode(&mixed).unwrap().is_none(), "{cut}");
        }
        assert!(Report::decode(&new[..100]).unwrap().is_none());
        // A shorter page is followed by the remains of a longer one.
        let mut shorter = bytes(&Report { sessions: vec![], users: vec![user(7)], ..report() }, 3);
        shorter.extend(&new[shorter.len()..]);
        let read = Report::decode(&shorter).unwrap().unwrap();
        assert!(read.sessions.is_empty() && read.policy == Some(policy()) && read.users == [user(7)]);
        // A page without a policy, with and without the remains of a longer one.
        let first = (HEAD_WORDS + STATS_WORDS + 2 * SESSION_WORDS + 1) * 8;
        for left in [&[][..], &[7; 64]] {
            let read = Report::decode(&[&new[..first], left].concat()).unwrap().unwrap();
            assert_eq!((read.pid, read.policy), (42, None));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_report(at in 16usize..5000, value in any::<u64>()) {
            let mut bytes = bytes(&report(), 1);
            let at = at.min(bytes.len() - 8);
            bytes[at / 8 * 8..][..8].copy_from_slice(&value.to_le_bytes());
            let _ = Report::decode(&bytes);
        }
    }
}
