//! A mark on a file that says its writer lives: a lock that anybody who may read the file can see and nobody
//! but a writer can take.
//!
//! An open file description lock for writing (`F_OFD_SETLK`): the kernel takes it away when its holder ends. It
//! needs a descriptor that can be written to, so that a reader can neither forge it nor, once it is there, lock
//! anything in its way; and to look at it (`F_OFD_GETLK`) takes nothing. With `flock`, which needs no more than a
//! descriptor for reading, a reader could do both.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The whole of a file.
fn whole(kind: libc::c_int) -> libc::flock {
    // SAFETY: a flock is integers, of which zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Marks a file, until the last descriptor of this opening is closed.
///
/// # Errors
/// It is open for reading alone, or locked: nobody else may have been able to open it yet.
pub(super) fn hold(file: &File) -> io::Result<()> {
    let lock = whole(libc::F_WRLCK);
    // SAFETY: the lock is there, and only read.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a writer has marked a file, by an opening of it of one's own.
///
/// # Errors
/// A file system without such locks.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    // Readers' locks are in nobody's way here.
    let mut lock = whole(libc::F_RDLCK);
    // SAFETY: the lock is there, and is written to.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } {
        0 => Ok(lock.l_type != libc::F_UNLCK as libc::c_short),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lock(file: &File) -> libc::c_int {
        let lock = whole(libc::F_RDLCK);
        // SAFETY: as above.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }
    }

    #[test]
    fn readers_see_the_mark_and_can_neither_make_it_nor_be_taken_for_it() {
        let path = std::env::temp_dir().join(format!("pi0rt-mark-{}", std::process::id()));
        let writer = File::create(&path).unwrap();
        let (reader, other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        assert!(!is_held(&reader).unwrap());
        assert_eq!(hold(&reader).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(read_lock(&reader), 0);
        reader.lock().unwrap();
        assert!(!is_held(&other).unwrap());
        drop(reader);
        hold(&writer).unwrap();
        assert!(is_held(&other).unwrap());
        assert_eq!(read_lock(&other), -1);
        // Closing another descriptor of the file, as this process does when it reads its own page, lets nothing go.
        drop(File::open(&path).unwrap());
        assert!(is_held(&other).unwrap());
        drop(writer);
        assert!(!is_held(&other).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
