//! Everything a device has been given, in the form its kernels use.

use super::kernels::Kernels;
use super::kv_cache::KeysValues;
use super::layout::Slab;
use super::memory::Memory;
use super::options::Precision;
use super::path::Path;
use super::row_values::RowValues;
use super::weight::Matrix;
use crate::checkpoint::Tensor;
use crate::device::error::shape;
use crate::device::inventory::{BufferShape, Checked, Inventory};
use crate::device::{DeviceError, Epilogue, Role, RowVector, Vector};

/// Weights, vectors, tables, buffers and caches, by handle, and how they are computed with.
pub struct Resources {
    /// Kernels of the path and precision.
    pub kernels: &'static Kernels,
    /// Instruction path.
    pub path: Path,
    /// Precision of matrix products.
    pub precision: Precision,
    /// Threads that share every operation.
    pub threads: usize,
    /// Shapes of the resources below.
    pub inventory: Inventory,
    /// Weight matrices.
    pub matrices: Vec<Matrix>,
    /// Biases, norms' weights and shifts, gates.
    pub vectors: Vec<Vec<f32>>,
    /// Embedding tables, mapped.
    pub tables: Vec<Tensor>,
    /// Activation buffers.
    pub buffers: Vec<Storage>,
    /// KV caches.
    pub caches: Vec<KeysValues>,
}

/// Memory of a buffer; images and tokens are row-major, the rest in panels.
pub struct Storage {
    /// Role, rows and columns of the buffer.
    pub shape: BufferShape,
    /// True if words are pairs of bf16.
    pub pairs: bool,
    /// Words of the buffer.
    pub memory: Memory,
}

impl Storage {
    /// Zeroed memory for a buffer of the kernels' layout.
    pub fn new(kernels: &Kernels, shape: BufferShape) -> Result<Self, DeviceError> {
        let pairs = shape.role == Role::Operand && kernels.pairs;
        let steps = shape.cols.div_ceil(if pairs { 2 } else { 1 });
        let words = match shape.role {
            Role::Image | Role::Tokens => shape.rows.saturating_mul(shape.cols),
            Role::Stream | Role::Operand => shape.rows.next_multiple_of(kernels.nr).saturating_mul(steps),
        };
        Ok(Self { shape, pairs, memory: Memory::new("activations", words)? })
    }
}

impl Resources {
    /// The row-major buffer of images or tokens that a view lies in.
    pub fn rows(&self, view: Checked) -> &Storage {
        &self.buffers[view.view().buffer.0 as usize]
    }

    /// The columns of a view, rows counted from the buffer's first.
    pub fn columns(&self, op: &'static str, view: Checked) -> Result<Slab, DeviceError> {
        let view = view.view();
        let s = &self.buffers[view.buffer.0 as usize];
        let nr = self.kernels.nr;
        let step = if s.pairs { 2 } else { 1 };
        let slab = Slab {
            base: s.memory.words(),
            stride: s.shape.cols.div_ceil(step) * nr,
            nr,
            pairs: s.pairs,
            rows: view.rows,
            whole: view.row + view.rows == s.shape.rows,
        };
        let end = view.col + view.cols;
        if s.pairs && (!view.col.is_multiple_of(2) || (!end.is_multiple_of(2) && end != s.shape.cols)) {
            return Err(shape(op, "operand columns in whole pairs", format!("{}..{end}", view.col)));
        }
        // SAFETY: the column is the buffer's, or the one after its last of an empty view.
        Ok(Slab { base: unsafe { slab.column(0, view.col) }, ..slab })
    }

    /// The gate of a product that is added to a stream, if it has one.
    pub fn gate(&self, epilogue: Epilogue) -> RowValues<'_> {
        match epilogue {
            Epilogue::AddGated(gate) => self.row_values(gate),
            _ => RowValues::NONE,
        }
    }

    /// The values of a vector for every row.
    pub fn row_values(&self, vector: RowVector) -> RowValues<'_> {
        let values = |vector: Vector| self.vectors[vector.0 as usize].as_slice();
        match vector {
            RowVector::Same(rest) => RowValues { rest: values(rest), ..RowValues::NONE },
            RowVector::Split { first_rows, first, rest } => {
                RowValues { first_rows, first: values(first), rest: values(rest) }
            }
        }
    }

    /// Bytes beyond the mapped checkpoint.
    pub fn bytes(&self) -> usize {
        let buffers = self.buffers.iter().map(|b| b.memory.bytes()).sum::<usize>();
        let caches = self.caches.iter().map(KeysValues::bytes).sum::<usize>();
        buffers + caches + self.vectors.iter().map(|v| v.len() * 4).sum::<usize>()
    }

    /// Format of operands where nothing is quantized.
    pub fn operands(&self) -> &'static str {
        if self.kernels.pairs { "bf16" } else { "f32" }
    }
}
