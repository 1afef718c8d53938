//! The state of the control thread.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::handshakes::PendingHandshakes;
use super::housekeeping::Housekeeping;
use super::request_queue::{Instructions, Requests};
use crate::control::PolicyDescription;
use crate::daemon::Handle;
use crate::daemon::accounts::{Accounts, Reservation, UserUsage};
use crate::daemon::engine::CarryOver;
use crate::daemon::inference::Doorbells;
use crate::daemon::liveness::{Findings, HeartbeatThread};
use crate::daemon::observation::RetiredSources;
use crate::daemon::options::Options;
use crate::daemon::page::{Page, Report};
use crate::daemon::table::SharedTable;

/// The control thread's state; its methods are in the files beside this one, by subject.
pub(in crate::daemon) struct Control<P> {
    pub(in crate::daemon) options: Options,
    pub(super) policy: PolicyDescription,
    pub(super) carry_over: CarryOver,
    pub(super) epoch: u64,
    pub(in crate::daemon) shared: Arc<SharedTable<P>>,
    pub(in crate::daemon) doorbells: Arc<Doorbells>,
    pub(super) epoll: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) handle: Handle,
    pub(super) handshakes: PendingHandshakes,
    pub(super) observers: HashMap<u64, Observer>,
    /// Sessions that are being opened, by connection.
    pub(super) openings: HashMap<u64, Reserved>,
    /// Accounts of all users.
    pub(super) accounts: Accounts,
    pub(super) usage: Vec<UserUsage>,
    /// When the memory of ended sessions was scanned last, ns.
    pub(super) scanned_ns: u64,
    pub(super) housekeeping: Housekeeping<P>,
    pub(super) requests: Requests,
    pub(super) instructions: Instructions<P>,
    /// Written to by workers that have a result.
    pub(super) done: Arc<OwnedFd>,
    pub(super) next_id: u64,
    pub(super) page: Page,
    /// The last report written to the page.
    pub(super) report: Report,
    pub(in crate::daemon) heartbeat: HeartbeatThread,
    pub(in crate::daemon) retired: RetiredSources,
    pub(super) iteration: u64,
    pub(super) findings: Findings,
}

/// A connection that observes a session.
pub(super) struct Observer {
    pub socket: OwnedFd,
    pub session: u64,
    pub _share: Reservation,
}

/// Reservations and name of a session that is being opened.
pub(super) struct Reserved {
    pub name: String,
    /// Reservations of a session and of memory.
    pub shares: [Reservation; 2],
    pub token: u64,
    /// True if its client has given it up and opens another one.
    pub over: bool,
}
