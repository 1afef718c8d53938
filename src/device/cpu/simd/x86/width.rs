//! The code that registers of 256 and of 512 bits share.
//!
//! Each macro is expanded in a module that has, for its width, the types `F32` and `Words` (f32 and
//! 32-bit words), the intrinsics under names without their width, and `blend_nan`, `narrow_u16`,
//! `narrow_i8` and `transpose`, which the instruction sets do differently.

/// Functions of a trait, each a block of intrinsics.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $type),*) $(-> $out)? {
            // SAFETY: the trait's contract: the machine has the instructions, and every pointer is
            // good for what the function moves.
            unsafe { $body }
        }
    )*};
}

/// [`Simd`](crate::device::cpu::simd::Simd) of one width.
macro_rules! simd {
    ($simd:ident, $lanes:literal) => {
        // SAFETY: the functions use the set's instructions, which the path's entry points enable.
        unsafe impl Simd for $simd {
            type V = F32;
            const LANES: usize = $lanes;

            intrinsics! {
                fn splat(x: f32) -> F32 { set1_ps(x) }
                fn load(p: *const f32) -> F32 { loadu_ps(p) }
                fn store(p: *mut f32, v: F32) { storeu_ps(p, v) }
                fn add(a: F32, b: F32) -> F32 { add_ps(a, b) }
                fn sub(a: F32, b: F32) -> F32 { sub_ps(a, b) }
                fn mul(a: F32, b: F32) -> F32 { mul_ps(a, b) }
                fn div(a: F32, b: F32) -> F32 { div_ps(a, b) }
                fn fma(a: F32, b: F32, c: F32) -> F32 { fmadd_ps(a, b, c) }
                fn max(a: F32, b: F32) -> F32 { max_ps(a, b) }
                fn min(a: F32, b: F32) -> F32 { min_ps(a, b) }
                fn sqrt(a: F32) -> F32 { sqrt_ps(a) }
                fn round(a: F32) -> F32 {
                    // Of AVX-512's operand the upper bits scale by 2^0.
                    round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
                }
                fn exp2i(n: F32) -> F32 {
                    let n = add_epi32(cvtps_epi32(n), set1_epi32(127));
                    castsi_ps(slli_epi32::<23>(n))
                }
                fn load_bf16(p: *const u8) -> F32 {
                    castsi_ps(slli_epi32::<16>(cvtepu16_epi32(loadu_half(p.cast()))))
                }
                fn load_f16(p: *const u8) -> F32 { cvtph_ps(loadu_half(p.cast())) }
                fn store_bf16(p: *mut u8, v: F32) { narrow_u16(p.cast(), bf16(v)) }
                fn store_i8(p: *mut i8, v: F32) { narrow_i8(p.cast(), cvtps_epi32(v)) }
                fn store_pairs(p: *mut u32, lo: F32, hi: F32) {
                    storeu_si(p.cast(), or_si(bf16(lo), slli_epi32::<16>(bf16(hi))))
                }
                fn load_pairs(p: *const u32) -> (F32, F32) {
                    let words = loadu_si(p.cast());
                    let hi = and_si(words, set1_epi32(0xffff_0000u32 as i32));
                    (castsi_ps(slli_epi32::<16>(words)), castsi_ps(hi))
                }
                fn transpose(from: *const f32, to: *mut f32, stride: usize) {
                    transpose(from, to, stride)
                }
                // A prefetch does not fault.
                fn prefetch(p: *const u8) { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            }
        }

        /// Words whose lower halves are the bf16 nearest to each lane, ties to even; NaN stays NaN.
        ///
        /// # Safety
        /// The machine has the instructions.
        #[inline(always)]
        unsafe fn bf16(v: F32) -> Words {
            // SAFETY: arithmetic only.
            unsafe {
                let bits = castps_si(v);
                let odd = and_si(srli_epi32::<16>(bits), set1_epi32(1));
                let rounded = add_epi32(add_epi32(bits, set1_epi32(0x7fff)), odd);
                let quiet = or_si(bits, set1_epi32(0x40_0000));
                srli_epi32::<16>(blend_nan(rounded, quiet, v))
            }
        }
    };
}

/// The part of [`Dot`](crate::device::cpu::simd::Dot) that is the same of products of f32.
macro_rules! f32_words {
    () => {
        type X = F32;

        intrinsics! {
            fn load(p: *const u32) -> F32 { loadu_ps(p.cast()) }
            fn broadcast(p: *const u32) -> F32 { set1_ps(f32::from_bits(p.read_unaligned())) }
            fn dot(sum: F32, weights: F32, tokens: F32) -> F32 { fmadd_ps(weights, tokens, sum) }
        }
    };
}

/// The part that is the same of products of pairs and of integers.
macro_rules! packed_words {
    () => {
        type X = Words;

        intrinsics! {
            fn load(p: *const u32) -> Words { loadu_si(p.cast()) }
            fn broadcast(p: *const u32) -> Words { set1_epi32(p.read_unaligned() as i32) }
        }
    };
}

/// The part that is the same of products with sums in 32-bit integers.
macro_rules! integer_sums {
    ($simd:ident) => {
        type S = $simd;
        type Sum = Words;

        intrinsics! {
            fn zero() -> Words { setzero_si() }
            fn store(at: *mut f32, sum: Words, add: bool) {
                let sum = if add { add_epi32(loadu_si(at.cast()), sum) } else { sum };
                storeu_si(at.cast(), sum)
            }
        }
    };
}

/// [`Dot::tile`](crate::device::cpu::simd::Dot::tile), compiled for the features.
macro_rules! compiled_tile {
    ($dot:ident, $features:literal) => {
        #[inline(always)]
        unsafe fn tile(tile: &Tile) {
            #[target_feature(enable = $features)]
            unsafe fn compiled(tile: &Tile) {
                // SAFETY: the caller vouches for the tile.
                unsafe { microkernel::tile::<$dot>(tile) }
            }
            // SAFETY: the path is only taken where its instructions are.
            unsafe { compiled(tile) }
        }
    };
}
