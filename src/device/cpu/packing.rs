//! Packing weights: rows become the lanes of panels that skinny products read from end to end.

use super::simd::{Dot, Element, Simd};
use super::weight::Matrix;

/// One matrix's panels to be packed.
pub struct Pack<'a> {
    /// The matrix to pack.
    pub matrix: &'a Matrix,
    /// Where to: one panel after the other.
    pub words: *mut u32,
    /// Elements of the panels.
    pub element: Element,
    /// Words in a packed row.
    pub steps: usize,
}

// SAFETY: jobs write disjoint panels.
unsafe impl Sync for Pack<'_> {}

/// Elements of a matrix's panels: pairs stay pairs, all else becomes the format that `D` computes with.
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
    let nr = D::S::NR;
    let matrix = pack.matrix;
    let mut row = vec![0u32; pack.steps];
    for lane in 0..nr.min(matrix.rows - panel * nr) {
        let (part, i) = matrix.row(section, panel * nr + lane);
        // SAFETY: a row has `cols` elements, of integers whole words; the panel has every word.
        unsafe {
            let to = pack.words.add(place * pack.steps * nr);
            if part.element() == pack.element {
                let bytes = matrix.cols * part.element().size();
                std::ptr::copy_nonoverlapping(part.at(i, 0), row.as_mut_ptr().cast(), bytes);
            } else {
                D::stage(part.at(i, 0), part.element(), matrix.cols, row.as_mut_ptr());
            }
            for (step, word) in row.iter().enumerate() {
                *to.add(step * nr + lane) = *word;
            }
        }
    }
}
