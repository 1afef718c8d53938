//! Sleeping until a moment of the monotonic clock.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

/// Sleeps until a moment of CLOCK_MONOTONIC, ns, or until a signal: a loop checks whether it is to stop.
pub fn sleep_until(ns: u64) {
    let at = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}
