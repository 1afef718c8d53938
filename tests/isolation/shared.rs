//! Descriptors that a client shares with the daemon: it can't use them against it, or against other sessions.

use std::os::fd::AsRawFd;

use pi0rt::client::Client;
use pi0rt::control::{Hello, Reply, Request, Status};
use pi0rt::daemon::{Options, Wake};
use rustix::fs::{FallocateFlags, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_setfl, ftruncate};
use rustix::io::write;

use crate::daemons::*;
use crate::raw::{Connection, Raw, prompt, submission};
use crate::rig::{rigged, rigged_with};

const LONG: u64 = 60_000_000_000;

fn is_served(client: &mut Client) {
    let ticket = submit(client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
}

fn open(socket: &std::path::Path) -> Raw {
    let raw = Raw::open(socket, Hello::default());
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    raw
}

/// Both sides have the doorbell's one file description: whatever its counter and its flags are, the daemon waits for its
/// edges only.
#[test]
fn a_doorbell_that_is_full_and_blocks_holds_nobody_up() {
    let served = rigged_with(Options { wake: Wake::Sleep, ..Options::default() });
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let mut raw = open(&served.socket());
    let doorbell = &raw.fds[3];
    // As many as fit, and then it would block, the daemon too.
    while write(doorbell, &(u64::MAX - 1).to_ne_bytes()).is_ok()
        || write(doorbell, &1u64.to_ne_bytes()).is_ok()
    {}
    fcntl_setfl(doorbell, OFlags::empty()).unwrap();
    is_served(&mut honest);
    raw.submit_silently(submission(1));
    // The honest one's doorbell wakes the daemon, which then sees all rings.
    is_served(&mut honest);
    eventually("it is answered", || raw.poll().is_some());
    drop(raw);
    is_served(&mut honest);
}

#[test]
fn a_client_changes_neither_sizes_nor_seals() {
    let served = rigged();
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let mut raw = open(&served.socket());
    let layout = raw.welcome.layout;
    let lens = [layout.control_bytes, layout.observation_bytes, layout.results_bytes];
    for (fd, len) in raw.fds.iter().zip(lens.map(u64::from)) {
        // A seal against writing would keep the daemon from giving the memory back.
        for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::GROW] {
            assert!(fcntl_add_seals(fd, seal).is_err(), "{seal:?}");
        }
        assert!(ftruncate(fd, 0).is_err() && ftruncate(fd, 2 * len).is_err());
        // Memory behind the end would be nobody's.
        assert!(fallocate(fd, FallocateFlags::KEEP_SIZE, len, 1 << 20).is_err());
    }
    raw.submit(submission(1));
    eventually("it is answered", || raw.poll().is_some());
    is_served(&mut honest);
}

/// A lease makes others wait when they open the file, for 45 s: the daemon, which opens the results for each observer, doesn't.
/// Only its own user and root get one.
#[test]
fn a_lease_is_not_waited_for() {
    // SAFETY: no handler; the break of a lease is told by this signal, which would end the process.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let served = rigged();
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let hello = Hello { features: 1, name: "arm".into(), ..Hello::default() };
    let raw = Raw::open(&served.socket(), hello.clone());
    // SAFETY: a call without pointers.
    if unsafe { libc::fcntl(raw.fds[2].as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } == -1 {
        return eprintln!("skipped: no leases here: {}", std::io::Error::last_os_error());
    }
    let observer = Connection::new(&served.socket());
    observer.say(&Request::Hello(Hello { observes: true, ..hello }));
    match observer.hear() {
        Some(Reply::Refused(refusal)) => assert_eq!(refusal.status, Status::System, "{}", refusal.reason),
        None => {}
        other => panic!("it was waited for: {other:?}"),
    }
    is_served(&mut honest);
}

/// The pages of the rings and of the flags go, again and again, while the daemon polls them.
#[test]
fn holes_in_the_control_segment_harm_their_client_alone() {
    let served = rigged();
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let mut raw = open(&served.socket());
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for ticket in 1..=100 {
        raw.submit_silently(submission(ticket));
        fallocate(&raw.fds[0], punch, 0, raw.welcome.layout.control_bytes.into()).unwrap();
        is_served(&mut honest);
    }
    drop(raw);
    is_served(&mut honest);
    assert_eq!(honest.statistics().count(pi0rt::shm::Count::PageFaults), 0);
}
