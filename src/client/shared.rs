//! State that the classes of calls of one client share, whichever connection each of them is on.

use super::completions::part::Part as CompletionsPart;
use super::cuts::Cuts;
use super::handover::Handover;
use super::life::Told;
use super::playback;
use super::submissions::part::Part as SubmissionsPart;
use crate::shm::sync::AtomicU64;

/// A value on a cache line of its own.
#[repr(align(64))]
pub(super) struct Line<T>(pub T);

/// Mailboxes and counters between the classes.
pub(super) struct Shared {
    pub mailboxes: Line<Mailboxes>,
    /// Number of completions given out. Written by the completions' class.
    pub settled: Line<AtomicU64>,
    /// Highest ticket given out; until it has been pushed, that of the submission under way. Written by the
    /// submissions' class.
    pub submitted: Line<AtomicU64>,
    /// Number of the connection that submissions go to. Written by the submissions' class.
    pub submitting_on: AtomicU64,
    pub told: Told,
}

/// State that hardly ever changes and that each call looks at.
pub(super) struct Mailboxes {
    pub submissions: Handover<SubmissionsPart>,
    pub completions: Handover<CompletionsPart>,
    pub actions: Handover<playback::Part>,
    /// Flushes and episodes, written by the requests' class.
    pub cuts: Cuts,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            mailboxes: Line(Mailboxes {
                submissions: Handover::new(),
                completions: Handover::new(),
                actions: Handover::new(),
                cuts: Cuts::new(),
            }),
            settled: Line(AtomicU64::new(0)),
            submitted: Line(AtomicU64::new(0)),
            submitting_on: AtomicU64::new(0),
            told: Told::new(),
        }
    }
}
