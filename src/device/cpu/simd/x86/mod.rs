//! AVX2 with FMA, AVX-512F, and AVX-512's products of bf16 and of 8-bit integers.
//!
//! [`avx2`] and [`avx512`] import their intrinsics under the same names; what then reads the same is
//! written once, in the macros of [`width`].

#[macro_use]
mod width;
mod avx2;
mod avx512;

pub use avx2::{Avx2, Avx2I8};
pub use avx512::{Avx512, Avx512Bf16, Avx512I8};
