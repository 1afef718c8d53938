//! Clients and daemons that are killed at random points of their work.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::alone;
use crate::daemons::*;
use pi0rt::client::{Client, ClientError};

/// Run by other tests in a separate process: keeps requests in flight until it is killed.
#[test]
fn child_client() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_CLIENT") else { return };
    let mut client = open(Path::new(&socket));
    client.set_prompt("sleep 5").unwrap();
    println!("\nworking");
    loop {
        let ticket = submit(&mut client, 0, [3.0; 3], Some(9));
        client.wait(Some(ticket), LONG).unwrap();
    }
}

/// Kills clients at random points, and checks that another client gets correct answers meanwhile and that
/// the daemon keeps nothing of the dead ones.
fn kill_clients(times: u64) {
    let _alone = alone();
    let directory = Directory::new();
    let daemon = Process::serving(&directory);
    let mut client = open(&directory.socket());
    client.set_prompt("stack the cups").unwrap();
    let before = daemon.resources();
    let mut random = Random(0xdead + times);
    for round in 0..times {
        let mut other =
            Process::start("kill::child_client", "PI0RT_TEST_CLIENT", &directory.socket(), "working");
        let last = random.next() % 8;
        std::thread::sleep(Duration::from_micros(random.next() % 6000));
        for n in 0..=last {
            let state = [n as f32 + round as f32; 3];
            let ticket = submit(&mut client, 0, state, None);
            if n == last {
                other.kill();
            }
            let completion = client.wait(Some(ticket), LONG).unwrap();
            assert_eq!((completion.ticket, completion.status), (ticket, 0));
            assert_eq!(client.chunk_latest().unwrap().1[0], state[0]);
        }
        assert!(matches!(client.poll(), Err(ClientError::Empty)), "a ticket was answered twice");
        eventually("descriptors and mappings are freed", || daemon.resources() == before);
    }
}

#[test]
fn killed_clients_leave_nothing_behind_and_disturb_nobody() {
    kill_clients(50);
}

#[test]
#[ignore = "2000 processes are killed, one after the other"]
fn two_thousand_killed_clients_leave_nothing_behind() {
    kill_clients(2000);
}

/// Kills daemons at random points, and checks that each ticket is answered once or reported lost, and that
/// the client keeps neither descriptors nor mappings.
fn kill_daemons(times: u64) {
    let _alone = alone();
    let directory = Directory::new();
    let mut random = Random(0xfeed + times);
    let resources = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        let fds = links.filter(|to| to.to_string_lossy().contains("pi0rt-")).count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        (fds, maps.lines().filter(|line| line.contains("memfd:pi0rt-")).count())
    };
    for _ in 0..times {
        let mut daemon = Process::serving(&directory);
        let mut options = patient(&directory.socket());
        options.gone_after_ns = 100_000_000;
        let mut client = Client::open(&options).unwrap();
        client.set_prompt(["sleep 1", "stack the cups"][random.next() as usize % 2]).unwrap();
        let (mut open, mut answered) = (BTreeSet::new(), 0);
        let last = random.next() % 40;
        let mut killed = false;
        let mut n = 0;
        // Until the client notices: submits while it can, takes every answer.
        eventually("the client knows", || {
            if n == last && !killed {
                daemon.kill();
                killed = true;
            }
            n += 1;
            match client.acquire() {
                Ok(slot) => {
                    let observation = fill(&client, slot, 0, [n as f32; 3], None);
                    match client.submit(&observation) {
                        Ok(ticket) => assert!(open.insert(ticket)),
                        // On a busy machine the heartbeat may seem to stop for a moment.
                        Err(_) => client.release(slot).unwrap(),
                    }
                }
                Err(error) => assert!(matches!(error, ClientError::Busy)),
            }
            loop {
                match client.poll() {
                    Ok(completion) => {
                        assert!(open.remove(&completion.ticket), "a ticket was answered twice");
                        answered += 1;
                    }
                    Err(ClientError::Empty) => return false,
                    Err(error) => {
                        assert!(matches!(error, ClientError::Gone), "{error}");
                        return killed;
                    }
                }
            }
        });
        // Unanswered requests are lost, and every call reports it.
        let lost = open.len() as u64;
        let slot = (0..16).find_map(|_| client.acquire().ok());
        if let Some(slot) = slot {
            let observation = fill(&client, slot, 0, [0.0; 3], None);
            assert!(matches!(client.submit(&observation), Err(ClientError::Gone)));
        }
        assert!(matches!(client.wait(None, LONG), Err(ClientError::Gone)));
        assert!(answered + lost <= n, "{answered} answered, {lost} lost of {n}");
        drop(client);
        assert_eq!(resources(), (0, 0));
    }
}

#[test]
fn a_client_survives_killed_daemons() {
    kill_daemons(50);
}

#[test]
#[ignore = "2000 daemons are killed, one after the other"]
fn a_client_survives_two_thousand_killed_daemons() {
    kill_daemons(2000);
}
