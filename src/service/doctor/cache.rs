//! The directory that keeps prepared weights.

use rustix::fs::{Access, access};

use super::{Checks, Scene, free, size};
use crate::policy::DeviceName;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let device = &scene.config.device;
    let Some(dir) = device.weight_cache.as_ref().filter(|_| device.name == DeviceName::Cpu) else { return };
    let name = dir.display();
    if !dir.is_dir() {
        let what =
            format!("device.weight_cache: {name} is not a directory: weights are prepared at every start");
        return checks.warn(what, format!("install -d -o pi0rt -g pi0rt -m 0750 {name}"));
    }
    // Checks the current user's access, which may differ from the daemon's.
    if access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("device.weight_cache: this user can't write to {name}");
        return checks.warn(what, format!("if it is the daemon's user as well: chown pi0rt {name}"));
    }
    let least = scene.probe.least_free.max(if is_empty(dir) { scene.weights } else { 0 });
    match free(dir) {
        Some(free) if free < least => {
            let what = format!(
                "device.weight_cache: {} are free on the file system of {name}, expected at least {}",
                size(free),
                size(least)
            );
            checks.warn(what, format!("make room: files in {name} that are of no checkpoint in use may go"));
        }
        _ => checks.ok(format!("{name} can be written to, and has room")),
    }
}

fn is_empty(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
