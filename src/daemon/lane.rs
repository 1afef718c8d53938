//! The daemon's side of one session's shared memory.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::admit::admit;
use super::owed::Owed;
use crate::control::{Fault, Status, WELCOME_FDS, times};
use crate::policy::{Frame, PixelFormat};
use crate::shm::clock::now_ns;
use crate::shm::{
    Beat, Camera, ChunkHeader, Completion, Consumer, Count, Geometry, Heart, LatestWriter, Layout,
    LayoutError, MAX_CAMERAS, Notifier, PixelLayout, Producer, Region, RingError, Segment, SegmentError,
    Sleeper, Stage, StatsWriter, Submission, UNWRITTEN_FRAME, UNWRITTEN_STATE, Words, Writer, copy_out,
    prefetch,
};

/// Bytes of state and of each frame that are asked for ahead; the processor sees by itself where a
/// longer copy is going.
const PREFETCH: u32 = 1024;

/// Why a lane could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("eventfd: {0}")]
    Eventfd(Errno),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Private memory that observations are copied to: as large as the largest session needs.
#[derive(Default)]
pub(super) struct Buffers {
    frames: [Vec<u8>; MAX_CAMERAS],
    shapes: [Shape; MAX_CAMERAS],
    pub state: Vec<f32>,
}

/// What was copied of one camera. Fields as wide as they are read: a read that takes in several
/// fresh writes waits for all of them.
#[derive(Clone, Copy)]
struct Shape {
    /// 0: the camera has no frame.
    bytes: usize,
    width: usize,
    height: usize,
    stride: usize,
    format: PixelFormat,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { bytes: 0, width: 0, height: 0, stride: 0, format: PixelFormat::Rgb8 }
    }
}

impl Buffers {
    /// The frames that were copied, one per camera.
    pub fn frames(&self) -> [Option<Frame<'_>>; MAX_CAMERAS] {
        std::array::from_fn(|i| {
            let Shape { bytes, width, height, stride, format } = self.shapes[i];
            (bytes > 0).then(|| Frame { data: &self.frames[i][..bytes], width, height, stride, format })
        })
    }
}

/// What a client has said of itself that decides how its observations are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// It reads why there is no chunk.
    pub faults: bool,
    /// It may leave cameras away: bit `i` for camera `i`.
    pub optional_cameras: u32,
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

pub(super) struct Lane {
    pub layout: Layout,
    terms: Terms,
    submissions: Consumer,
    completions: Producer,
    pub sleeper: Sleeper,
    pub heart: Heart,
    latest: LatestWriter,
    notifier: Notifier,
    heads: Words,
    pub stats: StatsWriter,
    segments: [Arc<Segment>; 3],
    /// The newest submission, if its turn hasn't come.
    pub pending: Option<Submission>,
    /// Its number in the ring.
    pending_number: u64,
    /// What the engine works on, until it is answered, and its number.
    in_flight: Option<(u64, Submission)>,
    /// How what is in flight will be answered, whatever comes of it: its chunk is not wanted any more.
    dismissed: Option<Status>,
    owed: Owed,
    /// The slot of the last answer.
    freed: u32,
    /// When an observation was answered last; 0: none was.
    pub answered_ns: u64,
}

impl Lane {
    /// Makes a session's segments. `kept`: a daemon that comes after may go on with them.
    pub fn new(geometry: Geometry, terms: Terms, epoch: u64, kept: bool) -> Result<Lane, LaneError> {
        let layout = Layout::plan(geometry)?;
        let create = |name, len: u32, writer| Segment::create(name, len as usize, writer).map(Arc::new);
        let writer = if kept { Writer::Daemons } else { Writer::Daemon };
        let control = create("pi0rt-control", layout.control_bytes, Writer::Client)?;
        let observation = create("pi0rt-observation", layout.observation_bytes, Writer::Client)?;
        let results = create("pi0rt-results", layout.results_bytes, writer)?;
        Self::over(layout, terms, epoch, [control, observation, results], kept, None)
    }

    /// Goes on with segments and doorbell of a daemon of before. What that has taken and not answered is
    /// answered with RESTARTED; what is still in the ring will be taken.
    ///
    /// # Errors
    /// Segments of other sizes, a client that corrupted its ring.
    pub fn resume(
        geometry: Geometry,
        terms: Terms,
        epoch: u64,
        [control, observation, results]: [OwnedFd; 3],
        eventfd: OwnedFd,
    ) -> Result<Lane, LaneError> {
        let layout = Layout::plan(geometry)?;
        let resume =
            |name, fd, len: u32, writer| Segment::resume(name, fd, len as usize, writer).map(Arc::new);
        let segments = [
            resume("pi0rt-control", control, layout.control_bytes, Writer::Client)?,
            resume("pi0rt-observation", observation, layout.observation_bytes, Writer::Client)?,
            resume("pi0rt-results", results, layout.results_bytes, Writer::Daemons)?,
        ];
        let mut lane = Self::over(layout, terms, epoch, segments, true, Some(eventfd))?;
        let left = lane.owed.left(lane.submissions.taken(), lane.completions.tail());
        for (number, submission) in left {
            // The client polls by itself: it has been told that the daemon is another one.
            let _ = lane.answer(&submission, number, Err(Status::Restarted.into()), [0, now_ns()])?;
        }
        Ok(lane)
    }

    fn over(
        layout: Layout,
        terms: Terms,
        epoch: u64,
        [control, observation, results]: [Arc<Segment>; 3],
        kept: bool,
        eventfd: Option<OwnedFd>,
    ) -> Result<Lane, LaneError> {
        let geometry = layout.geometry;
        let words = |segment: &Arc<Segment>, region| {
            Layout::words(segment, region).expect("a planned layout lies within its segments")
        };
        let heads = Region { offset: 0, len: layout.observation_bytes };
        let need_wakeup = words(&results, layout.need_wakeup);
        Ok(Lane {
            // Segments that were just made are all zeros: that is where to begin.
            submissions: Consumer::resume(
                words(&control, layout.submissions),
                words(&results, layout.submission_head),
            ),
            completions: Producer::resume(
                words(&results, layout.completions),
                words(&control, layout.completion_head),
            ),
            sleeper: match eventfd {
                Some(eventfd) => Sleeper::resume(need_wakeup, eventfd),
                None => Sleeper::new(need_wakeup).map_err(LaneError::Eventfd)?,
            },
            heart: Heart::new(words(&results, layout.liveness), epoch),
            latest: LatestWriter::resume(
                words(&results, layout.latest),
                words(&results, layout.chunks),
                geometry.values(),
            ),
            owed: Owed::new(kept.then(|| words(&results, layout.notes()))),
            notifier: Notifier::new(words(&control, layout.want_event)),
            heads: words(&observation, heads),
            stats: StatsWriter::resume(words(&results, layout.stats)),
            segments: [control, observation, results],
            layout,
            terms,
            pending: None,
            pending_number: 0,
            in_flight: None,
            dismissed: None,
            freed: 0,
            answered_ns: 0,
        })
    }

    /// What its heart is beaten with.
    pub fn beat(&self) -> Beat {
        let words = Layout::words(&self.segments[2], self.layout.liveness);
        Beat::new(words.expect("a planned layout lies within its segments"))
    }

    /// What goes to the client with the welcome.
    pub fn fds(&self) -> [BorrowedFd<'_>; WELCOME_FDS] {
        let segment = |i: usize| self.segments[i].fd().expect("the daemon made the segment");
        [segment(0), segment(1), segment(2), self.sleeper.fd()]
    }

    /// What the daemon that comes after needs of it: control, observation and results segment, doorbell.
    pub fn own_fds(&self) -> [BorrowedFd<'_>; WELCOME_FDS] {
        let segment = |i: usize| self.segments[i].own_fd().expect("a daemon made the segment");
        [segment(0), segment(1), segment(2), self.sleeper.fd()]
    }

    /// Bytes of its segments.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Whether a submission waits to be taken or has been.
    pub fn has_work(&self) -> bool {
        self.pending.is_some() || self.submissions.is_ready()
    }

    /// Takes all submissions; the newest becomes pending, the others are answered. Takes none that
    /// it could not answer, so that every ticket is answered once.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn drain(&mut self) -> Result<Events, RingError> {
        let mut events = Events(false);
        // A bound: a client that submits without end must not keep the others waiting.
        for _ in 0..self.layout.geometry.entries {
            if !self.submissions.is_ready() {
                break;
            }
            let owed = u64::from(self.pending.is_some()) + u64::from(self.in_flight.is_some());
            if self.completions.room(owed + 1)? < owed + 1 {
                break;
            }
            let Some(words) = self.submissions.peek() else { break };
            let submission = Submission::from_words(&words);
            self.prefetch(submission.slot);
            let number = self.submissions.taken();
            // In this order: a daemon that ends in between leaves nothing to be answered twice.
            events |= self.answer_pending(Status::Superseded)?;
            self.owed.pending(number, &submission);
            self.submissions.advance();
            self.stats.count(Count::Submitted);
            self.pending = Some(submission);
            self.pending_number = number;
        }
        Ok(events)
    }

    /// Asks for what the copy of an observation begins with: all of it at once, and before the copy
    /// needs to know what is there.
    fn prefetch(&self, number: u32) {
        let Layout { geometry, slot, state, frame, frame_times, .. } = self.layout;
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
    pub fn foresee(&self) {
        self.prefetch(self.freed);
    }

    /// Takes the pending submission to work on it.
    pub fn begin(&mut self) -> Option<Submission> {
        let submission = self.pending.take()?;
        self.in_flight = Some((self.pending_number, submission));
        self.owed.begun(self.pending_number, &submission);
        Some(submission)
    }

    fn answer_pending(&mut self, status: Status) -> Result<Events, RingError> {
        let Some(submission) = self.pending.take() else { return Ok(Events(false)) };
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
    ) -> Result<Events, RingError> {
        let Some((number, submission)) = self.in_flight.take() else {
            // The control thread has: see `lose`.
            return Ok(Events(false));
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
                        log::warn!("ticket {}: its chunk has values that are not finite", submission.ticket);
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
    ) -> Result<Events, RingError> {
        let (status, chunk, fault) = match outcome {
            Ok(chunk) => (Status::Ok, chunk, None),
            Err(NoChunk { status, fault }) => (status, 0, fault.filter(|_| self.terms.faults)),
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
        self.owed.answering(number, self.completions.tail());
        self.completions.push(&completion.to_words())?;
        self.owed.answered(number);
        self.answered_ns = finished_ns;
        self.freed = submission.slot;
        if status == Status::Ok {
            self.record(&completion);
        }
        Ok(Events(self.notifier.is_wanted()))
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
        self.stats.set(Count::LastChunkNs, inference);
        self.stats.record(Stage::Waiting, started_ns.saturating_sub(submitted_ns));
        self.stats.record(Stage::Inference, inference);
        self.stats.record(Stage::Age, finished_ns.saturating_sub(observed_ns));
    }

    /// Answers what is in flight and what is pending with DEVICE_LOST: the engine will not come back.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn lose(&mut self) -> Result<Events, RingError> {
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
    pub fn abandon(&mut self) -> Result<Events, RingError> {
        let mut events = self.drain()?;
        events |= self.answer_pending(Status::Gone)?;
        Ok(events)
    }

    /// A new episode: no chunk is shown, what is pending or in flight is superseded.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn reset(&mut self) -> Result<Events, RingError> {
        self.dismiss(Status::Superseded)
    }

    /// The machine was suspended: no chunk of before is shown, and observations of before are stale, however
    /// young they seem to be.
    ///
    /// # Errors
    /// A client that corrupted its ring.
    pub fn outdate(&mut self) -> Result<Events, RingError> {
        self.dismiss(Status::Stale)
    }

    fn dismiss(&mut self, status: Status) -> Result<Events, RingError> {
        let mut events = self.drain()?;
        events |= self.answer_pending(status)?;
        self.dismissed = self.in_flight.map(|_| status);
        self.latest.clear();
        Ok(events)
    }

    /// Copies an observation out, if its times let it be worked on, and checks the copy.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn copy_observation(
        &self,
        submission: &Submission,
        [now_ns, max_age_ns]: [u64; 2],
        to: &mut Buffers,
    ) -> Result<(), Fault> {
        let Geometry { cameras, state_dim, slots, .. } = self.layout.geometry;
        if submission.slot >= slots {
            return Err(Fault::Slot { slot: submission.slot });
        }
        let slot = submission.slot as usize * self.layout.slot.len as usize;
        let (heads, mut times) = (self.heads_of(slot), [0; MAX_CAMERAS]);
        self.heads.read((slot + self.layout.frame_times.offset as usize) / 8, &mut times);
        for (time, head) in times.iter_mut().zip(&heads) {
            // What was not taken has no time.
            if head.format == 0 {
                *time = 0;
            }
        }
        admit(submission, &times, now_ns, max_age_ns)?;

        if ![0, state_dim].contains(&submission.state_values) {
            return Err(Fault::StateCount { got: submission.state_values });
        }
        to.state.resize(state_dim as usize, 0.0);
        self.heads.read_f32((slot + self.layout.state.offset as usize) / 8, &mut to.state);
        if let Some(index) = to.state.iter().position(|value| !value.is_finite()) {
            let (value, index) = (to.state[index], index as u16);
            return Err(match value.to_bits() {
                UNWRITTEN_STATE => Fault::OldState { index },
                _ => Fault::NotFinite { index, value },
            });
        }
        for (camera, head) in (0..cameras as u16).zip(heads) {
            self.copy_frame(slot, camera, head, to)?;
        }
        Ok(())
    }

    /// What a slot says of its frames.
    fn heads_of(&self, slot: usize) -> [Camera; MAX_CAMERAS] {
        let mut words = [0; MAX_CAMERAS * 2];
        let known = self.layout.geometry.cameras as usize * 2;
        self.heads.read(slot / 8, &mut words[..known]);
        std::array::from_fn(|i| Camera::from_words([words[i * 2], words[i * 2 + 1]]))
    }

    fn copy_frame(&self, slot: usize, camera: u16, head: Camera, to: &mut Buffers) -> Result<(), Fault> {
        let (i, frame) = (camera as usize, self.layout.frame);
        to.shapes[i].bytes = 0;
        if head.format == 0 {
            return match self.terms.optional_cameras >> camera & 1 {
                0 => Err(Fault::MissingCamera { camera }),
                _ => Ok(()),
            };
        }
        let Some(layout) = PixelLayout::from_number(head.format) else {
            return Err(Fault::FrameFormat { camera, format: head.format });
        };
        let frame_bytes = self.layout.geometry.frame_bytes as usize;
        let (_, bytes) = head.bytes(frame_bytes).ok_or(Fault::FrameSize { camera })?;
        let offset = slot + frame.offset as usize + i * frame.len as usize;
        let buffer = &mut to.frames[i];
        if buffer.len() < bytes {
            buffer.resize(frame_bytes, 0);
        }
        // SAFETY: the planned layout has frame_bytes (>= bytes) of the segment there; the
        // buffer is private and long enough.
        unsafe { copy_out(self.segments[1].as_ptr().add(offset), buffer.as_mut_ptr(), bytes) };
        if buffer[..bytes].starts_with(&UNWRITTEN_FRAME) {
            return Err(Fault::OldFrame { camera });
        }
        to.shapes[i] = Shape {
            bytes,
            width: head.width as usize,
            height: head.height as usize,
            stride: head.stride as usize,
            format: match layout {
                PixelLayout::Rgb8 => PixelFormat::Rgb8,
                PixelLayout::Bgr8 => PixelFormat::Bgr8,
                PixelLayout::Rgba8 => PixelFormat::Rgba8,
                PixelLayout::Gray8 => PixelFormat::Gray8,
            },
        };
        Ok(())
    }
}

/// Whether the client wants to be told of completions that were written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Events(pub bool);

impl std::ops::BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}
