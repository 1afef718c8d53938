//! What the classes of calls of one client share, whichever connection each of them is on.

use super::handover::Handover;
use super::life::Told;
use super::{actions, completions, submissions};
use crate::shm::sync::AtomicU64;

/// A value on a cache line of its own.
#[repr(align(64))]
pub(super) struct Line<T>(pub T);

/// Mailboxes and counters between the classes.
pub(super) struct Shared {
    pub mailboxes: Line<Mailboxes>,
    /// Number of completions given out. Written by the completions' class.
    pub settled: Line<AtomicU64>,
    /// Number of the connection that submissions go to. Written by the submissions' class.
    pub submitting_on: AtomicU64,
    pub told: Told,
}

/// What hardly ever changes, and is looked at by each call.
pub(super) struct Mailboxes {
    pub submissions: Handover<submissions::Part>,
    pub completions: Handover<completions::Part>,
    pub actions: Handover<actions::Part>,
    /// Number of episodes begun. Written by the requests' class.
    pub episode: AtomicU64,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            mailboxes: Line(Mailboxes {
                submissions: Handover::new(),
                completions: Handover::new(),
                actions: Handover::new(),
                episode: AtomicU64::new(0),
            }),
            settled: Line(AtomicU64::new(0)),
            submitting_on: AtomicU64::new(0),
            told: Told::new(),
        }
    }
}
