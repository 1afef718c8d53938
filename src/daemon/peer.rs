//! Who is at the other end of a connection.

use std::os::fd::BorrowedFd;

use rustix::process::{getgid, getuid};

/// A client's process and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub pid: u32,
    pub uid: u32,
}

/// Refuses clients that are neither root, nor the daemon's own user, nor in the group that may
/// use it.
///
/// # Errors
/// The reason, for the client.
pub(super) fn check(socket: BorrowedFd<'_>, group: Option<u32>) -> Result<Peer, String> {
    let peer = rustix::net::sockopt::socket_peercred(socket).map_err(|e| format!("SO_PEERCRED: {e}"))?;
    let group = group.unwrap_or_else(|| getgid().as_raw());
    let (uid, gid) = (peer.uid, peer.gid);
    let known = Peer { pid: peer.pid.as_raw_nonzero().get() as u32, uid: uid.as_raw() };
    if uid.is_root() || uid == getuid() || gid.as_raw() == group {
        return Ok(known);
    }
    // The credentials carry the primary group only.
    let status = format!("/proc/{}/status", peer.pid.as_raw_nonzero());
    let supplementary = std::fs::read_to_string(status).unwrap_or_default();
    let groups = supplementary.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    if groups.split_whitespace().any(|member| member.parse() == Ok(group)) {
        return Ok(known);
    }
    Err(format!("user {} is not in group {group}, which may use this daemon", uid.as_raw()))
}
