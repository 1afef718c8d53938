//! The claim to a socket: one daemon per socket.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, ftruncate, lstat, open, unlink,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use rustix::process::{Pid, test_kill_process};

use super::DaemonError;
use super::page::{Page, beside};

const BACKLOG: i32 = 32;

/// Permissions of the lock file: owner only. Anybody who can open it, even for reading, can lock it and keep
/// every daemon from starting.
const OWNERS: u32 = 0o600;

/// The right to serve a socket: a locked file beside it, `PATH.lock`, that names the process, and the
/// statistics page, which shows that there is a daemon. Dropping it removes the files and the socket.
pub struct Claim {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: OwnedFd,
    page: Option<Page>,
    previous: Option<u32>,
    bound: bool,
    /// A listening socket handed over by a service manager.
    inherited: Option<OwnedFd>,
}

impl Claim {
    /// Takes the right to serve `path`. To be done before anything that takes long, so that a
    /// second daemon is refused at once.
    ///
    /// # Errors
    /// Another daemon has it; the lock is another user's; the directory can't be written to.
    pub fn take(path: &Path) -> Result<Claim, DaemonError> {
        // The address has room for 107 bytes: fail now, not after the policy was loaded.
        SocketAddrUnix::new(path).map_err(|errno| DaemonError::Socket {
            path: path.to_owned(),
            call: "address",
            errno,
        })?;
        let lock_path = beside(path, ".lock");
        let (lock, previous) = lock(path, &lock_path)?;
        let page = Some(Page::create(path)?);
        let path = path.to_owned();
        Ok(Claim { path, lock_path, _lock: lock, page, previous, bound: false, inherited: None })
    }

    /// The statistics page, for the daemon to write to.
    pub(super) fn page(&mut self) -> Result<Page, DaemonError> {
        self.page.take().map_or_else(|| Page::create(&self.path), Ok)
    }

    /// Process of the previous daemon, if it was killed or crashed before it could clean up.
    pub fn previous(&self) -> Option<u32> {
        self.previous
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Uses a socket that a service manager listens on. The manager decides who may connect, and keeps the
    /// socket when this daemon ends.
    ///
    /// # Errors
    /// It is not a listening SEQPACKET socket at this claim's path.
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
                unlink(&path).map_err(error("remove what a crashed daemon left"))?;
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
        // Before listen, nobody can connect.
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
        self.page = None;
        if self.bound {
            let _ = unlink(&self.path);
        }
        // Still locked: a process that opens it now finds that it was removed.
        let _ = unlink(&self.lock_path);
    }
}

/// Creates and locks `lock_path`, for this user alone, and writes this process's number to it. Returns the
/// process that it named before.
fn lock(socket: &Path, lock_path: &Path) -> Result<(OwnedFd, Option<u32>), DaemonError> {
    let error = |call| move |errno| DaemonError::Socket { path: socket.to_owned(), call, errno };
    // A daemon that ends in order removes the file.
    let mut previous = None;
    loop {
        let lock = open_lock(lock_path).map_err(|errno| match lstat(lock_path) {
            Ok(there) if errno == Errno::ACCESS && there.st_uid != own() => foreign(lock_path, there.st_uid),
            _ => error("open lock")(errno),
        })?;
        let mine = fstat(&lock).map_err(error("fstat lock"))?;
        if mine.st_uid != own() {
            return Err(foreign(lock_path, mine.st_uid));
        }
        if FileType::from_raw_mode(mine.st_mode) != FileType::RegularFile {
            return Err(DaemonError::Lock { path: lock_path.to_owned(), what: "is no regular file".into() });
        }
        let pid = std::fs::read_to_string(lock_path).ok().and_then(|pid| pid.trim().parse().ok());
        // Earlier versions let other users read theirs.
        let shared = mine.st_mode & !OWNERS & 0o777 != 0;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Locked by a reader, unless the daemon that it names lives.
            Err(Errno::WOULDBLOCK) if shared && !pid.is_some_and(is_alive) => {}
            Err(Errno::WOULDBLOCK) => return Err(DaemonError::InUse { path: socket.to_owned(), pid }),
            Err(errno) => return Err(error("flock")(errno)),
        }
        // A daemon that ended may have removed the file between open and lock.
        if !is_at(lock_path, &mine) {
            continue;
        }
        previous = previous.or(pid);
        if shared {
            replace(lock_path, &mine).map_err(error("replace lock"))?;
            continue;
        }
        ftruncate(&lock, 0).map_err(error("truncate lock"))?;
        let pid = format!("{}\n", std::process::id());
        rustix::io::write(&lock, pid.as_bytes()).map_err(error("write lock"))?;
        return Ok((lock, previous));
    }
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn foreign(path: &Path, owner: u32) -> DaemonError {
    let what = format!(
        "belongs to user {owner}, expected user {}, this one: its owner could keep every daemon from starting (rm \
         it once that user's daemon has ended)",
        own()
    );
    DaemonError::Lock { path: path.to_owned(), what }
}

fn open_lock(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    open(path, flags, Mode::from_raw_mode(OWNERS))
}

/// True if a file is still the one at a path.
fn is_at(path: &Path, file: &Stat) -> bool {
    lstat(path).is_ok_and(|there| (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino))
}

/// True if a process exists that this user may signal, as another daemon of this user.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Removes a lock that other users may have opened, so that the next one is a file they can't open. Serialised
/// by a lock of its own: another daemon may have created the next file already.
fn replace(lock_path: &Path, shared: &Stat) -> Result<(), Errno> {
    let path = beside(lock_path, ".old");
    let turn = loop {
        let turn = open_lock(&path)?;
        flock(&turn, FlockOperation::LockExclusive)?;
        if is_at(&path, &fstat(&turn)?) {
            break turn;
        }
    };
    if is_at(lock_path, shared) {
        unlink(lock_path)?;
    }
    unlink(&path)?;
    drop(turn);
    Ok(())
}
