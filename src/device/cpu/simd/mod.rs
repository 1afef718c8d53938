//! One source for every instruction set: kernels are written over [`Simd`] and [`Dot`], inlined
//! into entry points compiled for the instruction set that provides them.
//!
//! Nothing in here knows of matrices or operations: vectors, words of operands, register tiles.

#[macro_use]
mod dot;
mod element;
mod math;
mod microkernel;
mod portable;
#[cfg(test)]
mod tests;
mod vector;
#[cfg(x86)]
mod x86;

pub use dot::{Dot, IntegerDot, Rows, Scales, Tile};
pub use element::{Element, from_bf16, to_bf16};
pub use math::{exp, gelu, silu};
pub use portable::{Portable, PortableBf16, PortableI8};
pub use vector::{MAX_LANES, Simd, VECTORS};
#[cfg(x86)]
pub use x86::{Avx2, Avx2I8, Avx512, Avx512Bf16, Avx512I8};
