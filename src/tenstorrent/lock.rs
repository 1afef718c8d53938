//! Locks a card for one process.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

/// The right to drive `/dev/tenstorrent/N`: an exclusive lock (`flock`) on `DIR/pi0rt-tenstorrent-N.lock`,
/// which names its holder. The system releases it when the process ends, however it ends. The file stays:
/// removing it would let two processes lock two files.
#[derive(Debug)]
pub struct DeviceLock {
    file: File,
    path: PathBuf,
}

/// The holder of a lock, as recorded in the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Time at which the lock was taken, seconds since 1970.
    pub since: u64,
    /// Its command line.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held = now().saturating_sub(self.since);
        write!(f, "process {} ({}), which has had it for {held} s", self.pid, self.command)
    }
}

/// A card's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("/dev/tenstorrent/{node} is in use by {}; waited {} ms for it", name(holder), waited.as_millis())]
    Busy {
        /// N of the device node.
        node: u32,
        /// The holder, if the lock file names one yet.
        holder: Option<Holder>,
        /// Time spent waiting.
        waited: Duration,
    },
    /// The lock file can't be used.
    #[error("{}: cannot {doing}: {why}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The system's error.
        why: std::io::Error,
    },
}

fn name(holder: &Option<Holder>) -> String {
    holder.as_ref().map_or("a process that has not given its name".into(), Holder::to_string)
}

impl DeviceLock {
    /// Default directory of lock files, which every user may write to.
    pub const DIR: &str = crate::machine::LOCKS;

    /// Takes the lock of `/dev/tenstorrent/node`, waiting for at most `timeout` (zero: not at all).
    ///
    /// # Errors
    /// [`LockError::Busy`] if another process holds it.
    pub fn take(dir: &Path, node: u32, timeout: Duration) -> Result<Self, LockError> {
        let path = lock_path(dir, node);
        let io = |doing| {
            let path = path.clone();
            move |why| LockError::Io { path, doing, why }
        };
        let mut file = open(&path).map_err(io("open"))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start.elapsed() < timeout => {
                    std::thread::sleep(RETRY.min(timeout));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(LockError::Busy { node, holder: holder(&mut file), waited: start.elapsed() });
                }
                Err(Errno::INTR) => {}
                Err(why) => return Err(io("lock")(why.into())),
            }
        }
        let command: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let command: String = command.join(" ").escape_debug().take(200).collect();
        let text = format!("{} {} {command}\n", std::process::id(), now());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(io("write"))?;
        Ok(Self { file, path })
    }

    /// The holder of the lock, without taking it; `None` also if the holder has not written its name yet.
    ///
    /// # Errors
    /// If the lock file exists but can't be read.
    pub fn holder(dir: &Path, node: u32) -> Result<Option<Holder>, LockError> {
        let path = lock_path(dir, node);
        let io = |doing, why| LockError::Io { path: path.clone(), doing, why };
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(io("open", why)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(holder(&mut file)),
            Err(why) => Err(io("look at the lock", why.into())),
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DeviceLock {
    fn drop(&mut self) {
        // Closing the file releases the lock. A name left in it would be read only while locked.
        let _ = self.file.set_len(0);
    }
}

fn lock_path(dir: &Path, node: u32) -> PathBuf {
    dir.join(format!("pi0rt-tenstorrent-{node}.lock"))
}

/// Opens or creates the file for every user. Creating comes second: in a sticky directory Linux refuses
/// `O_CREAT` on another user's file.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).mode(0o666);
    match options.open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let file = options.create(true).truncate(false).open(path)?;
            // Overrides the umask. If another user created the file first, its mode is theirs to set.
            let _ = file.set_permissions(std::fs::Permissions::from_mode(0o666));
            Ok(file)
        }
        opened => opened,
    }
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    let mut words = text.trim_end().splitn(3, ' ');
    Some(Holder {
        pid: words.next()?.parse().ok()?,
        since: words.next()?.parse().ok()?,
        command: words.next()?.escape_debug().to_string(),
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
