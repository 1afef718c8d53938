//! Heartbeats: independent of the daemon's other threads, and only while it makes progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pi0rt::control::Hello;
use pi0rt::daemon::{Daemon, Options};

use crate::daemons::*;
use crate::raw::Raw;
use crate::rig::{Rig, rigged, rigged_as};

/// Checks that a session's heartbeat advances this often from now on.
fn beats(raw: &Raw, times: usize) {
    let mut last = raw.beat();
    let mut seen = 0;
    eventually("the heart beats", || {
        let beat = raw.beat();
        seen += usize::from(beat != std::mem::replace(&mut last, beat));
        seen >= times
    });
}

/// While the daemon opens another session, and the service manager doesn't answer.
#[test]
fn hearts_beat_while_a_session_is_opened() {
    let served = rigged();
    let honest = Raw::open(&served.socket(), Hello::default());
    served.store.gate.shut();
    let socket = served.socket();
    let opening = std::thread::spawn(move || Raw::open(&socket, Hello::default()));
    served.store.gate.wait_for(2);
    beats(&honest, 20);
    served.store.gate.open();
    beats(&opening.join().unwrap(), 2);
}

/// While an instruction is tokenized, a chunk computed, and the daemon stops.
#[test]
fn hearts_beat_while_everything_else_hangs() {
    let mut served = rigged();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    let raw = Raw::open(&served.socket(), Hello::default());
    served.rig.prompts.shut();
    served.rig.chunks.shut();
    raw.connection.say(&crate::raw::prompt("drop them"));
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    served.rig.chunks.wait_for(1);
    beats(&raw, 20);
    served.handle.stop();
    eventually("it is said to stop", || {
        pi0rt::daemon::Report::read(&served.socket()).is_ok_and(|report| report.stopping)
    });
    beats(&raw, 20);
    served.end().unwrap();
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
}

fn fed(every: Duration) -> (impl FnOnce(&mut Daemon<Rig>), Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let dog = move |_: &pi0rt::daemon::ActivitySummary| {
        counted.fetch_add(1, Ordering::SeqCst);
        true
    };
    (move |daemon: &mut Daemon<Rig>| daemon.keep_alive(every, Box::new(dog)), count)
}

/// A daemon whose chunk hangs sends no keep-alive; one that is idle or makes chunks does.
#[test]
fn the_watchdog_is_fed_only_while_the_daemon_gets_on() {
    let (feed, count) = fed(Duration::from_millis(20));
    let served = rigged_as(Options::default(), feed);
    let more = |times: usize| {
        let before = count.load(Ordering::SeqCst);
        eventually("the watchdog is fed", || count.load(Ordering::SeqCst) >= before + times);
    };
    more(5);
    let raw = Raw::open(&served.socket(), Hello::default());
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    more(5);
    served.rig.chunks.shut();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    served.rig.chunks.wait_for(1);
    // Some were in flight when it began to hang.
    beats(&raw, 3);
    let before = count.load(Ordering::SeqCst);
    beats(&raw, 30);
    assert_eq!(count.load(Ordering::SeqCst), before);
    served.rig.chunks.open();
    client.wait(Some(ticket), LONG).unwrap();
    more(5);
}

/// Fed as often as required, by this thread's clock; a busy machine may skip some.
#[test]
fn an_idle_daemon_feeds_its_watchdog() {
    let (feed, count) = fed(Duration::from_millis(200));
    let _served = rigged_as(Options::default(), feed);
    std::thread::sleep(Duration::from_millis(3000));
    assert!(count.load(Ordering::SeqCst) >= 3, "{count:?} of 15 and more");
}
