//! The microkernel: a few rows times a panel, in registers.

use super::dot::{Dot, Rows, Tile};
use super::vector::{Simd, VECTORS};

/// Computes one tile of a product.
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
    if R > D::MR[V - 1] {
        // No caller asks for it, and it would only be code.
        return;
    }
    let lanes = D::S::LANES;
    let nr = D::S::NR;
    debug_assert!(!ACROSS || t.vectors == VECTORS);
    let (ldw, next) = if ACROSS { (1, nr) } else { (ldw, 1) };
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
            x = x.add(nr);
        }
        for r in 0..R {
            for v in 0..V {
                D::store(t.sums.add(r * nr + v * lanes), sums[r][v], t.add);
            }
        }
    }
}
