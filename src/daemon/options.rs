//! Options of a daemon.

use std::time::Duration;

use super::checks::Checks;
use super::guidance::Guidance;
use super::handle::Limits;

/// How the inference thread waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Polls as long as there is a session: no client ever makes a system call, one core is busy.
    Spin,
    /// Polls for this time after the last work, nanoseconds, then sleeps.
    Hybrid(u64),
    /// Sleeps at once when there is no work.
    Sleep,
}

/// Options of a daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the inference thread waits for work.
    pub wake: Wake,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Default capacity of each camera's frame, bytes.
    pub frame_bytes: u32,
    /// Maximum capacity a client may ask for, bytes.
    pub max_frame_bytes: u32,
    /// Group whose members may connect; None: the daemon's own group.
    pub group: Option<u32>,
    /// How chunks are guided by the previous one, unless a session asks for something else.
    pub guidance: Guidance,
    /// Checks of chunks before they are published.
    pub checks: Checks,
    /// Limits that may change while the daemon serves.
    pub limits: Limits,
    /// Returns how many log records of a user were left out; None: not counted.
    pub left_out_of_log: Option<fn(u32) -> u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            wake: Wake::Hybrid(50_000),
            heartbeat: Duration::from_millis(10),
            frame_bytes: 640 * 480 * 4,
            max_frame_bytes: 1920 * 1080 * 4,
            group: None,
            guidance: Guidance::default(),
            checks: Checks::default(),
            limits: Limits::default(),
            left_out_of_log: None,
        }
    }
}
