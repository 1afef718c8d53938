//! Runs the checks of each kind of device.

use super::scene::Scene;
use crate::device::{self, KINDS};
use crate::machine::Checks;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let chosen = scene.config.device.chosen();
    for kind in KINDS {
        let scene = device::Scene {
            root: &scene.probe.root,
            locks: &scene.probe.locks,
            settings: Some(&chosen).filter(|chosen| chosen.kind() == *kind),
            served_by: scene.report().map(|report| report.pid),
            weights: scene.weights,
            least_free: scene.probe.least_free,
        };
        kind.examine(&scene, checks.all);
    }
}
