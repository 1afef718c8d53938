//! The parts of a chunk that are computed anew.

/// Inputs that have changed since the previous chunk and are computed; the rest is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Images to compute, a bit each.
    pub images: u8,
    /// True if the text is to be embedded.
    pub text: bool,
    /// The prefix through the language model.
    pub prefix: bool,
}

impl Fresh {
    /// Nothing: the prefix is kept.
    pub const NONE: Self = Self { images: 0, text: false, prefix: false };

    /// Everything, of so many cameras.
    pub fn all(cameras: usize) -> Self {
        Self { images: ((1u16 << cameras) - 1) as u8, text: true, prefix: true }
    }

    /// True if the image of camera `camera` has changed.
    pub fn has(self, camera: usize) -> bool {
        self.images >> camera & 1 == 1
    }

    /// Cameras whose images have changed, in order.
    pub fn cameras(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&camera| self.has(camera))
    }
}
