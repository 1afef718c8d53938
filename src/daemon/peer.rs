//! Who is at the other end of a connection.
//!
//! Known by what the kernel says of the socket, and by nothing else: a process in another container, or one
//! that `hidepid` hides, can't be looked up in `/proc`.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::process::{getgid, getuid};

/// A client's process and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// 0: unknown, as it is of a process that this daemon's pid namespace doesn't show.
    pub pid: u32,
    pub uid: u32,
}

impl Peer {
    /// The process's number, for people.
    pub fn process(&self) -> String {
        if self.pid == 0 { "unknown".into() } else { self.pid.to_string() }
    }
}

/// Why a peer isn't served, and whose it is, if that is known.
#[derive(Debug)]
pub(super) struct AccessDenied {
    pub user: Option<u32>,
    pub reason: String,
}

/// What the kernel says of a peer.
struct Credentials {
    peer: Peer,
    /// The primary group.
    gid: u32,
    /// All others.
    groups: Vec<u32>,
}

/// Whom a daemon serves.
struct AccessPolicy {
    uid: u32,
    group: u32,
    unmapped: Unmapped,
}

/// Ids that stand for anybody: where a user namespace leaves ids out, the kernel shows all of them as one.
#[derive(Clone, Copy, Default)]
struct Unmapped {
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Refuses clients that are neither root, nor the daemon's own user, nor in the group that may
/// use it.
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

/// `SO_PEERCRED`. Not rustix's: its `UCred` has no value for a process that isn't visible here, of which the
/// kernel gives 0 as the number.
fn credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut ucred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of_val(&ucred) as libc::socklen_t;
    // SAFETY: both point to values that live through the call; the kernel writes `len` bytes at most, and any
    // bytes are a ucred.
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

/// The process that connected.
pub(super) enum Opener {
    /// A descriptor that becomes readable when it ends.
    Alive(OwnedFd),
    Gone,
    /// The kernel doesn't say.
    Unknown,
}

/// The process that connected, whoever has the other end of the connection now.
///
/// # Errors
/// A system call that failed.
pub(super) fn opener(socket: BorrowedFd<'_>) -> Result<Opener, String> {
    let mut fd: libc::c_int = -1;
    let mut len = size_of_val(&fd) as libc::socklen_t;
    // SAFETY: both point to values that live through the call; the kernel writes `len` bytes at most, and any
    // bytes are a number.
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
        // SAFETY: the kernel has made the descriptor for this call, and nobody else knows of it.
        return Ok(Opener::Alive(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => Ok(Opener::Unknown),
        // Kernels before 6.16 have none for a process that was waited for.
        Some(libc::EINVAL | libc::ESRCH | libc::ENODATA) => Ok(Opener::Gone),
        _ => Err(format!("SO_PEERPIDFD: {error}")),
    }
}

/// `SO_PEERGROUPS`: the groups beside the primary one, as they were when the peer connected.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: `groups` has `len` bytes, and any bytes are numbers; both live through the call.
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
        // The kernel has said how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

impl Unmapped {
    /// Of this process's user namespace, which stays the same.
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

/// The kernel's default.
const OVERFLOW: u32 = 65534;
/// How many ids there are: the last one stands for none.
const ALL_IDS: u64 = u32::MAX as u64;

/// Whether a `/proc/self/uid_map` has fewer ids than there are. One that can't be read counts as whole: without
/// user namespaces there is none.
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

    /// In a container whose daemon runs as "nobody", users without a number there look like it.
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
