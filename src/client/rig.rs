//! Clients for unit tests, with the daemon's side in the same thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::client::Client;
use super::connect::{Opened, Options, WriterSegments};
use super::connection::{Connection, Made};
use super::observation::Observation;
use super::submissions::Submissions;
use crate::control::{FEATURES, Motion, PolicyDescription, Rate, RateSource, Stitching, Welcome};
use crate::shm::sync::Ordering;
use crate::shm::{
    ChunkHeader, ChunkNotes, Completion, Consumer, Geometry, LatestWriter, Producer, Region, Segment,
    SegmentLayout, Submission, Words, Writer,
};

/// The daemon's side of one connection.
pub(super) struct Daemon {
    submissions: Consumer,
    completions: Producer,
    latest: LatestWriter,
    liveness: Words,
    /// Words of the completion ring.
    ring: Words,
    _socket: OwnedFd,
}

pub(super) fn sizes(entries: u32) -> Geometry {
    Geometry { cameras: 0, frame_bytes: 1, state_dim: 1, horizon: 1, action_dim: 1, slots: 8, entries }
}

pub(super) fn plan(entries: u32) -> SegmentLayout {
    SegmentLayout::plan(sizes(entries)).unwrap()
}

/// A client over its first connection.
pub(super) fn open(layout: SegmentLayout) -> (Client, Daemon) {
    let (made, daemon) = connect(layout, 0);
    (Client::over(made, &Options::default()), daemon)
}

/// One more connection, of a client that has had `number` so far.
pub(super) fn connect(layout: SegmentLayout, number: u64) -> (Made, Daemon) {
    connect_with_token(layout, number, 1)
}

/// The same, to a daemon that gives this token; 0: it knows none.
pub(super) fn connect_with_token(layout: SegmentLayout, number: u64, token: u64) -> (Made, Daemon) {
    connect_as(PolicyDescription::default(), layout, number, token)
}

/// The same, to a daemon that declares this of actions, and how they are played unless it does.
pub(super) fn connect_to(policy: PolicyDescription, layout: SegmentLayout, number: u64) -> (Made, Daemon) {
    connect_as(policy, layout, number, 1)
}

fn connect_as(policy: PolicyDescription, layout: SegmentLayout, number: u64, token: u64) -> (Made, Daemon) {
    // Both sides write here, through the one mapping.
    let segment = |len: u32| Arc::new(Segment::create("test", len as usize, Writer::Daemon).unwrap());
    let control = segment(layout.control_bytes);
    let observation = segment(layout.observation_bytes);
    let results = segment(layout.results_bytes);
    let words = |segment, region: Region| SegmentLayout::words(segment, region).unwrap();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let daemon = Daemon {
        submissions: Consumer::new(
            words(&control, layout.submissions),
            words(&results, layout.submission_head),
        ),
        completions: Producer::new(
            words(&results, layout.completions),
            words(&control, layout.completion_head),
        ),
        latest: LatestWriter::new(
            words(&results, layout.latest),
            words(&results, layout.chunks),
            layout.geometry.values(),
        )
        .with_notes(words(&results, layout.chunk_notes)),
        liveness: words(&results, layout.liveness),
        ring: words(&results, layout.completions),
        _socket: theirs,
    };
    daemon.live(1);
    let policy = PolicyDescription {
        // A chunk's only row lasts for 100 s.
        rate: policy.rate.or(Rate::new(0.01, RateSource::Profile)),
        motion: Motion { stitching: policy.motion.stitching.or(Some(Stitching::Replace)), ..policy.motion },
        ..policy
    };
    let welcome = Welcome {
        abi: 1,
        features: FEATURES,
        session: 1,
        epoch: 1,
        heartbeat_ns: 1,
        max_age_ns: 0,
        layout,
        policy,
        token,
    };
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let writing = Some(WriterSegments { control, observation, eventfd });
    let opened = Opened { socket: ours, welcome, results, writing };
    (Connection::over(opened, &Options::default(), number).unwrap(), daemon)
}

impl Daemon {
    /// Begins a life that never shows its age.
    pub fn live(&self, epoch: u64) {
        self.liveness.store(2, u64::MAX / 2, Ordering::Release);
        self.liveness.store(1, 1, Ordering::Release);
        self.liveness.store(0, epoch, Ordering::Release);
    }

    pub fn die(&self) {
        self.liveness.store(1, 2, Ordering::Release);
    }

    pub fn answer(&mut self, (ticket, slot): (u64, u32)) {
        let completion = Completion { ticket, slot, chunk: ticket, ..Completion::default() };
        self.completions.push(&completion.to_words()).unwrap();
    }

    /// Takes what was submitted, publishes a chunk for each and answers it.
    pub fn serve(&mut self) {
        while let Some(words) = self.submissions.pop() {
            let Submission { ticket, slot, prompt_id, .. } = Submission::from_words(&words);
            self.publish_for(ticket, prompt_id, ticket as f32);
            self.answer((ticket, slot));
        }
    }

    /// Publishes a chunk whose only value is `value`, for the present moment.
    pub fn publish(&mut self, value: f32) {
        self.publish_for(0, 0, value);
    }

    fn publish_for(&mut self, ticket: u64, prompt_id: u32, value: f32) {
        let observed_ns = crate::shm::clock::now_ns();
        let notes = ChunkNotes { prompt_id, ..ChunkNotes::default() };
        let header =
            ChunkHeader { ticket, observed_ns, horizon: 1, action_dim: 1, notes, ..ChunkHeader::default() };
        self.latest.publish(header, &[value]).unwrap();
    }

    /// Publishes a chunk with these rows of one value.
    pub fn publish_rows(&mut self, ticket: u64, observed_ns: u64, rows: &[f32]) {
        let horizon = rows.len() as u32;
        let header = ChunkHeader { ticket, observed_ns, horizon, action_dim: 1, ..ChunkHeader::default() };
        self.latest.publish(header, rows).unwrap();
    }

    /// Takes all chunks and completions away.
    pub fn forget(&mut self) {
        self.die();
        self.clear();
        for at in 0..self.ring.len() {
            self.ring.store(at, 0, Ordering::Release);
        }
    }

    /// Withdraws the latest chunk.
    pub fn clear(&mut self) {
        self.latest.clear();
    }
}

/// Submits one observation; its ticket, and its slot within the connection.
pub(super) fn submit(submissions: &mut Submissions) -> (u64, u32) {
    let slot = submissions.acquire().unwrap();
    (submissions.submit(&Observation { slot, ..Observation::default() }).unwrap(), slot & 0xffff)
}
