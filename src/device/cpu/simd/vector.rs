//! A vector of f32 and what kernels do with it.

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
    /// The vector register's type.
    type V: Copy;
    /// f32 in a vector, at most [`MAX_LANES`].
    const LANES: usize;
    /// Tokens in a panel: columns of the register tile.
    const NR: usize = VECTORS * Self::LANES;

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
    /// Widens bf16 to f32, exactly.
    ///
    /// # Safety
    /// `2·LANES` bytes are readable at `p`.
    unsafe fn load_bf16(p: *const u8) -> Self::V;
    /// Widens f16 to f32, exactly.
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
