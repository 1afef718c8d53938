//! Skinny products, of few tokens: panels of weight rows times broadcast tokens.
//!
//! With fifty tokens a panel of tokens is mostly full or mostly empty, and every weight is used so
//! seldom that reading rows side by side is what takes the time. So here the operands swap places:
//! rows of weights are the lanes, packed at load into panels that are read from end to end once,
//! and tokens are broadcast from their panel. A job is a panel of outputs; its sums are turned back
//! before the [`epilogue`].

use super::epilogue::{self, Sums};
use super::product::Product;
use super::simd::{Dot, Rows, Simd, Tile, VECTORS};
use super::weight::Panels;

/// The most tokens that count as few.
pub const MAX_TOKENS: usize = 96;

/// Words of the inner dimension at a time: the block of weights and that of a panel of tokens share
/// a first-level cache.
const KC: usize = 128;

/// Words of scratch a job needs: sums, turned sums, converted weights.
pub const fn scratch<D: Dot>() -> usize {
    tokens::<D>() * 3 * D::S::NR + KC * D::S::NR
}

const fn tokens<D: Dot>() -> usize {
    MAX_TOKENS.next_multiple_of(D::S::NR)
}

/// Computes one job's output columns of a product with few tokens.
///
/// # Safety
/// As for [`gemm::job`](super::gemm::job), with at most [`MAX_TOKENS`] rows and as many words of scratch
/// as [`scratch`] says; `panels` are the matrix's, packed for `D`.
#[inline(always)]
pub unsafe fn job<D: Dot>(p: &Product<'_>, panels: &Panels, job: usize, scratch: *mut f32) {
    let nr = D::S::NR;
    let (from, to) = (job * nr, ((job + 1) * nr).min(p.matrix.rows));
    let sections = p.matrix.sections();
    let rows = sections * nr;
    let token_panels = p.x.panels();
    // SAFETY: as the caller vouches; every panel of weights is whole.
    unsafe {
        let turned = scratch.add(tokens::<D>() * 2 * nr);
        let staged = turned.add(tokens::<D>() * nr).cast::<u32>();
        for section in 0..sections {
            let steps = p.matrix.cols.div_ceil(D::STEP);
            let mut step = 0;
            while step < steps {
                let count = KC.min(steps - step);
                let weights = words::<D>(panels, (section, job), step, count, staged);
                let ahead = panels.at::<D>(section, job).cast::<u8>();
                let ahead = ahead.wrapping_add((step + count) * D::STEP / panels.step() * nr * 4);
                let lines = count * D::STEP / panels.step() * nr / 16;
                let mut token = 0;
                while token < p.x.rows {
                    let left = (p.x.rows - token).min(nr - token % nr);
                    let rows = D::MR[VECTORS - 1].min(left);
                    for line in lines * token / p.x.rows..lines * (token + rows) / p.x.rows {
                        D::S::prefetch(ahead.wrapping_add(line * 64));
                    }
                    let x = p.x.base.add(token / nr * p.x.stride + step * nr + token % nr);
                    D::tile(&Tile {
                        vectors: VECTORS,
                        rows,
                        w: Rows::Across(x),
                        x: weights,
                        steps: count,
                        sums: turned.add(token * nr),
                        add: step > 0,
                    });
                    token += rows;
                }
                step += count;
            }
            for panel in 0..token_panels {
                for vector in 0..p.x.vectors::<D::S>(panel) {
                    for lane in (0..nr).step_by(D::S::LANES) {
                        let token = panel * nr + vector * D::S::LANES;
                        let row = panel * rows + section * nr + lane;
                        D::S::transpose(
                            turned.add(token * nr + lane),
                            scratch.add(row * nr + vector * D::S::LANES),
                            nr,
                        );
                    }
                }
            }
        }
        let sums = Sums { base: scratch, rows, up: nr, panels: (0, token_panels) };
        epilogue::finish::<D>(p, (from, to), sums);
    }
}

/// A block of a panel in words of `D`, where it lies or unpacked into `staged`.
///
/// # Safety
/// As for [`job`].
#[inline(always)]
unsafe fn words<D: Dot>(
    panels: &Panels,
    (section, panel): (usize, usize),
    step: usize,
    count: usize,
    staged: *mut u32,
) -> *const u32 {
    let nr = D::S::NR;
    // SAFETY: the panel has the block's words, `staged` room for them and one more.
    unsafe {
        let at = panels.at::<D>(section, panel);
        if panels.element == D::ELEMENT {
            return at.add(step * nr);
        }
        // Blocks start at even steps, and a stored word is two of `D`'s.
        let at = at.add(step / 2 * nr);
        for i in 0..count.div_ceil(2) {
            for lane in (0..nr).step_by(D::S::LANES) {
                let to = staged.add(2 * i * nr + lane);
                D::unpack(at.add(i * nr + lane), to, to.add(nr));
            }
        }
        staged
    }
}
