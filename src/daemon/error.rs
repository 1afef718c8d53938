//! Errors that keep a daemon from starting or serving.

use std::any::Any;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::shm::LayoutError;

/// The message of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown panic")
}

impl DaemonError {
    /// The error for a thread that can't be started.
    pub(super) fn thread(error: &std::io::Error) -> DaemonError {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::AGAIN);
        DaemonError::System { call: "start a thread", errno }
    }
}

/// Why a daemon can't start or go on serving.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon serves this socket.
    #[error("socket {}: another daemon serves it{}", path.display(), pid.map_or(String::new(), |pid| format!(", process {pid}")))]
    InUse {
        /// Path of the socket.
        path: PathBuf,
        /// Process of the other daemon; None: unknown.
        pid: Option<u32>,
    },
    /// The lock file can't be used.
    #[error("lock {}: it {what}", path.display())]
    Lock {
        /// Path of the lock file.
        path: PathBuf,
        /// The problem, and how to solve it.
        what: String,
    },
    /// A file that is no socket is in the way.
    #[error("socket {}: a file that is no socket is in the way", path.display())]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// The socket handed over by a service manager is not the one to serve.
    #[error("socket {}: the one that was given {what}", path.display())]
    Inherited {
        /// Path of the socket to serve.
        path: PathBuf,
        /// Description of the one handed over.
        what: String,
    },
    /// A system call on the socket's path failed.
    #[error("socket {}: {call}: {errno}", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// Name of the system call, or what was tried.
        call: &'static str,
        /// Error code of the call.
        errno: Errno,
    },
    /// A system call failed.
    #[error("{call}: {errno}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// Error code of the call.
        errno: Errno,
    },
    /// The policy's description is too long for a message.
    #[error(
        "policy: what clients are told of it, names and units included, has {got} bytes, expected at most {most}"
    )]
    Description {
        /// Length of the description, bytes.
        got: usize,
        /// Maximum length, bytes.
        most: usize,
    },
    /// The policy's sizes don't fit a session's segments.
    #[error("policy: {0}")]
    Policy(#[from] LayoutError),
    /// The device is lost: a new process may be able to open it again.
    #[error("device lost: {0}")]
    Lost(String),
    /// A thread can't be started or set up.
    #[error("{0}")]
    Thread(String),
    /// The inference thread has panicked: a defect.
    #[error("the inference thread has failed: {0}")]
    Inference(String),
}
