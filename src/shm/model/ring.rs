use loom::thread;

use super::{Fuse, check};
use crate::shm::{Consumer, ENTRY_WORDS, Producer, RingError, Words};

const CAPACITY: usize = 2;
/// Stores of one push; a pop makes one.
const PUSH: usize = ENTRY_WORDS;

fn entry(n: u64) -> [u64; ENTRY_WORDS] {
    std::array::from_fn(|i| n * 100 + i as u64)
}

fn expect(got: [u64; ENTRY_WORDS], n: u64) {
    assert_eq!(got[1..], entry(n)[1..]);
}

/// A ring whose ends stop when their fuses blow.
fn ring(producer: &Fuse, consumer: &Fuse) -> (Producer, Consumer) {
    let (entries, peer_entries) = Words::handed_over(CAPACITY * ENTRY_WORDS);
    let (head, peer_head) = Words::private(1);
    let producer = Producer::new(entries.mortal(producer), head);
    (producer, Consumer::new(peer_entries, peer_head.mortal(consumer)))
}

fn for_ever() -> Fuse {
    Fuse::new(usize::MAX)
}

#[test]
fn each_entry_arrives_once_whole_and_in_order() {
    check(|| {
        let (mut producer, mut consumer) = ring(&for_ever(), &for_ever());
        let writer = thread::spawn(move || {
            for n in 1..=3 {
                while producer.push(&entry(n)) == Err(RingError::Full) {
                    thread::yield_now();
                }
            }
            assert_eq!(producer.tail(), 3);
        });
        for n in 1..=3 {
            let got = loop {
                match consumer.pop() {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            expect(got, n);
        }
        writer.join().unwrap();
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn a_producer_that_stops_after_any_store_leaves_whole_entries() {
    for stores in 0..=2 * PUSH {
        check(move || {
            let (mut producer, mut consumer) = ring(&Fuse::new(stores), &for_ever());
            let writer = thread::spawn(move || {
                for n in 1..=2 {
                    producer.push(&entry(n)).unwrap();
                }
            });
            let mut taken = 0;
            // While it lives, and when it has stopped.
            for _ in 0..2 {
                while let Some(got) = consumer.pop() {
                    taken += 1;
                    expect(got, taken);
                }
                if taken == 0 {
                    thread::yield_now();
                }
            }
            writer.join().unwrap();
            while let Some(got) = consumer.pop() {
                taken += 1;
                expect(got, taken);
            }
            assert_eq!(taken, (stores / PUSH) as u64);
        });
    }
}

#[test]
fn a_consumer_that_stops_after_any_store_is_never_overrun() {
    for stores in 0..=2 {
        check(move || {
            let (mut producer, mut consumer) = ring(&for_ever(), &Fuse::new(stores));
            for n in 1..=CAPACITY as u64 {
                producer.push(&entry(n)).unwrap();
            }
            let reader = thread::spawn(move || {
                // The last pop of a consumer that dies may be one that nobody hears of.
                for n in 1..=CAPACITY.min(stores + 1) as u64 {
                    expect(consumer.pop().unwrap(), n);
                }
            });
            let mut pushed = 0;
            for n in 3..=5 {
                match producer.push(&entry(n)) {
                    Ok(()) => pushed += 1,
                    Err(error) => assert_eq!(error, RingError::Full),
                }
            }
            reader.join().unwrap();
            assert!(pushed <= stores, "{pushed} entries were written over {stores} that were given back");
            assert_eq!(producer.room(2), Ok((stores - pushed) as u64));
        });
    }
}
