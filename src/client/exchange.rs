//! The writer's side of a session: submissions, completions and observation slots.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::ClientError;
use crate::control::{Fault, Status};
use crate::shm::sync::Ordering;
use crate::shm::{
    Camera, Completion, Consumer, Doorbell, Geometry, Listener, MAX_CAMERAS, Producer, RingError, Segment,
    SegmentLayout, Submission, UNWRITTEN_FRAME, UNWRITTEN_STATE, Words,
};

/// Metadata of an acquired slot, passed to [`Client::submit`](super::Client::submit).
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// Number of the acquired slot.
    pub slot: u32,
    /// Number of the instruction, from [`Client::set_prompt`](super::Client::set_prompt); 0: the one set last.
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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Acquired,
    Submitted(Submission),
}

impl Slot {
    fn ticket(&self) -> Option<u64> {
        match self {
            Slot::Submitted(submission) => Some(submission.ticket),
            _ => None,
        }
    }
}

/// The rings, the observation slots, and the submissions in flight.
pub(super) struct Exchange {
    submissions: Producer,
    completions: Consumer,
    doorbell: Doorbell,
    slots: Vec<Slot>,
    next_ticket: u64,
    /// Number of tickets whose completion has not been given out.
    outstanding: u32,
    /// Completions that came while [`Client::wait`](super::Client::wait) waited for another ticket.
    aside: VecDeque<Completion>,
    heads: Words,
    listener: Listener,
    pub event_mode: bool,
    observation: Arc<Segment>,
    layout: SegmentLayout,
    /// The last time no completion was outstanding, ns.
    pub quiet_ns: u64,
}

impl Exchange {
    pub fn new(
        layout: SegmentLayout,
        [control, observation, results]: [&Arc<Segment>; 3],
        doorbell: Doorbell,
    ) -> Option<Exchange> {
        let geometry = layout.geometry;
        let ring = |segment, mut region: crate::shm::Region| {
            region.len = geometry.entries * 64;
            SegmentLayout::words(segment, region)
        };
        let mut heads = layout.slot;
        heads.len *= geometry.slots;
        Some(Exchange {
            submissions: Producer::new(
                ring(control, layout.submissions)?,
                SegmentLayout::words(results, layout.submission_head)?,
            ),
            completions: Consumer::new(
                ring(results, layout.completions)?,
                SegmentLayout::words(control, layout.completion_head)?,
            ),
            doorbell,
            slots: vec![Slot::Free; geometry.slots as usize],
            next_ticket: 1,
            outstanding: 0,
            aside: VecDeque::with_capacity(geometry.entries as usize),
            heads: SegmentLayout::words(observation, heads)?,
            listener: Listener::new(SegmentLayout::words(control, layout.want_event)?),
            event_mode: false,
            observation: observation.clone(),
            layout,
            quiet_ns: 0,
        })
    }

    #[inline]
    pub fn acquire(&mut self) -> Result<u32, ClientError> {
        let slot = self.slots.iter().position(|slot| *slot == Slot::Free).ok_or(ClientError::Busy)?;
        self.slots[slot] = Slot::Acquired;
        self.mark_unwritten(slot as u32);
        Ok(slot as u32)
    }

    /// Marks a slot's old content, so that it can't pass for a new observation.
    #[inline]
    fn mark_unwritten(&self, slot: u32) {
        let Geometry { cameras, frame_bytes, state_dim, .. } = self.layout.geometry;
        if let Some(state) = self.state(slot) {
            for i in 0..state_dim as usize {
                // SAFETY: the layout was checked: state_dim values lie there, in memory that is mapped
                // writable.
                unsafe { state.add(i).cast::<u32>().write_unaligned(UNWRITTEN_STATE) };
            }
        }
        for camera in 0..cameras as usize {
            let frame = self.frame(slot, camera).filter(|_| frame_bytes as usize >= UNWRITTEN_FRAME.len());
            if let Some(frame) = frame {
                // SAFETY: as above, frame_bytes bytes.
                unsafe { frame.cast::<[u8; UNWRITTEN_FRAME.len()]>().write_unaligned(UNWRITTEN_FRAME) };
            }
        }
    }

    pub fn release(&mut self, slot: u32) -> Result<(), ClientError> {
        self.check_acquired(slot)?;
        self.slots[slot as usize] = Slot::Free;
        Ok(())
    }

    fn check_acquired(&self, slot: u32) -> Result<(), ClientError> {
        match self.slots.get(slot as usize) {
            Some(Slot::Acquired) => Ok(()),
            _ => Err(ClientError::Slot { slot }),
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

    pub fn state(&self, slot: u32) -> Option<*mut f32> {
        let offset = self.slot_offset(slot) + self.layout.state.offset as usize;
        // SAFETY: the layout was checked: every slot's state lies within the segment.
        (slot < self.layout.geometry.slots).then(|| unsafe { self.observation.as_ptr().add(offset) }.cast())
    }

    pub fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        let SegmentLayout { geometry, frame, .. } = self.layout;
        if slot >= geometry.slots || camera >= geometry.cameras as usize {
            return None;
        }
        let offset = self.slot_offset(slot) + frame.offset as usize + camera * frame.len as usize;
        // SAFETY: the layout was checked: every camera's frame lies within its slot.
        Some(unsafe { self.observation.as_ptr().add(offset) })
    }

    /// Checks that an observation can be submitted as it is.
    #[inline]
    pub fn check(&self, observation: &Observation) -> Result<(), ClientError> {
        self.submissions.prefetch();
        self.check_acquired(observation.slot)?;
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

    /// Submits a checked observation, with the daemon's number of its instruction, and wakes the daemon if it
    /// sleeps.
    #[inline]
    pub fn push(&mut self, observation: &Observation, prompt_id: u32, now: u64) -> Result<u64, ClientError> {
        let geometry = self.layout.geometry;
        if self.outstanding >= geometry.entries {
            return Err(ClientError::Busy);
        }
        let slot = observation.slot;
        let head = self.head(slot);
        for (index, camera) in observation.cameras[..geometry.cameras as usize].iter().enumerate() {
            for (i, word) in (head + index * 2..).zip(camera.to_words()) {
                // Mostly unchanged: not writing leaves the cache line shared with the daemon.
                if self.heads.load(i, Ordering::Relaxed) != word {
                    self.heads.store(i, word, Ordering::Relaxed);
                }
            }
        }
        let mut observed_ns = if observation.observed_ns == 0 { now } else { observation.observed_ns };
        let times = &observation.frames_observed_ns[..geometry.cameras as usize];
        if self.layout.frame_times.len > 0 {
            let first = head + self.layout.frame_times.offset as usize / 8;
            for (i, time) in (first..).zip(times) {
                if self.heads.load(i, Ordering::Relaxed) != *time {
                    self.heads.store(i, *time, Ordering::Relaxed);
                }
            }
        } else {
            // A daemon that reads one time only gets the oldest.
            let taken = times.iter().filter(|time| **time != 0);
            observed_ns = taken.fold(observed_ns, |oldest, time| oldest.min(*time));
        }
        let ticket = self.next_ticket;
        let submission = Submission {
            ticket,
            slot,
            prompt_id,
            observed_ns,
            submitted_ns: now,
            seed: if observation.seed == 0 { ticket } else { observation.seed },
            deadline_ns: observation.deadline_ns,
            state_values: observation.state_values,
            flags: 0,
        };
        self.submissions.push(&submission.to_words()).map_err(|error| match error {
            RingError::Full => ClientError::Busy,
            corrupt => ClientError::Ring(corrupt),
        })?;
        self.next_ticket += 1;
        // Completions that have arrived but are not given out yet are not overdue.
        if !self.waits() {
            self.quiet_ns = now;
        }
        self.outstanding += 1;
        self.slots[slot as usize] = Slot::Submitted(submission);
        self.doorbell.ring();
        Ok(ticket)
    }

    /// Takes a completion from the ring and frees its slot.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Completion>, ClientError> {
        let Some(words) = self.completions.pop() else { return Ok(None) };
        let mut completion = Completion::from_words(&words);
        let Completion { ticket, slot, finished_ns, detail, .. } = completion;
        match self.slots.get_mut(slot as usize) {
            Some(state) if state.ticket() == Some(ticket) => *state = Slot::Free,
            _ => return Err(ClientError::Completion { ticket, slot }),
        }
        self.quiet_ns = self.quiet_ns.max(finished_ns);
        // Programs index cameras and state by the fault: it must lie within.
        let Geometry { cameras, state_dim, action_dim, .. } = self.layout.geometry;
        if Fault::from_word(detail).is_some_and(|fault| !fault.is_within(cameras, state_dim, action_dim)) {
            completion.detail = Fault::Other.to_word();
        }
        Ok(Some(completion))
    }

    /// Takes a completion that was put aside.
    #[inline]
    pub fn kept(&mut self, ticket: Option<u64>) -> Option<Completion> {
        if self.aside.is_empty() {
            return None;
        }
        let matches = |kept: &Completion| ticket.is_none_or(|ticket| kept.ticket == ticket);
        let index = self.aside.iter().position(matches)?;
        self.aside.remove(index)
    }

    pub fn put_aside(&mut self, completion: Completion) {
        self.aside.push_back(completion);
    }

    /// Counts a completion as given out.
    #[inline]
    pub fn settle(&mut self) {
        self.outstanding -= 1;
    }

    /// Whether a completion is outstanding.
    pub fn waits(&self) -> bool {
        self.outstanding as usize > self.aside.len()
    }

    /// Whether this ticket's completion is outstanding.
    pub fn is_under_way(&self, ticket: u64) -> bool {
        self.slots.iter().any(|slot| slot.ticket() == Some(ticket))
    }

    /// Asks for wake-up messages on the socket. Check the ring once more before sleeping.
    pub fn listen(&self) {
        self.listener.listen();
    }

    /// Asks for no more wake-up messages, unless an event loop uses the socket.
    pub fn awake(&self) {
        if !self.event_mode {
            self.listener.ignore();
        }
    }

    /// Puts aside the completions that have arrived. Corrupt entries stay in the ring.
    pub fn collect(&mut self) {
        // Each one frees a slot, so this ends.
        while let Ok(Some(completion)) = self.pop() {
            self.aside.push_back(completion);
        }
    }

    /// Takes over the tickets of an exchange whose daemon is gone: completions that arrived are kept, the
    /// others are completed with GONE.
    pub fn inherit(&mut self, old: &mut Exchange) {
        old.collect();
        self.next_ticket = old.next_ticket;
        self.outstanding = old.outstanding;
        let lost = old.slots.iter().filter_map(|slot| match slot {
            Slot::Submitted(submission) => Some(Completion {
                ticket: submission.ticket,
                status: Status::Gone as i32,
                slot: submission.slot,
                observed_ns: submission.observed_ns,
                submitted_ns: submission.submitted_ns,
                ..Completion::default()
            }),
            _ => None,
        });
        let first = self.aside.len();
        self.aside.extend(old.aside.iter().copied());
        self.aside.extend(lost);
        self.aside.make_contiguous()[first..].sort_by_key(|completion| completion.ticket);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::shm::Writer;

    /// An exchange of 8 slots, and the daemon's side of its completion ring.
    fn exchange(entries: u32) -> (Exchange, Producer) {
        over(SegmentLayout::plan(sizes(entries)).unwrap())
    }

    fn sizes(entries: u32) -> Geometry {
        Geometry { cameras: 0, frame_bytes: 1, state_dim: 1, horizon: 1, action_dim: 1, slots: 8, entries }
    }

    fn over(layout: SegmentLayout) -> (Exchange, Producer) {
        // Both sides write here, through the one mapping.
        let segment = |len: u32| Arc::new(Segment::create("test", len as usize, Writer::Daemon).unwrap());
        let control = segment(layout.control_bytes);
        let observation = segment(layout.observation_bytes);
        let results = segment(layout.results_bytes);
        let words = |segment, region| SegmentLayout::words(segment, region).unwrap();
        let completions =
            Producer::new(words(&results, layout.completions), words(&control, layout.completion_head));
        let doorbell =
            Doorbell::new(words(&results, layout.need_wakeup), eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        (Exchange::new(layout, [&control, &observation, &results], doorbell).unwrap(), completions)
    }

    fn push(exchange: &mut Exchange, now: u64) -> (u64, u32) {
        let slot = exchange.acquire().unwrap();
        let observation = Observation { slot, ..Observation::default() };
        (exchange.push(&observation, 1, now).unwrap(), slot)
    }

    #[test]
    fn a_smaller_ring_inherits_every_answer() {
        let (mut old, mut daemon) = exchange(8);
        for _ in 0..6 {
            let (ticket, slot) = push(&mut old, 1);
            let answer = Completion { ticket, slot, chunk: ticket, ..Completion::default() };
            daemon.push(&answer.to_words()).unwrap();
        }
        push(&mut old, 1);
        let (mut fresh, _) = exchange(2);
        fresh.inherit(&mut old);
        let got = std::iter::from_fn(|| fresh.kept(None));
        let got = got.map(|kept| (kept.ticket, kept.status)).collect::<Vec<_>>();
        let gone = (7, Status::Gone as i32);
        assert_eq!(got, (1..=6).map(|ticket| (ticket, 0)).chain([gone]).collect::<Vec<_>>());
    }

    #[test]
    fn answers_not_given_out_yet_do_not_make_the_next_one_late() {
        let (mut old, _) = exchange(8);
        push(&mut old, 1);
        let (mut fresh, _) = exchange(8);
        fresh.inherit(&mut old);
        push(&mut fresh, 5_000);
        assert_eq!(fresh.quiet_ns, 5_000);
        // Since the submission that has waited longest.
        push(&mut fresh, 6_000);
        assert_eq!(fresh.quiet_ns, 5_000);
    }

    #[test]
    fn what_a_slot_was_used_for_before_is_not_taken_for_new() {
        for frame_bytes in [15, 16, 64] {
            let sizes = Geometry { cameras: 2, frame_bytes, state_dim: 3, ..sizes(8) };
            let (mut exchange, _) = over(SegmentLayout::plan(sizes).unwrap());
            let slot = exchange.acquire().unwrap();
            // SAFETY: three values and two frames of this size lie there, and nobody else uses them.
            unsafe { exchange.state(slot).unwrap().write_bytes(7, 3) };
            for camera in 0..2 {
                // SAFETY: as above.
                unsafe { exchange.frame(slot, camera).unwrap().write_bytes(7, frame_bytes as usize) };
            }
            exchange.release(slot).unwrap();
            assert_eq!(exchange.acquire().unwrap(), slot);
            // SAFETY: as above.
            let state = unsafe { exchange.state(slot).unwrap().cast::<[u32; 3]>().read_unaligned() };
            assert_eq!(state, [UNWRITTEN_STATE; 3]);
            for camera in 0..2 {
                // SAFETY: as above; frames begin at pages of their own.
                let frame = unsafe { exchange.frame(slot, camera).unwrap().cast::<[u8; 16]>().read() };
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
            let (mut exchange, _) = over(layout);
            let slot = exchange.acquire().unwrap();
            let observation =
                Observation { slot, observed_ns: 50, frames_observed_ns: frames, ..Observation::default() };
            exchange.push(&observation, 1, 100).unwrap();
            let Slot::Submitted(submission) = exchange.slots[slot as usize] else { panic!("it is free") };
            assert_eq!(submission.observed_ns, expected, "{frames:?}");
        }
    }
}
