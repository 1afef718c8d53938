//! Zeroed memory for activations, caches and scratch; and mapped files that are used like it.

use memmap2::{Advice, Mmap, MmapMut, MmapRaw};

use crate::device::DeviceError;

const PAGE: usize = 4096;

/// Anonymous pages, zeroed, backed by huge pages where the system grants them, all present; or the
/// pages of a file, read-only.
pub struct Memory {
    map: MmapRaw,
    /// Bytes before the first word.
    offset: usize,
    own: bool,
}

impl Memory {
    /// `words` 32-bit words for `what`.
    pub fn new(what: &str, words: usize) -> Result<Self, DeviceError> {
        let bytes = words.saturating_mul(4).max(4);
        let failed = |e: std::io::Error| DeviceError::Memory { what: what.into(), bytes, why: e.to_string() };
        let mut map = MmapMut::map_anon(bytes).map_err(failed)?;
        if let Err(e) = map.advise(Advice::HugePage) {
            log::debug!("{what}: no huge pages: {e}");
        }
        // A first touch while a chunk runs would be a page fault in it.
        map.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
        Ok(Self { map: map.into(), offset: 0, own: true })
    }

    /// A file from byte `offset`, a multiple of a word.
    pub fn of_file(map: Mmap, offset: usize) -> Self {
        debug_assert!(offset.is_multiple_of(4) && offset <= map.len());
        Self { map: map.into(), offset, own: false }
    }

    /// Its first word. Kernels write through it from several threads, to disjoint words; to those of
    /// a file they do not.
    pub fn words(&self) -> *mut u32 {
        self.map.as_mut_ptr().wrapping_add(self.offset).cast()
    }

    /// Bytes from the first word on.
    pub fn len(&self) -> usize {
        self.map.len() - self.offset
    }

    /// Bytes that are the device's own.
    pub fn bytes(&self) -> usize {
        if self.own { self.map.len() } else { 0 }
    }
}
