//! A connection of the hostile client, with writes to its memory.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

use pi0rt::control::{self, Hello, Received, Reply, Request, Welcome};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Access, Segment};
use rustix::fs::{FallocateFlags, fallocate};

use super::super::{CAMERAS, Input, store};
use super::bounds::LONG;

pub struct Session {
    pub welcome: Welcome,
    pub fds: Vec<OwnedFd>,
    pub control: Arc<Segment>,
    pub observation: Arc<Segment>,
    results: Arc<Segment>,
    pub tail: Arc<AtomicU64>,
}

pub struct Hostile {
    pub socket: OwnedFd,
    pub session: Option<Session>,
}

impl Hostile {
    pub fn connect(path: &Path) -> Hostile {
        Hostile { socket: control::connect(path).unwrap(), session: None }
    }

    /// Sends a packet; true if there was room for it.
    pub fn say(&self, packet: &[u8]) -> bool {
        control::send(self.socket.as_fd(), packet).is_ok()
    }

    /// Reads what is available; true if there was anything, including the connection's end.
    pub fn listen(&mut self, buffer: &mut [u8]) -> bool {
        self.receive(buffer).is_some()
    }

    /// Reads what is available; true if it was the connection's end.
    fn listen_for_end(&mut self, buffer: &mut [u8]) -> bool {
        matches!(self.receive(buffer), Some(None))
    }

    /// Reads what is available: `None` if nothing, `Some(None)` for the end, else the message.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Option<Reply>> {
        let (received, fds) = control::receive_with_fds(self.socket.as_fd(), buffer).unwrap();
        let len = match received {
            Received::Packet(len) => len,
            Received::Nothing => return None,
            Received::Closed => return Some(None),
            Received::TooLong => panic!("the daemon has sent more than a message"),
        };
        // The daemon's messages are valid whatever it received.
        let reply = Reply::decode(&buffer[..len]).unwrap();
        if let Reply::Welcome(welcome) = &reply {
            self.welcomed(welcome, fds);
        }
        Some(Some(reply))
    }

    fn welcomed(&mut self, welcome: &Welcome, fds: Vec<OwnedFd>) {
        let layout = welcome.layout;
        layout.check().unwrap();
        let map = |i: usize, bytes: u32, access| Segment::map("hostile", &fds[i], bytes as usize, access);
        if let [_results] = &fds[..] {
            // As an observer it may only read the session.
            assert!(map(0, layout.results_bytes, Access::Write).is_err());
            return;
        }
        let control = Arc::new(map(0, layout.control_bytes, Access::Write).unwrap());
        let observation = Arc::new(map(1, layout.observation_bytes, Access::Write).unwrap());
        assert!(map(2, layout.results_bytes, Access::Write).is_err());
        let results = Arc::new(map(2, layout.results_bytes, Access::Read).unwrap());
        let (welcome, tail) = (welcome.clone(), Arc::default());
        self.session = Some(Session { welcome, fds, control, observation, results, tail });
    }

    /// Sends a hello and waits for the reply.
    pub fn open(&mut self, hello: Hello, buffer: &mut [u8]) {
        self.say(&Request::Hello(hello).encode());
        self.until(buffer, |_| true);
    }

    /// The next message that is not an event.
    pub fn hear(&mut self, buffer: &mut [u8]) -> Reply {
        let mut heard = None;
        self.until(buffer, |reply| {
            let is_it = !matches!(reply, Some(Reply::Event));
            heard = reply.cloned().filter(|_| is_it);
            is_it
        });
        heard.expect("the daemon has closed the connection")
    }

    /// Reads until a message matches; `None` is the end, after which nothing does.
    fn until(&mut self, buffer: &mut [u8], mut is: impl FnMut(Option<&Reply>) -> bool) {
        let end = Instant::now() + LONG;
        loop {
            match self.receive(buffer) {
                Some(reply) if is(reply.as_ref()) || reply.is_none() => return,
                Some(_) => {}
                None => std::thread::yield_now(),
            }
            assert!(Instant::now() < end, "there is no answer");
        }
    }

    /// Registers an instruction, despite earlier requests. True if the session is still open.
    pub fn prompt(&mut self, text: &str, buffer: &mut [u8]) -> bool {
        if self.session.is_none() {
            return false;
        }
        let packet = Request::prompt(text).encode();
        while !self.say(&packet) {
            // Earlier messages are handled soon, or its session is over.
            if self.listen_for_end(buffer) {
                return false;
            }
        }
        let mut there = false;
        self.until(buffer, |reply| {
            there = matches!(reply, Some(Reply::PromptReady { .. }));
            there
        });
        there
    }
}

impl Session {
    pub fn submit(&mut self, words: [u64; 7]) {
        let layout = &self.welcome.layout;
        let entries = u64::from(layout.geometry.entries);
        let tail = self.tail.load(Ordering::Relaxed);
        let at = layout.submissions.offset as usize + (tail % entries) as usize * 64;
        for (i, word) in words.into_iter().enumerate() {
            store(&self.control, at + 8 + i * 8, word);
        }
        self.tail.store(tail.wrapping_add(1), Ordering::Relaxed);
        // What it plays is as true as what it submits.
        let playback = layout.playback.offset as usize;
        store(&self.control, playback, words[1]);
        store(&self.control, playback + 8, words[0]);
        fence(Ordering::Release);
        store(&self.control, at, tail.wrapping_add(1));
    }

    /// Writes an observation that is valid except for the input's changes.
    pub fn observation(&self, input: &mut Input<'_>) {
        let layout = &self.welcome.layout;
        let slot = input.u8() as usize % layout.geometry.slots as usize * layout.slot.len as usize;
        for camera in 0..CAMERAS {
            let size = input.choose(&[0x4_0000_0004, 0x2_0000_0005, 0, 0x1_0000_0040, u64::MAX]);
            let form = input.choose(&[0x1_0000_000c, 0x3_0000_0014, 0x4_0000_0040, 0, 0x2_0000_0010]);
            store(&self.observation, slot + camera * 16, size);
            store(&self.observation, slot + camera * 16 + 8, form);
        }
        let state = input.choose(&[0x3f80_0000_4000_0000, 0, 0x7fc0_0000_7f80_0000]);
        store(&self.observation, slot + layout.state.offset as usize, state);
        store(&self.observation, slot + layout.state.offset as usize + 8, state);
    }

    /// Writes frames of the maximum size, or close to it.
    pub fn large_observation(&self, input: &mut Input<'_>) {
        let layout = &self.welcome.layout;
        let slot = input.u8() as usize % layout.geometry.slots as usize * layout.slot.len as usize;
        let bytes = u64::from(layout.geometry.frame_bytes);
        for camera in 0..CAMERAS {
            let stride = input.choose(&[1920 * 3, 1 << 10, 1, u32::MAX, 1 << 20]);
            let height = (bytes / u64::from(stride)).wrapping_add(input.choose(&[0, 0, 1, u64::MAX]));
            let format = input.choose(&[1u64, 3, 4, 2]);
            let pixel = input.choose(&[3, 4, 1]);
            let width = u64::from(stride) / pixel;
            store(&self.observation, slot + camera * 16, width | height << 32);
            store(&self.observation, slot + camera * 16 + 8, u64::from(stride) | format << 32);
        }
    }

    /// Punches holes into its own memory.
    pub fn punch(&self, input: &mut Input<'_>) {
        let len = u64::from(self.welcome.layout.observation_bytes);
        let from = u64::from(input.u16()) * 4096 % len;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(self.fds[1].as_fd(), punch, from, len - from);
    }

    /// Copies of its descriptors, which outlive it.
    pub fn copies(&self) -> Vec<OwnedFd> {
        self.fds.iter().map(|fd| fd.try_clone().unwrap()).collect()
    }

    pub fn flood(&self) -> Flood {
        Flood {
            welcome: self.welcome.clone(),
            control: self.control.clone(),
            results: self.results.clone(),
            tail: self.tail.clone(),
        }
    }
}

/// A session that submits again in each turn, and discards all completions.
pub struct Flood {
    welcome: Welcome,
    control: Arc<Segment>,
    results: Arc<Segment>,
    tail: Arc<AtomicU64>,
}

impl Flood {
    pub fn submit(&mut self) {
        let layout = &self.welcome.layout;
        let taken = load(&self.results, layout.submission_head.offset as usize);
        // At most two are unanswered.
        store(&self.control, layout.completion_head.offset as usize, taken.saturating_sub(2));
        let (tail, entries) = (self.tail.load(Ordering::Relaxed), u64::from(layout.geometry.entries));
        if tail.wrapping_sub(taken) >= entries {
            return;
        }
        let at = layout.submissions.offset as usize + (tail % entries) as usize * 64;
        let now = now_ns();
        for (i, word) in [tail, 0, now, now, 0, now + 1_000_000, 0].into_iter().enumerate() {
            store(&self.control, at + 8 + i * 8, word);
        }
        self.tail.store(tail + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        store(&self.control, at, tail + 1);
    }
}

fn load(segment: &Segment, offset: usize) -> u64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= segment.len());
    // SAFETY: in bounds, aligned, mapped.
    unsafe { segment.as_ptr().add(offset).cast::<u64>().read_volatile() }
}
