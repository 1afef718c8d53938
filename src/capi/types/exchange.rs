//! Observations, and the chunks and actions that answer them.

use super::library::PI0RT_MAX_CAMERAS;
use super::reports::{pi0rt_completion_reason, pi0rt_guided, pi0rt_reason, pi0rt_stage};
use crate::control::Status;

/// One camera's frame in an observation slot.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_frame {
    /// Where to write the frame: shared memory, page-aligned. Set by pi0rt_observation_acquire.
    pub data: *mut u8,
    /// Bytes available at data. Set by pi0rt_observation_acquire.
    pub capacity: usize,
    /// Width of the frame, pixels per row.
    pub width: u32,
    /// Height of the frame, rows.
    pub height: u32,
    /// Bytes from one row to the next; 0: rows without gaps. Of PI0RT_FORMAT_JPEG, the image's length in bytes.
    pub stride: u32,
    /// Format of the pixels, a pi0rt_format; PI0RT_FORMAT_NONE: no frame.
    pub format: u32,
}

/// An acquired observation slot and the metadata of its content.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_observation {
    /// sizeof(pi0rt_observation), set by the caller.
    pub struct_size: u32,
    /// Number of the slot. Set by pi0rt_observation_acquire.
    pub slot: u32,
    /// Number of cameras. Set by pi0rt_observation_acquire.
    pub cameras: u32,
    /// Number of the instruction, from pi0rt_client_set_prompt; 0: the one set last.
    pub prompt_id: u32,
    /// When the state and, unless frame_observed_ns says otherwise, the frames were taken, CLOCK_MONOTONIC, ns;
    /// 0: at submission. Row 0 of the chunk is meant for this moment.
    pub observed_ns: u64,
    /// Seed of the noise; 0: derived from the ticket.
    pub seed: u64,
    /// Where to write the state, state_dim floats: shared memory. Set by pi0rt_observation_acquire.
    pub state: *mut f32,
    /// Number of values at state. Set by pi0rt_observation_acquire; a controller with a different number sets
    /// it here and is answered with PI0RT_STATUS_BAD_OBSERVATION.
    pub state_dim: usize,
    /// Frames of the cameras, in the order of pi0rt_policy_info.camera_names.
    pub frames: [pi0rt_frame; PI0RT_MAX_CAMERAS],
    /// Latest time its chunk is of use, CLOCK_MONOTONIC, ns; 0: no deadline. Among clients, the earliest
    /// deadline goes first; one that has passed before the work begins is answered with PI0RT_STATUS_STALE.
    pub deadline_ns: u64,
    /// When each camera's frame was taken, CLOCK_MONOTONIC, ns; 0: at observed_ns. The observation is as old as
    /// the oldest of its parts.
    pub frame_observed_ns: [u64; PI0RT_MAX_CAMERAS],
    /// PI0RT_OBSERVATION_STATE_ONLY, PI0RT_OBSERVATION_UNGUIDED, or both. A daemon that doesn't know them computes an
    /// ordinary chunk.
    pub flags: u32,
    /// Reserved for later versions, always 0.
    pub reserved: u32,
}

/// The daemon's answer to one submission.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_completion {
    /// sizeof(pi0rt_completion), set by the caller.
    pub struct_size: u32,
    /// PI0RT_STATUS_OK, or why there is no chunk.
    pub status: Status,
    /// The ticket that pi0rt_submit returned.
    pub ticket: u64,
    /// Number of the published chunk, from 1; 0: none was published.
    pub chunk: u64,
    /// When the observation was taken, CLOCK_MONOTONIC, ns.
    pub observed_ns: u64,
    /// When the observation was submitted, CLOCK_MONOTONIC, ns.
    pub submitted_ns: u64,
    /// When the daemon started to work on it, CLOCK_MONOTONIC, ns; 0: it never did.
    pub started_ns: u64,
    /// When the daemon was done with it, CLOCK_MONOTONIC, ns.
    pub finished_ns: u64,
    /// Why there is no chunk. pi0rt_last_error has it in words.
    pub reason: pi0rt_completion_reason,
    /// Index of the camera, state value or action value the reason is about; -1: none.
    pub index: i32,
    /// The offending value, as described at each reason.
    pub value: f64,
}

/// A chunk of actions, with its origin and times.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_chunk {
    /// sizeof(pi0rt_chunk), set by the caller.
    pub struct_size: u32,
    /// Number of rows: one action per control step.
    pub horizon: u32,
    /// Number of columns: values of an action.
    pub action_dim: u32,
    /// Reserved for later versions, always 0.
    pub reserved: u32,
    /// Actions in robot units, [horizon, action_dim] row-major. A copy owned by the client: valid until the
    /// next call of class actions.
    pub actions: *const f32,
    /// Ticket of the submission it answers.
    pub ticket: u64,
    /// Number of the chunk, from 1; 0: there is none yet.
    pub chunk: u64,
    /// When its observation was taken, CLOCK_MONOTONIC, ns; row i is meant for i control steps later.
    pub observed_ns: u64,
    /// When its observation was submitted, CLOCK_MONOTONIC, ns.
    pub submitted_ns: u64,
    /// When the daemon started to work on it, CLOCK_MONOTONIC, ns.
    pub started_ns: u64,
    /// When it was ready, CLOCK_MONOTONIC, ns.
    pub finished_ns: u64,
    /// Number of the instruction it was computed for, as pi0rt_client_set_prompt gave it; for an observer the
    /// daemon's. 0: not known.
    pub prompt_id: u32,
    /// Number of its episode: how many resets there were before it.
    pub episode: u32,
    /// Guidance by the previous chunk, or the reason why there was none.
    pub guided: pi0rt_guided,
    /// Rows that the guidance expected to be past when it is first played.
    pub delay: u32,
    /// Row from which on it was free of guidance.
    pub guidance_horizon: u32,
    /// Age of the images' and the instruction's part of it, in chunks; 0: computed for this one.
    pub prefix_age: u32,
    /// When the oldest of its frames was taken, CLOCK_MONOTONIC, ns; 0: not known.
    pub prefix_observed_ns: u64,
}

/// The origin of a command, what was limited, and what is due.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_action_info {
    /// sizeof(pi0rt_action_info), set by the caller.
    pub struct_size: u32,
    /// Where the command comes from.
    pub reason: pi0rt_reason,
    /// Number of the chunk; 0: there is none.
    pub chunk: u64,
    /// Position in the chunk, in rows from its observation.
    pub row: f64,
    /// Time from the chunk's observation to the command's moment, ns.
    pub age_ns: u64,
    /// Stage of the player.
    pub stage: pi0rt_stage,
    /// PI0RT_ACTION_SUBMIT_NOW and others, combined.
    pub flags: u32,
    /// Dimensions whose value isn't the chunk's because of a limit: bit i for dimension i, bit 63 for all from 63 on.
    pub limited: u64,
    /// Kinds of those limits, pi0rt_limit, combined.
    pub limits: u32,
    /// Longest of the last five delays: rows that were past when a chunk was first played.
    pub delay_rows: u32,
    /// Ticket of the chunk's submission.
    pub ticket: u64,
    /// Time until the chunk's rows end or it is stale, ns.
    pub rows_left_ns: u64,
    /// Number of the instruction the chunk was computed for, as pi0rt_client_set_prompt gave it; for an observer the
    /// daemon's. 0: not known.
    pub prompt_id: u32,
    /// Number of the chunk's episode: how many resets there were before it.
    pub episode: u32,
    /// The chunk's guidance by the previous one, or the reason why there was none.
    pub guided: pi0rt_guided,
    /// Rows that the guidance expected to be past when the chunk is first played.
    pub delay: u32,
    /// Row from which on the chunk was free of guidance.
    pub guidance_horizon: u32,
    /// Age of the images' and the instruction's part of the chunk, in chunks; 0: computed for this one.
    pub prefix_age: u32,
    /// Reserved for later versions, always 0.
    pub reserved: [u32; 2],
}
