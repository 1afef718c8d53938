//! The table of sessions, shared by control and inference thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::accounts::Reservation;
use super::channel::{Channel, Notify};
use super::handover::{Identity, SessionRecord};
use super::liveness::HeartbeatEntry;
use super::mutex::{PiMutex, PiMutexGuard};
use super::page::LastInvalid;
use super::peer::Peer;
use crate::control::{Fault, Reply, Status, send};
use crate::shm::{ChunkNotes, RingError, Stats};

/// A registered instruction.
pub(super) struct Registered<P> {
    pub prompt: Arc<P>,
    /// True if the first chunk for it is not to be guided by the chunk before, as it was registered last.
    pub flush: bool,
}

pub(super) struct Session<P> {
    pub id: u64,
    pub socket: Arc<OwnedFd>,
    /// Name of the session; empty: it has none.
    pub name: String,
    pub peer: Peer,
    /// Token by which its client takes it over; 0: nobody can.
    pub token: u64,
    /// The process that opened it, readable once it has ended; None: the kernel can't tell.
    pub opener: Option<OwnedFd>,
    pub opened_ns: u64,
    pub channel: Channel,
    /// Its reservation of a session; None: the session is over.
    pub seat: Option<Reservation>,
    /// Its reservation of memory.
    pub memory: Reservation,
    /// Its reservation of memory of ended sessions; None: the session is open.
    pub held: Option<Reservation>,
    /// Its entry in the heartbeat table; None: the table was full.
    pub heartbeat_entry: Option<HeartbeatEntry>,
    /// Registered prompts: number `id` is at `id - 1`.
    pub prompts: Vec<Registered<P>>,
    /// True if instructions registered with the previous daemon are still to be made into prompts.
    pub restoring: bool,
    /// Number of its last turn.
    pub last_turn: u64,
    /// The table's turn count when its pending submission arrived.
    pub waiting_from_turn: u64,
    /// Until this time it has a turn only when no other session wants one, because it delayed its last turn.
    pub deferred_until_ns: u64,
    /// Record for the next daemon; None: the session ends with this one.
    pub record: Option<SessionRecord>,
    /// The last user that observed it, if not its own.
    pub observed_by: Option<u32>,
    /// Why the control thread has to end this session.
    pub fault: Option<String>,
    /// Notes on the chunk published last.
    pub last_notes: ChunkNotes,
    bad_observations: BadObservationLog,
}

/// Limits the log records about one session's bad observations: a controller makes the same mistake in each
/// tick, and must not hide other records.
#[derive(Default)]
struct BadObservationLog {
    /// Beginning of the current window, ns.
    since_ns: u64,
    made: u32,
    left_out: u64,
}

impl BadObservationLog {
    const MOST: u32 = 3;
    const WITHIN_NS: u64 = 10_000_000_000;

    /// Some if a record may be logged now, with the number of those left out since the last.
    fn next(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns.saturating_sub(self.since_ns) >= Self::WITHIN_NS {
            (self.since_ns, self.made) = (now_ns, 0);
        }
        if self.made == Self::MOST {
            self.left_out += 1;
            return None;
        }
        self.made += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<P> Session<P> {
    /// A session with `seat` and `memory` reserved for it.
    pub fn new(
        Identity { id, name, peer, opened_ns, .. }: Identity,
        socket: OwnedFd,
        mut channel: Channel,
        [seat, memory]: [Reservation; 2],
    ) -> Self {
        channel.owner = (id, peer.uid);
        Session {
            id,
            socket: Arc::new(socket),
            name,
            peer,
            token: 0,
            opener: None,
            opened_ns,
            channel,
            seat: Some(seat),
            memory,
            held: None,
            heartbeat_entry: None,
            prompts: Vec::new(),
            restoring: false,
            last_turn: 0,
            waiting_from_turn: 0,
            deferred_until_ns: 0,
            record: None,
            observed_by: None,
            fault: None,
            last_notes: ChunkNotes::default(),
            bad_observations: BadObservationLog::default(),
        }
    }

    /// Logs an observation that can't be used or a chunk that is invalid; not an observation that is only late.
    pub fn log_fault(&mut self, fault: &Fault, why: &dyn std::fmt::Display, now_ns: u64) {
        let what = match fault.status() {
            Status::BadObservation => "bad observation",
            Status::InvalidChunk => "invalid chunk",
            _ => return,
        };
        let (session, user) = (self.id, self.peer.uid);
        match self.bad_observations.next(now_ns) {
            None => {}
            Some(0) => log::warn!(session, user; "{what}: {why}"),
            Some(more) => {
                log::warn!(session, user; "{what}: {why} ({more} before it were left out here)")
            }
        }
    }

    /// True if its submissions are taken and worked on.
    fn is_served(&self) -> bool {
        self.fault.is_none() && !self.restoring
    }

    /// True if a submission of this session waits for its turn.
    fn wants_turn(&self) -> bool {
        self.is_served() && self.channel.pending.is_some()
    }

    /// Applies a ring write's result: sends the event or marks the session faulty.
    pub fn apply(&mut self, result: Result<Notify, RingError>) {
        match result {
            // A client with a full socket has events to read already.
            Ok(Notify(true)) => drop(send(self.socket.as_fd(), &Reply::Event.encode())),
            Ok(Notify(false)) => {}
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    /// Takes the client's submissions, after `turns` turns.
    pub fn drain(&mut self, turns: u64) {
        let waited = self.channel.pending.is_some();
        let result = self.channel.drain();
        if !waited {
            self.waiting_from_turn = turns;
        }
        self.apply(result);
    }
}

pub(super) struct Table<P> {
    pub sessions: Vec<Session<P>>,
    /// Index at which the next search for work begins.
    pub cursor: usize,
    /// Number of turns so far.
    pub turns: u64,
    /// Counters and latencies of sessions that are over.
    pub ended: Stats,
    /// The last chunk that was not published because of its values.
    pub last_invalid: Option<LastInvalid>,
    /// Age of an observation, ns, beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// True if the daemon is about to end: no new work is begun.
    pub stopping: bool,
}

impl<P> Table<P> {
    pub fn session(&mut self, id: u64) -> Option<&mut Session<P>> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Takes the submissions of all sessions.
    pub fn drain(&mut self) {
        for session in &mut self.sessions {
            if session.is_served() {
                session.drain(self.turns);
            }
        }
    }

    /// Discards everything from before a suspension: see [`Channel::discard_stale`].
    pub fn discard_stale(&mut self) {
        for session in self.sessions.iter_mut().filter(|session| session.fault.is_none()) {
            let result = session.channel.discard_stale();
            session.apply(result);
        }
    }

    /// The session whose turn it is: of those with a pending submission, the one with the earliest deadline.
    ///
    /// No starvation: between the arrival of a submission and its turn, at most one turn of each other session
    /// goes first. Deferred sessions come last. `now_ns` is called only if there is one.
    pub fn next(&mut self, now_ns: impl FnOnce() -> u64) -> Option<&mut Session<P>> {
        let mut wanting = (0..self.sessions.len()).filter(|&index| self.sessions[index].wants_turn());
        let first = wanting.next()?;
        let index = if wanting.next().is_some() { self.choose(now_ns)? } else { first };
        self.cursor = index + 1;
        self.turns += 1;
        self.sessions[index].last_turn = self.turns;
        Some(&mut self.sessions[index])
    }

    /// Index of the session whose turn it is among several with pending submissions.
    fn choose(&self, now_ns: impl FnOnce() -> u64) -> Option<usize> {
        let count = self.sessions.len();
        let wants = Session::wants_turn;
        let some_deferred =
            self.sessions.iter().any(|session| session.deferred_until_ns > 0 && wants(session));
        let now = if some_deferred { now_ns() } else { u64::MAX };
        let free = |session: &Session<P>| wants(session) && session.deferred_until_ns <= now;
        let any_free = !some_deferred || self.sessions.iter().any(free);
        let pending = |session: &Session<P>| if any_free { free(session) } else { wants(session) };
        let waiting = self.sessions.iter().filter(|session| pending(session));
        let longest = waiting.map(|session| session.waiting_from_turn).min()?;
        // The session that has waited longest always qualifies: it has had no turn since.
        (0..count)
            .map(|distance| (self.cursor + distance) % count)
            .filter(|&index| pending(&self.sessions[index]) && self.sessions[index].last_turn <= longest)
            .min_by_key(|&index| match &self.sessions[index].channel.pending {
                Some(submission) if submission.deadline_ns > 0 => submission.deadline_ns,
                _ => u64::MAX,
            })
    }

    pub fn has_work(&mut self) -> bool {
        self.sessions.iter_mut().any(|session| session.is_served() && session.channel.has_work())
    }

    /// True if some client blocks its work by not taking completions.
    pub fn is_stuck(&mut self) -> bool {
        self.sessions.iter_mut().any(|session| session.is_served() && session.channel.is_stuck())
    }
}

/// Times the inference thread yields before it takes a lock that the control thread is waiting for.
const YIELDS: usize = 100;

/// The table behind a lock that the inference thread holds while it polls, and gives up as soon as the control
/// thread wants it.
pub(super) struct SharedTable<P> {
    table: PiMutex<Table<P>>,
    waiting: AtomicUsize,
}

impl<P> SharedTable<P> {
    pub fn new() -> Self {
        let table = Table {
            sessions: Vec::new(),
            cursor: 0,
            turns: 0,
            ended: Stats::default(),
            last_invalid: None,
            max_age_ns: 0,
            stopping: false,
        };
        SharedTable { table: PiMutex::new(table), waiting: AtomicUsize::new(0) }
    }

    /// Locks the table, for the control thread.
    pub fn lock(&self) -> PiMutexGuard<'_, Table<P>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let table = self.table.lock();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        table
    }

    /// Locks the table, for the inference thread: lets the control thread go first, but with a bound, because
    /// this very thread may keep it from running.
    #[inline]
    pub fn lock_yielding(&self) -> PiMutexGuard<'_, Table<P>> {
        if self.is_wanted() {
            self.give_way();
        }
        self.table.lock()
    }

    #[cold]
    fn give_way(&self) {
        for _ in 0..YIELDS {
            std::thread::yield_now();
            if !self.is_wanted() {
                break;
            }
        }
    }

    /// True if the control thread waits for the lock.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_complains_in_every_tick_is_heard_three_times() {
        let (mut bad_observations, start) = (BadObservationLog::default(), 77 * BadObservationLog::WITHIN_NS);
        let heard: Vec<_> = (0..1000).map(|tick| bad_observations.next(start + tick)).collect();
        assert_eq!(heard.iter().filter(|heard| heard.is_some()).count(), 3);
        assert_eq!(bad_observations.next(start + BadObservationLog::WITHIN_NS), Some(997));
        assert_eq!(bad_observations.next(start + BadObservationLog::WITHIN_NS), Some(0));
    }
}
