//! The client library with a daemon that is late, ends, comes back or lies.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::channel;
use std::time::Duration;

use pi0rt::client::{Client, ClientError, Observation, Options};
use pi0rt::control::{
    self, FEATURE_MOTION, FEATURE_NUMBERS, Rate, RateSource, Received, Reply, Request, Status, Welcome,
};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{ChunkHeader, ChunkNotes, Completion};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::daemons::*;
use crate::puppet::{Puppet, Strings, welcome};
use crate::raw::prompt;

/// A timeout long enough to be noticed, short enough to wait for.
const SHORT: u64 = 30_000_000;

/// Runs a function on a thread, so that a test fails instead of hanging with it.
fn bounded<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(run()));
    result.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("never: {what}"))
}

fn ready(prompt_id: u32) -> Reply {
    Reply::PromptReady { prompt_id, truncated: false, begun: Some(0) }
}

/// A welcome of a daemon whose answers don't carry request numbers.
fn numberless() -> Welcome {
    Welcome { features: welcome().features & !FEATURE_NUMBERS, ..welcome() }
}

fn submit(client: &mut Client) -> (u64, u32) {
    let slot = client.acquire().unwrap();
    (client.submit(&Observation { slot, ..Observation::default() }).unwrap(), slot)
}

/// A daemon of before: it has no notes on chunks, and reads no playback.
#[test]
fn an_older_daemon_s_chunks_are_played() {
    let mut old = welcome();
    old.features &= !FEATURE_MOTION;
    old.layout.chunk_notes.len = 0;
    old.layout.playback.len = 0;
    old.policy.rate = Rate::new(50.0, RateSource::Checkpoint);
    let puppet = Puppet::new(old);
    let (mut client, mut strings) = puppet.open(&patient(&puppet.socket()));
    for chunk in 1..4 {
        let (ticket, slot) = submit(&mut client);
        let observed_ns = now_ns();
        let header = ChunkHeader { ticket, observed_ns, horizon: 4, action_dim: 2, ..Default::default() };
        strings.publish(header);
        strings.complete(Completion { ticket, slot: slot & 0xffff, chunk, ..Completion::default() });
        client.wait(Some(ticket), LONG).unwrap();
        let mut action = [0.0; 2];
        let (answer, _) = client.action_at(observed_ns, &mut action).unwrap();
        assert_eq!((answer.chunk, action), (chunk, [0.5; 2]));
        assert_eq!(answer.notes, ChunkNotes::default());
    }
    assert_eq!(strings.playback(), [0; 2]);
}

/// However a wait ends, completion events are switched off: otherwise they would fill a socket that is not
/// read.
#[test]
fn whoever_has_waited_asks_for_no_more_events() {
    type Happens = fn(&mut Strings);
    let ends: [(Happens, Status); 4] = [
        (|strings| strings.die(), Status::Gone),
        (|strings| strings.live(2), Status::Restarted),
        (|strings| strings.complete(Completion { ticket: 9, ..Completion::default() }), Status::Protocol),
        (|strings| strings.complete(Completion { ticket: 1, ..Completion::default() }), Status::Ok),
    ];
    for (happens, expected) in ends {
        let puppet = Puppet::new(welcome());
        let (mut client, mut strings) = puppet.open(&patient(&puppet.socket()));
        submit(&mut client);
        let status = std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| client.wait(None, LONG).map_or_else(|error| error.status(), |_| Status::Ok));
            eventually("it sleeps", || strings.wants_events());
            happens(&mut strings);
            waiting.join().unwrap()
        });
        assert_eq!((status, strings.wants_events()), (expected, false));
    }
    let puppet = Puppet::new(welcome());
    let (mut client, strings) = puppet.open(&patient(&puppet.socket()));
    assert!(matches!(client.wait(None, SHORT), Err(ClientError::Timeout { .. })));
    assert!(!strings.wants_events());
    // In an event loop they are wanted all the time.
    client.fd().unwrap();
    assert!(matches!(client.wait(None, SHORT), Err(ClientError::Timeout { .. })));
    assert!(strings.wants_events());
}

/// Earlier completions can still be taken.
#[test]
fn a_connection_that_is_closed_ends_the_session_whatever_its_heart_shows() {
    let puppet = Puppet::new(welcome());
    let (mut client, mut strings) = puppet.open(&patient(&puppet.socket()));
    let (ticket, slot) = submit(&mut client);
    strings.complete(Completion { ticket, slot, ..Completion::default() });
    rustix::net::shutdown(&strings.socket, rustix::net::Shutdown::Both).unwrap();
    let (mut client, first, second) = bounded("the wait ends", move || {
        let mut wait = || client.wait(None, LONG).map(|completion| completion.ticket);
        let (first, second) = (wait(), wait());
        (client, first, second)
    });
    assert_eq!(first.unwrap(), ticket);
    assert!(matches!(second, Err(ClientError::Gone)), "{second:?}");
    let slot = client.acquire().unwrap();
    let late = client.submit(&Observation { slot, ..Observation::default() });
    assert!(matches!(late, Err(ClientError::Gone)), "{late:?}");
}

/// A daemon that lives but does not answer, and a chunk that grows old.
#[test]
fn a_daemon_is_late_after_the_time_that_the_program_says() {
    let puppet = Puppet::new(welcome());
    for (stale_after_ns, late) in [(1, true), (0, false), (u64::MAX, false)] {
        let options = Options { stale_after_ns, ..patient(&puppet.socket()) };
        let (mut client, mut strings) = puppet.open(&options);
        assert!(matches!(client.poll(), Err(ClientError::Empty)), "nothing is due");
        let (ticket, _) = submit(&mut client);
        let header =
            ChunkHeader { ticket, observed_ns: now_ns(), horizon: 4, action_dim: 2, ..Default::default() };
        strings.publish(header);
        let submitted = now_ns();
        eventually("time passes", || now_ns() > submitted + 1_000_000);
        assert_eq!(client.poll().unwrap_err().status(), if late { Status::Stale } else { Status::Empty });
        let (_, _, fresh) = client.chunk_latest().unwrap();
        assert_eq!(matches!(fresh, Err(ClientError::Stale)), late, "{fresh:?}");
    }
}

#[test]
fn a_completion_answers_its_own_ticket_in_its_own_slot() {
    let puppet = Puppet::new(welcome());
    let (mut client, mut strings) = puppet.open(&patient(&puppet.socket()));
    let [(first, slot), (second, other)] = [submit(&mut client), submit(&mut client)];
    for (ticket, slot) in [(first, other), (second + 1, slot), (0, slot), (first, 3), (first, u32::MAX)] {
        strings.complete(Completion { ticket, slot, ..Completion::default() });
        let error = client.poll().unwrap_err();
        assert!(
            matches!(error, ClientError::Completion { .. }) && error.status() == Status::Protocol,
            "{error}"
        );
    }
    for (ticket, slot) in [(second, other), (first, slot)] {
        strings.complete(Completion { ticket, slot, ..Completion::default() });
        assert_eq!(client.poll().unwrap().ticket, ticket);
    }
    strings.complete(Completion { ticket: first, slot, ..Completion::default() });
    assert!(matches!(client.poll(), Err(ClientError::Completion { .. })));
}

/// The number tells a late answer to an abandoned request from the current one; without numbers, the order
/// does.
#[test]
fn a_late_answer_is_not_taken_for_another_s() {
    for numbered in [true, false] {
        let puppet = Puppet::new(if numbered { welcome() } else { numberless() });
        let (mut client, strings) = puppet.open(&puppet.options(SHORT));
        for _ in 0..3 {
            assert!(matches!(client.set_prompt("late"), Err(ClientError::Timeout { .. })));
        }
        let heard = [strings.hear(), strings.hear(), strings.hear()].map(|(_, number)| number);
        assert_eq!(heard, [1, 2, 3]);
        // Everything is in the socket before the client asks, so it waits for nothing.
        let number = |number| if numbered { number } else { 0 };
        strings.say(&ready(1), number(1));
        strings.say(&Reply::Event, 0);
        let refusal = control::Refusal { status: Status::BadPrompt, reason: "late".into() };
        strings.say(&Reply::Refused(refusal), number(2));
        strings.say(&ready(1), number(3));
        strings.say(&ready(2), number(4));
        strings.say(&Reply::ResetDone { episode: 1 }, number(5));
        assert_eq!(client.set_prompt("stack the cups").unwrap(), 1);
        client.reset().unwrap();
        assert_eq!(strings.hear(), (prompt("stack the cups"), 4));
        // The daemon's number 1 is not the program's.
        let slot = client.acquire().unwrap();
        client.submit(&Observation { slot, prompt_id: 1, ..Observation::default() }).unwrap();
        assert_eq!(strings.submitted(0).prompt_id, 2);
    }
}

/// Outside of requests, late answers are discarded like events.
#[test]
fn a_late_answer_is_passed_over_in_an_event_loop() {
    for numbered in [true, false] {
        let puppet = Puppet::new(if numbered { welcome() } else { numberless() });
        let (mut client, strings) = puppet.open(&puppet.options(SHORT));
        assert!(matches!(client.set_prompt("late"), Err(ClientError::Timeout { .. })));
        client.fd().unwrap();
        strings.say(&ready(1), u32::from(numbered));
        assert!(matches!(client.poll(), Err(ClientError::Empty)));
        strings.say(&ready(2), if numbered { 2 } else { 0 });
        client.set_prompt("stack the cups").unwrap();
        let slot = client.acquire().unwrap();
        client.submit(&Observation { slot, ..Observation::default() }).unwrap();
        assert_eq!(strings.submitted(0).prompt_id, 2);
    }
}

/// The answer was lost with the daemon that ended: the next daemon's is not taken for it.
#[test]
fn a_timeout_and_a_restart_cost_one_request() {
    let puppet = Puppet::new(welcome());
    let (mut client, strings) = puppet.open(&puppet.options(SHORT));
    assert!(matches!(client.set_prompt("late"), Err(ClientError::Timeout { .. })));
    strings.live(2);
    for (text, number) in [("stack the cups", 2), ("drop them", 3)] {
        strings.say(&ready(number - 1), number);
        client.set_prompt(text).unwrap();
    }
    // Without numbers, it is unknown which request the next answer belongs to.
    let puppet = Puppet::new(numberless());
    let (mut client, strings) = puppet.open(&puppet.options(SHORT));
    assert!(matches!(client.set_prompt("late"), Err(ClientError::Timeout { .. })));
    strings.live(2);
    strings.say(&ready(1), 0);
    for _ in 0..2 {
        assert_eq!(client.set_prompt("stack the cups").unwrap_err().status(), Status::Restarted);
    }
}

#[test]
fn an_instruction_is_said_again_to_the_next_daemon_and_an_episode_is_not() {
    let puppet = Puppet::new(welcome());
    let (mut client, strings) = puppet.open(&patient(&puppet.socket()));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.set_prompt("stack the cups"));
        assert_eq!(strings.hear(), (prompt("stack the cups"), 1));
        strings.live(2);
        assert_eq!(strings.hear(), (prompt("stack the cups"), 1));
        strings.say(&ready(1), 1);
        assert_eq!(asking.join().unwrap().unwrap(), 1);
    });
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.reset());
        assert_eq!(strings.hear(), (Request::Reset, 2));
        strings.live(3);
        assert!(matches!(asking.join().unwrap(), Err(ClientError::LostRequest)));
    });
    // Both have answered after all.
    strings.say(&ready(1), 1);
    strings.say(&Reply::ResetDone { episode: 1 }, 2);
    strings.say(&Reply::ResetDone { episode: 1 }, 3);
    client.reset().unwrap();
}

/// A controller that retries until there is a daemon may reach one that is about to end.
#[test]
fn a_daemon_that_ends_before_the_session_is_open_is_none() {
    let directory = Directory::new();
    let door = listen(&directory.socket());
    let options = patient(&directory.socket());
    for reads in [false, true] {
        let error = std::thread::scope(|scope| {
            let opening = scope.spawn(|| Client::open(&options).err().unwrap());
            let socket = rustix::net::accept(&door).unwrap();
            eventually("the client says hello", || {
                let mut buffer = vec![0; control::MAX_MESSAGE];
                !reads || !matches!(control::receive(socket.as_fd(), &mut buffer).unwrap(), Received::Nothing)
            });
            drop(socket);
            opening.join().unwrap()
        });
        assert_eq!(error.status(), Status::NoDaemon, "{error}");
    }

    let puppet = Puppet::new(welcome());
    let (mut client, strings) = puppet.open(&patient(&puppet.socket()));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.set_prompt("stack the cups"));
        strings.say(&ready(1), strings.hear().1);
        assert_eq!(asking.join().unwrap().unwrap(), 1);
    });
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| client.reconnect().unwrap_err());
        let next = puppet.next();
        assert_eq!(next.hear().0, prompt("stack the cups"));
        drop(next);
        let error = opening.join().unwrap();
        assert_eq!(error.status(), Status::NoDaemon, "{error}");
    });
}

/// A listener with a full backlog.
fn full(path: &std::path::Path) -> (OwnedFd, Vec<OwnedFd>) {
    let listener = listen(path);
    let address = SocketAddrUnix::new(path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => waiting.push(socket),
            Err(Errno::AGAIN) => return (listener, waiting),
            Err(errno) => panic!("{errno}"),
        }
    }
}

#[test]
fn a_full_queue_of_connections_is_waited_for_as_long_as_was_allowed() {
    let directory = Directory::new();
    let (_listener, _waiting) = full(&directory.socket());
    let options = Options { reply_timeout_ns: SHORT, ..patient(&directory.socket()) };
    let error = bounded("open returns", move || Client::open(&options).err().unwrap());
    assert_eq!((error.status(), error.to_string().as_str()), (Status::Timeout, "no answer within 30 ms"));
}

/// The timeout is the same for a daemon that never accepts and one that accepts but says nothing.
#[test]
fn a_daemon_that_never_answers_is_waited_for_as_long_as_was_allowed() {
    let directory = Directory::new();
    let _listener = listen(&directory.socket());
    let options = Options { reply_timeout_ns: SHORT, ..patient(&directory.socket()) };
    let error = bounded("open returns", move || Client::open(&options).err().unwrap());
    assert_eq!(error.to_string(), "no answer within 30 ms");
}

/// Endless other messages are no answer.
#[test]
fn a_daemon_that_only_chatters_has_not_answered() {
    for (reply, number) in [(Reply::Event, 0), (ready(1), 77)] {
        let puppet = Puppet::new(welcome());
        let (mut client, strings) = puppet.open(&puppet.options(SHORT));
        let chatter = std::thread::spawn(move || {
            let packet = control::numbered(reply.encode(), number);
            // Until the client closes.
            while matches!(control::send(strings.socket.as_fd(), &packet), Ok(()) | Err(Errno::AGAIN)) {}
        });
        let error = bounded("it gives up", move || {
            client.fd().unwrap();
            let polled = client.poll().unwrap_err();
            assert!(matches!(polled, ClientError::Empty), "{polled}");
            client.set_prompt("stack the cups").unwrap_err()
        });
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
        chatter.join().unwrap();
    }
}
