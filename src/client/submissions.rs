//! Submissions: filling observation slots and handing them to the daemon.

use std::sync::Arc;

use super::cuts::announce;
use super::error::ClientError;
use super::handover::Parcel;
use super::life::Life;
use super::prompts::Numbers;
use super::shared::Shared;
use super::slots::{Slots, UnderWay};
use crate::shm::clock::Clock;
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::{
    Camera, Doorbell, Geometry, MAX_CAMERAS, Producer, RingError, Segment, SegmentLayout, Submission,
    UNWRITTEN_FRAME, UNWRITTEN_STATE, Words,
};

/// Metadata of an acquired slot, passed to [`Submissions::submit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// Number of the acquired slot.
    pub slot: u32,
    /// Number of the instruction, from [`Requests::set_prompt`](super::Requests::set_prompt); 0: the one set last.
    pub prompt_id: u32,
    /// When the state and, unless they say otherwise, the frames were taken, CLOCK_MONOTONIC, ns; 0: now.
    pub observed_ns: u64,
    /// When each camera's frame was taken, CLOCK_MONOTONIC, ns; 0: when the state was.
    pub frames_observed_ns: [u64; MAX_CAMERAS],
    /// Number of state values written; 0: all.
    pub state_values: u32,
    /// Seed of the noise; 0: derived from the ticket.
    pub seed: u64,
    /// Latest time its chunk is of use, CLOCK_MONOTONIC, ns; 0: no deadline.
    pub deadline_ns: u64,
    /// Size and format of each camera's frame; format 0: no frame.
    pub cameras: [Camera; MAX_CAMERAS],
    /// [`KEEP_PREFIX`](crate::shm::KEEP_PREFIX), [`UNGUIDED`](crate::shm::UNGUIDED), or both, for daemons that
    /// know them.
    pub flags: u32,
}

/// Low bits of a slot's number: the slot within its connection; the others tell connections apart.
const SLOT_BITS: u32 = 16;

/// The slots' numbers of a connection: what is added to the slot within it.
pub(super) fn first_slot(connection: u64) -> u32 {
    (connection as u32) << SLOT_BITS
}

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

/// The submissions' part of one connection.
pub(super) struct Part {
    connection: u64,
    submissions: Producer,
    doorbell: Doorbell,
    slots: Arc<Slots>,
    /// Which slots the program has.
    acquired: Box<[bool]>,
    heads: Words,
    observation: Arc<Segment>,
    layout: SegmentLayout,
    life: Life,
    numbers: Arc<Numbers>,
}

/// Submissions' parts of a new connection.
pub(super) struct Parts {
    pub connection: u64,
    pub layout: SegmentLayout,
    pub submissions: Producer,
    pub doorbell: Doorbell,
    pub observation: Arc<Segment>,
    pub slots: Arc<Slots>,
    pub life: Life,
    pub numbers: Arc<Numbers>,
}

impl Part {
    /// None where the slots lie outside of their segment.
    pub fn new(parts: Parts) -> Option<Part> {
        let Parts { connection, layout, submissions, doorbell, observation, slots, life, numbers } = parts;
        let mut heads = layout.slot;
        heads.len *= layout.geometry.slots;
        let heads = SegmentLayout::words(&observation, heads)?;
        let acquired = vec![false; slots.len()].into();
        Some(Part {
            connection,
            submissions,
            doorbell,
            slots,
            acquired,
            heads,
            observation,
            layout,
            life,
            numbers,
        })
    }

    /// The slot within this connection; None for one of another.
    #[inline]
    fn own(&self, slot: u32) -> Option<u32> {
        let own = slot.checked_sub(first_slot(self.connection))?;
        (own < self.layout.geometry.slots).then_some(own)
    }

    #[inline]
    fn acquire(&mut self) -> Option<u32> {
        let slot =
            (0..self.acquired.len()).find(|slot| !self.acquired[*slot] && self.slots.is_free(*slot))?;
        self.acquired[slot] = true;
        self.mark_unwritten(slot as u32);
        Some(slot as u32)
    }

    /// Marks a slot's old content, so that it can't pass for a new observation.
    #[inline]
    fn mark_unwritten(&self, slot: u32) {
        let Geometry { cameras, frame_bytes, state_dim, .. } = self.layout.geometry;
        let state = self.state(slot);
        for i in 0..state_dim as usize {
            // SAFETY: the layout was checked: state_dim values lie there, in memory that is mapped
            // writable.
            unsafe { state.add(i).cast::<u32>().write_unaligned(UNWRITTEN_STATE) };
        }
        for camera in 0..cameras as usize {
            let frame = self.frame(slot, camera).filter(|_| frame_bytes as usize >= UNWRITTEN_FRAME.len());
            if let Some(frame) = frame {
                // SAFETY: as above, frame_bytes bytes.
                unsafe { frame.cast::<[u8; UNWRITTEN_FRAME.len()]>().write_unaligned(UNWRITTEN_FRAME) };
            }
        }
    }

    /// Index in `heads` of a slot's first word.
    #[inline]
    fn head(&self, slot: u32) -> usize {
        slot as usize * self.layout.slot.len as usize / 8
    }

    fn slot_offset(&self, slot: u32) -> usize {
        let region = self.layout.slot;
        region.offset as usize + slot as usize * region.len as usize
    }

    fn state(&self, slot: u32) -> *mut f32 {
        let offset = self.slot_offset(slot) + self.layout.state.offset as usize;
        // SAFETY: the layout was checked: every slot's state lies within the segment.
        unsafe { self.observation.as_ptr().add(offset) }.cast()
    }

    fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        let SegmentLayout { geometry, frame, .. } = self.layout;
        if camera >= geometry.cameras as usize {
            return None;
        }
        let offset = self.slot_offset(slot) + frame.offset as usize + camera * frame.len as usize;
        // SAFETY: the layout was checked: every camera's frame lies within its slot.
        Some(unsafe { self.observation.as_ptr().add(offset) })
    }

    /// Checks that the frames can be submitted as they are.
    #[inline]
    fn check(&self, observation: &Observation) -> Result<(), ClientError> {
        let geometry = &self.layout.geometry;
        let cameras = geometry.cameras as usize;
        for (index, camera) in observation.cameras.iter().enumerate() {
            if camera.format == 0 {
                continue;
            }
            if index >= cameras {
                return Err(ClientError::Camera { camera: index, cameras });
            }
            let capacity = geometry.frame_bytes as usize;
            if camera.bytes(capacity).is_none() {
                let Camera { width, height, stride, format } = *camera;
                return Err(ClientError::Frame { camera: index, width, height, stride, format, capacity });
            }
        }
        Ok(())
    }

    /// Writes what belongs to the frames to the slot; the time of the observation.
    #[inline]
    fn write_head(&self, slot: u32, observation: &Observation, now: u64) -> u64 {
        let cameras = self.layout.geometry.cameras as usize;
        let head = self.head(slot);
        for (index, camera) in observation.cameras[..cameras].iter().enumerate() {
            for (i, word) in (head + index * 2..).zip(camera.to_words()) {
                // Mostly unchanged: not writing leaves the cache line shared with the daemon.
                if self.heads.load(i, Ordering::Relaxed) != word {
                    self.heads.store(i, word, Ordering::Relaxed);
                }
            }
        }
        let observed_ns = if observation.observed_ns == 0 { now } else { observation.observed_ns };
        let times = &observation.frames_observed_ns[..cameras];
        if self.layout.frame_times.len == 0 {
            // A daemon that reads one time only gets the oldest.
            let taken = times.iter().filter(|time| **time != 0);
            return taken.fold(observed_ns, |oldest, time| oldest.min(*time));
        }
        let first = head + self.layout.frame_times.offset as usize / 8;
        for (i, time) in (first..).zip(times) {
            if self.heads.load(i, Ordering::Relaxed) != *time {
                self.heads.store(i, *time, Ordering::Relaxed);
            }
        }
        observed_ns
    }

    /// Submits a checked observation in a slot of this connection, and wakes the daemon if it sleeps.
    #[inline]
    fn push(
        &mut self,
        observation: &Observation,
        slot: u32,
        ticket: u64,
        now: u64,
        submitted: &AtomicU64,
    ) -> Result<(), ClientError> {
        // Known before anybody sees the submission: it can be pushed.
        match self.submissions.room(1) {
            Ok(0) | Err(RingError::Full) => return Err(ClientError::Busy),
            Ok(_) => {}
            Err(corrupt) => return Err(ClientError::Ring(corrupt)),
        }
        let observed_ns = self.write_head(slot, observation, now);
        announce(submitted, ticket);
        let submission = Submission {
            ticket,
            slot,
            prompt_id: self.numbers.number(observation.prompt_id),
            observed_ns,
            submitted_ns: now,
            seed: if observation.seed == 0 { ticket } else { observation.seed },
            deadline_ns: observation.deadline_ns,
            state_values: observation.state_values,
            flags: observation.flags,
        };
        self.acquired[slot as usize] = false;
        self.slots.enter(UnderWay { ticket, slot, observed_ns, submitted_ns: now });
        self.submissions.push(&submission.to_words()).map_err(ClientError::Ring)?;
        self.doorbell.ring();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        !self.acquired.contains(&true)
    }
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
