//! The controller's side of each way of sending.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pi0rt::client::{Client, ClientError, Observation, Options};
use pi0rt::shm::sync::{Ordering, spin_hint};
use pi0rt::shm::{Access, Camera, PixelLayout, Segment, UNWRITTEN_FRAME, Words, Writer};

use super::args::{Args, Mode, Peer};
use crate::interrupt::{ChildGroup, Scratch};

/// Offset of the payload in the floor's segments: after the word, on a page of its own.
pub const PAYLOAD: usize = 4096;
const ANSWER_NS: u64 = 10_000_000_000;

/// The other process and the link to it. Dropping it ends the process.
pub struct Link {
    way: Way,
    payload: usize,
    _server: ChildGroup,
    _scratch: Option<Scratch>,
}

enum Way {
    Ours { client: Box<Client>, slot: u32, sleepy: bool },
    Floor { request: Words, answer: Words, segment: Arc<Segment>, count: u64 },
    Unix { stream: UnixStream, bytes: Vec<u8> },
}

impl Link {
    pub fn open(peer: Option<Peer>, args: &Args, cores: [usize; 2]) -> Result<Link, String> {
        let payload = args.payload as usize;
        let mut command = Command::new(std::env::current_exe().map_err(|e| format!("this program: {e}"))?);
        command.args(["bench", "ipc", "--payload", &payload.to_string()]);
        command.args(["--cores", &format!("{},{}", cores[0], cores[1])]);
        command.args(["--mode", &format!("{:?}", args.mode).to_lowercase()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = |command: &mut Command, link: String| -> Result<ChildGroup, String> {
            let server = ChildGroup::spawn(command.arg("--serve").arg(link));
            let mut server = server.map_err(|e| format!("server: {e}"))?;
            let mut ready = [0];
            let stdout = server.child().and_then(|child| child.stdout.as_mut());
            let stdout = stdout.ok_or("server without output")?;
            stdout.read_exact(&mut ready).map_err(|e| format!("server ended early: {e}"))?;
            Ok(server)
        };
        match peer {
            None => {
                let scratch = std::env::temp_dir().join(format!("pi0rt-bench-{}", std::process::id()));
                let failed = format!("{}: ", scratch.display());
                let scratch = Scratch::make(scratch).map_err(|e| failed + &e.to_string())?;
                let socket = scratch.path().join("pi0rt.sock");
                let server = start(&mut command, format!("daemon:{}", socket.display()))?;
                let options = Options {
                    socket: Some(socket),
                    frame_bytes: args.payload,
                    gone_after_ns: ANSWER_NS,
                    ..Options::default()
                };
                let mut client = Client::open(&options).map_err(|e| e.to_string())?;
                client.set_prompt("do nothing").map_err(|e| e.to_string())?;
                let way = Way::Ours { client: client.into(), slot: 0, sleepy: args.mode != Mode::Spin };
                Ok(Link { way, payload, _server: server, _scratch: Some(scratch) })
            }
            Some(Peer::Unix) => {
                let (ours, theirs) = UnixStream::pair().map_err(|e| format!("socketpair: {e}"))?;
                command.stdin(Stdio::from(OwnedFd::from(theirs)));
                let server = start(&mut command, "unix".into())?;
                let bytes = vec![1; payload.max(1)];
                Ok(Link { way: Way::Unix { stream: ours, bytes }, payload, _server: server, _scratch: None })
            }
            Some(peer) => {
                let size = PAYLOAD + payload;
                let make = |name, writer| Segment::create(name, size, writer).map_err(|e| e.to_string());
                let (mine, theirs) = (make("request", Writer::Daemon)?, make("answer", Writer::Client)?);
                let path = |segment: &Segment| {
                    let fd = segment.fd().map_or(-1, |fd| fd.as_raw_fd());
                    format!("/proc/{}/fd/{fd}", std::process::id())
                };
                let name = if peer == Peer::Floor { "floor" } else { "copy" };
                let server = start(&mut command, format!("{name}:{}:{}", path(&mine), path(&theirs)))?;
                let (segment, theirs) = (Arc::new(mine), Arc::new(theirs));
                let words = |segment| Words::new(segment, 0, 1).ok_or("segment without a word");
                let (request, answer) = (words(&segment)?, words(&theirs)?);
                let way = Way::Floor { request, answer, segment, count: 0 };
                let payload = if peer == Peer::Floor { 0 } else { payload };
                Ok(Link { way, payload, _server: server, _scratch: None })
            }
        }
    }

    /// Prepares the payload before the clock starts, as a camera driver would.
    pub fn prepare(&mut self, touch: bool) -> Result<(), String> {
        let value = rand_byte();
        match &mut self.way {
            Way::Ours { client, slot, .. } => {
                *slot = client.acquire().map_err(|e| e.to_string())?;
                // A submitted frame must not still begin with the marker of unwritten ones: without
                // `touch`, only that is overwritten.
                let bytes = if touch { self.payload } else { self.payload.min(UNWRITTEN_FRAME.len()) };
                if let Some(frame) = client.frame(*slot, 0) {
                    // SAFETY: the slot was acquired and its frame has room for the payload.
                    unsafe { frame.write_bytes(value, bytes) };
                }
                let values = client.policy().state_dim as usize;
                if let Some(state) = client.state(*slot) {
                    // SAFETY: as above, for the state.
                    unsafe { state.write_bytes(0, values) };
                }
            }
            Way::Floor { segment, .. } if touch => {
                // SAFETY: the segment has PAYLOAD + payload bytes, mapped writable here.
                unsafe { segment.as_ptr().add(PAYLOAD).write_bytes(value, self.payload) };
            }
            Way::Floor { .. } => {}
            Way::Unix { bytes, .. } => {
                if touch {
                    bytes.fill(value);
                }
            }
        }
        Ok(())
    }

    /// Makes one round trip. For pi0rt, returns the time from submission until the daemon began, ns, and
    /// the time at which it finished.
    #[inline]
    pub fn round(&mut self) -> Result<Option<(u64, u64)>, String> {
        match &mut self.way {
            Way::Ours { client, slot, sleepy } => {
                let mut observation = Observation { slot: *slot, ..Observation::default() };
                if self.payload > 0 {
                    let width = self.payload as u32;
                    let format = PixelLayout::Gray8 as u32;
                    observation.cameras[0] = Camera { width, height: 1, stride: width, format };
                }
                let ticket = client.submit(&observation).map_err(|e| e.to_string())?;
                let completion = if *sleepy {
                    client.wait(Some(ticket), ANSWER_NS)
                } else {
                    loop {
                        match client.poll() {
                            Err(ClientError::Empty) => spin_hint(),
                            result => break result,
                        }
                    }
                };
                let completion = completion.map_err(|e| e.to_string())?;
                if (completion.ticket, completion.status) != (ticket, 0) {
                    return Err(format!("ticket {ticket} was answered with {completion:?}"));
                }
                let there = completion.started_ns.saturating_sub(completion.submitted_ns);
                Ok(Some((there, completion.finished_ns)))
            }
            Way::Floor { request, answer, count, .. } => {
                *count += 1;
                request.store(0, *count, Ordering::Release);
                while answer.load(0, Ordering::Acquire) != *count {
                    spin_hint();
                }
                Ok(None)
            }
            Way::Unix { stream, bytes } => {
                let mut answer = [0];
                stream.write_all(bytes).map_err(|e| format!("write: {e}"))?;
                stream.read_exact(&mut answer).map_err(|e| format!("read: {e}"))?;
                Ok(None)
            }
        }
    }
}

fn rand_byte() -> u8 {
    pi0rt::shm::clock::now_ns() as u8
}

/// Maps a segment created by the first process.
pub fn map(name: &'static str, path: &str, len: usize, access: Access) -> Result<Arc<Segment>, String> {
    let file = std::fs::OpenOptions::new().read(true).write(access == Access::Write).open(path);
    let fd: OwnedFd = file.map_err(|e| format!("{path}: {e}"))?.into();
    Segment::map(name, &fd, len, access).map(Arc::new).map_err(|e| e.to_string())
}
