//! Refusals: reasons not to serve a client, and their messages.

use std::os::fd::BorrowedFd;

use super::super::accounts::QuotaExceeded;
use crate::control::{Refusal, Reply, Status, send, shortened};

/// Longest reason sent to a client, bytes: it may repeat the client's own words.
const MAX_REASON: usize = 512;

/// Why a client gets no session.
pub(super) enum Denial {
    Refused(Refusal),
    /// For lack of memory that may have become free since the last scan.
    NotYet(Refusal),
}

impl From<QuotaExceeded> for Refusal {
    fn from(exceeded: QuotaExceeded) -> Refusal {
        Refusal { status: Status::Refused, reason: exceeded.to_string() }
    }
}

impl From<QuotaExceeded> for Denial {
    fn from(exceeded: QuotaExceeded) -> Denial {
        Denial::Refused(exceeded.into())
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Denial {
        Denial::Refused(refusal)
    }
}

/// A refusal with this reason.
pub(super) fn refused<T, E: From<Refusal>>(reason: String) -> Result<T, E> {
    Err(Refusal { status: Status::Refused, reason }.into())
}

/// Sends a refusal.
pub(super) fn refuse(socket: BorrowedFd<'_>, status: Status, reason: String) {
    let refusal = Refusal { status, reason: shortened(reason, MAX_REASON) };
    let _ = send(socket, &Reply::Refused(refusal).encode());
}

/// Sends a refusal that was decided elsewhere.
pub(super) fn refuse_with(socket: BorrowedFd<'_>, refusal: &Refusal) {
    refuse(socket, refusal.status, refusal.reason.clone());
}
