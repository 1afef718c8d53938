//! Why a checkpoint can't be read or written.

use std::path::{Path, PathBuf};

use super::{Dtype, recognize};

/// What is wrong with a checkpoint. Each message names the file and the tensor or key, and both
/// sides of a mismatch.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{}: cannot {doing}: {why}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// The system's answer.
        why: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// One entry of a safetensors header is wrong.
    #[error("{}: tensor {tensor:?}: {why}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with its entry.
        why: String,
    },
    /// PI0 needs a tensor that is not there.
    #[error("{}: tensor {tensor:?} is missing{hint}", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// A guess at the reason, or nothing.
        hint: String,
    },
    /// A tensor's shape contradicts the sizes the other tensors and the configuration give.
    #[error("{}: tensor {tensor:?} has shape {got:?}, expected {expected} ({why})", path.display())]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        got: Vec<usize>,
        /// Shape or form of shape that was expected.
        expected: String,
        /// Where the expectation comes from.
        why: String,
    },
    /// A weight is stored in a dtype PI0 does not compute with.
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
        /// The size.
        what: String,
        /// One source and its value: `config.json says 20`.
        left: String,
        /// The other source and its value.
        right: String,
    },
    /// Statistics that can't normalise.
    #[error("{}: {statistic}: {why}", path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// Which statistic.
        statistic: String,
        /// What is wrong with it.
        why: String,
    },
    /// The checkpoint asks for something this runtime does not do.
    #[error("{}: {what} is not supported: {why}", path.display())]
    Unsupported {
        /// The file that asks.
        path: PathBuf,
        /// What it asks for.
        what: String,
        /// Why not, or what would be.
        why: String,
    },
    /// Something in a profile.
    #[error("{place}: {why}")]
    Profile {
        /// `FILE:line:column`.
        place: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// No profile has this name.
    #[error("profile {name:?} is not built in (a file's name has a / or ends in .toml); those that are:\n{}", choices.trim_end())]
    UnknownProfile {
        /// The name.
        name: String,
        /// Those there are, one to a line.
        choices: String,
    },
    /// A checkpoint that doesn't tell what a robot makes of it.
    #[error(
        "{}: an openpi checkpoint doesn't say what its actions are to the robot: choose a profile (--profile NAME, \
         or profile = \"NAME\" under [policy] of the configuration), or write one into {}{hint}\n{}",
        path.display(), path.join(super::PROFILE_FILE).display(), choices.trim_end()
    )]
    NoProfile {
        /// The directory.
        path: PathBuf,
        /// What the statistics suggest, after a separator; empty: nothing.
        hint: String,
        /// The built-in profiles, one to a line.
        choices: String,
    },
    /// What was trained lies in an adapter that has not been merged into the weights.
    #[error("{}: {what}", path.display())]
    Adapter {
        /// The file that shows it.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// Output would overwrite something.
    #[error("{} already exists: {hint}", path.display())]
    Exists {
        /// File or directory.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Values that the target dtype can't hold.
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
    /// Sizes that can't be a PI0 model.
    #[error("{0}")]
    Arch(String),
}

impl CheckpointError {
    pub(crate) fn io(path: &Path, doing: &'static str, why: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), doing, why }
    }

    /// What can't be opened: for what is missing, where the way to it ends.
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

/// `text` cut to a length that a message can bear: it may come from a hostile file.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
