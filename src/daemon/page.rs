//! The statistics page: a file beside the socket, `PATH.stats`, with the daemon's state, readable without
//! asking the daemon. It is locked for as long as the daemon lives, and empty until it serves.
//!
//! The page consists of 64-bit little-endian words. The daemon writes all of it at once, ten times a second
//! while there is a session and after each change of the sessions. The same sequence number stands near the
//! beginning and at the end of each part, so that a reader can detect a concurrent write.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;

use super::accounts::{Resource, UserUsage};
use super::outage::Outage;
use super::{DaemonError, writer_lock};
use crate::control::codec::{Reader, Writer};
use crate::control::{FEATURE_CONTRACT, Fault, Guided, PolicyDescription, beginning};
use crate::shm::{STATS_WORDS, Stats};

/// Magic number of the page: the bytes `PI0RSTAT`.
const MAGIC: u64 = u64::from_le_bytes(*b"PI0RSTAT");
const FORMAT: u64 = 1;
/// Magic number of the policy's description, after the first version's page: the bytes `PI0RPLCY`.
const POLICY: u64 = u64::from_le_bytes(*b"PI0RPLCY");
/// Magic number of the engine's progress: the bytes `PI0RWORK`.
const WORK: u64 = u64::from_le_bytes(*b"PI0RWORK");
/// Magic number of the users' accounts: the bytes `PI0RUSER`.
const USERS: u64 = u64::from_le_bytes(*b"PI0RUSER");
/// Magic number of the last invalid chunk: the bytes `PI0RINVL`.
const INVALID: u64 = u64::from_le_bytes(*b"PI0RINVL");
/// Words of a user's account: its number, records left out of the log, and six quotas of two words.
const USER_WORDS: usize = 16;
const NAME_WORDS: usize = 16;
const HEAD_WORDS: usize = 16 + 2 * NAME_WORDS;
const SESSION_WORDS: usize = 8;
/// Attempts of a reader that meets concurrent writes.
const TRIES: usize = 8;

/// State of a daemon, as its statistics page has it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Process of the daemon.
    pub pid: u32,
    /// Number of this run of the daemon: changes with every restart.
    pub epoch: u64,
    /// True if the daemon is about to end.
    pub stopping: bool,
    /// When this report was written, CLOCK_MONOTONIC, ns.
    pub written_ns: u64,
    /// When the daemon began to serve, CLOCK_MONOTONIC, ns.
    pub ready_ns: u64,
    /// Maximum number of sessions.
    pub max_clients: u64,
    /// Time between two heartbeats, ns.
    pub heartbeat_ns: u64,
    /// Age of an observation, ns, beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// When the chunk in progress was begun, CLOCK_MONOTONIC, ns; 0: none is.
    pub busy_since_ns: u64,
    /// For how long the engine has made no progress, ns; None: the daemon is of an earlier version.
    pub no_progress_ns: Option<u64>,
    /// Time without progress, ns, after which the device counts as lost; 0: no limit.
    pub hang_after_ns: u64,
    /// Length of the sessions' segments, bytes.
    pub memory: u64,
    /// Maximum length of the sessions' segments, bytes.
    pub max_memory: u64,
    /// Name of the checkpoint.
    pub model: String,
    /// Name of the device it runs on.
    pub device: String,
    /// Description of the policy for clients; None: the daemon is of an earlier version.
    pub policy: Option<PolicyDescription>,
    /// Counters and latencies of all sessions since the daemon began to serve.
    pub stats: Stats,
    /// Reports of all open sessions.
    pub sessions: Vec<SessionReport>,
    /// Reports of all users that have anything; empty for a daemon of an earlier version.
    pub users: Vec<UserReport>,
    /// The last chunk that was not published because of its values; None: there was none, or the daemon is of an
    /// earlier version.
    pub last_invalid: Option<LastInvalid>,
}

/// A chunk that was not published because of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastInvalid {
    /// Number of the session.
    pub session: u64,
    /// When it was computed, CLOCK_MONOTONIC, ns.
    pub at_ns: u64,
    /// Fault that was found.
    pub fault: Fault,
    /// The row where it was found.
    pub row: u32,
}

/// Amount of a resource that is in use, and the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Amount that is in use.
    pub has: u64,
    /// Maximum amount, as long as no other user takes more.
    pub may_have: u64,
}

/// Amounts and quotas of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserReport {
    /// Number of the user.
    pub uid: u32,
    /// Number of log records the user caused that were left out, because there were too many.
    pub left_out: u64,
    /// Number of sessions.
    pub sessions: Quota,
    /// Shared memory, bytes.
    pub memory: Quota,
    /// Part of the shared memory that belongs to ended sessions and is still held, bytes.
    pub held: u64,
    /// Number of pending handshakes.
    pub silent: Quota,
    /// Number of observers.
    pub observers: Quota,
    /// Number of requests waiting.
    pub requests: Quota,
    /// Number of instructions registered.
    pub instructions: Quota,
}

impl UserReport {
    pub(super) fn of(usage: &UserUsage) -> UserReport {
        let quota = |resource| {
            let [has, may_have] = usage.of(resource);
            Quota { has, may_have }
        };
        UserReport {
            uid: usage.user,
            left_out: 0,
            sessions: quota(Resource::Sessions),
            memory: quota(Resource::Memory),
            held: quota(Resource::HeldMemory).has,
            silent: quota(Resource::Silent),
            observers: quota(Resource::Observers),
            requests: quota(Resource::Requests),
            instructions: quota(Resource::Instructions),
        }
    }

    fn to_words(self) -> [u64; USER_WORDS] {
        let UserReport { uid, left_out, sessions, memory, held, silent, observers, requests, instructions } =
            self;
        let mut words = [0; USER_WORDS];
        words[..3].copy_from_slice(&[uid.into(), left_out, held]);
        let quotas = [sessions, memory, silent, observers, requests, instructions];
        for (words, Quota { has, may_have }) in words[4..].as_chunks_mut::<2>().0.iter_mut().zip(quotas) {
            *words = [has, may_have];
        }
        words
    }

    fn from_words(words: &[u64; USER_WORDS]) -> UserReport {
        let quota = |index: usize| Quota { has: words[4 + 2 * index], may_have: words[5 + 2 * index] };
        UserReport {
            uid: words[0] as u32,
            left_out: words[1],
            held: words[2],
            sessions: quota(0),
            memory: quota(1),
            silent: quota(2),
            observers: quota(3),
            requests: quota(4),
            instructions: quota(5),
        }
    }
}

/// State of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Number of the session.
    pub id: u64,
    /// Process of the client; 0: unknown, in a pid namespace that the daemon doesn't see.
    pub pid: u32,
    /// User of the client.
    pub uid: u32,
    /// When the session was opened, CLOCK_MONOTONIC, ns.
    pub opened_ns: u64,
    /// Observations the daemon took from the ring.
    pub submitted: u64,
    /// Chunks that were published.
    pub published: u64,
    /// Observations not answered with a chunk by their deadline.
    pub missed_deadlines: u64,
    /// When the last submission was completed, CLOCK_MONOTONIC, ns; 0: none was.
    pub answered_ns: u64,
    /// Guidance of its last chunk, or why there was none; None: unknown.
    pub guidance: Option<Guided>,
    /// Chunks since the prefix of its last chunk was computed.
    pub prefix_age: u32,
}

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

/// Encodes a policy's description behind its magic number and its length in bytes.
fn policy_words(policy: &PolicyDescription) -> Vec<u64> {
    let mut writer = Writer::default();
    policy.encode(&mut writer, FEATURE_CONTRACT);
    let mut bytes = writer.bytes;
    let mut words = vec![POLICY, bytes.len() as u64];
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    words.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
    words
}

/// The policy of a page, if it has one, or why it can't be read.
type PagePolicy = Result<Option<PolicyDescription>, String>;

/// Decodes the policy behind a report of this sequence, and returns the rest. None: a concurrent write.
fn policy_of(words: &[u64], sequence: u64) -> Option<(PagePolicy, &[u64])> {
    let [POLICY, len, rest @ ..] = words else {
        // A page of an earlier version, with or without the remains of a longer one.
        return Some((Ok(None), &[]));
    };
    let count = usize::try_from(*len).ok()?.div_ceil(8);
    if rest.get(count) != Some(&sequence) {
        return None;
    }
    let bytes: Vec<u8> = rest[..count].iter().flat_map(|word| word.to_le_bytes()).collect();
    let policy = PolicyDescription::decode(&mut Reader::new(&bytes), FEATURE_CONTRACT);
    let policy = policy.map(Some).map_err(|malformed| format!("policy: {malformed}"));
    Some((policy, &rest[count + 1..]))
}

/// Decodes the engine's progress, behind the policy: time without progress, its limit, and the rest. None: a
/// concurrent write.
fn work_of(words: &[u64], sequence: u64) -> Option<(Option<u64>, u64, &[u64])> {
    match words {
        [WORK, no_progress_ns, hang_after_ns, end, rest @ ..] => {
            (*end == sequence).then_some((Some(*no_progress_ns), *hang_after_ns, rest))
        }
        [WORK, ..] => None,
        _ => Some((None, 0, &[])),
    }
}

/// Decodes the users' accounts, behind the progress, and returns the rest. None: a concurrent write.
fn users_of(words: &[u64], sequence: u64) -> Option<(Vec<UserReport>, &[u64])> {
    let [USERS, count, rest @ ..] = words else { return Some((Vec::new(), &[])) };
    let len = usize::try_from(*count).ok()?.checked_mul(USER_WORDS)?;
    if rest.get(len) != Some(&sequence) {
        return None;
    }
    let users = rest[..len].as_chunks::<USER_WORDS>().0.iter().map(UserReport::from_words).collect();
    Some((users, &rest[len + 1..]))
}

/// Decodes the last invalid chunk, behind the users. None: a concurrent write.
fn invalid_of(words: &[u64], sequence: u64) -> Option<Option<LastInvalid>> {
    match *words {
        [INVALID, session, at_ns, fault, row, end, ..] => (end == sequence).then(|| {
            Fault::from_word(fault).map(|fault| LastInvalid { session, at_ns, fault, row: row as u32 })
        }),
        [INVALID, ..] => None,
        _ => Some(None),
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

    /// Encodes the page. `policy`: its constant end.
    fn encode(&self, sequence: u64, policy: &[u64], words: &mut Vec<u64>) {
        words.clear();
        words.extend([
            MAGIC,
            FORMAT,
            sequence,
            self.pid.into(),
            self.epoch,
            self.stopping.into(),
            self.written_ns,
            self.ready_ns,
            self.sessions.len() as u64,
            self.max_clients,
            self.heartbeat_ns,
            self.max_age_ns,
            self.busy_since_ns,
            self.memory,
            self.max_memory,
            STATS_WORDS as u64,
        ]);
        for name in [&self.model, &self.device] {
            let mut bytes = [0; NAME_WORDS * 8];
            // Terminated by at least one zero.
            let name = beginning(name, bytes.len() - 1);
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            words.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        }
        words.extend(self.stats.words());
        for session in &self.sessions {
            words.extend([
                session.id,
                u64::from(session.pid) | u64::from(session.uid) << 32,
                session.opened_ns,
                session.submitted,
                session.published,
                session.missed_deadlines,
                session.answered_ns,
                u64::from(session.guidance.map_or(0, |guided| guided as u32))
                    | u64::from(session.prefix_age) << 32,
            ]);
        }
        words.push(sequence);
        words.extend(policy);
        words.push(sequence);
        words.extend([WORK, self.no_progress_ns.unwrap_or(0), self.hang_after_ns, sequence]);
        words.extend([USERS, self.users.len() as u64]);
        words.extend(self.users.iter().flat_map(|user| user.to_words()));
        words.push(sequence);
        let invalid = self.last_invalid.map(|invalid| {
            let LastInvalid { session, at_ns, fault, row } = invalid;
            [session, at_ns, fault.to_word(), row.into()]
        });
        words.push(INVALID);
        words.extend(invalid.unwrap_or_default());
        words.push(sequence);
    }

    /// Decodes a page; None: a concurrent write.
    fn decode(bytes: &[u8]) -> Result<Option<Report>, String> {
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        // A file that was just created.
        let Some((head, rest)) = words.split_at_checked(HEAD_WORDS) else { return Ok(None) };
        if head[0] != MAGIC {
            return Err(format!("begins with {:#x}, expected {MAGIC:#x}: no page of statistics", head[0]));
        }
        if head[1] != FORMAT {
            return Err(format!("is of format {}, this program reads format {FORMAT}", head[1]));
        }
        let count = |word: u64, size: usize| usize::try_from(word).ok()?.checked_mul(size);
        let (Some(stats), Some(sessions)) = (count(head[15], 1), count(head[8], SESSION_WORDS)) else {
            return Ok(None);
        };
        let Some(len) = stats.checked_add(sessions) else { return Ok(None) };
        // The file keeps the length of its longest content.
        if rest.get(len) != Some(&head[2]) {
            return Ok(None);
        }
        let Some((policy, more)) = policy_of(&rest[len + 1..], head[2]) else { return Ok(None) };
        let Some((no_progress_ns, hang_after_ns, more)) = work_of(more, head[2]) else { return Ok(None) };
        let Some((users, more)) = users_of(more, head[2]) else { return Ok(None) };
        let Some(last_invalid) = invalid_of(more, head[2]) else { return Ok(None) };
        let name = |at: usize| {
            let bytes: Vec<u8> =
                head[at..at + NAME_WORDS].iter().flat_map(|word| word.to_le_bytes()).collect();
            String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        let session = |words: &[u64; SESSION_WORDS]| SessionReport {
            id: words[0],
            pid: words[1] as u32,
            uid: (words[1] >> 32) as u32,
            opened_ns: words[2],
            submitted: words[3],
            published: words[4],
            missed_deadlines: words[5],
            answered_ns: words[6],
            guidance: Guided::from_number(words[7] as u32),
            prefix_age: (words[7] >> 32) as u32,
        };
        Ok(Some(Report {
            pid: head[3] as u32,
            epoch: head[4],
            stopping: head[5] != 0,
            written_ns: head[6],
            ready_ns: head[7],
            max_clients: head[9],
            heartbeat_ns: head[10],
            max_age_ns: head[11],
            busy_since_ns: head[12],
            no_progress_ns,
            hang_after_ns,
            memory: head[13],
            max_memory: head[14],
            model: name(16),
            device: name(16 + NAME_WORDS),
            policy: policy?,
            stats: Stats::from_words(&rest[..stats]),
            sessions: rest[stats..len].as_chunks::<SESSION_WORDS>().0.iter().map(session).collect(),
            users,
            last_invalid,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Dimension;
    use crate::shm::Count;
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
