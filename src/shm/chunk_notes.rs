//! Notes on a published chunk, beside its slot: what it was computed for and what guided it.

use super::entry::{ENTRY_WORDS, halves, split};

/// Words of the notes of one chunk: one cache line.
pub(super) const NOTE_WORDS: usize = ENTRY_WORDS;

/// Notes on a published chunk. All zeros: a daemon that writes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkNotes {
    /// Number of the instruction it was computed for.
    pub prompt_id: u32,
    /// Episode it belongs to, from 0: number of resets before it.
    pub episode: u32,
    /// Number of a `Guided`: guided by the previous chunk, or why not; 0: unknown.
    pub guidance: u32,
    /// Rows of it that were reckoned to be past before it is played.
    pub delay: u32,
    /// Row from which on it was free of guidance.
    pub guidance_horizon: u32,
    /// Rows of the previous chunk that were left to guide it.
    pub left_over: u32,
    /// When the frames of its prefix were taken, the oldest of them, CLOCK_MONOTONIC, ns; 0: unknown.
    pub prefix_observed_ns: u64,
    /// Chunks since its prefix was computed; 0: it was computed for this one.
    pub prefix_age: u32,
}

impl ChunkNotes {
    /// Encodes the notes of a chunk.
    pub(super) fn to_words(self, chunk: u64) -> [u64; NOTE_WORDS] {
        [
            halves(self.prompt_id, self.episode),
            halves(self.guidance, self.delay),
            halves(self.guidance_horizon, self.left_over),
            self.prefix_observed_ns,
            halves(self.prefix_age, 0),
            0,
            0,
            chunk,
        ]
    }

    /// Decodes the notes of a chunk; None if they are another's. Nothing else is checked: every value is
    /// representable.
    pub(super) fn from_words(words: &[u64; NOTE_WORDS], chunk: u64) -> Option<ChunkNotes> {
        let [prompt, guidance, rows, prefix_observed_ns, prefix, _, _, of] = *words;
        let ((prompt_id, episode), (guidance, delay)) = (split(prompt), split(guidance));
        let ((guidance_horizon, left_over), (prefix_age, _)) = (split(rows), split(prefix));
        (of == chunk).then_some(ChunkNotes {
            prompt_id,
            episode,
            guidance,
            delay,
            guidance_horizon,
            left_over,
            prefix_observed_ns,
            prefix_age,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_and_back(words in any::<[u64; 8]>()) {
            let notes = ChunkNotes::from_words(&words, words[7]).unwrap();
            prop_assert_eq!(ChunkNotes::from_words(&notes.to_words(words[7]), words[7]), Some(notes));
            prop_assert_eq!(ChunkNotes::from_words(&words, words[7].wrapping_add(3)), None);
        }
    }
}
