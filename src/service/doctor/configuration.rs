//! Checks the configuration as a whole.

use std::os::unix::fs::MetadataExt;

use crate::machine::Checks;
use crate::service::Source;
use crate::service::config::{Config, ConfigError};

pub(super) fn look(source: &Source, checks: &mut Checks<'_>) -> Option<Config> {
    if let Some(file) = &source.file
        && let Ok(metadata) = std::fs::metadata(file)
        && metadata.mode() & 0o002 != 0
    {
        let file = file.display();
        checks.warn(format!("{file} may be written by every user"), format!("chmod o-w {file}"));
    }
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => {
            let remedy = match &error {
                ConfigError::Read { .. } => "give --config a file that this user can read",
                ConfigError::Content { .. } => {
                    "mend that line; docs/configuration.md and pi0rtd --print-config have all keys"
                }
                ConfigError::Override { .. } => "mend or unset that variable or flag",
                ConfigError::Whole(_) => "change one of them; pi0rtd --print-config shows what is in effect",
            };
            checks.error(error.to_string(), remedy);
            return None;
        }
    };
    checks.ok(match &source.file {
        Some(file) => format!("{}: every key is known and in range", file.display()),
        None => "no file; what environment and defaults say is in range".into(),
    });
    match config.device.chosen().choose() {
        Ok(_) => checks.ok("the device can do what section device asks for"),
        Err(error) => {
            checks.error(format!("section device: {error}"), "change section device of the configuration");
        }
    }
    for moved in &config.moved {
        checks.warn(moved.clone(), "see pi0rtd --print-config: it writes the file as it is meant");
    }
    match config.clients.group.as_ref().map(|group| group.number()) {
        Some(Err(error)) => {
            let remedy =
                "groupadd --system with that name (the package does it), or name a group that is there";
            checks.error(format!("clients.group: {error}"), remedy);
        }
        Some(Ok(number)) => checks.ok(format!("clients.group is there: number {number}")),
        None => {}
    }
    Some(config)
}
