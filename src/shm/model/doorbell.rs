use loom::thread;
use rustix::io::read;

use super::check;
use crate::shm::{Bell, Consumer, ENTRY_WORDS, Producer, Sleeper, Words};

fn parts() -> (Producer, Bell, Consumer, Sleeper) {
    let (entries, peer_entries) = Words::private(2 * ENTRY_WORDS);
    let (head, peer_head) = Words::private(1);
    let (flag, peer_flag) = Words::private(1);
    let sleeper = Sleeper::new(flag).unwrap();
    let bell = Bell::new(peer_flag, sleeper.fd().try_clone_to_owned().unwrap());
    (Producer::new(entries, head), bell, Consumer::new(peer_entries, peer_head), sleeper)
}

/// How often the bell was rung.
fn rung(sleeper: &Sleeper) -> u64 {
    let mut count = [0; 8];
    read(sleeper.fd(), &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

#[test]
fn no_daemon_sleeps_over_work() {
    check(|| {
        let (mut producer, bell, mut consumer, sleeper) = parts();
        let client = thread::spawn(move || {
            producer.push(&[7; ENTRY_WORDS]).unwrap();
            bell.ring()
        });
        sleeper.announce();
        let sleeps = !consumer.is_ready();
        if !sleeps {
            sleeper.awake();
        }
        let system_call = client.join().unwrap();
        assert!(!sleeps || system_call, "asleep, and not woken");
        assert_eq!(rung(&sleeper), system_call.into());
        assert!(consumer.pop().is_some());
    });
}

/// Awake, asleep, woken, at work, asleep again.
#[test]
fn no_daemon_sleeps_over_the_second_piece_of_work() {
    check(|| {
        let (mut producer, bell, mut consumer, sleeper) = parts();
        let client = thread::spawn(move || {
            for _ in 0..2 {
                producer.push(&[7; ENTRY_WORDS]).unwrap();
                bell.ring();
            }
        });
        let mut client = Some(client);
        for _ in 0..2 {
            while consumer.pop().is_none() {
                sleeper.announce();
                if !consumer.is_ready() {
                    // The sleep: until the bell is rung, or nobody is left to ring it.
                    while rung(&sleeper) == 0 {
                        let Some(client) = client.take() else { panic!("asleep, and not woken") };
                        client.join().unwrap();
                    }
                }
                sleeper.awake();
            }
        }
        if let Some(client) = client {
            client.join().unwrap();
        }
    });
}
