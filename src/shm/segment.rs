//! Segments: sealed memfds, mapped once.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Largest segment that is made or mapped.
const MAX_BYTES: usize = 1 << 30;

/// Why a segment could not be made or mapped.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A system call failed.
    #[error("segment {name}: {call}: {errno}")]
    System {
        /// Which segment.
        name: &'static str,
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// The file's size is not the one announced.
    #[error("segment {name} has {got} bytes, expected {expected}")]
    Size {
        /// Which segment.
        name: &'static str,
        /// What the file has.
        got: u64,
        /// What was announced.
        expected: usize,
    },
    /// The file could change its size under the mapping.
    #[error("segment {name} is not sealed against shrinking and growing (seals {seals:#x})")]
    NotSealed {
        /// Which segment.
        name: &'static str,
        /// What is sealed.
        seals: u32,
    },
}

/// Who writes to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The client: its observations, submissions.
    Client,
    /// The daemon alone: after the daemon's own mapping is made, the file is sealed against
    /// every further writable mapping and against write(2).
    Daemon,
    /// This daemon, and the one that comes after it: clients get a descriptor that is open for
    /// reading only, of a file that nobody may open again.
    Daemons,
}

/// How a mapping may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads and stores.
    Write,
}

/// A memfd in this process's address space. Unmapped when dropped.
pub struct Segment {
    base: NonNull<c_void>,
    len: usize,
    // Kept only by the side that hands it out.
    fd: Option<OwnedFd>,
    /// What the client gets, where it is not the same.
    shown: Option<OwnedFd>,
}

// SAFETY: only a mapping; what is done with its memory is decided by those who hold views of it.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Makes a segment of `len` zero bytes, maps it with the daemon's rights and seals it: its
    /// size for ever, and its content too when the daemon is its only writer.
    ///
    /// # Errors
    /// Zero or too many bytes, or a system call that failed.
    pub fn create(name: &'static str, len: usize, writer: Writer) -> Result<Segment, SegmentError> {
        let system = |call| move |errno| SegmentError::System { name, call, errno };
        check_len(name, len)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Never executable; kernels before 6.3 don't know the flag.
        let fd = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create(name, flags))
            .map_err(system("memfd_create"))?;
        // All of it, now: a system without memory says so here, and doesn't kill whoever writes to it later.
        fallocate(&fd, FallocateFlags::empty(), 0, len as u64).map_err(system("fallocate"))?;
        let access = match writer {
            Writer::Client => Access::Read,
            Writer::Daemon | Writer::Daemons => Access::Write,
        };
        let base = map(name, &fd, len, access)?;
        // From here on the mapping is undone by drop.
        let mut segment = Segment { base, len, fd: None, shown: None };
        let mut seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        if writer == Writer::Daemon {
            seals |= SealFlags::FUTURE_WRITE;
        }
        fcntl_add_seals(&fd, seals).map_err(system("fcntl(F_ADD_SEALS)"))?;
        if writer == Writer::Daemons {
            segment.shown = Some(shown(&fd).map_err(system("open for reading"))?);
        }
        segment.fd = Some(fd);
        Ok(segment)
    }

    /// Maps a segment that a daemon of before has made with [`Segment::create`].
    ///
    /// # Errors
    /// As [`Segment::map`].
    pub fn resume(
        name: &'static str,
        fd: OwnedFd,
        len: usize,
        writer: Writer,
    ) -> Result<Segment, SegmentError> {
        let access = if writer == Writer::Client { Access::Read } else { Access::Write };
        let mut segment = Segment::map(name, &fd, len, access)?;
        if writer == Writer::Daemons {
            let system = |errno| SegmentError::System { name, call: "open for reading", errno };
            segment.shown = Some(shown(&fd).map_err(system)?);
        }
        segment.fd = Some(fd);
        Ok(segment)
    }

    /// Maps a segment received from the daemon, all of its pages at once, so that the first
    /// accesses don't fault.
    ///
    /// # Errors
    /// Another size than `len`, a file that could still shrink, or a system call that failed.
    pub fn map(
        name: &'static str,
        fd: &OwnedFd,
        len: usize,
        access: Access,
    ) -> Result<Segment, SegmentError> {
        let system = |call| move |errno| SegmentError::System { name, call, errno };
        check_len(name, len)?;
        let got = fstat(fd).map_err(system("fstat"))?.st_size as u64;
        if got != len as u64 {
            return Err(SegmentError::Size { name, got, expected: len });
        }
        let seals = fcntl_get_seals(fd).map_err(system("fcntl(F_GET_SEALS)"))?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(SegmentError::NotSealed { name, seals: seals.bits() });
        }
        Ok(Segment { base: map(name, fd, len, access)?, len, fd: None, shown: None })
    }

    /// Where it is mapped. Whether it may be written to depends on how it was mapped.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a segment has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file to send to the client, where this side made it.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.shown.as_ref().or(self.fd.as_ref()).map(AsFd::as_fd)
    }

    /// The file to keep for the daemon that comes after, where this side made it.
    pub fn own_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no view outlives it (views hold an Arc).
        let _ = unsafe { munmap(self.base.as_ptr(), self.len) };
    }
}

/// Another descriptor of a memfd, open for reading only. From then on only its owner and root could open
/// it again, and for that they have to say so.
fn shown(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::fchmod(fd, Mode::RUSR)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let shown = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fchmod(fd, Mode::empty())?;
    Ok(shown)
}

fn check_len(name: &'static str, len: usize) -> Result<(), SegmentError> {
    if len == 0 || len > MAX_BYTES {
        return Err(SegmentError::System { name, call: "mmap", errno: Errno::INVAL });
    }
    Ok(())
}

fn map(
    name: &'static str,
    fd: &OwnedFd,
    len: usize,
    access: Access,
) -> Result<NonNull<c_void>, SegmentError> {
    let protection = match access {
        Access::Read => ProtFlags::READ,
        Access::Write => ProtFlags::READ | ProtFlags::WRITE,
    };
    // SAFETY: a new mapping at an address of the kernel's choice, of a file that can't shrink.
    let base =
        unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED | MapFlags::POPULATE, fd, 0) };
    let base = base.map_err(|errno| SegmentError::System { name, call: "mmap", errno })?;
    Ok(NonNull::new(base).expect("mmap does not return null"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;

    fn fd(segment: &Segment) -> OwnedFd {
        segment.fd().unwrap().try_clone_to_owned().unwrap()
    }

    #[test]
    fn results_can_not_be_mapped_writable_by_anyone_else() {
        let daemon = Segment::create("pi0rt-test", 4096, Writer::Daemon).unwrap();
        let sent = fd(&daemon);
        assert!(Segment::map("results", &sent, 4096, Access::Write).is_err());
        let client = Segment::map("results", &sent, 4096, Access::Read).unwrap();
        // SAFETY: both mappings are 4096 bytes; the daemon's is writable.
        unsafe {
            daemon.as_ptr().add(17).write_volatile(42);
            assert_eq!(client.as_ptr().add(17).read_volatile(), 42);
        }
        // Nor by write(2), nor by mprotect of the mapping that was made for reading.
        assert!(rustix::io::pwrite(&sent, &[1], 0).is_err());
        // SAFETY: the mapping is ours; only its protection would change.
        let protect = unsafe {
            rustix::mm::mprotect(
                client.as_ptr().cast(),
                4096,
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
            )
        };
        assert!(protect.is_err());
    }

    #[test]
    fn no_segment_changes_its_size() {
        for writer in [Writer::Client, Writer::Daemon] {
            let segment = Segment::create("pi0rt-test", 8192, writer).unwrap();
            assert!(ftruncate(fd(&segment), 0).is_err());
            assert!(ftruncate(fd(&segment), 1 << 20).is_err());
        }
    }

    #[test]
    fn unsealed_and_wrong_sized_files_are_refused() {
        let file = memfd_create("pi0rt-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        assert!(matches!(
            Segment::map("control", &file, 4096, Access::Write),
            Err(SegmentError::NotSealed { .. })
        ));
        let error = Segment::map("control", &file, 8192, Access::Write).err().unwrap();
        assert_eq!(error.to_string(), "segment control has 4096 bytes, expected 8192");
    }
}
