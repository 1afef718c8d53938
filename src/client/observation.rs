//! The description of an observation, as the program gives it with a slot.

use crate::shm::{Camera, MAX_CAMERAS};

/// Metadata of an acquired slot, passed to [`Submissions::submit`](super::Submissions::submit).
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// Number of the acquired slot.
    pub slot: u32,
    /// Number of the instruction, from [`Requests::set_prompt`](super::Requests::set_prompt); 0: the one set last.
    pub prompt_id: u32,
    /// When the state and, unless they say otherwise, the frames were taken, CLOCK_MONOTONIC, ns; 0: now.
    pub observed_ns: u64,
    /// When each camera's frame was taken, CLOCK_MONOTONIC, ns; 0: when the state was.
    pub frames_observed_ns: [u64; MAX_CAMERAS],
    /// Number of state values written; 0: all.
    pub state_values: u32,
    /// Seed of the noise; 0: derived from the ticket.
    pub seed: u64,
    /// Latest time its chunk is of use, CLOCK_MONOTONIC, ns; 0: no deadline.
    pub deadline_ns: u64,
    /// Size and format of each camera's frame; format 0: no frame.
    pub cameras: [Camera; MAX_CAMERAS],
    /// [`KEEP_PREFIX`](crate::shm::KEEP_PREFIX), [`UNGUIDED`](crate::shm::UNGUIDED), or both, for daemons that
    /// know them.
    pub flags: u32,
}
