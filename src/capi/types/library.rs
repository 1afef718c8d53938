//! The library as such: versions, sizes, flags and the handle.

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
