//! One source for every instruction set: kernels are written over [`Simd`] and [`Dot`], inlined
//! into entry points compiled for the instruction set that provides them.

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
        unsafe fn value(at: *const f32, _: &Gemm<'_>, _: usize, _: usize) -> Self::Sum {
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

mod portable;
#[cfg(test)]
mod tests;
#[cfg(x86)]
mod x86;

pub use portable::{Portable, PortableBf16, PortableI8};
#[cfg(x86)]
pub use x86::{Avx2, Avx2I8, Avx512, Avx512Bf16, Avx512I8};

use super::gemm::{Blocking, Gemm};
use super::tile::Tile;
use super::weight::{self, Element};

/// Lanes of the widest vector.
pub const MAX_LANES: usize = 16;

/// Vectors in a panel of tokens.
pub const VECTORS: usize = 3;

/// A vector of f32 and what kernels do with it.
///
/// Pointers need no alignment beyond their element's, except where the type is bytes.
///
/// # Safety
/// Every function may use instructions of the implementor's set: callers run on a machine that has
/// them, and inline into a function compiled for them.
pub unsafe trait Simd: Copy + 'static {
    /// The vector.
    type V: Copy;
    /// f32 in a vector, at most [`MAX_LANES`].
    const LANES: usize;
    /// Tokens in a panel.
    const PANEL: usize = VECTORS * Self::LANES;

    /// # Safety
    /// See the trait.
    unsafe fn splat(x: f32) -> Self::V;
    /// # Safety
    /// `LANES` f32 are readable at `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` f32 are writable at `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// # Safety
    /// See the trait.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`, fused where the machine fuses.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where `a > b`, else `b`: a NaN in `b` comes through.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `a < b`, else `b`: a NaN in `b` comes through.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// Nearest integer, ties to even, for |a| < 2²².
    ///
    /// # Safety
    /// See the trait.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `2^n` for integral `n` from -126 to 127.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn exp2i(n: Self::V) -> Self::V;
    /// bf16 widened, exactly.
    ///
    /// # Safety
    /// `2·LANES` bytes are readable at `p`.
    unsafe fn load_bf16(p: *const u8) -> Self::V;
    /// f16 widened, exactly.
    ///
    /// # Safety
    /// `2·LANES` bytes are readable at `p`.
    unsafe fn load_f16(p: *const u8) -> Self::V;
    /// Rounded to bf16, nearest even.
    ///
    /// # Safety
    /// `2·LANES` bytes are writable at `p`.
    unsafe fn store_bf16(p: *mut u8, v: Self::V);
    /// Integral values from -127 to 127 as 8-bit integers; what NaN becomes is not said.
    ///
    /// # Safety
    /// `LANES` bytes are writable at `p`.
    unsafe fn store_i8(p: *mut i8, v: Self::V);
    /// Both rounded to bf16: `lo` in the lower half of each word, `hi` in the upper.
    ///
    /// # Safety
    /// `LANES` words are writable at `p`.
    unsafe fn store_pairs(p: *mut u32, lo: Self::V, hi: Self::V);
    /// Words of two bf16, widened: the lower halves, the upper halves.
    ///
    /// # Safety
    /// `LANES` words are readable at `p`.
    unsafe fn load_pairs(p: *const u32) -> (Self::V, Self::V);
    /// Moves a square of `LANES` by `LANES` words, turned: row `i` becomes column `i`. Rows are
    /// `stride` words apart in both. Any bits come through.
    ///
    /// # Safety
    /// The squares are readable at `from` and writable at `to`, and apart.
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize);
    /// Asks for the cache line at `p`, any address.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
}

/// How an operand's words are multiplied: one f32 a word, a pair of bf16, or small integers.
///
/// # Safety
/// As for [`Simd`].
pub unsafe trait Dot: Copy + 'static {
    /// Vectors of what sums become.
    type S: Simd;
    /// A vector of operand words.
    type X: Copy;
    /// A vector of sums.
    type Sum: Copy;
    /// What weights' words consist of.
    const ELEMENT: Element;
    /// Whether a word is a pair of bf16 (along the product's inner dimension).
    const PAIRS: bool = matches!(Self::ELEMENT, Element::Bf16);
    /// Elements of the inner dimension in a word.
    const STEP: usize = 4 / Self::ELEMENT.size();
    /// Rows of the register tile for one, two and three vectors of the panel.
    const ROWS: [usize; VECTORS];
    /// Cache blocking of [`gemm`](super::gemm).
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
    /// What stored sums stand for: those of row `row` of the product's matrix and a vector of
    /// tokens from `token`.
    ///
    /// # Safety
    /// `LANES` sums are readable at `at`; the row is the matrix's and the tokens the product's.
    unsafe fn value(at: *const f32, g: &Gemm<'_>, row: usize, token: usize) -> <Self::S as Simd>::V;
    /// Converts `count` elements of a row at `src` to words.
    ///
    /// # Safety
    /// `count` elements are readable at `src` and `count.div_ceil(STEP)` words writable at `dst`.
    #[inline(always)]
    unsafe fn stage(src: *const u8, element: Element, count: usize, dst: *mut u32) {
        // SAFETY: as the caller vouches.
        unsafe { weight::convert::<Self>(src, element, count, dst) }
    }
    /// A vector of stored words with twice the elements, into two vectors of words.
    ///
    /// # Safety
    /// `LANES` words are readable at `src`, and writable at `lo` and `hi`.
    unsafe fn unpack(src: *const u32, lo: *mut u32, hi: *mut u32);
    /// [`tile::tile`](super::tile::tile), compiled for this instruction set.
    ///
    /// # Safety
    /// As for `tile::tile`.
    unsafe fn tile(tile: &Tile);
}

/// What integer sums of unsigned tokens (128 more than they are) stand for.
const UNSIGNED: i32 = 128;

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

/// `e^x`, within 2 units in the last place between -87.3 and 88.3 and clamped outside.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic only.
    unsafe {
        let x = S::max(S::splat(-87.336_54), S::min(S::splat(88.376_26), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first short enough that its product with n is exact.
        let r = S::fma(n, S::splat(-355.0 / 512.0), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_2e-4);
        p = S::fma(p, r, S::splat(1.398_2e-3));
        p = S::fma(p, r, S::splat(8.333_452e-3));
        p = S::fma(p, r, S::splat(4.166_579_6e-2));
        p = S::fma(p, r, S::splat(1.666_666_5e-1));
        p = S::fma(p, r, S::splat(0.5));
        let y = S::add(S::fma(p, S::mul(r, r), r), S::splat(1.0));
        S::mul(y, S::exp2i(n))
    }
}

/// `x / (1 + e^-x)`.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
pub unsafe fn silu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic only.
    unsafe { S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x)))) }
}

/// GELU by tanh: `x/2·(1 + tanh u)` with `u = √(2/π)·(x + 0.044715·x³)`, written `x / (1 + e^-2u)`.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
pub unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    const A: f32 = -1.595_769_2; // -2·√(2/π)
    // SAFETY: arithmetic only.
    unsafe {
        let u = S::mul(x, S::fma(S::mul(x, x), S::splat(A * 0.044_715), S::splat(A)));
        S::div(x, S::add(S::splat(1.0), exp::<S>(u)))
    }
}

/// bf16 nearest to `x`, ties to even; NaN stays NaN.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16 }
}

/// A bf16 as f32.
#[inline(always)]
pub fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}
