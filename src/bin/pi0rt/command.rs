//! The form of a command.

use std::error::Error;
use std::process::ExitCode;

/// Result of a command: its exit code, or an error that `main` prints.
pub type CommandResult = Result<ExitCode, Box<dyn Error>>;
