//! Copying bytes out of memory that a peer may be writing to, and into memory that it may be reading.

/// Copies `len` bytes from shared memory to private memory. The peer may write at the same time:
/// the copy then holds some mixture, but nothing worse happens, because the compiler never sees
/// the reads.
///
/// # Safety
/// `from` must be readable and `into` writable for `len` bytes, and they must not overlap.
#[cfg(target_arch = "x86_64")]
pub unsafe fn copy_out(from: *const u8, into: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI. `rep movsb` is as
    // fast as memcpy on every processor with ERMS.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") into => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies `len` bytes from shared memory to private memory. The peer may write at the same time:
/// the copy then holds some mixture, but nothing worse happens.
///
/// # Safety
/// `from` must be readable and `into` writable for `len` bytes, and they must not overlap.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn copy_out(from: *const u8, into: *mut u8, len: usize) {
    let head = (from.align_offset(8)).min(len);
    let words = (len - head) / 8;
    let tail = head + words * 8;
    // SAFETY: all accesses lie in 0..len, which the caller vouches for; volatile, so that no
    // value is read twice or assumed to be stable.
    unsafe {
        for i in (0..head).chain(tail..len) {
            into.add(i).write(from.add(i).read_volatile());
        }
        let (source, target) = (from.add(head).cast::<u64>(), into.add(head).cast::<u64>());
        for i in 0..words {
            target.add(i).write_unaligned(source.add(i).read_volatile());
        }
    }
}

/// Copies `len` bytes from private memory to shared memory. A peer that reads at the same time gets
/// some mixture: what comes before and after has to tell it so.
///
/// # Safety
/// As [`copy_out`]; `into` must be mapped writable.
pub unsafe fn copy_in(from: *const u8, into: *mut u8, len: usize) {
    // SAFETY: the same accesses; that of private memory needs no care, that of shared memory is
    // unknown to the compiler (x86-64) or no slower than a loop of words (others).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        copy_out(from, into, len);
    }
    // SAFETY: all accesses lie in 0..len, which the caller vouches for.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        let head = into.align_offset(8).min(len);
        let words = (len - head) / 8;
        for i in (0..head).chain(head + words * 8..len) {
            into.add(i).write_volatile(from.add(i).read());
        }
        let (source, target) = (from.add(head).cast::<u64>(), into.add(head).cast::<u64>());
        for i in 0..words {
            target.add(i).write_volatile(source.add(i).read_unaligned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{copy_in, copy_out};

    #[test]
    fn copies_every_length_and_alignment() {
        let from: Vec<u8> = (0..200).collect();
        for start in 0..9 {
            for len in 0..100 {
                let mut into = vec![0xee; len + 1];
                // SAFETY: both vectors are long enough.
                unsafe { copy_out(from.as_ptr().add(start), into.as_mut_ptr(), len) };
                assert_eq!(into[..len], from[start..start + len]);
                assert_eq!(into[len], 0xee);
                into.fill(0xee);
                // SAFETY: as above.
                unsafe { copy_in(from.as_ptr().add(start), into.as_mut_ptr(), len) };
                assert_eq!(into[..len], from[start..start + len]);
                assert_eq!(into[len], 0xee);
            }
        }
    }
}
