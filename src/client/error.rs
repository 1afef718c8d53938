//! What can go wrong on the client's side.

use std::fmt;

use rustix::io::Errno;

use crate::control::{ConnectError, Malformed, Refusal, Status};
use crate::shm::{LayoutError, RingError, SegmentError};

/// What went wrong, or that there is nothing yet.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No completion, no chunk.
    #[error("nothing there yet")]
    Empty,
    /// All slots or ring entries are in use.
    #[error("nothing free yet")]
    Busy,
    /// The time allowed has passed.
    #[error("no answer within {} ms", ns / 1_000_000)]
    Timeout {
        /// The time allowed.
        ns: u64,
    },
    /// The daemon has ended, closed the session, or shows no life within the bound.
    #[error("daemon is gone")]
    Gone,
    /// Another life of the daemon has taken up the session.
    #[error("daemon was restarted")]
    Restarted,
    /// The daemon lives, but the latest chunk is too old, or an answer has been due for too long.
    #[error("daemon is late")]
    Stale,
    /// What only a session's writer can do.
    #[error("client only observes: {what} belongs to the session's writer")]
    Observer {
        /// What was asked for.
        what: &'static str,
    },
    /// The policy that is served now is another one.
    #[error("policy has changed: it had {was}, now {is}")]
    Changed {
        /// Sizes of before.
        was: String,
        /// Sizes of now.
        is: String,
    },
    /// What was asked over the socket may have been lost with the previous daemon.
    #[error("daemon was restarted while it was asked something: ask again, or else reconnect")]
    LostRequest,
    /// No daemon there.
    #[error("no daemon: {0}")]
    Connect(#[from] ConnectError),
    /// The connection was closed before the session was open: its daemon was about to end, or has just ended.
    #[error("no daemon: the one that listened on the socket closed the connection before it answered")]
    Unanswered,
    /// The daemon won't do it.
    #[error("daemon refused: {}", .0.reason)]
    Refused(Refusal),
    /// The daemon says something that makes no sense.
    #[error("daemon: {0}")]
    Malformed(#[from] Malformed),
    /// The daemon says something unexpected.
    #[error("daemon sent {got}, expected {expected}")]
    Unexpected {
        /// What came.
        got: String,
        /// What should have come.
        expected: &'static str,
    },
    /// The daemon's layout can't be.
    #[error("daemon's layout: {0}")]
    SegmentLayout(#[from] LayoutError),
    /// A dimension whose limits no value can keep.
    #[error("daemon's limits of {dimension} can't be kept")]
    Limits {
        /// The dimension.
        dimension: String,
    },
    /// A segment can't be used.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The submission ring is corrupt.
    #[error("submission {0}")]
    Ring(RingError),
    /// A completion that answers nothing that was asked.
    #[error("daemon answered ticket {ticket} in slot {slot}, which was not asked")]
    Completion {
        /// Its ticket.
        ticket: u64,
        /// Its slot.
        slot: u32,
    },
    /// A chunk that isn't as announced.
    #[error("daemon's {0}")]
    Chunk(crate::shm::ReadError),
    /// A slot that was not acquired.
    #[error("observation slot {slot} was not acquired")]
    Slot {
        /// The slot.
        slot: u32,
    },
    /// A frame that doesn't fit or makes no sense.
    #[error(
        "camera {camera}: {width}x{height} pixels of format {format}, {stride} bytes apart, \
         don't fit the {capacity} bytes of a frame"
    )]
    Frame {
        /// Index of the camera.
        camera: usize,
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes from one row to the next.
        stride: u32,
        /// Pixel format's number.
        format: u32,
        /// Bytes there are.
        capacity: usize,
    },
    /// Nobody will answer it.
    #[error("ticket {ticket} is not under way: never given out, or its completion was taken")]
    Ticket {
        /// The ticket.
        ticket: u64,
    },
    /// More cameras than the policy has.
    #[error("camera {camera} has a frame, but the policy has {cameras} cameras")]
    Camera {
        /// Index of the camera.
        camera: usize,
        /// How many there are.
        cameras: usize,
    },
    /// Nothing says at what rate chunks are played.
    #[error(
        "no control rate: set options.control_rate_hz, or policy.control_rate_hz in the daemon's configuration"
    )]
    NoRate,
    /// A moment that is not of the clock that chunks are stamped by.
    #[error("t_ns is {}; all times are CLOCK_MONOTONIC, pi0rt_now_ns(): is it another clock's?", Apart(*t_ns, *of_ns, of))]
    Moment {
        /// The moment.
        t_ns: u64,
        /// What it is compared with.
        of_ns: u64,
        /// What that is.
        of: &'static str,
    },
    /// A chunk whose observation is stamped later than now.
    #[error("chunk's observation is {}: the daemon has let another clock's time pass", Apart(*observed_ns, *now_ns, "now"))]
    FutureChunk {
        /// When its observation was taken.
        observed_ns: u64,
        /// Now.
        now_ns: u64,
    },
    /// An action buffer of the wrong length.
    #[error("action has room for {got} values, the policy's actions have {expected}")]
    ActionLength {
        /// Values there is room for.
        got: usize,
        /// Values there are.
        expected: usize,
    },
    /// A prompt that is too long to be sent.
    #[error("instruction has {got} bytes, at most {max} are allowed")]
    TextLength {
        /// Its bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A system call failed.
    #[error("{call}: {errno}")]
    System {
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

/// How far a moment lies from another, in words.
struct Apart(u64, u64, &'static str);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.abs_diff(self.1) as f64 / 1e9;
        let side = if self.0 > self.1 { "after" } else { "before" };
        write!(f, "{seconds:.3} s {side} {}", self.2)
    }
}

impl ClientError {
    /// As a status.
    pub fn status(&self) -> Status {
        match self {
            ClientError::Empty => Status::Empty,
            ClientError::Busy => Status::Busy,
            ClientError::Timeout { .. } => Status::Timeout,
            ClientError::Gone => Status::Gone,
            ClientError::Restarted | ClientError::LostRequest => Status::Restarted,
            ClientError::Stale => Status::Stale,
            ClientError::Observer { .. } => Status::Observer,
            ClientError::Changed { .. } => Status::Refused,
            // There may be one or not: this user is not to know.
            ClientError::Connect(error) if error.errno == Errno::ACCESS => Status::Refused,
            ClientError::Connect(_) | ClientError::Unanswered => Status::NoDaemon,
            ClientError::Refused(refusal) => refusal.status,
            ClientError::Malformed(malformed) => malformed.status(),
            ClientError::Unexpected { .. }
            | ClientError::SegmentLayout(_)
            | ClientError::Limits { .. }
            | ClientError::Ring(_)
            | ClientError::Completion { .. }
            | ClientError::Chunk(_) => Status::Protocol,
            ClientError::Segment(_) | ClientError::System { .. } => Status::System,
            ClientError::Frame { .. } => Status::FrameSize,
            ClientError::Ticket { .. } => Status::UnknownTicket,
            ClientError::NoRate => Status::NoRate,
            ClientError::Moment { .. } | ClientError::FutureChunk { .. } => Status::OtherClock,
            ClientError::Slot { .. }
            | ClientError::Camera { .. }
            | ClientError::ActionLength { .. }
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
}
