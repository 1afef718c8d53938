//! A fake daemon that says and writes exactly what the test tells it to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use pi0rt::client::{Client, ClientError, Options};
use pi0rt::control::{self, FEATURES, MAX_MESSAGE, PolicyDescription, Received, Reply, Request, Welcome};
use pi0rt::shm::sync::Ordering;
use pi0rt::shm::{
    ChunkHeader, Completion, ENTRY_WORDS, Geometry, LatestWriter, Producer, Region, Segment, SegmentLayout,
    Submission, Words, Writer,
};
use rustix::event::{EventfdFlags, eventfd};

use crate::daemons::{Directory, eventually, listen, patient};

/// A listener, until dropped. Each connection gets the same welcome and its own segments.
pub struct Puppet {
    pub directory: Directory,
    listener: Arc<OwnedFd>,
    sessions: Receiver<Strings>,
}

/// The daemon's side of one session.
pub struct Strings {
    pub socket: OwnedFd,
    pub layout: SegmentLayout,
    control: Arc<Segment>,
    results: Arc<Segment>,
    completions: Producer,
    latest: LatestWriter,
}

/// A valid welcome.
pub fn welcome() -> Welcome {
    let geometry = Geometry {
        cameras: 2,
        frame_bytes: 64,
        state_dim: 3,
        horizon: 4,
        action_dim: 2,
        slots: 4,
        entries: 8,
    };
    let policy = PolicyDescription {
        cameras: vec!["base".into(), "wrist".into()],
        state_dim: geometry.state_dim,
        action_dim: geometry.action_dim,
        horizon: geometry.horizon,
        ..PolicyDescription::default()
    };
    Welcome {
        abi: 1,
        features: FEATURES,
        session: 1,
        epoch: 1,
        heartbeat_ns: 10_000_000,
        max_age_ns: 0,
        layout: SegmentLayout::plan(geometry).unwrap(),
        policy,
        token: 1,
    }
}

impl Puppet {
    pub fn new(welcome: Welcome) -> Puppet {
        let directory = Directory::new();
        let listener = Arc::new(listen(&directory.socket()));
        let (opened, sessions) = channel();
        let door = listener.clone();
        std::thread::spawn(move || {
            while let Ok(socket) = rustix::net::accept(&*door) {
                let _ = opened.send(Strings::attach(socket, &welcome));
            }
        });
        Puppet { directory, listener, sessions }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Opens a client, and returns it with the daemon's side of its session.
    pub fn open(&self, options: &Options) -> (Client, Strings) {
        loop {
            let opened = Client::open(options);
            let strings = self.next();
            match opened {
                Ok(client) => return (client, strings),
                // The test's timeout may be too short on a busy machine.
                Err(ClientError::Timeout { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The daemon's side of the session opened last.
    pub fn next(&self) -> Strings {
        self.sessions.recv().unwrap()
    }

    /// Options for a client that waits no longer than `reply_timeout_ns` for an answer.
    pub fn options(&self, reply_timeout_ns: u64) -> Options {
        Options { reply_timeout_ns, ..patient(&self.socket()) }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
    }
}

impl Strings {
    /// Creates segments laid out for the geometry, whatever else the welcome says.
    fn attach(socket: OwnedFd, welcome: &Welcome) -> Strings {
        let layout = SegmentLayout::plan(welcome.layout.geometry).unwrap();
        let make =
            |name, bytes: u32, writer| Arc::new(Segment::create(name, bytes as usize, writer).unwrap());
        let control = make("puppet-control", layout.control_bytes, Writer::Client);
        let observation = make("puppet-observation", layout.observation_bytes, Writer::Client);
        let results = make("puppet-results", layout.results_bytes, Writer::Daemon);
        let words = |segment, region: Region| SegmentLayout::words(segment, region).unwrap();
        let completions =
            Producer::new(words(&results, layout.completions), words(&control, layout.completion_head));
        let (latest, chunks) = (words(&results, layout.latest), words(&results, layout.chunks));
        let latest = LatestWriter::new(latest, chunks, layout.geometry.values());
        let strings = Strings { socket, layout, control, results, completions, latest };
        strings.live(welcome.epoch);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let fds = [&strings.control, &observation, &strings.results].map(|segment| segment.fd().unwrap());
        let fds = [fds[0], fds[1], fds[2], bell.as_fd()];
        let packet = Reply::Welcome(Box::new(welcome.clone())).encode();
        // The client may already be gone.
        let _ = control::send_with_fds(strings.socket.as_fd(), &packet, &fds);
        strings
    }

    fn words(&self, segment: &Arc<Segment>, region: Region) -> Words {
        SegmentLayout::words(segment, region).unwrap()
    }

    /// Marks a daemon as alive with a heartbeat that never ages.
    pub fn live(&self, epoch: u64) {
        let words = self.words(&self.results, self.layout.liveness);
        words.store(2, u64::MAX / 2, Ordering::Release);
        words.store(1, 1, Ordering::Release);
        words.store(0, epoch, Ordering::Release);
    }

    /// Ends the session.
    pub fn die(&self) {
        self.words(&self.results, self.layout.liveness).store(1, 2, Ordering::Release);
    }

    /// True if the client has requested completion events.
    pub fn wants_events(&self) -> bool {
        self.words(&self.control, self.layout.want_event).load(0, Ordering::Acquire) != 0
    }

    /// The words by which a client tells what it plays.
    pub fn playback(&self) -> [u64; 2] {
        let words = self.words(&self.control, self.layout.playback);
        [0, 1].map(|word| words.load(word, Ordering::Acquire))
    }

    /// Submission number `n`, from 0.
    pub fn submitted(&self, n: u64) -> Submission {
        let words = self.words(&self.control, self.layout.submissions);
        let at = (n % u64::from(self.layout.geometry.entries)) as usize * ENTRY_WORDS;
        assert_eq!(words.load(at, Ordering::Acquire), n + 1);
        let mut entry = [0; ENTRY_WORDS];
        words.read(at, &mut entry);
        Submission::from_words(&entry)
    }

    /// Takes this many submissions.
    pub fn take(&self, submissions: u64) {
        let head = self.words(&self.results, self.layout.submission_head);
        head.store(0, submissions, Ordering::Release);
    }

    pub fn complete(&mut self, completion: Completion) {
        self.completions.push(&completion.to_words()).unwrap();
    }

    /// Publishes a chunk of 0.5 everywhere with the given header.
    pub fn publish(&mut self, header: ChunkHeader) {
        let values = self.layout.geometry.values();
        self.latest.publish(header, &vec![0.5; values]).unwrap();
    }

    pub fn say(&self, reply: &Reply, number: u32) {
        control::send(self.socket.as_fd(), &control::numbered(reply.encode(), number)).unwrap();
    }

    /// The next request, with its number.
    pub fn hear(&self) -> (Request, u32) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut heard = None;
        eventually("the client asks", || {
            heard = match control::receive(self.socket.as_fd(), &mut buffer).unwrap() {
                Received::Nothing => return false,
                Received::Packet(len) => {
                    Some((Request::decode(&buffer[..len]).unwrap(), control::number_of(&buffer[..len])))
                }
                other => panic!("{other:?}"),
            };
            !matches!(heard, Some((Request::Hello(_), _)))
        });
        heard.unwrap()
    }
}
