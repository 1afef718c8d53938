//! The daemon's configuration: a TOML file, the environment, flags.
//!
//! Every key has a default, a type and a range; a key that isn't one is an error. What is wrong in a file
//! is named with its line and column, what is wrong elsewhere with where it came from.

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
pub use types::{Amount, Group, Hertz, LogTarget, Schedule, Wake, Within};

use crate::checkpoint::line_and_column;
use crate::control::default_socket;

/// The file that is read where none is named.
pub const DEFAULT_PATH: &str = "/etc/pi0rt/pi0rtd.toml";
/// What the environment's variables for single keys begin with: `PI0RTD_CLIENTS_MAX_CLIENTS`.
const PREFIX: &str = "PI0RTD_";
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Everything a daemon can be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is served.
    pub policy: PolicySection,
    /// How chunks continue the ones before.
    pub guidance: GuidanceSection,
    /// What is checked of chunks before they are published.
    pub checks: ChecksSection,
    /// What it runs on.
    pub device: DeviceSection,
    /// Who may use it, and how much of it.
    pub clients: ClientsSection,
    /// How the daemon's threads run.
    pub scheduling: SchedulingSection,
    /// When something counts as hung.
    pub supervision: SupervisionSection,
    /// Figures for a monitoring system.
    pub metrics: MetricsSection,
    /// What is logged, and where.
    pub log: LogSection,
    /// Keys that were found in a former place, and where they belong.
    #[serde(skip)]
    pub moved: Vec<String>,
}

/// Section `[policy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    /// Directory of the checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Profile, a built-in one's name or a file; `None`: the one beside the checkpoint's weights.
    pub profile: Option<String>,
    /// Actions per second; `None`: the profile's, else the checkpoint's.
    pub control_rate_hz: Option<Hertz>,
    /// Tokenizer file; `None`: the checkpoint's.
    pub tokenizer: Option<PathBuf>,
    /// Denoising steps per chunk; `None`: the checkpoint's.
    pub steps: Option<Within<1, 1000>>,
    /// Compute every chunk as if there had been none before.
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
    /// Whether chunks are guided by the previous one, unless a session asks for something else.
    pub enabled: bool,
    /// How the weight of the previous chunk falls from the delay to the horizon.
    pub schedule: Schedule,
    /// Upper bound of the guidance weight.
    pub max_weight: Amount,
    /// Rows from the delay to the horizon.
    pub horizon: Within<0, 4096>,
}

impl Default for GuidanceSection {
    fn default() -> Self {
        let (max_weight, horizon) = (Amount(10.0), Within(10));
        Self { enabled: true, schedule: Schedule::Linear, max_weight, horizon }
    }
}

/// Section `[checks]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChecksSection {
    /// Whether values lie within their declared limits.
    pub positions: bool,
    /// How many times its declared limit a value's rate of change may be; 0: not checked.
    pub velocity_factor: Amount,
    /// Whether chunks begin within the declared start jump from the state.
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
    /// Most clients at a time.
    pub max_clients: Within<1, 1024>,
    /// Most shared memory of all clients together.
    pub max_memory_mb: Within<1, 1_048_576>,
    /// Most clients of one user; `None`: three quarters of what other users leave.
    pub max_clients_per_user: Option<Within<1, 1024>>,
    /// Most shared memory of one user's clients; `None`: as above.
    pub max_memory_mb_per_user: Option<Within<1, 1_048_576>>,
    /// Most connections of one user that have not said hello, and most observers; `None`: as above.
    pub max_connections_per_user: Option<Within<1, 64>>,
    /// Most requests of one user that wait; `None`: as above.
    pub max_requests_per_user: Option<Within<1, 16_384>>,
    /// Most instructions that are kept for one user; `None`: as above.
    pub max_instructions_per_user: Option<Within<1, 262_144>>,
    /// Most log records within 10 s that one user's clients cause.
    pub max_log_records_per_user: Within<1, 100_000>,
    /// Age beyond which an observation is answered with STALE; 0: never.
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
    /// What the daemon does when there is nothing to do.
    pub wake: Wake,
    /// How long it polls before it sleeps, with hybrid.
    pub spin_us: Within<0, 1_000_000>,
    /// `SCHED_FIFO` priority; 0: none.
    pub realtime_priority: Within<0, 98>,
    /// Keep all memory in RAM.
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
    /// File for a node exporter's textfile collector.
    pub file: Option<PathBuf>,
    /// Address to answer HTTP requests for `/metrics` on.
    pub listen: Option<SocketAddr>,
    /// Time between two writes of the file.
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
    /// Level, and exceptions for modules, as in `RUST_LOG`.
    pub level: String,
    /// Where to.
    pub target: LogTarget,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info,kitoken=warn".into(), target: LogTarget::Auto }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something in the file, at a line and column, both counted from 1.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// Something that doesn't come from a file.
    #[error("{from}: {message}")]
    Override {
        /// Flag or variable.
        from: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// Settings that are right one by one and not together, or not here.
    #[error("{0}")]
    Whole(String),
}

/// A key's value from elsewhere than the file.
#[derive(Clone, Debug)]
pub struct Override {
    /// Flag or variable it comes from, for messages.
    pub from: String,
    /// Section and key.
    pub key: (String, String),
    /// Its value: TOML, or a string without its quotes.
    pub value: String,
}

impl Override {
    /// From a flag.
    pub fn flag(flag: &str, section: &str, key: &str, value: impl ToString) -> Self {
        Self { from: flag.into(), key: (section.into(), key.into()), value: value.to_string() }
    }

    /// Those in the environment, in alphabetical order.
    ///
    /// # Errors
    /// A variable that begins like one and names no section, or isn't UTF-8.
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
    /// Reads a file and puts the overrides over it, later ones over earlier ones.
    ///
    /// # Errors
    /// The first thing that is wrong.
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
        // Its keys depend on each other: which device has them is one of them.
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
                // The file, if there is one, was read as a configuration: a section is a table.
                if let Value::Table(section) = section {
                    section.insert(key.clone(), value);
                }
                table.clone().try_into::<Config>().map(|config| (table, config))
            };
            let text = || Value::String(value.clone());
            let typed = typed(value);
            // A string's quotes may be left out, also where it looks like something else.
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

    /// What no single key shows.
    fn check(&self) -> Result<(), ConfigError> {
        self.device.check()?;
        crate::service::log::filter(&self.log.level)
            .map(drop)
            .map_err(|error| ConfigError::Whole(format!("log.level {:?}: {error}", self.log.level)))
    }

    /// Where to listen.
    pub fn socket(&self) -> PathBuf {
        self.clients.socket.clone().unwrap_or_else(default_socket)
    }

    /// It all, as a file with every key explained.
    pub fn page(&self) -> String {
        page::write(self)
    }
}

/// An override's value, if it is written as TOML.
fn typed(value: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("value = {value}\n")).ok()?;
    let value = table.remove("value")?;
    table.is_empty().then_some(value)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let error = |error| ConfigError::Read { path: path.to_owned(), error };
    let kind = std::fs::metadata(path).map_err(error)?;
    // A pipe would be waited for.
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
