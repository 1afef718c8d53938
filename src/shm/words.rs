//! A range of 64-bit words in a mapped segment.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Segment;
use super::sync::{AtomicU64, Ordering, fence};

/// Atomic words inside a segment: the only view that rings, slots and flags have of shared memory. Keeps the
/// mapping alive; every access is bounds-checked.
///
/// Only the address of the memory is kept, never a reference. The reference that an access goes through is to
/// an atomic: it promises nothing about the value, and so nothing that the peer could break.
pub struct Words {
    base: *mut u64,
    len: usize,
    // None in tests with private memory.
    _segment: Option<Arc<Segment>>,
    _not_sync: PhantomData<*const ()>,
}

// SAFETY: the memory is only accessed through atomics and outlives this value (`_segment`).
unsafe impl Send for Words {}

impl Words {
    /// The words at `offset` (bytes, a multiple of 8) of a segment; None if they don't fit.
    pub fn new(segment: &Arc<Segment>, offset: usize, len: usize) -> Option<Words> {
        let end = len.checked_mul(8).and_then(|bytes| bytes.checked_add(offset))?;
        if !offset.is_multiple_of(8) || end > segment.len() {
            return None;
        }
        // SAFETY: offset..end lies inside the mapping, which is page-aligned.
        let base = unsafe { segment.as_ptr().add(offset) }.cast::<u64>();
        Some(Words { base, len, _segment: Some(segment.clone()), _not_sync: PhantomData })
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no words.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One word. Stores are allowed only where the mapping is writable.
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of {}", self.len);
        // SAFETY: in bounds, aligned, mapped for as long as self lives, and accessed by nothing but
        // atomics or copies that the compiler doesn't see; atomics may be shared with a process.
        unsafe { AtomicU64::from_ptr(self.base.add(index)) }
    }

    /// Loads one word, relaxed or acquire: as a relaxed load and a fence, because no other atomic access is
    /// guaranteed to work on a read-only mapping.
    #[inline]
    pub fn load(&self, index: usize, order: Ordering) -> u64 {
        let value = self.word(index).load(Ordering::Relaxed);
        if order != Ordering::Relaxed {
            fence(order);
        }
        value
    }

    /// Stores one word. The segment must be mapped writable.
    #[inline]
    pub fn store(&self, index: usize, value: u64, order: Ordering) {
        #[cfg(test)]
        if killed::before_this_store() {
            return;
        }
        self.word(index).store(value, order);
    }

    /// Prefetches the cache line of a word for writing.
    #[inline]
    pub fn prefetch_for_write(&self, index: usize) {
        super::copy::prefetch_for_write(self.base.wrapping_add(index).cast());
    }

    /// Copies words out, with one relaxed load each.
    #[inline]
    pub fn read(&self, start: usize, into: &mut [u64]) {
        assert!(start <= self.len && into.len() <= self.len - start);
        for (i, value) in into.iter_mut().enumerate() {
            *value = self.word(start + i).load(Ordering::Relaxed);
        }
    }

    /// Copies words in, with one relaxed store each.
    #[inline]
    pub fn write(&self, start: usize, from: &[u64]) {
        assert!(start <= self.len && from.len() <= self.len - start);
        for (i, value) in from.iter().enumerate() {
            self.store(start + i, *value, Ordering::Relaxed);
        }
    }

    /// Copies 32-bit floats out, two to a word, the first in its low half. In no order a writer could rely on.
    #[inline]
    pub fn read_f32(&self, start: usize, into: &mut [f32]) {
        self.read_lines(start, into);
    }

    /// As [`read_f32`](Self::read_f32); true if all are finite.
    #[inline]
    pub fn read_finite(&self, start: usize, into: &mut [f32]) -> bool {
        let carry = self.read_lines(start, into);
        let (lines, _) = into.as_chunks::<16>();
        let of = |value: &f32| carry_of(value.to_bits().into());
        is_finite(lines.as_flattened().iter().fold(carry, |carry, value| carry | of(value)))
    }

    /// Copies floats out: whole lines as lines, and the rest word by word, see [`write_finite`](Self::write_finite).
    /// What [`carry_of`] says of the rest.
    #[inline]
    fn read_lines(&self, start: usize, into: &mut [f32]) -> u64 {
        assert!(start <= self.len && into.len().div_ceil(2) <= self.len - start);
        let (lines, rest) = into.split_at_mut(into.len() / 16 * 16);
        // SAFETY: within the words, which have the floats' byte order, little-endian, and are mapped. The peer
        // may write meanwhile.
        unsafe {
            let from = self.base.add(start).cast::<u8>();
            super::copy::copy_out(from, lines.as_mut_ptr().cast(), size_of_val(lines));
        }
        let (mut carry, mut at) = (0, start + lines.len() / 2);
        let mut take = || {
            let word = self.word(at).load(Ordering::Relaxed);
            at += 1;
            word
        };
        let (pairs, last) = rest.as_chunks_mut::<2>();
        for pair in pairs {
            let word = take();
            *pair = [f32::from_bits(word as u32), f32::from_bits((word >> 32) as u32)];
            carry |= carry_of(word);
        }
        if let [value] = last {
            *value = f32::from_bits(take() as u32);
            carry |= carry_of(value.to_bits().into());
        }
        carry
    }

    /// Copies 32-bit floats in, two to a word, the first in its low half; true if all are finite. In no order a
    /// reader could rely on.
    #[inline]
    pub fn write_finite(&self, start: usize, from: &[f32]) -> bool {
        assert!(start <= self.len && from.len().div_ceil(2) <= self.len - start);
        // Whole lines as lines, and the rest word by word: an access of another size to a word that the peer
        // loads atomically would be a race.
        let (lines, rest) = from.split_at(from.len() / 16 * 16);
        // SAFETY: within the words, which have the floats' byte order, little-endian, and are mapped writable
        // as for `store`. The peer may read meanwhile.
        let finite = unsafe { super::copy::copy_in_finite(lines, self.base.add(start).cast()) };
        let (mut carry, mut at) = (0, start + lines.len() / 2);
        let (pairs, last) = rest.as_chunks::<2>();
        let mut put = |word| {
            self.word(at).store(word, Ordering::Relaxed);
            (carry, at) = (carry | carry_of(word), at + 1);
        };
        for [low, high] in pairs {
            put(u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32);
        }
        if let [value] = last {
            put(value.to_bits().into());
        }
        finite && is_finite(carry)
    }

    /// Two views of the same private words, as two processes would have.
    #[cfg(test)]
    pub(crate) fn private(len: usize) -> (Words, Words) {
        let base = vec![0; len].leak().as_mut_ptr();
        let words = Words { base, len, _segment: None, _not_sync: PhantomData };
        (words.alias(), words)
    }

    /// Another view of the same words.
    #[cfg(test)]
    pub(crate) fn alias(&self) -> Words {
        Words { base: self.base, len: self.len, _segment: self._segment.clone(), _not_sync: PhantomData }
    }
}

/// The sign bits of the two halves of a word, set where the half is a float that isn't finite, its exponent being all
/// ones; other bits may be set, too.
#[inline]
fn carry_of(word: u64) -> u64 {
    // No carry leaves the low half: the sign is masked out before.
    (word & 0x7f80_0000_7f80_0000) + 0x0080_0000_0080_0000
}

/// Whether none of the words whose [`carry_of`] was put together has a float that isn't finite.
#[inline]
fn is_finite(carry: u64) -> bool {
    carry & 0x8000_0000_8000_0000 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole lines and what is left of them, from any word on.
    #[test]
    fn floats_are_where_they_were_written_and_nowhere_else() {
        for start in [0, 3] {
            for count in [0, 1, 2, 15, 16, 17, 37, 64, 71] {
                let (words, peer) = Words::private(48);
                for i in 0..48 {
                    words.store(i, u64::MAX, Ordering::Relaxed);
                }
                let values: Vec<f32> = (0..count).map(|i| i as f32 + 0.5).collect();
                assert!(words.write_finite(start, &values));
                let mut read = vec![0.0; count];
                peer.read_f32(start, &mut read);
                assert_eq!(read, values);
                read.fill(0.0);
                assert!(peer.read_finite(start, &mut read));
                assert_eq!(read, values);
                let written = start..start + count.div_ceil(2);
                for i in (0..48).filter(|i| !written.contains(i)) {
                    assert_eq!(peer.load(i, Ordering::Relaxed), u64::MAX, "word {i} of {count} at {start}");
                }
                for bad in 0..count {
                    for value in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, f32::from_bits(0xff80_0001)] {
                        let mut values = values.clone();
                        values[bad] = value;
                        assert!(!words.write_finite(start, &values), "{value} at {bad} of {count}");
                        let mut read = vec![0.0; count];
                        assert!(!peer.read_finite(start, &mut read), "{value} at {bad} of {count}");
                        assert_eq!(read[bad].to_bits(), value.to_bits());
                    }
                    let mut values = values.clone();
                    (values[bad], values[0]) = (f32::MIN, f32::MAX);
                    assert!(
                        words.write_finite(start, &values) && peer.read_finite(start, &mut vec![0.0; count])
                    );
                }
            }
        }
    }
}

/// Stops a thread's writing between two stores, as a kill does.
#[cfg(test)]
pub(crate) mod killed {
    use std::cell::Cell;

    thread_local!(static LEFT: Cell<u64> = const { Cell::new(u64::MAX) });

    /// Lets this many stores of this thread through and drops the rest.
    pub(crate) fn after(stores: u64) {
        LEFT.set(stores);
    }

    /// Number of stores left.
    pub(crate) fn left() -> u64 {
        LEFT.get()
    }

    pub(super) fn before_this_store() -> bool {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        left == 0
    }
}
