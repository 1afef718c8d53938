//! The thread of requests beside the control loop: it tells instructions, reconnects, and ends the daemon by a script.

use std::error::Error;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pi0rt::capi::*;
use pi0rt::control::Status;

use super::Plan;
use super::shared::Shared;
use crate::demo::server::Server;
use crate::session::{Handle, check, set_prompt};

const NAP: Duration = Duration::from_millis(2);
/// Time in SAFE_STOP before the daemon is started again, and in PLAY until the script is over.
const SHOWN_NS: u64 = 500_000_000;

/// The daemon's scripted end.
enum Script {
    None,
    /// It is killed at that moment.
    Kill(u64),
    /// It is started again when the arm has stood, since that moment, for a while.
    Down(Option<u64>),
    /// Another one runs; the arm plays its chunks since that moment.
    Started(Option<u64>),
}

/// Keeps a session going until the loop has finished.
///
/// # Errors
/// The library's error, or that of a daemon that was started again.
pub fn keep(
    handle: Handle,
    plan: &Plan<'_>,
    killed: Option<(&mut Server, f64)>,
    shared: &Shared,
) -> Result<(), Box<dyn Error>> {
    let begun = pi0rt_now_ns();
    let (mut server, mut script) = match killed {
        Some((server, after_s)) => (Some(server), Script::Kill(begun + (after_s * 1e9) as u64)),
        None => (None, Script::None),
    };
    while !shared.finished.load(Relaxed) {
        let now = pi0rt_now_ns();
        let wanted = shared.wanted.load(Relaxed);
        if shared.told.load(Relaxed) != wanted + 1 && !shared.gone.load(Relaxed) {
            match set_prompt(handle, &plan.tasks[wanted].to_string()) {
                Ok(number) => {
                    shared.prompt_id.store(number, Relaxed);
                    shared.told.store(wanted + 1, Relaxed);
                }
                // The daemon may be gone, and the loop not know yet.
                Err(_) if server.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(server) = &mut server {
            match script {
                Script::Kill(at_ns) if now >= at_ns => {
                    server.kill()?;
                    shared.killed_ns.store(pi0rt_now_ns(), Relaxed);
                    script = Script::Down(None);
                }
                Script::Down(None) if shared.stage.load(Relaxed) == pi0rt_stage::SafeStop as u32 => {
                    script = Script::Down(Some(now));
                }
                Script::Down(Some(since)) if now - since > SHOWN_NS => {
                    server.restart()?;
                    script = Script::Started(None);
                }
                Script::Down(_) => {}
                Script::Started(None) if shared.stage.load(Relaxed) == pi0rt_stage::Play as u32 => {
                    script = Script::Started(Some(now));
                }
                Script::Started(Some(since)) if now - since > SHOWN_NS => {
                    shared.scripted.store(false, Relaxed);
                    server.check()?;
                }
                _ => server.check()?,
            }
        }
        if shared.gone.load(Relaxed) && !matches!(script, Script::Down(_)) {
            match pi0rt_client_reconnect(handle.client()) {
                Status::Ok => {
                    shared.reconnected_ns.store(pi0rt_now_ns(), Relaxed);
                    shared.gone.store(false, Relaxed);
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
