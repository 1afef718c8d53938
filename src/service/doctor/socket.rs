//! Checks the socket: its place, and who may connect.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::scene::Scene;
use crate::machine::{Checks, Root};

/// Longest path that fits a socket address.
const MOST_BYTES: usize = 107;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let path = scene.socket.as_path();
    let name = path.display();
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > MOST_BYTES {
        let what = format!("the path {name} has {bytes} bytes, a socket's has {MOST_BYTES} at most");
        return checks.error(what, "set clients.socket (and PI0RT_SOCKET of clients) to a shorter one");
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return checks.error(
                format!("{at}, where the socket belongs, is not a directory"),
                "correct clients.socket",
            );
        }
        Err(error) => {
            let what = format!("{at}, where the socket belongs: {error}");
            let remedy = format!("systemctl start pi0rtd makes it; else: install -d -g pi0rt -m 0750 {at}");
            return checks.error(what, remedy);
        }
    };
    let before = checks.all.len();
    if metadata.mode() & 0o002 != 0 {
        let what = format!("every user may put files into {at}: whoever is first is the daemon");
        checks.warn(
            what,
            format!("chmod o-w {at}, or set clients.socket to a path elsewhere (/run/pi0rt/pi0rt.sock)"),
        );
    }
    if !scene.probe.user.may(&metadata, 1) {
        return refused(scene, &metadata, &format!("enter {at}"), checks);
    }
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // Then there is no daemon either, which its own check reports.
        Err(_) => return,
    };
    if !metadata.file_type().is_socket() {
        let what = format!("{name} is there and not a socket: no daemon can listen on it");
        return checks.error(what, format!("see what it is, then: rm {name}"));
    }
    if metadata.mode() & 0o002 != 0 {
        let remedy = format!("chmod 0660 {name}; in a socket unit: SocketMode=0660");
        checks.warn(format!("every user may connect to {name}"), remedy);
    }
    if !scene.probe.user.may(&metadata, 2) {
        refused(scene, &metadata, &format!("connect to {name}"), checks);
    }
    let served = !matches!(scene.daemon, Err(crate::daemon::ReportError::NoDaemon { .. }));
    if !served && !is_listened_on(&scene.probe.root, path) {
        let what = format!("{name} is what a daemon left that is gone: nobody listens on it");
        checks.warn(what, format!("the next daemon takes it over: systemctl start pi0rtd; or: rm {name}"));
    }
    if checks.all.len() == before {
        let user = scene.probe.root.named("etc/passwd", scene.probe.user.uid);
        checks.ok(format!("user {user} may connect to {name}, and not every user may"));
    }
}

fn refused(scene: &Scene<'_>, metadata: &Metadata, what: &str, checks: &mut Checks<'_>) {
    let named = |file, id| scene.probe.root.named(file, id);
    let (user, group) = (named("etc/passwd", scene.probe.user.uid), named("etc/group", metadata.gid()));
    let what =
        format!("user {user} may not {what}: it is for group {group}, mode {:04o}", metadata.mode() & 0o777);
    checks.error(what, format!("usermod -aG {group} {user}, then log in again"));
}

/// True if a process listens on a path, such as a service manager before it starts the daemon. Connecting
/// would start it.
pub(super) fn is_listened_on(root: &Root, path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let table = root.text("proc/net/unix").unwrap_or_default();
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words[..], [_, _, _, ACCEPTS, _, _, _, at] if Some(at) == path.to_str())
    })
}
