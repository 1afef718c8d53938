//! The directory that keeps prepared weights.

use rustix::fs::{Access, access};

use super::{Findings, Scene, free, size};
use crate::policy::DeviceName;

pub(super) fn look(scene: &Scene<'_>, findings: &mut Findings<'_>) {
    let device = &scene.config.device;
    let Some(dir) = device.weight_cache.as_ref().filter(|_| device.name == DeviceName::Cpu) else { return };
    let name = dir.display();
    if !dir.is_dir() {
        let what =
            format!("device.weight_cache: {name} is not a directory: weights are prepared at every start");
        return findings.warn(what, format!("install -d -o pi0rt -g pi0rt -m 0750 {name}"));
    }
    // Whoever asks here is not the daemon, unless it is.
    if access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("device.weight_cache: this user can't write to {name}");
        return findings.warn(what, format!("if it is the daemon's user as well: chown pi0rt {name}"));
    }
    let least = scene.probe.least_free.max(if is_empty(dir) { scene.weights } else { 0 });
    if let Some(free) = free(dir).filter(|free| *free < least) {
        let what = format!(
            "device.weight_cache: {} are free on the file system of {name}, expected at least {}",
            size(free),
            size(least)
        );
        findings.warn(what, format!("make room: files in {name} that are of no checkpoint in use may go"));
    }
}

fn is_empty(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
