//! Identity of the peer of a connection, and who may connect.
//!
//! Taken from what the kernel says of the socket, and from nothing else: a process in another container, or one
//! that `hidepid` hides, can't be looked up in `/proc`.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::process::{getgid, getuid};

/// A client's process and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Number of the process; 0: unknown, as this daemon's pid namespace doesn't show it.
    pub pid: u32,
    pub uid: u32,
}

impl Peer {
    /// Number of the process, for texts.
    pub fn process(&self) -> String {
        if self.pid == 0 { "unknown".into() } else { self.pid.to_string() }
    }
}

/// Why a peer is refused, and its user, if known.
#[derive(Debug)]
pub(super) struct AccessDenied {
    pub user: Option<u32>,
    pub reason: String,
}

/// Credentials of a peer, from the kernel.
struct Credentials {
    peer: Peer,
    /// The primary group.
    gid: u32,
    /// The supplementary groups.
    groups: Vec<u32>,
}

/// The user and the group that may connect.
struct AccessPolicy {
    uid: u32,
    group: u32,
    unmapped: Unmapped,
}

/// Ids that stand for any unmapped user or group: a user namespace that leaves ids out shows all of them as
/// one.
#[derive(Clone, Copy, Default)]
struct Unmapped {
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Checks that a peer is root, the daemon's own user, or in the group that may use the daemon.
///
/// # Errors
/// The reason, for the client.
pub(super) fn check(socket: BorrowedFd<'_>, group: Option<u32>) -> Result<Peer, AccessDenied> {
    let credentials = Credentials::of(socket).map_err(|reason| AccessDenied { user: None, reason })?;
    let group = group.unwrap_or_else(|| getgid().as_raw());
    let door = AccessPolicy { uid: getuid().as_raw(), group, unmapped: Unmapped::here() };
    let peer = credentials.peer;
    door.admits(&credentials).map(|()| peer).map_err(|reason| AccessDenied { user: Some(peer.uid), reason })
}

impl AccessPolicy {
    fn admits(&self, Credentials { peer, gid, groups }: &Credentials) -> Result<(), String> {
        let known = self.unmapped.uid != Some(peer.uid);
        let member = |gid: &u32| *gid == self.group && self.unmapped.gid != Some(*gid);
        if peer.uid == 0 || (known && peer.uid == self.uid) || member(gid) || groups.iter().any(member) {
            return Ok(());
        }
        Err(format!("user {} is not in group {}, which may use this daemon", peer.uid, self.group))
    }
}

impl Credentials {
    fn of(socket: BorrowedFd<'_>) -> Result<Credentials, String> {
        let libc::ucred { pid, uid, gid } = credentials(socket).map_err(|e| format!("SO_PEERCRED: {e}"))?;
        let groups = groups(socket).map_err(|e| format!("SO_PEERGROUPS: {e}"))?;
        Ok(Credentials { peer: Peer { pid: u32::try_from(pid).unwrap_or(0), uid }, gid, groups })
    }
}

/// Reads `SO_PEERCRED`. Not by rustix: its `UCred` can't represent a process that isn't visible here, for which
/// the kernel returns number 0.
fn credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut ucred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of_val(&ucred) as libc::socklen_t;
    // SAFETY: both pointers are valid for the call; the kernel writes at most `len` bytes, and any bytes are a
    // ucred.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut ucred).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of_val(&ucred) {
        let what = format!("{len} bytes, expected {}", size_of_val(&ucred));
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(ucred)
}

/// `SO_PEERPIDFD`, in the kernel since 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// The process that opened a connection.
pub(super) enum Opener {
    /// It lives; the descriptor becomes readable when it ends.
    Alive(OwnedFd),
    Gone,
    /// The kernel is too old to tell.
    Unknown,
}

/// Finds the process that opened a connection, even if another process has inherited it.
///
/// # Errors
/// A system call that failed.
pub(super) fn opener(socket: BorrowedFd<'_>) -> Result<Opener, String> {
    let mut fd: libc::c_int = -1;
    let mut len = size_of_val(&fd) as libc::socklen_t;
    // SAFETY: both pointers are valid for the call; the kernel writes at most `len` bytes, and any bytes are a
    // number.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        // SAFETY: the kernel has created the descriptor for this call alone.
        return Ok(Opener::Alive(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => Ok(Opener::Unknown),
        // Kernels before 6.16 return none for a process that was waited for.
        Some(libc::EINVAL | libc::ESRCH | libc::ENODATA) => Ok(Opener::Gone),
        _ => Err(format!("SO_PEERPIDFD: {error}")),
    }
}

/// Reads `SO_PEERGROUPS`: the supplementary groups of the peer when it connected.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: `groups` has `len` bytes, and any bytes are numbers; both are valid for the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The kernel has returned the number of groups.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

impl Unmapped {
    /// The unmapped ids of this process's user namespace, which never changes.
    fn here() -> Unmapped {
        static HERE: OnceLock<Unmapped> = OnceLock::new();
        *HERE.get_or_init(|| {
            let id = |map: &str, overflow: &str| {
                let map = std::fs::read_to_string(map).unwrap_or_default();
                let overflow = std::fs::read_to_string(overflow).ok().and_then(|id| id.trim().parse().ok());
                leaves_out(&map).then(|| overflow.unwrap_or(OVERFLOW))
            };
            Unmapped {
                uid: id("/proc/self/uid_map", "/proc/sys/kernel/overflowuid"),
                gid: id("/proc/self/gid_map", "/proc/sys/kernel/overflowgid"),
            }
        })
    }
}

/// The kernel's default for unmapped ids.
const OVERFLOW: u32 = 65534;
/// Number of ids: the last one stands for none.
const ALL_IDS: u64 = u32::MAX as u64;

/// True if a `/proc/self/uid_map` leaves ids out. A file that can't be read counts as complete: without user
/// namespaces there is none.
fn leaves_out(map: &str) -> bool {
    let lengths = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    (1..ALL_IDS).contains(&lengths.sum())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const DOOR: AccessPolicy =
        AccessPolicy { uid: 900, group: 90, unmapped: Unmapped { uid: None, gid: None } };

    fn client(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { peer: Peer { pid: 0, uid }, gid, groups: groups.to_vec() }
    }

    #[test]
    fn root_the_daemon_s_user_and_members_of_the_group_may_connect_and_nobody_else() {
        for (uid, gid, groups) in [(0, 0, &[][..]), (900, 7, &[]), (7, 90, &[]), (7, 7, &[1, 90, 2])] {
            assert_eq!(DOOR.admits(&client(uid, gid, groups)), Ok(()));
        }
        let refused = Err("user 7 is not in group 90, which may use this daemon".to_owned());
        for (gid, groups) in [(7, &[][..]), (900, &[0, 9, 900]), (0, &[89, 91])] {
            assert_eq!(DOOR.admits(&client(7, gid, groups)), refused);
        }
    }

    /// In a container whose daemon runs as "nobody", unmapped users look like it.
    #[test]
    fn an_id_that_stands_for_anybody_is_nobody_s() {
        let door = AccessPolicy { uid: OVERFLOW, group: OVERFLOW, ..DOOR };
        door.admits(&client(OVERFLOW, 7, &[])).unwrap();
        door.admits(&client(7, OVERFLOW, &[])).unwrap();
        let unmapped = Unmapped { uid: Some(OVERFLOW), gid: Some(OVERFLOW) };
        let door = AccessPolicy { unmapped, ..door };
        assert!(door.admits(&client(OVERFLOW, OVERFLOW, &[OVERFLOW])).is_err());
        door.admits(&client(0, 0, &[])).unwrap();
    }

    #[test]
    fn a_namespace_that_leaves_ids_out_is_told_from_one_that_has_all() {
        assert!(!leaves_out("         0          0 4294967295\n"));
        assert!(!leaves_out(""));
        assert!(leaves_out("         0     100000      65536\n"));
        assert!(leaves_out("0 1000 1\n1 100000 65536\n"));
        assert!(!leaves_out("0 0 1000\n1000 1000 4294966295\n"));
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (one, other) = UnixStream::pair().unwrap();
        let Credentials { peer, gid, groups } = Credentials::of(one.as_fd()).unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: getuid().as_raw() });
        assert_eq!(gid, getgid().as_raw());
        let own = rustix::process::getgroups().unwrap();
        assert_eq!(groups, own.into_iter().map(|group| group.as_raw()).collect::<Vec<_>>());
        drop(other);
        assert_eq!(peer.process(), std::process::id().to_string());
        assert_eq!(Peer { pid: 0, ..peer }.process(), "unknown");
        assert!(Credentials::of(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
