//! The sections of a configuration but `[device]`, with their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::types::{Amount, Group, Hertz, LogTarget, Method, Schedule, Wake, Within};

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
