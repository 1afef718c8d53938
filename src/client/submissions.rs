//! Submissions: filling observation slots and handing them to the daemon.

pub(super) mod part;

use std::sync::Arc;

use self::part::Part;
use super::error::ClientError;
use super::handover::Parcel;
use super::observation::Observation;
use super::shared::Shared;
use super::slots::first_slot;
use crate::shm::Geometry;
use crate::shm::clock::Clock;
use crate::shm::sync::Ordering;

/// The submissions of a session. One thread at a time; other threads may use the other classes meanwhile.
pub struct Submissions {
    shared: Arc<Shared>,
    /// Part of the connection; None for an observer.
    part: Option<Box<Parcel<Part>>>,
    clock: Clock,
    next_ticket: u64,
    /// The connection before, while slots of it have not been given back: somebody may write to them.
    before: Option<Box<Parcel<Part>>>,
}

impl Submissions {
    /// `part`: None for an observer.
    pub(super) fn new(shared: Arc<Shared>, part: Option<Part>, clock: Clock) -> Submissions {
        Submissions { shared, part: part.map(Parcel::new), clock, next_ticket: 1, before: None }
    }

    /// Goes over to a new connection if there is one. Real-time safe.
    #[inline]
    pub(super) fn follow(&mut self) {
        if let Some(fresh) = self.shared.mailboxes.0.submissions.take() {
            self.go_over(fresh);
        }
    }

    #[cold]
    fn go_over(&mut self, fresh: Box<Parcel<Part>>) {
        let connection = fresh.connection;
        let mailbox = &self.shared.mailboxes.0.submissions;
        if let Some(old) = self.part.replace(fresh) {
            // Slots that the program still has stay where they are, of the connection before.
            let over = if old.is_idle() { Some(old) } else { self.before.replace(old) };
            if let Some(over) = over {
                mailbox.give_back(over);
            }
        }
        // From here on nothing is submitted over the connection before.
        self.shared.submitting_on.store(connection, Ordering::Release);
    }

    #[inline]
    fn part(&mut self) -> Result<&mut Box<Parcel<Part>>, ClientError> {
        self.part.as_mut().ok_or(ClientError::Observer { what: "an observation" })
    }

    /// Sizes of the session's memory.
    ///
    /// # Errors
    /// An observer has none.
    pub fn geometry(&self) -> Result<&Geometry, ClientError> {
        let part = self.part.as_ref().ok_or(ClientError::Observer { what: "an observation" })?;
        Ok(&part.layout.geometry)
    }

    /// Acquires a free observation slot. Real-time safe.
    ///
    /// # Errors
    /// Busy when all are in use.
    #[inline]
    pub fn acquire(&mut self) -> Result<u32, ClientError> {
        self.follow();
        let part = self.part()?;
        let slot = part.acquire().ok_or(ClientError::Busy)?;
        Ok(first_slot(part.connection) + slot)
    }

    /// Releases an acquired slot without submitting it. Real-time safe.
    ///
    /// # Errors
    /// A slot that was not acquired.
    pub fn release(&mut self, slot: u32) -> Result<(), ClientError> {
        self.follow();
        match self.acquired(slot) {
            Ok(own) => {
                self.part()?.acquired[own as usize] = false;
                Ok(())
            }
            Err(ClientError::Reconnected { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The slot within the connection, if it is acquired there. One of the connection before is given back.
    #[inline]
    fn acquired(&mut self, slot: u32) -> Result<u32, ClientError> {
        let part = self.part()?;
        match part.own(slot) {
            Some(own) if part.acquired[own as usize] => Ok(own),
            _ => Err(self.give_back(slot)),
        }
    }

    #[cold]
    fn give_back(&mut self, slot: u32) -> ClientError {
        let Some(before) = &mut self.before else { return ClientError::Slot { slot } };
        let own = before.own(slot).map(|own| own as usize);
        if !own.is_some_and(|own| std::mem::replace(&mut before.acquired[own], false)) {
            return ClientError::Slot { slot };
        }
        if before.is_idle()
            && let Some(before) = self.before.take()
        {
            self.shared.mailboxes.0.submissions.give_back(before);
        }
        ClientError::Reconnected { slot }
    }

    /// The connection that a slot is of, and the slot within it.
    fn of(&self, slot: u32) -> Option<(&Part, u32)> {
        let parts = [self.part.as_ref(), self.before.as_ref()];
        parts.into_iter().flatten().find_map(|part| Some((&***part, part.own(slot)?)))
    }

    /// Where to write the state of an observation slot: `state_dim` values of f32. None for a slot that doesn't
    /// exist.
    pub fn state(&self, slot: u32) -> Option<*mut f32> {
        self.of(slot).map(|(part, own)| part.state(own))
    }

    /// Where to write a camera's frame, as many bytes as [`geometry`](Self::geometry) says. None for a slot or a
    /// camera that doesn't exist.
    pub fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        self.of(slot).and_then(|(part, own)| part.frame(own, camera))
    }

    /// Submits an acquired slot to the daemon and returns the ticket its completion will carry.
    /// Real-time safe: no lock, no allocation; one system call if the daemon sleeps.
    ///
    /// # Errors
    /// Busy when as many requests are unanswered as the ring has entries; a slot that was not
    /// acquired; frames that don't fit; a daemon that is gone. The slot stays acquired. Reconnected for a slot of
    /// the connection before: it is given back.
    #[inline]
    pub fn submit(&mut self, observation: &Observation) -> Result<u64, ClientError> {
        self.follow();
        self.part()?.submissions.prefetch();
        let slot = self.acquired(observation.slot)?;
        let Some(part) = &mut self.part else { return Err(ClientError::Busy) };
        part.check(observation)?;
        let now = self.clock.now();
        part.life.check(now, &self.shared.told)?;
        let ticket = self.next_ticket;
        let outstanding = ticket - 1 - self.shared.settled.0.load(Ordering::Relaxed);
        if outstanding >= part.layout.geometry.entries.into() {
            return Err(ClientError::Busy);
        }
        part.push(observation, slot, ticket, now, &self.shared.submitted.0)?;
        self.next_ticket += 1;
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{open, sizes};
    use super::*;
    use crate::shm::{SegmentLayout, UNWRITTEN_FRAME, UNWRITTEN_STATE};

    #[test]
    fn what_a_slot_was_used_for_before_is_not_taken_for_new() {
        for frame_bytes in [15, 16, 64] {
            let sizes = Geometry { cameras: 2, frame_bytes, state_dim: 3, ..sizes(8) };
            let client = open(SegmentLayout::plan(sizes).unwrap()).0;
            assert_eq!(client.frame_capacity(), frame_bytes as usize);
            let mut submissions = client.submissions;
            let slot = submissions.acquire().unwrap();
            // SAFETY: three values and two frames of this size lie there, and nobody else uses them.
            unsafe { submissions.state(slot).unwrap().write_bytes(7, 3) };
            for camera in 0..2 {
                // SAFETY: as above.
                unsafe { submissions.frame(slot, camera).unwrap().write_bytes(7, frame_bytes as usize) };
            }
            submissions.release(slot).unwrap();
            assert_eq!(submissions.acquire().unwrap(), slot);
            // SAFETY: as above.
            let state = unsafe { submissions.state(slot).unwrap().cast::<[u32; 3]>().read_unaligned() };
            assert_eq!(state, [UNWRITTEN_STATE; 3]);
            for camera in 0..2 {
                // SAFETY: as above; frames begin at pages of their own.
                let frame = unsafe { submissions.frame(slot, camera).unwrap().cast::<[u8; 16]>().read() };
                // A frame without room for the mark is left alone.
                assert_eq!(frame == UNWRITTEN_FRAME, frame_bytes >= 16, "{frame_bytes} bytes");
            }
        }
    }

    /// Daemons of before know no times of frames: the oldest of all says how old the observation is.
    #[test]
    fn a_daemon_that_asks_for_one_time_gets_the_oldest() {
        let plan = SegmentLayout::plan(Geometry { cameras: 3, ..sizes(8) }).unwrap();
        for (asks, frames, expected) in
            [(1, [0; 4], 50), (1, [60, 0, 40, 0], 40), (1, [60, 70, 0, 10], 50), (4, [60, 0, 40, 0], 50)]
        {
            let mut layout = plan;
            if asks == 1 {
                layout.frame_times.len = 0;
            }
            let mut submissions = open(layout).0.submissions;
            let slot = submissions.acquire().unwrap();
            let observation =
                Observation { slot, observed_ns: 50, frames_observed_ns: frames, ..Observation::default() };
            submissions.submit(&observation).unwrap();
            let part = submissions.part.as_ref().unwrap();
            let submission = part.slots.under_way().next().unwrap();
            assert_eq!(submission.observed_ns, expected, "{frames:?}");
        }
    }
}
