//! The configuration as a whole.

use std::os::unix::fs::MetadataExt;

use super::Findings;
use crate::service::Source;
use crate::service::config::{Config, ConfigError};

pub(super) fn look(source: &Source, findings: &mut Findings<'_>) -> Option<Config> {
    if let Some(file) = &source.file
        && let Ok(metadata) = std::fs::metadata(file)
        && metadata.mode() & 0o002 != 0
    {
        let file = file.display();
        findings.warn(format!("{file} may be written by every user"), format!("chmod o-w {file}"));
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
            findings.error(error.to_string(), remedy);
            return None;
        }
    };
    if let Err(error) = config.device().choice() {
        findings.error(format!("section device: {error}"), "change section device of the configuration");
    }
    if let Some(Err(error)) = config.clients.group.as_ref().map(|group| group.number()) {
        let remedy = "groupadd --system with that name (the package does it), or name a group that is there";
        findings.error(format!("clients.group: {error}"), remedy);
    }
    Some(config)
}
