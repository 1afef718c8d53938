//! One daemon per socket.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, ftruncate, open, stat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};

use super::DaemonError;

const BACKLOG: i32 = 32;

/// The right to serve a socket: a locked file beside it, `PATH.lock`, that names the process.
/// Dropping it removes the file and the socket.
pub struct Claim {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: OwnedFd,
    previous: Option<u32>,
    bound: bool,
    /// A socket of somebody else who listens.
    inherited: Option<OwnedFd>,
}

impl Claim {
    /// Takes the right to serve `path`. To be done before anything that takes long, so that a
    /// second daemon is refused at once.
    ///
    /// # Errors
    /// Another daemon has it; the directory can't be written to.
    pub fn take(path: &Path) -> Result<Claim, DaemonError> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let error = |call| {
            let path = path.to_owned();
            move |errno| DaemonError::Socket { path, call, errno }
        };
        // The address has room for 107 bytes: say so now, not after the policy was loaded.
        SocketAddrUnix::new(path).map_err(error("address"))?;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let lock = open(&lock_path, flags, Mode::from_raw_mode(0o644)).map_err(error("open lock"))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let pid = std::fs::read_to_string(&lock_path).ok().and_then(|s| s.trim().parse().ok());
                    return Err(DaemonError::InUse { path: path.to_owned(), pid });
                }
                Err(errno) => return Err(error("flock")(errno)),
            }
            // A daemon that ended may have removed the file between open and lock.
            let mine = fstat(&lock).map_err(error("fstat lock"))?;
            match stat(&lock_path) {
                Ok(there) if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino) => {}
                _ => continue,
            }
            // One that ends in order removes the file.
            let previous = std::fs::read_to_string(&lock_path).ok().and_then(|pid| pid.trim().parse().ok());
            ftruncate(&lock, 0).map_err(error("truncate lock"))?;
            let pid = format!("{}\n", std::process::id());
            rustix::io::write(&lock, pid.as_bytes()).map_err(error("write lock"))?;
            return Ok(Claim {
                path: path.to_owned(),
                lock_path,
                _lock: lock,
                previous,
                bound: false,
                inherited: None,
            });
        }
    }

    /// The process of a daemon before this one that ended without having time to clean up: killed, crashed.
    pub fn previous(&self) -> Option<u32> {
        self.previous
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has a socket that a service manager listens on: it decides who may connect, and the socket stays
    /// when this daemon ends.
    ///
    /// # Errors
    /// It is no listening SEQPACKET socket at this claim's path.
    pub fn inherit(&mut self, socket: OwnedFd) -> Result<(), DaemonError> {
        let error = |call| {
            let path = self.path.clone();
            move |errno| DaemonError::Socket { path, call, errno }
        };
        let wrong = |what: String| {
            let path = self.path.clone();
            Err(DaemonError::Inherited { path, what })
        };
        let kind = sockopt::socket_type(&socket).map_err(error("the socket given: SO_TYPE"))?;
        if kind != SocketType::SEQPACKET {
            return wrong(format!("is of type {}, expected SOCK_SEQPACKET (5)", kind.as_raw()));
        }
        if !sockopt::socket_acceptconn(&socket).map_err(error("the socket given: SO_ACCEPTCONN"))? {
            return wrong("does not listen".into());
        }
        let name = getsockname(&socket).map_err(error("the socket given: getsockname"))?;
        let name = SocketAddrUnix::try_from(name).map_err(error("the socket given: address"))?;
        let path = name.path_bytes().unwrap_or_default();
        if path != self.path.as_os_str().as_bytes() {
            return wrong(format!("is {}", String::from_utf8_lossy(path)));
        }
        rustix::io::ioctl_fionbio(&socket, true).map_err(error("the socket given: FIONBIO"))?;
        self.inherited = Some(socket);
        Ok(())
    }

    /// Listens, taking over the socket file of a daemon that crashed. `mode`: who may connect.
    ///
    /// # Errors
    /// A file in the way, or a system call that failed.
    pub fn listen(&mut self, mode: u32, group: Option<u32>) -> Result<OwnedFd, DaemonError> {
        if let Some(socket) = self.inherited.take() {
            return Ok(socket);
        }
        let path = self.path.clone();
        let error = |call| {
            let path = path.clone();
            move |errno| DaemonError::Socket { path, call, errno }
        };
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                rustix::fs::unlink(&path).map_err(error("remove what a crashed daemon left"))?;
            }
            Ok(_) => return Err(DaemonError::NotASocket { path }),
            Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(error("socket"))?;
        let address = SocketAddrUnix::new(&path).map_err(error("address"))?;
        bind(&socket, &address).map_err(error("bind"))?;
        self.bound = true;
        // Nobody can connect before listen.
        if let Some(group) = group {
            rustix::fs::chown(&path, None, Some(rustix::fs::Gid::from_raw(group))).map_err(error("chown"))?;
        }
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).map_err(error("chmod"))?;
        listen(&socket, BACKLOG).map_err(error("listen"))?;
        Ok(socket)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bound {
            let _ = rustix::fs::unlink(&self.path);
        }
        // Still locked: whoever opens it now finds out that it is no longer there.
        let _ = rustix::fs::unlink(&self.lock_path);
    }
}
