//! Errors of reading and writing checkpoints.

use std::path::{Path, PathBuf};

use super::dtype::Dtype;
use super::layout::PROFILE_FILE;
use super::recognize;

/// An error in a checkpoint. Each message names the file and the tensor or key, and both sides of a
/// mismatch.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system returned an error.
    #[error("{}: cannot {doing}: {why}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The system's error.
        why: std::io::Error,
    },
    /// A file does not have the expected content.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault, in words.
        why: String,
    },
    /// An entry of a safetensors header is wrong.
    #[error("{}: tensor {tensor:?}: {why}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The fault of its entry, in words.
        why: String,
    },
    /// A tensor that PI0 needs is missing.
    #[error("{}: tensor {tensor:?} is missing{hint}", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// A likely reason; may be empty.
        hint: String,
    },
    /// A tensor's shape contradicts the sizes given by the other tensors and the configuration.
    #[error("{}: tensor {tensor:?} has shape {got:?}, expected {expected} ({why})", path.display())]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        got: Vec<usize>,
        /// Expected shape, or its form.
        expected: String,
        /// Source of the expectation.
        why: String,
    },
    /// A weight is stored in a dtype that PI0 does not compute with.
    #[error("{}: tensor {tensor:?} has dtype {got}, expected F32, BF16 or F16", path.display())]
    WeightDtype {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Dtype in the file.
        got: String,
    },
    /// Two sources of one size disagree.
    #[error("{}: {what}: {left}, but {right}", path.display())]
    Disagree {
        /// The checkpoint.
        path: PathBuf,
        /// Name of the size.
        what: String,
        /// One source and its value: `config.json says 20`.
        left: String,
        /// The other source and its value.
        right: String,
    },
    /// Statistics that can't be used to normalize.
    #[error("{}: {statistic}: {why}", path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// Name of the statistic.
        statistic: String,
        /// The fault, in words.
        why: String,
    },
    /// The checkpoint requires something this runtime does not support.
    #[error("{}: {what} is not supported: {why}", path.display())]
    Unsupported {
        /// The file that requires it.
        path: PathBuf,
        /// The unsupported requirement.
        what: String,
        /// The reason, or the supported alternative.
        why: String,
    },
    /// A fault in a profile.
    #[error("{place}: {why}")]
    Profile {
        /// `FILE:line:column`.
        place: String,
        /// The fault, and the expected value.
        why: String,
    },
    /// No profile has this name.
    #[error("profile {name:?} is not built in (a file's name has a / or ends in .toml); those that are:\n{}", choices.trim_end())]
    UnknownProfile {
        /// The name.
        name: String,
        /// Available profiles, one per line.
        choices: String,
    },
    /// A checkpoint does not declare what its actions mean to a robot.
    #[error(
        "{}: an openpi checkpoint doesn't say what its actions are to the robot: choose a profile (--profile NAME, \
         or profile = \"NAME\" under [policy] of the configuration), or write one into {}{hint}\n{}",
        path.display(), path.join(PROFILE_FILE).display(), choices.trim_end()
    )]
    NoProfile {
        /// The directory.
        path: PathBuf,
        /// Hint from the statistics, after a separator; may be empty.
        hint: String,
        /// The built-in profiles, one per line.
        choices: String,
    },
    /// The training result lies in an adapter that has not been merged into the weights.
    #[error("{}: {what}", path.display())]
    Adapter {
        /// The file that shows it.
        path: PathBuf,
        /// The adapter, and what to do about it.
        what: String,
    },
    /// The output would overwrite existing files.
    #[error("{} already exists: {hint}", path.display())]
    Exists {
        /// File or directory.
        path: PathBuf,
        /// Advice on what to do.
        hint: &'static str,
    },
    /// A value does not fit the target dtype.
    #[error("tensor {tensor:?}: {value} does not fit {dtype} (at most {max})")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The target dtype.
        dtype: Dtype,
        /// The dtype's largest finite value.
        max: f32,
    },
    /// The sizes can't be those of a PI0 model.
    #[error("{0}")]
    Arch(String),
}

impl CheckpointError {
    pub(crate) fn io(path: &Path, doing: &'static str, why: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), doing, why }
    }

    /// The error that `path` can't be opened; for a missing path it names the link or directory where the
    /// path breaks.
    pub(crate) fn open(path: &Path, why: std::io::Error) -> Self {
        let lost = (why.kind() == std::io::ErrorKind::NotFound).then(|| recognize::dangling(path)).flatten();
        match lost {
            Some(why) => Self::file(path, why),
            None => Self::io(path, "open", why),
        }
    }

    pub(crate) fn file(path: &Path, why: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), why: why.into() }
    }
}

/// `text` cut to a length fit for messages: it may come from a hostile file.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
