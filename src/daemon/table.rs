//! The sessions, shared by the two threads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::accounts::Reservation;
use super::channel::{Channel, Notify};
use super::handover::{Identity, SessionRecord};
use super::liveness::HeartbeatEntry;
use super::mutex::{PiMutex, PiMutexGuard};
use super::peer::Peer;
use crate::control::{Fault, Reply, Status, send};
use crate::shm::{RingError, Stats};

pub(super) struct Session<P> {
    pub id: u64,
    pub socket: Arc<OwnedFd>,
    /// Empty: it has none.
    pub name: String,
    pub peer: Peer,
    /// By which its client takes it over; 0: nobody does.
    pub token: u64,
    /// The process that opened it, readable once that has ended; None: the kernel doesn't say.
    pub opener: Option<OwnedFd>,
    pub opened_ns: u64,
    pub channel: Channel,
    /// Its place among its user's sessions; None: it is over.
    pub seat: Option<Reservation>,
    /// Its memory.
    pub memory: Reservation,
    /// The same as memory of a session that is over; None: it is not.
    pub held: Option<Reservation>,
    /// Where its heart is beaten; None: there was no place.
    pub place: Option<HeartbeatEntry>,
    /// Instructions as the policy wants them: number `id` is at `id - 1`.
    pub prompts: Vec<Arc<P>>,
    /// Instructions that its client has registered with another daemon are still to be made into prompts.
    pub restoring: bool,
    /// The number of its last turn.
    pub begun: u64,
    /// The number of the turn, of any session, that came before what is pending now.
    pub waiting_since: u64,
    /// Before this moment it has a turn only when nobody else wants it: it has made its last one take longer.
    pub deferred_until_ns: u64,
    /// What a daemon that comes after needs to know; None: this one is the session's last.
    pub record: Option<SessionRecord>,
    /// The user that observed it last, if that is another one than its own.
    pub observed_by: Option<u32>,
    /// Why the control thread is to end this session.
    pub fault: Option<String>,
    bad_observations: BadObservationLog,
}

/// How often the log is told of one session's bad observations: a controller makes the same mistake in each tick,
/// and must not hide what others do.
#[derive(Default)]
struct BadObservationLog {
    /// When the first one of now was made.
    since_ns: u64,
    made: u32,
    left_out: u64,
}

impl BadObservationLog {
    const MOST: u32 = 3;
    const WITHIN_NS: u64 = 10_000_000_000;

    /// Whether one may be made now; then how many were not since the last.
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
    /// `seat` and `memory`: what its user has of the daemon because of it.
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
            place: None,
            prompts: Vec::new(),
            restoring: false,
            begun: 0,
            waiting_since: 0,
            deferred_until_ns: 0,
            record: None,
            observed_by: None,
            fault: None,
            bad_observations: BadObservationLog::default(),
        }
    }

    /// Tells the log of an observation that can't be used. One that is late is no news.
    pub fn log_bad_observation(&mut self, fault: &Fault, why: &dyn std::fmt::Display, now_ns: u64) {
        if fault.status() != Status::BadObservation {
            return;
        }
        let (session, user) = (self.id, self.peer.uid);
        match self.bad_observations.next(now_ns) {
            None => {}
            Some(0) => log::warn!(session, user; "bad observation: {why}"),
            Some(more) => {
                log::warn!(session, user; "bad observation: {why} ({more} before it were left out here)")
            }
        }
    }

    /// Whether its observations are taken in and worked on.
    fn is_served(&self) -> bool {
        self.fault.is_none() && !self.restoring
    }

    /// Passes on what writing to the rings came to.
    pub fn apply(&mut self, result: Result<Notify, RingError>) {
        match result {
            // A full socket has news for the client already.
            Ok(Notify(true)) => drop(send(self.socket.as_fd(), &Reply::Event.encode())),
            Ok(Notify(false)) => {}
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    /// Takes in what the client has submitted after `turns` turns.
    pub fn drain(&mut self, turns: u64) {
        let waited = self.channel.pending.is_some();
        let result = self.channel.drain();
        if !waited {
            self.waiting_since = turns;
        }
        self.apply(result);
    }
}

pub(super) struct Table<P> {
    pub sessions: Vec<Session<P>>,
    /// Where the next look for work begins.
    pub cursor: usize,
    /// How many turns there have been.
    pub turns: u64,
    /// What sessions that are over have counted.
    pub ended: Stats,
    /// Age of an observation beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// No new work is to be begun.
    pub stopping: bool,
}

impl<P> Table<P> {
    pub fn session(&mut self, id: u64) -> Option<&mut Session<P>> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Takes in what clients have submitted.
    pub fn drain(&mut self) {
        for session in &mut self.sessions {
            if session.is_served() {
                session.drain(self.turns);
            }
        }
    }

    /// Nothing that was observed before now is of use: see [`Channel::discard_stale`].
    pub fn discard_stale(&mut self) {
        for session in self.sessions.iter_mut().filter(|session| session.fault.is_none()) {
            let result = session.channel.discard_stale();
            session.apply(result);
        }
    }

    /// The session whose turn it is among those that have something pending: the one with the
    /// earliest deadline. But between the moment something becomes pending and its turn, every other
    /// session has one turn at most: whoever claims to be in a hurry takes nobody's turn away. One that is held
    /// back comes after all others. `now_ns` is asked only if somebody is.
    pub fn next(&mut self, now_ns: impl FnOnce() -> u64) -> Option<&mut Session<P>> {
        let count = self.sessions.len();
        let wants = |session: &Session<P>| session.is_served() && session.channel.pending.is_some();
        let some_held = self.sessions.iter().any(|session| session.deferred_until_ns > 0 && wants(session));
        let now = if some_held { now_ns() } else { u64::MAX };
        let free = |session: &Session<P>| wants(session) && session.deferred_until_ns <= now;
        let any_free = !some_held || self.sessions.iter().any(free);
        let pending = |session: &Session<P>| if any_free { free(session) } else { wants(session) };
        let waiting = self.sessions.iter().filter(|session| pending(session));
        let longest = waiting.map(|session| session.waiting_since).min()?;
        // One that has waited longest has had no turn since: there always is somebody.
        let index = (0..count)
            .map(|distance| (self.cursor + distance) % count)
            .filter(|&index| pending(&self.sessions[index]) && self.sessions[index].begun <= longest)
            .min_by_key(|&index| match &self.sessions[index].channel.pending {
                Some(submission) if submission.deadline_ns > 0 => submission.deadline_ns,
                _ => u64::MAX,
            })?;
        self.cursor = index + 1;
        self.turns += 1;
        self.sessions[index].begun = self.turns;
        Some(&mut self.sessions[index])
    }

    pub fn has_work(&mut self) -> bool {
        self.sessions.iter_mut().any(|session| session.is_served() && session.channel.has_work())
    }

    /// Whether there would be work if some client took its completions.
    pub fn is_stuck(&mut self) -> bool {
        self.sessions.iter_mut().any(|session| session.is_served() && session.channel.is_stuck())
    }
}

/// Times the inference thread lets others run before it takes the lock that the control thread wants: it may be
/// about to take it.
const YIELDS: usize = 100;

/// A table behind a lock that the inference thread may hold while it polls: it gives way as soon
/// as the control thread wants it.
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
            max_age_ns: 0,
            stopping: false,
        };
        SharedTable { table: PiMutex::new(table), waiting: AtomicUsize::new(0) }
    }

    /// For the control thread.
    pub fn lock(&self) -> PiMutexGuard<'_, Table<P>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let table = self.table.lock();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        table
    }

    /// For the inference thread: lets the control thread go first. That may be kept from running by this very
    /// thread: it isn't waited for without end.
    pub fn lock_yielding(&self) -> PiMutexGuard<'_, Table<P>> {
        for _ in 0..YIELDS {
            if !self.is_wanted() {
                break;
            }
            std::thread::yield_now();
        }
        self.table.lock()
    }

    /// Whether the control thread waits for the lock.
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
