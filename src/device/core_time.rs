//! Time on a core, which a busy machine does not stretch.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time that this process's threads have been on a core so far, added up. Unlike the time that
/// passes it does not grow while others have the cores.
pub fn core_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts() {
        let before = core_time();
        let mut sum = 0u64;
        (0..2_000_000).for_each(|i| sum = std::hint::black_box(sum.wrapping_add(i)));
        assert!(core_time() > before);
    }
}
