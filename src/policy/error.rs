//! What can go wrong between an observation and a chunk, by whose fault it is.

use std::path::PathBuf;

use super::frame::PixelFormat;
use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::model::ModelError;

/// A frame that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame without pixels.
    #[error("frame is {width}x{height} pixels, expected at least 1x1")]
    EmptyFrame {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Rows that would overlap.
    #[error("frame's stride is {stride} bytes, expected at least {width} pixels of {format:?}, {} bytes", width.saturating_mul(format.bytes()))]
    Stride {
        /// Pixels per row.
        width: usize,
        /// Meaning of the bytes.
        format: PixelFormat,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// Too few bytes for the declared size.
    #[error(
        "frame holds {got} bytes, expected {height} rows of {width} pixels of {format:?}, {stride} bytes apart"
    )]
    FrameBytes {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes from one row to the next.
        stride: usize,
        /// Meaning of the bytes.
        format: PixelFormat,
        /// Bytes there are.
        got: usize,
    },
    /// Nothing is left of a side when the other is brought to the model's size.
    #[error("frame is {width}x{height} pixels: at {size}x{size} its short side would be less than one pixel")]
    AspectRatio {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// The model's side.
        size: usize,
    },
}

/// An observation that can't be used: the fault of whoever made it. The policy is unharmed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadObservation {
    /// As many frames as the policy has cameras are needed, `None` for absent ones.
    #[error("{got} frames, expected one for each of {cameras}")]
    Frames {
        /// Frames there are.
        got: usize,
        /// The policy's cameras, by the robot's names.
        cameras: String,
    },
    /// Every camera is absent.
    #[error("no camera has a frame, expected one at least of {cameras}")]
    NoCamera {
        /// The policy's cameras, by the robot's names.
        cameras: String,
    },
    /// A camera's frame can't be used.
    #[error("camera {camera}: {error}")]
    Frame {
        /// The camera.
        camera: String,
        /// The reason.
        error: FrameError,
    },
    /// The state has the wrong width.
    #[error("state has {got} values, expected {expected}")]
    StateLength {
        /// Values there are.
        got: usize,
        /// Values the policy needs.
        expected: usize,
    },
    /// A state that is infinite or NaN, or becomes so.
    #[error("state[{index}] is {value:?}, expected a number the policy can normalize")]
    StateValue {
        /// Which.
        index: usize,
        /// Its raw value.
        value: f32,
    },
    /// A state beyond the limits of the robot's profile.
    #[error("state[{index}]{name} is {value:?}, expected {low:?} to {high:?}")]
    StateLimits {
        /// Which.
        index: usize,
        /// Its name in parentheses, empty if it has none.
        name: String,
        /// Its raw value.
        value: f32,
        /// The least it may be.
        low: f32,
        /// The greatest it may be.
        high: f32,
    },
    /// The prompt is not of this policy.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Given noise or guidance has the wrong size or content.
    #[error("{what} {got}, expected {expected}")]
    Input {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        got: String,
        /// What the policy needs.
        expected: String,
    },
}

/// An instruction that can't be made into a prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The checkpoint has none and none was configured.
    #[error("no tokenizer: looked for {}", paths(looked))]
    NoTokenizer {
        /// Where.
        looked: Vec<PathBuf>,
    },
    /// The checkpoint names a tokenizer that is not PaliGemma's, and doesn't bring it.
    #[error(
        "the checkpoint's tokenizer is {name:?}, which is not PaliGemma's and not in it: set the tokenizer"
    )]
    OtherTokenizer {
        /// Its name.
        name: String,
    },
    /// The tokenizer file is there and can't be used.
    #[error("tokenizer {}: {why}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Nothing but white space.
    #[error("prompt is empty, expected an instruction")]
    Empty,
    /// Text too long to be an instruction.
    #[error("prompt has {bytes} bytes, expected at most {max}")]
    TooManyBytes {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More tokens than the model was trained with, and the checkpoint doesn't truncate.
    #[error("prompt has {tokens} tokens, expected at most {max}")]
    TooLong {
        /// Length of the prompt.
        tokens: usize,
        /// The limit.
        max: usize,
    },
    /// Tokenizer and model don't belong together.
    #[error(
        "prompt has token {id}, but the model's vocabulary ends before {vocab_size}: is this its tokenizer?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// Rows of the model's embedding table.
        vocab_size: usize,
    },
    /// The vocabulary can't express it.
    #[error("prompt {text:?}: {why}")]
    Encode {
        /// The text.
        text: String,
        /// The reason.
        why: String,
    },
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Errors of the policy layer, told apart by what should be done about them.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The observation is wrong; the next one may be right.
    #[error(transparent)]
    BadObservation(#[from] BadObservation),
    /// The instruction is wrong, or there is no tokenizer for it.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The checkpoint can't be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's statistics can't be used.
    #[error("statistics of {what}: {why}")]
    Statistics {
        /// State or action.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// A step between the robot's vectors and the normalized ones can't be applied.
    #[error("{what}: step {step} ({name}) {why}")]
    Transform {
        /// State or action.
        what: &'static str,
        /// Number of the step, from 0.
        step: usize,
        /// Its name.
        name: &'static str,
        /// What doesn't fit.
        why: String,
    },
    /// The steps lead to another width than what comes behind them takes.
    #[error("{what}: the steps give {got} values, expected {expected}")]
    Width {
        /// State or action.
        what: &'static str,
        /// Values they give.
        got: usize,
        /// Values that are needed.
        expected: usize,
    },
    /// The device can't be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model can't be loaded or the device failed in a chunk.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The chunk must not be executed.
    #[error("action {row} has {value:?} in dimension {dimension}, expected finite numbers")]
    InvalidChunk {
        /// The first bad row.
        row: usize,
        /// Its first bad dimension.
        dimension: usize,
        /// What is there.
        value: f32,
    },
}
