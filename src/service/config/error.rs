//! Errors of a configuration.

use std::path::PathBuf;

/// An error in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A fault in the file, with line and column, both counted from 1.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The fault, and the expected value.
        message: String,
    },
    /// A fault in a flag or an environment variable.
    #[error("{from}: {message}")]
    Override {
        /// Flag or variable.
        from: String,
        /// The fault, and the expected value.
        message: String,
    },
    /// Settings that are valid one by one but not together, or not on this machine.
    #[error("{0}")]
    Whole(String),
}
