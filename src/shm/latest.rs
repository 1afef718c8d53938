//! The latest chunk: a sequence lock over three slots.
//!
//! Chunk `n` (counted from 1) is written to slot `n % 3`, whose sequence is odd while it is being written; then
//! the word `latest` becomes `n`. A reader loads `latest`, copies that slot and checks its sequence again:
//! unless it was `2n` both times, it retries. The writer never touches the slot that `latest` names, so a
//! reader never waits for a writer, dead or alive; it has to retry only when three more chunks were begun while
//! it copied.

use super::Words;
use super::chunk_notes::{ChunkNotes, NOTE_WORDS};
use super::sync::{Ordering, fence};

/// Words before the actions of a slot: sequence, then [`ChunkHeader`].
const HEADER_WORDS: usize = 8;
pub(super) const SLOTS: usize = 3;
/// Attempts before a reader reports [`ReadError::Busy`]: a second retry already needs a writer that publishes
/// chunks faster than they can be copied.
const TRIES: usize = 4;

/// Header of a chunk: its origin, times and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Ticket of the submission it answers.
    pub ticket: u64,
    /// Number of the chunk, from 1.
    pub chunk: u64,
    /// When its observation was taken, CLOCK_MONOTONIC, ns.
    pub observed_ns: u64,
    /// When its observation was submitted, CLOCK_MONOTONIC, ns.
    pub submitted_ns: u64,
    /// When the daemon started to work on it, CLOCK_MONOTONIC, ns.
    pub started_ns: u64,
    /// When it was ready, CLOCK_MONOTONIC, ns.
    pub finished_ns: u64,
    /// Number of rows: one action per control step.
    pub horizon: u32,
    /// Number of columns: values per action.
    pub action_dim: u32,
    /// Notes on it, from daemons that write any.
    pub notes: ChunkNotes,
}

/// Why there is no chunk to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No chunk has been published yet.
    #[error("no chunk has been published yet")]
    Empty,
    /// Chunks are published faster than they can be copied.
    #[error("chunks are published faster than they can be read")]
    Busy,
    /// The chunk's size differs from the handshake's.
    #[error("chunk has {horizon} rows of {action_dim}, expected {} of {}", expected.0, expected.1)]
    Corrupt {
        /// Rows according to the slot.
        horizon: u32,
        /// Columns according to the slot.
        action_dim: u32,
        /// Rows and columns according to the handshake.
        expected: (u32, u32),
    },
}

/// Words of one slot for `values` values: a whole number of cache lines.
pub(super) fn slot_words(values: usize) -> usize {
    (HEADER_WORDS + values.div_ceil(2)).next_multiple_of(8)
}

/// Words of all slots for chunks of `values` values.
pub(super) fn total_words(values: usize) -> usize {
    slot_words(values) * SLOTS
}

/// First word of a chunk's notes.
fn note_base(chunk: u64) -> usize {
    (chunk % SLOTS as u64) as usize * NOTE_WORDS
}

/// The daemon's side of the latest chunk.
pub struct LatestWriter {
    latest: Words,
    slots: Words,
    notes: Option<Words>,
    values: usize,
    published: u64,
}

/// The client's side of the latest chunk.
pub struct LatestReader {
    latest: Words,
    slots: Words,
    notes: Option<Words>,
    /// Expected horizon and action dimension.
    size: (u32, u32),
    values: usize,
}

impl LatestWriter {
    /// A writer over the word `latest` and the slots, for chunks of `values` values.
    pub fn new(latest: Words, slots: Words, values: usize) -> LatestWriter {
        assert!(slots.len() >= total_words(values));
        LatestWriter { latest, slots, notes: None, values, published: 0 }
    }

    /// Writes chunks' notes too, to these words.
    pub fn with_notes(mut self, notes: Words) -> LatestWriter {
        assert!(notes.len() >= SLOTS * NOTE_WORDS);
        self.notes = Some(notes);
        self
    }

    /// Number of the chunk published last, or begun last by the previous writer; 0: none was.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Continues where another writer has ended, even in the middle of a chunk.
    pub fn resume(latest: Words, slots: Words, values: usize) -> LatestWriter {
        let mut writer = LatestWriter::new(latest, slots, values);
        let begun = (0..SLOTS)
            .map(|slot| writer.slots.load(slot * slot_words(values), Ordering::Acquire).div_ceil(2));
        writer.published = begun.max().unwrap_or(0);
        writer
    }

    /// Publishes a chunk and returns its number; None if a value is not finite. Sets `header.chunk`.
    pub fn publish(&mut self, header: ChunkHeader, actions: &[f32]) -> Option<u64> {
        assert_eq!(actions.len(), self.values);
        let chunk = self.published + 1;
        let base = self.begin(chunk);
        let words = [
            header.ticket,
            chunk,
            header.observed_ns,
            header.submitted_ns,
            header.started_ns,
            header.finished_ns,
            u64::from(header.horizon) | u64::from(header.action_dim) << 32,
        ];
        self.slots.write(base + 1, &words);
        if let Some(notes) = &self.notes {
            notes.write(note_base(chunk), &header.notes.to_words(chunk));
        }
        // One pass checks and copies. On failure the slot stays marked as being written, as the next chunk will
        // be.
        if !self.slots.write_finite(base + HEADER_WORDS, actions) {
            return None;
        }
        self.slots.store(base, chunk * 2, Ordering::Release);
        self.published = chunk;
        self.latest.store(0, chunk, Ordering::Release);
        Some(chunk)
    }

    /// Withdraws the latest chunk: there is none until the next one is published.
    pub fn clear(&mut self) {
        self.latest.store(0, 0, Ordering::Release);
    }

    /// Marks the slot of a chunk as being written; its first word.
    fn begin(&mut self, chunk: u64) -> usize {
        let base = (chunk % SLOTS as u64) as usize * slot_words(self.values);
        self.slots.store(base, chunk * 2 - 1, Ordering::Relaxed);
        // A reader that sees any of the words to come also sees the odd sequence.
        fence(Ordering::Release);
        base
    }
}

impl LatestReader {
    /// A reader over the word `latest` and the slots, for chunks of `horizon` rows of `action_dim` values.
    pub fn new(latest: Words, slots: Words, horizon: u32, action_dim: u32) -> LatestReader {
        let values = horizon as usize * action_dim as usize;
        assert!(slots.len() >= total_words(values));
        LatestReader { latest, slots, notes: None, size: (horizon, action_dim), values }
    }

    /// Reads chunks' notes too, from these words.
    pub fn with_notes(mut self, notes: Words) -> LatestReader {
        assert!(notes.len() >= SLOTS * NOTE_WORDS);
        self.notes = Some(notes);
        self
    }

    /// Number of the latest chunk; 0: there is none.
    #[inline]
    pub fn latest(&self) -> u64 {
        self.latest.load(0, Ordering::Acquire)
    }

    /// Copies the latest chunk out, in a bounded number of steps.
    ///
    /// # Errors
    /// See [`ReadError`]; `actions` may then hold anything.
    pub fn read(&self, actions: &mut [f32]) -> Result<ChunkHeader, ReadError> {
        assert_eq!(actions.len(), self.values);
        for _ in 0..TRIES {
            let chunk = self.latest();
            if chunk == 0 {
                return Err(ReadError::Empty);
            }
            let base = (chunk % SLOTS as u64) as usize * slot_words(self.values);
            let sequence = self.slots.load(base, Ordering::Acquire);
            let mut words = [0; HEADER_WORDS - 1];
            self.slots.read(base + 1, &mut words);
            self.slots.read_f32(base + HEADER_WORDS, actions);
            let mut note = [0; NOTE_WORDS];
            if let Some(notes) = &self.notes {
                notes.read(note_base(chunk), &mut note);
            }
            // The copy is complete before the sequence is loaded again.
            fence(Ordering::Acquire);
            // A newer chunk of the same slot that `latest` doesn't name yet is not accepted either: the next
            // read could find an older one.
            if sequence != chunk.wrapping_mul(2) || self.slots.load(base, Ordering::Relaxed) != sequence {
                continue;
            }
            // Zeros, or another chunk's, of a daemon that writes none.
            let notes = ChunkNotes::from_words(&note, chunk).unwrap_or_default();
            let [ticket, chunk, observed_ns, submitted_ns, started_ns, finished_ns, size] = words;
            let (horizon, action_dim) = (size as u32, (size >> 32) as u32);
            if (horizon, action_dim) != self.size {
                return Err(ReadError::Corrupt { horizon, action_dim, expected: self.size });
            }
            return Ok(ChunkHeader {
                ticket,
                chunk,
                observed_ns,
                submitted_ns,
                started_ns,
                finished_ns,
                horizon,
                action_dim,
                notes,
            });
        }
        Err(ReadError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: usize = 15;

    fn pair() -> (LatestWriter, LatestReader) {
        let (latest, peer_latest) = Words::private(1);
        let (slots, peer_slots) = Words::private(total_words(VALUES));
        (LatestWriter::new(latest, slots, VALUES), LatestReader::new(peer_latest, peer_slots, 5, 3))
    }

    fn header(ticket: u64) -> ChunkHeader {
        ChunkHeader { ticket, horizon: 5, action_dim: 3, ..ChunkHeader::default() }
    }

    #[test]
    fn the_latest_chunk_is_read_whole() {
        let (mut writer, reader) = pair();
        let mut actions = [0.0; VALUES];
        assert_eq!(reader.read(&mut actions), Err(ReadError::Empty));
        for n in 1..10u64 {
            let number = writer.publish(header(n + 100), &[n as f32; VALUES]).unwrap();
            let got = reader.read(&mut actions).unwrap();
            assert_eq!((got.ticket, got.chunk, number), (n + 100, n, n));
            assert_eq!(actions, [n as f32; VALUES]);
        }
    }

    #[test]
    fn notes_come_with_their_chunk_and_with_no_other() {
        let (writer, reader) = pair();
        let (notes, peer_notes) = Words::private(SLOTS * NOTE_WORDS);
        let (mut writer, reader) = (writer.with_notes(notes.alias()), reader.with_notes(peer_notes));
        let mut actions = [0.0; VALUES];
        for n in 1..6 {
            let notes = ChunkNotes { prompt_id: n, guidance: 1, left_over: n * 2, ..ChunkNotes::default() };
            writer.publish(ChunkHeader { notes, ..header(1) }, &[0.0; VALUES]).unwrap();
            assert_eq!(reader.read(&mut actions).unwrap().notes, notes);
        }
        // A daemon that writes none goes on: what lies there is of three chunks before.
        writer.notes = None;
        writer.publish(header(1), &[0.0; VALUES]).unwrap();
        assert_eq!(reader.read(&mut actions).unwrap().notes, ChunkNotes::default());
    }

    #[test]
    fn a_writer_that_died_in_the_middle_leaves_the_previous_chunk() {
        let (mut writer, reader) = pair();
        writer.publish(header(1), &[1.0; VALUES]).unwrap();
        let base = writer.begin(2);
        writer.slots.write(base + 1, &[u64::MAX; 10]);
        drop(writer);
        let mut actions = [0.0; VALUES];
        assert_eq!(reader.read(&mut actions).unwrap().chunk, 1);
        assert_eq!(actions, [1.0; VALUES]);
    }

    #[test]
    fn the_next_writer_goes_on_with_the_next_number() {
        for published in 0..2 * SLOTS as u64 {
            let (latest, peer_latest) = Words::private(1);
            let (slots, peer_slots) = Words::private(total_words(VALUES));
            let reader = LatestReader::new(peer_latest, peer_slots, 5, 3);
            let mut writer = LatestWriter::new(latest.alias(), slots.alias(), VALUES);
            for n in 1..=published {
                writer.publish(header(n), &[n as f32; VALUES]).unwrap();
            }
            // Also one that was begun counts.
            writer.begin(published + 1);
            let mut next = LatestWriter::resume(latest, slots, VALUES);
            assert_eq!(next.publish(header(99), &[9.0; VALUES]), Some(published + 2));
            let mut actions = [0.0; VALUES];
            assert_eq!(reader.read(&mut actions).unwrap().ticket, 99);
        }
    }

    #[test]
    fn a_chunk_that_is_not_finite_leaves_the_previous_one() {
        let (mut writer, reader) = pair();
        writer.publish(header(1), &[1.0; VALUES]).unwrap();
        for index in 0..VALUES {
            let mut values = [2.0; VALUES];
            values[index] = f32::NAN;
            assert_eq!(writer.publish(header(2), &values), None);
            let mut actions = [0.0; VALUES];
            assert_eq!((reader.read(&mut actions).unwrap().chunk, actions), (1, [1.0; VALUES]));
        }
        assert_eq!(writer.publish(header(3), &[3.0; VALUES]), Some(2));
    }

    /// As many values in rows of another length would be read across their ends.
    #[test]
    fn a_chunk_of_another_shape_is_an_error() {
        let (mut writer, reader) = pair();
        writer.publish(ChunkHeader { horizon: 15, action_dim: 1, ..header(1) }, &[1.0; VALUES]).unwrap();
        let error = reader.read(&mut [0.0; VALUES]).unwrap_err();
        assert_eq!(error.to_string(), "chunk has 15 rows of 1, expected 5 of 3");
    }

    #[test]
    fn a_reader_never_sees_half_a_chunk() {
        let (notes, peer_notes) = Words::private(SLOTS * NOTE_WORDS);
        let (writer, reader) = pair();
        let (mut writer, reader) = (writer.with_notes(notes), reader.with_notes(peer_notes));
        let thread = std::thread::spawn(move || {
            for n in 1..=50_000u64 {
                let notes =
                    ChunkNotes { prompt_id: n as u32, prefix_observed_ns: n, ..ChunkNotes::default() };
                writer.publish(ChunkHeader { notes, ..header(n) }, &[n as f32; VALUES]).unwrap();
            }
        });
        let (mut actions, mut last) = ([0.0; VALUES], 0);
        while last < 50_000 {
            match reader.read(&mut actions) {
                Ok(got) => {
                    assert!(got.chunk >= last && got.ticket == got.chunk);
                    assert_eq!(actions, [got.chunk as f32; VALUES]);
                    let notes = got.notes;
                    assert_eq!((notes.prompt_id, notes.prefix_observed_ns), (got.chunk as u32, got.chunk));
                    last = got.chunk;
                }
                Err(ReadError::Empty | ReadError::Busy) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        thread.join().unwrap();
    }
}
