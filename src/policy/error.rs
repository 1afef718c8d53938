//! Errors between an observation and a chunk, by who is at fault.

use std::path::PathBuf;

use super::frame::PixelFormat;
use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::model::ModelError;

/// A frame that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame has no pixels.
    #[error("frame is {width}x{height} pixels, expected at least 1x1")]
    EmptyFrame {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Rows would overlap.
    #[error("frame's stride is {stride} bytes, expected at least {width} pixels of {format:?}, {} bytes", width.saturating_mul(format.bytes()))]
    Stride {
        /// Pixels per row.
        width: usize,
        /// Pixel format.
        format: PixelFormat,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// The frame has too few bytes for its declared size.
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
        /// Pixel format.
        format: PixelFormat,
        /// Number of bytes.
        got: usize,
    },
    /// An odd side, where pixels share their colour.
    #[error(
        "frame is {width}x{height} pixels of {format:?}, expected even sides where pixels share their colour"
    )]
    OddSize {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// Pixel format.
        format: PixelFormat,
    },
    /// Bytes that are no JPEG image of the declared size.
    #[error("frame of {width}x{height} pixels: its JPEG image {why}")]
    Jpeg {
        /// Pixels per row, as declared.
        width: usize,
        /// Rows, as declared.
        height: usize,
        /// Reason, in words.
        why: String,
    },
    /// A side would shrink to nothing when the other is resized to the model's size.
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

/// An unusable observation, by the client's fault. The policy is unharmed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadObservation {
    /// The number of frames differs from the number of cameras; absent frames count as `None`.
    #[error("{got} frames, expected one for each of {cameras}")]
    Frames {
        /// Number of frames.
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
        /// Number of values.
        got: usize,
        /// Number of values the policy needs.
        expected: usize,
    },
    /// A value of the state is infinite or NaN, or becomes so.
    #[error("state[{index}] is {value:?}, expected a number the policy can normalize")]
    StateValue {
        /// Index of the value.
        index: usize,
        /// Its raw value.
        value: f32,
    },
    /// A value of the state is outside the limits of the robot's profile.
    #[error("state[{index}]{name} is {value:?}, expected {low:?} to {high:?}")]
    StateLimits {
        /// Index of the value.
        index: usize,
        /// Its name in parentheses, empty if it has none.
        name: String,
        /// Its raw value.
        value: f32,
        /// The least allowed value.
        low: f32,
        /// The greatest allowed value.
        high: f32,
    },
    /// The prompt does not fit this policy.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The given noise or guidance has the wrong size or content.
    #[error("{what} {got}, expected {expected}")]
    Input {
        /// Name of the input.
        what: &'static str,
        /// The given size or value.
        got: String,
        /// The expected size or value.
        expected: String,
    },
}

/// An instruction that can't be turned into a prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The checkpoint has no tokenizer and none was configured.
    #[error("no tokenizer: looked for {}", paths(looked))]
    NoTokenizer {
        /// The paths searched.
        looked: Vec<PathBuf>,
    },
    /// The checkpoint names a tokenizer that is not PaliGemma's, and doesn't contain it.
    #[error(
        "the checkpoint's tokenizer is {name:?}, which is not PaliGemma's and not in it: set the tokenizer"
    )]
    OtherTokenizer {
        /// Its name.
        name: String,
    },
    /// The tokenizer file exists but can't be used.
    #[error("tokenizer {}: {why}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The instruction is empty or white space.
    #[error("prompt is empty, expected an instruction")]
    Empty,
    /// The text is too long for an instruction.
    #[error("prompt has {bytes} bytes, expected at most {max}")]
    TooManyBytes {
        /// Length of the text.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The prompt has more tokens than the model was trained with, and the checkpoint doesn't truncate.
    #[error("prompt has {tokens} tokens, expected at most {max}")]
    TooLong {
        /// Length of the prompt.
        tokens: usize,
        /// The limit.
        max: usize,
    },
    /// It tells the state to a model that is given it otherwise.
    #[error("prompt tells the robot's state, which this policy doesn't: it was made for another one")]
    TellsState,
    /// The tokenizer does not belong to the model.
    #[error(
        "prompt has token {id}, but the model's vocabulary ends before {vocab_size}: is this its tokenizer?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// Rows of the model's embedding table.
        vocab_size: usize,
    },
    /// The vocabulary can't express the text.
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

/// Errors of the policy layer, distinguished by how to respond to them.
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
    Checkpoint(Box<CheckpointError>),
    /// The checkpoint's statistics can't be used.
    #[error("statistics of {what}: {why}")]
    Statistics {
        /// `state` or `action`.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// A step between the robot's vectors and the normalized ones can't be applied.
    #[error("{what}: step {step} ({name}) {why}")]
    Transform {
        /// `state` or `action`.
        what: &'static str,
        /// Index of the step, from 0.
        step: usize,
        /// Its name.
        name: &'static str,
        /// The mismatch.
        why: String,
    },
    /// The output width of the steps is not the width needed after them.
    #[error("{what}: the steps give {got} values, expected {expected}")]
    Width {
        /// `state` or `action`.
        what: &'static str,
        /// Width of the output.
        got: usize,
        /// Width needed.
        expected: usize,
    },
    /// The device can't be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model can't be loaded or the device failed in a chunk.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The chunk has a value that is not finite, and must not be executed.
    #[error("action {row} has {value:?} in dimension {dimension}, expected finite numbers")]
    InvalidChunk {
        /// The first bad row.
        row: usize,
        /// Its first bad dimension.
        dimension: usize,
        /// The value.
        value: f32,
    },
}

impl From<CheckpointError> for PolicyError {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}
