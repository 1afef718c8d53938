//! Values of a column that may be others for the first rows of a view.

use super::simd::{MAX_LANES, Simd};

/// A vector of columns for every row: [`RowVector`](crate::device::RowVector) with its values.
#[derive(Clone, Copy)]
pub struct RowValues<'a> {
    /// Rows that have `first`.
    pub first_rows: usize,
    /// Of the first rows; empty if there are none.
    pub first: &'a [f32],
    /// Of the others.
    pub rest: &'a [f32],
}

/// Ones, then zeros: from `MAX_LANES - n` on, a vector whose first `n` lanes are 1.
const FIRST: [f32; 2 * MAX_LANES] = {
    let mut lanes = [0.0; 2 * MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        lanes[i] = 1.0;
        i += 1;
    }
    lanes
};

impl RowValues<'_> {
    /// No values.
    pub const NONE: Self = Self { first_rows: 0, first: &[], rest: &[] };

    /// The values of column `col` for the rows from `row` on, one a lane.
    ///
    /// # Safety
    /// The vectors have the column, and the machine `S`'s instructions.
    #[inline(always)]
    pub unsafe fn at<S: Simd>(&self, row: usize, col: usize) -> S::V {
        // SAFETY: as the caller vouches.
        let rest = unsafe { S::splat(*self.rest.get_unchecked(col)) };
        if row >= self.first_rows {
            return rest;
        }
        // SAFETY: as the caller vouches; there are first rows.
        let first = unsafe { S::splat(*self.first.get_unchecked(col)) };
        let lanes = self.first_rows - row;
        if lanes >= S::LANES {
            return first;
        }
        // SAFETY: a vector from there lies inside, as `lanes` is below `MAX_LANES`.
        unsafe {
            let mask = S::load(FIRST.as_ptr().add(MAX_LANES - lanes));
            let other = S::sub(S::splat(1.0), mask);
            // Exact: one product of the two is with 1, the other with 0.
            S::fma(first, mask, S::mul(rest, other))
        }
    }
}
