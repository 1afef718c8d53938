//! AVX2 with FMA, AVX-512F, and AVX-512 BF16.

use std::arch::x86_64::*;

use super::{Dot, Simd, VECTORS};
use crate::device::cpu::gemm::{self, Blocking, Tile};

/// Eight f32: AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2;

/// The upper halves of eight words, rounded to bf16: one word of 16 bits in 32 a lane.
///
/// # Safety
/// AVX2 is there.
#[inline(always)]
unsafe fn avx2_bf16(v: __m256) -> __m256i {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
    }
}

// SAFETY: the functions use AVX2, FMA and F16C, which the path's entry points enable.
unsafe impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn exp2i(n: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u8, v: __m256) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = avx2_bf16(v);
            let packed =
                _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), packed);
        }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut u32, lo: __m256, hi: __m256) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm256_or_si256(avx2_bf16(lo), _mm256_slli_epi32::<16>(avx2_bf16(hi)));
            _mm256_storeu_si256(p.cast(), words);
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

// SAFETY: as above.
unsafe impl Dot for Avx2 {
    type S = Self;
    type X = __m256;
    const PAIRS: bool = false;
    // Eight sums cover the latency of two multipliers. Four rows of three vectors would leave no
    // register of the 16 free, and the compiler spills one.
    const ROWS: [usize; VECTORS] = [12, 6, 3];
    const BLOCKING: Blocking = Blocking { rows: 72, steps: 256, panels: 40, panels_inner: false };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> __m256 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> __m256 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_set1_ps(f32::from_bits(p.read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the trait.
        unsafe { _mm256_fmadd_ps(a, b, acc) }
    }
    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn compiled(tile: &Tile) {
            // SAFETY: the caller vouches for the tile.
            unsafe { gemm::tile::<Avx2>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}

/// Sixteen f32: AVX-512F.
#[derive(Clone, Copy)]
pub struct Avx512;

/// As [`avx2_bf16`], sixteen lanes.
///
/// # Safety
/// AVX-512F is there.
#[inline(always)]
unsafe fn avx512_bf16(v: __m512) -> __m512i {
    // SAFETY: the caller vouches for AVX-512F.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, nan, quiet))
    }
}

// SAFETY: the functions use AVX-512F, which the path's entry points enable.
unsafe impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        // SAFETY: see the trait. The scale in the upper bits of the operand is 2^0.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn exp2i(n: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u8, v: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(avx512_bf16(v))) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut u32, lo: __m512, hi: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm512_or_si512(avx512_bf16(lo), _mm512_slli_epi32::<16>(avx512_bf16(hi)));
            _mm512_storeu_si512(p.cast(), words);
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

// SAFETY: as above.
unsafe impl Dot for Avx512 {
    type S = Self;
    type X = __m512;
    const PAIRS: bool = false;
    const ROWS: [usize; VECTORS] = [12, 12, 8];
    const BLOCKING: Blocking = Blocking { rows: 96, steps: 128, panels: 20, panels_inner: false };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_set1_ps(f32::from_bits(p.read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_fmadd_ps(a, b, acc) }
    }
    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        #[target_feature(enable = "avx512f")]
        unsafe fn compiled(tile: &Tile) {
            // SAFETY: the caller vouches for the tile.
            unsafe { gemm::tile::<Avx512>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}

/// Pairs of bf16: VDPBF16PS.
#[derive(Clone, Copy)]
pub struct Avx512Bf16;

// SAFETY: the functions use AVX-512F and AVX512_BF16, which the path's entry points enable.
unsafe impl Dot for Avx512Bf16 {
    type S = Avx512;
    type X = __m512i;
    const PAIRS: bool = true;
    const ROWS: [usize; VECTORS] = [12, 12, 8];
    // Four panels (192 tokens) by 2048 of the inner dimension stay in a second-level cache of 1 MB,
    // eight rows of weights in the first level.
    const BLOCKING: Blocking = Blocking { rows: 96, steps: 1024, panels: 4, panels_inner: true };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> __m512i {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> __m512i {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_set1_epi32(p.read_unaligned() as i32) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: see the trait; __m512bh and __m512i are the same register.
        unsafe {
            let a = std::mem::transmute::<__m512i, __m512bh>(a);
            let b = std::mem::transmute::<__m512i, __m512bh>(b);
            _mm512_dpbf16_ps(acc, a, b)
        }
    }
    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn compiled(tile: &Tile) {
            // SAFETY: the caller vouches for the tile.
            unsafe { gemm::tile::<Avx512Bf16>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}
