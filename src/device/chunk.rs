//! Chunks as a device sees them: a key, rows of padding, and whether they were replayed.

/// Identity of a chunk's sequence of operations: two chunks with the same key run the very same
/// operations on the same buffers, so a device may record one and replay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKey(pub u128);

/// The few lengths in which a device computes sequences. Shorter ones are padded to one of them; no
/// token attends to padding, and it takes no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Rows of the part of a sequence that varies, besides the longest, ascending.
    pub row_lengths: Vec<usize>,
    /// A whole sequence has a multiple of these rows.
    pub row_multiple: usize,
    /// How often a chunk has to be run before it runs as it always will.
    pub rounds: usize,
}

/// Answer of [`Device::begin_chunk`](super::Device::begin_chunk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Issue every operation.
    Run,
    /// A recording of this chunk has been replayed: the outputs are there.
    Replayed,
}
