//! Statistics of a session.

/// Distribution of a latency. Percentiles are exact to a fifth.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_latency {
    /// Number of measurements.
    pub count: u64,
    /// Mean of all measurements, ns.
    pub mean_ns: u64,
    /// Median of all measurements, ns.
    pub p50_ns: u64,
    /// 90th percentile of all measurements, ns.
    pub p90_ns: u64,
    /// 99th percentile of all measurements, ns.
    pub p99_ns: u64,
    /// Maximum of all measurements, ns.
    pub max_ns: u64,
}

/// Counters and latencies of a session, as the daemon keeps them.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_statistics {
    /// sizeof(pi0rt_statistics), set by the caller.
    pub struct_size: u32,
    /// Reserved for later versions, always 0.
    pub reserved: u32,
    /// Observations the daemon took from the ring.
    pub submitted: u64,
    /// Chunks that were published.
    pub published: u64,
    /// Observations superseded by a newer one.
    pub superseded: u64,
    /// Observations that were too old, or whose deadline had passed.
    pub stale: u64,
    /// Observations that could not be used.
    pub bad_observations: u64,
    /// Chunks withheld because of their values: not finite, or beyond the robot's limits.
    pub invalid_chunks: u64,
    /// Failures of the device.
    pub device_failures: u64,
    /// Observations not answered with a chunk by their deadline.
    pub missed_deadlines: u64,
    /// Times the daemon itself was kept from running for five heartbeats or more.
    pub stalls: u64,
    /// From submission to the start of the work, for published chunks.
    pub waiting: pi0rt_latency,
    /// From the start of the work to the chunk.
    pub inference: pi0rt_latency,
    /// From the observation to its chunk.
    pub age: pi0rt_latency,
}
