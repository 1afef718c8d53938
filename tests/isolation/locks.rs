//! Lock and statistics page: a process that may only read them can neither keep a daemon from starting nor
//! be taken for one.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use pi0rt::daemon::{Claim, DaemonError, Report, ReportError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::daemons::*;
use crate::rig::{rigged, rigged_in};

fn beside(directory: &Directory, suffix: &str) -> PathBuf {
    directory.0.join(format!("pi0rt.sock.{suffix}"))
}

/// Takes every lock that a read-only descriptor allows.
fn lock_all(file: BorrowedFd<'_>) {
    let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
    let _ = flock(file, FlockOperation::NonBlockingLockShared);
    // SAFETY: a flock consists of integers, and zeros are valid: from the start of the file to its end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as libc::c_short;
    for command in [libc::F_OFD_SETLK, libc::F_SETLK] {
        // SAFETY: the lock is valid and only read.
        let _ = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    }
}

fn ended_process() -> u32 {
    let mut process = Command::new("true").spawn().unwrap();
    process.wait().unwrap();
    process.id()
}

/// A lock file of an earlier version, which names a process.
fn left_by_an_earlier_version(directory: &Directory, pid: u32) -> File {
    let lock = beside(directory, "lock");
    std::fs::write(&lock, format!("{pid}\n")).unwrap();
    std::fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
    File::open(&lock).unwrap()
}

#[test]
fn the_lock_is_the_owner_s_alone_and_the_page_the_group_s() {
    let served = rigged();
    let mode = |suffix| beside(&served.directory, suffix).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("lock"), mode("stats")), (0o600, 0o640));
}

/// Before it starts, while it serves, and after it was killed.
#[test]
fn a_reader_that_locks_all_it_can_keeps_no_daemon_from_starting() {
    let directory = Directory::new();
    let socket = directory.socket();
    // The files of a killed daemon, locked by a reader.
    let page = beside(&directory, "stats");
    std::fs::write(&page, "").unwrap();
    let old = File::open(&page).unwrap();
    lock_all(old.as_fd());
    assert!(matches!(Report::read(&socket), Err(ReportError::NoDaemon { .. })));
    let lock = left_by_an_earlier_version(&directory, ended_process());
    lock_all(lock.as_fd());

    let served = rigged_in(directory);
    eventually("it serves", || Report::read(&socket).is_ok_and(|report| report.pid == std::process::id()));
    let new = File::open(&page).unwrap();
    lock_all(new.as_fd());
    assert!(Report::read(&socket).is_ok());
    // Its end is detected, whatever is locked.
    let left = std::fs::read(&page).unwrap();
    let mut served = served;
    served.end().unwrap();
    std::fs::write(&page, &left).unwrap();
    lock_all(File::open(&page).unwrap().as_fd());
    let error = Report::read(&socket).unwrap_err();
    assert!(matches!(error, ReportError::NoDaemon { last: Some(pid), .. } if pid == std::process::id()));
}

#[test]
fn a_lock_of_an_earlier_version_is_replaced_unless_its_daemon_lives() {
    let directory = Directory::new();
    // This process acts as a daemon of an earlier version.
    let lock = left_by_an_earlier_version(&directory, std::process::id());
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = Claim::take(&directory.socket()).err().unwrap();
    assert!(
        matches!(error, DaemonError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    drop(lock);
    // A killed daemon's lock file, with the lock free or held by a reader.
    for held in [false, true] {
        let killed = ended_process();
        let lock = left_by_an_earlier_version(&directory, killed);
        if held {
            flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        }
        let claim = Claim::take(&directory.socket()).unwrap();
        assert_eq!(claim.previous(), Some(killed));
        let there = beside(&directory, "lock").metadata().unwrap();
        assert_eq!(there.mode() & 0o777, 0o600);
        // Not the same file: another process may have it open.
        assert_ne!(there.ino(), lock.metadata().unwrap().ino());
        assert!(matches!(Claim::take(&directory.socket()), Err(DaemonError::InUse { .. })));
    }
    assert!(!beside(&directory, "lock.old").exists());
}

/// Many at a time, each of which finds that the lock has to be replaced.
#[test]
fn one_daemon_gets_a_lock_that_many_replace() {
    for _ in 0..20 {
        let directory = Directory::new();
        let reader = left_by_an_earlier_version(&directory, ended_process());
        lock_all(reader.as_fd());
        let socket = directory.socket();
        let claims: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Claim::take(&socket))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
    }
}

#[test]
fn a_lock_that_is_not_this_user_s_or_no_file_is_refused_by_name() {
    let directory = Directory::new();
    let lock = beside(&directory, "lock");
    let refusal = || Claim::take(&directory.socket()).err().unwrap().to_string();
    rustix::fs::mkfifoat(rustix::fs::CWD, &lock, Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(refusal(), format!("lock {}: it is no regular file", lock.display()));
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("elsewhere", &lock).unwrap();
    assert!(refusal().contains("open lock: Too many levels of symbolic links"), "{}", refusal());
    std::fs::remove_file(&lock).unwrap();
    let flags = OFlags::RDWR | OFlags::CREATE;
    drop(rustix::fs::open(&lock, flags, Mode::from_raw_mode(0o600)).unwrap());
    if chown(&lock, Some(12345), None).is_err() {
        return eprintln!("skipped: this user can't give files away");
    }
    let expected = format!(
        "lock {}: it belongs to user 12345, expected user {}, this one: its owner could keep every daemon from \
         starting (rm it once that user's daemon has ended)",
        lock.display(),
        rustix::process::geteuid().as_raw()
    );
    assert_eq!(refusal(), expected);
    assert!(!beside(&directory, "stats").exists(), "nothing is made without the lock");
}

/// A daemon of another user, who can't even open it, reports its owner.
#[test]
fn a_lock_that_can_not_be_opened_is_refused_by_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be somebody else");
    }
    let directory = Directory::new();
    std::fs::set_permissions(&directory.0, Permissions::from_mode(0o777)).unwrap();
    let served = rigged_in(directory);
    let output = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups", env!("CARGO_BIN_EXE_pi0rtd")])
        .args(["--checkpoint", checkpoint().to_str().unwrap(), "--socket", served.socket().to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("setpriv: failed to execute") {
        return eprintln!("skipped: another user can't run this program here");
    }
    assert!(words.contains("it belongs to user 0, expected user 12345, this one"), "{words}");
}

/// From when it has the lock until it serves.
#[test]
fn a_daemon_that_starts_is_told_from_none() {
    let directory = Directory::new();
    assert!(matches!(Report::read(&directory.socket()), Err(ReportError::NoDaemon { last: None, .. })));
    let claim = Claim::take(&directory.socket()).unwrap();
    let page = beside(&directory, "stats");
    let error = Report::read(&directory.socket()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: empty: the daemon is starting", page.display()));
    drop(claim);
    assert!(!page.exists() && !beside(&directory, "lock").exists());
}
