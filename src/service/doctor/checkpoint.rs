//! Checks the checkpoint: its weights, and that its processing is understood.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::scene::Scene;
use crate::checkpoint::{Checkpoint, CheckpointError, Layout, weight_files};
use crate::daemon::Report;
use crate::machine::Checks;
use crate::shm::clock::now_ns;

/// Size of the weight files, bytes: `model.safetensors`, or its shards.
pub(super) fn weights(dir: &Path) -> u64 {
    let is_model = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"model"));
    weight_files(dir).filter(|(path, _)| is_model(path)).map(|(_, file)| file.len()).sum()
}

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let (Some(dir), Some(opened)) = (&scene.config.policy.checkpoint, &scene.checkpoint) else {
        let remedy = "say in the configuration which directory to serve: checkpoint = \"DIR\" under [policy]";
        return checks.error("policy.checkpoint is not set", remedy);
    };
    match opened {
        Err(error) => return checks.error(error.to_string(), remedy(error, dir)),
        Ok(checkpoint) => look_at_processing(checkpoint, checks),
    }
    look_at_files(dir, scene.report(), checks);
}

fn look_at_processing(checkpoint: &Checkpoint, checks: &mut Checks<'_>) {
    let dir = checkpoint.dir();
    let (layout, tensors) = (checkpoint.layout(), checkpoint.tensors().count());
    checks.ok(format!("{}: {layout} layout, {tensors} tensors, all that PI0 needs", dir.display()));
    for fault in checkpoint.faults() {
        checks.error(fault.to_string(), remedy(fault, dir));
    }
    if !checkpoint.faults().is_empty() {
        return;
    }
    let profile =
        checkpoint.profile().map_or(String::new(), |profile| format!("profile {} fits; ", profile.name()));
    checks.ok(match layout {
        Layout::Lerobot => format!("{profile}every processing step is understood, and statistics are there for each that asks for them"),
        Layout::OpenPi => format!("{profile}its statistics are there"),
    });
}

/// The remedy for an error in the checkpoint in `dir`.
fn remedy(error: &CheckpointError, dir: &Path) -> String {
    match error {
        CheckpointError::Io { why, .. } if why.kind() == std::io::ErrorKind::PermissionDenied => {
            "let the daemon's user read it (try: sudo -u pi0rt pi0rt inspect DIR)".into()
        }
        CheckpointError::Io { .. } => "put the checkpoint there, or correct policy.checkpoint".into(),
        CheckpointError::File { .. } | CheckpointError::Entry { .. } => format!(
            "do what it says; a file that should be right: copy it again, and compare with the original: sha256sum {}/*",
            dir.display()
        ),
        CheckpointError::Adapter { .. } => format!(
            "merge it: pi0rt convert {} --out DIR2, with --base BASE if the adapter lies alone; then serve DIR2",
            dir.display()
        ),
        CheckpointError::Statistics { .. } => {
            "take the statistics from where the policy was trained: lerobot writes them beside the weights, openpi \
             into assets/"
                .into()
        }
        CheckpointError::NoProfile { .. } | CheckpointError::UnknownProfile { .. } => {
            "choose the robot's: profile = \"NAME\" under [policy]; docs/profiles.md says how to write one".into()
        }
        CheckpointError::Profile { .. } => "mend the profile there; docs/profiles.md has every key".into(),
        _ => format!(
            "serve a PI0 checkpoint whose processing is known; pi0rt inspect {} shows what is in this one",
            dir.display()
        ),
    }
}

/// Checks that the files are those the daemon has loaded, and that they won't change.
fn look_at_files(dir: &Path, report: Option<&Report>, checks: &mut Checks<'_>) {
    let ready = report.and_then(|report| {
        let serving = Duration::from_nanos(now_ns().saturating_sub(report.ready_ns));
        Some((report.pid, SystemTime::now().checked_sub(serving)?))
    });
    let before = checks.all.len();
    for (path, file) in weight_files(dir) {
        let name = path.display();
        if let (Some((pid, ready)), Ok(changed)) = (ready, file.modified())
            && let Ok(after) = changed.duration_since(ready)
            && !after.is_zero()
        {
            let after = after.as_secs();
            checks.warn(
                format!("{name} was written {after} s after the daemon (process {pid}) had loaded it"),
                "systemctl restart pi0rtd; put a new checkpoint beside the old one, then rename it",
            );
        }
        if file.mode() & 0o002 != 0 {
            checks.warn(format!("{name} may be written by every user"), format!("chmod o-w {name}"));
        }
    }
    if checks.all.len() == before {
        let unchanged = if ready.is_some() { "unchanged since the daemon loaded it, and " } else { "" };
        checks.ok(format!("every file of weights is {unchanged}safe from other users' writing"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_checkpoint_that_may_not_be_read_is_told_from_one_that_is_missing() {
        let remedy_for = |kind| {
            let (path, why) = ("/checkpoint".into(), Error::from(kind));
            remedy(&CheckpointError::Io { path, doing: "open", why }, Path::new("/checkpoint"))
        };
        assert!(remedy_for(ErrorKind::PermissionDenied).contains("let the daemon's user read it"));
        assert!(remedy_for(ErrorKind::NotFound).contains("put the checkpoint there"));
    }

    #[test]
    fn an_adapter_is_to_be_merged() {
        let adapter = CheckpointError::Adapter { path: "/a/adapter.json".into(), what: "an adapter".into() };
        assert!(remedy(&adapter, Path::new("/a")).starts_with("merge it: pi0rt convert /a "));
    }
}
