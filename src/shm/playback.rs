//! A client's report of the chunks it plays: two words of the control segment.

use super::Words;
use super::entry::{halves, split};
use super::sync::Ordering;

/// Words of the region: one cache line.
pub(super) const PLAYBACK_WORDS: usize = 8;

/// A client's report of the rows it has played, as it was read: nothing in it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Playback {
    /// Low 32 bits of the number of the chunk being played; 0 with 0 rows: none was played.
    pub chunk: u32,
    /// Number of its rows that were begun.
    pub rows_begun: u32,
    /// Low 32 bits of the number of the chunk that `first_row` is about.
    pub first_of: u32,
    /// First row that was played of it: rows that were past when it was first played.
    pub first_row: u32,
}

/// The client's side of the report.
pub struct PlaybackWriter(Words);

/// The daemon's side of the report.
pub struct PlaybackReader(Words);

impl PlaybackWriter {
    /// A writer over the region.
    pub fn new(words: Words) -> PlaybackWriter {
        PlaybackWriter(words)
    }

    /// Reports that a chunk is played for the first time, from a row on. Real-time safe.
    #[inline]
    pub fn begin(&self, chunk: u64, first_row: u32) {
        self.0.store(1, halves(chunk as u32, first_row), Ordering::Relaxed);
        self.advance(chunk, first_row.saturating_add(1));
    }

    /// Reports how many rows of a chunk were begun. Real-time safe.
    #[inline]
    pub fn advance(&self, chunk: u64, rows_begun: u32) {
        // Release: whoever sees a chunk's rows sees the first one too.
        self.0.store(0, halves(chunk as u32, rows_begun), Ordering::Release);
    }
}

impl PlaybackReader {
    /// A reader over the region.
    pub fn new(words: Words) -> PlaybackReader {
        PlaybackReader(words)
    }

    /// Reads the report, each word once. Its two parts may be about different chunks.
    pub fn read(&self) -> Playback {
        let (chunk, rows_begun) = split(self.0.load(0, Ordering::Acquire));
        let (first_of, first_row) = split(self.0.load(1, Ordering::Relaxed));
        Playback { chunk, rows_begun, first_of, first_row }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_played_is_read() {
        let (words, peer) = Words::private(PLAYBACK_WORDS);
        let (writer, reader) = (PlaybackWriter::new(words), PlaybackReader::new(peer));
        assert_eq!(reader.read(), Playback::default());
        writer.begin(1 << 32 | 7, 3);
        let begun = Playback { chunk: 7, rows_begun: 4, first_of: 7, first_row: 3 };
        assert_eq!(reader.read(), begun);
        writer.advance(1 << 32 | 7, 9);
        assert_eq!(reader.read(), Playback { rows_begun: 9, ..begun });
    }
}
