//! Everything a model asks of a device, written down: for devices that can tell beforehand what they can hold.

use super::inventory::{BufferShape, CacheShape};
use super::{Epilogue, HeadSide, Op};
use crate::checkpoint::Part;

/// A matrix a model multiplies with, `[rows, cols]`.
#[derive(Clone, Debug)]
pub struct MatrixDemand {
    /// Set of weights that it is of.
    pub part: Part,
    /// Side that runs over heads, and their width.
    pub heads: Option<(HeadSide, usize)>,
    /// Rows, the outputs.
    pub rows: usize,
    /// Columns, the inputs.
    pub cols: usize,
}

/// An embedding table, `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct TableDemand {
    /// Set of weights that it is of.
    pub part: Part,
    /// Rows that are looked up, or added.
    pub rows: usize,
    /// Columns of the table.
    pub cols: usize,
}

/// The sizes an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `rows` tokens times a matrix, in f32 if the input is a stream; `out` columns are written.
    Product {
        /// Index of the matrix.
        matrix: usize,
        /// Number of tokens.
        rows: usize,
        /// Number of columns written.
        out: usize,
        /// True if the input is a stream.
        f32: bool,
    },
    /// Attention to a cache, in blocks of queries.
    Attend {
        /// Index of the cache.
        cache: usize,
        /// Number of queries.
        rows: usize,
        /// Number of query heads.
        heads: usize,
        /// Number of queries in a block.
        block: usize,
        /// Rows of the cache that each sees.
        keys: usize,
    },
    /// Element by element, in f32.
    Elements {
        /// Number of tokens.
        rows: usize,
        /// Number of columns read.
        read: usize,
        /// Number of columns written.
        written: usize,
    },
}

/// One operation of a model, with its sizes.
#[derive(Clone, Copy, Debug)]
pub struct OpDemand {
    /// The operation's name.
    pub op: Op,
    /// Last step of a linear product.
    pub epilogue: Option<Epilogue>,
    /// Sizes of its arguments.
    pub work: Work,
    /// Set of weights that it is counted with.
    pub part: Part,
}

/// Everything a model creates on a device, and the operations of one chunk.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// The chunk's operations, in their order.
    pub ops: Vec<OpDemand>,
    /// Matrices, of a gated pair both as one.
    pub matrices: Vec<MatrixDemand>,
    /// Length of every vector.
    pub vectors: Vec<usize>,
    /// Token and position embeddings.
    pub tables: Vec<TableDemand>,
    /// Shapes of activation buffers.
    pub buffers: Vec<BufferShape>,
    /// Shapes of KV caches.
    pub caches: Vec<CacheShape>,
}
