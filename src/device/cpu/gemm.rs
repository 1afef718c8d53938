//! Matrix products: rows of weights, broadcast, times panels of tokens.
//!
//! A job is a block of output columns (rows of the weight matrix) for all tokens. Its sums build up
//! in the thread's scratch over blocks of the inner dimension; the [`epilogue`] takes them to the
//! output, which has the layout the next product reads. Products of few tokens are in [`skinny`](super::skinny).

use super::epilogue::{self, Sums};
use super::layout::Slab;
use super::product::Product;
use super::simd::{Dot, Rows, Simd, Tile, VECTORS};
use super::weight::{Matrix, Part};

/// Words from one converted row to the next are more than a block, so that rows do not all start
/// in the same cache set.
const PAD: usize = 16;

/// Words of scratch a job needs: sums, then converted weights.
pub const fn scratch<D: Dot>() -> usize {
    sums::<D>() + D::BLOCKING.mc * (D::BLOCKING.kc + PAD)
}

const fn sums<D: Dot>() -> usize {
    D::BLOCKING.panels * D::BLOCKING.mc * D::S::NR
}

/// Output columns of a job: even, so that no two jobs share a pair, and fewer when there would be
/// few jobs.
fn columns<D: Dot>(matrix: &Matrix) -> usize {
    let most = D::BLOCKING.mc / if matrix.gated { 2 } else { 1 };
    // Tiles of 2, 3, 6, 8 and 12 rows divide it.
    const TILES: usize = 24;
    (matrix.rows / 24).next_multiple_of(TILES).clamp(TILES, most)
}

/// Number of jobs of a product.
pub fn jobs<D: Dot>(p: &Product<'_>) -> usize {
    if p.x.rows == 0 { 0 } else { p.matrix.rows.div_ceil(columns::<D>(p.matrix)) }
}

/// Computes one job's output columns of a product.
///
/// # Safety
/// The slabs have the matrix's columns and `D`'s format and panels, `scratch` as many words as
/// [`scratch`] says, and the machine `D`'s instructions.
#[inline(always)]
pub unsafe fn job<D: Dot>(p: &Product<'_>, job: usize, scratch: *mut f32) {
    let blocking = D::BLOCKING;
    let columns = columns::<D>(p.matrix);
    let (from, to) = (job * columns, ((job + 1) * columns).min(p.matrix.rows));
    // Of a gated pair the gate's sums come first, then those of the up projection.
    let rows = if p.matrix.gated { 2 * (to - from) } else { to - from };
    let panels = p.x.panels();
    let groups = panels.div_ceil(blocking.panels);
    let steps = p.matrix.cols.div_ceil(D::STEP);
    // SAFETY: as the caller vouches; `sweep`'s rows and panels lie in the job's.
    unsafe {
        let staged = scratch.add(sums::<D>()).cast::<u32>();
        for group in 0..groups {
            let panels = (panels * group / groups, panels * (group + 1) / groups);
            let mut step = 0;
            while step < steps {
                let count = blocking.kc.min(steps - step);
                let mut base = 0;
                for (i, part) in p.matrix.parts.iter().enumerate() {
                    let start = if p.matrix.gated { 0 } else { base };
                    base += part.rows;
                    let (first, last) = (from.max(start), to.min(start + part.rows));
                    if first >= last {
                        continue;
                    }
                    let row = first - from + if i == 1 && p.matrix.gated { to - from } else { 0 };
                    let (w, ldw) = weights::<D>(p, part, first - start, last - first, step, count, staged);
                    let sweep = Sweep {
                        w,
                        ldw,
                        rows: last - first,
                        ahead: Ahead::new::<D>(p, part, first - start, columns, step, count),
                        x: p.x,
                        step,
                        steps: count,
                        panels,
                        sums: scratch.add(row * D::S::NR),
                        stride: rows * D::S::NR,
                    };
                    sweep.run::<D>();
                }
                step += count;
            }
            epilogue::finish::<D>(p, (from, to), Sums { base: scratch, rows, up: to - from, panels });
        }
    }
}

/// Rows of a part as words of `D`, where they lie or converted into `staged`, and their distance.
///
/// # Safety
/// As for [`job`].
#[inline(always)]
unsafe fn weights<D: Dot>(
    p: &Product<'_>,
    part: &Part,
    row: usize,
    rows: usize,
    step: usize,
    steps: usize,
    staged: *mut u32,
) -> (*const u32, usize) {
    let col = step * D::STEP;
    if let Some(stride) = part.direct::<D>(p.matrix.cols) {
        return (part.at(row, col).cast(), stride);
    }
    let stride = D::BLOCKING.kc + PAD;
    let count = (steps * D::STEP).min(p.matrix.cols - col);
    for i in 0..rows {
        // SAFETY: the part has the row and the elements, `staged` room for a block.
        unsafe { D::stage(part.at(row + i, col), part.element(), count, staged.add(i * stride)) };
    }
    (staged, stride)
}

/// Weights that will be needed soon, to be asked for a few lines with every tile: those of the next
/// tile's rows if rows are the outer loop, else the rows' next block.
struct Ahead {
    row: *const u8,
    stride: usize,
    lines: usize,
}

impl Ahead {
    fn new<D: Dot>(
        p: &Product<'_>,
        part: &Part,
        row: usize,
        columns: usize,
        step: usize,
        steps: usize,
    ) -> Self {
        let size = part.element().size();
        let block = steps * D::STEP;
        let next = (step + steps) * D::STEP;
        let (rows, col, count) = if D::BLOCKING.panels_inner {
            (D::MR[VECTORS - 1], step * D::STEP, block)
        } else if next < p.matrix.cols {
            (0, next, block.min(p.matrix.cols - next))
        } else {
            // The next job's first block.
            (columns, 0, (D::BLOCKING.kc * D::STEP).min(p.matrix.cols))
        };
        // Past the last row it may be any address, and is only asked for.
        let row = part.at(row, 0).wrapping_add(rows * part.stride() + col * size);
        Self { row, stride: part.stride(), lines: (count * size).div_ceil(64) }
    }
}

/// A block of rows times a group of panels, over a block of steps.
struct Sweep {
    w: *const u32,
    ldw: usize,
    rows: usize,
    ahead: Ahead,
    x: Slab,
    step: usize,
    steps: usize,
    panels: (usize, usize),
    sums: *mut f32,
    stride: usize,
}

impl Sweep {
    /// # Safety
    /// As for [`job`].
    #[inline(always)]
    unsafe fn run<D: Dot>(&self) {
        let (first, last) = self.panels;
        // SAFETY: the tiles cover the block's rows and the group's panels.
        unsafe {
            if D::BLOCKING.panels_inner {
                let mut row = 0;
                while row < self.rows {
                    let rows = D::MR[VECTORS - 1].min(self.rows - row);
                    for panel in first..last {
                        self.tile::<D>(panel, row, rows);
                    }
                    row += rows;
                }
            } else {
                for panel in first..last {
                    let most = D::MR[self.x.vectors::<D::S>(panel) - 1];
                    let mut row = 0;
                    while row < self.rows {
                        let rows = most.min(self.rows - row);
                        self.tile::<D>(panel, row, rows);
                        row += rows;
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for [`job`].
    #[inline(always)]
    unsafe fn tile<D: Dot>(&self, panel: usize, row: usize, rows: usize) {
        let (part, parts) = (panel - self.panels.0, self.panels.1 - self.panels.0);
        let lines = self.ahead.lines * part / parts..self.ahead.lines * (part + 1) / parts;
        // SAFETY: as the caller vouches; a prefetch may be of any address.
        unsafe {
            for row in row..row + rows {
                let at = self.ahead.row.wrapping_add(row * self.ahead.stride);
                for line in lines.clone() {
                    D::S::prefetch(at.wrapping_add(line * 64));
                }
            }
            D::tile(&Tile {
                vectors: self.x.vectors::<D::S>(panel),
                rows,
                w: Rows::Along(self.w.add(row * self.ldw), self.ldw),
                x: self.x.base.add(panel * self.x.stride + self.step * D::S::NR),
                steps: self.steps,
                sums: self.sums.add((panel - self.panels.0) * self.stride + row * D::S::NR),
                add: self.step > 0,
            });
        }
    }
}
