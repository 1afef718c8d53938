//! Handles of a device's weights, buffers and caches, and rectangles of its buffers.

use std::ops::Range;

/// A matrix `[out, in]` that [`Device::linear`](super::Device::linear) and
/// [`Device::geglu`](super::Device::geglu) multiply with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub(crate) u32);

/// A vector of f32: a bias, a norm's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector(pub(crate) u32);

/// An embedding table `[vocabulary, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(pub(crate) u32);

/// An activation buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(pub(crate) u32);

/// Keys and values of one or more attention layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCache(pub(crate) u32);

/// Content of a buffer, which decides how a device stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One image per row, `3·size·size` f32 in channel, row, column order.
    Image,
    /// Token ids, one per row (`cols` is 1).
    Tokens,
    /// f32 activations: the residual stream, velocities, actions. As the input of
    /// [`Device::linear`](super::Device::linear) it asks for the product in f32.
    Stream,
    /// The input of a matrix product, in the device's compute precision.
    Operand,
}

/// A rectangle of a buffer. Unless an operation says otherwise its views start at row 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The buffer that is viewed.
    pub buffer: Buffer,
    /// Index of the first row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Index of the first column.
    pub col: usize,
    /// Number of columns.
    pub cols: usize,
}

impl View {
    /// The same rows, columns `cols` counted from this view's first.
    #[must_use]
    pub fn columns(self, cols: Range<usize>) -> View {
        debug_assert!(cols.end <= self.cols);
        View { col: self.col + cols.start, cols: cols.len(), ..self }
    }

    /// The same columns, rows `rows` counted from this view's first.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> View {
        debug_assert!(rows.end <= self.rows);
        View { row: self.row + rows.start, rows: rows.len(), ..self }
    }
}
