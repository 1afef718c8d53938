//! The time of everything that is shared: CLOCK_MONOTONIC in nanoseconds.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC: the same in every process, never set back. Read through the
/// vDSO, not by a system call.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Never negative: the clock starts at boot.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A counter that runs on evenly, in units of its own and not in step between processes: far cheaper
/// than [`now_ns`], to tell that hardly any time has passed since the last look.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(x86)]
    // SAFETY: every x86-64 processor has the instruction.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(x86))]
    now_ns()
}
