//! Functions that give the same bits in every language: sine, cosine, logarithm and random numbers.
//!
//! Libraries round these functions differently. Here they are polynomials, evaluated in the order written and without
//! fused multiply-add, from `training/tabletop/exact.py`.
#![allow(clippy::excessive_precision, reason = "constants as fdlibm writes them")]

use std::f64::consts::{FRAC_2_PI, LN_2, TAU};

/// Coefficients of the sine and the cosine on [-π/4, π/4]: fdlibm's `k_sin.c` and `k_cos.c`.
const S: [f64; 6] = [
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
];
const C: [f64; 6] = [
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
];
/// π/2 in two parts: fdlibm's `e_rem_pio2.c`.
const PIO2_HIGH: f64 = 1.57079632673412561417e00;
const PIO2_LOW: f64 = 6.07710050650619224932e-11;

/// Sine and cosine of |x| < 1000, within 1e-12.
pub fn sin_cos(x: f64) -> (f64, f64) {
    let k = (x * FRAC_2_PI + 0.5).floor();
    let r = (x - k * PIO2_HIGH) - k * PIO2_LOW;
    let z = r * r;
    let s = r + r * z * (S[0] + z * (S[1] + z * (S[2] + z * (S[3] + z * (S[4] + z * S[5])))));
    let c = 1.0 - 0.5 * z + z * z * (C[0] + z * (C[1] + z * (C[2] + z * (C[3] + z * (C[4] + z * C[5])))));
    match k as i64 & 3 {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// Natural logarithm of 0 < x <= 1, within 1e-12 of its value.
pub fn ln(mut x: f64) -> f64 {
    let mut e = 0.0;
    while x < 0.75 {
        x *= 2.0;
        e -= 1.0;
    }
    let z = (x - 1.0) / (x + 1.0);
    let w = z * z;
    let mut p = 1.0 / 21.0;
    for k in (0..10).rev() {
        p = 1.0 / (2.0 * f64::from(k) + 1.0) + w * p;
    }
    e * LN_2 + 2.0 * z * p
}

/// Word `index` of the splitmix64 stream `seed`.
pub fn mix(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Number `index` of the stream `seed`, uniform on [0, 1).
pub fn uniform(seed: u64, index: u64) -> f64 {
    (mix(seed, index) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// Standard normal number `index` of the stream `seed` (Box and Muller).
pub fn normal(seed: u64, index: u64) -> f64 {
    let a = 1.0 - uniform(seed, 2 * index);
    let b = uniform(seed, 2 * index + 1);
    (-2.0 * ln(a)).sqrt() * sin_cos(TAU * b).1
}

/// Fills `out` with the first normal numbers of the stream `seed`, rounded to f32.
pub fn normals(seed: u64, out: &mut [f32]) {
    for (i, value) in (0..).zip(out) {
        *value = normal(seed, i) as f32;
    }
}
