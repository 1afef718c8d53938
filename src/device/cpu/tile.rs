//! The microkernel: a few rows times a panel, in registers.

use super::simd::{Dot, Simd, VECTORS};

/// A few rows, broadcast, times one panel.
pub struct Tile {
    /// Vectors of the panel, from 1 to [`VECTORS`].
    pub vectors: usize,
    /// Rows, from 1 to what [`Dot::ROWS`] allows.
    pub rows: usize,
    /// Where the rows are.
    pub w: Rows,
    /// First vector of the panel; the next step is a panel further.
    pub x: *const u32,
    /// Words of the inner dimension.
    pub steps: usize,
    /// Where sums go, rows a panel apart.
    pub sums: *mut f32,
    /// Whether they are added to what is there.
    pub add: bool,
}

/// How the broadcast rows lie in memory.
#[derive(Clone, Copy)]
pub enum Rows {
    /// Weights, each row's words one after the other, rows so many words apart.
    Along(*const u32, usize),
    /// Tokens, as lanes of a panel, a token's next word a panel further; the panel then is one of
    /// weights, and has [`VECTORS`] vectors.
    Across(*const u32),
}

/// Computes a tile.
///
/// # Safety
/// The tile's rows, columns and sums are in bounds, and the machine has `D`'s instructions.
#[inline(always)]
pub unsafe fn tile<D: Dot>(t: &Tile) {
    macro_rules! rows {
        ($vectors:literal, $across:literal, $w:ident, $ldw:expr; $($rows:literal)*) => {
            match t.rows {
                // SAFETY: as the caller vouches.
                $($rows => unsafe { micro::<D, $rows, $vectors, $across>(t, $w, $ldw) },)*
                _ => unreachable!("no tile has {} rows", t.rows),
            }
        };
    }
    match (t.w, t.vectors) {
        (Rows::Along(w, ldw), 1) => rows!(1, false, w, ldw; 1 2 3 4 5 6 7 8 9 10 11 12),
        (Rows::Along(w, ldw), 2) => rows!(2, false, w, ldw; 1 2 3 4 5 6 7 8 9 10 11 12),
        (Rows::Along(w, ldw), _) => rows!(3, false, w, ldw; 1 2 3 4 5 6 7 8),
        (Rows::Across(w), _) => rows!(3, true, w, 1; 1 2 3 4 5 6 7 8),
    }
}

/// # Safety
/// As for [`tile`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Iterators keep the sums out of registers.
unsafe fn micro<D: Dot, const R: usize, const V: usize, const ACROSS: bool>(
    t: &Tile,
    w: *const u32,
    ldw: usize,
) {
    if R > D::ROWS[V - 1] {
        // No caller asks for it, and it would only be code.
        return;
    }
    let lanes = D::S::LANES;
    let panel = D::S::PANEL;
    debug_assert!(!ACROSS || t.vectors == VECTORS);
    let (ldw, next) = if ACROSS { (1, panel) } else { (ldw, 1) };
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [[D::zero(); V]; R];
        let mut words = [D::load(t.x); V];
        let mut x = t.x;
        for step in 0..t.steps {
            for v in 0..V {
                words[v] = D::load(x.add(v * lanes));
            }
            for r in 0..R {
                let w = D::broadcast(w.add(r * ldw + step * next));
                for v in 0..V {
                    let (weights, tokens) = if ACROSS { (words[v], w) } else { (w, words[v]) };
                    sums[r][v] = D::dot(sums[r][v], weights, tokens);
                }
            }
            x = x.add(panel);
        }
        for r in 0..R {
            for v in 0..V {
                D::store(t.sums.add(r * panel + v * lanes), sums[r][v], t.add);
            }
        }
    }
}
