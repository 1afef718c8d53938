//! The daemon's configuration: a TOML file, the environment, flags.
//!
//! Every key has a default, a type and a range; an unknown key is an error. Errors in a file name line and
//! column, other errors their source.

mod device;
mod error;
mod overrides;
mod page;
mod sections;
mod types;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use device::DeviceSection;
pub use error::ConfigError;
pub use overrides::Override;
pub use sections::{
    ChecksSection, ClientsSection, GuidanceSection, LogSection, MetricsSection, PolicySection,
    SchedulingSection, SupervisionSection,
};
pub use types::{Amount, Group, Hertz, LogTarget, Method, Schedule, Wake, Within};

use self::overrides::typed;
use crate::checkpoint::line_and_column;
use crate::control::default_socket;

/// The file that is read if none is named.
pub const DEFAULT_PATH: &str = "/etc/pi0rt/pi0rtd.toml";
/// Largest accepted file, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// All options of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The policy to serve.
    pub policy: PolicySection,
    /// How chunks continue the ones before.
    pub guidance: GuidanceSection,
    /// Checks of chunks before they are published.
    pub checks: ChecksSection,
    /// The device that computes.
    pub device: DeviceSection,
    /// Access of clients and their limits.
    pub clients: ClientsSection,
    /// Scheduling of the daemon's threads.
    pub scheduling: SchedulingSection,
    /// Detection of a hung device.
    pub supervision: SupervisionSection,
    /// Export of metrics.
    pub metrics: MetricsSection,
    /// Logging.
    pub log: LogSection,
    /// Keys that were found in a former place, with messages that name the current one.
    #[serde(skip)]
    pub moved: Vec<String>,
}

impl Config {
    /// Reads a file and applies the overrides in order, later ones over earlier ones.
    ///
    /// # Errors
    /// The first fault found.
    pub fn load(path: Option<&Path>, overrides: &[Override]) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        let mut config = Config::default();
        if let Some(path) = path {
            let text = read(path)?;
            let wrong = |error: toml::de::Error| {
                let (line, column) = line_and_column(&text, error.span().map_or(0, |span| span.start));
                let message = error.message().to_owned();
                ConfigError::Content { path: path.into(), line, column, message }
            };
            config = toml::from_str(&text).map_err(wrong)?;
            table = toml::from_str(&text).map_err(wrong)?;
        }
        // Keys of `[device]` depend on each other: one of them names the device that has the others.
        let (of_device, others): (Vec<_>, Vec<_>) =
            overrides.iter().partition(|Override { key: (section, _), .. }| section == "device");
        let mut moved = Vec::new();
        let device = std::mem::take(&mut config.device).settle(&of_device, &mut moved)?;
        table.remove("device");
        for Override { from, key: (section, key), value } in others {
            let wrong = |message: String| ConfigError::Override { from: from.clone(), message };
            let put = |value: Value| {
                let mut table = table.clone();
                let section = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
                // The file, if any, has been read as a configuration: a section is a table.
                if let Value::Table(section) = section {
                    section.insert(key.clone(), value);
                }
                table.clone().try_into::<Config>().map(|config| (table, config))
            };
            let text = || Value::String(value.clone());
            let typed = typed(value);
            // A string's quotes may be left out, even if it looks like another type.
            let put = match typed {
                Some(typed) => put(typed).or_else(|error| put(text()).map_err(|_| error)),
                None => put(text()),
            };
            (table, config) = put.map_err(|error| wrong(error.message().to_owned()))?;
        }
        (config.device, config.moved) = (device, moved);
        config.check()?;
        Ok(config)
    }

    /// Checks that settings are valid together.
    fn check(&self) -> Result<(), ConfigError> {
        self.device.check()?;
        crate::service::log::filter(&self.log.level)
            .map(drop)
            .map_err(|error| ConfigError::Whole(format!("log.level {:?}: {error}", self.log.level)))
    }

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.clients.socket.clone().unwrap_or_else(default_socket)
    }

    /// The whole configuration as a file with every key explained.
    pub fn page(&self) -> String {
        page::write(self)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let error = |error| ConfigError::Read { path: path.to_owned(), error };
    let kind = std::fs::metadata(path).map_err(error)?;
    // Reading a pipe would block.
    if !kind.is_file() {
        return Err(error(std::io::Error::new(ErrorKind::InvalidInput, "not a file")));
    }
    if kind.len() > MAX_BYTES {
        let message = format!("{} bytes, expected at most {MAX_BYTES}", kind.len());
        return Err(error(std::io::Error::new(ErrorKind::FileTooLarge, message)));
    }
    std::fs::read_to_string(path).map_err(error)
}

#[cfg(test)]
mod tests;
