//! Peers that die, lie or write garbage.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::daemons::*;
use pi0rt::client::{Client, ClientError};
use pi0rt::control::{self, Hello, PolicyDescription, Reply, Request, Status, Welcome};
use pi0rt::shm::{Access, Segment};

#[test]
fn a_killed_daemon_is_noticed_and_its_socket_taken_over() {
    let directory = Directory::new();
    let mut daemon = Process::serving(&directory);
    let mut options = patient(&directory.socket());
    options.gone_after_ns = 300_000_000;
    let mut client = Client::open(&options).unwrap();
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    // On a busy machine the heartbeat may seem to stop for a moment.
    eventually("the request is answered", || client.wait(Some(ticket), LONG).is_ok());
    daemon.kill();
    eventually("the client knows", || matches!(client.poll(), Err(ClientError::Gone)));
    // Detected by the heartbeat alone, without the socket.
    let mut action = [0.0; ACTION_DIM];
    let (info, life) = client.action_at(pi0rt::shm::clock::now_ns(), &mut action).unwrap();
    assert_eq!(info.chunk, 1);
    assert!(matches!(life, Err(ClientError::Gone)));
    assert!(matches!(client.chunk_latest().unwrap().2, Err(ClientError::Gone)));
    let slot = client.acquire().unwrap();
    let observation = fill(&client, slot, 0, [1.0; 3], None);
    assert!(matches!(client.submit(&observation), Err(ClientError::Gone)));
    assert!(matches!(client.wait(None, LONG), Err(ClientError::Gone)));
    assert!(matches!(client.set_prompt("stack the cups"), Err(ClientError::Gone)));

    assert!(directory.socket().exists());
    let _next = Process::serving(&directory);
    let mut client = open(&directory.socket());
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
}

/// A connection without the client library.
struct Raw {
    socket: OwnedFd,
    welcome: Welcome,
    fds: Vec<OwnedFd>,
}

fn exchange(socket: &OwnedFd, packet: &[u8]) -> (Option<Reply>, Vec<OwnedFd>) {
    control::send(socket.as_fd(), packet).unwrap();
    let mut buffer = vec![0; control::MAX_MESSAGE];
    let mut answer = (None, Vec::new());
    eventually("an answer", || {
        let (received, fds) = control::receive_with_fds(socket.as_fd(), &mut buffer).unwrap();
        answer = match received {
            control::Received::Nothing => return false,
            control::Received::Packet(len) => (Some(Reply::decode(&buffer[..len]).unwrap()), fds),
            control::Received::Closed | control::Received::TooLong => (None, fds),
        };
        true
    });
    answer
}

fn raw(socket: &Path) -> Raw {
    let socket = control::connect(socket).unwrap();
    let (reply, fds) = exchange(&socket, &Request::Hello(Hello { abi: 1, ..Hello::default() }).encode());
    let Some(Reply::Welcome(welcome)) = reply else { panic!("{reply:?}") };
    Raw { socket, welcome: *welcome, fds }
}

#[test]
fn the_results_can_not_be_mapped_writable() {
    let served = serve();
    let raw = raw(&served.socket());
    let len = raw.welcome.layout.results_bytes as usize;
    assert!(Segment::map("results", &raw.fds[2], len, Access::Read).is_ok());
    let error = Segment::map("results", &raw.fds[2], len, Access::Write).err().unwrap();
    assert!(error.to_string().contains("mmap"), "{error}");
    assert!(rustix::io::pwrite(&raw.fds[2], &[1], 0).is_err());
    for (fd, bytes) in
        [(&raw.fds[0], raw.welcome.layout.control_bytes), (&raw.fds[1], raw.welcome.layout.observation_bytes)]
    {
        assert!(Segment::map("own", fd, bytes as usize, Access::Write).is_ok());
        assert!(rustix::fs::ftruncate(fd, 0).is_err());
    }
}

/// Writes random words to the segments a client may write to, with occasional valid sequences and slots, so
/// that garbage is also taken for submissions.
fn vandalise(raw: &Raw, random: &mut Random, rounds: usize) {
    let layout = raw.welcome.layout;
    let map = |i: usize, len: u32| {
        Arc::new(Segment::map("vandal", &raw.fds[i], len as usize, Access::Write).unwrap())
    };
    let (control, observation) = (map(0, layout.control_bytes), map(1, layout.observation_bytes));
    let store = |segment: &Segment, offset: usize, value: u64| {
        assert!(offset + 8 <= segment.len());
        // SAFETY: in bounds, aligned, mapped writable.
        unsafe { segment.as_ptr().add(offset).cast::<u64>().write_volatile(value) };
    };
    let entries = layout.geometry.entries as usize;
    let mut tail = 0u64;
    for _ in 0..rounds {
        let value = random.next();
        match random.next() % 8 {
            0 => store(&control, random.next() as usize % (control.len() / 8) * 8, value),
            1 => store(&observation, random.next() as usize % (observation.len() / 8) * 8, value),
            2 => store(
                &control,
                layout.completion_head.offset as usize,
                [value, tail, u64::MAX][value as usize % 3],
            ),
            3 => store(&control, layout.want_event.offset as usize, value % 2),
            4 => {
                let slot = random.next() as usize % layout.geometry.slots as usize;
                let head = slot * layout.slot.len as usize + random.next() as usize % 8 * 8;
                store(&observation, head, [value, value % 2000, 0x1_0000_0640][value as usize % 3]);
            }
            _ => {
                let at = layout.submissions.offset as usize + (tail as usize % entries) * 64;
                for word in 1..8 {
                    store(&control, at + word * 8, random.next());
                }
                store(&control, at + 16, [value, value % 4, (value % 4) | (1 << 32)][value as usize % 3]);
                tail += 1;
                store(&control, at, tail);
                let _ = rustix::io::write(&raw.fds[3], &1u64.to_ne_bytes());
            }
        }
    }
}

#[test]
fn a_hostile_client_only_hurts_itself() {
    let directory = Directory::new();
    let daemon = Process::serving(&directory);
    let mut client = open(&directory.socket());
    client.set_prompt("stack the cups").unwrap();
    let before = daemon.resources();
    let mut random = Random(0x5eed);
    for round in 0..40u8 {
        let vandal = raw(&directory.socket());
        if round % 2 == 0 {
            let prompt = Request::prompt("stack the cups").encode();
            assert!(matches!(exchange(&vandal.socket, &prompt).0, Some(Reply::PromptReady { .. })));
        }
        for n in 0..10 {
            vandalise(&vandal, &mut random, 200);
            let state = [n as f32, f32::from(round), 0.5];
            let ticket = submit(&mut client, 0, state, Some(round));
            let completion = client.wait(Some(ticket), LONG).unwrap();
            assert_eq!((completion.ticket, completion.status), (ticket, 0));
            let (header, actions, _) = client.chunk_latest().unwrap();
            assert_eq!(header.ticket, ticket);
            for (i, action) in actions.iter().enumerate() {
                let frames = f32::from(round) / 256.0;
                assert_eq!(*action, expected(i / ACTION_DIM, i % ACTION_DIM, state, frames));
            }
        }
    }
    eventually("all of the vandals' sessions are freed", || daemon.resources() == before);
}

#[test]
fn random_packets_are_answered_or_end_the_connection() {
    let directory = Directory::new();
    let daemon = Process::serving(&directory);
    let mut client = open(&directory.socket());
    // With its next answer the daemon has closed its own copies of the session's descriptors.
    client.set_prompt("stack the cups").unwrap();
    let before = daemon.resources();
    let mut random = Random(77);
    for round in 0..100 {
        let hello = Request::Hello(Hello::default()).encode();
        let mut packet: Vec<u8> = match round % 3 {
            0 => (0..random.next() % 100 + 1).map(|_| random.next() as u8).collect(),
            _ => hello.clone(),
        };
        let index = random.next() as usize % packet.len();
        packet[index] ^= random.next() as u8;
        let socket = control::connect(&directory.socket()).unwrap();
        if round % 2 == 0 {
            exchange(&socket, &hello);
        }
        exchange(&socket, &packet);
    }
    // Connections that never send anything, and empty packets.
    let silent: Vec<_> = (0..10).map(|_| control::connect(&directory.socket()).unwrap()).collect();
    control::send(silent[0].as_fd(), &[]).unwrap();
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    drop(silent);
    eventually("all connections are freed", || daemon.resources() == before);
}

#[test]
fn another_protocol_version_is_refused_by_the_daemon() {
    let served = serve();
    let socket = control::connect(&served.socket()).unwrap();
    let mut packet = Request::Hello(Hello::default()).encode();
    packet[4] = 2;
    let Some(Reply::Refused(refusal)) = exchange(&socket, &packet).0 else { panic!("no refusal") };
    assert_eq!(refusal.status, Status::Version);
    assert_eq!(refusal.reason, "protocol version is 0x2, expected 1");
    let socket = control::connect(&served.socket()).unwrap();
    let hello = Hello { features: 1 << 9, ..Hello::default() };
    let Some(Reply::Refused(refusal)) = exchange(&socket, &Request::Hello(hello).encode()).0 else {
        panic!("no refusal")
    };
    assert_eq!(refusal.status, Status::Version);
    assert_eq!(refusal.reason, "features 0x200 are unknown to this daemon");
}

/// A daemon that gives a single answer.
fn impostor(answer: impl FnOnce(&OwnedFd) + Send + 'static) -> (Directory, std::thread::JoinHandle<()>) {
    let directory = Directory::new();
    let listener = listen(&directory.socket());
    let thread = std::thread::spawn(move || answer(&rustix::net::accept(&listener).unwrap()));
    (directory, thread)
}

#[test]
fn a_daemon_that_makes_no_sense_is_an_error_of_the_client() {
    type Answer = Box<dyn FnOnce(&OwnedFd) + Send>;
    let mut other_version = Reply::Event.encode();
    other_version[4] = 3;
    let say = |packet: Vec<u8>| -> Answer {
        Box::new(move |socket| control::send(socket.as_fd(), &packet).unwrap())
    };
    let layout = pi0rt::shm::SegmentLayout::plan(pi0rt::shm::Geometry {
        cameras: 0,
        frame_bytes: 1,
        state_dim: 1,
        horizon: 1,
        action_dim: 1,
        slots: 2,
        entries: 2,
    });
    let welcome = Welcome {
        abi: 1,
        features: 0,
        session: 1,
        epoch: 1,
        heartbeat_ns: 1,
        max_age_ns: 0,
        layout: layout.unwrap(),
        policy: PolicyDescription { state_dim: 1, action_dim: 1, horizon: 1, ..Default::default() },
        token: 0,
    };
    let mut wild = welcome.clone();
    wild.layout.completions.offset = !7;
    let answers: Vec<(Answer, Status, &str)> = vec![
        (say(other_version), Status::Version, "daemon: protocol version is 0x3, expected 1"),
        (say(b"hello there, this is no message".to_vec()), Status::Protocol, "daemon: magic number is"),
        (
            say(Reply::ResetDone { episode: 1 }.encode()),
            Status::Protocol,
            "daemon sent the end of a reset, expected a welcome",
        ),
        (
            say(Reply::Welcome(Box::new(welcome)).encode()),
            Status::Protocol,
            "daemon sent 0 descriptors, expected 4 descriptors",
        ),
        (
            say(Reply::Welcome(Box::new(wild)).encode()),
            Status::Protocol,
            "daemon's layout: completion ring at ",
        ),
        (Box::new(|_| ()), Status::NoDaemon, "no daemon: the one that listened"),
        (
            Box::new(|_| std::thread::sleep(std::time::Duration::from_millis(300))),
            Status::Timeout,
            "no answer within 100 ms",
        ),
    ];
    for (answer, status, message) in answers {
        let (directory, thread) = impostor(answer);
        let mut options = patient(&directory.socket());
        options.reply_timeout_ns = if status == Status::Timeout { 100_000_000 } else { LONG };
        let error = Client::open(&options).err().unwrap();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.status(), status);
        thread.join().unwrap();
    }
}
