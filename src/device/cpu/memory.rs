//! Zeroed memory for activations, caches and scratch.

use memmap2::{Advice, MmapMut};

use crate::device::DeviceError;

const PAGE: usize = 4096;

/// Anonymous pages, zeroed, backed by huge pages where the system grants them, all present.
pub struct Memory(MmapMut);

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
        Ok(Self(map))
    }

    /// Its first word. Kernels write through it from several threads, to disjoint words.
    pub fn words(&self) -> *mut u32 {
        self.0.as_ptr().cast_mut().cast()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}
