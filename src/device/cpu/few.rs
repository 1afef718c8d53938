//! Products of few tokens: panels of weight rows times broadcast tokens.
//!
//! With fifty tokens a panel of tokens is mostly full or mostly empty, and every weight is used so
//! seldom that reading rows side by side is what takes the time. So here the operands swap places:
//! rows of weights are the lanes, packed at load into panels that are read from end to end once,
//! and tokens are broadcast from their panel. A job is a panel of outputs; its sums are turned back
//! before the [`epilogue`].

use super::epilogue::{self, Sums};
use super::gemm::Gemm;
use super::prepare::Pack;
use super::simd::{Dot, Simd, VECTORS};
use super::tile::{Rows, Tile};
use super::weight::{Element, Matrix, Panels};

/// The most tokens that count as few.
pub const FEW: usize = 96;

/// Words of the inner dimension at a time: the block of weights and that of a panel of tokens share
/// a first-level cache.
const STEPS: usize = 128;

/// Words of scratch a job needs: sums, turned sums, converted weights.
pub const fn scratch<D: Dot>() -> usize {
    tokens::<D>() * 3 * D::S::PANEL + STEPS * D::S::PANEL
}

const fn tokens<D: Dot>() -> usize {
    FEW.next_multiple_of(D::S::PANEL)
}

/// Runs job `job`.
///
/// # Safety
/// As for [`gemm::job`](super::gemm::job), with at most [`FEW`] rows and as many words of scratch
/// as [`scratch`] says; `panels` are the matrix's, packed for `D`.
#[inline(always)]
pub unsafe fn job<D: Dot>(g: &Gemm<'_>, panels: &Panels, job: usize, scratch: *mut f32) {
    let width = D::S::PANEL;
    let (from, to) = (job * width, ((job + 1) * width).min(g.matrix.rows));
    let sections = g.matrix.sections();
    let rows = sections * width;
    let token_panels = g.x.panels();
    // SAFETY: as the caller vouches; every panel of weights is whole.
    unsafe {
        let turned = scratch.add(tokens::<D>() * 2 * width);
        let staged = turned.add(tokens::<D>() * width).cast::<u32>();
        for section in 0..sections {
            let steps = g.matrix.cols.div_ceil(D::STEP);
            let mut step = 0;
            while step < steps {
                let count = STEPS.min(steps - step);
                let weights = words::<D>(panels, (section, job), step, count, staged);
                let ahead = panels.at::<D>(section, job).cast::<u8>();
                let ahead = ahead.wrapping_add((step + count) * D::STEP / panels.step() * width * 4);
                let lines = count * D::STEP / panels.step() * width / 16;
                let mut token = 0;
                while token < g.x.rows {
                    let left = (g.x.rows - token).min(width - token % width);
                    let rows = D::ROWS[VECTORS - 1].min(left);
                    for line in lines * token / g.x.rows..lines * (token + rows) / g.x.rows {
                        D::S::prefetch(ahead.wrapping_add(line * 64));
                    }
                    let x = g.x.base.add(token / width * g.x.stride + step * width + token % width);
                    D::tile(&Tile {
                        vectors: VECTORS,
                        rows,
                        w: Rows::Across(x),
                        x: weights,
                        steps: count,
                        sums: turned.add(token * width),
                        add: step > 0,
                    });
                    token += rows;
                }
                step += count;
            }
            for panel in 0..token_panels {
                for vector in 0..g.x.vectors::<D::S>(panel) {
                    for lane in (0..width).step_by(D::S::LANES) {
                        let token = panel * width + vector * D::S::LANES;
                        let row = panel * rows + section * width + lane;
                        D::S::transpose(
                            turned.add(token * width + lane),
                            scratch.add(row * width + vector * D::S::LANES),
                            width,
                        );
                    }
                }
            }
        }
        let sums = Sums { base: scratch, rows, up: width, panels: (0, token_panels) };
        epilogue::finish::<D>(g, (from, to), sums);
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
    let width = D::S::PANEL;
    // SAFETY: the panel has the block's words, `staged` room for them and one more.
    unsafe {
        let at = panels.at::<D>(section, panel);
        if panels.element == D::ELEMENT {
            return at.add(step * width);
        }
        // Blocks start at even steps, and a stored word is two of `D`'s.
        let at = at.add(step / 2 * width);
        for i in 0..count.div_ceil(2) {
            for lane in (0..width).step_by(D::S::LANES) {
                let to = staged.add(2 * i * width + lane);
                D::unpack(at.add(i * width + lane), to, to.add(width));
            }
        }
        staged
    }
}

/// What panels of a matrix consist of: pairs stay pairs, and the rest is what `D` computes with.
pub fn element<D: Dot>(matrix: &Matrix) -> Element {
    let all = |element| matrix.parts.iter().all(|p| p.element() == element);
    if all(Element::I8) {
        Element::I8
    } else if D::PAIRS || all(Element::Bf16) {
        Element::Bf16
    } else {
        Element::F32
    }
}

/// Packs panel `panel` of section `section`, which is number `place` of all.
///
/// # Safety
/// The panel is the matrix's, `pack` has room for all, zeroed, nobody else packs the same meanwhile,
/// and the machine has `D`'s instructions.
#[inline(always)]
pub unsafe fn pack<D: Dot>(pack: &Pack<'_>, section: usize, panel: usize, place: usize) {
    let width = D::S::PANEL;
    let matrix = pack.matrix;
    let mut row = vec![0u32; pack.steps];
    for lane in 0..width.min(matrix.rows - panel * width) {
        let (part, i) = matrix.row(section, panel * width + lane);
        // SAFETY: a row has `cols` elements, of integers whole words; the panel has every word.
        unsafe {
            let to = pack.words.add(place * pack.steps * width);
            if part.element() == pack.element {
                let bytes = matrix.cols * part.element().size();
                std::ptr::copy_nonoverlapping(part.at(i, 0), row.as_mut_ptr().cast(), bytes);
            } else {
                D::stage(part.at(i, 0), part.element(), matrix.cols, row.as_mut_ptr());
            }
            for (step, word) in row.iter().enumerate() {
                *to.add(step * width + lane) = *word;
            }
        }
    }
}
