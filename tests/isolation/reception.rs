//! Connections without a session: they keep no client out, and cost little.

use std::time::{Duration, Instant};

use pi0rt::client::{Client, Options as ClientOptions};
use pi0rt::control::{Hello, Reply, Request, Status};

use crate::daemons::*;
use crate::raw::{Connection, Raw};
use crate::rig::rigged;

/// Maximum number of pending connections of a user who is alone, as in `docs/security.md`.
const STRANGERS: usize = 48;

/// However many connections stay silent, a hello gets in; the oldest silent one is told why it is closed.
#[test]
fn silent_connections_keep_nobody_out() {
    let served = rigged();
    let silent: Vec<_> = (0..STRANGERS + 10).map(|_| Connection::new(&served.socket())).collect();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    let Some(Reply::Refused(refusal)) = silent[0].hear() else { panic!("no refusal") };
    assert_eq!(refusal.status, Status::Refused);
    let expected =
        format!("has {STRANGERS} connections that have not said hello and may have {STRANGERS} of 64");
    assert!(refusal.reason.contains(&expected), "{}", refusal.reason);
    assert_eq!(silent[0].hear(), None);
    // The youngest are still waited for.
    let last = silent.last().unwrap();
    last.say(&Request::Hello(Hello::default()));
    assert!(matches!(last.hear(), Some(Reply::Welcome(_))));
}

/// While others connect without end.
#[test]
fn connections_without_end_keep_nobody_out() {
    let served = rigged();
    let socket = served.socket();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&stop);
        scope.spawn(|| {
            let mut silent = std::collections::VecDeque::new();
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                silent.push_back(pi0rt::control::connect(&socket));
                if silent.len() > 200 {
                    silent.pop_front();
                }
            }
        });
        for _ in 0..20 {
            // A client whose hello is delayed while 64 others of its user connect has to try again.
            eventually("it gets in", || Client::open(&patient(&socket)).is_ok());
        }
    });
}

#[test]
fn who_says_no_hello_within_five_seconds_is_let_go() {
    let served = rigged();
    let begin = Instant::now();
    let silent = Connection::new(&served.socket());
    assert_eq!(silent.hear(), None);
    // Not a measurement: later is possible, earlier is not.
    assert!(begin.elapsed() >= Duration::from_millis(4900));
}

/// A refusal and a log line quote a client's text, but only briefly.
#[test]
fn an_observers_long_name_is_refused_in_short() {
    let served = rigged();
    let _session = served.open();
    let connection = Connection::new(&served.socket());
    let name = "\u{7f}".repeat(32_000);
    connection.say(&Request::Hello(Hello { features: 1, observes: true, name, ..Hello::default() }));
    let Some(Reply::Refused(refusal)) = connection.hear() else { panic!("no refusal") };
    assert_eq!(refusal.reason, "session name has 32000 bytes, at most 63 are allowed");
}

/// A refusal that quotes the client's message fits a line, too.
#[test]
fn no_refusal_is_longer_than_a_line() {
    let served = rigged();
    let observer = |name: String| {
        let connection = Connection::new(&served.socket());
        connection.say(&Request::Hello(Hello { features: 1, observes: true, name, ..Hello::default() }));
        connection.hear()
    };
    let Some(Reply::Refused(refusal)) = observer("\u{7f}".repeat(63)) else { panic!("no refusal") };
    assert!(refusal.reason.len() <= 520, "{}", refusal.reason);
}

/// A name is taken once admitted, even while its session is being opened.
#[test]
fn a_name_and_a_place_are_taken_while_a_session_is_opened() {
    let served = rigged();
    served.store.gate.shut();
    let hello = |name: &str| Hello { features: 1, name: name.into(), ..Hello::default() };
    let first = Connection::new(&served.socket());
    first.say(&Request::Hello(hello("arm")));
    served.store.gate.wait_for(1);
    let options = ClientOptions { name: "arm".into(), ..patient(&served.socket()) };
    let error = Client::open(&options).err().unwrap();
    assert_eq!(error.to_string(), "daemon refused: session \"arm\" is being opened by another client");
    served.store.gate.open();
    assert!(matches!(first.hear(), Some(Reply::Welcome(_))));
    // A client that leaves before its welcome leaves nothing behind.
    served.store.gate.shut();
    let leaves = Connection::new(&served.socket());
    leaves.say(&Request::Hello(hello("leg")));
    served.store.gate.wait_for(2);
    drop(leaves);
    served.store.gate.open();
    eventually("its name is free again", || {
        Client::open(&ClientOptions { name: "leg".into(), ..patient(&served.socket()) }).is_ok()
    });
    eventually("only the first one is kept", || served.store.kept.lock().unwrap().len() == 1);
}

/// Others are served while one session takes for ever to open.
#[test]
fn nobody_waits_for_a_session_that_is_opened() {
    let served = rigged();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    served.store.gate.shut();
    let opening = Connection::new(&served.socket());
    opening.say(&Request::Hello(Hello::default()));
    served.store.gate.wait_for(2);
    for n in 0..20 {
        client.set_prompt(&format!("step {n}")).unwrap();
        let ticket = submit(&mut client, 0, [1.0; 3], None);
        assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    }
    let observer = ClientOptions { observe: true, ..patient(&served.socket()) };
    assert!(Client::open(&observer).is_ok());
    served.store.gate.open();
    assert!(matches!(opening.hear(), Some(Reply::Welcome(_))));
}

/// Observers of a session are told of its end.
#[test]
fn an_observer_is_let_go_when_its_session_ends() {
    let served = rigged();
    let session = Raw::open(&served.socket(), Hello::default());
    let observer = Connection::new(&served.socket());
    observer.say(&Request::Hello(Hello { features: 1, observes: true, ..Hello::default() }));
    assert!(matches!(observer.hear(), Some(Reply::Welcome(_))));
    drop(session);
    assert_eq!(observer.hear(), None);
}
