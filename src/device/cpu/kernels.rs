//! The kernels of each path, compiled for its instructions.

use super::attention::{self, Attend};
use super::ceiling;
use super::gemm;
use super::kv_cache::{self, CacheWrite};
use super::norm::{self, Norm};
use super::options::Precision;
use super::packing::{self, Pack};
use super::path::Path;
use super::product::Product;
use super::quantize::{self, Quantize, Quantizer};
use super::rope::{self, Rotate};
#[cfg(x86)]
use super::simd::{Avx2, Avx2I8, Avx512, Avx512Bf16, Avx512I8};
use super::simd::{Dot, Element, Portable, PortableBf16, PortableI8, Simd};
use super::skinny;
use super::weight::{Matrix, Panels};

/// Matrix products of one operand format.
pub struct ProductKernels {
    /// [`gemm::jobs`]
    pub jobs: fn(&Product<'_>) -> usize,
    /// [`gemm::job`]
    pub job: unsafe fn(&Product<'_>, usize, *mut f32),
    /// [`skinny::job`]
    pub skinny: unsafe fn(&Product<'_>, &Panels, usize, *mut f32),
    /// [`packing::element`]
    pub element: fn(&Matrix) -> Element,
    /// [`packing::pack`]
    pub pack: unsafe fn(&Pack<'_>, usize, usize, usize),
    /// [`ceiling::burst`]
    pub burst: unsafe fn(usize) -> u64,
    /// Elements of the inner dimension in a word.
    pub step: usize,
    /// Words of scratch they need.
    pub scratch: usize,
}

/// The kernels of one path. Each takes arguments, a job and, if it needs it, the thread's scratch. Safety
/// contract: see the generic function that each entry instantiates.
pub struct Kernels {
    /// Tokens in a panel of the right side.
    pub nr: usize,
    /// True if operands are pairs of bf16.
    pub pairs: bool,
    /// Products of streams, in f32.
    pub streams: ProductKernels,
    /// Products of operands.
    pub operands: ProductKernels,
    /// Products of quantized operands.
    pub integers: ProductKernels,
    /// [`quantize::row`]
    pub quantize_row: unsafe fn(&Quantizer<'_>, usize),
    /// [`quantize::operand`]
    pub quantize: unsafe fn(&Quantize, usize),
    /// [`attention::job`]
    pub attention: unsafe fn(&Attend, usize, *mut f32),
    /// [`norm::job`]
    pub norm: unsafe fn(&Norm<'_>, usize),
    /// [`rope::rotate`]
    pub rotate: unsafe fn(&Rotate<'_>, usize, *mut f32),
    /// [`kv_cache::write`]
    pub cache_write: unsafe fn(&CacheWrite<'_>, usize, *mut f32),
}

impl Kernels {
    /// The kernels of an available path.
    pub fn of(path: Path, precision: Precision) -> &'static Self {
        let exact = precision == Precision::F32;
        match path {
            #[cfg(x86)]
            Path::Avx512Bf16 if !exact => &AVX512_BF16,
            #[cfg(x86)]
            Path::Avx512Bf16 | Path::Avx512 => &AVX512,
            #[cfg(x86)]
            Path::Avx2 => &AVX2,
            Path::PortableBf16 if !exact => &PORTABLE_BF16,
            _ => &PORTABLE,
        }
    }
}

/// The products of one [`Dot`], compiled for its instructions.
macro_rules! products {
    ($dot:ty $(, $features:literal)?) => {{
        $(#[target_feature(enable = $features)])?
        unsafe fn job(p: &Product<'_>, job: usize, scratch: *mut f32) {
            // SAFETY: as the caller vouches.
            unsafe { gemm::job::<$dot>(p, job, scratch) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn skinny(p: &Product<'_>, panels: &Panels, job: usize, scratch: *mut f32) {
            // SAFETY: as the caller vouches.
            unsafe { skinny::job::<$dot>(p, panels, job, scratch) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn pack(pack: &Pack<'_>, section: usize, panel: usize, place: usize) {
            // SAFETY: as the caller vouches.
            unsafe { packing::pack::<$dot>(pack, section, panel, place) }
        }
        let scratch = gemm::scratch::<$dot>();
        ProductKernels {
            jobs: gemm::jobs::<$dot>,
            job,
            skinny,
            element: packing::element::<$dot>,
            pack,
            burst: ceiling::burst::<$dot>,
            step: <$dot as Dot>::STEP,
            scratch: if scratch > skinny::scratch::<$dot>() { scratch } else { skinny::scratch::<$dot>() },
        }
    }};
}

macro_rules! kernels {
    ($name:ident, $float:ty, $operand:ty, $integer:ty $(, $features:literal, $integer_features:literal)?) => {
        static $name: Kernels = {
            $(#[target_feature(enable = $features)])?
            unsafe fn quantize_row(q: &Quantizer<'_>, job: usize) {
                // SAFETY: as the caller vouches.
                unsafe { quantize::row::<$float>(q, job) }
            }
            $(#[target_feature(enable = $integer_features)])?
            unsafe fn quantize(q: &Quantize, job: usize) {
                // SAFETY: as the caller vouches.
                unsafe { quantize::operand::<$integer>(q, job) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(a: &Attend, job: usize, scratch: *mut f32) {
                // SAFETY: as the caller vouches.
                unsafe { attention::job::<$operand>(a, job, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm(n: &Norm<'_>, job: usize) {
                // SAFETY: as the caller vouches.
                unsafe { norm::job::<<$float as Dot>::S>(n, job) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rotate(r: &Rotate<'_>, job: usize, scratch: *mut f32) {
                // SAFETY: as the caller vouches.
                unsafe { rope::rotate::<<$float as Dot>::S>(r, job, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn cache_write(w: &CacheWrite<'_>, job: usize, scratch: *mut f32) {
                // SAFETY: as the caller vouches.
                unsafe { kv_cache::write::<<$float as Dot>::S>(w, job, scratch) }
            }
            Kernels {
                nr: <<$float as Dot>::S as Simd>::NR,
                pairs: <$operand as Dot>::PAIRS,
                streams: products!($float $(, $features)?),
                operands: products!($operand $(, $features)?),
                integers: products!($integer $(, $integer_features)?),
                quantize_row,
                quantize,
                attention,
                norm,
                rotate,
                cache_write,
            }
        };
    };
}

kernels!(PORTABLE, Portable<8>, Portable<8>, PortableI8<8>);
kernels!(PORTABLE_BF16, Portable<16>, PortableBf16, PortableI8<16>);
#[cfg(x86)]
kernels!(AVX2, Avx2, Avx2, Avx2I8, "avx2,fma,f16c", "avx2,fma,f16c");
#[cfg(x86)]
kernels!(AVX512, Avx512, Avx512, Avx512I8, "avx512f", "avx512f,avx512vnni");
#[cfg(x86)]
kernels!(AVX512_BF16, Avx512, Avx512Bf16, Avx512I8, "avx512f,avx512bf16", "avx512f,avx512vnni");
