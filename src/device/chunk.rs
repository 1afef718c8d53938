//! Chunks as a device sees them: a shape, padding, and whether they were replayed.

/// What identifies a chunk's sequence of operations: two chunks of the same shape run the very
/// same operations on the same buffers, so a device may record one and replay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkShape {
    /// Cameras present.
    pub cameras: usize,
    /// Rows of text, padding included (see [`Shapes`]).
    pub tokens: usize,
    /// Real-time chunking: the bits of the bound on the guidance weight.
    pub guidance: Option<u32>,
    /// What is computed of the prefix.
    pub fresh: Fresh,
}

/// What has changed since the previous chunk and is computed; the rest is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fresh {
    /// Images, a bit each.
    pub images: u8,
    /// Text embedding.
    pub text: bool,
    /// The prefix through the language model.
    pub prefix: bool,
}

impl Fresh {
    /// Everything, of so many cameras.
    pub fn all(cameras: usize) -> Self {
        Self { images: ((1u16 << cameras) - 1) as u8, text: true, prefix: true }
    }

    /// Whether the image of camera `camera` is.
    pub fn has(self, camera: usize) -> bool {
        self.images >> camera & 1 == 1
    }

    /// Cameras whose images are, in order.
    pub fn cameras(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&camera| self.has(camera))
    }
}

/// The few shapes in which a device computes chunks. Shorter texts are padded to one of them; no
/// token attends to padding, and it takes no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Text lengths with a shape of their own besides the longest, ascending.
    pub text_lengths: Vec<usize>,
    /// The prefix has a multiple of these rows.
    pub row_multiple: usize,
    /// How often a shape has to be run before it runs as it always will.
    pub rounds: usize,
}

/// Answer of [`Device::begin_chunk`](super::Device::begin_chunk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Issue the operations.
    Run,
    /// A recording of this shape has been replayed: the outputs are there.
    Replayed,
}
