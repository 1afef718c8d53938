//! The resources that are counted, and their limits.

use crate::daemon::Limits;
use crate::daemon::channel::SEGMENTS;

/// A resource that clients take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Resource {
    /// Sessions, from their admission to their end.
    Sessions,
    /// Bytes of shared memory, until no process can use them any more.
    Memory,
    /// The part of that memory whose sessions are over.
    HeldMemory,
    /// Segments of that memory: the daemon keeps a descriptor of each.
    HeldSegments,
    /// Connections whose handshake is pending.
    Silent,
    /// Connections that observe sessions.
    Observers,
    /// Requests waiting for their turn.
    Requests,
    /// Instructions registered by open sessions.
    Instructions,
}

pub(super) const RESOURCES: usize = 8;
/// Ended sessions that clients may still hold memory of, per session that may be open.
const MAX_OVER: u64 = 4;
/// Upper bound of the segments of ended sessions, whatever the number of clients: a process has descriptors for
/// so many.
const MAX_HELD_SEGMENTS: u64 = 3072;
/// Maximum number of connections with a pending handshake.
const MAX_SILENT: u64 = 64;
/// Maximum number of connections that observe sessions.
const MAX_OBSERVERS: u64 = 64;
/// Maximum number of requests one session may have waiting.
pub(in crate::daemon) const MAX_WAITING: usize = 16;
/// Maximum number of instructions a session may register.
pub(in crate::daemon) const MAX_PROMPTS: usize = 256;

impl Resource {
    /// Name of the resource, and the configuration key of the limit per user.
    pub(super) fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Resource::Sessions => ("sessions", Some("clients.max_clients_per_user")),
            Resource::Memory => ("bytes of shared memory", Some("clients.max_memory_mb_per_user")),
            Resource::HeldMemory => ("bytes of sessions that are over", None),
            Resource::HeldSegments => ("segments of sessions that are over", None),
            Resource::Silent => {
                ("connections that have not said hello", Some("clients.max_connections_per_user"))
            }
            Resource::Observers => ("observers", Some("clients.max_connections_per_user")),
            Resource::Requests => ("requests waiting", Some("clients.max_requests_per_user")),
            Resource::Instructions => ("instructions registered", Some("clients.max_instructions_per_user")),
        }
    }

    /// Configuration key of the limit for all users together.
    pub(super) fn key(self) -> Option<&'static str> {
        match self {
            Resource::Sessions => Some("clients.max_clients"),
            Resource::Memory => Some("clients.max_memory_mb"),
            _ => None,
        }
    }
}

/// Every resource, in the order of their numbers.
pub(super) const ALL: [Resource; RESOURCES] = [
    Resource::Sessions,
    Resource::Memory,
    Resource::HeldMemory,
    Resource::HeldSegments,
    Resource::Silent,
    Resource::Observers,
    Resource::Requests,
    Resource::Instructions,
];

/// Upper bounds of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ceiling {
    /// Limit of all users together.
    pub all: u64,
    /// For one user; None: three quarters of what the others leave.
    pub each: Option<u64>,
}

pub(super) fn ceilings(limits: &Limits) -> [Ceiling; RESOURCES] {
    let of = |all: u64, each: Option<u64>| Ceiling { all, each };
    let clients = limits.max_clients as u64;
    let each = &limits.per_user;
    [
        of(clients, each.clients),
        of(limits.max_memory, each.memory),
        of(u64::MAX, Some(u64::MAX)),
        of(clients.saturating_mul(SEGMENTS as u64 * MAX_OVER).min(MAX_HELD_SEGMENTS), None),
        of(MAX_SILENT, each.connections),
        of(MAX_OBSERVERS, each.connections),
        of(clients.saturating_mul(MAX_WAITING as u64), each.requests),
        of(clients.saturating_mul(MAX_PROMPTS as u64), each.instructions),
    ]
}
