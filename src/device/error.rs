//! Why a device refuses or fails.

/// Why a device refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An operation's views do not fit together.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// Arguments it needs.
        expected: String,
        /// Arguments it was given.
        got: String,
    },
    /// The device can't do this.
    #[error("{what}: not supported by device {device}: {why}")]
    Unsupported {
        /// Operation, dtype or option.
        what: String,
        /// Name of the device.
        device: String,
        /// Reason, in words.
        why: String,
    },
    /// Memory could not be had.
    #[error("{what}: could not allocate {bytes} bytes: {why}")]
    Memory {
        /// Purpose of the memory.
        what: String,
        /// Number of bytes asked for.
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

/// The error of arguments that do not fit together.
pub(super) fn shape(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> DeviceError {
    DeviceError::Shape { op, expected: expected.into(), got: got.into() }
}

/// Refuses another number than the expected one.
pub(super) fn expect(op: &'static str, what: &str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(shape(op, format!("{expected} {what}"), got.to_string())) }
}
