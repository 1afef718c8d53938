//! The daemon: sessions, scheduling, and the one thread that touches the engine.
//!
//! *Control* ([`Daemon::run`]'s caller) owns the sockets and never waits for inference. *Inference* is woken by
//! the clients' doorbells, takes turns among the sessions and is the only one that touches the [`Engine`]. They
//! share a table of sessions whose lock is held only to find work and to publish a chunk. *Heartbeat* shows the
//! clients that the daemon lives, and never blocks. Two workers serve the control thread: *instructions* makes
//! prompts, *sessions* allocates and frees a session's memory.

mod accounts;
mod channel;
mod checks;
mod claim;
mod control;
mod engine;
mod error;
mod freshness;
mod guidance;
mod handle;
mod handover;
mod inference;
mod journal;
mod liveness;
mod mutex;
mod observation;
mod options;
mod outage;
mod page;
mod peer;
mod policy_engine;
mod server;
mod table;
mod worker;
mod writer_lock;

pub use checks::{Checks, ChunkChecker, InvalidChunk};
pub use claim::Claim;
pub use engine::{CarryOver, Engine, EngineError, Prompter};
pub use error::DaemonError;
pub use guidance::{Aim, Guidance, GuidanceTerms, Guide, Plan};
pub use handle::{Handle, Limits, PerUser};
pub use handover::{DescriptorStore, KeptSession};
pub use liveness::{ActivitySummary, KeepAlive, health};
pub(crate) use mutex::{PiMutex, PiMutexGuard};
pub use options::{Options, Wake};
pub(crate) use outage::Outage;
pub use page::{LastInvalid, Quota, Report, ReportError, SessionReport, UserReport};
pub use policy_engine::PolicyEngine;
pub use server::{Daemon, Role, ThreadSetup};
