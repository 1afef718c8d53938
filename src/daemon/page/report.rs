//! The state of a daemon, of its sessions and of their users.

use crate::control::{Fault, Guided, PolicyDescription};
use crate::daemon::accounts::{Resource, UserUsage};
use crate::shm::Stats;

/// State of a daemon, as its statistics page has it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Process of the daemon.
    pub pid: u32,
    /// Number of this run of the daemon: changes with every restart.
    pub epoch: u64,
    /// True if the daemon is about to end.
    pub stopping: bool,
    /// When this report was written, CLOCK_MONOTONIC, ns.
    pub written_ns: u64,
    /// When the daemon began to serve, CLOCK_MONOTONIC, ns.
    pub ready_ns: u64,
    /// Maximum number of sessions.
    pub max_clients: u64,
    /// Time between two heartbeats, ns.
    pub heartbeat_ns: u64,
    /// Age of an observation, ns, beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// When the chunk in progress was begun, CLOCK_MONOTONIC, ns; 0: none is.
    pub busy_since_ns: u64,
    /// For how long the engine has made no progress, ns; None: the daemon is of an earlier version.
    pub no_progress_ns: Option<u64>,
    /// Time without progress, ns, after which the device counts as lost; 0: no limit.
    pub hang_after_ns: u64,
    /// Length of the sessions' segments, bytes.
    pub memory: u64,
    /// Maximum length of the sessions' segments, bytes.
    pub max_memory: u64,
    /// Name of the checkpoint.
    pub model: String,
    /// Name of the device it runs on.
    pub device: String,
    /// Description of the policy for clients; None: the daemon is of an earlier version.
    pub policy: Option<PolicyDescription>,
    /// Counters and latencies of all sessions since the daemon began to serve.
    pub stats: Stats,
    /// Reports of all open sessions.
    pub sessions: Vec<SessionReport>,
    /// Reports of all users that have anything; empty for a daemon of an earlier version.
    pub users: Vec<UserReport>,
    /// The last chunk that was not published because of its values; None: there was none, or the daemon is of an
    /// earlier version.
    pub last_invalid: Option<LastInvalid>,
}

/// A chunk that was not published because of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastInvalid {
    /// Number of the session.
    pub session: u64,
    /// When it was computed, CLOCK_MONOTONIC, ns.
    pub at_ns: u64,
    /// Fault that was found.
    pub fault: Fault,
    /// The row where it was found.
    pub row: u32,
}

/// Amount of a resource that is in use, and the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Amount that is in use.
    pub has: u64,
    /// Maximum amount, as long as no other user takes more.
    pub may_have: u64,
}

/// Amounts and quotas of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserReport {
    /// Number of the user.
    pub uid: u32,
    /// Number of log records the user caused that were left out, because there were too many.
    pub left_out: u64,
    /// Number of sessions.
    pub sessions: Quota,
    /// Shared memory, bytes.
    pub memory: Quota,
    /// Part of the shared memory that belongs to ended sessions and is still held, bytes.
    pub held: u64,
    /// Number of pending handshakes.
    pub silent: Quota,
    /// Number of observers.
    pub observers: Quota,
    /// Number of requests waiting.
    pub requests: Quota,
    /// Number of instructions registered.
    pub instructions: Quota,
}

impl UserReport {
    pub(in crate::daemon) fn of(usage: &UserUsage) -> UserReport {
        let quota = |resource| {
            let [has, may_have] = usage.of(resource);
            Quota { has, may_have }
        };
        UserReport {
            uid: usage.user,
            left_out: 0,
            sessions: quota(Resource::Sessions),
            memory: quota(Resource::Memory),
            held: quota(Resource::HeldMemory).has,
            silent: quota(Resource::Silent),
            observers: quota(Resource::Observers),
            requests: quota(Resource::Requests),
            instructions: quota(Resource::Instructions),
        }
    }
}

/// State of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Number of the session.
    pub id: u64,
    /// Process of the client; 0: unknown, in a pid namespace that the daemon doesn't see.
    pub pid: u32,
    /// User of the client.
    pub uid: u32,
    /// When the session was opened, CLOCK_MONOTONIC, ns.
    pub opened_ns: u64,
    /// Observations the daemon took from the ring.
    pub submitted: u64,
    /// Chunks that were published.
    pub published: u64,
    /// Observations not answered with a chunk by their deadline.
    pub missed_deadlines: u64,
    /// When the last submission was completed, CLOCK_MONOTONIC, ns; 0: none was.
    pub answered_ns: u64,
    /// Guidance of its last chunk, or why there was none; None: unknown.
    pub guidance: Option<Guided>,
    /// Chunks since the prefix of its last chunk was computed.
    pub prefix_age: u32,
}
