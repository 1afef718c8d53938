//! What crosses the boundary.

use std::ffi::c_char;

use crate::control::{Fault, Quantity, RateSource};

pub use crate::control::Status;

/// Version of this header. A library with the same number can be used.
pub const PI0RT_ABI_VERSION: u32 = 1;
/// Most cameras of an observation.
pub const PI0RT_MAX_CAMERAS: usize = 4;
/// Room for a name, with its terminating NUL.
pub const PI0RT_NAME_BYTES: usize = 64;
/// Room for a unit, with its terminating NUL.
pub const PI0RT_UNIT_BYTES: usize = 16;

const _: () = assert!(PI0RT_ABI_VERSION == crate::control::ABI_VERSION);
const _: () = assert!(PI0RT_MAX_CAMERAS == crate::shm::MAX_CAMERAS);

/// A session with the daemon. Opaque: a number that looks like a pointer. Used by one thread at a
/// time.
#[allow(non_camel_case_types)]
pub struct pi0rt_client {
    _opaque: [u8; 0],
}

/// How the bytes of a frame are to be read.
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
    /// 1 byte per pixel.
    Gray8 = 4,
}

/// What a client is to a session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_role {
    /// It submits observations: the session is its own.
    Writer = 0,
    /// It looks at another client's session: chunks, actions, statistics, signs of life.
    Observer = 1,
}

/// What an action between two rows of a chunk is.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_interpolation {
    /// The earlier row.
    Hold = 0,
    /// On the straight line between the two.
    Linear = 1,
}

/// How the action for a moment came about.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_reason {
    /// From the chunk's rows around that moment.
    InChunk = 0,
    /// The moment lies before the chunk's observation: the first row.
    BeforeStart = 1,
    /// The moment lies beyond the chunk's last row: the last row, held.
    PastEnd = 2,
}

/// The state or an action: what a pi0rt_dimension is of.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_vector {
    /// The state.
    State = 0,
    /// An action.
    Action = 1,
}

/// The physical quantity of one value. New ones may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_quantity {
    /// Nothing declares it.
    Unknown = 0,
    /// Position: of a joint, of an end effector along an axis, of a gripper.
    Position = 1,
    /// Change of position by one control step.
    PositionDelta = 2,
    /// Velocity.
    Velocity = 3,
    /// Force or torque.
    Effort = 4,
}

/// Where the rate at which chunks are played is declared.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_rate_source {
    /// Nowhere.
    None = 0,
    /// control_rate_hz in the checkpoint's config.json.
    Checkpoint = 1,
    /// The robot's profile.
    Profile = 2,
    /// The daemon's configuration or command line.
    Configuration = 3,
    /// This session's options.
    Session = 4,
}

/// Why there is no chunk: with BAD_OBSERVATION any but the last two, which come with STALE. New ones may
/// be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_completion_reason {
    /// There is a chunk, or the status says all there is to say.
    None = 0,
    /// One that only the daemon's log has.
    Other = 1,
    /// A time lies more than 1 ms ahead of the submission, by value milliseconds: is it another clock's? index: the
    /// camera whose time it is, -1 for observed_ns.
    Future = 2,
    /// A time was more than 10 s old when it was submitted, by value milliseconds: is it another clock's? index: as
    /// for FUTURE.
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
    /// Value index of the state was not written since its slot was acquired.
    OldState = 10,
    /// Value index of the state is infinite or not a number. value: what is there.
    NotFinite = 11,
    /// Value index of the state lies outside of its limits, or far from all the policy was trained with. value:
    /// what is there.
    OutOfLimits = 12,
    /// The state has value values, not state_dim.
    StateCount = 13,
    /// No slot has this number. value: the number.
    Slot = 14,
    /// The observation, or the frame of camera index (-1: observed_ns), was value milliseconds old when its turn
    /// came: older than max_age_ns, or than 10 min where there is no such limit.
    Age = 15,
    /// The deadline had passed when its turn came.
    DeadlinePassed = 16,
}

/// How a session is to be. Zero, in any field but the first, means the default.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_client_options {
    /// sizeof(pi0rt_client_options).
    pub struct_size: u32,
    /// A pi0rt_interpolation.
    pub interpolation: u32,
    /// The daemon's socket; default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock.
    pub socket_path: *const c_char,
    /// Bytes for each camera's frame; default: the daemon's choice.
    pub frame_bytes: u32,
    /// Observation slots; default: the daemon's choice.
    pub slots: u32,
    /// Requests that can be under way, a power of two; default: the daemon's choice.
    pub ring_entries: u32,
    /// Actions per second at which chunks are played; default: what the daemon's configuration, the robot's
    /// profile or the checkpoint declares. Where nothing does, pi0rt_action_at answers with NO_RATE.
    pub control_rate_hz: f32,
    /// Age of the daemon's heartbeat beyond which it is taken for gone; default: 500 ms.
    pub gone_after_ns: u64,
    /// Longest wait for an answer over the socket; default: 60 s. Has to be longer than a
    /// chunk takes, because an instruction is looked at between two chunks.
    pub reply_timeout_ns: u64,
    /// Age of the latest chunk's observation beyond which pi0rt_chunk_latest and pi0rt_action_at say
    /// STALE, and time without an answer that is due beyond which pi0rt_poll does; default: never.
    pub stale_after_ns: u64,
    /// Name of the session, at most 63 bytes. A name has one writer at a time: another one is REFUSED.
    /// Default: none; for an observer, the only session there is.
    pub session_name: *const c_char,
    /// A pi0rt_role.
    pub role: u32,
    /// 1: observations may lack frames of cameras that the policy needs; it then sees what it sees of a camera that
    /// was absent in training. Default: such an observation is answered with BAD_OBSERVATION.
    pub allow_missing_cameras: u32,
}

/// The policy that is served, and the session's sizes.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_policy_info {
    /// sizeof(pi0rt_policy_info), set by the caller.
    pub struct_size: u32,
    /// Number of cameras.
    pub cameras: u32,
    /// Values of the state.
    pub state_dim: u32,
    /// Values of an action.
    pub action_dim: u32,
    /// Actions of a chunk.
    pub horizon: u32,
    /// Denoising steps of a chunk.
    pub steps: u32,
    /// Longest instruction, tokens.
    pub max_tokens: u32,
    /// Side of the images the model sees, pixels. Frames may have any size.
    pub image_size: u32,
    /// Actions per second the daemon declares; 0: none. What this session plays is in rate_hz.
    pub control_rate_hz: f32,
    /// Bytes of each camera's frame.
    pub frame_bytes: u32,
    /// Observation slots.
    pub slots: u32,
    /// Requests that can be under way.
    pub ring_entries: u32,
    /// Age of an observation beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Time between two heartbeats of the daemon.
    pub heartbeat_ns: u64,
    /// The session's number.
    pub session: u64,
    /// Tells this life of the daemon from others.
    pub epoch: u64,
    /// The checkpoint's name.
    pub model: [c_char; PI0RT_NAME_BYTES],
    /// The device it runs on.
    pub device: [c_char; PI0RT_NAME_BYTES],
    /// The cameras' names, in the order of an observation's frames.
    pub camera_names: [[c_char; PI0RT_NAME_BYTES]; PI0RT_MAX_CAMERAS],
    /// Actions per second at which this session plays chunks: row i is meant for i / rate_hz seconds after its
    /// observation. 0: nothing declares it, and pi0rt_action_at answers with NO_RATE.
    pub rate_hz: f32,
    /// Where rate_hz is declared.
    pub rate_source: pi0rt_rate_source,
    /// Actions of a chunk that are meant to be executed before the next; 0: not declared.
    pub execution_horizon: u32,
    /// Cameras that an observation may lack, whatever the options say: bit i for camera i.
    pub optional_cameras: u32,
}

/// One value of the state or of an action.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_dimension {
    /// sizeof(pi0rt_dimension), set by the caller.
    pub struct_size: u32,
    /// The physical quantity.
    pub quantity: pi0rt_quantity,
    /// 1: it opens and closes a gripper; else 0.
    pub gripper: u32,
    /// Zero.
    pub reserved: u32,
    /// Least value; -INFINITY where nothing declares one.
    pub position_min: f32,
    /// Greatest value; INFINITY where nothing declares one.
    pub position_max: f32,
    /// Greatest absolute rate of change, units per second; INFINITY where nothing declares one.
    pub velocity_max: f32,
    /// Greatest absolute change of that rate, units per second squared; INFINITY where nothing declares one.
    pub acceleration_max: f32,
    /// Name, such as "left_waist"; empty where nothing declares one.
    pub name: [c_char; PI0RT_NAME_BYTES],
    /// Unit, such as "rad" or "m/s"; empty where nothing declares one.
    pub unit: [c_char; PI0RT_UNIT_BYTES],
}

/// An instruction of the session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_prompt {
    /// sizeof(pi0rt_prompt), set by the caller.
    pub struct_size: u32,
    /// Its number, for pi0rt_observation.prompt_id.
    pub prompt_id: u32,
    /// 1: its end was cut off, because the policy takes no more than pi0rt_policy_info.max_tokens; else 0.
    pub truncated: u32,
    /// Zero.
    pub reserved: u32,
}

/// One camera's frame in an observation slot.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_frame {
    /// Where the frame goes: shared memory, page-aligned. Set by pi0rt_observation_acquire.
    pub data: *mut u8,
    /// Bytes there. Set by pi0rt_observation_acquire.
    pub capacity: usize,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next; 0: rows without gaps.
    pub stride: u32,
    /// A pi0rt_format; PI0RT_FORMAT_NONE: no frame.
    pub format: u32,
}

/// An observation slot that has been acquired, and what is to be said about its content.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_observation {
    /// sizeof(pi0rt_observation), set by the caller.
    pub struct_size: u32,
    /// The slot. Set by pi0rt_observation_acquire.
    pub slot: u32,
    /// Number of cameras. Set by pi0rt_observation_acquire.
    pub cameras: u32,
    /// The instruction, from pi0rt_client_set_prompt; 0: the one set last.
    pub prompt_id: u32,
    /// When the state and, unless frame_observed_ns says otherwise, the frames were taken, CLOCK_MONOTONIC; 0: when
    /// it is submitted. Row 0 of the chunk is meant for this moment.
    pub observed_ns: u64,
    /// Seed of the noise; 0: made from the ticket.
    pub seed: u64,
    /// Where the state goes: shared memory. Set by pi0rt_observation_acquire.
    pub state: *mut f32,
    /// Values there. Set by pi0rt_observation_acquire; a controller that has another number says so here and is
    /// answered with BAD_OBSERVATION.
    pub state_dim: usize,
    /// The cameras' frames, in the order of pi0rt_policy_info.camera_names.
    pub frames: [pi0rt_frame; PI0RT_MAX_CAMERAS],
    /// When its chunk is needed at the latest, CLOCK_MONOTONIC; 0: no such moment. Among clients, the
    /// earliest goes first; one that has passed before the work begins is answered with STALE.
    pub deadline_ns: u64,
    /// When each camera's frame was taken, CLOCK_MONOTONIC; 0: at observed_ns. The observation is as old as the
    /// oldest of its parts.
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
    /// The ticket pi0rt_submit returned.
    pub ticket: u64,
    /// Number of the chunk that was published, from 1; 0: none was.
    pub chunk: u64,
    /// When the observation was taken.
    pub observed_ns: u64,
    /// When it was submitted.
    pub submitted_ns: u64,
    /// When the daemon began to work on it; 0: it never did.
    pub started_ns: u64,
    /// When the daemon had finished with it.
    pub finished_ns: u64,
    /// Why there is no chunk. pi0rt_last_error has it in words.
    pub reason: pi0rt_completion_reason,
    /// Which camera, or which value of the state, the reason is about; -1: none.
    pub index: i32,
    /// What was there, as the reason says.
    pub value: f64,
}

/// A chunk of actions.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_chunk {
    /// sizeof(pi0rt_chunk), set by the caller.
    pub struct_size: u32,
    /// Rows: one action per control step.
    pub horizon: u32,
    /// Columns: values of an action.
    pub action_dim: u32,
    /// Zero.
    pub reserved: u32,
    /// horizon rows of action_dim values in robot units, row after row. A copy that belongs to the
    /// client: valid until the next call with it.
    pub actions: *const f32,
    /// The submission it answers.
    pub ticket: u64,
    /// Its number, from 1.
    pub chunk: u64,
    /// When its observation was taken; row i is meant for i control steps later.
    pub observed_ns: u64,
    /// When its observation was submitted.
    pub submitted_ns: u64,
    /// When the daemon began to work on it.
    pub started_ns: u64,
    /// When it was ready.
    pub finished_ns: u64,
}

/// Where an action comes from.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_action_info {
    /// sizeof(pi0rt_action_info), set by the caller.
    pub struct_size: u32,
    /// How the action came about.
    pub reason: pi0rt_reason,
    /// Number of the chunk.
    pub chunk: u64,
    /// Position in the chunk, rows from its observation.
    pub row: f64,
    /// Time from the chunk's observation to the action's moment.
    pub age_ns: u64,
}

/// How long something took. Percentiles are exact to a fifth.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_latency {
    /// How many times it was measured.
    pub count: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Half of the times were no longer.
    pub p50_ns: u64,
    /// 90 % were no longer.
    pub p90_ns: u64,
    /// 99 % were no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// What the daemon has counted for a session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pi0rt_statistics {
    /// sizeof(pi0rt_statistics), set by the caller.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Observations that were taken in.
    pub submitted: u64,
    /// Chunks that were published.
    pub published: u64,
    /// Observations that a newer one took the place of.
    pub superseded: u64,
    /// Observations that were too old, or whose deadline had passed.
    pub stale: u64,
    /// Observations that could not be used.
    pub bad_observations: u64,
    /// Chunks that were not published because of values that are not finite.
    pub invalid_chunks: u64,
    /// Failures of the device.
    pub device_failures: u64,
    /// Observations that were not answered with a chunk by their deadline.
    pub missed_deadlines: u64,
    /// Times the daemon itself was kept from running, for five heartbeats or more.
    pub stalls: u64,
    /// From submission to the beginning of the work, of published chunks.
    pub waiting: pi0rt_latency,
    /// From then to the chunk.
    pub inference: pi0rt_latency,
    /// From the observation to its chunk.
    pub age: pi0rt_latency,
}

/// A struct whose first member says how large the caller knows it. Fields are only ever added to
/// its end.
///
/// # Safety
/// `repr(C)`, with a `u32` called `struct_size` first; zero and every bit pattern of what C may
/// write are valid.
pub(super) unsafe trait Versioned: Copy {
    /// Its size in the first release.
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
    // The daemon's too: it shares memory with its clients.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for number in 0..=16 {
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
