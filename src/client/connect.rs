//! Opening a session: connection, handshake, mapping.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::check::check;
use super::error::ClientError;
use super::motion::Playing;
use super::socket::readable;
use crate::control::{
    FEATURE_CONTRACT, FEATURE_FAULTS, FEATURE_MOTION, FEATURE_NUMBERS, FEATURE_TOKEN, GuidanceChoice, Hello,
    MAX_MESSAGE, Received, Reply, Request, WELCOME_FDS, Welcome, connect_until, default_socket, number_of,
    receive_with_fds, send,
};
use crate::shm::clock::now_ns;
use crate::shm::{Access, Segment};

/// Options of a session. The default of each number is 0.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The daemon's socket; None: `$PI0RT_SOCKET`, else `/run/pi0rt/pi0rt.sock`.
    pub socket: Option<PathBuf>,
    /// Observe another client's session, read-only: its chunks, actions, statistics and liveness.
    pub observe: bool,
    /// The session's name, at most 63 bytes. A name has one writer at a time. Empty: none, or, for an
    /// observer, the only session there is.
    pub name: String,
    /// Capacity of each camera's frame in bytes; 0: the daemon's choice.
    pub frame_bytes: u32,
    /// Number of observation slots; 0: the daemon's choice.
    pub slots: u32,
    /// Ring entries, a power of two; 0: the daemon's choice.
    pub entries: u32,
    /// Age of the daemon's heartbeat, ns, beyond which the daemon counts as gone; 0: 500 ms.
    pub gone_after_ns: u64,
    /// Age of the latest chunk's observation, and time a completion may be overdue, ns, beyond which the daemon
    /// counts as late. 0: chunks are played to the end of their rows, and nothing else is late.
    pub stale_after_ns: u64,
    /// Longest wait for a reply over the socket, ns; 0: 60 s.
    pub reply_timeout_ns: u64,
    /// Actions per second at which chunks are played; 0: the rate the daemon declares.
    pub control_rate_hz: f32,
    /// Choices of how chunks are played.
    pub playing: Playing,
    /// How chunks are guided by the previous one. Its rate is [`control_rate_hz`](Self::control_rate_hz).
    pub guidance: GuidanceChoice,
    /// Accept observations without frames of cameras that the policy needs: the policy then sees what it saw in
    /// training for an absent camera.
    pub allow_missing_cameras: bool,
}

/// Result of the handshake: socket, welcome and mapped segments.
pub(super) struct Opened {
    pub socket: OwnedFd,
    pub welcome: Welcome,
    pub results: Arc<Segment>,
    /// The writer's segments and doorbell; None for an observer.
    pub writing: Option<WriterSegments>,
}

pub(super) struct WriterSegments {
    pub control: Arc<Segment>,
    pub observation: Arc<Segment>,
    pub eventfd: OwnedFd,
}

pub(super) const REPLY_TIMEOUT_NS: u64 = 60_000_000_000;

pub(super) fn open(options: &Options, token: u64) -> Result<Opened, ClientError> {
    options.playing.check()?;
    let path = options.socket.clone().unwrap_or_else(default_socket);
    let timeout = if options.reply_timeout_ns == 0 { REPLY_TIMEOUT_NS } else { options.reply_timeout_ns };
    let deadline = now_ns().saturating_add(timeout);
    let socket = match connect_until(&path, deadline) {
        Err(error) if error.errno == Errno::AGAIN => return Err(ClientError::Timeout { ns: timeout }),
        connected => connected?,
    };
    let mut hello = Hello {
        abi: crate::control::ABI_VERSION,
        features: 0,
        understands: FEATURE_CONTRACT | FEATURE_FAULTS | FEATURE_NUMBERS | FEATURE_TOKEN | FEATURE_MOTION,
        frame_bytes: options.frame_bytes,
        slots: options.slots,
        entries: options.entries,
        observes: options.observe,
        name: options.name.clone(),
        missing_cameras: options.allow_missing_cameras,
        token,
        guidance: GuidanceChoice { rate_hz: Some(options.control_rate_hz), ..options.guidance },
    };
    hello.features = hello.needs();
    match send(socket.as_fd(), &Request::Hello(hello).encode()) {
        Ok(()) => {}
        // The daemon may have sent the reason before it closed: read on.
        Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(errno) => return Err(ClientError::System { call: "send", errno }),
    }
    let answered = answer(&socket, deadline.saturating_sub(now_ns()), || ());
    let Answer { reply, fds, .. } = answered.map_err(|error| match error {
        ClientError::Timeout { .. } => ClientError::Timeout { ns: timeout },
        error => error.before_open(),
    })?;
    let welcome = match reply {
        Reply::Welcome(welcome) => *welcome,
        other => return Err(unexpected(other, "a welcome")),
    };
    check(&welcome)?;
    let expected = if options.observe { "1 descriptor" } else { "4 descriptors" };
    let count = fds.len();
    let number = move || ClientError::Unexpected { got: format!("{count} descriptors"), expected };
    let layout = &welcome.layout;
    let map =
        |name, fd: &OwnedFd, len: u32, access| Segment::map(name, fd, len as usize, access).map(Arc::new);
    let (results, writing) = if options.observe {
        let [results]: [OwnedFd; 1] = fds.try_into().map_err(|_| number())?;
        (results, None)
    } else {
        let fds: [OwnedFd; WELCOME_FDS] = fds.try_into().map_err(|_| number())?;
        let [control, observation, results, eventfd] = fds;
        let writing = WriterSegments {
            control: map("control", &control, layout.control_bytes, Access::Write)?,
            observation: map("observation", &observation, layout.observation_bytes, Access::Write)?,
            eventfd,
        };
        (results, Some(writing))
    };
    let results = map("results", &results, layout.results_bytes, Access::Read)?;
    Ok(Opened { socket, welcome, results, writing })
}

/// A reply, the number of the request it answers, and its descriptors.
pub(super) struct Answer {
    pub reply: Reply,
    /// Number of the request; 0: the daemon doesn't number its replies.
    pub number: u32,
    pub fds: Vec<OwnedFd>,
}

/// Waits for the daemon's reply, skipping events.
pub(super) fn answer(
    socket: impl AsFd,
    timeout_ns: u64,
    mut event: impl FnMut(),
) -> Result<Answer, ClientError> {
    let deadline = now_ns().saturating_add(timeout_ns);
    let mut buffer = Box::new([0; MAX_MESSAGE]);
    loop {
        let received = receive_with_fds(socket.as_fd(), &mut buffer[..]);
        let (received, fds) = received.map_err(|errno| ClientError::System { call: "recvmsg", errno })?;
        match received {
            Received::Packet(len) => match Reply::decode(&buffer[..len])? {
                Reply::Event => {
                    event();
                    if now_ns() >= deadline {
                        return Err(ClientError::Timeout { ns: timeout_ns });
                    }
                }
                reply => return Ok(Answer { reply, number: number_of(&buffer[..len]), fds }),
            },
            Received::Closed => return Err(ClientError::Gone),
            Received::TooLong => {
                let got = format!("a message of more than {MAX_MESSAGE} bytes");
                return Err(ClientError::Unexpected { got, expected: "an answer" });
            }
            Received::Nothing => {
                if !readable(&socket, deadline.saturating_sub(now_ns()))? && now_ns() >= deadline {
                    return Err(ClientError::Timeout { ns: timeout_ns });
                }
            }
        }
    }
}

/// The error for a reply of the wrong kind.
pub(super) fn unexpected(reply: Reply, expected: &'static str) -> ClientError {
    let got = match reply {
        Reply::Refused(refusal) => return ClientError::Refused(refusal),
        Reply::Welcome(_) => "a welcome",
        Reply::PromptReady { .. } => "a prompt's number",
        Reply::ResetDone { .. } => "the end of a reset",
        Reply::Event => "an event",
    };
    ClientError::Unexpected { got: got.into(), expected }
}
