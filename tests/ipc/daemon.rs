//! Daemon and client as a controller in Rust would use them.

use std::sync::atomic::Ordering;

use crate::daemons::*;
use pi0rt::client::{Client, ClientError, Reason};
use pi0rt::control::{Fault, Status};
use pi0rt::daemon::{Claim, DaemonError, Limits, Options, Wake};
use pi0rt::shm::{Camera, Count};

#[test]
fn an_observation_comes_back_as_a_chunk() {
    for wake in [Wake::Sleep, Wake::Hybrid(50_000), Wake::Spin] {
        let served = serve_with(Options { wake, ..Options::default() });
        let mut client = served.open();
        assert_eq!(client.policy().cameras, ["base", "wrist"]);
        assert!(matches!(client.poll(), Err(ClientError::Empty)));
        assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
        let prompt = client.set_prompt("stack the cups").unwrap();
        for n in 1..=20u8 {
            let state = [f32::from(n), 0.5, -1.0];
            let ticket = submit(&mut client, prompt, state, Some(n));
            let completion = client.wait(Some(ticket), LONG).unwrap();
            assert_eq!((completion.status, completion.ticket), (0, ticket));
            assert!(completion.observed_ns <= completion.submitted_ns);
            assert!(completion.submitted_ns <= completion.started_ns);
            assert!(completion.started_ns <= completion.finished_ns);
            let (header, actions, life) = client.chunk_latest().unwrap();
            life.unwrap();
            assert_eq!((header.ticket, header.chunk), (ticket, u64::from(n)));
            for (i, action) in actions.iter().enumerate() {
                let frames = f32::from(n) / 256.0;
                assert_eq!(*action, expected(i / ACTION_DIM, i % ACTION_DIM, state, frames));
            }
            let mut action = [0.0; ACTION_DIM];
            let third = header.observed_ns + 50_000_000;
            let (info, _) = client.action_at(third, &mut action).unwrap();
            assert_eq!((info.reason, info.chunk, info.row), (Reason::InChunk, header.chunk, 2.5));
            assert_eq!(action[0], expected(2, 0, state, f32::from(n) / 256.0));
        }
    }
}

#[test]
fn the_newest_observation_wins_and_every_ticket_is_answered_once() {
    let served = serve();
    let mut client = served.open();
    let prompt = client.set_prompt("sleep 30").unwrap();
    let (mut answered, mut tickets) = (Vec::new(), Vec::new());
    while tickets.len() < 40 {
        match client.acquire() {
            Ok(slot) => {
                let observation = fill(&client, slot, prompt, [tickets.len() as f32; 3], None);
                tickets.push(client.submit(&observation).unwrap());
            }
            Err(ClientError::Busy) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        while let Ok(completion) = client.poll() {
            answered.push(completion);
        }
    }
    while answered.len() < tickets.len() {
        answered.push(client.wait(None, LONG).unwrap());
    }
    assert!(matches!(client.poll(), Err(ClientError::Empty)));
    let superseded = answered.iter().filter(|c| c.status == Status::Superseded as i32).count();
    let published: Vec<_> = answered.iter().filter(|c| c.status == 0).collect();
    assert_eq!(superseded + published.len(), tickets.len());
    assert!(superseded > 0);
    // The last submission is never superseded.
    assert_eq!(published.last().unwrap().ticket, *tickets.last().unwrap());
    let mut seen: Vec<_> = answered.iter().map(|completion| completion.ticket).collect();
    seen.sort();
    assert_eq!(seen, tickets);
}

#[test]
fn what_can_not_be_used_is_answered_and_the_next_one_works() {
    let served = serve();
    let mut client = served.open();
    let good = client.set_prompt("stack the cups").unwrap();
    let nan = client.set_prompt("nan").unwrap();
    let fail = client.set_prompt("fail").unwrap();
    let answer = |client: &mut Client, prompt, state| {
        let ticket = submit(client, prompt, state, None);
        let completion = client.wait(Some(ticket), LONG).unwrap();
        Status::from_number(completion.status).unwrap()
    };
    assert_eq!(answer(&mut client, good, [1.0; 3]), Status::Ok);
    assert_eq!(answer(&mut client, good, [1.0, f32::NAN, 1.0]), Status::BadObservation);
    assert_eq!(answer(&mut client, good, [1.0, f32::INFINITY, 1.0]), Status::BadObservation);
    assert_eq!(answer(&mut client, 77, [1.0; 3]), Status::BadObservation);
    assert_eq!(answer(&mut client, nan, [1.0; 3]), Status::InvalidChunk);
    assert_eq!(answer(&mut client, fail, [1.0; 3]), Status::DeviceLost);
    // The previous chunk is still there.
    assert_eq!(client.chunk_latest().unwrap().0.chunk, 1);
    assert_eq!(answer(&mut client, good, [2.0; 3]), Status::Ok);
    // 0 is the last registered prompt.
    assert_eq!(answer(&mut client, 0, [2.0; 3]), Status::DeviceLost);

    let slot = client.acquire().unwrap();
    let mut observation = fill(&client, slot, good, [0.0; 3], None);
    let wide = Camera { width: 1 << 20, height: 1 << 20, stride: 3 << 20, format: 1 };
    observation.cameras[1] = wide;
    assert_eq!(client.submit(&observation).unwrap_err().status(), Status::FrameSize);
    observation.cameras[1] = Camera::default();
    observation.cameras[3] = Camera { width: 1, height: 1, stride: 3, format: 1 };
    let message = client.submit(&observation).unwrap_err().to_string();
    assert_eq!(message, "camera 3 has a frame, but the policy has 2 cameras");
    client.release(slot).unwrap();
    let message = client.release(slot).unwrap_err().to_string();
    assert_eq!(message, format!("observation slot {slot} was not acquired"));
}

#[test]
fn an_observation_that_is_too_old_is_stale() {
    let served = serve_with(Options {
        limits: Limits { max_age_ns: 1_000_000_000, ..Default::default() },
        ..Default::default()
    });
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    let slot = client.acquire().unwrap();
    let mut observation = fill(&client, slot, 0, [0.0; 3], None);
    observation.observed_ns = pi0rt::shm::clock::now_ns() - 1_500_000_000;
    let ticket = client.submit(&observation).unwrap();
    let completion = client.wait(Some(ticket), LONG).unwrap();
    assert_eq!(completion.status, Status::Stale as i32);
    assert!(matches!(Fault::from_word(completion.detail), Some(Fault::Age { camera: None, ms: 1500.. })));

    // An observation is as old as its oldest part.
    let slot = client.acquire().unwrap();
    let mut observation = fill(&client, slot, 0, [0.0; 3], Some(1));
    observation.frames_observed_ns[0] = pi0rt::shm::clock::now_ns() - 1_500_000_000;
    let ticket = client.submit(&observation).unwrap();
    let completion = client.wait(Some(ticket), LONG).unwrap();
    assert_eq!(completion.status, Status::Stale as i32);
    let words = client.explain(&completion).to_string();
    assert!(words.starts_with(&format!("ticket {ticket}: frame of camera base was 15")), "{words}");
    // An absent camera's frame has no age.
    let slot = client.acquire().unwrap();
    let mut observation = fill(&client, slot, 0, [0.0; 3], Some(1));
    observation.frames_observed_ns[1] = 1;
    let ticket = client.submit(&observation).unwrap();
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    assert_eq!(client.statistics().count(Count::Stale), 2);
}

#[test]
fn instructions_are_checked_and_known_ones_keep_their_number() {
    let served = serve();
    let mut client = served.open();
    let first = client.set_prompt("stack the cups").unwrap();
    let second = client.set_prompt("fold the towel").unwrap();
    assert_ne!(first, second);
    assert_eq!(client.set_prompt("stack the cups").unwrap(), first);
    let error = client.set_prompt(&"cup ".repeat(60)).unwrap_err();
    assert_eq!(error.status(), Status::BadPrompt);
    assert_eq!(error.to_string(), "daemon refused: prompt has 60 tokens, expected at most 48");
    assert_eq!(client.set_prompt("  ").unwrap_err().status(), Status::BadPrompt);
    let error = client.set_prompt(&"x".repeat(17 << 10)).unwrap_err();
    assert_eq!(error.to_string(), "instruction has 17408 bytes, at most 16384 are allowed");
    assert_eq!(client.set_prompt("stack the cups").unwrap(), first);
}

#[test]
fn a_reset_hides_the_chunk_of_the_old_episode() {
    let served = serve();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    client.wait(Some(ticket), LONG).unwrap();
    assert!(client.chunk_latest().is_ok());
    client.reset().unwrap();
    assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
    let ticket = submit(&mut client, 0, [2.0; 3], None);
    client.wait(Some(ticket), LONG).unwrap();
    let (header, actions, _) = client.chunk_latest().unwrap();
    assert_eq!((header.chunk, actions[0]), (2, 2.0));
}

#[test]
fn clients_take_turns() {
    let served = serve();
    let mut clients: Vec<_> = (0..3).map(|_| served.open()).collect();
    for client in &mut clients {
        client.set_prompt("sleep 5").unwrap();
    }
    // Every client always has a request waiting; then none gets more than one turn ahead.
    let mut answered = [0u32; 3];
    let mut tickets: Vec<_> = clients.iter_mut().map(|client| submit(client, 0, [0.0; 3], None)).collect();
    for _ in 0..15 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.wait(Some(tickets[i]), LONG).unwrap();
            answered[i] += 1;
            tickets[i] = submit(client, 0, [0.0; 3], None);
        }
    }
    assert_eq!(answered, [15; 3]);
}

#[test]
fn the_descriptor_becomes_readable_with_a_completion() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let served = serve();
    let mut client = served.open();
    client.set_prompt("sleep 5").unwrap();
    let fd = client.fd().unwrap().try_clone_to_owned().unwrap();
    for _ in 0..10 {
        let ticket = submit(&mut client, 0, [0.0; 3], None);
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&timeout)).unwrap(), 1);
        assert_eq!(client.poll().unwrap().ticket, ticket);
        assert!(matches!(client.poll(), Err(ClientError::Empty)));
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&none)).unwrap(), 0);
    }
}

#[test]
fn the_end_of_the_daemon_answers_what_is_under_way() {
    let mut served = serve();
    let socket = served.socket();
    let mut client = served.open();
    let mut other = served.open();
    client.set_prompt("sleep 200").unwrap();
    other.set_prompt("sleep 200").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    eventually("it begins", || served.engine.begun.load(Ordering::SeqCst) == 1);
    let waiting = submit(&mut other, 0, [1.0; 3], None);
    served.end().unwrap();
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    assert_eq!(other.wait(Some(waiting), LONG).unwrap().status, Status::Gone as i32);
    assert!(matches!(client.poll(), Err(ClientError::Gone)));
    assert_eq!(client.set_prompt("stack the cups").unwrap_err().status(), Status::Gone);
    let left: Vec<_> = std::fs::read_dir(&served.directory.0).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(Client::open(&patient(&socket)).err().unwrap().status(), Status::NoDaemon);
}

#[test]
fn a_panic_in_the_engine_is_answered_and_ends_the_daemon_with_an_error() {
    let mut served = serve();
    let mut client = served.open();
    client.set_prompt("panic").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::Internal as i32);
    let error = served.end().unwrap_err();
    assert_eq!(error.to_string(), "the inference thread has failed: as the prompt asked");
}

#[test]
fn a_socket_has_one_daemon() {
    let served = serve();
    let socket = served.socket();
    let error = Claim::take(&socket).err().unwrap();
    let expected =
        format!("socket {}: another daemon serves it, process {}", socket.display(), std::process::id());
    assert_eq!(error.to_string(), expected);
    // The daemon still serves.
    served.open().set_prompt("stack the cups").unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new();
    std::fs::write(directory.socket(), "precious").unwrap();
    let mut claim = Claim::take(&directory.socket()).unwrap();
    assert!(matches!(claim.listen(0o600, None), Err(DaemonError::NotASocket { .. })));
    drop(claim);
    assert_eq!(std::fs::read_to_string(directory.socket()).unwrap(), "precious");
}

#[test]
fn limits_are_named() {
    let served =
        serve_with(Options { limits: Limits { max_clients: 2, ..Default::default() }, ..Default::default() });
    let (_one, two) = (served.open(), served.open());
    let error = Client::open(&patient(&served.socket())).err().unwrap();
    let user = rustix::process::getuid().as_raw();
    assert_eq!(
        error.to_string(),
        format!(
            "daemon refused: 2 clients are connected, the most allowed (clients.max_clients): user {user} has 2"
        )
    );
    drop(two);
    let mut options = patient(&served.socket());
    options.entries = 48;
    // The slot of the client that left is free once the daemon has noticed.
    eventually("the place is free", || {
        let error = Client::open(&options).err().unwrap();
        error.to_string() == "daemon refused: number of ring entries is 48, expected 64 to 64"
    });
    options.entries = 1 << 20;
    let error = Client::open(&options).err().unwrap();
    assert_eq!(error.to_string(), "daemon refused: 1048576 ring entries asked for, at most 1024 are allowed");
}

#[test]
fn no_daemon_is_an_error_that_names_the_socket() {
    let directory = Directory::new();
    let error = Client::open(&patient(&directory.socket())).err().unwrap();
    let message = error.to_string();
    assert_eq!(error.status(), Status::NoDaemon);
    assert!(message.contains(directory.socket().to_str().unwrap()), "{message}");
}

#[test]
fn a_lost_device_is_answered_and_ends_the_daemon_with_an_error() {
    let mut served = serve();
    let mut client = served.open();
    client.set_prompt("lose").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::DeviceLost as i32);
    let error = served.end().unwrap_err();
    assert_eq!(error.to_string(), "device lost: it fell off the bus");
}
