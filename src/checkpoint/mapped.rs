//! A weight file mapped into memory.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::time::SystemTime;

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::error::CheckpointError;

/// A mapped file with its modification time.
pub struct Mapped {
    map: Mmap,
    modified: Option<SystemTime>,
}

impl Mapped {
    /// Maps the file at `path` read-only.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let kind = std::fs::metadata(path).map_err(|e| CheckpointError::open(path, e))?;
        // Opening a pipe would wait for its writer.
        if !kind.is_file() {
            return Err(CheckpointError::file(path, "not a file, expected safetensors"));
        }
        if kind.len() == 0 {
            return Err(CheckpointError::file(path, "the file is empty, expected safetensors"));
        }
        let file = File::open(path).map_err(|e| CheckpointError::io(path, "open", e))?;
        // SAFETY: the map is read-only. Nothing can enforce that no one truncates or rewrites the file while it
        // is mapped: checkpoints are replaced by rename, and the documentation of `SafeTensors` says so.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| CheckpointError::io(path, "map", e))?;
        let modified = file.metadata().and_then(|kind| kind.modified()).ok();
        Ok(Self::new(map, modified))
    }

    /// Wraps a map of a file last modified at `modified`, if known.
    pub(crate) fn new(map: Mmap, modified: Option<SystemTime>) -> Self {
        Self { map, modified }
    }

    /// Modification time of the file when it was mapped, if known.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Advises the system on the use of `len` bytes from `start` on.
    pub(super) fn advise(&self, advice: Advice, start: usize, len: usize) -> std::io::Result<()> {
        self.map.advise_range(advice, start, len)
    }

    /// Gives the memory of a range of a file's map back to the system. Memory without a file behind it is kept.
    pub(super) fn release(&self, range: Range<usize>) {
        if self.modified.is_none() {
            return;
        }
        // SAFETY: the map is read-only and a file's, which it is read from again: no value changes.
        let released =
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        // Memory that is not given back does no harm.
        drop(released);
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
