//! Products in 8-bit integers: weights with one scale a row, made at load, and operands with one
//! scale a token, made before each product. Both are symmetric: the largest magnitude is 127.

use super::layout::Slab;
use super::simd::{Dot, IntegerDot, MAX_LANES, Simd};
use super::weight::Matrix;

/// Largest magnitude of a quantized value.
const MOST: f32 = 127.0;

/// The least that the largest magnitude is taken for, so that its inverse is finite.
const LEAST: f32 = 1e-30;

/// An operand to be quantized.
pub struct Quantize {
    /// Destination of the integers.
    pub x: Slab,
    /// Number of columns.
    pub cols: usize,
    /// Words `[panel][cols / STEP][tokens]`.
    pub out: *mut u32,
    /// One a token, whole panels.
    pub scales: *mut f32,
}

// SAFETY: jobs write disjoint panels and only read the rest.
unsafe impl Sync for Quantize {}

/// Quantizes one panel of tokens.
///
/// # Safety
/// `x` has the columns and `D`'s panels, `out` and `scales` room for as many, and the machine has
/// `D`'s instructions.
#[inline(always)]
pub unsafe fn operand<D: IntegerDot>(q: &Quantize, panel: usize) {
    let width = D::S::NR;
    let stride = q.cols.div_ceil(D::STEP) * width;
    // SAFETY: the columns are the operand's, and whole vectors of tokens are its memory.
    unsafe {
        for vector in 0..q.x.vectors::<D::S>(panel) {
            let token = vector * D::S::LANES;
            let zero = D::S::splat(0.0);
            let mut most = [D::S::splat(LEAST); 2];
            // Zero, unless there is a value that is not finite.
            let mut odd = [zero; 2];
            let mut col = 0;
            while col < q.cols {
                let (lo, hi) = two::<D>(q, panel, token, col);
                for (i, x) in [lo, hi].into_iter().enumerate() {
                    most[i] = D::S::max(D::S::max(x, D::S::sub(zero, x)), most[i]);
                    odd[i] = D::S::fma(x, zero, odd[i]);
                }
                col += 2;
            }
            let scale = D::S::div(D::S::max(most[0], most[1]), D::S::splat(MOST));
            let scale = D::S::add(scale, D::S::add(odd[0], odd[1]));
            let inverse = D::S::div(D::S::splat(1.0), scale);
            D::S::store(q.scales.add(panel * width + token), scale);
            for step in 0..q.cols.div_ceil(D::STEP) {
                let mut values = [zero; 4];
                for i in (0..D::STEP).step_by(2) {
                    let col = step * D::STEP + i;
                    if col < q.cols {
                        let (lo, hi) = two::<D>(q, panel, token, col);
                        values[i] = D::S::round(D::S::mul(lo, inverse));
                        values[i + 1] = D::S::round(D::S::mul(hi, inverse));
                    }
                }
                D::store_word(q.out.add(panel * stride + step * width + token), values);
            }
        }
    }
}

/// Columns `col` (even) and `col + 1` of a vector of tokens; the one after the last is zero.
///
/// # Safety
/// As for [`operand`].
#[inline(always)]
unsafe fn two<D: IntegerDot>(
    q: &Quantize,
    panel: usize,
    token: usize,
    col: usize,
) -> (<D::S as Simd>::V, <D::S as Simd>::V) {
    // SAFETY: as the caller vouches.
    unsafe {
        let at = q.x.column(panel, col).add(token).cast_const();
        if q.x.pairs {
            return D::S::load_pairs(at);
        }
        let hi = if col + 1 < q.cols { D::S::load(at.add(D::S::NR).cast()) } else { D::S::splat(0.0) };
        (D::S::load(at.cast()), hi)
    }
}

/// Quantizes rows of a matrix; a row is a job, those of a gated pair's second matrix counted on.
pub struct Quantizer<'a> {
    /// Rows to quantize.
    pub matrix: &'a Matrix,
    /// First row, whole vectors of [`MAX_LANES`] to each.
    pub words: *mut u32,
    /// Words from one row to the next.
    pub stride: usize,
    /// One scale for each row.
    pub scales: *mut f32,
    /// One a row: the sum of its integers.
    pub sums: *mut i32,
}

// SAFETY: jobs write disjoint rows.
unsafe impl Sync for Quantizer<'_> {}

/// Quantizes one row of the matrix.
///
/// # Safety
/// The quantizer has room for every row, no other job has the same number, and the machine has
/// `D`'s instructions, whose words are f32.
#[inline(always)]
pub unsafe fn row<D: Dot>(q: &Quantizer<'_>, job: usize) {
    let (part, row) = q.matrix.row(job / q.matrix.rows, job % q.matrix.rows);
    // Whole vectors, the last with zeros; the quantized row has room for them too.
    let mut values = vec![0.0f32; q.matrix.cols.next_multiple_of(MAX_LANES)];
    let vectors = || (0..q.matrix.cols).step_by(D::S::LANES);
    // SAFETY: the part has the row; vectors lie inside `values`, and inside the job's row of
    // `rows · stride` words.
    unsafe {
        D::stage(part.at(row, 0), part.element(), q.matrix.cols, values.as_mut_ptr().cast());
        let mut most = D::S::splat(LEAST);
        for col in vectors() {
            let x = D::S::load(values.as_ptr().add(col));
            most = D::S::max(D::S::max(D::S::sub(D::S::splat(0.0), x), x), most);
        }
        let mut lanes = [0.0f32; MAX_LANES];
        D::S::store(lanes.as_mut_ptr(), most);
        let most = lanes.iter().fold(LEAST, |most, x| most.max(*x));
        let inverse = D::S::splat(MOST / most);
        let to = q.words.add(job * q.stride).cast::<i8>();
        let mut sum = D::S::splat(0.0);
        for col in vectors() {
            let y = D::S::round(D::S::mul(D::S::load(values.as_ptr().add(col)), inverse));
            sum = D::S::add(sum, y);
            D::S::store_i8(to.add(col), y);
        }
        D::S::store(lanes.as_mut_ptr(), sum);
        // Integral and less than 2²⁴, or not a number if there is such a weight.
        let sum = lanes[..D::S::LANES].iter().sum::<f32>();
        *q.scales.add(job) = if sum.is_nan() { f32::NAN } else { most / MOST };
        *q.sums.add(job) = sum as i32;
    }
}
