//! A session: its options, and the policy behind it.

use std::ffi::c_char;

use super::choices::{pi0rt_interpolation, pi0rt_stitching};
use super::library::{PI0RT_MAX_CAMERAS, PI0RT_NAME_BYTES, PI0RT_UNIT_BYTES};
use super::reports::{pi0rt_quantity, pi0rt_rate_source};

/// Options of a session. Zero, in any field but the first, means the default.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_client_options {
    /// sizeof(pi0rt_client_options), set by the caller.
    pub struct_size: u32,
    /// How actions between rows are computed, a pi0rt_interpolation. Dimensions for which the robot's profile has one
    /// of their own keep it.
    pub interpolation: u32,
    /// Path of the daemon's socket; default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock.
    pub socket_path: *const c_char,
    /// Capacity of each camera's frame in bytes; default: the daemon's choice.
    pub frame_bytes: u32,
    /// Number of observation slots; default: the daemon's choice.
    pub slots: u32,
    /// Maximum number of requests in flight, a power of two; default: the daemon's choice.
    pub ring_entries: u32,
    /// Actions per second at which chunks are played; default: what the daemon's configuration, the robot's
    /// profile or the checkpoint declares. Where nothing does, pi0rt_action_at answers with
    /// PI0RT_STATUS_NO_RATE.
    pub control_rate_hz: f32,
    /// Age of the daemon's heartbeat, ns, beyond which the daemon counts as gone; default: 500 ms.
    pub gone_after_ns: u64,
    /// Longest wait for a reply over the socket, ns; default: 60 s. Instructions are tokenized while chunks
    /// are computed, by a thread of ordinary priority: where real-time threads occupy every core, that may take as
    /// long as a chunk.
    pub reply_timeout_ns: u64,
    /// Age of a chunk's observation, ns, beyond which it isn't played any more and pi0rt_chunk_latest returns
    /// PI0RT_STATUS_STALE, and time that a completion may be overdue before pi0rt_poll does. Default: a chunk is
    /// played to the end of its rows, and the other two never return PI0RT_STATUS_STALE. No chunk is played longer.
    pub stale_after_ns: u64,
    /// Name of the session, at most 63 bytes. A name has one writer at a time: another one is
    /// PI0RT_STATUS_REFUSED. Default: none; for an observer, the only session there is.
    pub session_name: *const c_char,
    /// Role of this client, a pi0rt_role; default: PI0RT_ROLE_WRITER.
    pub role: u32,
    /// 1: observations may lack frames of cameras that the policy needs; the policy then sees what it saw in
    /// training for an absent camera. Default: such an observation is answered with
    /// PI0RT_STATUS_BAD_OBSERVATION.
    pub allow_missing_cameras: u32,
    /// How one chunk follows another, a pi0rt_stitching.
    pub stitching: u32,
    /// When the next observation is due, a pi0rt_submit_when.
    pub submit_when: u32,
    /// Time of a crossfade, ns; default: the profile's, else 100 ms.
    pub crossfade_ns: u64,
    /// Decay m of an ensemble's weights exp(-m * i), -10 to 10; default: the profile's, else 0.01.
    pub ensemble_decay: f32,
    /// Rows that are left when the next observation is due, for PI0RT_SUBMIT_WHEN_QUEUE; default: half of the horizon.
    pub submit_rows: u32,
    /// Time by which a chunk should come earlier than needed, for PI0RT_SUBMIT_WHEN_LATEST, ns; default: two rows.
    pub submit_margin_ns: u64,
    /// Time of PI0RT_STAGE_HOLD, ns; default: the profile's, else 500 ms.
    pub hold_ns: u64,
    /// Time of PI0RT_STAGE_DECELERATE, and of a velocity from its last value to 0, ns; default: the profile's, else
    /// 500 ms.
    pub decelerate_ns: u64,
    /// Guidance of chunks by the previous one, a pi0rt_guidance.
    pub guidance: u32,
    /// How the weight of the previous chunk falls, a pi0rt_guidance_schedule.
    pub guidance_schedule: u32,
    /// Upper bound of the guidance weight; default: the daemon's.
    pub guidance_max_weight: f32,
    /// Rows beyond the delay over which the weight falls; default: the daemon's.
    pub guidance_horizon: u32,
    /// A full chunk every so many, with PI0RT_OBSERVATION_STATE_ONLY for those between; 1: each one is. Default: the
    /// daemon's.
    pub prefix_every: u32,
    /// Reserved for later versions, always 0.
    pub reserved: [u32; 5],
}

/// The policy the daemon serves, and the sizes of this session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_policy_info {
    /// sizeof(pi0rt_policy_info), set by the caller.
    pub struct_size: u32,
    /// Number of cameras of an observation.
    pub cameras: u32,
    /// Number of values of the state.
    pub state_dim: u32,
    /// Number of values of an action.
    pub action_dim: u32,
    /// Number of actions of a chunk.
    pub horizon: u32,
    /// Number of denoising steps per chunk.
    pub steps: u32,
    /// Length of the longest instruction, tokens.
    pub max_tokens: u32,
    /// Side of the square images the model sees, pixels. Frames may have any size.
    pub image_size: u32,
    /// Actions per second the daemon declares; 0: none. The rate of this session is rate_hz.
    pub control_rate_hz: f32,
    /// Capacity of each camera's frame in bytes.
    pub frame_bytes: u32,
    /// Number of observation slots.
    pub slots: u32,
    /// Maximum number of requests in flight.
    pub ring_entries: u32,
    /// Age of an observation, ns, beyond which it is answered with PI0RT_STATUS_STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Time between two heartbeats of the daemon, ns.
    pub heartbeat_ns: u64,
    /// Number of the session, for the daemon's log.
    pub session: u64,
    /// Number of this run of the daemon: changes with every restart, never 0.
    pub epoch: u64,
    /// Name of the checkpoint.
    pub model: [c_char; PI0RT_NAME_BYTES],
    /// Name of the device it runs on.
    pub device: [c_char; PI0RT_NAME_BYTES],
    /// Names of the cameras, in the order of an observation's frames.
    pub camera_names: [[c_char; PI0RT_NAME_BYTES]; PI0RT_MAX_CAMERAS],
    /// Actions per second at which this session plays chunks: row i is meant for i / rate_hz seconds after its
    /// observation. 0: none is declared, and pi0rt_action_at returns PI0RT_STATUS_NO_RATE.
    pub rate_hz: f32,
    /// Where rate_hz is declared.
    pub rate_source: pi0rt_rate_source,
    /// Number of actions of a chunk meant to be executed before the next chunk; 0: not declared.
    pub execution_horizon: u32,
    /// Cameras that an observation may lack, whatever the options say: bit i for camera i.
    pub optional_cameras: u32,
    /// How this session's chunks follow one another: never PI0RT_STITCHING_DEFAULT.
    pub stitching: pi0rt_stitching,
    /// Decay of an ensemble's weights; 0 for other stitchings.
    pub ensemble_decay: f32,
    /// Time of a crossfade, ns; 0 for other stitchings.
    pub crossfade_ns: u64,
    /// Time of PI0RT_STAGE_HOLD, ns.
    pub hold_ns: u64,
    /// Time of PI0RT_STAGE_DECELERATE, ns.
    pub decelerate_ns: u64,
}

/// Description of one value of the state or of an action.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_dimension {
    /// sizeof(pi0rt_dimension), set by the caller.
    pub struct_size: u32,
    /// The physical quantity of the value.
    pub quantity: pi0rt_quantity,
    /// 1: the value opens and closes a gripper; else 0.
    pub gripper: u32,
    /// Reserved for later versions, always 0.
    pub reserved: u32,
    /// Lower bound of the value; -INFINITY: none declared.
    pub position_min: f32,
    /// Upper bound of the value; INFINITY: none declared.
    pub position_max: f32,
    /// Upper bound of the absolute rate of change, units per second; INFINITY: none declared.
    pub velocity_max: f32,
    /// Upper bound of the absolute change of that rate, units per second squared; INFINITY: none declared.
    pub acceleration_max: f32,
    /// Name, such as "left_waist"; empty: none declared.
    pub name: [c_char; PI0RT_NAME_BYTES],
    /// Unit, such as "rad" or "m/s"; empty: none declared.
    pub unit: [c_char; PI0RT_UNIT_BYTES],
    /// Upper bound of the jump from the robot's present command to the first one; INFINITY: none declared. Of actions.
    pub start_jump: f32,
    /// How this session computes the value between two rows; PI0RT_INTERPOLATION_DEFAULT for a value of the state.
    pub interpolation: pi0rt_interpolation,
    /// Threshold of PI0RT_INTERPOLATION_SWITCH; NAN for the others.
    pub switch_at: f32,
    /// The value in PI0RT_STAGE_SAFE_STOP; NAN: it stays, or the value is one of the state.
    pub safe_pose: f32,
}

/// An instruction registered by this session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_prompt {
    /// sizeof(pi0rt_prompt), set by the caller.
    pub struct_size: u32,
    /// Number of the instruction, for pi0rt_observation.prompt_id.
    pub prompt_id: u32,
    /// 1: the end was cut off, because the policy takes at most pi0rt_policy_info.max_tokens tokens; else 0.
    pub truncated: u32,
    /// Reserved for later versions, always 0.
    pub reserved: u32,
}
