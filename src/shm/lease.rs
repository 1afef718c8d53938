//! Detection of peers that still hold a segment's memory.

use std::os::fd::AsRawFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Segment;

impl Segment {
    /// True if a peer has a descriptor that [`open`](Self::open) returned, in a process or in transit through a
    /// socket, or a mapping made with one.
    ///
    /// The kernel is asked for a lease, which it grants only to the sole opener of a file. It counts openings
    /// by a path, such as one in `/proc/self/fd`, until the last descriptor and the last mapping of each are
    /// gone. Creating the file is none: the daemon's own descriptor and mapping, and copies with a service
    /// manager, don't count. Clients lack the permission to open again what they have, so that one of their
    /// `O_PATH` descriptors, which aren't counted, is of no use to them.
    ///
    /// # Errors
    /// A segment made by another process, or a system call that failed: EINVAL, for example, where the system
    /// grants no leases (`fs.leases-enable`).
    pub fn is_held(&self) -> Result<bool, Errno> {
        // The lease ends when this is closed.
        let own = match self.open_as(OFlags::RDONLY) {
            // A peer has a lease, and so a descriptor.
            Err(Errno::AGAIN) => return Ok(true),
            own => own?,
        };
        // Another opener, root for example, causes a signal whose default action ends the process; SIGURG is
        // ignored by default.
        fcntl(&own, F_SETSIG, libc::SIGURG)?;
        match fcntl(&own, libc::F_SETLEASE, libc::F_WRLCK) {
            Ok(()) => Ok(false),
            Err(Errno::AGAIN) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

/// `<linux/fcntl.h>`; libc has none.
const F_SETSIG: i32 = 10;

/// Calls fcntl for two commands that rustix doesn't know.
fn fcntl(fd: &impl AsRawFd, command: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and the commands take a number.
    if unsafe { libc::fcntl(fd.as_raw_fd(), command, number) } == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::fstat;

    use super::super::{Access, Writer};
    use super::*;

    /// The question is answered at once: the kernel would let it wait for the lease.
    #[test]
    fn a_peer_with_a_lease_holds_a_segment() {
        let segment = Segment::create("test", 4096, Writer::Client).unwrap();
        let theirs = segment.open().unwrap();
        fcntl(&theirs, F_SETSIG, libc::SIGURG).unwrap();
        fcntl(&theirs, libc::F_SETLEASE, libc::F_WRLCK).unwrap();
        assert_eq!(segment.is_held(), Ok(true));
        drop(theirs);
        assert_eq!(segment.is_held(), Ok(false));
    }

    #[test]
    fn a_descriptor_and_a_mapping_hold_a_segment_and_nothing_of_the_daemons_own_does() {
        const LEN: usize = 1 << 20;
        for (writer, access) in [(Writer::Client, Access::Write), (Writer::Daemon, Access::Read)] {
            let segment = Segment::create("pi0rt-test", LEN, writer).unwrap();
            let _kept = segment.fd().unwrap().try_clone_to_owned().unwrap();
            let bytes = || fstat(segment.fd().unwrap()).unwrap().st_blocks as usize * 512;
            assert!(!segment.is_held().unwrap());
            let sent = segment.open().unwrap();
            assert!(segment.is_held().unwrap());
            let copy = sent.try_clone().unwrap();
            let mapped = Segment::map("test", &sent, LEN, access).unwrap();
            drop(sent);
            assert!(segment.is_held().unwrap());
            drop(copy);
            assert!(segment.is_held().unwrap());
            assert_eq!(bytes(), LEN);
            segment.punch().unwrap();
            assert_eq!(bytes(), 0);
            // SAFETY: within the mapping, which may be read.
            assert_eq!(unsafe { mapped.as_ptr().add(LEN - 1).read_volatile() }, 0);
            assert!(bytes() > 0);
            drop(mapped);
            assert!(!segment.is_held().unwrap());
        }
    }

    #[test]
    fn a_descriptor_that_nobody_has_taken_from_a_socket_holds_a_segment() {
        let segment = Segment::create("pi0rt-test", 4096, Writer::Client).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        crate::control::send_with_fds(ours.as_fd(), b"x", &[segment.open().unwrap().as_fd()]).unwrap();
        assert!(segment.is_held().unwrap());
        drop(theirs);
        assert!(!segment.is_held().unwrap());
    }
}
