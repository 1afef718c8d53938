//! Plain arrays: what every machine has, and the model the other instruction sets are tested by.

use super::dot::{Blocking, Dot, IntegerDot, Scales, Tile, UNSIGNED};
use super::element::{Element, from_bf16, to_bf16};
use super::microkernel;
use super::vector::{Simd, VECTORS};

/// `N` f32 in an array.
#[derive(Clone, Copy)]
pub struct Portable<const N: usize>;

#[inline(always)]
fn map<const N: usize>(a: [f32; N], f: impl Fn(f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip<const N: usize>(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Without a fused instruction `mul_add` is a library call, so fuse only where there is one.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

// SAFETY: no instruction beyond the baseline is used.
unsafe impl<const N: usize> Simd for Portable<N> {
    type V = [f32; N];
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; N] {
        // SAFETY: the caller vouches for N readable f32.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; N]) {
        // SAFETY: the caller vouches for N writable f32.
        unsafe { p.cast::<[f32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| fma(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; N]) -> [f32; N] {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        // Adding 1.5·2²³ leaves no bits for a fraction.
        map(a, |a| (a + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn exp2i(n: [f32; N]) -> [f32; N] {
        map(n, |n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> [f32; N] {
        // SAFETY: the caller vouches for 2·N readable bytes.
        let bits = unsafe { p.cast::<[u16; N]>().read_unaligned() };
        std::array::from_fn(|i| from_bf16(bits[i]))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> [f32; N] {
        // SAFETY: the caller vouches for 2·N readable bytes.
        let bits = unsafe { p.cast::<[u16; N]>().read_unaligned() };
        std::array::from_fn(|i| half::f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u8, v: [f32; N]) {
        // SAFETY: the caller vouches for 2·N writable bytes.
        unsafe { p.cast::<[u16; N]>().write_unaligned(std::array::from_fn(|i| to_bf16(v[i]))) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, v: [f32; N]) {
        // SAFETY: the caller vouches for N writable bytes.
        unsafe { p.cast::<[i8; N]>().write_unaligned(std::array::from_fn(|i| v[i] as i8)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut u32, lo: [f32; N], hi: [f32; N]) {
        let words: [u32; N] =
            std::array::from_fn(|i| u32::from(to_bf16(lo[i])) | u32::from(to_bf16(hi[i])) << 16);
        // SAFETY: the caller vouches for N writable words.
        unsafe { p.cast::<[u32; N]>().write_unaligned(words) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const u32) -> ([f32; N], [f32; N]) {
        // SAFETY: the caller vouches for N readable words.
        let words = unsafe { p.cast::<[u32; N]>().read_unaligned() };
        let lo = std::array::from_fn(|i| f32::from_bits(words[i] << 16));
        (lo, std::array::from_fn(|i| f32::from_bits(words[i] & 0xffff_0000)))
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize) {
        for row in 0..N {
            for col in 0..N {
                // SAFETY: the caller vouches for both squares.
                unsafe {
                    *to.cast::<u32>().add(col * stride + row) = *from.cast::<u32>().add(row * stride + col)
                };
            }
        }
    }
}

// SAFETY: no instruction beyond the baseline is used.
unsafe impl<const N: usize> Dot for Portable<N> {
    float_sums!(Portable<N>);
    type X = [f32; N];
    const ELEMENT: Element = Element::F32;
    const MR: [usize; VECTORS] = [4, 3, 2];
    const BLOCKING: Blocking = Blocking { mc: 64, kc: 256, panels: 16, panels_inner: false };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> [f32; N] {
        // SAFETY: the caller vouches for N readable words.
        unsafe { <Self as Simd>::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> [f32; N] {
        // SAFETY: the caller vouches for a readable word.
        [f32::from_bits(unsafe { p.read_unaligned() }); N]
    }
    #[inline(always)]
    unsafe fn dot(acc: [f32; N], a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| fma(a[i], b[i], acc[i]))
    }
    unsafe fn tile(tile: &Tile) {
        // SAFETY: the caller vouches for the tile.
        unsafe { microkernel::tile::<Self>(tile) }
    }
}

/// AVX-512 BF16's products in plain arrays: the same layout, the same roundings. It exists to
/// test that path's layout on any machine.
#[derive(Clone, Copy)]
pub struct PortableBf16;

// SAFETY: no instruction beyond the baseline is used.
unsafe impl Dot for PortableBf16 {
    float_sums!(Portable<16>);
    type X = [u32; 16];
    const ELEMENT: Element = Element::Bf16;
    const MR: [usize; VECTORS] = [2, 2, 2];
    const BLOCKING: Blocking = Blocking { mc: 96, kc: 1024, panels: 4, panels_inner: true };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> [u32; 16] {
        // SAFETY: the caller vouches for 16 readable words.
        unsafe { p.cast::<[u32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> [u32; 16] {
        // SAFETY: the caller vouches for a readable word.
        [unsafe { p.read_unaligned() }; 16]
    }
    /// Both products are exact in f32; the odd element is added first, as VDPBF16PS does.
    #[inline(always)]
    unsafe fn dot(acc: [f32; 16], a: [u32; 16], b: [u32; 16]) -> [f32; 16] {
        let hi = |x: u32| f32::from_bits(x & 0xffff_0000);
        let lo = |x: u32| f32::from_bits(x << 16);
        std::array::from_fn(|i| acc[i] + hi(a[i]) * hi(b[i]) + lo(a[i]) * lo(b[i]))
    }
    unsafe fn tile(tile: &Tile) {
        // SAFETY: the caller vouches for the tile.
        unsafe { microkernel::tile::<Self>(tile) }
    }
}

/// VPDPBUSD's products in plain arrays: four weights of 8 bits, signed, times four values of
/// tokens, unsigned.
#[derive(Clone, Copy)]
pub struct PortableI8<const N: usize>;

// SAFETY: no instruction beyond the baseline is used.
unsafe impl<const N: usize> Dot for PortableI8<N> {
    type S = Portable<N>;
    type X = [u32; N];
    type Sum = [i32; N];
    const ELEMENT: Element = Element::I8;
    const MR: [usize; VECTORS] = [2, 2, 2];
    const BLOCKING: Blocking = Blocking { mc: 48, kc: 512, panels: 8, panels_inner: true };

    #[inline(always)]
    unsafe fn load(p: *const u32) -> [u32; N] {
        // SAFETY: the caller vouches for N readable words.
        unsafe { p.cast::<[u32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> [u32; N] {
        // SAFETY: the caller vouches for a readable word.
        [unsafe { p.read_unaligned() }; N]
    }
    #[inline(always)]
    unsafe fn zero() -> [i32; N] {
        [0; N]
    }
    #[inline(always)]
    unsafe fn dot(sum: [i32; N], w: [u32; N], x: [u32; N]) -> [i32; N] {
        let byte = |word: u32, i: u32| (word >> (8 * i)) as u8;
        let term = |w, x, i| i32::from(byte(w, i) as i8) * i32::from(byte(x, i));
        std::array::from_fn(|lane| (0..4).fold(sum[lane], |sum, i| sum + term(w[lane], x[lane], i)))
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, sum: [i32; N], add: bool) {
        let at = at.cast::<[i32; N]>();
        // SAFETY: the caller vouches for N words.
        unsafe {
            let there = if add { at.read_unaligned() } else { [0; N] };
            at.write_unaligned(std::array::from_fn(|i| there[i] + sum[i]));
        }
    }
    #[inline(always)]
    unsafe fn value(at: *const f32, scales: &Scales<'_>, row: usize, token: usize) -> [f32; N] {
        // SAFETY: the caller vouches for the sums, the row and the tokens.
        unsafe {
            let sums = at.cast::<[i32; N]>().read_unaligned();
            let tokens = scales.tokens.add(token).cast::<[f32; N]>().read_unaligned();
            let (scale, sum) = (scales.rows[row], scales.row_sums[row]);
            std::array::from_fn(|i| (sums[i] - UNSIGNED * sum) as f32 * (scale * tokens[i]))
        }
    }
    #[inline(always)]
    unsafe fn unpack(_: *const u32, _: *mut u32, _: *mut u32) {
        unreachable!("8-bit words are used as they are stored");
    }
    unsafe fn tile(tile: &Tile) {
        // SAFETY: the caller vouches for the tile.
        unsafe { microkernel::tile::<Self>(tile) }
    }
}

// SAFETY: no instruction beyond the baseline is used.
unsafe impl<const N: usize> IntegerDot for PortableI8<N> {
    #[inline(always)]
    unsafe fn store_word(at: *mut u32, values: [[f32; N]; 4]) {
        let byte = |x: f32| (x as i32 + UNSIGNED) as u8;
        let words: [u32; N] =
            std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|e| byte(values[e][i]))));
        // SAFETY: the caller vouches for N writable words.
        unsafe { at.cast::<[u32; N]>().write_unaligned(words) }
    }
}
