//! The thread beside the control loop: it ends and restarts the daemon by a script, and reconnects.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pi0rt::capi::*;
use pi0rt::control::Status;

use super::server::Server;
use crate::session::check;

/// Time in SAFE_STOP before the daemon is restarted, and in PLAY before the demo ends.
const SHOWN_NS: u64 = 1_000_000_000;
/// Longest wait for a chunk of the next daemon.
const CHUNK_WITHIN_NS: u64 = 60_000_000_000;
const NAP: Duration = Duration::from_millis(5);

/// State shared by the control loop and this thread.
#[derive(Default)]
pub struct Shared {
    /// The loop's stage, a `pi0rt_stage`.
    pub stage: AtomicU32,
    /// Set by the loop when the daemon is gone, cleared by the thread when there is another one.
    pub gone: AtomicBool,
    /// Tells the loop to end.
    pub finished: AtomicBool,
    /// Tells the thread to end.
    pub abandoned: AtomicBool,
    /// When the daemon was killed; 0: not yet.
    pub killed_ns: AtomicU64,
    /// When the client was connected again; 0: not yet.
    pub reconnected_ns: AtomicU64,
}

impl Shared {
    fn stage_is(&self, stage: pi0rt_stage) -> bool {
        self.stage.load(Ordering::Relaxed) == stage as u32
    }

    /// True if no chunk has come although the client is connected again.
    fn has_waited(&self, now_ns: u64) -> bool {
        let since = self.reconnected_ns.load(Ordering::Relaxed);
        since > 0 && now_ns.saturating_sub(since) > CHUNK_WITHIN_NS
    }
}

enum Phase {
    Working,
    Down { stopped_ns: Option<u64> },
    Starting,
    Back { since_ns: u64 },
}

/// Runs until the demo is over: `ends_ns` without a restart, else a while after the next daemon's first chunk.
///
/// # Errors
/// If a daemon that was started again ends, or refuses the client.
pub fn supervise(
    client: *mut pi0rt_client,
    server: &mut Server,
    ends_ns: u64,
    restart: bool,
    shared: &Shared,
) -> Result<(), Box<dyn Error>> {
    let mut phase = Phase::Working;
    while !shared.abandoned.load(Ordering::Relaxed) {
        let now = pi0rt_now_ns();
        match phase {
            Phase::Working if now < ends_ns => {}
            Phase::Working if !restart => break,
            Phase::Working => {
                server.kill()?;
                shared.killed_ns.store(pi0rt_now_ns(), Ordering::Relaxed);
                phase = Phase::Down { stopped_ns: None };
            }
            Phase::Down { stopped_ns: None } if shared.stage_is(pi0rt_stage::SafeStop) => {
                phase = Phase::Down { stopped_ns: Some(now) };
            }
            Phase::Down { stopped_ns: Some(since) } if now - since > SHOWN_NS => {
                server.restart()?;
                phase = Phase::Starting;
            }
            Phase::Down { .. } => {}
            Phase::Starting if shared.stage_is(pi0rt_stage::Play) => phase = Phase::Back { since_ns: now },
            Phase::Starting if shared.has_waited(now) => break,
            Phase::Starting => server.check()?,
            Phase::Back { since_ns } if now - since_ns > SHOWN_NS => break,
            Phase::Back { .. } => {}
        }
        if !matches!(phase, Phase::Down { .. }) && shared.gone.load(Ordering::Relaxed) {
            match pi0rt_client_reconnect(client) {
                Status::Ok => {
                    shared.reconnected_ns.store(pi0rt_now_ns(), Ordering::Relaxed);
                    shared.gone.store(false, Ordering::Relaxed);
                }
                // Nobody listens yet.
                Status::NoDaemon | Status::Gone | Status::Timeout => {}
                status => check("pi0rt_client_reconnect", status)?,
            }
        }
        std::thread::sleep(NAP);
    }
    Ok(())
}
