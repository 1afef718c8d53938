//! LayerNorm and RMSNorm: a job is a panel, a lane is a token.

use super::layout::Slab;
use super::row_values::RowValues;
use super::simd::Simd;

/// Arguments of either norm; both views have as many columns as `weight`.
pub struct Norm<'a> {
    /// Rows to normalize, in a stream.
    pub x: Slab,
    /// Output, in a stream or an operand.
    pub out: Slab,
    /// Factor of each column.
    pub weight: RowValues<'a>,
    /// True if the mean is taken off (LayerNorm); else the factors are `1 + weight` (RMSNorm).
    pub centred: bool,
    /// Added last: LayerNorm's bias, an adaptive RMSNorm's shift.
    pub bias: Option<RowValues<'a>>,
    /// Added to the mean square.
    pub epsilon: f32,
}

// SAFETY: jobs write disjoint panels of `out` and only read the rest.
unsafe impl Sync for Norm<'_> {}

/// Normalises panel `panel`.
///
/// # Safety
/// The slabs have the columns and `S`'s panels, and the machine `S`'s instructions.
#[inline(always)]
pub unsafe fn job<S: Simd>(norm: &Norm<'_>, panel: usize) {
    let cols = norm.weight.rest.len();
    // SAFETY: columns and vectors of the panel are in bounds, as the caller vouches.
    unsafe {
        for vector in 0..norm.x.vectors::<S>(panel) {
            let x = norm.x.column(panel, 0).add(vector * S::LANES).cast::<f32>().cast_const();
            let at = |col: usize| x.add(col * S::NR);
            let zero = S::splat(0.0);
            let count = S::splat(cols as f32);
            let mean = match norm.centred {
                true => S::div(sum::<S>(x, cols, zero, false), count),
                false => zero,
            };
            let plus = S::splat(if norm.centred { 0.0 } else { 1.0 });
            let row = panel * S::NR + vector * S::LANES;
            let square = S::div(sum::<S>(x, cols, mean, true), count);
            let scale = S::div(S::splat(1.0), S::sqrt(S::add(square, S::splat(norm.epsilon))));
            let lanes = norm.out.lanes::<S>(panel, vector);
            let mut col = 0;
            while col < cols {
                let mut y = [zero; 2];
                let two = col + 1 < cols;
                for (i, y) in y.iter_mut().enumerate().take(1 + usize::from(two)) {
                    let col = col + i;
                    let normal = S::mul(S::sub(S::load(at(col)), mean), scale);
                    let factor = S::add(plus, norm.weight.at::<S>(row, col));
                    *y = match norm.bias {
                        Some(bias) => S::fma(normal, factor, bias.at::<S>(row, col)),
                        None => S::mul(normal, factor),
                    };
                }
                norm.out.store::<S>(panel, vector, col, y[0], two.then_some(y[1]), lanes);
                col += 2;
            }
        }
    }
}

/// The sum over columns of `x - mean`, or of its square, in four strands.
///
/// # Safety
/// As for [`job`].
#[inline(always)]
unsafe fn sum<S: Simd>(x: *const f32, cols: usize, mean: S::V, squared: bool) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [S::splat(0.0); 4];
        let mut col = 0;
        while col < cols {
            for (i, sum) in sums.iter_mut().enumerate() {
                if col + i < cols {
                    let d = S::sub(S::load(x.add((col + i) * S::NR)), mean);
                    *sum = if squared { S::fma(d, d, *sum) } else { S::add(*sum, d) };
                }
            }
            col += 4;
        }
        S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]))
    }
}
