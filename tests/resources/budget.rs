//! Memory of ended sessions: it is given back, and counts against the limit while it could still be used.

use std::os::fd::{AsRawFd, OwnedFd};

use pi0rt::client::{Client, ClientError, Options as ClientOptions};
use pi0rt::control::{Hello, Reply, Request, Status};
use pi0rt::daemon::{Limits, Options, PerUser, Report};
use rustix::fs::{Mode, OFlags, fstat};

use crate::alone;
use crate::daemons::*;
use crate::raw::{Connection, Raw};
use crate::rig::{Rigged, rigged_with};

const FRAME_BYTES: u32 = 1 << 20;

/// Bytes of a session as these tests open it.
fn one_session() -> u64 {
    let served = rigged_with(Options::default());
    let _raw = Raw::open(&served.socket(), hello());
    report(&served).memory
}

fn hello() -> Hello {
    Hello { frame_bytes: FRAME_BYTES, ..Hello::default() }
}

/// A daemon with memory for this many sessions.
fn with_room_for(sessions: u64) -> Rigged {
    let per_user = PerUser { memory: Some(u64::MAX), ..PerUser::default() };
    let limits = Limits { max_memory: one_session() * sessions, per_user, ..Limits::default() };
    rigged_with(Options { limits, ..Options::default() })
}

fn report(served: &Rigged) -> Report {
    Report::read(&served.socket()).unwrap()
}

fn open(served: &Rigged) -> Result<Client, ClientError> {
    Client::open(&ClientOptions { frame_bytes: FRAME_BYTES, ..patient(&served.socket()) })
}

/// Checks that another session is refused for the memory of ended ones, now and a moment later.
fn is_refused(served: &Rigged) {
    for _ in 0..3 {
        match open(served).err() {
            Some(ClientError::Refused(refusal)) => {
                assert_eq!(refusal.status, Status::Refused);
                assert!(refusal.reason.contains("of sessions that are over"), "{}", refusal.reason);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Bytes of memory allocated in a segment.
fn pages(fd: &OwnedFd) -> u64 {
    fstat(fd).unwrap().st_blocks as u64 * 512
}

/// Ends a session by closing its socket only.
fn hang_up(served: &Rigged, raw: &Raw) {
    rustix::net::shutdown(&raw.connection.0, rustix::net::Shutdown::Both).unwrap();
    eventually("the session is over", || report(served).sessions.is_empty());
}

#[test]
fn descriptors_that_are_kept_still_count() {
    let _alone = alone();
    let served = with_room_for(1);
    let raw = Raw::open(&served.socket(), hello());
    let fds: Vec<OwnedFd> = raw.fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
    hang_up(&served, &raw);
    drop(raw);
    // Writable memory is given back, the last chunk can still be read, and all segments count.
    for fd in &fds[..2] {
        eventually("its pages are given back", || pages(fd) == 0);
    }
    assert!(pages(&fds[2]) > 0);
    is_refused(&served);
    assert_eq!(report(&served).memory, one_session());
    // Of all its segments keep only the largest.
    let [control, observation, results, _bell] = <[OwnedFd; 4]>::try_from(fds).unwrap();
    drop((control, results));
    is_refused(&served);
    drop(observation);
    open(&served).unwrap();
}

#[test]
fn mappings_that_are_kept_still_count_and_so_do_pages_that_are_taken_again() {
    let _alone = alone();
    let served = with_room_for(1);
    let mut raw = Raw::open(&served.socket(), hello());
    let observation = raw.fds[1].try_clone().unwrap();
    hang_up(&served, &raw);
    eventually("its pages are given back", || pages(&observation) == 0);
    drop(observation);
    raw.fds.clear();
    is_refused(&served);
    // The client has been told that the session is over, and still writes a frame.
    raw.scribble();
    is_refused(&served);
    assert_eq!(report(&served).memory, one_session());
    drop(raw);
    open(&served).unwrap();
}

/// A forked process inherits mappings and descriptors that its parent no longer has.
#[test]
fn memory_that_a_forked_process_has_still_counts() {
    let _alone = alone();
    let served = with_room_for(1);
    let mut process =
        Process::start("budget::child_that_forks", "PI0RT_TEST_FORKS", &served.socket(), "forked");
    eventually("the session is over", || report(&served).sessions.is_empty());
    is_refused(&served);
    process.kill();
    eventually("the forked process has ended", || open(&served).is_ok());
}

/// Run by the test above in a separate process.
#[test]
fn child_that_forks() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_FORKS") else { return };
    let raw = Raw::open(std::path::Path::new(&socket), hello());
    // SAFETY: the child waits, without memory or locks, and ends with this process.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    rustix::net::shutdown(&raw.connection.0, rustix::net::Shutdown::Both).unwrap();
    drop(raw);
    println!("\nforked");
    std::thread::sleep(std::time::Duration::from_nanos(LONG));
}

/// A client that never receives its welcome still holds the descriptors sent with it.
#[test]
fn descriptors_on_their_way_count_until_the_socket_is_closed() {
    let _alone = alone();
    let served = with_room_for(1);
    let connection = Connection::new(&served.socket());
    connection.say(&Request::Hello(hello()));
    eventually("the session is open", || report(&served).sessions.len() == 1);
    rustix::net::shutdown(&connection.0, rustix::net::Shutdown::Write).unwrap();
    eventually("the session is over", || report(&served).sessions.is_empty());
    is_refused(&served);
    drop(connection);
    open(&served).unwrap();
}

/// A client that closes its session or dies has its budget back by the time it can ask again.
#[test]
fn who_lets_go_has_its_budget_back_at_once() {
    let _alone = alone();
    let served = with_room_for(1);
    for n in 0..50 {
        let mut client = open(&served).unwrap_or_else(|error| panic!("{n}: {error}"));
        client.set_prompt("stack the cups").unwrap();
        let ticket = submit(&mut client, 0, [1.0; 3], None);
        assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
        drop(client);
        let raw = Raw::open(&served.socket(), hello());
        drop(raw);
    }
}

/// Also while the daemon computes its last observation.
#[test]
fn who_leaves_in_mid_chunk_has_its_budget_back_at_once() {
    let _alone = alone();
    let served = with_room_for(1);
    let mut client = open(&served).unwrap();
    client.set_prompt("stack the cups").unwrap();
    served.rig.chunks.shut();
    submit(&mut client, 0, [1.0; 3], None);
    served.rig.chunks.wait_for(1);
    drop(client);
    let next = open(&served).unwrap();
    served.rig.chunks.open();
    drop(next);
    eventually("all of it is given back", || report(&served).memory == 0);
}

/// A client killed at any point has its budget back.
#[test]
fn who_is_killed_has_its_budget_back_at_once() {
    let _alone = alone();
    let served = with_room_for(1);
    for _ in 0..10 {
        let mut process =
            Process::start("budget::child_client", "PI0RT_TEST_CLIENT", &served.socket(), "working");
        process.kill();
        drop(open(&served).unwrap());
    }
}

/// Run by the test above in a separate process.
#[test]
fn child_client() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_CLIENT") else { return };
    let _raw = Raw::open(std::path::Path::new(&socket), hello());
    println!("\nworking");
    std::thread::sleep(std::time::Duration::from_nanos(LONG));
}

/// Clients can't reopen a session's segments, and an O_PATH descriptor keeps none of their memory.
#[test]
fn segments_are_their_owners_alone() {
    let _alone = alone();
    let served = with_room_for(1);
    let raw = Raw::open(&served.socket(), hello());
    for (index, mode) in [(0, 0o600), (1, 0o600), (2, 0o400)] {
        assert_eq!(fstat(&raw.fds[index]).unwrap().st_mode & 0o777, mode, "{index}");
    }
    let path = format!("/proc/self/fd/{}", raw.fds[1].as_raw_fd());
    let named = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    hang_up(&served, &raw);
    drop(raw);
    // It doesn't count, since nothing of it is left.
    drop(open(&served).unwrap());
    assert_eq!(pages(&named), 0);
}

/// Memory kept by an observer counts for the observer; here both have the same user.
#[test]
fn what_an_observer_keeps_still_counts() {
    let _alone = alone();
    let served = with_room_for(1);
    let raw = Raw::open(&served.socket(), hello());
    let observer = Connection::new(&served.socket());
    observer.say(&Request::Hello(Hello { features: 1, observes: true, ..Hello::default() }));
    let Some((Reply::Welcome(welcome), fds)) = observer.hear_with_fds() else { panic!("no welcome") };
    hang_up(&served, &raw);
    drop(raw);
    is_refused(&served);
    eventually("the rest is free", || report(&served).memory == u64::from(welcome.layout.results_bytes));
    drop(fds);
    open(&served).unwrap();
}

/// An idle daemon notices released memory without a request.
#[test]
fn an_idle_daemon_notices_that_memory_is_let_go() {
    let _alone = alone();
    let served = with_room_for(2);
    let raw = Raw::open(&served.socket(), hello());
    hang_up(&served, &raw);
    drop(raw);
    eventually("it is seen", || report(&served).memory == 0);
}

/// The daemon keeps a descriptor of each segment still in use elsewhere, up to a limit.
#[test]
fn no_more_sessions_that_are_over_are_kept_than_there_may_be() {
    let _alone = alone();
    let limits = Limits { max_clients: 2, ..Limits::default() };
    let served = rigged_with(Options { limits, ..Options::default() });
    let mut kept = Vec::new();
    // A user alone may have three quarters of four times three per client: those of six sessions. The last
    // may be counted shortly after the next is admitted.
    let refusal = loop {
        match Raw::try_open(&served.socket(), Hello::default()) {
            Ok(raw) => {
                hang_up(&served, &raw);
                kept.push(raw);
            }
            Err(Some(Reply::Refused(refusal))) => break refusal.reason,
            Err(other) => panic!("{other:?}"),
        }
        assert!(kept.len() < 8);
    };
    assert!(refusal.contains("segments of sessions that are over and may have 18 of 24"), "{refusal}");
    assert!(kept.len() >= 6);
    kept.truncate(5);
    drop(Raw::open(&served.socket(), Hello::default()));
}
