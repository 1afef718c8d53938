//! The daemon's configuration: a TOML file, the environment, flags.
//!
//! Every key has a default, a type and a range; an unknown key is an error. Errors in a file name line and
//! column, other errors their source.

mod device;
mod page;
mod types;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use device::DeviceSection;
pub use types::{Amount, Group, Hertz, LogTarget, Method, Schedule, Wake, Within};

use crate::checkpoint::line_and_column;
use crate::control::default_socket;

/// The file that is read if none is named.
pub const DEFAULT_PATH: &str = "/etc/pi0rt/pi0rtd.toml";
/// Prefix of environment variables for single keys: `PI0RTD_CLIENTS_MAX_CLIENTS`.
const PREFIX: &str = "PI0RTD_";
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

/// Section `[policy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    /// Directory of the checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Profile, a built-in name or a file; `None`: the one beside the checkpoint's weights.
    pub profile: Option<String>,
    /// Actions per second; `None`: the profile's, else the checkpoint's.
    pub control_rate_hz: Option<Hertz>,
    /// Tokenizer file; `None`: the checkpoint's.
    pub tokenizer: Option<PathBuf>,
    /// Denoising steps per chunk; `None`: the checkpoint's.
    pub steps: Option<Within<1, 1000>>,
    /// True to compute every chunk without reusing results of earlier ones.
    pub recompute: bool,
    /// Compute what depends on frames and instruction for every so many chunks of a session only.
    pub prefix_every: Within<1, 1000>,
}

impl Default for PolicySection {
    fn default() -> Self {
        Self {
            checkpoint: None,
            profile: None,
            control_rate_hz: None,
            tokenizer: None,
            steps: None,
            recompute: false,
            prefix_every: Within(1),
        }
    }
}

/// Section `[guidance]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuidanceSection {
    /// True if chunks are guided by the previous one, unless a session asks for something else.
    pub enabled: bool,
    /// How the weight of the previous chunk falls from the delay to the horizon.
    pub schedule: Schedule,
    /// How a chunk of a checkpoint continues the previous one.
    pub method: Method,
    /// Upper bound of the guidance weight.
    pub max_weight: Amount,
    /// Rows that are kept beyond those counted as past.
    pub margin_rows: Within<0, 4096>,
    /// Rows from the delay to the horizon.
    pub horizon: Within<0, 4096>,
}

impl Default for GuidanceSection {
    fn default() -> Self {
        Self {
            enabled: true,
            schedule: Schedule::Linear,
            method: Method::Checkpoint,
            max_weight: Amount(10.0),
            margin_rows: Within(2),
            horizon: Within(10),
        }
    }
}

/// Section `[checks]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChecksSection {
    /// True if values have to lie within their declared limits.
    pub positions: bool,
    /// How many times its declared limit a value's rate of change may be; 0: not checked.
    pub velocity_factor: Amount,
    /// True if chunks have to begin within the declared start jump from the state.
    pub start: bool,
}

impl Default for ChecksSection {
    fn default() -> Self {
        Self { positions: true, velocity_factor: Amount(2.0), start: true }
    }
}

/// Section `[clients]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientsSection {
    /// The socket; `None`: `$PI0RT_SOCKET`, else `/run/pi0rt/pi0rt.sock`.
    pub socket: Option<PathBuf>,
    /// Group whose members may connect; `None`: the daemon's own.
    pub group: Option<Group>,
    /// Maximum number of clients at a time.
    pub max_clients: Within<1, 1024>,
    /// Maximum shared memory of all clients together, MB.
    pub max_memory_mb: Within<1, 1_048_576>,
    /// Maximum number of clients of one user; `None`: three quarters of what other users leave.
    pub max_clients_per_user: Option<Within<1, 1024>>,
    /// Maximum shared memory of one user's clients, MB; `None`: as above.
    pub max_memory_mb_per_user: Option<Within<1, 1_048_576>>,
    /// Maximum number of one user's connections without a hello, and of observers; `None`: as above.
    pub max_connections_per_user: Option<Within<1, 64>>,
    /// Maximum number of waiting requests of one user; `None`: as above.
    pub max_requests_per_user: Option<Within<1, 16_384>>,
    /// Maximum number of instructions kept for one user; `None`: as above.
    pub max_instructions_per_user: Option<Within<1, 262_144>>,
    /// Maximum number of log records that one user's clients may cause within 10 s.
    pub max_log_records_per_user: Within<1, 100_000>,
    /// Age beyond which an observation is answered with STALE, ms; 0: never.
    pub max_age_ms: Within<0, 3_600_000>,
}

impl Default for ClientsSection {
    fn default() -> Self {
        Self {
            socket: None,
            group: None,
            max_clients: Within(24),
            max_memory_mb: Within(1024),
            max_clients_per_user: None,
            max_memory_mb_per_user: None,
            max_connections_per_user: None,
            max_requests_per_user: None,
            max_instructions_per_user: None,
            max_log_records_per_user: Within(200),
            max_age_ms: Within(0),
        }
    }
}

/// Section `[scheduling]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulingSection {
    /// How the daemon waits for work.
    pub wake: Wake,
    /// Polling time before sleeping, for hybrid, µs.
    pub spin_us: Within<0, 1_000_000>,
    /// `SCHED_FIFO` priority of the threads; 0: normal scheduling.
    pub realtime_priority: Within<0, 98>,
    /// True to keep all memory in RAM.
    pub lock_memory: bool,
}

impl Default for SchedulingSection {
    fn default() -> Self {
        let (spin_us, realtime_priority) = (Within(50), Within(0));
        Self { wake: Wake::Hybrid, spin_us, realtime_priority, lock_memory: false }
    }
}

/// Section `[supervision]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisionSection {
    /// Time without progress in a chunk after which the device counts as hung; 0: never.
    pub hang_after_s: Within<0, 3600>,
}

impl Default for SupervisionSection {
    fn default() -> Self {
        Self { hang_after_s: Within(30) }
    }
}

/// Section `[metrics]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSection {
    /// File for the node exporter's textfile collector.
    pub file: Option<PathBuf>,
    /// Address of the HTTP server for `/metrics`.
    pub listen: Option<SocketAddr>,
    /// Time between two writes of the file, s.
    pub every_s: Within<1, 3600>,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { file: None, listen: None, every_s: Within(15) }
    }
}

/// Section `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Level, with exceptions for modules, as in `RUST_LOG`.
    pub level: String,
    /// Destination of records.
    pub target: LogTarget,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info,kitoken=warn".into(), target: LogTarget::Auto }
    }
}

/// An error in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A fault in the file, with line and column, both counted from 1.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The fault, and the expected value.
        message: String,
    },
    /// A fault in a flag or an environment variable.
    #[error("{from}: {message}")]
    Override {
        /// Flag or variable.
        from: String,
        /// The fault, and the expected value.
        message: String,
    },
    /// Settings that are valid one by one but not together, or not on this machine.
    #[error("{0}")]
    Whole(String),
}

/// A value for a key from a flag or the environment.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag or variable, for messages.
    pub from: String,
    /// Section and key.
    pub key: (String, String),
    /// Its value: TOML, or a string without its quotes.
    pub value: String,
}

impl Override {
    /// An override from a flag.
    pub fn flag(flag: &str, section: &str, key: &str, value: impl ToString) -> Self {
        Self { from: flag.into(), key: (section.into(), key.into()), value: value.to_string() }
    }

    /// Overrides from the environment, in alphabetical order of the variables.
    ///
    /// # Errors
    /// If a variable has the prefix but names no section, or isn't UTF-8.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<Self>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let wrong = |message: &str| ConfigError::Override { from: name.into(), message: message.into() };
            let rest = name[PREFIX.len()..].to_lowercase();
            let (section, key) = rest.split_once('_').ok_or_else(|| wrong("expected PI0RTD_SECTION_KEY"))?;
            let value = value.into_string().map_err(|_| wrong("not UTF-8"))?;
            found.push(Self { from: name.into(), key: (section.into(), key.into()), value });
        }
        found.sort_by(|a, b| a.from.cmp(&b.from));
        Ok(found)
    }
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

/// An override's value, if it is valid TOML.
fn typed(value: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("value = {value}\n")).ok()?;
    let value = table.remove("value")?;
    table.is_empty().then_some(value)
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
