//! Checks of an installation, with remedies for their findings.
//!
//! [`examine`] checks what a daemon with this configuration needs, and the daemon that serves, if one does.
//! It only reads: nothing is sent to the daemon, no card is opened, no file written.

mod checkpoint;
mod configuration;
mod contract;
mod daemon;
mod device;
mod limits;
mod memory;
mod processor;
mod scene;
mod socket;
mod tokenizer;

pub use scene::Probe;

use self::scene::Scene;
use super::source::Source;
use crate::checkpoint::Checkpoint;
use crate::daemon::Report;
use crate::machine::Checks;
pub use crate::machine::{Check, Verdict};

/// Runs all checks, in the order in which to fix their findings. A wrong configuration hides the checks
/// that depend on it.
pub fn examine(probe: &Probe, source: &Source) -> Vec<Check> {
    let mut all = Vec::new();
    let config = configuration::look(source, &mut Checks { topic: "configuration", all: &mut all });
    if let Some(config) = config {
        let socket = config.socket();
        let daemon = Report::read(&socket);
        let dir = config.policy.checkpoint.as_deref();
        let weights = dir.map_or(0, checkpoint::weights);
        let checkpoint = dir.map(|dir| Checkpoint::open_with(dir, config.policy.profile.as_deref()));
        let scene = Scene { probe, config: &config, socket, daemon, checkpoint, weights };
        type Topic = (&'static str, fn(&Scene<'_>, &mut Checks<'_>));
        let topics: [Topic; 9] = [
            ("checkpoint", checkpoint::look),
            ("cameras", contract::look_at_cameras),
            ("rate", contract::look_at_rate),
            ("tokenizer", tokenizer::look),
            ("device", device::look),
            ("memory", memory::look),
            ("limits", limits::look),
            ("socket", socket::look),
            ("daemon", daemon::look),
        ];
        for (topic, look) in topics {
            look(&scene, &mut Checks { topic, all: &mut all });
        }
    }
    processor::look(probe, &mut Checks { topic: "processor", all: &mut all });
    all
}

/// True if a finding needs action.
pub fn is_wrong(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict > Verdict::Note)
}
