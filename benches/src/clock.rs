//! What durations are measured with.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Wall time; or, if `PI0RT_BENCH_CLOCK` is `cpu`, the time that this process's threads were on a core,
/// divided by their number: what the wall time would be on a machine that nobody else uses. Threads
/// that spin while they wait are charged for it.
#[derive(Clone, Copy)]
pub struct Clock {
    id: ClockId,
    threads: u64,
}

impl Clock {
    /// As the environment says.
    pub fn new() -> Self {
        match std::env::var("PI0RT_BENCH_CLOCK").as_deref() {
            Ok("cpu") => Self { id: ClockId::ProcessCPUTime, threads: crate::threads() as u64 },
            Ok("wall") | Err(_) => Self { id: ClockId::Monotonic, threads: 1 },
            Ok(other) => panic!("PI0RT_BENCH_CLOCK is {other:?}, expected wall or cpu"),
        }
    }

    /// For a table's heading.
    pub fn name(self) -> &'static str {
        if self.id == ClockId::Monotonic { "wall time" } else { "time on a core" }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Nanoseconds.
impl Measurement for Clock {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let time = clock_gettime(self.id);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn end(&self, start: u64) -> u64 {
        (self.start() - start) / self.threads
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
