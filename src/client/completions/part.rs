//! The completions' part of one connection: the ring of completions, and what earlier connections left.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::client::error::ClientError;
use crate::client::handover::Parcel;
use crate::client::life::Life;
use crate::client::slots::{Slots, first_slot};
use crate::client::socket::Socket;
use crate::control::{Fault, Status, Welcome};
use crate::shm::{Completion, Consumer, Geometry, Listener};

/// The completions' part of one connection.
pub(in crate::client) struct Part {
    pub connection: u64,
    /// Ring of completions; None for an observer.
    pub(super) ring: Option<Ring>,
    pub(super) life: Life,
    pub(super) event_mode: bool,
    /// Completions that have arrived and are not given out: of earlier connections, or because
    /// [`Completions::wait`] waited for another ticket.
    pub(super) aside: VecDeque<Completion>,
    /// The last completion's time, ns.
    pub(super) finished_ns: u64,
    /// The connection that submissions went to when this one was made: they may until they notice.
    pub(super) submitting_on: u64,
    /// That connection, after this one has taken its place.
    pub(super) before: Option<Box<Parcel<Part>>>,
    /// Completions of earlier connections that were there when this one was made.
    pub(super) answered: Vec<Completion>,
    pub(super) welcome: Arc<Welcome>,
    pub(super) socket: Arc<Socket>,
    /// Shows the socket to an event loop.
    pub(super) watch: Option<OwnedFd>,
}

/// The ring of completions, and the submissions they answer.
pub(in crate::client) struct Ring {
    pub completions: Consumer,
    pub listener: Listener,
    pub slots: Arc<Slots>,
}

impl Part {
    pub fn new(
        connection: u64,
        ring: Option<Ring>,
        life: Life,
        welcome: Arc<Welcome>,
        socket: Arc<Socket>,
    ) -> Part {
        Part {
            connection,
            ring,
            life,
            event_mode: false,
            aside: VecDeque::new(),
            finished_ns: 0,
            submitting_on: connection,
            before: None,
            answered: Vec::new(),
            welcome,
            socket,
            watch: None,
        }
    }

    /// Prepares for what earlier connections leave behind: `most` completions in all, of which those in
    /// `answered` have been there; submissions go to connection `submitting_on` until they notice.
    pub fn follow_up(&mut self, most: usize, answered: Vec<Completion>, submitting_on: u64) {
        self.aside.reserve_exact(most);
        self.answered = answered;
        self.submitting_on = submitting_on;
    }

    /// Completions that [`follow_up`](Self::follow_up) found.
    pub fn take_answered(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.answered)
    }

    /// Takes a completion from the ring and frees its slot.
    #[inline]
    pub(super) fn pop(&mut self) -> Result<Option<Completion>, ClientError> {
        let Some(ring) = &mut self.ring else { return Ok(None) };
        let Some(words) = ring.completions.pop() else { return Ok(None) };
        let completion = Completion::from_words(&words);
        if !ring.slots.free(completion.slot, completion.ticket) {
            return Err(ClientError::Completion { ticket: completion.ticket, slot: completion.slot });
        }
        self.finished_ns = self.finished_ns.max(completion.finished_ns);
        Ok(Some(self.checked(completion)))
    }

    /// The completion as it is given out.
    #[inline]
    fn checked(&self, mut completion: Completion) -> Completion {
        completion.slot += first_slot(self.connection);
        if completion.detail == 0 {
            return completion;
        }
        // Programs index cameras and state by the fault: it must lie within.
        let Geometry { cameras, state_dim, action_dim, .. } = self.welcome.layout.geometry;
        if Fault::from_word(completion.detail)
            .is_some_and(|fault| !fault.is_within(cameras, state_dim, action_dim))
        {
            completion.detail = Fault::Other.to_word();
        }
        completion
    }

    /// Takes a completion that was put aside.
    #[inline]
    pub(super) fn kept(&mut self, ticket: Option<u64>) -> Option<Completion> {
        if self.aside.is_empty() {
            return None;
        }
        let matches = |kept: &Completion| ticket.is_none_or(|ticket| kept.ticket == ticket);
        let index = self.aside.iter().position(matches)?;
        self.aside.remove(index)
    }

    /// When the completion that is outstanding for longest could have come, ns; None: there is none.
    pub(super) fn due_since(&self) -> Option<u64> {
        let under_way = self.ring.as_ref()?.slots.under_way();
        let oldest = under_way.map(|submission| submission.submitted_ns).min()?;
        Some(oldest.max(self.finished_ns))
    }

    /// Takes the place of an earlier connection: completions that have arrived there are kept, what is under way
    /// is completed with GONE. What is left of connections that nobody submits to any more goes to `over`.
    pub fn inherit(&mut self, mut old: Box<Parcel<Part>>, mut over: impl FnMut(Box<Parcel<Part>>)) {
        self.aside.append(&mut old.aside);
        for mut earlier in [old.before.take(), Some(old)].into_iter().flatten() {
            self.settle(&mut earlier);
            if earlier.connection == self.submitting_on && earlier.ring.is_some() {
                self.before = Some(earlier);
            } else {
                over(earlier);
            }
        }
        self.aside.make_contiguous().sort_unstable_by_key(|completion| completion.ticket);
    }

    /// Puts aside everything that is outstanding over an earlier connection.
    pub(super) fn settle(&mut self, old: &mut Part) {
        // Each one frees a slot, so this ends. Corrupt entries stay in the ring.
        while let Ok(Some(completion)) = old.pop() {
            self.aside.push_back(completion);
        }
        let Some(ring) = &old.ring else { return };
        for submission in ring.slots.under_way() {
            if !ring.slots.free(submission.slot, submission.ticket) {
                continue;
            }
            let is_it =
                |answer: &&Completion| (answer.ticket, answer.slot) == (submission.ticket, submission.slot);
            let gone = Completion {
                ticket: submission.ticket,
                status: Status::Gone as i32,
                slot: submission.slot,
                observed_ns: submission.observed_ns,
                submitted_ns: submission.submitted_ns,
                ..Completion::default()
            };
            self.aside.push_back(old.checked(*self.answered.iter().find(is_it).unwrap_or(&gone)));
        }
    }
}
