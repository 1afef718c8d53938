//! Why a model can't be loaded or a chunk not be computed.

use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;

/// Errors of the model layer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A tensor is missing or does not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device refuses or fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device can't continue actions as the model was trained to.
    #[error(
        "training-time real-time chunking (rtc_training_max_delay {delay} in config.json): {why}; \
         `method = \"guided\"` in [guidance] chooses guidance instead, `enabled = false` neither"
    )]
    TrainedRtc {
        /// Most rows that the model was trained to continue.
        delay: usize,
        /// The device's reason, in words.
        why: String,
    },
    /// An input has the wrong size or content.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// Name of the input.
        what: &'static str,
        /// Size or content that the model needs.
        expected: String,
        /// Size or content it was given.
        got: String,
    },
}
