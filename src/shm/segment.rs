//! Shared segments: sealed memfds, mapped once.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals,
    fstat, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Largest segment that is created or mapped, bytes.
const MAX_BYTES: usize = 1 << 30;

/// Why a segment could not be created or mapped.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A system call failed.
    #[error("segment {name}: {call}: {errno}")]
    System {
        /// Name of the segment.
        name: &'static str,
        /// Name of the system call.
        call: &'static str,
        /// Error code of the call.
        errno: Errno,
    },
    /// The file's size differs from the announced one.
    #[error("segment {name} has {got} bytes, expected {expected}")]
    Size {
        /// Name of the segment.
        name: &'static str,
        /// Size of the file, bytes.
        got: u64,
        /// Announced size, bytes.
        expected: usize,
    },
    /// The file could change its size under the mapping.
    #[error("segment {name} is not sealed against shrinking and growing (seals {seals:#x})")]
    NotSealed {
        /// Name of the segment.
        name: &'static str,
        /// The seals the file has.
        seals: u32,
    },
}

/// The side that writes to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The client: control and observation segment.
    Client,
    /// The daemon, and the daemon that resumes its sessions: clients get read-only descriptors.
    Daemon,
}

impl Writer {
    fn daemons_access(self) -> Access {
        match self {
            Writer::Client => Access::Read,
            Writer::Daemon => Access::Write,
        }
    }
}

/// Access rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The mapping may be read only.
    Read,
    /// The mapping may be read and written.
    Write,
}

/// A memfd in this process's address space. Unmapped when dropped.
pub struct Segment {
    base: NonNull<c_void>,
    len: usize,
    name: &'static str,
    /// The file; None for a segment of the peer.
    made: Option<Made>,
}

/// The file of a segment that this side created.
struct Made {
    /// Never sent to a client: clients get a separate opening, which the lease can tell from this one.
    fd: OwnedFd,
    writer: Writer,
}

// SAFETY: only a mapping; access to its memory is up to the views of it.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Creates a segment of `len` zero bytes, maps it with the daemon's rights and seals its size for good.
    /// Only the daemon's user can open it, or open again what [`open`](Self::open) returns.
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
        let mode = match writer {
            Writer::Client => Mode::RUSR | Mode::WUSR,
            Writer::Daemon => Mode::RUSR,
        };
        fchmod(&fd, mode).map_err(system("fchmod"))?;
        // Allocates all pages now: a system without memory fails here, instead of killing a writer later.
        fallocate(&fd, FallocateFlags::empty(), 0, len as u64).map_err(system("fallocate"))?;
        let base = map(name, &fd, len, writer.daemons_access())?;
        // From here on, drop undoes the mapping.
        let mut segment = Segment { base, len, name, made: None };
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&fd, seals).map_err(system("fcntl(F_ADD_SEALS)"))?;
        segment.made = Some(Made { fd, writer });
        Ok(segment)
    }

    /// Maps a segment that a previous daemon created with [`Segment::create`].
    ///
    /// # Errors
    /// As [`Segment::map`].
    pub fn resume(
        name: &'static str,
        fd: OwnedFd,
        len: usize,
        writer: Writer,
    ) -> Result<Segment, SegmentError> {
        let mut segment = Segment::map(name, &fd, len, writer.daemons_access())?;
        segment.made = Some(Made { fd, writer });
        Ok(segment)
    }

    /// Maps a segment received from the daemon, with all of its pages present, so that the first accesses don't
    /// fault.
    ///
    /// # Errors
    /// A size other than `len`, a file that could still shrink, or a system call that failed.
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
        Ok(Segment { base: map(name, fd, len, access)?, len, name, made: None })
    }

    /// Address of the mapping. Whether it may be written to depends on how it was mapped.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// Length of the segment, bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: a segment has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file to hand over to the next daemon; None for a segment of the peer.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.made.as_ref().map(|made| made.fd.as_fd())
    }

    /// The side that writes to it; None for a segment of the peer.
    pub fn writer(&self) -> Option<Writer> {
        self.made.as_ref().map(|made| made.writer)
    }

    /// Opens a descriptor for a client: read-write or read-only, by [`Writer`]. Each call opens the file anew.
    ///
    /// # Errors
    /// A segment of the peer, no `/proc`, or no more descriptors.
    pub fn open(&self) -> Result<OwnedFd, SegmentError> {
        let access = match self.writer() {
            Some(Writer::Daemon) => OFlags::RDONLY,
            _ => OFlags::RDWR,
        };
        let call = "open /proc/self/fd";
        self.open_as(access).map_err(|errno| SegmentError::System { name: self.name, call, errno })
    }

    /// Gives the segment's pages back to the system. Its content is zeros from then on; a process that has it
    /// mapped takes pages again by touching them.
    ///
    /// # Errors
    /// A segment of the peer, or a system call that failed.
    pub fn punch(&self) -> Result<(), SegmentError> {
        let system = |errno| SegmentError::System { name: self.name, call: "fallocate(PUNCH_HOLE)", errno };
        let Made { fd, .. } = self.made.as_ref().ok_or(system(Errno::BADF))?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(fd, flags, 0, self.len as u64).map_err(system)
    }

    /// Opens the file once more. Never waits for a lease, which a client of this user could hold for 45 s.
    pub(super) fn open_as(&self, access: OFlags) -> Result<OwnedFd, Errno> {
        let Made { fd, .. } = self.made.as_ref().ok_or(Errno::BADF)?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::open(path, access | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no view outlives it (views hold an Arc).
        let _ = unsafe { munmap(self.base.as_ptr(), self.len) };
    }
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

    #[test]
    fn results_can_not_be_mapped_writable_by_anyone_else() {
        let daemon = Segment::create("pi0rt-test", 4096, Writer::Daemon).unwrap();
        let sent = daemon.open().unwrap();
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
        // Nor does anybody but its owner open it again, for which even the owner has to change its mode.
        assert_eq!(fstat(&sent).unwrap().st_mode & 0o777, 0o400);
    }

    /// The next daemon writes where clients can't.
    #[test]
    fn a_segment_that_is_resumed_is_written_to_and_shown_as_before() {
        let daemon = Segment::create("pi0rt-test", 4096, Writer::Daemon).unwrap();
        let own = daemon.fd().unwrap().try_clone_to_owned().unwrap();
        let next = Segment::resume("pi0rt-test", own, 4096, Writer::Daemon).unwrap();
        // SAFETY: both mappings have 4096 bytes.
        unsafe {
            next.as_ptr().add(9).write_volatile(3);
            assert_eq!(daemon.as_ptr().add(9).read_volatile(), 3);
        }
        let sent = next.open().unwrap();
        assert!(Segment::map("results", &sent, 4096, Access::Write).is_err());
    }

    #[test]
    fn no_segment_changes_its_size() {
        for writer in [Writer::Client, Writer::Daemon] {
            let segment = Segment::create("pi0rt-test", 8192, writer).unwrap();
            for fd in [segment.open().unwrap(), segment.fd().unwrap().try_clone_to_owned().unwrap()] {
                assert!(ftruncate(&fd, 0).is_err());
                assert!(ftruncate(&fd, 1 << 20).is_err());
            }
        }
    }

    #[test]
    fn a_segment_has_a_byte_and_a_gib_at_most() {
        for len in [0, MAX_BYTES + 1] {
            let error = Segment::create("pi0rt-test", len, Writer::Client).err().unwrap();
            assert!(error.to_string().contains("Invalid argument"), "{error}");
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
