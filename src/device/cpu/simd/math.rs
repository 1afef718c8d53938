//! Functions of a whole vector: exponential and activations.

use super::vector::Simd;

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

/// SiLU, `x / (1 + e^-x)`.
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
