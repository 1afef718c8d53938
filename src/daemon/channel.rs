//! A session's channel: the daemon's side of its shared memory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::checks::{InvalidChunk, not_finite};
use super::guidance::Aim;
use super::journal::Journal;
use super::observation::{Negotiated, Source};
use crate::control::{Fault, Guided, Status, WELCOME_FDS, times};
use crate::shm::clock::now_ns;
use crate::shm::{
    ChunkHeader, ChunkNotes, Completion, Consumer, Count, DoorbellWaiter, Geometry, Heartbeat, LatencyKind,
    LatestWriter, LayoutError, LivenessWriter, MAX_CAMERAS, Notifier, PlaybackReader, Producer, Region,
    RingError, Segment, SegmentError, SegmentLayout, StatsWriter, Submission, Writer, prefetch,
};

/// Bytes of state and of each frame to prefetch; the processor predicts the rest of a longer copy itself.
const PREFETCH: u32 = 1024;

/// Number of a session's segments: control, observation and results.
pub(super) const SEGMENTS: usize = WELCOME_FDS - 1;

/// Why a session channel could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    #[error(transparent)]
    SegmentLayout(#[from] LayoutError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("eventfd: {0}")]
    Eventfd(Errno),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Why a submission is completed without a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoChunk {
    pub status: Status,
    pub fault: Option<Fault>,
}

impl From<Status> for NoChunk {
    fn from(status: Status) -> Self {
        NoChunk { status, fault: None }
    }
}

impl From<Fault> for NoChunk {
    fn from(fault: Fault) -> Self {
        NoChunk { status: fault.status(), fault: Some(fault) }
    }
}

pub(super) struct Channel {
    pub layout: SegmentLayout,
    /// True if the client reads the reason why there is no chunk.
    reports_faults: bool,
    /// True if it also reads why a chunk was invalid.
    reports_chunk_faults: bool,
    submissions: Consumer,
    completions: Producer,
    pub doorbell: DoorbellWaiter,
    pub liveness: LivenessWriter,
    latest: LatestWriter,
    notifier: Notifier,
    /// The inference thread takes it while it works on an observation.
    source: Option<Box<Source>>,
    pub stats: StatsWriter,
    segments: [Arc<Segment>; 3],
    /// Number of the session and of its user, for the log.
    pub owner: (u64, u32),
    /// The newest submission, as long as its turn hasn't come.
    pub pending: Option<Submission>,
    /// Number of the pending submission in the ring.
    pending_number: u64,
    /// When the ring was last seen empty: no later entry can have been submitted earlier, whatever it claims.
    empty_ns: u64,
    /// `empty_ns` when the pending submission was taken.
    pending_since_ns: u64,
    /// The same for the submission in flight.
    in_flight_since_ns: u64,
    /// The submission the engine works on, with its number in the ring, until it is completed.
    in_flight: Option<(u64, Submission)>,
    /// Status that replaces the result of the submission in flight, whose chunk is no longer wanted.
    dismissed: Option<Status>,
    journal: Journal,
    /// Number of resets of the session.
    episode: u32,
    /// Number of instructions that came with a flush.
    pub flushes: u32,
    /// Ticket of the last submission put in flight, 0: none was; None: that of the daemon of before isn't known.
    begun: Option<u64>,
    /// Number of times that everything before was dismissed.
    era: u32,
    /// The client's completion ring is full, so that no submission can be taken.
    full: bool,
    /// The slot that the last completion freed.
    freed: u32,
    /// When the last submission was completed, CLOCK_MONOTONIC, ns; 0: none was.
    pub answered_ns: u64,
    /// Why the last chunk could not be published, until somebody has reported it.
    pub withheld: Option<InvalidChunk>,
}

impl Channel {
    /// Creates a session's segments. `kept`: the next daemon may resume the session.
    pub fn new(
        geometry: Geometry,
        negotiated: Negotiated,
        epoch: u64,
        kept: bool,
    ) -> Result<Channel, ChannelError> {
        let layout = SegmentLayout::plan(geometry)?;
        let create = |name, len: u32, writer| Segment::create(name, len as usize, writer).map(Arc::new);
        let control = create("pi0rt-control", layout.control_bytes, Writer::Client)?;
        let observation = create("pi0rt-observation", layout.observation_bytes, Writer::Client)?;
        let results = create("pi0rt-results", layout.results_bytes, Writer::Daemon)?;
        Self::over(layout, negotiated, epoch, [control, observation, results], kept, None)
    }

    /// Takes over a previous daemon's segments and doorbell. Submissions it took but did not complete get
    /// RESTARTED; those still in the ring will be taken.
    ///
    /// # Errors
    /// Segments of the wrong size; a client that corrupted its ring.
    pub fn resume(
        geometry: Geometry,
        negotiated: Negotiated,
        epoch: u64,
        [control, observation, results]: [OwnedFd; 3],
        eventfd: OwnedFd,
    ) -> Result<Channel, ChannelError> {
        let layout = SegmentLayout::plan(geometry)?;
        let resume =
            |name, fd, len: u32, writer| Segment::resume(name, fd, len as usize, writer).map(Arc::new);
        let segments = [
            resume("pi0rt-control", control, layout.control_bytes, Writer::Client)?,
            resume("pi0rt-observation", observation, layout.observation_bytes, Writer::Client)?,
            resume("pi0rt-results", results, layout.results_bytes, Writer::Daemon)?,
        ];
        let mut channel = Self::over(layout, negotiated, epoch, segments, true, Some(eventfd))?;
        let unanswered = channel.journal.unanswered(channel.submissions.taken(), channel.completions.tail());
        for (number, submission) in unanswered {
            // No event needed: the client notices the new epoch when it polls.
            let _ = channel.answer(&submission, number, Err(Status::Restarted.into()), [0, now_ns()])?;
        }
        Ok(channel)
    }

    fn over(
        layout: SegmentLayout,
        negotiated: Negotiated,
        epoch: u64,
        [control, observation, results]: [Arc<Segment>; 3],
        kept: bool,
        eventfd: Option<OwnedFd>,
    ) -> Result<Channel, ChannelError> {
        let geometry = layout.geometry;
        let words = |segment: &Arc<Segment>, region| {
            SegmentLayout::words(segment, region).expect("a planned layout lies within its segments")
        };
        let all = words(&observation, Region { offset: 0, len: layout.observation_bytes });
        let playback = PlaybackReader::new(words(&control, layout.playback));
        let source = Box::new(Source::new(layout, negotiated, all, observation.clone(), playback));
        let need_wakeup = words(&results, layout.need_wakeup);
        let resumed = eventfd.is_some();
        let journal = Journal::new(kept.then(|| words(&results, layout.journal())));
        Ok(Channel {
            // New segments are all zeros, which is also a valid state to resume from.
            submissions: Consumer::resume(
                words(&control, layout.submissions),
                words(&results, layout.submission_head),
            ),
            completions: Producer::resume(
                words(&results, layout.completions),
                words(&control, layout.completion_head),
            ),
            doorbell: match eventfd {
                Some(eventfd) => DoorbellWaiter::resume(need_wakeup, eventfd),
                None => DoorbellWaiter::new(need_wakeup).map_err(ChannelError::Eventfd)?,
            },
            liveness: LivenessWriter::new(words(&results, layout.liveness), epoch),
            latest: LatestWriter::resume(
                words(&results, layout.latest),
                words(&results, layout.chunks),
                geometry.values(),
            )
            .with_notes(words(&results, layout.chunk_notes)),
            episode: journal.episode(),
            flushes: 0,
            begun: (!resumed).then_some(0),
            era: 0,
            journal,
            notifier: Notifier::new(words(&control, layout.want_event)),
            source: Some(source),
            stats: StatsWriter::resume(words(&results, layout.stats)),
            segments: [control, observation, results],
            layout,
            reports_faults: negotiated.faults,
            reports_chunk_faults: negotiated.chunk_faults,
            owner: (0, 0),
            pending: None,
            pending_number: 0,
            // Submissions left in the ring by the previous daemon may be of any age.
            empty_ns: if resumed { 0 } else { now_ns() },
            pending_since_ns: 0,
            in_flight_since_ns: 0,
            in_flight: None,
            dismissed: None,
            full: false,
            freed: 0,
            answered_ns: 0,
            withheld: None,
        })
    }

    /// The heartbeat of the session's liveness record.
    pub fn beat(&self) -> Heartbeat {
        let words = SegmentLayout::words(&self.segments[2], self.layout.liveness);
        Heartbeat::new(words.expect("a planned layout lies within its segments"))
    }

    /// Descriptors for the client: control, observation and results segment (the doorbell's descriptor
    /// is sent with them).
    ///
    /// # Errors
    /// A segment can't be opened again.
    pub fn open_segments(&self) -> Result<[OwnedFd; SEGMENTS], SegmentError> {
        let [control, observation, results] = &self.segments;
        Ok([control.open()?, observation.open()?, results.open()?])
    }

    /// The descriptor for an observer: the results segment.
    ///
    /// # Errors
    /// The segment can't be opened again.
    pub fn open_results(&self) -> Result<OwnedFd, SegmentError> {
        self.segments[2].open()
    }

    /// Descriptors for the next daemon: control, observation and results segment, doorbell.
    pub fn fds(&self) -> [BorrowedFd<'_>; WELCOME_FDS] {
        let segment = |i: usize| self.segments[i].fd().expect("a daemon made the segment");
        [segment(0), segment(1), segment(2), self.doorbell.fd()]
    }

    /// The segments, once the session is over.
    pub fn into_segments(self) -> [Arc<Segment>; SEGMENTS] {
        self.segments
    }

    /// Length of the segments together, bytes.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// True if a submission is pending, or can be taken from the ring.
    #[inline]
    pub fn has_work(&mut self) -> bool {
        // `drain` reports a corrupt ring.
        self.pending.is_some() || self.submissions.is_ready() && self.can_answer().unwrap_or(true)
    }

    /// Remembers `now_ns` as a time at which the ring was empty, if it is.
    pub fn note_empty(&mut self, now_ns: u64) {
        if !self.submissions.is_ready() {
            self.empty_ns = now_ns;
        }
    }

    /// True if a submission can't be taken because the client takes no completions.
    pub fn is_stuck(&mut self) -> bool {
        self.submissions.is_ready() && !self.can_answer().unwrap_or(true)
    }

    /// True if the completion ring has room for what is owed and for one submission more.
    #[inline(never)]
    fn can_answer(&mut self) -> Result<bool, RingError> {
        let owed = u64::from(self.pending.is_some()) + u64::from(self.in_flight.is_some());
        Ok(self.completions.room(owed + 1)? > owed)
    }

    /// Takes all submissions: the newest becomes pending, the others are superseded. Takes none whose
    /// completion would not fit, so that every ticket is completed once.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn drain(&mut self) -> Result<Notify, RingError> {
        let mut events = Notify(false);
        // Bounded: a client that submits without pause must not delay the others.
        for _ in 0..self.layout.geometry.entries {
            if !self.submissions.is_ready() {
                break;
            }
            if !self.can_answer()? {
                if !std::mem::replace(&mut self.full, true) {
                    self.stats.count(Count::Full);
                }
                break;
            }
            self.full = false;
            let Some(words) = self.submissions.peek() else { break };
            let submission = Submission::from_words(&words);
            self.prefetch(submission.slot);
            let number = self.submissions.taken();
            // The order matters: a daemon killed in between leaves nothing to be completed twice.
            events |= self.answer_pending(Status::Superseded)?;
            self.journal.pending(number, &submission);
            self.submissions.advance();
            self.stats.count(Count::Submitted);
            self.pending = Some(submission);
            self.pending_number = number;
            self.pending_since_ns = self.empty_ns;
        }
        Ok(events)
    }

    /// Prefetches the beginning of an observation: all parts at once, before the copy needs them.
    fn prefetch(&self, number: u32) {
        let SegmentLayout { geometry, slot, state, frame, frame_times, .. } = self.layout;
        if number >= geometry.slots {
            return;
        }
        let slot = number as usize * slot.len as usize;
        let observation = self.segments[1].as_ptr();
        let fetch =
            |offset: u32, len: u32| prefetch(observation.wrapping_add(slot + offset as usize), len as usize);
        fetch(0, MAX_CAMERAS as u32 * 16);
        fetch(state.offset, state.len.min(PREFETCH));
        fetch(frame_times.offset, frame_times.len);
        for camera in 0..geometry.cameras {
            fetch(frame.offset + camera * frame.len, geometry.frame_bytes.min(PREFETCH));
        }
    }

    /// Prefetches the slot of the next observation: probably the one freed last, which the client may have
    /// filled already.
    #[inline]
    pub fn prefetch_next(&self) {
        self.prefetch(self.freed);
    }

    /// Puts the pending submission in flight, and lends out the observation segment to read from.
    #[inline]
    pub fn begin(&mut self) -> Option<(&Submission, Box<Source>)> {
        self.pending?;
        // None while another submission is in flight.
        let source = self.source.take()?;
        let submission = self.pending.take()?;
        let (number, submission) = self.in_flight.insert((self.pending_number, submission));
        self.begun = Some(submission.ticket);
        self.in_flight_since_ns = self.pending_since_ns;
        self.journal.started(*number, submission);
        Some((submission, source))
    }

    /// Ticket of the last submission put in flight, 0: none was; None: only a daemon of before has begun any.
    pub fn begun(&self) -> Option<u64> {
        self.begun
    }

    /// Returns the observation segment after [`begin`](Self::begin), and counts the page faults its use has
    /// cost.
    pub fn give_back(&mut self, source: Box<Source>, faults: u64) {
        self.source = Some(source);
        if faults > 0 {
            self.stats.set(Count::PageFaults, self.stats.stats().count(Count::PageFaults) + faults);
        }
    }

    fn answer_pending(&mut self, status: Status) -> Result<Notify, RingError> {
        let Some(submission) = self.pending.take() else { return Ok(Notify(false)) };
        self.answer(&submission, self.pending_number, Err(status.into()), [0, now_ns()])
    }

    /// Completes the submission in flight: publishes its chunk, or reports why there is none.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn finish(
        &mut self,
        [started_ns, finished_ns]: [u64; 2],
        result: Result<(&[f32], &ChunkNotes), NoChunk>,
    ) -> Result<Notify, RingError> {
        let Some((number, submission)) = self.in_flight.take() else {
            // The control thread has completed it: see `answer_lost`.
            return Ok(Notify(false));
        };
        self.completions.prefetch();
        let result = match self.dismissed.take() {
            Some(status) => result.and(Err(status.into())),
            None => result,
        };
        let outcome = match result {
            Ok((actions, notes)) => {
                let header = ChunkHeader {
                    ticket: submission.ticket,
                    chunk: 0,
                    observed_ns: submission.observed_ns,
                    submitted_ns: submission.submitted_ns,
                    started_ns,
                    finished_ns,
                    horizon: self.layout.geometry.horizon,
                    action_dim: self.layout.geometry.action_dim,
                    notes: *notes,
                };
                match self.latest.publish(header, actions) {
                    Some(chunk) => {
                        if notes.guidance == Guided::Guided as u32 {
                            self.stats.count(Count::Guided);
                        }
                        Ok(chunk)
                    }
                    None => {
                        self.withheld = not_finite(actions, self.layout.geometry.action_dim as usize);
                        let fault = self.withheld.map(|invalid| invalid.fault);
                        Err(NoChunk { status: Status::InvalidChunk, fault })
                    }
                }
            }
            Err(none) => Err(none),
        };
        self.answer(&submission, number, outcome, [started_ns, finished_ns])
    }

    fn answer(
        &mut self,
        submission: &Submission,
        number: u64,
        outcome: Result<u64, NoChunk>,
        [started_ns, finished_ns]: [u64; 2],
    ) -> Result<Notify, RingError> {
        let (status, chunk, fault) = match outcome {
            Ok(chunk) => (Status::Ok, chunk, None),
            Err(NoChunk { status, fault }) => {
                let reported = |fault: &Fault| match fault.is_of_chunk() {
                    true => self.reports_chunk_faults,
                    false => self.reports_faults,
                };
                (status, 0, fault.filter(reported))
            }
        };
        let completion = Completion {
            ticket: submission.ticket,
            status: status as i32,
            slot: submission.slot,
            chunk,
            detail: fault.map_or(0, Fault::to_word),
            observed_ns: submission.observed_ns,
            submitted_ns: submission.submitted_ns,
            started_ns,
            finished_ns,
        };
        if let Err(NoChunk { fault: Some(fault), .. }) = outcome {
            self.count_invalid(fault);
        }
        self.count(submission, status, finished_ns);
        self.journal.answering(number, self.completions.tail());
        self.completions.push(&completion.to_words())?;
        self.journal.answered(number);
        self.answered_ns = finished_ns;
        self.freed = submission.slot;
        if status == Status::Ok {
            self.record(&completion);
        }
        Ok(Notify(self.notifier.is_wanted()))
    }

    /// Counts what made a chunk invalid.
    fn count_invalid(&mut self, fault: Fault) {
        let count = match fault {
            Fault::ChunkPosition { .. } => Count::InvalidPosition,
            Fault::ChunkVelocity { .. } => Count::InvalidVelocity,
            Fault::ChunkStart { .. } => Count::InvalidStart,
            _ => return,
        };
        self.stats.count(count);
    }

    /// Counts a completion by its status, and missed deadlines.
    fn count(&mut self, submission: &Submission, status: Status, finished_ns: u64) {
        let count = match status {
            Status::Ok => Some(Count::Published),
            Status::Superseded => Some(Count::Superseded),
            Status::Stale => Some(Count::Stale),
            Status::BadObservation => Some(Count::BadObservation),
            Status::InvalidChunk => Some(Count::InvalidChunk),
            Status::DeviceLost => Some(Count::DeviceLost),
            _ => None,
        };
        if let Some(count) = count {
            self.stats.count(count);
        }
        let deadline = submission.deadline_ns;
        // A superseded submission was not late, and a time of another clock is no deadline.
        let is_deadline = deadline != 0 && times::is_deadline(deadline, finished_ns);
        if is_deadline && status != Status::Superseded && (status != Status::Ok || finished_ns > deadline) {
            self.stats.count(Count::MissedDeadline);
        }
    }

    /// Records the latencies of a published chunk. The client may read it already.
    fn record(&mut self, chunk: &Completion) {
        let Completion { observed_ns, submitted_ns, started_ns, finished_ns, .. } = *chunk;
        let inference = finished_ns.saturating_sub(started_ns);
        // Bounded by what is possible: one wrong time would stay the maximum for as long as the daemon lives.
        let submitted_ns = submitted_ns.max(self.in_flight_since_ns);
        let observed_ns = observed_ns.max(submitted_ns.saturating_sub(times::SUBMITTED_WITHIN_NS));
        self.stats.set(Count::LastChunkNs, inference);
        self.stats.record(LatencyKind::Waiting, started_ns.saturating_sub(submitted_ns));
        self.stats.record(LatencyKind::Inference, inference);
        self.stats.record(LatencyKind::Age, finished_ns.saturating_sub(observed_ns));
    }

    /// Completes everything in flight or pending with DEVICE_LOST: the engine will not come back.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn answer_lost(&mut self) -> Result<Notify, RingError> {
        let mut events = self.drain()?;
        if let Some((number, submission)) = self.in_flight.take() {
            events |= self.answer(&submission, number, Err(Status::DeviceLost.into()), [0, now_ns()])?;
        }
        events |= self.answer_pending(Status::DeviceLost)?;
        Ok(events)
    }

    /// Completes everything pending with GONE: the daemon ends.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn abandon(&mut self) -> Result<Notify, RingError> {
        let mut events = self.drain()?;
        events |= self.answer_pending(Status::Gone)?;
        Ok(events)
    }

    /// Number of the chunk published last; 0: none was.
    pub fn published(&self) -> u64 {
        self.latest.published()
    }

    /// Purpose of the chunk computed for the submission in flight, with an instruction of this number.
    pub fn aim(&self, prompt_id: u32, flush: bool) -> Aim {
        Aim { prompt_id, flush, flushes: self.flushes, episode: self.episode, era: self.era }
    }

    /// Number of the episode: resets so far.
    pub fn episode(&self) -> u32 {
        self.episode
    }

    /// Begins a new episode: no chunk is shown, submissions pending or in flight are superseded.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn reset(&mut self) -> Result<Notify, RingError> {
        self.episode = self.episode.wrapping_add(1);
        self.journal.begin_episode(self.episode);
        self.dismiss(Status::Superseded)
    }

    /// Discards everything from before a suspension of the machine: the chunk is withdrawn, observations are
    /// stale, however young they seem.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn discard_stale(&mut self) -> Result<Notify, RingError> {
        self.dismiss(Status::Stale)
    }

    fn dismiss(&mut self, status: Status) -> Result<Notify, RingError> {
        let mut events = self.drain()?;
        events |= self.answer_pending(status)?;
        self.dismissed = self.in_flight.map(|_| status);
        self.era = self.era.wrapping_add(1);
        self.latest.clear();
        Ok(events)
    }
}

/// The client's wish for an event for the completions just written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Notify(pub bool);

impl std::ops::BitOrAssign for Notify {
    fn bitor_assign(&mut self, other: Notify) {
        self.0 |= other.0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
