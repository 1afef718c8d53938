//! [`Words`] as the model checker sees them: loom's atomics instead of a mapped segment.
#![allow(missing_docs)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::shm::Segment;
use crate::shm::sync::{AtomicU64, Ordering};

struct Memory {
    words: Vec<AtomicU64>,
    /// Beside each word: tells loom of the payload's accesses, so that it objects to two that
    /// nothing orders. Empty where they may meet.
    owned: Vec<UnsafeCell<()>>,
}

/// How many stores a peer makes before it stops for ever.
#[derive(Clone)]
pub struct Fuse(Rc<Cell<usize>>);

impl Fuse {
    /// One that blows after so many stores.
    pub fn new(stores: usize) -> Fuse {
        Fuse(Rc::new(Cell::new(stores)))
    }

    /// Uses up one store; false if none is left.
    fn burn(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    /// True if the peer has stopped or has nothing left.
    pub fn has_blown(&self) -> bool {
        self.0.get() == 0
    }
}

/// A view of words that another thread of the model has too.
pub struct Words {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
    fuse: Option<Fuse>,
}

// SAFETY: loom runs the threads of a model in one thread of the system; the fuse is no part of the
// model.
unsafe impl Send for Words {}

impl Words {
    /// None: a mapped segment has no atomics that a model checker could follow.
    pub fn new(_: &Arc<Segment>, _: usize, _: usize) -> Option<Words> {
        None
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of {}", self.len);
        &self.memory.words[self.start + index]
    }

    /// As of memory that is mapped: a relaxed load, and a fence.
    pub fn load(&self, index: usize, order: Ordering) -> u64 {
        let value = self.word(index).load(Ordering::Relaxed);
        if order != Ordering::Relaxed {
            crate::shm::sync::fence(order);
        }
        value
    }

    pub fn store(&self, index: usize, value: u64, order: Ordering) {
        if self.fuse.as_ref().is_none_or(Fuse::burn) {
            self.word(index).store(value, order);
        }
    }

    pub fn read(&self, start: usize, into: &mut [u64]) {
        for (i, value) in into.iter_mut().enumerate() {
            if let Some(owned) = self.memory.owned.get(self.start + start + i) {
                owned.with(|_| ());
            }
            *value = self.load(start + i, Ordering::Relaxed);
        }
    }

    pub fn write(&self, start: usize, from: &[u64]) {
        for (i, value) in from.iter().enumerate() {
            if let Some(owned) = self.memory.owned.get(self.start + start + i) {
                owned.with_mut(|_| ());
            }
            self.store(start + i, *value, Ordering::Relaxed);
        }
    }

    pub fn write_finite(&self, start: usize, from: &[f32]) -> bool {
        for (i, pair) in from.chunks(2).enumerate() {
            let high = pair.get(1).map_or(0, |value| value.to_bits());
            let word = u64::from(pair[0].to_bits()) | u64::from(high) << 32;
            self.store(start + i, word, Ordering::Relaxed);
        }
        from.iter().all(|value| value.is_finite())
    }

    pub fn read_f32(&self, start: usize, into: &mut [f32]) {
        for (i, pair) in into.chunks_mut(2).enumerate() {
            let word = self.load(start + i, Ordering::Relaxed);
            pair[0] = f32::from_bits(word as u32);
            if let Some(value) = pair.get_mut(1) {
                *value = f32::from_bits((word >> 32) as u32);
            }
        }
    }

    pub fn prefetch_for_write(&self, _: usize) {}

    fn pair(len: usize, owned: usize) -> (Words, Words) {
        let memory = Memory {
            words: (0..len).map(|_| AtomicU64::new(0)).collect(),
            owned: (0..owned).map(|_| UnsafeCell::new(())).collect(),
        };
        let words = Words { memory: Arc::new(memory), start: 0, len, fuse: None };
        (words.alias(), words)
    }

    /// Two views of the same words.
    pub fn private(len: usize) -> (Words, Words) {
        Words::pair(len, 0)
    }

    /// As [`private`](Self::private); but what one side writes with `write` the other may `read` only
    /// when something orders the two, and the other way about.
    pub fn handed_over(len: usize) -> (Words, Words) {
        Words::pair(len, len)
    }

    pub fn alias(&self) -> Words {
        Words { memory: self.memory.clone(), fuse: None, ..*self }
    }

    /// The view of a peer that stops when the fuse blows: its stores have no effect from then on.
    pub fn mortal(self, fuse: &Fuse) -> Words {
        Words { fuse: Some(fuse.clone()), ..self }
    }
}
