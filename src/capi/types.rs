//! Structs, enums and constants of the C ABI.

use std::ffi::c_char;

use crate::client::{Interpolation, Reason, Stage};
use crate::control::{Fault, Guided, Quantity, RateSource};

pub use crate::control::Status;

/// ABI version of this header. A program runs with any library whose pi0rt_version() returns the same number.
pub const PI0RT_ABI_VERSION: u32 = 1;
/// Maximum number of cameras of an observation.
pub const PI0RT_MAX_CAMERAS: usize = 4;
/// Size of a name buffer in bytes, with the terminating NUL.
pub const PI0RT_NAME_BYTES: usize = 64;
/// Size of a unit buffer in bytes, with the terminating NUL.
pub const PI0RT_UNIT_BYTES: usize = 16;

/// pi0rt_action_info.flags: an observation is due, by the options' submit_when.
pub const PI0RT_ACTION_SUBMIT_NOW: u32 = 1;
/// pi0rt_action_info.flags: chunks come so late that no row is left to play.
pub const PI0RT_ACTION_HORIZON_TOO_SHORT: u32 = 2;
/// pi0rt_action_info.flags: the moment lies beyond the last row of the chunk.
pub const PI0RT_ACTION_PAST_END: u32 = 4;
/// pi0rt_observation.flags: keep the images' and the instruction's part of the computation of the session's last full
/// chunk, and take the new state alone. Approximate, and only for policies that have the state apart (PI0).
pub const PI0RT_OBSERVATION_STATE_ONLY: u32 = 1;
/// pi0rt_observation.flags: don't guide this chunk by the previous one.
pub const PI0RT_OBSERVATION_UNGUIDED: u32 = 2;

const _: () = assert!(PI0RT_OBSERVATION_STATE_ONLY == crate::shm::KEEP_PREFIX);
const _: () = assert!(PI0RT_OBSERVATION_UNGUIDED == crate::shm::UNGUIDED);
const _: () = assert!(PI0RT_ABI_VERSION == crate::control::ABI_VERSION);
const _: () = assert!(PI0RT_MAX_CAMERAS == crate::shm::MAX_CAMERAS);

/// A session with the daemon. Opaque: a number that looks like a pointer. One thread at a time in calls of each class.
#[allow(non_camel_case_types)]
pub struct pi0rt_client {
    _opaque: [u8; 0],
}

/// Pixel format of a frame: how its bytes are to be read. Luma and colour differences are those of ITU-R BT.601, luma
/// from 16 to 235, as cameras send them. A daemon that doesn't know a format answers with
/// PI0RT_COMPLETION_REASON_FRAME_FORMAT.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_format {
    /// The camera has no frame in this observation.
    None = 0,
    /// 3 bytes per pixel: red, green, blue.
    Rgb8 = 1,
    /// 3 bytes per pixel: blue, green, red.
    Bgr8 = 2,
    /// 4 bytes per pixel: red, green, blue, ignored.
    Rgba8 = 3,
    /// 1 byte per pixel: grey.
    Gray8 = 4,
    /// 4 bytes per pixel: blue, green, red, ignored.
    Bgra8 = 5,
    /// 4 bytes per two pixels of a row: luma, blue difference, luma, red difference (YUY2). The width is even.
    Yuyv = 6,
    /// A plane of luma, then, stride times height bytes later, a plane of half as many rows with the blue and red
    /// differences of 2 by 2 pixels, with the same stride. Width and height are even.
    Nv12 = 7,
    /// A baseline JPEG image of the frame's width and height, at most 3840 by 2160 pixels; stride is its length in
    /// bytes. The daemon decodes it before it computes, which takes some milliseconds a megapixel.
    Jpeg = 8,
}

/// Role of a client in its session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_role {
    /// The client owns the session and submits observations.
    Writer = 0,
    /// The client reads another client's session: chunks, actions, statistics and liveness.
    Observer = 1,
}

/// How an action between two rows of a chunk is computed.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_interpolation {
    /// As the robot's profile says, else PI0RT_INTERPOLATION_LINEAR.
    Default = 0,
    /// On the straight line between the two rows.
    Linear = 1,
    /// The earlier row is held.
    Hold = 2,
    /// On a cubic Hermite spline through the rows, with a continuous velocity.
    Cubic = 3,
    /// One row's value at a time, the later one's from when the straight line crosses pi0rt_dimension.switch_at: a
    /// gripper. Of single dimensions, by the robot's profile; not for pi0rt_client_options.
    Switch = 4,
}

/// How one chunk follows another.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_stitching {
    /// As the robot's profile says, else PI0RT_STITCHING_CROSSFADE.
    Default = 0,
    /// The new chunk is played from its first moment.
    Replace = 1,
    /// The command changes over from the old chunk to the new one within crossfade_ns.
    Crossfade = 2,
    /// The command is the mean over the chunks that have a row for the moment, weighted exp(-ensemble_decay * i), i from
    /// 0 for the oldest (ACT).
    Ensemble = 3,
}

/// When PI0RT_ACTION_SUBMIT_NOW is set. While an observation is to be answered, it never is.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_submit_when {
    /// PI0RT_SUBMIT_WHEN_CONTINUOUS.
    Default = 0,
    /// As soon as the observation before is answered.
    Continuous = 1,
    /// When no more than submit_rows rows of the chunk are left.
    Queue = 2,
    /// As late as possible: when the time left is no more than the longest of the last five delays and submit_margin_ns.
    Latest = 3,
}

/// Whether the daemon guides chunks by what is left of the previous one (real-time chunking).
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guidance {
    /// As the daemon's configuration says.
    Default = 0,
    /// Chunks are guided.
    On = 1,
    /// Chunks are not guided.
    Off = 2,
}

/// How the weight of the previous chunk falls from the delay to the guidance's horizon.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guidance_schedule {
    /// As the daemon's configuration says.
    Default = 0,
    /// In a straight line.
    Linear = 1,
    /// Faster than a straight line.
    Exp = 2,
    /// It doesn't fall: 1 up to the horizon.
    Ones = 3,
    /// At once: 0 from the delay on.
    Zeros = 4,
}

/// Whether a chunk was guided by the previous one, or why not. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guided {
    /// The daemon doesn't say.
    Unknown = 0,
    /// It was guided.
    Guided = 1,
    /// The configuration, the session or the observation asked for none.
    Off = 2,
    /// It is the first one of its episode.
    FirstChunk = 3,
    /// The previous chunk was not played: nothing called pi0rt_action_at, or it came too late.
    NotPlayed = 4,
    /// Nothing was left of the previous chunk when the observation was taken.
    NoLeftOver = 5,
    /// The instruction was set by pi0rt_client_set_prompt_flush.
    Flushed = 6,
    /// Nothing declares a control rate.
    NoRate = 7,
    /// The previous chunk has another kind of actions.
    ActionSpace = 8,
    /// What was reported to be played can't be.
    PlaybackWrong = 9,
}

/// What the player does, by how long no fresh chunk has come.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_stage {
    /// Nothing: there was no chunk, and no command to start from.
    Empty = 0,
    /// It plays the rows of the latest chunk.
    Play = 1,
    /// Positions and efforts are held; velocities and changes of position go to 0.
    Hold = 2,
    /// As PI0RT_STAGE_HOLD: the robot comes to rest.
    Decelerate = 3,
    /// Velocities are 0; positions and efforts stay, or go to the safe pose of the robot's profile.
    SafeStop = 4,
}

/// Where a command comes from, and why from there. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_reason {
    /// The moment lies within the chunk: from the rows around it.
    InChunk = 0,
    /// The moment lies before the chunk's observation: the first row.
    BeforeStart = 1,
    /// The moment lies beyond the chunk's last row.
    PastEnd = 2,
    /// The chunk's observation is older than stale_after_ns.
    Stale = 3,
    /// The newest chunk came when all its rows were past. It isn't played.
    Late = 4,
    /// What was planned was flushed by pi0rt_client_set_prompt_flush.
    Flushed = 5,
    /// A new episode has begun, or the daemon has withdrawn its chunk.
    Episode = 6,
    /// The robot is about to start from its present command.
    Started = 7,
    /// The moment lies before that of the call before: its command is repeated.
    ClockBack = 8,
    /// There was no chunk yet.
    NoChunk = 9,
}

/// Kinds of limits that changed a command: bits of pi0rt_action_info.limits.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_limit {
    /// A bound of the value, or the distance needed to stop before it.
    Position = 1,
    /// The bound of the value's change per second.
    Velocity = 2,
    /// The bound of that change's change, also while the command catches up with the chunk.
    Acceleration = 4,
    /// The bound of the jump at start.
    Start = 8,
    /// The robot's present command lies outside its bounds and is brought back.
    Outside = 16,
}

/// Which vector a pi0rt_dimension belongs to.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_vector {
    /// The observation's state.
    State = 0,
    /// The actions of a chunk.
    Action = 1,
}

/// The physical quantity of one value. New ones may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_quantity {
    /// No quantity is declared.
    Unknown = 0,
    /// Position of a joint, of an end effector along an axis, or of a gripper.
    Position = 1,
    /// Change of position within one control step.
    PositionDelta = 2,
    /// Velocity: change of position per second.
    Velocity = 3,
    /// Effort: force or torque.
    Effort = 4,
}

/// Where the control rate of a session is declared.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_rate_source {
    /// No control rate is declared.
    None = 0,
    /// The key control_rate_hz in the checkpoint's config.json.
    Checkpoint = 1,
    /// The profile of the robot.
    Profile = 2,
    /// The daemon's configuration file or command line.
    Configuration = 3,
    /// The options this session was opened with.
    Session = 4,
}

/// Why a completion has no chunk. PI0RT_COMPLETION_REASON_AGE and _DEADLINE_PASSED come with PI0RT_STATUS_STALE,
/// PI0RT_COMPLETION_REASON_CHUNK_NOT_FINITE to _CHUNK_START with PI0RT_STATUS_INVALID_CHUNK, all others with
/// PI0RT_STATUS_BAD_OBSERVATION. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_completion_reason {
    /// There is a chunk, or the status is the whole reason.
    None = 0,
    /// A reason that only the daemon's log gives.
    Other = 1,
    /// A time lies more than 1 ms ahead of the submission, by value milliseconds: is it another clock's? index: the
    /// camera whose time it is, -1 for observed_ns.
    Future = 2,
    /// A time was more than 10 s old when it was submitted, by value milliseconds: is it another clock's?
    /// index: as for PI0RT_COMPLETION_REASON_FUTURE.
    TooOld = 3,
    /// The deadline lies more than a day ahead or passed more than 10 min ago: is it another clock's, or a
    /// duration?
    Deadline = 4,
    /// No instruction has the number prompt_id, or none is registered. value: the number.
    Prompt = 5,
    /// Camera index has no frame; -1: no camera has one, which allow_missing_cameras doesn't allow either.
    MissingCamera = 6,
    /// The frame of camera index has an unknown format. value: the format.
    FrameFormat = 7,
    /// The frame of camera index has sizes that can't be, or that the policy can't use.
    FrameSize = 8,
    /// The frame of camera index was not written since its slot was acquired.
    OldFrame = 9,
    /// State value index was not written since its slot was acquired.
    OldState = 10,
    /// State value index is infinite or not a number. value: the value.
    NotFinite = 11,
    /// State value index lies outside its limits, or far from everything the policy was trained with. value:
    /// the value.
    OutOfLimits = 12,
    /// The state has value values instead of state_dim.
    StateCount = 13,
    /// No slot has this number. value: the number.
    Slot = 14,
    /// The observation, or the frame of camera index (-1: observed_ns), was value milliseconds old when its turn
    /// came: older than max_age_ns, or than 10 min where there is no such limit.
    Age = 15,
    /// The deadline had passed when its turn came.
    DeadlinePassed = 16,
    /// Value index of an action of the chunk is infinite or not a number. value: the value.
    ChunkNotFinite = 17,
    /// Value index of an action of the chunk lies outside its limits. value: the value.
    ChunkPosition = 18,
    /// Value index of the chunk's actions changes faster from one row to the next than its limit allows. value: the
    /// velocity, units per second.
    ChunkVelocity = 19,
    /// Value index of the chunk's actions begins too far from the state. value: the difference.
    ChunkStart = 20,
    /// The bytes of the frame of camera index are no JPEG image that can be decoded, or one of another size.
    FrameData = 21,
}

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
    /// Whether chunks are guided by the previous one, a pi0rt_guidance.
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
    /// Whether it was guided by the previous chunk.
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
    /// What the player does.
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
    /// Whether the chunk was guided by the previous one.
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

/// A struct whose first member says how large the caller knows it. Fields are only ever added at the end.
///
/// # Safety
/// `repr(C)`, with a `u32` called `struct_size` first; zero and every bit pattern of what C may
/// write are valid.
pub(super) unsafe trait Versioned: Copy {
    /// Size of the struct in the first release, bytes.
    const FIRST: usize;
}

// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_client_options {
    const FIRST: usize = 48;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_policy_info {
    const FIRST: usize = 464;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_dimension {
    const FIRST: usize = 112;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_prompt {
    const FIRST: usize = 16;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_observation {
    const FIRST: usize = 176;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_statistics {
    const FIRST: usize = 224;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_completion {
    const FIRST: usize = 56;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_chunk {
    const FIRST: usize = 72;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_action_info {
    const FIRST: usize = 32;
}

const _: () = {
    use std::mem::{offset_of, size_of};
    // The daemon needs this too: it shares memory with its clients.
    assert!(usize::BITS == 64);
    assert!(size_of::<pi0rt_client_options>() >= pi0rt_client_options::FIRST);
    assert!(size_of::<pi0rt_policy_info>() >= pi0rt_policy_info::FIRST);
    assert!(size_of::<pi0rt_dimension>() >= pi0rt_dimension::FIRST);
    assert!(size_of::<pi0rt_prompt>() >= pi0rt_prompt::FIRST);
    assert!(size_of::<pi0rt_observation>() >= pi0rt_observation::FIRST);
    assert!(size_of::<pi0rt_completion>() >= pi0rt_completion::FIRST);
    assert!(size_of::<pi0rt_chunk>() >= pi0rt_chunk::FIRST);
    assert!(size_of::<pi0rt_action_info>() >= pi0rt_action_info::FIRST);
    assert!(size_of::<pi0rt_statistics>() >= pi0rt_statistics::FIRST);
    assert!(size_of::<pi0rt_latency>() == 48);
    assert!(size_of::<pi0rt_frame>() == 32);
    assert!(offset_of!(pi0rt_observation, frames) == 48);
    assert!(offset_of!(pi0rt_completion, ticket) == 8);
};

impl From<Quantity> for pi0rt_quantity {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Unknown => Self::Unknown,
            Quantity::Position => Self::Position,
            Quantity::PositionDelta => Self::PositionDelta,
            Quantity::Velocity => Self::Velocity,
            Quantity::Effort => Self::Effort,
        }
    }
}

impl From<Reason> for pi0rt_reason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::InChunk => Self::InChunk,
            Reason::BeforeStart => Self::BeforeStart,
            Reason::PastEnd => Self::PastEnd,
            Reason::Stale => Self::Stale,
            Reason::Late => Self::Late,
            Reason::Flushed => Self::Flushed,
            Reason::Episode => Self::Episode,
            Reason::Started => Self::Started,
            Reason::ClockBack => Self::ClockBack,
            Reason::NoChunk => Self::NoChunk,
        }
    }
}

impl From<Stage> for pi0rt_stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Empty => Self::Empty,
            Stage::Play => Self::Play,
            Stage::Hold => Self::Hold,
            Stage::Decelerate => Self::Decelerate,
            Stage::SafeStop => Self::SafeStop,
        }
    }
}

impl From<Interpolation> for pi0rt_interpolation {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Hold => Self::Hold,
            Interpolation::Linear => Self::Linear,
            Interpolation::Cubic => Self::Cubic,
            Interpolation::Switch { .. } => Self::Switch,
        }
    }
}

/// Of a number in shared memory, which may be any.
impl From<u32> for pi0rt_guided {
    fn from(number: u32) -> Self {
        match Guided::from_number(number) {
            None => Self::Unknown,
            Some(Guided::Guided) => Self::Guided,
            Some(Guided::Off) => Self::Off,
            Some(Guided::FirstChunk) => Self::FirstChunk,
            Some(Guided::NotPlayed) => Self::NotPlayed,
            Some(Guided::NoLeftOver) => Self::NoLeftOver,
            Some(Guided::Flushed) => Self::Flushed,
            Some(Guided::NoRate) => Self::NoRate,
            Some(Guided::ActionSpace) => Self::ActionSpace,
            Some(Guided::PlaybackWrong) => Self::PlaybackWrong,
        }
    }
}

impl From<Option<RateSource>> for pi0rt_rate_source {
    fn from(source: Option<RateSource>) -> Self {
        match source {
            None => Self::None,
            Some(RateSource::Checkpoint) => Self::Checkpoint,
            Some(RateSource::Profile) => Self::Profile,
            Some(RateSource::Configuration) => Self::Configuration,
            Some(RateSource::Session) => Self::Session,
        }
    }
}

impl From<Option<Fault>> for pi0rt_completion_reason {
    fn from(fault: Option<Fault>) -> Self {
        match fault {
            None => Self::None,
            Some(Fault::Other) => Self::Other,
            Some(Fault::Future { .. }) => Self::Future,
            Some(Fault::TooOld { .. }) => Self::TooOld,
            Some(Fault::Deadline) => Self::Deadline,
            Some(Fault::Prompt { .. }) => Self::Prompt,
            Some(Fault::MissingCamera { .. }) => Self::MissingCamera,
            Some(Fault::FrameFormat { .. }) => Self::FrameFormat,
            Some(Fault::FrameSize { .. }) => Self::FrameSize,
            Some(Fault::OldFrame { .. }) => Self::OldFrame,
            Some(Fault::OldState { .. }) => Self::OldState,
            Some(Fault::NotFinite { .. }) => Self::NotFinite,
            Some(Fault::OutOfLimits { .. }) => Self::OutOfLimits,
            Some(Fault::StateCount { .. }) => Self::StateCount,
            Some(Fault::Slot { .. }) => Self::Slot,
            Some(Fault::Age { .. }) => Self::Age,
            Some(Fault::DeadlinePassed) => Self::DeadlinePassed,
            Some(Fault::ChunkNotFinite { .. }) => Self::ChunkNotFinite,
            Some(Fault::ChunkPosition { .. }) => Self::ChunkPosition,
            Some(Fault::ChunkVelocity { .. }) => Self::ChunkVelocity,
            Some(Fault::ChunkStart { .. }) => Self::ChunkStart,
            Some(Fault::FrameData { .. }) => Self::FrameData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::player::Limited;

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for number in 0..=21 {
            let fault = Fault::from_word(number);
            assert_eq!(pi0rt_completion_reason::from(fault) as u64, number);
            assert_eq!(u64::from(fault.map_or(0, |fault| fault.number())), number);
        }
        for number in 0..=9 {
            assert_eq!(pi0rt_guided::from(number) as u32, number);
        }
        assert_eq!(pi0rt_guided::from(u32::MAX), pi0rt_guided::Unknown);
        let reasons = [
            Reason::InChunk,
            Reason::BeforeStart,
            Reason::PastEnd,
            Reason::Stale,
            Reason::Late,
            Reason::Flushed,
            Reason::Episode,
            Reason::Started,
            Reason::ClockBack,
            Reason::NoChunk,
        ];
        for (reason, number) in reasons.into_iter().zip(0..) {
            assert_eq!((pi0rt_reason::from(reason) as u32, reason as u32), (number, number));
        }
        let stages = [Stage::Empty, Stage::Play, Stage::Hold, Stage::Decelerate, Stage::SafeStop];
        for (stage, number) in stages.into_iter().zip(0..) {
            assert_eq!((pi0rt_stage::from(stage) as u32, stage as u32), (number, number));
        }
        let limits = [
            (pi0rt_limit::Position, Limited::POSITION),
            (pi0rt_limit::Velocity, Limited::VELOCITY),
            (pi0rt_limit::Acceleration, Limited::ACCELERATION),
            (pi0rt_limit::Start, Limited::START),
            (pi0rt_limit::Outside, Limited::OUTSIDE),
        ];
        assert!(limits.into_iter().all(|(limit, bit)| limit as u32 == bit));
        for source in 1..=4 {
            assert_eq!(pi0rt_rate_source::from(RateSource::from_number(source)) as u32, source);
        }
        for quantity in 0..=4 {
            assert_eq!(pi0rt_quantity::from(Quantity::from_number(quantity)) as u32, quantity);
        }
    }
}
