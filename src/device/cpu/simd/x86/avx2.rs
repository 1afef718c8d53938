//! Registers of 256 bits: AVX2, FMA and F16C.

use std::arch::x86_64::*;
use std::arch::x86_64::{
    __m256 as F32, __m256i as Words, _mm_loadu_si128 as loadu_half, _mm256_add_epi32 as add_epi32,
    _mm256_add_ps as add_ps, _mm256_and_si256 as and_si, _mm256_castps_si256 as castps_si,
    _mm256_castsi256_ps as castsi_ps, _mm256_cvtepi32_ps as cvtepi32_ps,
    _mm256_cvtepu16_epi32 as cvtepu16_epi32, _mm256_cvtph_ps as cvtph_ps, _mm256_cvtps_epi32 as cvtps_epi32,
    _mm256_div_ps as div_ps, _mm256_fmadd_ps as fmadd_ps, _mm256_loadu_ps as loadu_ps,
    _mm256_loadu_si256 as loadu_si, _mm256_max_ps as max_ps, _mm256_min_ps as min_ps,
    _mm256_mul_ps as mul_ps, _mm256_or_si256 as or_si, _mm256_round_ps as round_ps,
    _mm256_set1_epi32 as set1_epi32, _mm256_set1_ps as set1_ps, _mm256_setzero_si256 as setzero_si,
    _mm256_slli_epi32 as slli_epi32, _mm256_sqrt_ps as sqrt_ps, _mm256_srli_epi32 as srli_epi32,
    _mm256_storeu_ps as storeu_ps, _mm256_storeu_si256 as storeu_si, _mm256_sub_ps as sub_ps,
};

use super::super::dot::{Blocking, Dot, IntegerDot, Scales, Tile};
use super::super::element::Element;
use super::super::microkernel;
use super::super::vector::{Simd, VECTORS};

/// Eight f32: AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2;

simd!(Avx2, 8);

// SAFETY: as of its vectors.
unsafe impl Dot for Avx2 {
    float_sums!(Avx2);
    f32_words!();
    compiled_tile!(Avx2, "avx2,fma,f16c");
    const ELEMENT: Element = Element::F32;
    // Eight sums cover the latency of two multipliers. Four rows of three vectors would leave no
    // register of the 16 free, and the compiler spills one.
    const MR: [usize; VECTORS] = [12, 6, 3];
    const BLOCKING: Blocking = Blocking { mc: 72, kc: 256, panels: 40, panels_inner: false };
}

/// Pairs of 16-bit integers, from weights of 8: VPMADDWD, which sums them exactly.
#[derive(Clone, Copy)]
pub struct Avx2I8;

// SAFETY: as of its vectors.
unsafe impl Dot for Avx2I8 {
    integer_sums!(Avx2);
    packed_words!();
    compiled_tile!(Avx2I8, "avx2,fma,f16c");
    const ELEMENT: Element = Element::I16;
    const MR: [usize; VECTORS] = [10, 5, 3];
    const BLOCKING: Blocking = Blocking { mc: 72, kc: 256, panels: 40, panels_inner: false };

    intrinsics! {
        fn dot(sum: Words, weights: Words, tokens: Words) -> Words {
            add_epi32(sum, _mm256_madd_epi16(weights, tokens))
        }
        fn value(at: *const f32, scales: &Scales<'_>, row: usize, token: usize) -> F32 {
            let sums = cvtepi32_ps(loadu_si(at.cast()));
            let scale = set1_ps(*scales.rows.get_unchecked(row));
            mul_ps(sums, mul_ps(scale, loadu_ps(scales.tokens.add(token))))
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
}

// SAFETY: as of its vectors.
unsafe impl IntegerDot for Avx2I8 {
    #[inline(always)]
    unsafe fn store_word(at: *mut u32, values: [F32; 4]) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let lo = _mm256_and_si256(_mm256_cvtps_epi32(values[0]), _mm256_set1_epi32(0xffff));
            let hi = _mm256_slli_epi32::<16>(_mm256_cvtps_epi32(values[1]));
            _mm256_storeu_si256(at.cast(), _mm256_or_si256(lo, hi));
        }
    }
}

/// `quiet` where `v` is NaN, else `words`.
///
/// # Safety
/// AVX2 is there.
#[inline(always)]
unsafe fn blend_nan(words: Words, quiet: Words, v: F32) -> Words {
    // SAFETY: the caller vouches for AVX2.
    unsafe { _mm256_blendv_epi8(words, quiet, castps_si(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v))) }
}

/// Stores words that 16 bits hold as 16 bits each.
///
/// # Safety
/// AVX2 is there, and 16 bytes are writable at `p`.
#[inline(always)]
unsafe fn narrow_u16(p: *mut __m128i, words: Words) {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        let (lo, hi) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(p, _mm_packus_epi32(lo, hi));
    }
}

/// Stores words that 8 bits hold, with their sign, as 8 bits each.
///
/// # Safety
/// AVX2 is there, and 8 bytes are writable at `p`.
#[inline(always)]
unsafe fn narrow_i8(p: *mut __m128i, words: Words) {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        let (lo, hi) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let halves = _mm_packs_epi32(lo, hi);
        _mm_storel_epi64(p, _mm_packs_epi16(halves, halves));
    }
}

/// See [`Simd::transpose`].
///
/// # Safety
/// AVX2 is there; as for the trait's.
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
