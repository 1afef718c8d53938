//! Single-producer single-consumer rings of entries that are one cache line each.
//!
//! An entry's first word is its sequence: entry `n` (counted from 0) lies at `n % capacity` and
//! is there once that word is `n + 1`. The consumer polls the very line that carries the entry,
//! so that handing over one entry moves one cache line between two cores. The consumer publishes
//! how many entries it has taken in a word of its own (`head`), on a line of its own, in its own
//! segment; the producer reads that word only when the ring seems full to it.

use super::sync::{Ordering, fence};
use super::{ENTRY_WORDS, Words};

/// Why a ring can't be used: it is full, or the peer has corrupted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The ring has no free entry.
    #[error("ring is full")]
    Full,
    /// The peer's head is ahead of the tail, or behind where it has been.
    #[error("ring is corrupt: peer claims to have taken {head} entries, expected {known} to {tail}")]
    Corrupt {
        /// Entries the peer claims to have taken.
        head: u64,
        /// Entries this side has written.
        tail: u64,
        /// Entries the peer is known to have taken.
        known: u64,
    },
}

/// The writing side of a ring.
pub struct Producer {
    entries: Words,
    head: Words,
    capacity: u64,
    tail: u64,
    cached_head: u64,
}

/// The reading side of a ring.
pub struct Consumer {
    entries: Words,
    head: Words,
    capacity: u64,
    taken: u64,
}

fn capacity(entries: &Words) -> u64 {
    let capacity = (entries.len() / ENTRY_WORDS) as u64;
    assert!(capacity.is_power_of_two(), "ring of {capacity} entries");
    capacity
}

impl Producer {
    /// A producer over entries in a segment this side may write, and the peer's head.
    pub fn new(entries: Words, head: Words) -> Producer {
        Producer { capacity: capacity(&entries), entries, head, tail: 0, cached_head: 0 }
    }

    /// Continues where another producer has ended: after the highest sequence. Only for entries that no peer
    /// can write.
    pub fn resume(entries: Words, head: Words) -> Producer {
        let mut producer = Producer::new(entries, head);
        let sequences = (0..producer.capacity as usize)
            .map(|at| producer.entries.load(at * ENTRY_WORDS, Ordering::Acquire));
        producer.tail = sequences.max().unwrap_or(0);
        // As far back as the peer can be.
        producer.cached_head = producer.tail.saturating_sub(producer.capacity);
        producer
    }

    /// Number of entries written.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Number of entries that can be written now, at least. Reads the peer's head when fewer than `wanted` are
    /// known to be free.
    ///
    /// # Errors
    /// The peer's head is impossible.
    #[inline]
    pub fn room(&mut self, wanted: u64) -> Result<u64, RingError> {
        let room = self.capacity - (self.tail - self.cached_head);
        if room >= wanted {
            return Ok(room);
        }
        let head = self.head.load(0, Ordering::Acquire);
        if head > self.tail || head < self.cached_head {
            return Err(RingError::Corrupt { head, tail: self.tail, known: self.cached_head });
        }
        self.cached_head = head;
        Ok(self.capacity - (self.tail - head))
    }

    /// Prefetches the line of the next entry for writing, before its content is known: the peer polls that
    /// line.
    #[inline]
    pub fn prefetch(&self) {
        self.entries.prefetch_for_write((self.tail & (self.capacity - 1)) as usize * ENTRY_WORDS);
    }

    /// Writes an entry. Its first word is replaced by the sequence.
    ///
    /// # Errors
    /// The ring is full, or the peer's head is impossible.
    #[inline]
    pub fn push(&mut self, entry: &[u64; ENTRY_WORDS]) -> Result<(), RingError> {
        if self.room(1)? == 0 {
            return Err(RingError::Full);
        }
        let at = (self.tail & (self.capacity - 1)) as usize * ENTRY_WORDS;
        self.entries.write(at + 1, &entry[1..]);
        self.tail += 1;
        self.entries.store(at, self.tail, Ordering::Release);
        Ok(())
    }
}

impl Consumer {
    /// A consumer over the peer's entries, and a head in a segment this side may write.
    pub fn new(entries: Words, head: Words) -> Consumer {
        Consumer { capacity: capacity(&entries), entries, head, taken: 0 }
    }

    /// Continues where another consumer has ended: after as many entries as its head says. Only for a head that
    /// no peer can write.
    pub fn resume(entries: Words, head: Words) -> Consumer {
        let taken = head.load(0, Ordering::Acquire);
        Consumer { taken, ..Consumer::new(entries, head) }
    }

    /// Number of entries taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// True if an entry can be taken.
    #[inline]
    pub fn is_ready(&self) -> bool {
        let at = (self.taken & (self.capacity - 1)) as usize * ENTRY_WORDS;
        self.entries.load(at, Ordering::Acquire) == self.taken + 1
    }

    /// Takes a private copy of the next entry. Any sequence but the expected one means that there is none, so
    /// that a producer that writes a wrong one harms only itself: its entries are not seen.
    #[inline]
    pub fn pop(&mut self) -> Option<[u64; ENTRY_WORDS]> {
        let entry = self.peek()?;
        self.advance();
        Some(entry)
    }

    /// Copies the next entry and leaves it in the ring.
    #[inline]
    pub fn peek(&self) -> Option<[u64; ENTRY_WORDS]> {
        if !self.is_ready() {
            return None;
        }
        let at = (self.taken & (self.capacity - 1)) as usize * ENTRY_WORDS;
        let mut entry = [0; ENTRY_WORDS];
        self.entries.read(at, &mut entry);
        Some(entry)
    }

    /// Takes the entry that was peeked at.
    #[inline]
    pub fn advance(&mut self) {
        self.taken += 1;
        // Release: the entry is read before the producer may overwrite it.
        self.head.store(0, self.taken, Ordering::Release);
    }
}

/// Copies the entries that wait to be taken, in their order, without taking them: for another thread than the
/// consumer's, of whose ring these are.
pub fn waiting(entries: &Words, head: &Words) -> Vec<[u64; ENTRY_WORDS]> {
    let capacity = capacity(entries);
    let first = head.load(0, Ordering::Acquire);
    let copy = |n: u64| {
        let at = (n & (capacity - 1)) as usize * ENTRY_WORDS;
        let mut entry = [0; ENTRY_WORDS];
        let is_there = entries.load(at, Ordering::Acquire) == n + 1;
        entries.read(at, &mut entry);
        is_there.then_some((n, entry))
    };
    let copies: Vec<_> = (first..first.saturating_add(capacity)).map_while(copy).collect();
    // Entries taken meanwhile may have been overwritten while they were copied.
    fence(Ordering::Acquire);
    let taken = head.load(0, Ordering::Relaxed);
    copies.into_iter().filter(|(n, _)| *n >= taken).map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(capacity: usize) -> (Producer, Consumer, Words, Words) {
        let (entries, peer_entries) = Words::private(capacity * ENTRY_WORDS);
        let (head, peer_head) = Words::private(1);
        let (spare_entries, spare_head) = (entries.alias(), head.alias());
        (Producer::new(entries, head), Consumer::new(peer_entries, peer_head), spare_entries, spare_head)
    }

    fn entry(n: u64) -> [u64; ENTRY_WORDS] {
        std::array::from_fn(|i| n * 100 + i as u64)
    }

    #[test]
    fn entries_arrive_once_and_in_order_until_full() {
        let (mut producer, mut consumer, ..) = ring(4);
        for round in 0..5 {
            for n in 0..4 {
                producer.push(&entry(round * 4 + n)).unwrap();
            }
            assert_eq!(producer.push(&entry(0)), Err(RingError::Full));
            for n in 0..4 {
                let got = consumer.pop().unwrap();
                assert_eq!(got[1..], entry(round * 4 + n)[1..]);
            }
            assert!(consumer.pop().is_none());
        }
    }

    #[test]
    fn what_waits_is_seen_and_not_taken() {
        let (mut producer, mut consumer, entries, head) = ring(4);
        assert!(waiting(&entries, &head).is_empty());
        for taken in 0..5 {
            for n in 0..4 {
                let seen: Vec<_> = waiting(&entries, &head).iter().map(|entry| entry[1]).collect();
                assert_eq!(seen, (0..n).map(|n| entry(taken * 4 + n)[1]).collect::<Vec<_>>());
                producer.push(&entry(taken * 4 + n)).unwrap();
            }
            while consumer.pop().is_some() {}
        }
    }

    #[test]
    fn two_threads_pass_a_hundred_thousand_entries() {
        let (mut producer, mut consumer, ..) = ring(8);
        let writer = std::thread::spawn(move || {
            for n in 0..100_000 {
                while producer.push(&entry(n)) == Err(RingError::Full) {
                    std::thread::yield_now();
                }
            }
        });
        for n in 0..100_000 {
            let got = loop {
                match consumer.pop() {
                    Some(entry) => break entry,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(got[1..], entry(n)[1..]);
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_head_that_can_not_be_is_an_error() {
        let (mut producer, _consumer, _, head) = ring(2);
        producer.push(&entry(1)).unwrap();
        producer.push(&entry(2)).unwrap();
        head.store(0, 3, Ordering::Relaxed);
        assert_eq!(producer.push(&entry(3)), Err(RingError::Corrupt { head: 3, tail: 2, known: 0 }));
        head.store(0, u64::MAX, Ordering::Relaxed);
        assert!(matches!(producer.room(1), Err(RingError::Corrupt { .. })));
        // A head that goes back is as impossible as one that goes too far.
        head.store(0, 2, Ordering::Relaxed);
        assert_eq!(producer.room(1), Ok(2));
        producer.push(&entry(3)).unwrap();
        producer.push(&entry(4)).unwrap();
        head.store(0, 1, Ordering::Relaxed);
        assert!(matches!(producer.push(&entry(5)), Err(RingError::Corrupt { .. })));
    }

    proptest! {
        #[test]
        fn random_words_never_hurt_the_consumer(
            words in proptest::collection::vec(any::<u64>(), 4 * ENTRY_WORDS),
            head in any::<u64>(),
        ) {
            let (mut producer, mut consumer, entries, head_word) = ring(4);
            entries.write(0, &words);
            head_word.store(0, head, Ordering::Relaxed);
            // At most a ring's worth of rubbish can pass for entries.
            let taken = std::iter::from_fn(|| consumer.pop()).count();
            prop_assert!(taken <= 4);
            let _ = producer.push(&entry(1));
        }
    }
}
