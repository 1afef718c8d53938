//! AVX2 with FMA, AVX-512F, and AVX-512 BF16.

use std::arch::x86_64::*;

use super::{Dot, IntegerDot, Simd, UNSIGNED, VECTORS};
use crate::device::cpu::gemm::{Blocking, Gemm};
use crate::device::cpu::tile::{self, Tile};
use crate::device::cpu::weight::Element;

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
    unsafe fn store_i8(p: *mut i8, v: __m256) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm256_cvtps_epi32(v);
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(halves, halves));
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
    unsafe fn load_pairs(p: *const u32) -> (__m256, __m256) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm256_loadu_si256(p.cast());
            let hi = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000u32 as i32));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(hi))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        // SAFETY: the caller vouches for both squares.
        unsafe {
            let mut r = [_mm256_setzero_pd(); 8];
            let mut t = r;
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm256_castps_pd(_mm256_loadu_ps(from.add(i * stride)));
            }
            for i in 0..4 {
                let (a, b) = (_mm256_castpd_ps(r[2 * i]), _mm256_castpd_ps(r[2 * i + 1]));
                t[2 * i] = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                t[2 * i + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
            }
            // Rows of `r` after this: columns 0, 1, 2, 3 of the left and right quarters.
            for half in 0..2 {
                for i in 0..2 {
                    let (a, b) = (t[4 * half + i], t[4 * half + i + 2]);
                    r[4 * half + 2 * i] = _mm256_unpacklo_pd(a, b);
                    r[4 * half + 2 * i + 1] = _mm256_unpackhi_pd(a, b);
                }
            }
            for i in 0..4 {
                let (a, b) = (_mm256_castpd_ps(r[i]), _mm256_castpd_ps(r[i + 4]));
                _mm256_storeu_ps(to.add(i * stride), _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(to.add((i + 4) * stride), _mm256_permute2f128_ps::<0x31>(a, b));
            }
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
    float_sums!(Avx2);
    type X = __m256;
    const ELEMENT: Element = Element::F32;
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
            unsafe { tile::tile::<Avx2>(tile) }
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
    unsafe fn store_i8(p: *mut i8, v: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))) }
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
    unsafe fn load_pairs(p: *const u32) -> (__m512, __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let words = _mm512_loadu_si512(p.cast());
            let hi = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(hi))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        // SAFETY: the caller vouches for both squares.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            let mut t = r;
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i * stride));
            }
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            // Rows 4q + c of `r` after this: of input rows 4q to 4q + 3, columns c, c + 4, c + 8, c + 12.
            for q in 0..4 {
                for i in 0..2 {
                    let (a, b) = (_mm512_castps_pd(t[4 * q + i]), _mm512_castps_pd(t[4 * q + i + 2]));
                    r[4 * q + 2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    r[4 * q + 2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for c in 0..4 {
                let (a, b, d, e) = (r[c], r[4 + c], r[8 + c], r[12 + c]);
                let (ab0, ab1) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (de0, de1) = (_mm512_shuffle_f32x4::<0x88>(d, e), _mm512_shuffle_f32x4::<0xdd>(d, e));
                _mm512_storeu_ps(to.add(c * stride), _mm512_shuffle_f32x4::<0x88>(ab0, de0));
                _mm512_storeu_ps(to.add((c + 4) * stride), _mm512_shuffle_f32x4::<0x88>(ab1, de1));
                _mm512_storeu_ps(to.add((c + 8) * stride), _mm512_shuffle_f32x4::<0xdd>(ab0, de0));
                _mm512_storeu_ps(to.add((c + 12) * stride), _mm512_shuffle_f32x4::<0xdd>(ab1, de1));
            }
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
    float_sums!(Avx512);
    type X = __m512;
    const ELEMENT: Element = Element::F32;
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
            unsafe { tile::tile::<Avx512>(tile) }
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
    float_sums!(Avx512);
    type X = __m512i;
    const ELEMENT: Element = Element::Bf16;
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
            unsafe { tile::tile::<Avx512Bf16>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}

/// Pairs of 16-bit integers, from weights of 8: VPMADDWD, which sums them exactly.
#[derive(Clone, Copy)]
pub struct Avx2I8;

// SAFETY: the functions use AVX2 and FMA, which the path's entry points enable.
unsafe impl Dot for Avx2I8 {
    type S = Avx2;
    type X = __m256i;
    type Sum = __m256i;
    const ELEMENT: Element = Element::I16;
    const ROWS: [usize; VECTORS] = [10, 5, 3];
    const BLOCKING: Blocking = Blocking { rows: 72, steps: 256, panels: 40, panels_inner: false };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> __m256i {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> __m256i {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm256_set1_epi32(p.read_unaligned() as i32) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: see the trait.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see the trait.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, sum: __m256i, add: bool) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let at = at.cast::<__m256i>();
            _mm256_storeu_si256(at, if add { _mm256_add_epi32(_mm256_loadu_si256(at), sum) } else { sum });
        }
    }
    #[inline(always)]
    unsafe fn value(at: *const f32, g: &Gemm<'_>, row: usize, token: usize) -> __m256 {
        // SAFETY: the caller vouches for the sums, the row and the tokens.
        unsafe {
            let sums = _mm256_cvtepi32_ps(_mm256_loadu_si256(at.cast()));
            let scale = _mm256_set1_ps(*g.matrix.scales.get_unchecked(row));
            _mm256_mul_ps(sums, _mm256_mul_ps(scale, _mm256_loadu_ps(g.scales.add(token))))
        }
    }
    #[inline(always)]
    unsafe fn stage(src: *const u8, _: Element, count: usize, dst: *mut u32) {
        // SAFETY: rows of 8-bit integers are whole words; the caller vouches for the rest.
        unsafe {
            let dst = dst.cast::<i16>();
            let mut i = 0;
            while i + 16 <= count {
                let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(src.add(i).cast()));
                _mm256_storeu_si256(dst.add(i).cast(), wide);
                i += 16;
            }
            while i < count.next_multiple_of(2) {
                *dst.add(i) = i16::from(*src.add(i).cast::<i8>());
                i += 1;
            }
        }
    }
    #[inline(always)]
    unsafe fn unpack(src: *const u32, lo: *mut u32, hi: *mut u32) {
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            // Each byte into the upper half of a 16-bit integer.
            let lows = _mm256_setr_epi8(
                -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4, -1, 5, -1, 8,
                -1, 9, -1, 12, -1, 13,
            );
            let highs = _mm256_add_epi16(lows, _mm256_set1_epi16(0x200));
            let words = _mm256_loadu_si256(src.cast());
            let lo_words = _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(words, lows));
            let hi_words = _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(words, highs));
            _mm256_storeu_si256(lo.cast(), lo_words);
            _mm256_storeu_si256(hi.cast(), hi_words);
        }
    }
    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn compiled(tile: &Tile) {
            // SAFETY: the caller vouches for the tile.
            unsafe { tile::tile::<Avx2I8>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}

// SAFETY: as above.
unsafe impl IntegerDot for Avx2I8 {
    #[inline(always)]
    unsafe fn store_word(at: *mut u32, values: [__m256; 4]) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let lo = _mm256_and_si256(_mm256_cvtps_epi32(values[0]), _mm256_set1_epi32(0xffff));
            let hi = _mm256_slli_epi32::<16>(_mm256_cvtps_epi32(values[1]));
            _mm256_storeu_si256(at.cast(), _mm256_or_si256(lo, hi));
        }
    }
}

/// Four 8-bit integers: VPDPBUSD.
#[derive(Clone, Copy)]
pub struct Avx512I8;

// SAFETY: the functions use AVX-512F and AVX512_VNNI, which the path's entry points enable.
unsafe impl Dot for Avx512I8 {
    type S = Avx512;
    type X = __m512i;
    type Sum = __m512i;
    const ELEMENT: Element = Element::I8;
    const ROWS: [usize; VECTORS] = [12, 12, 8];
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
    unsafe fn zero() -> __m512i {
        // SAFETY: see the trait.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see the trait. The unsigned factor comes first.
        unsafe { _mm512_dpbusd_epi32(sum, b, a) }
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, sum: __m512i, add: bool) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let at = at.cast();
            _mm512_storeu_si512(at, if add { _mm512_add_epi32(_mm512_loadu_si512(at), sum) } else { sum });
        }
    }
    #[inline(always)]
    unsafe fn value(at: *const f32, g: &Gemm<'_>, row: usize, token: usize) -> __m512 {
        // SAFETY: the caller vouches for the sums, the row and the tokens.
        unsafe {
            let offset = _mm512_set1_epi32(UNSIGNED * *g.matrix.sums.get_unchecked(row));
            let sums = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(at.cast()), offset));
            let scale = _mm512_set1_ps(*g.matrix.scales.get_unchecked(row));
            _mm512_mul_ps(sums, _mm512_mul_ps(scale, _mm512_loadu_ps(g.scales.add(token))))
        }
    }
    #[inline(always)]
    unsafe fn unpack(_: *const u32, _: *mut u32, _: *mut u32) {
        unreachable!("8-bit words are used as they are stored");
    }
    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        #[target_feature(enable = "avx512f,avx512vnni")]
        unsafe fn compiled(tile: &Tile) {
            // SAFETY: the caller vouches for the tile.
            unsafe { tile::tile::<Avx512I8>(tile) }
        }
        // SAFETY: the path is only taken where its instructions are.
        unsafe { compiled(tile) }
    }
}

// SAFETY: as above.
unsafe impl IntegerDot for Avx512I8 {
    #[inline(always)]
    unsafe fn store_word(at: *mut u32, values: [__m512; 4]) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let mut word = _mm512_setzero_si512();
            let offset = _mm512_set1_epi32(UNSIGNED);
            for value in values.iter().rev() {
                let byte = _mm512_add_epi32(_mm512_cvtps_epi32(*value), offset);
                word = _mm512_or_si512(_mm512_slli_epi32::<8>(word), byte);
            }
            _mm512_storeu_si512(at.cast(), word);
        }
    }
}
