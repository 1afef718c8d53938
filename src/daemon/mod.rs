//! The daemon: sessions, scheduling, and the one thread that touches the engine.
//!
//! *Control* ([`Daemon::run`]'s caller) owns the sockets and never waits for inference. *Inference* is woken by the
//! clients' doorbells, takes turns among the sessions and is the only one that touches the [`Engine`]. They share a
//! table of sessions whose lock is held only to look for work and to publish a chunk. *Heart* shows the clients that
//! the daemon lives, and does nothing that can take long. Two more work for the control thread: *instructions* makes
//! prompts, *sessions* allocates a session's memory and gives it back.

mod accounts;
mod admit;
mod claim;
mod control;
mod engine;
mod error;
mod handle;
mod handover;
mod heart;
mod inference;
mod lane;
mod mark;
mod mutex;
mod owed;
mod page;
mod peer;
mod policy;
mod server;
mod source;
mod table;
mod vigil;
mod vitals;
mod worker;

pub use claim::Claim;
pub use engine::{Engine, EngineError, Observation, Prompter};
pub use error::DaemonError;
pub use handle::{Handle, Limits, PerUser};
pub use handover::{Keeper, KeptSession};
pub use heart::{Pulse, Watchdog};
pub(crate) use mutex::{Locked, PiMutex};
pub use page::{Quota, Report, ReportError, SessionReport, UserReport};
pub use policy::PolicyEngine;
pub use server::{Beginning, Daemon, Options, Role};

/// What the inference thread does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Polls as long as there is a session: no client ever makes a system call, one core is busy.
    Spin,
    /// Polls for some time, nanoseconds, after the last work, then sleeps.
    Hybrid(u64),
    /// Sleeps at once.
    Sleep,
}
