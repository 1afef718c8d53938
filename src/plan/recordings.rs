//! The recordings of chunks that a device makes when it is warmed up.

use serde::Serialize;

use super::cost::Cost;

/// Programs that steer one step's velocity towards the previous chunk.
const BLEND_PROGRAMS: usize = 4;

/// Recordings, and the room they have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recordings {
    /// Shapes: one for each number of cameras.
    pub shapes: usize,
    /// Kinds of each: without and with guidance, whole and with a kept prefix.
    pub kinds: usize,
    /// Programs in all of them; those of fewer cameras are counted as those of all.
    pub programs: f64,
    /// DRAM kept for them, bytes.
    pub region: u64,
}

impl Recordings {
    /// Of chunks that cost `total`, without a prefix `suffix`, for up to `cameras` cameras.
    pub(super) fn of(
        (total, suffix): (Cost, Cost),
        (cameras, steps): (usize, usize),
        (guided, keeps_prefix): (bool, bool),
        region: u64,
    ) -> Self {
        let guidance = (steps * BLEND_PROGRAMS) as f64;
        let whole = [Some(total), keeps_prefix.then_some(suffix)].into_iter().flatten();
        let kinds = whole.flat_map(|cost| {
            let plain = cost.programs;
            [Some(plain), guided.then_some(plain + guidance)].into_iter().flatten()
        });
        let kinds: Vec<f64> = kinds.collect();
        let programs = cameras as f64 * kinds.iter().sum::<f64>();
        Self { shapes: cameras, kinds: kinds.len(), programs, region }
    }

    /// Recordings in all.
    pub fn count(&self) -> usize {
        self.shapes * self.kinds
    }

    /// Bytes of the region for each program.
    pub fn bytes_each(&self) -> f64 {
        self.region as f64 / self.programs
    }
}
