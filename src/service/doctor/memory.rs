//! Checks the memory for the weights and for clients.

use super::scene::Scene;
use crate::machine::{Checks, size};

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let available = scene.memory("MemAvailable");
    let total = scene.memory("MemTotal").or(available);
    // A running daemon already has its memory.
    let room = if scene.report().is_some() { total } else { available };
    let weights = size(scene.weights);
    match room {
        Some(room) if room < scene.weights => {
            let room = size(room);
            let what =
                format!("the checkpoint has {weights} of weights, and {room} of memory are there for it");
            checks.error(what, "end what else takes memory, convert to bf16 (pi0rt convert), or add memory");
        }
        Some(room) => checks.ok(format!("{weights} of weights fit into {}", size(room))),
        None => {}
    }
    let taken = scene.report().map_or(0, |report| report.memory);
    let most = u64::from(scene.config.clients.max_memory_mb.0) << 20;
    let may_come = most.saturating_sub(taken);
    match available {
        Some(available) if available < may_come => {
            let what = format!(
                "clients may take {} more of shared memory (clients.max_memory_mb), and {} are available",
                size(may_come),
                size(available)
            );
            checks
                .warn(what, "lower clients.max_memory_mb: a session of three cameras takes some tens of MB");
        }
        Some(available) => {
            let may_come = size(may_come);
            checks.ok(format!("the {may_come} that clients may take fit into {}", size(available)));
        }
        None => {}
    }
}
