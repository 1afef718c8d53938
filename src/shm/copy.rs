//! Copies between private memory and memory that a peer may be reading or writing.

/// Copies `len` bytes from shared memory to private memory.
///
/// The peer may write at the same time: the copy is then a mixture of old and new bytes, but nothing worse
/// happens, because the compiler never sees the reads.
///
/// # Safety
/// `from` must be readable and `into` writable for `len` bytes, and they must not overlap.
#[inline]
pub unsafe fn copy_out(from: *const u8, into: *mut u8, len: usize) {
    let lines = len / LINE;
    // SAFETY: all accesses lie in 0..len, per the caller's contract.
    unsafe {
        copy_lines(from, into, lines);
        for i in lines * LINE..len {
            into.add(i).write_volatile(from.add(i).read_volatile());
        }
    }
}

/// Copies whole lines of values from private memory to shared memory; true if all are finite.
///
/// A peer that reads at the same time gets a mixture: the protocol around the copy has to tell it so.
///
/// # Safety
/// `into` must be mapped writable for as many bytes as `from` has, and not overlap it.
#[inline]
pub unsafe fn copy_in_finite(from: &[f32], into: *mut u8) -> bool {
    assert!(from.len().is_multiple_of(LINE / 4));
    // SAFETY: the caller's contract; the processor has the instructions.
    unsafe {
        #[cfg(x86)]
        if is_x86_feature_detected!("avx2") {
            return copy_in_finite_avx2(from, into);
        }
        copy_lines(from.as_ptr().cast(), into, from.len() / (LINE / 4));
    }
    // No early exit, so that the loop is vectorised.
    from.iter().fold(0, |carry, value| carry | ((value.to_bits() & EXPONENT) + CARRY)) >> 31 == 0
}

/// Mask of the exponent. Adding [`CARRY`] to an exponent of all ones, and to no other, sets the sign bit.
const EXPONENT: u32 = 0x7f80_0000;
const CARRY: u32 = 1 << 23;

/// The same as [`copy_in_finite`], with AVX2.
///
/// # Safety
/// As [`copy_in_finite`].
#[cfg(x86)]
#[target_feature(enable = "avx2")]
unsafe fn copy_in_finite_avx2(from: &[f32], into: *mut u8) -> bool {
    use std::arch::x86_64::*;
    // Without their sign, as integers, infinity and NaN are the largest.
    let mut largest = [_mm256_setzero_si256(); 2];
    for (i, line) in from.chunks_exact(LINE / 4).enumerate() {
        // SAFETY: a line of values, private memory.
        let halves = unsafe {
            let line = line.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(line), _mm256_loadu_si256(line.add(1))]
        };
        // SAFETY: the caller's contract. The compiler never sees the stores.
        unsafe {
            std::arch::asm!(
                "vmovdqu [{into}], {a}",
                "vmovdqu [{into} + 32], {b}",
                into = in(reg) into.add(i * LINE),
                a = in(ymm_reg) halves[0],
                b = in(ymm_reg) halves[1],
                options(nostack, preserves_flags)
            );
        }
        for (largest, half) in largest.iter_mut().zip(halves) {
            *largest = _mm256_max_epu32(*largest, _mm256_slli_epi32::<1>(half));
        }
    }
    let (largest, infinity) =
        (_mm256_max_epu32(largest[0], largest[1]), _mm256_set1_epi32((EXPONENT << 1) as i32));
    _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(largest, infinity), largest)) == 0
}

/// Prefetches `len` bytes for reading. Any address is allowed: nothing is read.
#[inline]
pub fn prefetch(from: *const u8, len: usize) {
    #[cfg(x86)]
    for offset in (0..len).step_by(LINE) {
        // SAFETY: SSE is part of x86-64; a prefetch faults on no address.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                from.wrapping_add(offset).cast(),
            )
        };
    }
    #[cfg(not(x86))]
    let _ = (from, len);
}

/// Prefetches the cache line of an address for writing. Any address is allowed.
#[inline]
pub fn prefetch_for_write(into: *const u8) {
    #[cfg(x86)]
    // SAFETY: every x86-64 processor decodes the instruction; it faults on no address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) into, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(x86))]
    let _ = into;
}

const LINE: usize = 64;

/// Copies whole lines of [`LINE`] bytes, aligned or not.
///
/// `rep movsb` has a fixed start-up cost, and on some processors runs at a tenth of this speed when `into` is a
/// little further into its page than `from` is.
///
/// # Safety
/// `from` must be readable and `into` writable for `lines` lines, and they must not overlap.
#[cfg(x86)]
#[inline]
unsafe fn copy_lines(from: *const u8, into: *mut u8, lines: usize) {
    // SAFETY: the caller's contract; the processor has the instructions.
    unsafe {
        if is_x86_feature_detected!("avx") {
            copy_lines_avx(from, into, lines);
        } else {
            copy_lines_sse2(from, into, lines);
        }
    }
}

/// The same as [`copy_lines`], on any x86-64 processor.
///
/// # Safety
/// As [`copy_lines`].
#[cfg(x86)]
unsafe fn copy_lines_sse2(from: *const u8, into: *mut u8, lines: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        std::arch::asm!(
            "test {lines}, {lines}",
            "jz 3f",
            "2:",
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu [{into}], {a}",
            "movdqu [{into} + 16], {b}",
            "movdqu [{into} + 32], {c}",
            "movdqu [{into} + 48], {d}",
            "add {from}, 64",
            "add {into}, 64",
            "dec {lines}",
            "jnz 2b",
            "3:",
            lines = inout(reg) lines => _,
            from = inout(reg) from => _,
            into = inout(reg) into => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
}

/// The same as [`copy_lines`], on processors with AVX. Clears the upper halves of the registers: the code that
/// follows would be slowed down by more than the copy gained.
///
/// # Safety
/// As [`copy_lines`].
#[cfg(x86)]
#[target_feature(enable = "avx")]
unsafe fn copy_lines_avx(from: *const u8, into: *mut u8, lines: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        std::arch::asm!(
            "test {lines}, {lines}",
            "jz 3f",
            "2:",
            "vmovdqu {a}, [{from}]",
            "vmovdqu {b}, [{from} + 32]",
            "vmovdqu [{into}], {a}",
            "vmovdqu [{into} + 32], {b}",
            "add {from}, 64",
            "add {into}, 64",
            "dec {lines}",
            "jnz 2b",
            "3:",
            "vzeroupper",
            lines = inout(reg) lines => _,
            from = inout(reg) from => _,
            into = inout(reg) into => _,
            a = out(ymm_reg) _,
            b = out(ymm_reg) _,
            options(nostack)
        );
    }
}

/// Copies whole lines of [`LINE`] bytes, aligned or not.
///
/// # Safety
/// `from` must be readable and `into` writable for `lines` lines, and they must not overlap.
#[cfg(not(x86))]
unsafe fn copy_lines(from: *const u8, into: *mut u8, lines: usize) {
    let aligned = from.cast::<u64>().is_aligned() && into.cast::<u64>().is_aligned();
    // SAFETY: all accesses lie within the lines, per the caller's contract; volatile, so that no value is read
    // twice or assumed to be stable.
    unsafe {
        if aligned {
            let (from, into) = (from.cast::<u64>(), into.cast::<u64>());
            for i in 0..lines * (LINE / 8) {
                into.add(i).write_volatile(from.add(i).read_volatile());
            }
        } else {
            for i in 0..lines * LINE {
                into.add(i).write_volatile(from.add(i).read_volatile());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{copy_in_finite, copy_out};

    #[test]
    #[cfg(x86)]
    fn without_avx_too() {
        let from: Vec<u8> = (0..=255).collect();
        for lines in 0..4 {
            let mut into = vec![0xee; 257];
            // SAFETY: both vectors are long enough.
            unsafe { super::copy_lines_sse2(from.as_ptr().add(1), into.as_mut_ptr().add(1), lines) };
            assert_eq!(into[1..=lines * 64], from[1..=lines * 64]);
            assert!(into[lines * 64 + 1..].iter().all(|&byte| byte == 0xee));
        }
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_wherever_it_is() {
        let good = [f32::MAX, f32::MIN, 0.0, -0.0, 1e-40, -1.5, 3e38, 1.0].repeat(10);
        let copied = |values: &[f32]| {
            let mut into = vec![7.0f32; values.len() + 1];
            // SAFETY: the vector is long enough.
            let finite = unsafe { copy_in_finite(values, into.as_mut_ptr().cast()) };
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!((bits(&into[..values.len()]), into[values.len()]), (bits(values), 7.0));
            finite
        };
        assert!(copied(&good) && copied(&[]));
        for other in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in 0..good.len() {
                let mut values = good.clone();
                values[index] = other;
                assert!(!copied(&values), "{other} at {index}");
            }
        }
    }

    #[test]
    fn copies_every_length_and_alignment() {
        let from: Vec<u8> = (0..=255).collect();
        for start in 0..9 {
            for len in (0..100).chain([127, 128, 129, 190]) {
                let mut into = vec![0xee; len + 1];
                // SAFETY: both vectors are long enough.
                unsafe { copy_out(from.as_ptr().add(start), into.as_mut_ptr(), len) };
                assert_eq!(into[..len], from[start..start + len]);
                assert_eq!(into[len], 0xee);
            }
        }
    }
}
