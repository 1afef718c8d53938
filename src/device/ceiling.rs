//! The most a device can do, by its own measure.

/// Peak rates of a device, as it measured itself a moment ago: all its threads at once, on a
/// machine as busy as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Kernels whose products were measured.
    pub kernels: &'static str,
    /// Format of their operands.
    pub operands: &'static str,
    /// Number of threads that were measured.
    pub threads: usize,
    /// Products whose operands lie in registers and the nearest cache, floating point operations
    /// per second.
    pub flops: f64,
    /// The same per second that a thread was on a core, see [`core_time`](super::core_time).
    pub flops_on_core: f64,
    /// Reading memory far larger than the caches, bytes per second.
    pub bandwidth: f64,
}
