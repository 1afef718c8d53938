//! A client of the protocol without the library, which can break the rules.
#![allow(dead_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use pi0rt::control::{self, Hello, Received, Reply, Request, Welcome};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::sync::Ordering;
use pi0rt::shm::{
    Access, Camera, ChunkHeader, Completion, Count, ENTRY_WORDS, LatestReader, PlaybackWriter, Region,
    Segment, SegmentLayout, Stats, Submission, Words,
};

use crate::daemons::eventually;

/// A connection.
pub struct Connection(pub OwnedFd);

impl Connection {
    pub fn new(socket: &Path) -> Connection {
        Connection::try_new(socket).unwrap()
    }

    /// Connects; `None` if it is not accepted.
    pub fn try_new(socket: &Path) -> Option<Connection> {
        control::connect(socket).ok().map(Connection)
    }

    pub fn say(&self, request: &Request) {
        assert!(self.try_say(request));
    }

    /// Sends a request; true if that succeeded.
    pub fn try_say(&self, request: &Request) -> bool {
        control::send(self.0.as_fd(), &request.encode()).is_ok()
    }

    /// The next message except events; `None` if the daemon has closed the connection.
    pub fn hear(&self) -> Option<Reply> {
        self.hear_all().map(|(reply, ..)| reply)
    }

    pub fn hear_with_fds(&self) -> Option<(Reply, Vec<OwnedFd>)> {
        self.hear_all().map(|(reply, fds, _)| (reply, fds))
    }

    /// The number in the next message.
    pub fn hear_number(&self) -> Option<u32> {
        self.hear_all().map(|(.., number)| number)
    }

    fn hear_all(&self) -> Option<(Reply, Vec<OwnedFd>, u32)> {
        let mut buffer = vec![0; control::MAX_MESSAGE];
        let mut heard = None;
        eventually("the daemon says something", || {
            // A connection with unread data at its other end is reset.
            let received = control::receive_with_fds(self.0.as_fd(), &mut buffer);
            let (received, fds) = received.unwrap_or((Received::Closed, Vec::new()));
            heard = match received {
                Received::Nothing => return false,
                Received::Packet(len) => {
                    let packet = &buffer[..len];
                    Some((Reply::decode(packet).unwrap(), fds, control::number_of(packet)))
                }
                Received::Closed => None,
                Received::TooLong => panic!("a message is longer than any"),
            };
            !matches!(heard, Some((Reply::Event, ..)))
        });
        heard
    }
}

/// A session.
pub struct Raw {
    pub connection: Connection,
    pub welcome: Welcome,
    pub fds: Vec<OwnedFd>,
    control: Arc<Segment>,
    submissions: Words,
    completion_head: Words,
    want_event: Words,
    completions: Words,
    submission_head: Words,
    liveness: Words,
    need_wakeup: Words,
    stats: Words,
    observation: Words,
    playback: Words,
    latest: LatestReader,
    submitted: u64,
    taken: u64,
}

impl Raw {
    pub fn open(socket: &Path, hello: Hello) -> Raw {
        Raw::try_open(socket, hello).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// Opens a session.
    ///
    /// # Errors
    /// The reply in place of a welcome; `None` if there was none.
    pub fn try_open(socket: &Path, hello: Hello) -> Result<Raw, Option<Reply>> {
        let connection = Connection::try_new(socket).ok_or(None)?;
        if !connection.try_say(&Request::Hello(hello)) {
            return Err(None);
        }
        match connection.hear_with_fds() {
            Some((Reply::Welcome(welcome), fds)) => Ok(Raw::over(connection, *welcome, fds)),
            other => Err(other.map(|(reply, _)| reply)),
        }
    }

    /// The daemon's welcome to a hello.
    pub fn welcomed(socket: &Path, hello: Hello) -> Welcome {
        let connection = Connection::new(socket);
        connection.say(&Request::Hello(hello));
        match connection.hear() {
            Some(Reply::Welcome(welcome)) => *welcome,
            other => panic!("{other:?}"),
        }
    }

    fn over(connection: Connection, welcome: Welcome, fds: Vec<OwnedFd>) -> Raw {
        let layout = &welcome.layout;
        let map = |index: usize, len: u32, access| {
            Arc::new(Segment::map("raw", &fds[index], len as usize, access).unwrap())
        };
        let control = map(0, layout.control_bytes, Access::Write);
        let observation = map(1, layout.observation_bytes, Access::Write);
        let results = map(2, layout.results_bytes, Access::Read);
        let words = |segment: &Arc<Segment>, region: Region| SegmentLayout::words(segment, region).unwrap();
        Raw {
            submissions: words(&control, layout.submissions),
            completion_head: words(&control, layout.completion_head),
            want_event: words(&control, layout.want_event),
            completions: words(&results, layout.completions),
            submission_head: words(&results, layout.submission_head),
            liveness: words(&results, layout.liveness),
            need_wakeup: words(&results, layout.need_wakeup),
            stats: words(&results, layout.stats),
            observation: words(&observation, Region { offset: 0, len: layout.observation_bytes }),
            playback: words(&control, layout.playback),
            latest: LatestReader::new(
                words(&results, layout.latest),
                words(&results, layout.chunks),
                layout.geometry.horizon,
                layout.geometry.action_dim,
            )
            .with_notes(words(&results, layout.chunk_notes)),
            submitted: 0,
            taken: 0,
            connection,
            welcome,
            fds,
            control,
        }
    }

    fn entries(&self) -> u64 {
        self.welcome.layout.geometry.entries.into()
    }

    /// Submits anything, without checking for room.
    pub fn submit(&mut self, submission: Submission) {
        self.submit_silently(submission);
        self.ring();
    }

    /// Submits without waking the daemon.
    pub fn submit_silently(&mut self, submission: Submission) {
        let at = (self.submitted % self.entries()) as usize * ENTRY_WORDS;
        self.submissions.write(at + 1, &submission.to_words()[1..]);
        self.submitted += 1;
        self.submissions.store(at, self.submitted, Ordering::Release);
    }

    /// Claims to have taken this many completions.
    pub fn lie_about_completions(&self, taken: u64) {
        self.completion_head.store(0, taken, Ordering::Release);
    }

    /// Requests completion events from now on.
    pub fn want_events(&self) {
        self.want_event.store(0, 1, Ordering::SeqCst);
    }

    /// Rings the daemon's doorbell, asleep or not.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.fds[3], &1u64.to_ne_bytes());
    }

    /// Number of submissions the daemon hasn't taken yet.
    pub fn in_ring(&self) -> u64 {
        self.submitted - self.submission_head.load(0, Ordering::Acquire)
    }

    /// Number of submissions answered, taken or not.
    pub fn answered(&self) -> u64 {
        let at = |n: u64| (n % self.entries()) as usize * ENTRY_WORDS;
        (self.taken..self.taken + self.entries())
            .take_while(|n| self.completions.load(at(*n), Ordering::Acquire) == n + 1)
            .count() as u64
            + self.taken
    }

    /// True if the daemon has announced that it sleeps.
    pub fn daemon_sleeps(&self) -> bool {
        self.need_wakeup.load(0, Ordering::Acquire) != 0
    }

    /// A counter of the daemon for this session.
    pub fn counted(&self, count: Count) -> u64 {
        self.stats().count(count)
    }

    /// Writes to every page of its observations.
    pub fn scribble(&self) {
        let len = self.welcome.layout.observation_bytes as usize / 8;
        (0..len).step_by(512).for_each(|word| self.observation.write(word, &[7]));
    }

    /// Describes a camera's frame in a slot.
    pub fn describe(&self, slot: u32, camera: usize, frame: Camera) {
        let at = (slot * self.welcome.layout.slot.len / 8) as usize + camera * 2;
        self.observation.write(at, &frame.to_words());
    }

    /// Writes the state in a slot.
    pub fn put_state(&self, slot: u32, state: &[f32]) {
        let layout = &self.welcome.layout;
        let at = (slot * layout.slot.len + layout.state.offset) as usize / 8;
        assert!(self.observation.write_finite(at, state));
    }

    /// Writes a camera's frame in a slot.
    pub fn put_frame(&self, slot: u32, camera: usize, frame: Camera, data: &[u8]) {
        self.describe(slot, camera, frame);
        let layout = &self.welcome.layout;
        let at =
            (slot * layout.slot.len + layout.frame.offset + camera as u32 * layout.frame.len) as usize / 8;
        for (i, bytes) in data.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.observation.write(at + i, &[u64::from_le_bytes(word)]);
        }
    }

    /// Says what it plays, as a client does.
    pub fn plays(&self, chunk: u64, first_row: u32) {
        PlaybackWriter::new(SegmentLayout::words(&self.control, self.welcome.layout.playback).unwrap())
            .begin(chunk, first_row);
    }

    /// Says that it plays whatever it is.
    pub fn lie_about_playback(&self, words: [u64; 2]) {
        self.playback.write(0, &words);
    }

    /// The latest chunk.
    pub fn chunk(&self) -> (ChunkHeader, Vec<f32>) {
        let mut actions = vec![0.0; self.welcome.layout.geometry.values()];
        (self.latest.read(&mut actions).unwrap(), actions)
    }

    /// Time of the daemon's last heartbeat.
    pub fn beat(&self) -> u64 {
        self.liveness.load(2, Ordering::Acquire)
    }

    /// The daemon's statistics of this session.
    pub fn stats(&self) -> Stats {
        Stats::read(&self.stats)
    }

    /// Takes a completion, if there is one.
    pub fn poll(&mut self) -> Option<Completion> {
        let at = (self.taken % self.entries()) as usize * ENTRY_WORDS;
        if self.completions.load(at, Ordering::Acquire) != self.taken + 1 {
            return None;
        }
        let mut words = [0; ENTRY_WORDS];
        self.completions.read(at, &mut words);
        self.taken += 1;
        self.completion_head.store(0, self.taken, Ordering::Release);
        Some(Completion::from_words(&words))
    }
}

/// A valid submission of the first slot, taken now.
pub fn submission(ticket: u64) -> Submission {
    Submission { ticket, observed_ns: now_ns(), submitted_ns: now_ns(), ..Submission::default() }
}

pub fn prompt(text: impl Into<String>) -> Request {
    Request::prompt(text)
}
