//! Weight matrices: rows of mapped tensors, used where they lie or converted a block at a time.

use crate::checkpoint::{Dtype, Tensor};

use super::simd::{Dot, MAX_LANES, Simd};

/// Rows of one tensor, or of some of its columns.
pub struct Part {
    tensor: Tensor,
    /// Bytes from the tensor's first to the part's.
    offset: usize,
    /// Bytes from one row to the next.
    stride: usize,
    /// Rows.
    pub rows: usize,
}

impl Part {
    /// Columns from `col` of all of the tensor's rows.
    pub fn new(tensor: &Tensor, col: usize) -> Self {
        let size = tensor.dtype().size();
        Self { offset: col * size, stride: tensor.cols() * size, rows: tensor.rows(), tensor: tensor.clone() }
    }

    /// Row `row` from element `col`, at any alignment.
    pub fn at(&self, row: usize, col: usize) -> *const u8 {
        debug_assert!(row < self.rows);
        let at = self.offset + row * self.stride + col * self.tensor.dtype().size();
        self.tensor.bytes()[at..].as_ptr()
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Words from one row to the next if a product of `D` with `cols` columns can read the rows
    /// where they lie.
    pub fn direct<D: Dot>(&self, cols: usize) -> Option<usize> {
        let stored = if D::PAIRS { Dtype::Bf16 } else { Dtype::F32 };
        (self.tensor.dtype() == stored && cols.is_multiple_of(D::STEP) && self.stride.is_multiple_of(4))
            .then_some(self.stride / 4)
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.tensor.dtype()
    }
}

/// What [`Device::linear`](crate::device::Device::linear) multiplies with.
pub struct Matrix {
    /// Outputs; the hidden width of a gated pair.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// In order of their rows; of a gated pair the gate and the up projection.
    pub parts: Vec<Part>,
    /// Whether `parts` are a gated pair.
    pub gated: bool,
}

/// Converts `count` elements at `src` to words of `D`, an odd pair's second half zero.
///
/// # Safety
/// `count` elements of a floating `dtype` are readable at `src`, `count.div_ceil(D::STEP)` words
/// writable at `dst`, and the machine has `D`'s instructions.
#[inline(always)]
pub unsafe fn convert<D: Dot>(src: *const u8, dtype: Dtype, count: usize, dst: *mut u32) {
    let lanes = D::S::LANES;
    let size = dtype.size();
    let out = if D::PAIRS { 2 } else { 4 };
    let dst = dst.cast::<u8>();
    let whole = count - count % lanes;
    let mut i = 0;
    // SAFETY: the vectors up to `whole` lie inside both; the rest goes through arrays as large as
    // the widest vector.
    unsafe {
        while i < whole {
            vector::<D>(src.add(i * size), dtype, dst.add(i * out));
            i += lanes;
        }
        let rest = count - whole;
        if rest > 0 {
            let mut from = [0u32; MAX_LANES];
            let mut to = [0u32; MAX_LANES];
            std::ptr::copy_nonoverlapping(src.add(whole * size), from.as_mut_ptr().cast(), rest * size);
            vector::<D>(from.as_ptr().cast(), dtype, to.as_mut_ptr().cast());
            let bytes = rest.next_multiple_of(D::STEP) * out;
            std::ptr::copy_nonoverlapping(to.as_ptr().cast(), dst.add(whole * out), bytes);
        }
    }
}

/// # Safety
/// `LANES` elements are readable at `src` and writable in `D`'s format at `dst`.
#[inline(always)]
unsafe fn vector<D: Dot>(src: *const u8, dtype: Dtype, dst: *mut u8) {
    // SAFETY: as the caller vouches.
    unsafe {
        let v = match dtype {
            Dtype::F32 => D::S::load(src.cast()),
            Dtype::F16 => D::S::load_f16(src),
            _ => D::S::load_bf16(src),
        };
        if D::PAIRS { D::S::store_bf16(dst, v) } else { D::S::store(dst.cast(), v) }
    }
}
