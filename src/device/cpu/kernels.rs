//! The kernels of each path, compiled for its instructions.

use super::attention::{self, Attend};
use super::ceiling;
use super::gemm::{self, Gemm};
use super::norm::{self, Norm};
use super::path::Path;
use super::rope::{self, CacheWrite, Rotate};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512, Avx512Bf16};
use super::simd::{Dot, Portable, PortableBf16, Simd};

/// Matrix products of one operand format.
pub struct Products {
    /// Number of jobs.
    pub jobs: fn(&Gemm<'_>) -> usize,
    /// Runs one with a thread's scratch.
    pub job: unsafe fn(&Gemm<'_>, usize, *mut f32),
    /// Words of scratch it needs.
    pub scratch: usize,
}

/// One path's kernels. Each takes arguments, a job and, if it needs it, the thread's scratch; what
/// callers vouch for is said at the generic function behind it.
pub struct Kernels {
    /// Tokens in a panel.
    pub panel: usize,
    /// Whether operands are pairs of bf16.
    pub pairs: bool,
    /// Of streams, in f32.
    pub streams: Products,
    /// Of operands.
    pub operands: Products,
    /// [`attention::job`]
    pub attention: unsafe fn(&Attend, usize, *mut f32),
    /// [`norm::job`]
    pub norm: unsafe fn(&Norm<'_>, usize),
    /// [`rope::rotate`]
    pub rotate: unsafe fn(&Rotate<'_>, usize, *mut f32),
    /// [`rope::cache_write`]
    pub cache_write: unsafe fn(&CacheWrite<'_>, usize, *mut f32),
    /// [`ceiling::burst`]
    pub burst: unsafe fn(usize) -> u64,
}

impl Kernels {
    /// The kernels of an available path; with `exact`, operands stay f32.
    pub fn of(path: Path, exact: bool) -> &'static Self {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 if !exact => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 | Path::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => &AVX2,
            Path::PortableBf16 if !exact => &PORTABLE_BF16,
            _ => &PORTABLE,
        }
    }
}

macro_rules! kernels {
    ($name:ident, $float:ty, $operand:ty $(, $features:literal)?) => {
        static $name: Kernels = {
            $(#[target_feature(enable = $features)])?
            unsafe fn streams(g: &Gemm<'_>, job: usize, scratch: *mut f32) {
                // SAFETY: as the caller vouches.
                unsafe { gemm::job::<$float>(g, job, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn operands(g: &Gemm<'_>, job: usize, scratch: *mut f32) {
                // SAFETY: as the caller vouches.
                unsafe { gemm::job::<$operand>(g, job, scratch) }
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
                unsafe { rope::cache_write::<<$float as Dot>::S>(w, job, scratch) }
            }
            Kernels {
                panel: <<$float as Dot>::S as Simd>::PANEL,
                pairs: <$operand as Dot>::PAIRS,
                streams: Products {
                    jobs: |g| g.jobs::<$float>(),
                    job: streams,
                    scratch: <$float as Dot>::BLOCKING.scratch::<$float>(),
                },
                operands: Products {
                    jobs: |g| g.jobs::<$operand>(),
                    job: operands,
                    scratch: <$operand as Dot>::BLOCKING.scratch::<$operand>(),
                },
                attention,
                norm,
                rotate,
                cache_write,
                burst: ceiling::burst::<$operand>,
            }
        };
    };
}

kernels!(PORTABLE, Portable<8>, Portable<8>);
kernels!(PORTABLE_BF16, Portable<16>, PortableBf16);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2, Avx2, Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
kernels!(AVX512, Avx512, Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
kernels!(AVX512_BF16, Avx512, Avx512Bf16, "avx512f,avx512bf16");
