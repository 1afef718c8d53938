//! Why a daemon can't start or go on.

use std::any::Any;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::shm::LayoutError;

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown panic")
}

impl DaemonError {
    /// A thread that can't be started.
    pub(super) fn thread(error: &std::io::Error) -> DaemonError {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::AGAIN);
        DaemonError::System { call: "start a thread", errno }
    }
}

/// Why a daemon can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon serves this socket.
    #[error("socket {}: another daemon serves it{}", path.display(), pid.map_or(String::new(), |pid| format!(", process {pid}")))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other daemon, if it could be read.
        pid: Option<u32>,
    },
    /// The lock can't be this daemon's.
    #[error("lock {}: it {what}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What is wrong with it, and how it is mended.
        what: String,
    },
    /// Something that isn't a socket is in the way.
    #[error("socket {}: a file that is no socket is in the way", path.display())]
    NotASocket {
        /// The socket.
        path: PathBuf,
    },
    /// The socket that a service manager has given is another one.
    #[error("socket {}: the one that was given {what}", path.display())]
    Inherited {
        /// The socket that is to be served.
        path: PathBuf,
        /// What the other one is.
        what: String,
    },
    /// Something with the socket's path failed.
    #[error("socket {}: {call}: {errno}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        call: &'static str,
        /// What the system says.
        errno: Errno,
    },
    /// A system call failed.
    #[error("{call}: {errno}")]
    System {
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// The policy has more to say than clients can be told in a message.
    #[error(
        "policy: what clients are told of it, names and units included, has {got} bytes, expected at most {most}"
    )]
    Description {
        /// Its bytes.
        got: usize,
        /// Bytes there may be.
        most: usize,
    },
    /// The policy has sizes that segments can't have.
    #[error("policy: {0}")]
    Policy(#[from] LayoutError),
    /// The device is lost: another process may find it again.
    #[error("device lost: {0}")]
    Lost(String),
    /// A thread can't serve as it is meant to.
    #[error("{0}")]
    Thread(String),
    /// The inference thread has panicked: a defect.
    #[error("the inference thread has failed: {0}")]
    Inference(String),
}
