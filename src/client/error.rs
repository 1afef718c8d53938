//! Errors of the client library.

use std::fmt;

use rustix::io::Errno;

use super::player::MotionError;
use crate::control::{ConnectError, Malformed, Refusal, Status};
use crate::shm::{LayoutError, RingError, SegmentError};

/// Why a call of the client failed, or that nothing is available yet.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No completion or no chunk is available yet.
    #[error("nothing there yet")]
    Empty,
    /// All slots or ring entries are in use.
    #[error("nothing free yet")]
    Busy,
    /// The time limit of a call has passed.
    #[error("no answer within {} ms", ns / 1_000_000)]
    Timeout {
        /// The time limit, ns.
        ns: u64,
    },
    /// The daemon has ended, closed the session, or sent no heartbeat within the bound.
    #[error("daemon is gone")]
    Gone,
    /// A restarted daemon has resumed the session.
    #[error("daemon was restarted")]
    Restarted,
    /// No fresh chunk is played, the latest chunk is too old, or a completion is overdue.
    #[error("daemon is late")]
    Stale,
    /// The call needs the session's writer, and this client only observes.
    #[error("client only observes: {what} belongs to the session's writer")]
    Observer {
        /// The refused operation.
        what: &'static str,
    },
    /// The daemon now serves a policy that differs in something the program relies on.
    #[error("policy has changed: it had {was}, now {is}")]
    Changed {
        /// The policy's sizes, rate or dimension at opening.
        was: String,
        /// The policy's sizes, rate or dimension now.
        is: String,
    },
    /// The daemon was restarted before it answered a request over the socket.
    #[error("daemon was restarted while it was asked something: ask again, or else reconnect")]
    LostRequest,
    /// No daemon listens on the socket.
    #[error("no daemon: {0}")]
    Connect(#[from] ConnectError),
    /// The connection was closed before the session was open: the daemon was about to end, or has just ended.
    #[error("no daemon: the one that listened on the socket closed the connection before it answered")]
    Unanswered,
    /// The daemon refused the request.
    #[error("daemon refused: {}", .0.reason)]
    Refused(Refusal),
    /// A message of the daemon can't be decoded.
    #[error("daemon: {0}")]
    Malformed(#[from] Malformed),
    /// The daemon sent a message of the wrong kind.
    #[error("daemon sent {got}, expected {expected}")]
    Unexpected {
        /// Name of the message that came.
        got: String,
        /// The message that was expected.
        expected: &'static str,
    },
    /// The daemon's segment layout is invalid.
    #[error("daemon's layout: {0}")]
    SegmentLayout(#[from] LayoutError),
    /// The daemon declares limits of a dimension that no value can satisfy.
    #[error("daemon's limits of {dimension} can't be kept")]
    Limits {
        /// Name and limits of the dimension.
        dimension: String,
    },
    /// A shared segment can't be mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The submission ring is corrupt.
    #[error("submission {0}")]
    Ring(RingError),
    /// A completion answers no submission in flight.
    #[error("daemon answered ticket {ticket} in slot {slot}, which was not asked")]
    Completion {
        /// The completion's ticket.
        ticket: u64,
        /// The completion's observation slot.
        slot: u32,
    },
    /// The published chunk contradicts its header.
    #[error("daemon's {0}")]
    Chunk(crate::shm::ReadError),
    /// The observation slot was not acquired.
    #[error("observation slot {slot} was not acquired")]
    Slot {
        /// Number of the slot.
        slot: u32,
    },
    /// The observation slot was acquired before a reconnect. It is given back now.
    #[error("observation slot {slot} was acquired before the reconnect: acquire again")]
    Reconnected {
        /// Number of the slot.
        slot: u32,
    },
    /// The frame doesn't fit its capacity, or its sizes contradict each other.
    #[error(
        "camera {camera}: {width}x{height} pixels of format {format}, {stride} bytes apart, \
         don't fit the {capacity} bytes of a frame"
    )]
    Frame {
        /// Index of the camera.
        camera: usize,
        /// Width of the frame, pixels per row.
        width: u32,
        /// Height of the frame, rows.
        height: u32,
        /// Bytes from one row to the next.
        stride: u32,
        /// Number of the pixel format.
        format: u32,
        /// Capacity of a frame, bytes.
        capacity: usize,
    },
    /// No submission in flight has this ticket.
    #[error("ticket {ticket} is not under way: never given out, or its completion was taken")]
    Ticket {
        /// The unknown ticket.
        ticket: u64,
    },
    /// A frame was given for a camera the policy doesn't have.
    #[error("camera {camera} has a frame, but the policy has {cameras} cameras")]
    Camera {
        /// Index of the camera.
        camera: usize,
        /// Number of cameras.
        cameras: usize,
    },
    /// No control rate is declared, so chunks can't be played.
    #[error(
        "no control rate: set options.control_rate_hz, or policy.control_rate_hz in the daemon's configuration"
    )]
    NoRate,
    /// A moment that can't be of CLOCK_MONOTONIC, by which chunks are stamped.
    #[error("t_ns is {}; all times are CLOCK_MONOTONIC, pi0rt_now_ns(): is it another clock's?", Apart(*t_ns, *of_ns, of))]
    Moment {
        /// Moment that was asked for, ns.
        t_ns: u64,
        /// The time it is compared with, ns.
        of_ns: u64,
        /// Description of that time.
        of: &'static str,
    },
    /// A chunk whose observation is stamped in the future.
    #[error("chunk's observation is {}: the daemon has let another clock's time pass", Apart(*observed_ns, *now_ns, "now"))]
    FutureChunk {
        /// When its observation was taken, ns.
        observed_ns: u64,
        /// The current time, ns.
        now_ns: u64,
    },
    /// The action buffer has the wrong length.
    #[error("action has room for {got} values, the policy's actions have {expected}")]
    ActionLength {
        /// Values the buffer has room for.
        got: usize,
        /// Values of an action.
        expected: usize,
    },
    /// An option or a command that the player can't work with.
    #[error("{0}")]
    Motion(#[from] MotionError),
    /// The policy as the daemon describes it, or a chunk, can't be played.
    #[error("daemon's policy can't be played: {0}")]
    Unplayable(MotionError),
    /// The velocity buffer has the wrong length.
    #[error("velocity has room for {got} values, the policy's actions have {expected}")]
    VelocityLength {
        /// Values the buffer has room for.
        got: usize,
        /// Values of an action.
        expected: usize,
    },
    /// The command to start from has the wrong length.
    #[error("command has {got} values, the policy's actions have {expected}")]
    CommandLength {
        /// Values of the command.
        got: usize,
        /// Values of an action.
        expected: usize,
    },
    /// The instruction is too long to be sent.
    #[error("instruction has {got} bytes, at most {max} are allowed")]
    TextLength {
        /// Length of the instruction, bytes.
        got: usize,
        /// Longest instruction, bytes.
        max: usize,
    },
    /// A system call failed on the client side.
    #[error("{call}: {errno}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// Error code of the call.
        errno: Errno,
    },
}

/// The distance between two moments, for error texts.
struct Apart(u64, u64, &'static str);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.abs_diff(self.1) as f64 / 1e9;
        let side = if self.0 > self.1 { "after" } else { "before" };
        write!(f, "{seconds:.3} s {side} {}", self.2)
    }
}

impl ClientError {
    /// This error of a connection whose session is not open yet: a daemon that is gone is no daemon.
    pub(super) fn before_open(self) -> ClientError {
        match self {
            ClientError::Gone => ClientError::Unanswered,
            error => error,
        }
    }

    /// The status that the C ABI returns for this error.
    pub fn status(&self) -> Status {
        match self {
            ClientError::Empty => Status::Empty,
            ClientError::Busy => Status::Busy,
            ClientError::Timeout { .. } => Status::Timeout,
            ClientError::Gone => Status::Gone,
            ClientError::Restarted | ClientError::LostRequest | ClientError::Reconnected { .. } => {
                Status::Restarted
            }
            ClientError::Stale => Status::Stale,
            ClientError::Observer { .. } => Status::Observer,
            ClientError::Changed { .. } => Status::Refused,
            // A user without access isn't told if a daemon listens.
            ClientError::Connect(error) if error.errno == Errno::ACCESS => Status::Refused,
            ClientError::Connect(_) | ClientError::Unanswered => Status::NoDaemon,
            ClientError::Refused(refusal) => refusal.status,
            ClientError::Malformed(malformed) => malformed.status(),
            ClientError::Unexpected { .. }
            | ClientError::SegmentLayout(_)
            | ClientError::Limits { .. }
            | ClientError::Ring(_)
            | ClientError::Completion { .. }
            | ClientError::Unplayable(_)
            | ClientError::Chunk(_) => Status::Protocol,
            ClientError::Segment(_) | ClientError::System { .. } => Status::System,
            ClientError::Frame { .. } => Status::FrameSize,
            ClientError::Ticket { .. } => Status::UnknownTicket,
            ClientError::NoRate => Status::NoRate,
            ClientError::Moment { .. } | ClientError::FutureChunk { .. } => Status::OtherClock,
            ClientError::Slot { .. }
            | ClientError::Camera { .. }
            | ClientError::ActionLength { .. }
            | ClientError::VelocityLength { .. }
            | ClientError::CommandLength { .. }
            | ClientError::Motion(_)
            | ClientError::TextLength { .. } => Status::InvalidArgument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_may_not_connect_is_refused_and_does_not_wait_for_a_daemon() {
        let error = |errno| ClientError::Connect(ConnectError { path: "/s".into(), errno });
        assert_eq!(error(Errno::ACCESS).status(), Status::Refused);
        for errno in [Errno::NOENT, Errno::CONNREFUSED] {
            assert_eq!(error(errno).status(), Status::NoDaemon);
        }
    }

    #[test]
    fn times_of_another_clock_are_said_to_be_before_or_after() {
        let chunk = |observed_ns, now_ns| ClientError::FutureChunk { observed_ns, now_ns }.to_string();
        assert!(chunk(3_500_000_000, 2_000_000_000).contains(" 1.500 s after now"));
        let moment = ClientError::Moment { t_ns: 2_000_000_000, of_ns: 3_250_000_000, of: "the chunk" };
        assert!(moment.to_string().starts_with("t_ns is 1.250 s before the chunk; "), "{moment}");
    }
}
