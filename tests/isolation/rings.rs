//! A client that abuses its own rings and memory harms only itself.

use std::os::fd::AsFd;
use std::time::Duration;

use pi0rt::client::Options as ClientOptions;
use pi0rt::control::{Hello, Status};
use pi0rt::daemon::{Options, Report, Wake};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Camera, Count, Submission};
use rustix::fs::{FallocateFlags, fallocate};

use crate::daemons::*;
use crate::raw::{Raw, prompt, submission};
use crate::rig::{Rig, rigged, rigged_by, rigged_with};

/// With both rings full and no completions taken, the daemon sleeps, and continues when it can.
#[test]
fn the_daemon_sleeps_while_a_client_takes_no_completions() {
    let served = rigged_with(Options { wake: Wake::Sleep, ..Options::default() });
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let hello = Hello { entries: 2, slots: 2, ..Hello::default() };
    let mut raw = Raw::open(&served.socket(), hello);
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    for ticket in 0..4 {
        raw.submit(submission(ticket));
        if ticket < 2 {
            eventually("it is taken", || raw.in_ring() == 0);
            eventually("it is answered", || raw.answered() == ticket + 1);
        }
    }
    assert_eq!(raw.in_ring(), 2);
    let before = served.counted(Count::Full);
    eventually("it is counted", || served.counted(Count::Full) > 0 || before > 0);
    // Awake only for a moment, every 10 ms.
    let asleep = (0..200).filter(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        raw.daemon_sleeps()
    });
    assert!(asleep.count() > 100);
    let ticket = submit(&mut honest, 0, [1.0; 3], None);
    assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
    assert_eq!(raw.in_ring(), 2, "there is no room for their answers");
    // No doorbell rings for this.
    let mut answered = Vec::new();
    eventually("all are answered", || {
        answered.extend(raw.poll().map(|completion| completion.ticket));
        answered.len() == 4
    });
    assert_eq!(answered, [0, 1, 2, 3]);
}

/// Holes in an observation's memory cause page faults, which are counted, and cost the client its next
/// turn.
#[test]
fn holes_are_counted_against_the_client_that_punched_them() {
    let served = rigged();
    let options = ClientOptions { frame_bytes: 1 << 20, ..patient(&served.socket()) };
    let mut honest = pi0rt::client::Client::open(&options).unwrap();
    honest.set_prompt("stack the cups").unwrap();
    let mut raw = Raw::open(&served.socket(), Hello { frame_bytes: 1 << 20, ..Hello::default() });
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    let frame = Camera { width: 1 << 10, height: 1 << 8, stride: 1 << 12, format: 3 };
    let ask = |raw: &mut Raw, holes: bool| {
        if holes {
            let len = raw.welcome.layout.observation_bytes;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(raw.fds[1].as_fd(), punch, 0, len.into()).unwrap();
        }
        (0..2).for_each(|camera| raw.describe(0, camera, frame));
        raw.submit(submission(1));
        let mut completion = None;
        eventually("it is answered", || {
            completion = raw.poll();
            completion.is_some()
        });
        completion.unwrap().status
    };
    assert_eq!(ask(&mut raw, false), 0);
    assert_eq!(raw.counted(Count::PageFaults), 0);
    assert_eq!(ask(&mut raw, true), 0);
    let faults = raw.counted(Count::PageFaults);
    assert!(faults >= 64, "{faults}");
    // An honest client's frames cause none, not even the first.
    let slot = honest.acquire().unwrap();
    let mut observation = fill(&honest, slot, 0, [1.0; 3], None);
    observation.cameras[0] = frame;
    // SAFETY: the slot was acquired; the frame has a megabyte.
    unsafe { honest.frame(slot, 0).unwrap().write_bytes(7, 1 << 20) };
    let ticket = honest.submit(&observation).unwrap();
    assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
    assert_eq!(honest.statistics().count(Count::PageFaults), 0);
}

/// Frames that take long before the device computes, such as large JPEG images, cost their client its next turns as
/// long as another one wants them.
#[test]
fn frames_that_take_long_are_charged_to_the_client_that_sent_them() {
    let served = rigged_by(Rig { slow: Some(7.0), ..Rig::default() });
    let [mut slow, mut honest] = [(); 2].map(|()| {
        let mut client = served.open();
        client.set_prompt("stack the cups").unwrap();
        client
    });
    let submitted = |count| {
        let taken =
            || Report::read(&served.socket()).unwrap().sessions.iter().map(|s| s.submitted).sum::<u64>();
        eventually("it is taken", || taken() == count);
    };
    let chunks = &served.rig.chunks;
    chunks.shut();
    submit(&mut slow, 0, [7.0, 0.0, 0.0], None);
    chunks.wait_for(1);
    submit(&mut honest, 0, [1.0, 0.0, 0.0], None);
    submitted(2);
    // Whichever is computed, both want the next turn: the slow one's was first.
    for turn in 2..5 {
        chunks.let_one_pass();
        chunks.wait_for(turn);
        if turn == 2 {
            submit(&mut slow, 0, [7.0, 0.0, 0.0], None);
            submitted(3);
        }
        submit(&mut honest, 0, [1.0, 0.0, 0.0], None);
        submitted(turn as u64 + 2);
    }
    assert_eq!(*served.rig.computed.lock().unwrap(), [7.0, 1.0, 1.0, 1.0]);
    // The last one of the other client, then nobody else wants a turn.
    chunks.open();
    eventually("it has its turn", || served.rig.computed.lock().unwrap().len() == 6);
    assert_eq!(served.rig.computed.lock().unwrap()[4..], [1.0, 7.0]);
}

/// A client that leaves during its chunk leaves an idle, healthy daemon behind.
#[test]
fn a_client_that_leaves_in_mid_chunk_leaves_a_daemon_that_is_idle() {
    let served = rigged();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    served.rig.chunks.shut();
    submit(&mut client, 0, [1.0; 3], None);
    served.rig.chunks.wait_for(1);
    let report = || Report::read(&served.socket()).unwrap();
    eventually("it is said to compute", || report().busy_since_ns > 0);
    drop(client);
    eventually("the session is over", || report().sessions.is_empty());
    served.rig.chunks.open();
    eventually("it is said to be idle", || report().busy_since_ns == 0);
    assert!(pi0rt::daemon::health::judge(&report(), now_ns() + 3600 * 1_000_000_000, Duration::ZERO).is_ok());
    let mut next = served.open();
    next.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut next, 0, [1.0; 3], None);
    assert_eq!(next.wait(Some(ticket), LONG).unwrap().status, 0);
}

/// The daemon's statistics cover all sessions of its life: one client's false times must not distort them.
#[test]
fn times_that_can_not_be_spoil_no_figures() {
    use pi0rt::shm::LatencyKind;
    let served = rigged();
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    for _ in 0..5 {
        let ticket = submit(&mut honest, 0, [1.0; 3], None);
        assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
    }
    let mut raw = Raw::open(&served.socket(), Hello::default());
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    let hour = 3600 * 1_000_000_000;
    for (observed_ns, submitted_ns) in [
        (0, now_ns()),
        (0, 0),
        (1, 1),
        (u64::MAX, now_ns()),
        (u64::MAX, u64::MAX),
        (now_ns() - hour, now_ns()),
        (now_ns(), 0),
    ] {
        raw.submit(Submission { observed_ns, submitted_ns, ..Submission::default() });
        let mut completion = None;
        eventually("it is answered", || {
            completion = raw.poll();
            completion.is_some()
        });
        let status = completion.unwrap().status;
        let known = [Status::Ok, Status::BadObservation, Status::Stale].map(|status| status as i32);
        assert!(known.contains(&status), "{status}");
    }
    drop(raw);
    eventually("all is counted", || served.counted(Count::Submitted) == 12);
    let stats = Report::read(&served.socket()).unwrap().stats;
    for stage in LatencyKind::ALL {
        let max = stats.latency(stage).max_ns;
        assert!(max < 120 * 1_000_000_000, "{stage:?}: {max} ns");
    }
}
