//! Completions: the daemon's answers to submissions.

pub(super) mod part;

use std::fmt;
use std::mem::replace;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use self::part::{Part, Ring};
use super::error::ClientError;
use super::handover::Parcel;
use super::shared::Shared;
use crate::control::{Fault, PolicyDescription, Status};
use crate::shm::Completion;
use crate::shm::clock::now_ns;
use crate::shm::sync::{Ordering, spin_hint};

/// How long `wait` polls before it sleeps, ns.
const SPIN_NS: u64 = 20_000;
/// Longest sleep of `wait`, ns, before it checks the daemon's liveness again.
const NAP_NS: u64 = 50_000_000;

/// The completions of a session. One thread at a time; other threads may use the other classes meanwhile.
pub struct Completions {
    shared: Arc<Shared>,
    part: Box<Parcel<Part>>,
    /// Number of completions given out.
    settled: u64,
    stale_after_ns: u64,
}

impl Completions {
    pub(super) fn new(shared: Arc<Shared>, part: Part, stale_after_ns: u64) -> Completions {
        Completions { shared, part: Parcel::new(part), settled: 0, stale_after_ns }
    }

    /// Goes over to a new connection if there is one. Real-time safe.
    #[inline]
    pub(super) fn follow(&mut self) {
        if let Some(fresh) = self.shared.mailboxes.0.completions.take() {
            self.go_over(fresh);
        }
        if self.part.before.is_some() {
            self.look_back();
        }
    }

    #[cold]
    fn go_over(&mut self, fresh: Box<Parcel<Part>>) {
        let old = replace(&mut self.part, fresh);
        let mailbox = &self.shared.mailboxes.0.completions;
        self.part.inherit(old, |over| mailbox.give_back(over));
    }

    /// Looks for submissions that went to the connection before in the meantime.
    #[cold]
    fn look_back(&mut self) {
        let Some(mut before) = self.part.before.take() else { return };
        // Checked first: what was submitted until then is seen afterwards.
        let over = self.shared.submitting_on.load(Ordering::Acquire) > before.connection;
        self.part.settle(&mut before);
        if over {
            self.shared.mailboxes.0.completions.give_back(before);
        } else {
            self.part.before = Some(before);
        }
    }

    #[inline]
    fn ring(&self) -> Result<&Ring, ClientError> {
        self.part.ring.as_ref().ok_or(ClientError::Observer { what: "a completion" })
    }

    /// The policy the daemon serves.
    pub fn policy(&self) -> &PolicyDescription {
        &self.part.welcome.policy
    }

    /// Takes one completion; every ticket gets exactly one. Real-time safe: no system call (unless
    /// [`fd`](Self::fd) was called), no lock, no allocation.
    ///
    /// # Errors
    /// Empty when there is none; Stale when one has been due for longer than
    /// [`Options::stale_after_ns`](super::Options::stale_after_ns); Gone when there won't be any; Restarted once
    /// after the daemon was restarted.
    #[inline]
    pub fn poll(&mut self) -> Result<Completion, ClientError> {
        self.follow();
        self.ring()?;
        if let Some(completion) = self.part.kept(None) {
            self.give_out();
            return Ok(completion);
        }
        if self.part.event_mode {
            self.part.socket.drain()?;
        }
        let completion = self.next_completion()?;
        self.give_out();
        Ok(completion)
    }

    /// Counts a completion as given out.
    #[inline]
    fn give_out(&mut self) {
        self.settled += 1;
        self.shared.settled.0.store(self.settled, Ordering::Relaxed);
    }

    /// Takes a completion from the ring and frees its slot.
    #[inline]
    fn next_completion(&mut self) -> Result<Completion, ClientError> {
        if let Some(completion) = self.part.pop()? {
            return Ok(completion);
        }
        // Before the daemon's life is checked, whose next breath may bring what is due.
        let due_since = if self.stale_after_ns > 0 { self.part.due_since() } else { None };
        self.part.life.check_often(&self.shared.told)?;
        if due_since.is_some_and(|since| now_ns().saturating_sub(since) > self.stale_after_ns) {
            return Err(ClientError::Stale);
        }
        Err(ClientError::Empty)
    }

    /// Describes why a completion has no chunk, with the names of cameras and joints. Allocates nothing.
    pub fn explain<'a>(&'a self, completion: &Completion) -> impl fmt::Display + 'a {
        Explanation { completion: *completion, policy: self.policy() }
    }

    /// Waits for the completion of a ticket, or for any. Completions of other tickets that come
    /// first are kept for [`poll`](Self::poll). May sleep.
    ///
    /// # Errors
    /// Timeout; Gone when it won't come; Restarted once after the daemon was restarted; a ticket that is not in flight.
    pub fn wait(&mut self, ticket: Option<u64>, timeout_ns: u64) -> Result<Completion, ClientError> {
        let start = now_ns();
        let deadline = start.saturating_add(timeout_ns);
        let waited = self.wait_until(ticket, start, deadline);
        // In any case, no wake-up message is wanted any more.
        if let Some(ring) = self.part.ring.as_ref().filter(|_| !self.part.event_mode) {
            ring.listener.ignore();
        }
        let completion = waited?.ok_or(ClientError::Timeout { ns: timeout_ns })?;
        self.give_out();
        Ok(completion)
    }

    /// Polls, then sleeps, until the completion comes; None when the time is over.
    fn wait_until(
        &mut self,
        ticket: Option<u64>,
        start: u64,
        deadline: u64,
    ) -> Result<Option<Completion>, ClientError> {
        loop {
            self.follow();
            // Of an earlier connection, or put aside by an earlier call.
            if let Some(completion) = self.part.kept(ticket) {
                return Ok(Some(completion));
            }
            let ring = self.ring()?;
            if let Some(ticket) = ticket.filter(|ticket| !ring.slots.has(*ticket)) {
                return Err(ClientError::Ticket { ticket });
            }
            let now = now_ns();
            let sleepy = now - start >= SPIN_NS;
            if sleepy {
                ring.listener.listen();
            }
            match self.next_completion() {
                Ok(completion) if ticket.is_none_or(|ticket| completion.ticket == ticket) => {
                    return Ok(Some(completion));
                }
                Ok(other) => {
                    self.part.aside.push_back(other);
                    continue;
                }
                // The caller's timeout bounds the wait; Stale does not apply.
                Err(ClientError::Empty | ClientError::Stale) => {}
                Err(error) => return Err(error),
            }
            if now >= deadline {
                return Ok(None);
            }
            if sleepy {
                self.part.socket.sleep((deadline - now).min(NAP_NS))?;
            } else {
                spin_hint();
            }
        }
    }

    /// A descriptor for event loops that becomes readable when there are completions, or when the daemon is
    /// gone; valid until a reconnect. After the first call, [`poll`](Self::poll) makes a system call to empty it:
    /// poll until Empty each time it is readable. Not real time.
    ///
    /// # Errors
    /// A system call failed.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>, ClientError> {
        self.follow();
        let part = &mut **self.part;
        if part.watch.is_none() {
            part.watch = Some(part.socket.watch()?);
        }
        if let Some(ring) = &part.ring {
            part.event_mode = true;
            ring.listener.listen();
        }
        Ok(part.watch.as_ref().map_or(part.socket.as_fd(), OwnedFd::as_fd))
    }
}

struct Explanation<'a> {
    completion: Completion,
    policy: &'a PolicyDescription,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Completion { ticket, status, detail, .. } = self.completion;
        write!(f, "ticket {ticket}: ")?;
        match (Fault::from_word(detail), Status::from_number(status)) {
            (Some(fault), _) => fault.describe(self.policy).fmt(f),
            (None, Some(status)) => f.write_str(status.text().to_str().unwrap_or_default()),
            (None, None) => write!(f, "answered with {status}"),
        }
    }
}
