//! The checkpoint, and the tokenizer beside it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Findings, Scene};
use crate::checkpoint::{Checkpoint, CheckpointError, weight_files};
use crate::policy::Tokenizer;
use crate::shm::clock::now_ns;

/// Bytes of the files of weights: `model.safetensors`, or its shards.
pub(super) fn weights(dir: &Path) -> u64 {
    let is_model = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"model"));
    weight_files(dir).filter(|(path, _)| is_model(path)).map(|(_, file)| file.len()).sum()
}

pub(super) fn look(scene: &Scene<'_>, findings: &mut Findings<'_>) {
    let Some(dir) = &scene.config.policy.checkpoint else {
        let remedy = "say in the configuration which directory to serve: checkpoint = \"DIR\" under [policy]";
        return findings.error("policy.checkpoint is not set", remedy);
    };
    let opened = Checkpoint::open_with(dir, scene.config.policy.profile.as_deref());
    if let Err(error) = opened.and_then(Checkpoint::check_commands) {
        let user = "(try: sudo -u pi0rt pi0rt inspect DIR)";
        let remedy = match &error {
            CheckpointError::Io { why, .. } if why.kind() == std::io::ErrorKind::PermissionDenied => {
                format!("let the daemon's user read it {user}")
            }
            CheckpointError::Io { .. } => "put the checkpoint there, or correct policy.checkpoint".into(),
            CheckpointError::File { .. } | CheckpointError::Entry { .. } => {
                format!("copy it again, and compare with the original: sha256sum {}/*", dir.display())
            }
            CheckpointError::NoProfile { .. } | CheckpointError::UnknownProfile { .. } => {
                "choose the robot's: profile = \"NAME\" under [policy]; docs/profiles.md says how to write one".into()
            }
            CheckpointError::Profile { .. } => "mend the profile there; docs/profiles.md has every key".into(),
            _ => format!("serve a PI0 checkpoint; pi0rt inspect {} shows what is in this one", dir.display()),
        };
        return findings.error(error.to_string(), remedy);
    }
    let Some(report) = scene.report() else { return };
    let serving = Duration::from_nanos(now_ns().saturating_sub(report.ready_ns));
    let Some(ready) = SystemTime::now().checked_sub(serving) else { return };
    for (path, file) in weight_files(dir) {
        if file.modified().is_ok_and(|changed| changed > ready) {
            let what = format!(
                "{} was written {} after the daemon (process {}) had loaded it",
                path.display(),
                match file.modified().ok().and_then(|changed| changed.duration_since(ready).ok()) {
                    Some(after) => format!("{} s", after.as_secs()),
                    None => "some time".into(),
                },
                report.pid
            );
            findings.warn(
                what,
                "systemctl restart pi0rtd; put a new checkpoint beside the old one, then rename it",
            );
        }
        if file.mode() & 0o002 != 0 {
            let path = path.display();
            findings.warn(format!("{path} may be written by every user"), format!("chmod o-w {path}"));
        }
    }
}

pub(super) fn look_at_tokenizer(scene: &Scene<'_>, findings: &mut Findings<'_>) {
    let policy = &scene.config.policy;
    let checkpoint = policy.checkpoint.as_deref();
    let configured = policy.tokenizer.as_deref();
    // Without either there is no place to look.
    let Some(dir) = checkpoint.filter(|dir| dir.is_dir()).or(configured) else { return };
    let found = match Checkpoint::open(dir) {
        Ok(checkpoint) => Tokenizer::for_checkpoint(&checkpoint, configured),
        Err(_) => Tokenizer::find(dir, configured),
    };
    if let Err(error) = found {
        let remedy = "put PaliGemma's tokenizer.json (or its SentencePiece model) into the checkpoint, or set \
                      policy.tokenizer to a file the daemon can read";
        findings.error(error.to_string(), remedy);
    }
}
