use std::os::fd::OwnedFd;

use loom::thread;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use super::check;
use crate::shm::{Consumer, Doorbell, DoorbellWaiter, ENTRY_WORDS, Listener, Notifier, Producer, Words};

fn parts() -> (Producer, Doorbell, Consumer, DoorbellWaiter) {
    let (entries, peer_entries) = Words::private(2 * ENTRY_WORDS);
    let (head, peer_head) = Words::private(1);
    let (flag, peer_flag) = Words::private(1);
    let waiter = DoorbellWaiter::new(flag).unwrap();
    let doorbell = Doorbell::new(peer_flag, waiter.fd().try_clone_to_owned().unwrap());
    (Producer::new(entries, head), doorbell, Consumer::new(peer_entries, peer_head), waiter)
}

/// How often the bell was rung.
fn rung(waiter: &DoorbellWaiter) -> u64 {
    let mut count = [0; 8];
    read(waiter.fd(), &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

#[test]
fn no_daemon_sleeps_over_work() {
    check(|| {
        let (mut producer, doorbell, mut consumer, waiter) = parts();
        let client = thread::spawn(move || {
            producer.push(&[7; ENTRY_WORDS]).unwrap();
            doorbell.ring()
        });
        waiter.announce();
        let sleeps = !consumer.is_ready();
        if !sleeps {
            waiter.awake();
        }
        let system_call = client.join().unwrap();
        assert!(!sleeps || system_call, "asleep, and not woken");
        assert_eq!(rung(&waiter), system_call.into());
        assert!(consumer.pop().is_some());
    });
}

/// Awake, asleep, woken, at work, asleep again.
#[test]
fn no_daemon_sleeps_over_the_second_piece_of_work() {
    check(|| {
        let (mut producer, doorbell, mut consumer, waiter) = parts();
        let client = thread::spawn(move || {
            for _ in 0..2 {
                producer.push(&[7; ENTRY_WORDS]).unwrap();
                doorbell.ring();
            }
        });
        let mut client = Some(client);
        for _ in 0..2 {
            while consumer.pop().is_none() {
                waiter.announce();
                if !consumer.is_ready() {
                    // The sleep: until the bell is rung, or nobody is left to ring it.
                    while rung(&waiter) == 0 {
                        let Some(client) = client.take() else { panic!("asleep, and not woken") };
                        client.join().unwrap();
                    }
                }
                waiter.awake();
            }
        }
        if let Some(client) = client {
            client.join().unwrap();
        }
    });
}

/// A client's ends and a daemon's, of completions and of the wish to be told of them.
fn answers() -> (Consumer, Listener, Producer, Notifier) {
    let (entries, peer_entries) = Words::private(2 * ENTRY_WORDS);
    let (head, peer_head) = Words::private(1);
    let (flag, peer_flag) = Words::private(1);
    let consumer = Consumer::new(peer_entries, peer_head);
    (consumer, Listener::new(peer_flag), Producer::new(entries, head), Notifier::new(flag))
}

/// Answers, and sends a message where one is wanted: the socket of the model is a counter.
fn answer(completions: &mut Producer, notifier: &Notifier, socket: &OwnedFd) -> bool {
    completions.push(&[7; ENTRY_WORDS]).unwrap();
    let wanted = notifier.is_wanted();
    if wanted {
        write(socket, &1u64.to_ne_bytes()).unwrap();
    }
    wanted
}

fn socket() -> (OwnedFd, OwnedFd) {
    let socket = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    (socket.try_clone().unwrap(), socket)
}

/// As `wait` does it, twice: listens, looks, sleeps, reads the messages away, looks, and listens no more.
#[test]
fn no_client_sleeps_over_an_answer() {
    check(|| {
        let (mut completions, listener, mut producer, notifier) = answers();
        let (mine, theirs) = socket();
        let daemon = thread::spawn(move || {
            for _ in 0..2 {
                answer(&mut producer, &notifier, &theirs);
            }
        });
        let mut daemon = Some(daemon);
        for _ in 0..2 {
            loop {
                listener.listen();
                if completions.pop().is_some() {
                    break;
                }
                // The sleep: until there is a message, or nobody is left to send one.
                while read(&mine, &mut [0; 8]).is_err() {
                    let Some(daemon) = daemon.take() else { panic!("asleep, and not told") };
                    daemon.join().unwrap();
                }
            }
            listener.ignore();
        }
        if let Some(daemon) = daemon {
            daemon.join().unwrap();
        }
    });
}

/// Both fall asleep if they can: the daemon before the request, the client before the answer.
#[test]
fn a_request_and_its_answer_wake_both() {
    check(|| {
        let (mut requests, doorbell, mut submissions, waiter) = parts();
        let (mut completions, listener, mut producer, notifier) = answers();
        let (mine, theirs) = socket();
        let client = thread::spawn(move || {
            requests.push(&[7; ENTRY_WORDS]).unwrap();
            let rang = doorbell.ring();
            listener.listen();
            (rang, completions.pop().is_none(), completions)
        });
        waiter.announce();
        let mut client = Some(client);
        let mut ended = None;
        if !submissions.is_ready() {
            let end = client.take().unwrap().join().unwrap();
            assert!(end.0, "the daemon is asleep, and not woken");
            ended = Some(end);
        }
        waiter.awake();
        assert!(submissions.pop().is_some());
        let told = answer(&mut producer, &notifier, &theirs);
        let (_, asleep, mut completions) = ended.unwrap_or_else(|| client.take().unwrap().join().unwrap());
        assert!(!asleep || told, "the client is asleep, and not told");
        assert_eq!(read(&mine, &mut [0; 8]).is_ok(), told);
        assert_eq!(completions.pop().is_some(), asleep);
    });
}
