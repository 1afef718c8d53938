//! Products of operand words, and the register tiles made of them.

use super::element::Element;
use super::vector::{MAX_LANES, Simd, VECTORS};

/// Block sizes of a matrix product, chosen for the caches of the machines that have the instructions.
#[derive(Clone, Copy)]
pub struct Blocking {
    /// Weight rows of a job, both matrices of a gated pair counted.
    pub mc: usize,
    /// Words of the inner dimension.
    pub kc: usize,
    /// Panels of [`Simd::NR`] tokens whose sums the scratch holds.
    pub panels: usize,
    /// True if a few rows go over all panels before the next rows, false for the other way round:
    /// rows stay in the first-level cache and panels in the second, or vice versa.
    pub panels_inner: bool,
}

/// A register tile: a few rows, broadcast, times one panel.
pub struct Tile {
    /// Vectors of the panel, from 1 to [`VECTORS`].
    pub vectors: usize,
    /// Rows, from 1 to what [`Dot::MR`] allows.
    pub rows: usize,
    /// Address and stride of the rows.
    pub w: Rows,
    /// First vector of the panel; the next step is a panel further.
    pub x: *const u32,
    /// Words of the inner dimension.
    pub steps: usize,
    /// Where sums go, rows a panel apart.
    pub sums: *mut f32,
    /// True if they are added to the output's content.
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

/// Scales of integer sums; empty for products in floating point.
#[derive(Clone, Copy)]
pub struct Scales<'a> {
    /// Factor of each row of weights.
    pub rows: &'a [f32],
    /// Sum of each row's integers.
    pub row_sums: &'a [i32],
    /// Factor of each token, whole panels of them.
    pub tokens: *const f32,
}

/// How an operand's words are multiplied: one f32 a word, a pair of bf16, or small integers.
///
/// # Safety
/// As for [`Simd`].
pub unsafe trait Dot: Copy + 'static {
    /// Vectors of f32 that sums become.
    type S: Simd;
    /// A vector of operand words.
    type X: Copy;
    /// A vector of sums.
    type Sum: Copy;
    /// Format of the numbers in a word of weights.
    const ELEMENT: Element;
    /// True if a word is a pair of bf16 (along the product's inner dimension).
    const PAIRS: bool = matches!(Self::ELEMENT, Element::Bf16);
    /// Elements of the inner dimension in a word.
    const STEP: usize = 4 / Self::ELEMENT.size();
    /// Rows of the register tile for one, two and three vectors of the panel.
    const MR: [usize; VECTORS];
    /// Cache blocking of large products.
    const BLOCKING: Blocking;

    /// # Safety
    /// `LANES` words are readable at `p`.
    unsafe fn load(p: *const u32) -> Self::X;
    /// The word at `p` in every lane.
    ///
    /// # Safety
    /// A word is readable at `p`, which may be unaligned.
    unsafe fn broadcast(p: *const u32) -> Self::X;
    /// # Safety
    /// See the trait.
    unsafe fn zero() -> Self::Sum;
    /// `sum + weights·tokens`, of words with several elements the sum of their products.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn dot(sum: Self::Sum, weights: Self::X, tokens: Self::X) -> Self::Sum;
    /// Stores a vector of sums, with `add` added to what is there.
    ///
    /// # Safety
    /// `LANES` words are readable and writable at `at`.
    unsafe fn store(at: *mut f32, sum: Self::Sum, add: bool);
    /// The values of stored sums: those of row `row` of the weights and a vector of tokens from
    /// `token`.
    ///
    /// # Safety
    /// `LANES` sums are readable at `at`; the scales of an integer product have the row and the
    /// tokens.
    unsafe fn value(at: *const f32, scales: &Scales<'_>, row: usize, token: usize) -> <Self::S as Simd>::V;
    /// Converts `count` elements of a row at `src` to words, an odd pair's second half zero.
    ///
    /// # Safety
    /// `count` elements are readable at `src` and `count.div_ceil(STEP)` words writable at `dst`.
    #[inline(always)]
    unsafe fn stage(src: *const u8, element: Element, count: usize, dst: *mut u32) {
        // SAFETY: as the caller vouches.
        unsafe { convert::<Self>(src, element, count, dst) }
    }
    /// Splits a vector of stored words with twice the elements into two vectors of words.
    ///
    /// # Safety
    /// `LANES` words are readable at `src`, and writable at `lo` and `hi`.
    unsafe fn unpack(src: *const u32, lo: *mut u32, hi: *mut u32);
    /// The [microkernel](super::microkernel::tile), compiled for this instruction set.
    ///
    /// # Safety
    /// As for the microkernel.
    unsafe fn tile(tile: &Tile);
}

/// Offset that makes 8-bit tokens unsigned: integer sums are of tokens so much larger than they are.
pub const UNSIGNED: i32 = 128;

/// A [`Dot`] of integers.
///
/// # Safety
/// As for [`Simd`].
pub unsafe trait IntegerDot: Dot {
    /// A word of `STEP` tokens' values, integral and from -127 to 127.
    ///
    /// # Safety
    /// `LANES` words are writable at `at`.
    unsafe fn store_word(at: *mut u32, values: [<Self::S as Simd>::V; 4]);
}

/// Converts floating rows, see [`Dot::stage`].
///
/// # Safety
/// `count` elements are readable at `src`, `count.div_ceil(D::STEP)` words writable at `dst`, and
/// the machine has `D`'s instructions.
#[inline(always)]
unsafe fn convert<D: Dot>(src: *const u8, element: Element, count: usize, dst: *mut u32) {
    let lanes = D::S::LANES;
    let size = element.size();
    let out = if D::PAIRS { 2 } else { 4 };
    let dst = dst.cast::<u8>();
    let whole = count - count % lanes;
    let mut i = 0;
    // SAFETY: the vectors up to `whole` lie inside both; the rest goes through arrays as large as
    // the widest vector.
    unsafe {
        while i < whole {
            vector::<D>(src.add(i * size), element, dst.add(i * out));
            i += lanes;
        }
        let rest = count - whole;
        if rest > 0 {
            let mut from = [0u32; MAX_LANES];
            let mut to = [0u32; MAX_LANES];
            std::ptr::copy_nonoverlapping(src.add(whole * size), from.as_mut_ptr().cast(), rest * size);
            vector::<D>(from.as_ptr().cast(), element, to.as_mut_ptr().cast());
            let bytes = rest.next_multiple_of(D::STEP) * out;
            std::ptr::copy_nonoverlapping(to.as_ptr().cast(), dst.add(whole * out), bytes);
        }
    }
}

/// # Safety
/// `LANES` elements are readable at `src` and writable in `D`'s format at `dst`.
#[inline(always)]
unsafe fn vector<D: Dot>(src: *const u8, element: Element, dst: *mut u8) {
    // SAFETY: as the caller vouches.
    unsafe {
        let v = match element {
            Element::F32 => D::S::load(src.cast()),
            Element::F16 => D::S::load_f16(src),
            _ => D::S::load_bf16(src),
        };
        if D::PAIRS { D::S::store_bf16(dst, v) } else { D::S::store(dst.cast(), v) }
    }
}

/// The part of [`Dot`] that all products with sums in f32 have in common.
macro_rules! float_sums {
    ($simd:ty) => {
        type S = $simd;
        type Sum = <$simd as Simd>::V;

        #[inline(always)]
        unsafe fn zero() -> Self::Sum {
            // SAFETY: see the trait.
            unsafe { <$simd>::splat(0.0) }
        }
        #[inline(always)]
        unsafe fn store(at: *mut f32, sum: Self::Sum, add: bool) {
            // SAFETY: the caller vouches for the pointer.
            unsafe {
                <$simd as Simd>::store(
                    at,
                    if add { <$simd>::add(<$simd as Simd>::load(at), sum) } else { sum },
                )
            }
        }
        #[inline(always)]
        unsafe fn value(at: *const f32, _: &Scales<'_>, _: usize, _: usize) -> Self::Sum {
            // SAFETY: the caller vouches for the pointer.
            unsafe { <$simd as Simd>::load(at) }
        }
        #[inline(always)]
        unsafe fn unpack(src: *const u32, lo: *mut u32, hi: *mut u32) {
            // SAFETY: the caller vouches for the pointers.
            unsafe {
                let (a, b) = <$simd>::load_pairs(src);
                <$simd as Simd>::store(lo.cast(), a);
                <$simd as Simd>::store(hi.cast(), b);
            }
        }
    };
}
