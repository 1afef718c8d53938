//! Statuses of calls and requests.

/// Result of a call or a request: 0 is success, positive values mean "nothing yet", negative values are errors;
/// those from -32 down are misuse that the library has found. New values may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Status {
    /// Success: the call did what was asked.
    Ok = 0,
    /// Nothing there yet: no completion, no chunk.
    Empty = 1,
    /// Nothing free yet: all observation slots or ring entries are in use, or chunks are being
    /// published faster than they can be read. Poll, and try again.
    Busy = 2,
    /// The time limit of the call has passed.
    Timeout = 3,
    /// An argument is NULL, out of range or used wrongly; the last error says which.
    InvalidArgument = -1,
    /// A struct's struct_size is none that this library knows.
    StructSize = -2,
    /// No daemon listens on the socket.
    NoDaemon = -3,
    /// Daemon and library speak different versions of the protocol.
    Version = -4,
    /// The daemon refuses to serve this client.
    Refused = -5,
    /// The peer sent or wrote something that makes no sense.
    Protocol = -6,
    /// The daemon has ended, closed the session, or sent no heartbeat within the bound.
    Gone = -7,
    /// The daemon was restarted and has resumed the session. Submissions that the previous one had taken are
    /// completed with this status; those it had not taken are served.
    Restarted = -8,
    /// A newer observation of the same client took this one's place.
    Superseded = -9,
    /// As an answer: the observation was older than the daemon accepts, or its deadline had passed, when its
    /// turn came. Of a call: the daemon lives but is later than the options allow.
    Stale = -10,
    /// The observation can't be used: its time, a frame, the state, its instruction. The completion
    /// says why.
    BadObservation = -11,
    /// The chunk has values that are not finite, outside their limits, too fast, or too far from the state; it was not
    /// published. The completion's reason names the value.
    InvalidChunk = -12,
    /// The device failed or stopped responding.
    DeviceLost = -13,
    /// The instruction can't be turned into a prompt.
    BadPrompt = -14,
    /// A system call failed; the last error names it.
    System = -15,
    /// A defect in the library or the daemon.
    Internal = -16,
    /// The handle was not returned by pi0rt_client_open.
    BadHandle = -32,
    /// The client was closed by pi0rt_client_close.
    Closed = -33,
    /// The client was opened by the process that this one was forked from, and can only be closed
    /// here.
    Forked = -34,
    /// The client is in use by another thread, or by what a signal handler has interrupted.
    InUse = -35,
    /// A frame's width, height and stride contradict each other or exceed its capacity.
    FrameSize = -36,
    /// No request in flight has this ticket: it was never given out, or its completion was taken.
    UnknownTicket = -37,
    /// The client observes another client's session: it can't submit, and has nothing to poll for.
    Observer = -38,
    /// No control rate is declared, neither by the options nor by the daemon.
    NoRate = -39,
    /// A time is not of CLOCK_MONOTONIC, the clock of pi0rt_now_ns.
    OtherClock = -40,
}

impl Status {
    /// Every status, in the order of declaration.
    const ALL: [Status; 29] = [
        Status::Ok,
        Status::Empty,
        Status::Busy,
        Status::Timeout,
        Status::InvalidArgument,
        Status::StructSize,
        Status::NoDaemon,
        Status::Version,
        Status::Refused,
        Status::Protocol,
        Status::Gone,
        Status::Restarted,
        Status::Superseded,
        Status::Stale,
        Status::BadObservation,
        Status::InvalidChunk,
        Status::DeviceLost,
        Status::BadPrompt,
        Status::System,
        Status::Internal,
        Status::BadHandle,
        Status::Closed,
        Status::Forked,
        Status::InUse,
        Status::FrameSize,
        Status::UnknownTicket,
        Status::Observer,
        Status::NoRate,
        Status::OtherClock,
    ];

    /// The status of a number; None for a number that is no status.
    pub fn from_number(number: i32) -> Option<Status> {
        Self::ALL.into_iter().find(|status| *status as i32 == number)
    }

    /// Describes the status in one line of English.
    pub fn text(self) -> &'static std::ffi::CStr {
        match self {
            Status::Ok => c"success",
            Status::Empty => c"nothing there yet",
            Status::Busy => c"nothing free yet",
            Status::Timeout => c"timed out",
            Status::InvalidArgument => c"invalid argument",
            Status::StructSize => c"unknown struct_size",
            Status::NoDaemon => c"no daemon listens on the socket",
            Status::Version => c"daemon and library speak different versions",
            Status::Refused => c"refused by the daemon",
            Status::Protocol => c"peer sent something that makes no sense",
            Status::Gone => c"daemon is gone",
            Status::Restarted => c"daemon was restarted",
            Status::Superseded => c"superseded by a newer observation",
            Status::Stale => c"too old, or too late",
            Status::BadObservation => c"observation can't be used",
            Status::InvalidChunk => c"chunk has values that are not finite or beyond the robot's limits",
            Status::DeviceLost => c"device failed",
            Status::BadPrompt => c"instruction can't be made into a prompt",
            Status::System => c"system call failed",
            Status::Internal => c"internal error",
            Status::BadHandle => c"not a client",
            Status::Closed => c"client is closed",
            Status::Forked => c"client of another process",
            Status::InUse => c"client is in use by another thread",
            Status::FrameSize => c"frame doesn't fit",
            Status::UnknownTicket => c"no request under way has this ticket",
            Status::Observer => c"client only observes",
            Status::NoRate => c"no control rate is known",
            Status::OtherClock => c"time is not of CLOCK_MONOTONIC",
        }
    }
}
