//! Structs, enums and constants of the C ABI.

use std::ffi::c_char;

use crate::control::{Fault, Quantity, RateSource};

pub use crate::control::Status;

/// ABI version of this header. A program runs with any library whose pi0rt_version() returns the same number.
pub const PI0RT_ABI_VERSION: u32 = 1;
/// Maximum number of cameras of an observation.
pub const PI0RT_MAX_CAMERAS: usize = 4;
/// Size of a name buffer in bytes, with the terminating NUL.
pub const PI0RT_NAME_BYTES: usize = 64;
/// Size of a unit buffer in bytes, with the terminating NUL.
pub const PI0RT_UNIT_BYTES: usize = 16;

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
    /// The earlier row is held.
    Hold = 0,
    /// Linear interpolation between the two rows.
    Linear = 1,
}

/// Where an action came from, relative to the chunk's rows.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_reason {
    /// The moment lies within the chunk: from the rows around it.
    InChunk = 0,
    /// The moment lies before the chunk's observation: the first row is used.
    BeforeStart = 1,
    /// The moment lies beyond the chunk's last row: the last row is held.
    PastEnd = 2,
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

/// Why a completion has no chunk. The last two values come with PI0RT_STATUS_STALE, all others with
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
    /// Camera index has no frame.
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
    /// How actions between rows are computed, a pi0rt_interpolation; default: PI0RT_INTERPOLATION_HOLD.
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
    /// Age of the latest chunk's observation, ns, beyond which pi0rt_chunk_latest and pi0rt_action_at return
    /// PI0RT_STATUS_STALE, and time that a completion may be overdue before pi0rt_poll does; default: never.
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
}

/// The origin of an action: chunk, row and age.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_action_info {
    /// sizeof(pi0rt_action_info), set by the caller.
    pub struct_size: u32,
    /// How the action was derived from the chunk.
    pub reason: pi0rt_reason,
    /// Number of the chunk; 0: there is none.
    pub chunk: u64,
    /// Position in the chunk, in rows from its observation.
    pub row: f64,
    /// Time from the chunk's observation to the action's moment, ns.
    pub age_ns: u64,
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
    /// Chunks withheld because of values that are not finite.
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

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for number in 0..=20 {
            let fault = Fault::from_word(number);
            assert_eq!(pi0rt_completion_reason::from(fault) as u64, number);
            assert_eq!(u64::from(fault.map_or(0, |fault| fault.number())), number);
        }
        for source in 1..=4 {
            assert_eq!(pi0rt_rate_source::from(RateSource::from_number(source)) as u32, source);
        }
        for quantity in 0..=4 {
            assert_eq!(pi0rt_quantity::from(Quantity::from_number(quantity)) as u32, quantity);
        }
    }
}
