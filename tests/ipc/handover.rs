//! Daemons that are killed while their sessions are kept, and clients that continue with the next daemon
//! without reopening anything.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::daemons::*;
use pi0rt::client::{Client, ClientError, Options};
use pi0rt::control::{self, Fault, Received, Status};
use pi0rt::daemon::{Claim, Daemon, DescriptorStore, Handle, KeptSession};

/// The connection between daemon and keeper: packets of a word, a name and descriptors.
struct Line(OwnedFd);

impl DescriptorStore for Line {
    fn keep(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        Ok(control::send_with_fds(self.0.as_fd(), format!("keep {name}").as_bytes(), fds)?)
    }

    fn release(&mut self, name: &str) {
        control::send(self.0.as_fd(), format!("release {name}").as_bytes()).unwrap();
    }
}

/// Run by the tests in a separate process.
#[test]
fn child_daemon() {
    let Some(directory) = std::env::var_os("PI0RT_TEST_KEPT") else { return };
    let socket = Path::new(&directory).join("pi0rt.sock");
    let line = control::connect(&Path::new(&directory).join("keeper.sock")).unwrap();
    let mut kept = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let (received, fds) = control::receive_with_fds(line.as_fd(), &mut buffer).unwrap();
        match received {
            Received::Packet(len) => match std::str::from_utf8(&buffer[..len]).unwrap().strip_prefix("kept ")
            {
                Some(name) => kept.push(KeptSession { name: name.into(), fds }),
                None => break,
            },
            Received::Nothing => std::thread::sleep(Duration::from_millis(1)),
            _ => panic!("the keeper is gone"),
        }
    }
    let claim = Claim::take(&socket).unwrap();
    let mut engine = Sums::default();
    if Path::new(&directory).join("needs-cameras").exists() {
        engine.policy.optional_cameras = 0;
    }
    let mut daemon = Daemon::new(engine, claim, Default::default(), Handle::new().unwrap()).unwrap();
    daemon.keep_in(Box::new(Line(line)));
    daemon.adopt(kept);
    println!("\nserving");
    daemon.run().unwrap();
}

type Kept = Arc<Mutex<BTreeMap<String, Vec<OwnedFd>>>>;

/// Acts as the service manager: hands each daemon the stored descriptors, and stores those it sends.
fn keeper(directory: &Directory) -> Kept {
    let listener = listen(&directory.0.join("keeper.sock"));
    let kept = Kept::default();
    let (all, mut buffer) = (kept.clone(), [0; 256]);
    std::thread::spawn(move || {
        while let Ok(line) = rustix::net::accept(&listener) {
            for (name, fds) in all.lock().unwrap().iter() {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).rev().collect();
                control::send_with_fds(line.as_fd(), format!("kept {name}").as_bytes(), &fds).unwrap();
            }
            control::send(line.as_fd(), b"that is all").unwrap();
            loop {
                match control::receive_with_fds(line.as_fd(), &mut buffer).unwrap() {
                    (Received::Packet(len), fds) => {
                        let text = std::str::from_utf8(&buffer[..len]).unwrap();
                        let mut all = all.lock().unwrap();
                        match text.split_once(' ') {
                            Some(("keep", name)) => drop(all.insert(name.into(), fds)),
                            Some(("release", name)) => drop(all.remove(name).unwrap()),
                            _ => panic!("{text}"),
                        }
                    }
                    (Received::Nothing, _) => std::thread::sleep(Duration::from_micros(200)),
                    _ => break,
                }
            }
        }
    });
    kept
}

fn daemon(directory: &Directory) -> Process {
    Process::start("handover::child_daemon", "PI0RT_TEST_KEPT", &directory.0, "serving")
}

/// Polls until there is a completion; a change of daemons is counted and passed over.
fn next(client: &mut Client, restarts: &mut u32) -> Option<(u64, i32)> {
    loop {
        match client.poll() {
            Ok(completion) => return Some((completion.ticket, completion.status)),
            Err(ClientError::Restarted) => *restarts += 1,
            Err(ClientError::Empty) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A client's declarations also hold for the next daemon.
#[test]
fn missing_cameras_are_refused_and_allowed_as_before() {
    let directory = Directory::new();
    std::fs::write(directory.0.join("needs-cameras"), []).unwrap();
    let _kept = keeper(&directory);
    let mut served = daemon(&directory);
    let open =
        |allow| Client::open(&Options { allow_missing_cameras: allow, ..patient(&directory.socket()) });
    let (mut strict, mut lenient) = (open(false).unwrap(), open(true).unwrap());
    for daemons in 0..2 {
        for (client, status) in [(&mut strict, Status::BadObservation), (&mut lenient, Status::Ok)] {
            if daemons == 0 {
                client.set_prompt("stack the cups").unwrap();
            } else {
                eventually("it knows the next daemon", || {
                    matches!(client.poll(), Err(ClientError::Restarted))
                });
            }
            let ticket = submit(client, 0, [1.0; 3], Some(1));
            let completion = client.wait(Some(ticket), LONG).unwrap();
            assert_eq!(completion.status, status as i32);
            let fault = (status != Status::Ok).then_some(Fault::MissingCamera { camera: Some(1) });
            assert_eq!(Fault::from_word(completion.detail), fault);
        }
        if daemons == 0 {
            served.kill();
            served = daemon(&directory);
        }
    }
}

fn go_on(times: u64) {
    let directory = Directory::new();
    let kept = keeper(&directory);
    let mut served = daemon(&directory);
    let options = Options { name: "arm".into(), slots: 16, ..patient(&directory.socket()) };
    let mut client = Client::open(&options).unwrap();
    let mut observer = Client::open(&Options { observe: true, ..patient(&directory.socket()) }).unwrap();
    let prompts = ["sleep 1", "stack the cups", "sleep 4"];
    let ids = prompts.map(|prompt| client.set_prompt(prompt).unwrap());
    let before = served.resources();
    let mut random = Random(0xcafe + times);
    let (mut asked, mut answers, mut restarts, mut chunk) = (0, BTreeMap::new(), 0, 0);
    for round in 0..times {
        // When the daemon dies, some are answered, one may be computing, one pending, and some still in the
        // ring.
        for _ in 0..random.next() % 4 + 1 {
            let state = [round as f32; 3];
            submit(&mut client, ids[random.next() as usize % 3], state, None);
            std::thread::sleep(Duration::from_micros(random.next() % 1500));
            while let Some((ticket, status)) = next(&mut client, &mut restarts) {
                assert!(answers.insert(ticket, status).is_none(), "{ticket} was answered twice");
            }
        }
        std::thread::sleep(Duration::from_micros(random.next() % 3000));
        served.kill();
        // No daemon serves: submissions wait meanwhile.
        if random.next().is_multiple_of(2) {
            submit(&mut client, ids[1], [round as f32; 3], None);
        }
        served = daemon(&directory);
        // One more in the same rings; the others complete before it or have completed.
        let last = loop {
            match client.acquire() {
                Ok(slot) => {
                    let observation = fill(&client, slot, ids[1], [round as f32 + 0.5; 3], None);
                    match client.submit(&observation) {
                        Ok(ticket) => break ticket,
                        Err(ClientError::Restarted) => restarts += 1,
                        Err(error) => panic!("{error}"),
                    }
                    client.release(slot).unwrap();
                }
                Err(ClientError::Busy) => {
                    if let Some((ticket, status)) = next(&mut client, &mut restarts) {
                        assert!(answers.insert(ticket, status).is_none(), "{ticket} was answered twice");
                    }
                }
                Err(error) => panic!("{error}"),
            }
        };
        asked = last;
        while !answers.contains_key(&last) {
            if let Some((ticket, status)) = next(&mut client, &mut restarts) {
                assert!(answers.insert(ticket, status).is_none(), "{ticket} was answered twice");
            }
        }
        assert_eq!(u64::from(restarts), round + 1);
        assert_eq!(answers[&last], 0);
        let (header, actions, life) = client.chunk_latest().unwrap();
        life.unwrap();
        assert!(header.chunk > chunk, "chunk {} after {chunk}", header.chunk);
        chunk = header.chunk;
        assert_eq!((header.ticket, actions[0]), (last, round as f32 + 0.5));
        // The new daemon knows it by the same number.
        assert_eq!(client.set_prompt(prompts[round as usize % 3]).unwrap(), ids[round as usize % 3]);
        // Observers continue, too.
        while let Err(ClientError::Restarted) = observer.chunk_latest().unwrap().2 {}
        assert_eq!(observer.chunk_latest().unwrap().0.ticket, last);
        let other = Client::open(&Options { name: "arm".into(), ..patient(&directory.socket()) });
        assert!(matches!(other, Err(ClientError::Refused(_))), "the name is still its writer's");
    }
    // Every ticket was answered, and unfinished ones are reported as such.
    assert_eq!(answers.len() as u64, asked);
    let known = [Status::Ok, Status::Superseded, Status::Restarted].map(|status| status as i32);
    assert!(answers.values().all(|status| known.contains(status)), "{answers:?}");
    let lost = answers.values().filter(|status| **status == Status::Restarted as i32).count();
    assert!(lost > 0, "none was under way in {times} rounds");
    assert_eq!(served.resources().1, before.1, "segments");
    drop((client, observer));
    eventually("nothing is kept of a client that has gone", || kept.lock().unwrap().is_empty());
}

#[test]
fn a_client_goes_on_without_opening_anything() {
    go_on(25);
}

#[test]
#[ignore = "starts hundreds of daemons"]
fn a_client_goes_on_over_hundreds_of_daemons() {
    go_on(500);
}

#[test]
fn a_session_whose_client_left_meanwhile_ends() {
    let directory = Directory::new();
    let kept = keeper(&directory);
    let mut served = daemon(&directory);
    let mut stays = open(&directory.socket());
    let leaves = open(&directory.socket());
    eventually("both are kept", || kept.lock().unwrap().len() == 2);
    served.kill();
    drop(leaves);
    let _served = daemon(&directory);
    eventually("one is kept", || kept.lock().unwrap().len() == 1);
    while let Err(ClientError::Restarted) = stays.set_prompt("stack the cups").map(drop) {}
    let ticket = loop {
        let slot = stays.acquire().unwrap();
        let observation = fill(&stays, slot, 0, [2.0; 3], None);
        match stays.submit(&observation) {
            Ok(ticket) => break ticket,
            Err(ClientError::Restarted) => stays.release(slot).unwrap(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(stays.wait(Some(ticket), LONG).unwrap().status, 0);
}
