//! The words of the page.

use super::report::{LastInvalid, Quota, Report, SessionReport, UserReport};
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
pub(super) const HEAD_WORDS: usize = 16 + 2 * NAME_WORDS;
pub(super) const SESSION_WORDS: usize = 8;

impl UserReport {
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

/// Encodes a policy's description behind its magic number and its length in bytes.
pub(super) fn policy_words(policy: &PolicyDescription) -> Vec<u64> {
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

impl Report {
    /// Encodes the page. `policy`: its constant end.
    pub(super) fn encode(&self, sequence: u64, policy: &[u64], words: &mut Vec<u64>) {
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
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Report>, String> {
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
