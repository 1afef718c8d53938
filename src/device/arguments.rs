//! Arguments of the operations.

use super::{Table, Vector, Weight};

/// A vector for every row of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVector {
    /// The same for every row.
    Same(Vector),
    /// One for the first rows of the view, another for the rest.
    Split {
        /// How many rows have the first.
        first_rows: usize,
        /// Of the first rows.
        first: Vector,
        /// Of the others.
        rest: Vector,
    },
}

impl From<Vector> for RowVector {
    fn from(vector: Vector) -> Self {
        Self::Same(vector)
    }
}

impl RowVector {
    /// The vector of row `row`.
    pub fn of(self, row: usize) -> Vector {
        match self {
            Self::Split { first_rows, first, .. } if row < first_rows => first,
            Self::Same(vector) | Self::Split { rest: vector, .. } => vector,
        }
    }
}

/// Last step of [`Device::linear`](super::Device::linear): how `x·Wᵀ + b` gets to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Stores the product.
    Store,
    /// Store its tanh-approximated GELU.
    Gelu,
    /// Store its SiLU, `y / (1 + e^-y)`.
    Silu,
    /// Add it to the output, a [`Role::Stream`](super::Role::Stream) view.
    Add,
    /// Add it to the output, a [`Role::Stream`](super::Role::Stream) view, each column times a gate's: `out += gate ⊙ y`.
    AddGated(RowVector),
}

impl Epilogue {
    /// True if the output is a residual stream that is added to.
    pub fn adds(self) -> bool {
        matches!(self, Self::Add | Self::AddGated(_))
    }
}

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every query sees the first `n` rows of the cache.
    First(usize),
    /// Rows form blocks of `n`; a query sees the keys of its own block (one image each).
    Blocks(usize),
}

/// Arguments of [`Device::attention`](super::Device::attention).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads; the cache's heads divide them (several query heads share one key head).
    pub heads: usize,
    /// Factor on the scores, `head_dim^-½`.
    pub scale: f32,
    /// Which keys each query sees.
    pub keys: Keys,
}

/// Arguments of [`Device::patch_embed`](super::Device::patch_embed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchEmbed {
    /// Side of the square image, pixels.
    pub image_size: usize,
    /// Side of one patch, pixels.
    pub patch_size: usize,
    /// `[width, 3·patch·patch]`, input in channel, row, column order.
    pub weight: Weight,
    /// Bias of the outputs, `[width]`.
    pub bias: Vector,
    /// `[patches, width]`, added to every image's patches.
    pub position: Table,
}

/// Rotary embedding: pairs `(i, i + head_dim/2)`, angle `position · 10000^(-2i/head_dim)` in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rope {
    /// Width of one head.
    pub head_dim: usize,
    /// Position of row 0; row `r` has `position + r`.
    pub position: usize,
}

/// Factors of [`Device::blend`](super::Device::blend).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// α: share of the blended values that is taken off before they are compared with the target.
    pub alpha: f32,
    /// β: share of the difference that is taken off.
    pub beta: f32,
}
