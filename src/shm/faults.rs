//! Page faults, which a peer can cause by punching holes into a segment that it may write.

/// Number of page faults of the calling thread so far that needed no disk.
pub fn page_faults() -> u64 {
    // SAFETY: a rusage may be all zeros.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a rusage that may be written to.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_minflt.max(0) as u64
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{FallocateFlags, fallocate};

    use super::super::{Segment, Writer, copy_out};
    use super::page_faults;

    #[test]
    fn holes_are_seen_as_faults() {
        const LEN: usize = 64 * 4096;
        let segment = Segment::create("pi0rt-test", LEN, Writer::Client).unwrap();
        let mut copy = vec![1u8; LEN];
        let mut copied = || {
            let before = page_faults();
            // SAFETY: both have the length.
            unsafe { copy_out(segment.as_ptr(), copy.as_mut_ptr(), LEN) };
            page_faults() - before
        };
        copied();
        assert!(copied() < 16);
        let fd: OwnedFd = segment.fd().unwrap().try_clone_to_owned().unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(fd.as_fd(), punch, 0, LEN as u64).unwrap();
        assert!(copied() >= 32);
    }
}
