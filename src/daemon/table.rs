//! The sessions, shared by the two threads.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lane::{Events, Lane};
use crate::control::{Reply, send};
use crate::shm::{RingError, Stats};

/// Requests of the control connection that need the engine.
pub(super) enum Job {
    Prompt(String),
    Reset,
}

/// Requests that one session may have waiting.
pub(super) const MAX_JOBS: usize = 16;

pub(super) struct Session<P> {
    pub id: u64,
    pub socket: Arc<OwnedFd>,
    /// The client's process and user.
    pub peer: (u32, u32),
    pub opened_ns: u64,
    pub lane: Lane,
    /// Prompt `id` is at `id - 1`.
    pub prompts: Vec<(String, Arc<P>)>,
    pub jobs: VecDeque<Job>,
    /// The round in which it had its last turn.
    pub served: u64,
    /// Why the control thread is to end this session.
    pub fault: Option<String>,
}

impl<P> Session<P> {
    /// Sends a reply; a client that doesn't read its socket has its session ended.
    pub fn reply(&mut self, reply: &Reply) {
        if let Err(errno) = send(self.socket.as_fd(), &reply.encode()) {
            self.fault = Some(format!("its socket can't be written to: {errno}"));
        }
    }

    /// Passes on what writing to the rings came to.
    pub fn heed(&mut self, result: Result<Events, RingError>) {
        match result {
            // A full socket has news for the client already.
            Ok(Events(true)) => drop(send(self.socket.as_fd(), &Reply::Event.encode())),
            Ok(Events(false)) => {}
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    pub fn drain(&mut self) {
        let result = self.lane.drain();
        self.heed(result);
    }
}

pub(super) struct Table<P> {
    pub sessions: Vec<Session<P>>,
    /// Where the next look for work begins.
    pub cursor: usize,
    /// See [`next`](Self::next).
    pub round: u64,
    /// What sessions that are over have counted.
    pub ended: Stats,
    /// No new work is to be begun.
    pub stopping: bool,
    /// The inference thread is with the engine.
    pub busy: bool,
    /// When it began with an observation; 0: it has none.
    pub busy_since_ns: u64,
}

impl<P> Table<P> {
    pub fn session(&mut self, id: u64) -> Option<&mut Session<P>> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Takes in what clients have submitted.
    pub fn drain(&mut self) {
        for session in &mut self.sessions {
            if session.fault.is_none() {
                session.drain();
            }
        }
    }

    /// The session whose turn it is among those that have something pending. In a round, each of
    /// them has one turn, and the earliest deadline comes first: whoever claims to be in a hurry
    /// takes nobody's turn away.
    pub fn next(&mut self) -> Option<&mut Session<P>> {
        let count = self.sessions.len();
        let mut best: Option<((bool, u64, usize), usize)> = None;
        for distance in 0..count {
            let index = (self.cursor + distance) % count;
            let session = &self.sessions[index];
            if session.fault.is_some() {
                continue;
            }
            let Some(pending) = &session.lane.pending else { continue };
            let deadline = if pending.deadline_ns == 0 { u64::MAX } else { pending.deadline_ns };
            let key = (session.served == self.round, deadline, distance);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, index));
            }
        }
        let ((served, ..), index) = best?;
        if served {
            // All that wait have had their turn.
            self.round += 1;
        }
        self.cursor = index + 1;
        self.sessions[index].served = self.round;
        Some(&mut self.sessions[index])
    }

    pub fn has_work(&self) -> bool {
        let wants = |session: &Session<P>| !session.jobs.is_empty() || session.lane.has_work();
        self.sessions.iter().any(|session| session.fault.is_none() && wants(session))
    }
}

/// A table behind a lock that the inference thread may hold while it polls: it gives way as soon
/// as the control thread wants it.
pub(super) struct Shared<P> {
    table: Mutex<Table<P>>,
    waiting: AtomicUsize,
}

impl<P> Shared<P> {
    pub fn new() -> Self {
        let table = Table {
            sessions: Vec::new(),
            cursor: 0,
            round: 1,
            ended: Stats::default(),
            stopping: false,
            busy: false,
            busy_since_ns: 0,
        };
        Shared { table: Mutex::new(table), waiting: AtomicUsize::new(0) }
    }

    /// For the control thread.
    pub fn lock(&self) -> Locked<'_, P> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Locked(table)
    }

    /// For the inference thread: lets the control thread go first.
    pub fn lock_politely(&self) -> Locked<'_, P> {
        while self.is_wanted() {
            std::thread::yield_now();
        }
        Locked(self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the control thread waits for the lock.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

pub(super) struct Locked<'a, P>(MutexGuard<'a, Table<P>>);

impl<P> Deref for Locked<'_, P> {
    type Target = Table<P>;

    fn deref(&self) -> &Table<P> {
        &self.0
    }
}

impl<P> DerefMut for Locked<'_, P> {
    fn deref_mut(&mut self) -> &mut Table<P> {
        &mut self.0
    }
}
