//! Everything that tells a daemon that hangs from one that is busy.
//!
//! | word | meaning |
//! |---|---|
//! | heartbeat | a time that the heartbeat thread writes for every client, and keep-alive pings to the service manager |
//! | activity | figures that the daemon's threads publish for each other: what each works on |
//! | progress | a thread has moved to other work, or to another step of it, since the last check |
//! | stall | the heartbeat thread itself was kept from running |
//! | suspension | the whole machine slept: CLOCK_MONOTONIC stood still |
//! | device loss | the device doesn't answer any more: a watched call overran, or the engine made no progress within `hang_after` |
//!
//! The heartbeat thread checks; the control thread acts on its findings; the statistics page shows them to
//! [`health`], which judges a daemon from outside.

mod activity;
mod findings;
pub mod health;
mod heartbeat;
mod progress;

pub(super) use activity::Activity;
pub(super) use findings::Findings;
pub use heartbeat::{ActivitySummary, KeepAlive};
pub(super) use heartbeat::{HeartbeatEntry, HeartbeatTable, HeartbeatThread, MAX_SESSIONS};
