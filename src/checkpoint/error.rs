//! Why a checkpoint can't be used.

use std::path::{Path, PathBuf};

/// Errors of the checkpoint layer. Each message names the file or tensor.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file's content is wrong.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A tensor does not fit.
    #[error("tensor {name}: {what}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong, with both sides of a mismatch.
        what: String,
    },
    /// A tensor the model needs is not there.
    #[error("{}: tensor {name} is missing", dir.display())]
    Missing {
        /// The tensor.
        name: String,
        /// The checkpoint.
        dir: PathBuf,
    },
}

impl CheckpointError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn tensor(name: &str, what: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_string(), what: what.into() }
    }

    pub(crate) fn missing(name: &str, dir: &Path) -> Self {
        Self::Missing { name: name.to_string(), dir: dir.to_path_buf() }
    }
}
