//! From a product's sums to its output: bias, activation, residual, the next operand's format.

use super::gemm::Gemm;
use super::simd::{self, Dot, Simd};
use crate::device::Then;

/// The sums of a job.
#[derive(Clone, Copy)]
pub struct Sums {
    /// `[panels][rows][panel]`, as [`Dot::store`] left them.
    pub base: *const f32,
    /// Rows to a panel.
    pub rows: usize,
    /// Of a gated pair: rows from the gate's first to the up projection's.
    pub up: usize,
    /// Panels: the first, and the one after the last.
    pub panels: (usize, usize),
}

/// Finishes output columns `from..to`, whose sums are the first rows.
///
/// # Safety
/// As for [`gemm::job`](super::gemm::job); the sums have been computed.
#[inline(always)]
pub unsafe fn finish<D: Dot>(g: &Gemm<'_>, (from, to): (usize, usize), sums: Sums) {
    for panel in sums.panels.0..sums.panels.1 {
        // SAFETY: as the caller vouches; the output has the columns.
        unsafe {
            let base = sums.base.add((panel - sums.panels.0) * sums.rows * D::S::PANEL);
            for vector in 0..g.x.vectors::<D::S>(panel) {
                let lanes = g.out.lanes::<D::S>(panel, vector);
                let at = base.add(vector * D::S::LANES);
                let mut col = from;
                while col < to {
                    let at = at.add((col - from) * D::S::PANEL);
                    let up = sums.up * D::S::PANEL;
                    let lo = element::<D>(g, at, up, panel, vector, col);
                    let hi = if col + 1 < to {
                        Some(element::<D>(g, at.add(D::S::PANEL), up, panel, vector, col + 1))
                    } else {
                        None
                    };
                    g.out.store::<D::S>(panel, vector, col, lo, hi, lanes);
                    col += 2;
                }
            }
        }
    }
}

/// One column of one vector of tokens; the up projection's sums are `up` words after the gate's.
///
/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn element<D: Dot>(
    g: &Gemm<'_>,
    at: *const f32,
    up: usize,
    panel: usize,
    vector: usize,
    col: usize,
) -> <D::S as Simd>::V {
    let token = panel * D::S::PANEL + vector * D::S::LANES;
    // SAFETY: as the caller vouches.
    unsafe {
        let mut y = D::value(at, g, col, token);
        if g.matrix.gated {
            return D::S::mul(simd::gelu::<D::S>(y), D::value(at.add(up), g, g.matrix.rows + col, token));
        }
        if let Some(bias) = g.bias {
            y = D::S::add(y, D::S::splat(*bias.get_unchecked(col)));
        }
        match g.then {
            Then::Store => y,
            Then::Gelu => simd::gelu::<D::S>(y),
            Then::Silu => simd::silu::<D::S>(y),
            Then::Add => {
                let out = g.out.column(panel, col).add(vector * D::S::LANES);
                D::S::add(D::S::load(out.cast()), y)
            }
        }
    }
}
