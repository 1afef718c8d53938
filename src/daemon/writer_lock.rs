//! A lock on a file that shows that its writer lives: visible to everyone who may read the file, and only a
//! writer can take it.
//!
//! An open file description lock for writing (`F_OFD_SETLK`): the kernel releases it when its holder ends. It
//! needs a writable descriptor, so that a reader can neither forge it nor block it; checking it (`F_OFD_GETLK`)
//! takes no lock. With `flock`, which needs only a descriptor for reading, a reader could do both.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A lock that spans the whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    // SAFETY: a flock is integers, and may be all zeros.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Locks a file until the last descriptor of this opening is closed.
///
/// # Errors
/// It is open for reading only, or locked: call it before anybody else can open the file.
pub(super) fn hold(file: &File) -> io::Result<()> {
    let lock = whole(libc::F_WRLCK);
    // SAFETY: the lock is valid for the call, and only read.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if a file is locked by its writer.
///
/// # Errors
/// The file system has no such locks.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    // Other readers' locks don't conflict with this one.
    let mut lock = whole(libc::F_RDLCK);
    // SAFETY: the lock is valid for the call, which writes to it.
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
        // Closing another descriptor of the file, as this process does when it reads its own page, doesn't
        // release it.
        drop(File::open(&path).unwrap());
        assert!(is_held(&other).unwrap());
        drop(writer);
        assert!(!is_held(&other).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
