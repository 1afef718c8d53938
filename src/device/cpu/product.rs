//! Arguments of a matrix product.

use super::layout::Slab;
use super::row_values::RowValues;
use super::simd::Scales;
use super::weight::Matrix;
use crate::device::Epilogue;

/// `out = then(x·Wᵀ + bias)`, or the gated product.
pub struct Product<'a> {
    /// Weight matrix W.
    pub matrix: &'a Matrix,
    /// Input, as many rows as `out`.
    pub x: Slab,
    /// Output, in a stream or an operand.
    pub out: Slab,
    /// One f32 an output column.
    pub bias: Option<&'a [f32]>,
    /// Ignored for a gated pair.
    pub epilogue: Epilogue,
    /// One f32 an output column, if the epilogue is gated; else none.
    pub gate: RowValues<'a>,
    /// Factor of each token of a quantized input, else null.
    pub token_scales: *const f32,
}

// SAFETY: jobs write disjoint columns of `out` and only read the rest.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// Scales of the sums of a quantized product.
    #[inline(always)]
    pub fn scales(&self) -> Scales<'_> {
        Scales { rows: &self.matrix.scales, row_sums: &self.matrix.sums, tokens: self.token_scales }
    }
}
