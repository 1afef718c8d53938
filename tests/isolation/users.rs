//! Users can't affect each other. Run as root, threads of this process act as different users.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

use pi0rt::client::{Client, Options as ClientOptions};
use pi0rt::control::{Hello, Reply, Request, Status};
use pi0rt::daemon::{Limits, Options, PerUser, Quota, Report, UserReport};
use rustix::fs::{Mode, OFlags};

use crate::daemons::*;
use crate::raw::{Connection, Raw, prompt};
use crate::rig::{Rigged, rigged, rigged_with};

const USER: u32 = 4242;
const OTHER: u32 = 4343;

/// True if this test can act as other users. With `PI0RT_REQUIRE_TOOLS` set, it must.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("PI0RT_REQUIRE_TOOLS").is_none(), "this test has to be run by root");
    if !root {
        eprintln!("SKIPPED: only root can play other users");
    }
    root
}

/// Runs a function as a user, in the daemon's group or not, on a separate thread, the only one whose user
/// changes.
fn as_user<T: Send>(uid: u32, is_member: bool, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let keep = u32::MAX;
                let gid = if is_member { rustix::process::getegid().as_raw() } else { uid };
                // SAFETY: the plain system calls take numbers, and concern the calling thread alone.
                unsafe {
                    assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresgid, keep, gid, keep), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresuid, keep, uid, keep), 0);
                }
                what()
            })
            .join()
            .unwrap()
    })
}

fn report(served: &Rigged) -> Report {
    Report::read(&served.socket()).unwrap()
}

fn of(served: &Rigged, uid: u32) -> UserReport {
    report(served).users.into_iter().find(|user| user.uid == uid).unwrap_or_default()
}

/// Opens sessions until the daemon refuses one; returns them with the reason.
fn all(served: &Rigged, uid: u32, hello: impl Fn() -> Hello + Sync) -> (Vec<Raw>, String) {
    as_user(uid, true, || {
        let mut raws = Vec::new();
        loop {
            match Raw::try_open(&served.socket(), hello()) {
                Ok(raw) => raws.push(raw),
                Err(Some(Reply::Refused(refusal))) => return (raws, refusal.reason),
                Err(other) => panic!("{other:?}"),
            }
        }
    })
}

#[test]
fn a_user_that_takes_all_sessions_it_gets_leaves_some_to_others() {
    if !is_root() {
        return;
    }
    let served =
        rigged_with(Options { limits: Limits { max_clients: 8, ..Limits::default() }, ..Options::default() });
    let (first, reason) = all(&served, USER, Hello::default);
    assert_eq!(first.len(), 6);
    assert_eq!(reason, "user 4242 has 6 sessions and may have 6 of 8 (clients.max_clients_per_user)");
    let (second, reason) = all(&served, OTHER, Hello::default);
    assert_eq!(second.len(), 2);
    assert_eq!(
        reason,
        "8 clients are connected, the most allowed (clients.max_clients): user 4242 has 6, user 4343 has 2"
    );
    assert_eq!(of(&served, USER).sessions, Quota { has: 6, may_have: 5 });
    assert_eq!(of(&served, OTHER).sessions, Quota { has: 2, may_have: 2 });
    drop(first);
    eventually("it is seen that there are fewer", || of(&served, OTHER).sessions.may_have == 6);
}

#[test]
fn a_user_that_takes_all_memory_it_gets_leaves_some_to_others() {
    if !is_root() {
        return;
    }
    let large = || Hello { frame_bytes: 1 << 20, ..Hello::default() };
    let one = {
        let served = rigged();
        let _raw = Raw::open(&served.socket(), large());
        report(&served).memory
    };
    let limits = Limits { max_memory: one * 8, ..Limits::default() };
    let served = rigged_with(Options { limits, ..Options::default() });
    let (mut first, reason) = all(&served, USER, large);
    assert_eq!(first.len(), 6);
    assert!(
        reason.contains("user 4242 has ") && reason.contains("clients.max_memory_mb_per_user"),
        "{reason}"
    );
    // Ended sessions make no difference.
    let kept: Vec<_> = first.drain(..3).map(|raw| raw.fds).collect();
    eventually("they are over", || report(&served).sessions.len() == 3);
    let (more, reason) = all(&served, USER, large);
    assert_eq!(more.len(), 0);
    assert!(reason.contains("bytes are of sessions that are over"), "{reason}");
    let user = of(&served, USER);
    assert_eq!((user.memory.has, user.held, user.sessions.has), (one * 6, one * 3, 3));
    assert!(as_user(OTHER, true, || Raw::try_open(&served.socket(), large()).is_ok()));
    drop(kept);
    eventually("it is seen that nobody has them", || of(&served, USER).held == 0);
    assert_eq!(all(&served, USER, large).0.len(), 3);
}

#[test]
fn a_user_with_connections_without_end_keeps_no_other_one_out() {
    if !is_root() {
        return;
    }
    let served = rigged();
    let own = Connection::new(&served.socket());
    let silent =
        as_user(USER, true, || (0..70).map(|_| Connection::new(&served.socket())).collect::<Vec<_>>());
    // The oldest of all is still waited for: none of theirs was displaced for it.
    own.say(&Request::Hello(Hello { features: 1, name: "own".into(), ..Hello::default() }));
    assert!(matches!(own.hear(), Some(Reply::Welcome(_))));
    let Some(Reply::Refused(refusal)) = silent[0].hear() else { panic!("no refusal") };
    assert!(
        refusal.reason.starts_with("user 4242 has 48 connections that have not said hello"),
        "{refusal:?}"
    );
    let observes = || {
        let observer = Connection::new(&served.socket());
        let hello = Hello { features: 1, observes: true, name: "own".into(), ..Hello::default() };
        observer.say(&Request::Hello(hello));
        (matches!(observer.hear(), Some(Reply::Welcome(_))), observer)
    };
    let observers = as_user(USER, true, || (0..70).map(|_| observes()).collect::<Vec<_>>());
    assert_eq!(observers.iter().filter(|(welcome, _)| *welcome).count(), 48);
    assert!(as_user(OTHER, true, || observes().0));
}

/// An ended session's memory kept by an observer counts for the observer.
#[test]
fn what_another_user_keeps_of_a_session_counts_for_that_user() {
    if !is_root() {
        return;
    }
    let served = rigged();
    let raw = as_user(USER, true, || Raw::open(&served.socket(), Hello::default()));
    let results = u64::from(raw.welcome.layout.results_bytes);
    let seen = as_user(OTHER, true, || {
        let observer = Connection::new(&served.socket());
        observer.say(&Request::Hello(Hello { features: 1, observes: true, ..Hello::default() }));
        observer.hear_with_fds().unwrap()
    });
    drop(raw);
    eventually("the rest is free", || report(&served).memory == results);
    assert_eq!((of(&served, USER).memory.has, of(&served, OTHER).held), (0, results));
    drop(seen);
    eventually("all is free", || report(&served).memory == 0);
}

/// Requests of all its sessions together; excess ones are refused, in their turn.
#[test]
fn a_user_has_no_more_requests_and_instructions_than_it_may() {
    let per_user = PerUser { requests: Some(3), instructions: Some(4), ..PerUser::default() };
    let served =
        rigged_with(Options { limits: Limits { per_user, ..Limits::default() }, ..Options::default() });
    let raws: Vec<_> = (0..2).map(|_| Raw::open(&served.socket(), Hello::default())).collect();
    served.rig.prompts.shut();
    // One is being computed, and counts.
    raws[0].connection.say(&prompt("0"));
    served.rig.prompts.wait_for(1);
    (1..3).for_each(|n| raws[0].connection.say(&prompt(n.to_string())));
    let own = rustix::process::getuid().as_raw();
    eventually("three wait", || of(&served, own).requests == Quota { has: 3, may_have: 3 });
    raws[1].connection.say(&prompt("3"));
    let refused = |raw: &Raw| match raw.connection.hear() {
        Some(Reply::Refused(refusal)) => {
            assert_eq!(refusal.status, Status::Refused);
            refusal.reason
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&raws[1]),
        format!("user {own} has 3 requests waiting and may have 3 of 384 (clients.max_requests_per_user)")
    );
    served.rig.prompts.open();
    (0..3).for_each(|_| assert!(matches!(raws[0].connection.hear(), Some(Reply::PromptReady { .. }))));
    raws[1].connection.say(&prompt("4"));
    assert!(matches!(raws[1].connection.hear(), Some(Reply::PromptReady { .. })));
    raws[1].connection.say(&prompt("5"));
    assert_eq!(
        refused(&raws[1]),
        format!(
            "user {own} has 4 instructions registered and may have 4 of 6144 (clients.max_instructions_per_user)"
        )
    );
    // A known instruction does not count again.
    raws[0].connection.say(&prompt("1"));
    assert!(matches!(raws[0].connection.hear(), Some(Reply::PromptReady { prompt_id: 2, .. })));
    drop(raws);
    eventually("all is given back", || of(&served, own) == UserReport::default());
}

/// The daemon asks the kernel for the peer's user and groups, whatever the socket's mode admits.
#[test]
fn nobody_outside_of_the_group_is_served() {
    if !is_root() {
        return;
    }
    let served = rigged();
    std::fs::set_permissions(served.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let outside = as_user(USER, false, || {
        let connection = Connection::new(&served.socket());
        connection.hear()
    });
    let Some(Reply::Refused(refusal)) = outside else { panic!("{outside:?}") };
    assert_eq!(refusal.status, Status::Refused);
    assert_eq!(refusal.reason, "user 4242 is not in group 0, which may use this daemon");
    let inside = as_user(USER, true, || Client::open(&patient(&served.socket())).map(drop));
    assert!(inside.is_ok(), "{inside:?}");
}

#[test]
fn socket_and_statistics_are_for_the_group_alone() {
    let served = rigged();
    let mode = |suffix: &str| {
        let path = format!("{}{suffix}", served.socket().display());
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!((mode(""), mode(".stats")), (0o660, 0o640));
    if is_root() {
        let outside = as_user(USER, false, || {
            let open = Client::open(&ClientOptions { socket: Some(served.socket()), ..Default::default() });
            (open.map(drop), Report::read(&served.socket()).map(drop))
        });
        assert!(format!("{:?}", outside.0).contains("PermissionDenied"), "{outside:?}");
        assert!(outside.1.is_err());
    }
}

/// Segments can't be reopened by the clients that hold them.
#[test]
fn what_a_client_has_it_can_not_open_again() {
    if !is_root() {
        return;
    }
    let served = rigged();
    as_user(USER, true, || {
        let raw = Raw::open(&served.socket(), Hello::default());
        for fd in &raw.fds[..3] {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            for access in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
                let again = rustix::fs::open(&path, access | OFlags::CLOEXEC, Mode::empty());
                assert_eq!(again.err(), Some(rustix::io::Errno::ACCESS));
            }
            assert!(rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(0o666)).is_err());
        }
    });
}

/// Only users with resources are listed.
#[test]
fn users_are_listed_for_as_long_as_they_have_something() {
    let served = rigged();
    let own = rustix::process::getuid().as_raw();
    assert_eq!(report(&served).users, []);
    let client = served.open();
    // The page is written ten times a second.
    eventually("it is listed", || of(&served, own).sessions.has == 1);
    let user = of(&served, own);
    assert_eq!(user.sessions, Quota { has: 1, may_have: 18 });
    assert_eq!(user.memory.has, report(&served).memory);
    assert_eq!(user.memory.may_have, (1 << 30) / 4 * 3);
    drop(client);
    eventually("it has nothing", || report(&served).users.is_empty());
}
