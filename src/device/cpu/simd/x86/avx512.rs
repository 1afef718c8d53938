//! Registers of 512 bits: AVX-512F, with AVX512_BF16 and AVX512_VNNI.

use std::arch::x86_64::*;
use std::arch::x86_64::{
    __m512 as F32, __m512i as Words, _mm256_loadu_si256 as loadu_half, _mm512_add_epi32 as add_epi32,
    _mm512_add_ps as add_ps, _mm512_and_si512 as and_si, _mm512_castps_si512 as castps_si,
    _mm512_castsi512_ps as castsi_ps, _mm512_cvtepi32_ps as cvtepi32_ps,
    _mm512_cvtepu16_epi32 as cvtepu16_epi32, _mm512_cvtph_ps as cvtph_ps, _mm512_cvtps_epi32 as cvtps_epi32,
    _mm512_div_ps as div_ps, _mm512_fmadd_ps as fmadd_ps, _mm512_loadu_ps as loadu_ps,
    _mm512_loadu_si512 as loadu_si, _mm512_max_ps as max_ps, _mm512_min_ps as min_ps,
    _mm512_mul_ps as mul_ps, _mm512_or_si512 as or_si, _mm512_roundscale_ps as round_ps,
    _mm512_set1_epi32 as set1_epi32, _mm512_set1_ps as set1_ps, _mm512_setzero_si512 as setzero_si,
    _mm512_slli_epi32 as slli_epi32, _mm512_sqrt_ps as sqrt_ps, _mm512_srli_epi32 as srli_epi32,
    _mm512_storeu_ps as storeu_ps, _mm512_storeu_si512 as storeu_si, _mm512_sub_ps as sub_ps,
};

use super::super::dot::{Blocking, Dot, IntegerDot, Scales, Tile, UNSIGNED};
use super::super::element::Element;
use super::super::microkernel;
use super::super::vector::{Simd, VECTORS};

/// Sixteen f32: AVX-512F.
#[derive(Clone, Copy)]
pub struct Avx512;

simd!(Avx512, 16);

// SAFETY: as of its vectors.
unsafe impl Dot for Avx512 {
    float_sums!(Avx512);
    f32_words!();
    compiled_tile!(Avx512, "avx512f");
    const ELEMENT: Element = Element::F32;
    const MR: [usize; VECTORS] = [12, 12, 8];
    const BLOCKING: Blocking = Blocking { mc: 96, kc: 128, panels: 20, panels_inner: false };
}

/// Pairs of bf16: VDPBF16PS.
#[derive(Clone, Copy)]
pub struct Avx512Bf16;

// SAFETY: the functions use AVX-512F and AVX512_BF16, which the path's entry points enable.
unsafe impl Dot for Avx512Bf16 {
    float_sums!(Avx512);
    packed_words!();
    compiled_tile!(Avx512Bf16, "avx512f,avx512bf16");
    const ELEMENT: Element = Element::Bf16;
    const MR: [usize; VECTORS] = [12, 12, 8];
    // Four panels (192 tokens) by 2048 of the inner dimension stay in a second-level cache of 1 MB,
    // eight rows of weights in the first level.
    const BLOCKING: Blocking = Blocking { mc: 96, kc: 1024, panels: 4, panels_inner: true };

    intrinsics! {
        fn dot(sum: F32, weights: Words, tokens: Words) -> F32 {
            // __m512bh and __m512i are the same register.
            let weights = std::mem::transmute::<__m512i, __m512bh>(weights);
            let tokens = std::mem::transmute::<__m512i, __m512bh>(tokens);
            _mm512_dpbf16_ps(sum, weights, tokens)
        }
    }
}

/// Four 8-bit integers: VPDPBUSD.
#[derive(Clone, Copy)]
pub struct Avx512I8;

// SAFETY: the functions use AVX-512F and AVX512_VNNI, which the path's entry points enable.
unsafe impl Dot for Avx512I8 {
    integer_sums!(Avx512);
    packed_words!();
    compiled_tile!(Avx512I8, "avx512f,avx512vnni");
    const ELEMENT: Element = Element::I8;
    const MR: [usize; VECTORS] = [12, 12, 8];
    const BLOCKING: Blocking = Blocking { mc: 96, kc: 1024, panels: 4, panels_inner: true };

    intrinsics! {
        fn dot(sum: Words, weights: Words, tokens: Words) -> Words {
            // The unsigned factor comes first.
            _mm512_dpbusd_epi32(sum, tokens, weights)
        }
        fn value(at: *const f32, scales: &Scales<'_>, row: usize, token: usize) -> F32 {
            let offset = set1_epi32(UNSIGNED * *scales.row_sums.get_unchecked(row));
            let sums = cvtepi32_ps(_mm512_sub_epi32(loadu_si(at.cast()), offset));
            let scale = set1_ps(*scales.rows.get_unchecked(row));
            mul_ps(sums, mul_ps(scale, loadu_ps(scales.tokens.add(token))))
        }
    }
    #[inline(always)]
    unsafe fn unpack(_: *const u32, _: *mut u32, _: *mut u32) {
        unreachable!("8-bit words are used as they are stored");
    }
}

// SAFETY: as above.
unsafe impl IntegerDot for Avx512I8 {
    #[inline(always)]
    unsafe fn store_word(at: *mut u32, values: [F32; 4]) {
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

/// `quiet` where `v` is NaN, else `words`.
///
/// # Safety
/// AVX-512F is there.
#[inline(always)]
unsafe fn blend_nan(words: Words, quiet: Words, v: F32) -> Words {
    // SAFETY: the caller vouches for AVX-512F.
    unsafe { _mm512_mask_mov_epi32(words, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), quiet) }
}

/// Stores words that 16 bits hold as 16 bits each.
///
/// # Safety
/// AVX-512F is there, and 32 bytes are writable at `p`.
#[inline(always)]
unsafe fn narrow_u16(p: *mut __m256i, words: Words) {
    // SAFETY: the caller vouches for the pointer.
    unsafe { _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(words)) }
}

/// Stores words that 8 bits hold, with their sign, as 8 bits each.
///
/// # Safety
/// AVX-512F is there, and 16 bytes are writable at `p`.
#[inline(always)]
unsafe fn narrow_i8(p: *mut __m128i, words: Words) {
    // SAFETY: the caller vouches for the pointer.
    unsafe { _mm_storeu_si128(p, _mm512_cvtepi32_epi8(words)) }
}

/// See [`Simd::transpose`].
///
/// # Safety
/// AVX-512F is there; as for the trait's.
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
