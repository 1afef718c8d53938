//! The daemon's side of one session's shared memory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::journal::Journal;
use super::observation::{Negotiated, Source};
use crate::control::{Fault, Status, WELCOME_FDS, times};
use crate::shm::clock::now_ns;
use crate::shm::{
    ChunkHeader, Completion, Consumer, Count, DoorbellWaiter, Geometry, Heartbeat, LatencyKind, LatestWriter,
    LayoutError, LivenessWriter, MAX_CAMERAS, Notifier, Producer, Region, RingError, Segment, SegmentError,
    SegmentLayout, StatsWriter, Submission, Writer, prefetch,
};

/// Bytes of state and of each frame that are asked for ahead; the processor sees by itself where a
/// longer copy is going.
const PREFETCH: u32 = 1024;

/// Control, observation, results.
pub(super) const SEGMENTS: usize = WELCOME_FDS - 1;

/// Why a lane could not be made.
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

/// Why there is no chunk.
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
    /// Its client reads why there is no chunk.
    reports_faults: bool,
    submissions: Consumer,
    completions: Producer,
    pub doorbell: DoorbellWaiter,
    pub liveness: LivenessWriter,
    latest: LatestWriter,
    notifier: Notifier,
    /// The inference thread has it while an observation is worked on.
    source: Option<Box<Source>>,
    pub stats: StatsWriter,
    segments: [Arc<Segment>; 3],
    /// The session and its user, for the log.
    pub owner: (u64, u32),
    /// The newest submission, if its turn hasn't come.
    pub pending: Option<Submission>,
    /// Its number in the ring.
    pending_number: u64,
    /// When the ring was last seen to be empty, and what that was when the pending submission and the one in flight
    /// were taken: they can't have been submitted before, whatever they say.
    empty_ns: u64,
    pending_since_ns: u64,
    in_flight_since_ns: u64,
    /// What the engine works on, until it is answered, and its number.
    in_flight: Option<(u64, Submission)>,
    /// How what is in flight will be answered, whatever comes of it: its chunk is not wanted any more.
    dismissed: Option<Status>,
    journal: Journal,
    /// Its client doesn't take completions, so that nothing can be taken from it.
    full: bool,
    /// The slot of the last answer.
    freed: u32,
    /// When an observation was answered last; 0: none was.
    pub answered_ns: u64,
}

impl Channel {
    /// Makes a session's segments. `kept`: a daemon that comes after may go on with them.
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

    /// Goes on with segments and doorbell of a daemon of before. What that has taken and not answered is
    /// answered with RESTARTED; what is still in the ring will be taken.
    ///
    /// # Errors
    /// Segments of other sizes, a client that corrupted its ring.
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
            // The client polls by itself: it has been told that the daemon is another one.
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
        let source = Box::new(Source::new(layout, negotiated, all, observation.clone()));
        let need_wakeup = words(&results, layout.need_wakeup);
        let resumed = eventfd.is_some();
        Ok(Channel {
            // Segments that were just made are all zeros: that is where to begin.
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
            ),
            journal: Journal::new(kept.then(|| words(&results, layout.journal()))),
            notifier: Notifier::new(words(&control, layout.want_event)),
            source: Some(source),
            stats: StatsWriter::resume(words(&results, layout.stats)),
            segments: [control, observation, results],
            layout,
            reports_faults: negotiated.faults,
            owner: (0, 0),
            pending: None,
            pending_number: 0,
            // What the previous daemon has left in the ring may be of any age.
            empty_ns: if resumed { 0 } else { now_ns() },
            pending_since_ns: 0,
            in_flight_since_ns: 0,
            in_flight: None,
            dismissed: None,
            full: false,
            freed: 0,
            answered_ns: 0,
        })
    }

    /// What its heart is beaten with.
    pub fn beat(&self) -> Heartbeat {
        let words = SegmentLayout::words(&self.segments[2], self.layout.liveness);
        Heartbeat::new(words.expect("a planned layout lies within its segments"))
    }

    /// What goes to the client with the welcome, but for the doorbell: control, observation and results segment.
    ///
    /// # Errors
    /// They can't be opened.
    pub fn open_segments(&self) -> Result<[OwnedFd; SEGMENTS], SegmentError> {
        let [control, observation, results] = &self.segments;
        Ok([control.open()?, observation.open()?, results.open()?])
    }

    /// What goes to an observer: the results segment.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open_results(&self) -> Result<OwnedFd, SegmentError> {
        self.segments[2].open()
    }

    /// What the daemon that comes after needs of it: control, observation and results segment, doorbell.
    pub fn fds(&self) -> [BorrowedFd<'_>; WELCOME_FDS] {
        let segment = |i: usize| self.segments[i].fd().expect("a daemon made the segment");
        [segment(0), segment(1), segment(2), self.doorbell.fd()]
    }

    /// Its segments, when its session is over.
    pub fn into_segments(self) -> [Arc<Segment>; SEGMENTS] {
        self.segments
    }

    /// Bytes of its segments.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Whether a submission has been taken, or waits and can be.
    pub fn has_work(&mut self) -> bool {
        // A ring that is corrupt is for `drain` to find out.
        self.pending.is_some() || self.submissions.is_ready() && self.can_answer().unwrap_or(true)
    }

    /// Notes that nothing had been submitted by `now_ns`, if that is so.
    pub fn note_empty(&mut self, now_ns: u64) {
        if !self.submissions.is_ready() {
            self.empty_ns = now_ns;
        }
    }

    /// Whether a submission waits that can't be taken, because its client takes no completions.
    pub fn is_stuck(&mut self) -> bool {
        self.submissions.is_ready() && !self.can_answer().unwrap_or(true)
    }

    /// Whether there is room for the answer to one more submission.
    fn can_answer(&mut self) -> Result<bool, RingError> {
        let journal = u64::from(self.pending.is_some()) + u64::from(self.in_flight.is_some());
        Ok(self.completions.room(journal + 1)? > journal)
    }

    /// Takes all submissions; the newest becomes pending, the others are answered. Takes none that
    /// it could not answer, so that every ticket is answered once.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn drain(&mut self) -> Result<Notify, RingError> {
        let mut events = Notify(false);
        // A bound: a client that submits without end must not keep the others waiting.
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
            // In this order: a daemon that ends in between leaves nothing to be answered twice.
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

    /// Asks for what the copy of an observation begins with: all of it at once, and before the copy
    /// needs to know what is there.
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

    /// Asks for what the next observation's copy will probably begin with: the slot that became free
    /// last, which the client may have written to already.
    #[inline]
    pub fn prefetch_next(&self) {
        self.prefetch(self.freed);
    }

    /// Takes the pending submission to work on it.
    pub fn begin(&mut self) -> Option<(Submission, Box<Source>)> {
        self.pending?;
        // Nothing else is in flight.
        let source = self.source.take()?;
        let submission = self.pending.take()?;
        self.in_flight = Some((self.pending_number, submission));
        self.in_flight_since_ns = self.pending_since_ns;
        self.journal.started(self.pending_number, &submission);
        Some((submission, source))
    }

    /// Takes back what [`begin`](Self::begin) gave, and counts the page faults that its use has cost.
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

    /// Answers the submission that was begun: publishes its chunk, or says why there is none.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn finish(
        &mut self,
        [started_ns, finished_ns]: [u64; 2],
        result: Result<&[f32], NoChunk>,
    ) -> Result<Notify, RingError> {
        let Some((number, submission)) = self.in_flight.take() else {
            // The control thread has: see `answer_lost`.
            return Ok(Notify(false));
        };
        self.completions.prefetch();
        let result = match self.dismissed.take() {
            Some(status) => result.and(Err(status.into())),
            None => result,
        };
        let outcome = match result {
            Ok(actions) => {
                let header = ChunkHeader {
                    ticket: submission.ticket,
                    chunk: 0,
                    observed_ns: submission.observed_ns,
                    submitted_ns: submission.submitted_ns,
                    started_ns,
                    finished_ns,
                    horizon: self.layout.geometry.horizon,
                    action_dim: self.layout.geometry.action_dim,
                };
                match self.latest.publish(header, actions) {
                    Some(chunk) => Ok(chunk),
                    None => {
                        let (session, user) = self.owner;
                        log::warn!(session, user; "ticket {}: its chunk has values that are not finite", submission.ticket);
                        Err(Status::InvalidChunk.into())
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
            Err(NoChunk { status, fault }) => (status, 0, fault.filter(|_| self.reports_faults)),
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

    /// Counts an answer.
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
        // One that a newer observation took the place of was not late, and what another clock says is no
        // deadline.
        let is_deadline = deadline != 0 && times::is_deadline(deadline, finished_ns);
        if is_deadline && status != Status::Superseded && (status != Status::Ok || finished_ns > deadline) {
            self.stats.count(Count::MissedDeadline);
        }
    }

    /// Records the times of a chunk, which the client has by now.
    fn record(&mut self, chunk: &Completion) {
        let Completion { observed_ns, submitted_ns, started_ns, finished_ns, .. } = *chunk;
        let inference = finished_ns.saturating_sub(started_ns);
        // No further back than can be: one wrong time would stay the longest for as long as the daemon lives.
        let submitted_ns = submitted_ns.max(self.in_flight_since_ns);
        let observed_ns = observed_ns.max(submitted_ns.saturating_sub(times::SUBMITTED_WITHIN_NS));
        self.stats.set(Count::LastChunkNs, inference);
        self.stats.record(LatencyKind::Waiting, started_ns.saturating_sub(submitted_ns));
        self.stats.record(LatencyKind::Inference, inference);
        self.stats.record(LatencyKind::Age, finished_ns.saturating_sub(observed_ns));
    }

    /// Answers what is in flight and what is pending with DEVICE_LOST: the engine will not come back.
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

    /// Answers what is pending with GONE: the daemon ends.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn abandon(&mut self) -> Result<Notify, RingError> {
        let mut events = self.drain()?;
        events |= self.answer_pending(Status::Gone)?;
        Ok(events)
    }

    /// A new episode: no chunk is shown, what is pending or in flight is superseded.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn reset(&mut self) -> Result<Notify, RingError> {
        self.dismiss(Status::Superseded)
    }

    /// The machine was suspended: no chunk of before is shown, and observations of before are stale, however
    /// young they seem to be.
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
        self.latest.clear();
        Ok(events)
    }
}

/// Whether the client wants to be told of completions that were written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Notify(pub bool);

impl std::ops::BitOrAssign for Notify {
    fn bitor_assign(&mut self, other: Notify) {
        self.0 |= other.0;
    }
}
