//! From a product's sums to its output: bias, activation, residual, the next operand's format.

use super::product::Product;
use super::simd::{self, Dot, Scales, Simd};
use crate::device::Epilogue;

/// Sums of one job, before the epilogue.
#[derive(Clone, Copy)]
pub struct Sums {
    /// `[panels][rows][panel]`, as [`Dot::store`] left them.
    pub base: *const f32,
    /// Rows in a panel.
    pub rows: usize,
    /// Of a gated pair: rows from the gate's first to the up projection's.
    pub up: usize,
    /// Panels: the first, and the one after the last.
    pub panels: (usize, usize),
}

/// Finishes output columns `from..to`, whose sums are the first rows.
///
/// # Safety
/// The slabs have the matrix's columns and `D`'s format and panels, a gate too if there is one, the sums have been
/// computed, and the machine has `D`'s instructions.
#[inline(always)]
pub unsafe fn finish<D: Dot>(p: &Product<'_>, (from, to): (usize, usize), sums: Sums) {
    let scales = &p.scales();
    for panel in sums.panels.0..sums.panels.1 {
        // SAFETY: as the caller vouches; the output has the columns.
        unsafe {
            let base = sums.base.add((panel - sums.panels.0) * sums.rows * D::S::NR);
            for vector in 0..p.x.vectors::<D::S>(panel) {
                let lanes = p.out.lanes::<D::S>(panel, vector);
                let at = base.add(vector * D::S::LANES);
                let mut col = from;
                while col < to {
                    let at = at.add((col - from) * D::S::NR);
                    let up = sums.up * D::S::NR;
                    let lo = element::<D>(p, scales, at, up, panel, vector, col);
                    let hi = if col + 1 < to {
                        Some(element::<D>(p, scales, at.add(D::S::NR), up, panel, vector, col + 1))
                    } else {
                        None
                    };
                    p.out.store::<D::S>(panel, vector, col, lo, hi, lanes);
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
    p: &Product<'_>,
    scales: &Scales<'_>,
    at: *const f32,
    up: usize,
    panel: usize,
    vector: usize,
    col: usize,
) -> <D::S as Simd>::V {
    let token = panel * D::S::NR + vector * D::S::LANES;
    // SAFETY: as the caller vouches.
    unsafe {
        let mut y = D::value(at, scales, col, token);
        if p.matrix.gated {
            return D::S::mul(
                simd::gelu::<D::S>(y),
                D::value(at.add(up), scales, p.matrix.rows + col, token),
            );
        }
        if let Some(bias) = p.bias {
            y = D::S::add(y, D::S::splat(*bias.get_unchecked(col)));
        }
        match p.epilogue {
            Epilogue::Store => y,
            Epilogue::Gelu => simd::gelu::<D::S>(y),
            Epilogue::Silu => simd::silu::<D::S>(y),
            Epilogue::Add => {
                let out = p.out.column(panel, col).add(vector * D::S::LANES);
                D::S::add(D::S::load(out.cast()), y)
            }
            Epilogue::AddGated(_) => {
                let out = p.out.column(panel, col).add(vector * D::S::LANES);
                D::S::fma(p.gate.at::<D::S>(token, col), y, D::S::load(out.cast()))
            }
        }
    }
}
