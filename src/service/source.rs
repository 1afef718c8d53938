//! Sources of a configuration: file, environment, flags.

use std::path::{Path, PathBuf};

use super::config::{Config, ConfigError, DEFAULT_PATH, Override};

/// Sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Path of the configuration file, if any.
    pub file: Option<PathBuf>,
    /// Values that take precedence over the file.
    pub overrides: Vec<Override>,
}

impl Source {
    /// The named file; without one, the installed file if it exists and `flags` don't name a checkpoint.
    /// The environment overrides the file, flags override both.
    ///
    /// # Errors
    /// If a variable of the environment is invalid.
    pub fn new(named: Option<PathBuf>, flags: Vec<Override>) -> Result<Self, ConfigError> {
        let serves = |flag: &Override| flag.key == ("policy".into(), "checkpoint".into());
        let installed = || {
            let wanted = !flags.iter().any(serves) && Path::new(DEFAULT_PATH).exists();
            wanted.then(|| DEFAULT_PATH.into())
        };
        let file = named.or_else(installed);
        let mut overrides = Override::from_environment(std::env::vars_os())?;
        overrides.extend(flags);
        Ok(Self { file, overrides })
    }

    /// Reads all sources into one configuration.
    ///
    /// # Errors
    /// The first fault found.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), &self.overrides)
    }
}
