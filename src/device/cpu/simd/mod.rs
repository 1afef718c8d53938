//! One source for every instruction set: kernels are written over [`Simd`] and [`Dot`], inlined
//! into entry points compiled for the instruction set that provides them.

mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use portable::{Portable, PortableBf16};
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Bf16};

use super::gemm::Blocking;

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
    /// Both rounded to bf16: `lo` in the lower half of each word, `hi` in the upper.
    ///
    /// # Safety
    /// `LANES` words are writable at `p`.
    unsafe fn store_pairs(p: *mut u32, lo: Self::V, hi: Self::V);
    /// Asks for the cache line at `p`, any address.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
}

/// How an operand's words are multiplied: one f32 a word, or a pair of bf16.
///
/// # Safety
/// As for [`Simd`].
pub unsafe trait Dot: Copy + 'static {
    /// Vectors of the accumulators.
    type S: Simd;
    /// A vector of operand words.
    type X: Copy;
    /// Whether a word is a pair of bf16 (along the product's inner dimension).
    const PAIRS: bool;
    /// Elements of the inner dimension in a word.
    const STEP: usize = if Self::PAIRS { 2 } else { 1 };
    /// Rows of the register tile for one, two and three vectors of tokens.
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
    /// `acc + a·b`, for pairs the sum of both products.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn dot(acc: <Self::S as Simd>::V, a: Self::X, b: Self::X) -> <Self::S as Simd>::V;
    /// [`gemm::tile`](super::gemm::tile), compiled for this instruction set.
    ///
    /// # Safety
    /// As for `gemm::tile`.
    unsafe fn tile(tile: &super::gemm::Tile);
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
