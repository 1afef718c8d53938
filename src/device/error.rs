//! Why a device refuses or fails.

/// Why a device refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An operation's views do not fit together.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// The device can't do this.
    #[error("{what}: not supported by device {device}: {why}")]
    Unsupported {
        /// Operation, dtype or option.
        what: String,
        /// Name of the device.
        device: String,
        /// The reason.
        why: String,
    },
    /// Memory could not be had.
    #[error("{what}: could not allocate {bytes} bytes: {why}")]
    Memory {
        /// What it was for.
        what: String,
        /// How much.
        bytes: usize,
        /// The system's or the device's answer.
        why: String,
    },
    /// It can't be opened: missing, busy, or not as configured.
    #[error("device unavailable: {0}")]
    Unavailable(String),
    /// The device was lost; nothing more will come from it.
    #[error("device lost: {0}")]
    Lost(String),
}
