//! The words of the page.

use super::report::{LastInvalid, Quota, Report, SessionReport, UserReport};
use super::sections::{Sections, Torn, write};
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

/// Encodes a policy's description behind its length in bytes.
pub(super) fn policy_words(policy: &PolicyDescription) -> Vec<u64> {
    let mut writer = Writer::default();
    policy.encode(&mut writer, FEATURE_CONTRACT);
    let mut bytes = writer.bytes;
    let mut words = vec![bytes.len() as u64];
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    words.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
    words
}

/// Decodes the policy, if there is one; the inner error says why it can't be.
fn policy_of(sections: &mut Sections<'_>) -> Result<Result<Option<PolicyDescription>, String>, Torn> {
    let count = |words: &[u64]| usize::try_from(*words.first()?).ok()?.div_ceil(8).checked_add(1);
    let Some(words) = sections.next(POLICY, count)? else { return Ok(Ok(None)) };
    let bytes: Vec<u8> = words[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let policy = PolicyDescription::decode(&mut Reader::new(&bytes), FEATURE_CONTRACT);
    Ok(policy.map(Some).map_err(|malformed| format!("policy: {malformed}")))
}

/// Decodes the engine's progress: time without progress, and its limit.
fn work_of(sections: &mut Sections<'_>) -> Result<(Option<u64>, u64), Torn> {
    let work = sections.next(WORK, |_| Some(2))?;
    Ok(work.map_or((None, 0), |words| (Some(words[0]), words[1])))
}

/// Decodes the users' accounts.
fn users_of(sections: &mut Sections<'_>) -> Result<Vec<UserReport>, Torn> {
    let count =
        |words: &[u64]| usize::try_from(*words.first()?).ok()?.checked_mul(USER_WORDS)?.checked_add(1);
    let Some(words) = sections.next(USERS, count)? else { return Ok(Vec::new()) };
    Ok(words[1..].as_chunks::<USER_WORDS>().0.iter().map(UserReport::from_words).collect())
}

/// Decodes the last invalid chunk.
fn invalid_of(sections: &mut Sections<'_>) -> Result<Option<LastInvalid>, Torn> {
    let Some(words) = sections.next(INVALID, |_| Some(4))? else { return Ok(None) };
    let fault = Fault::from_word(words[2]);
    Ok(fault.map(|fault| LastInvalid { session: words[0], at_ns: words[1], fault, row: words[3] as u32 }))
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
        let work = [self.no_progress_ns.unwrap_or(0), self.hang_after_ns];
        let users = self.users.iter().flat_map(|user| user.to_words());
        let invalid = self.last_invalid.map(|invalid| {
            let LastInvalid { session, at_ns, fault, row } = invalid;
            [session, at_ns, fault.to_word(), row.into()]
        });
        if !policy.is_empty() {
            write(words, POLICY, policy.iter().copied(), sequence);
        }
        write(words, WORK, work, sequence);
        write(words, USERS, std::iter::once(self.users.len() as u64).chain(users), sequence);
        write(words, INVALID, invalid.unwrap_or_default(), sequence);
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
        let mut sections = Sections::new(&rest[len + 1..], head[2]);
        let decoded = (|| {
            let policy = policy_of(&mut sections)?;
            let work = work_of(&mut sections)?;
            Ok::<_, Torn>((policy, work, users_of(&mut sections)?, invalid_of(&mut sections)?))
        })();
        let Ok((policy, (no_progress_ns, hang_after_ns), users, last_invalid)) = decoded else {
            return Ok(None);
        };
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
