//! The submissions' part of one connection: its slots, and the ring to the daemon.

use std::sync::Arc;

use crate::client::cuts::announce;
use crate::client::error::ClientError;
use crate::client::life::Life;
use crate::client::observation::Observation;
use crate::client::prompts::Numbers;
use crate::client::slots::{Slots, UnderWay, first_slot};
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::{
    Camera, Doorbell, Geometry, Producer, RingError, Segment, SegmentLayout, Submission, UNWRITTEN_FRAME,
    UNWRITTEN_STATE, Words,
};

/// The submissions' part of one connection.
pub(in crate::client) struct Part {
    pub(super) connection: u64,
    pub(super) submissions: Producer,
    pub(super) doorbell: Doorbell,
    pub(super) slots: Arc<Slots>,
    /// Which slots the program has.
    pub(super) acquired: Box<[bool]>,
    pub(super) heads: Words,
    pub(super) observation: Arc<Segment>,
    pub(super) layout: SegmentLayout,
    pub(super) life: Life,
    pub(super) numbers: Arc<Numbers>,
}

/// Submissions' parts of a new connection.
pub(in crate::client) struct Parts {
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
    pub(super) fn own(&self, slot: u32) -> Option<u32> {
        let own = slot.checked_sub(first_slot(self.connection))?;
        (own < self.layout.geometry.slots).then_some(own)
    }

    #[inline]
    pub(super) fn acquire(&mut self) -> Option<u32> {
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

    pub(super) fn state(&self, slot: u32) -> *mut f32 {
        let offset = self.slot_offset(slot) + self.layout.state.offset as usize;
        // SAFETY: the layout was checked: every slot's state lies within the segment.
        unsafe { self.observation.as_ptr().add(offset) }.cast()
    }

    pub(super) fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
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
    pub(super) fn check(&self, observation: &Observation) -> Result<(), ClientError> {
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
    pub(super) fn push(
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

    pub(super) fn is_idle(&self) -> bool {
        !self.acquired.contains(&true)
    }
}
