//! Functions of the ABI that play chunks: real-time safe.

use super::boundary::{Failure, check_size, guard, output};
use super::handle::enter;
use super::types::*;
use crate::client::{Actions, Answer, ClientError};

/// Stores the command for moment t_ns (CLOCK_MONOTONIC): what the chunks say of it, within the robot's limits, or what
/// the stage is when no fresh chunk comes. As pi0rt_motion_at without velocities.
///
/// Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_STALE, PI0RT_STATUS_GONE, PI0RT_STATUS_RESTARTED, PI0RT_STATUS_OTHER_CLOCK or
/// PI0RT_STATUS_PROTOCOL, also with the command, and PI0RT_STATUS_EMPTY, PI0RT_STATUS_BUSY, PI0RT_STATUS_NO_RATE,
/// PI0RT_STATUS_STRUCT_SIZE or PI0RT_STATUS_INVALID_ARGUMENT without one, as pi0rt_motion_at does;
/// PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// action is NULL or has room for count values; info is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_action_at(
    client: *mut pi0rt_client,
    t_ns: u64,
    action: *mut f32,
    count: usize,
    info: *mut pi0rt_action_info,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { play(client, t_ns, action, std::ptr::null_mut(), count, info) }
}

/// Stores the command for moment t_ns (CLOCK_MONOTONIC), and its change per second for feed-forward: row
/// (t_ns - observed_ns) * rate of the latest chunk, interpolated, stitched to the chunk before and limited as the
/// options and the robot's profile say. When no fresh chunk comes, the player goes through its stages, pi0rt_stage.
/// count is the policy's action_dim. velocity and info may be NULL. The rate is pi0rt_policy_info.rate_hz.
///
/// Moments increase. The same moment again gets the same command, an earlier one the last command; after a pause of
/// more than 250 ms the robot counts as standing still. The daemon is told what is played, unless the client observes.
///
/// Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
///
/// Returns PI0RT_STATUS_OK; that is while rows of a fresh chunk are played. With action, velocity and info filled in,
/// too: PI0RT_STATUS_STALE from the hold stage on; PI0RT_STATUS_GONE while the daemon is gone, whatever the stage;
/// PI0RT_STATUS_RESTARTED once for each thread after a restart; PI0RT_STATUS_OTHER_CLOCK for a chunk whose observation
/// lies in the future, which isn't played yet; PI0RT_STATUS_PROTOCOL for a chunk that is not as announced, or whose
/// values are not finite, which isn't played. With info filled in alone, and its stage empty:
/// PI0RT_STATUS_EMPTY when there is neither a chunk nor a command from pi0rt_start_from; any of the above then, too, and
/// PI0RT_STATUS_BUSY when the first chunks are published faster than they can be copied. With nothing filled in, and
/// info->chunk 0: PI0RT_STATUS_NO_RATE when neither the options nor the daemon declare a control rate;
/// PI0RT_STATUS_OTHER_CLOCK for a t_ns of another clock, more than 1 s before the chunk's observation, more than 10 s
/// ago or more than 1 s ahead; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT, also for a count that is not action_dim;
/// PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// action and velocity are NULL or have room for count values each; info is NULL or points to a struct of its
/// struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_motion_at(
    client: *mut pi0rt_client,
    t_ns: u64,
    action: *mut f32,
    velocity: *mut f32,
    count: usize,
    info: *mut pi0rt_action_info,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { play(client, t_ns, action, velocity, count, info) }
}

/// # Safety
/// As [`pi0rt_motion_at`].
#[inline]
unsafe fn play(
    client: *mut pi0rt_client,
    t_ns: u64,
    action: *mut f32,
    velocity: *mut f32,
    count: usize,
    info: *mut pi0rt_action_info,
) -> Status {
    guard(|| {
        if !info.is_null() {
            // On every error below: no command of an earlier tick is told again.
            let nothing = info_of(&Answer::default(), 0);
            // SAFETY: the caller's promise; the size is checked before more is touched.
            unsafe {
                check_size("info", info)?;
                output(info, &nothing);
            }
        }
        let mut client = enter::<Actions>(client)?;
        if action.is_null() {
            return Err(Failure::Null("action"));
        }
        let expected = client.action_dim();
        if count != expected {
            return Err(ClientError::ActionLength { got: count, expected }.into());
        }
        if !velocity.is_null() && action.addr().abs_diff(velocity.addr()) < count * size_of::<f32>() {
            let (what, expected) = ("velocity", "other memory than action's");
            return Err(Failure::Value { what, got: velocity.addr() as u64, expected });
        }
        // SAFETY: the caller's promise; count is known to be small, and the two don't overlap.
        let (action, velocity) = unsafe {
            let velocity = (!velocity.is_null()).then(|| std::slice::from_raw_parts_mut(velocity, count));
            (std::slice::from_raw_parts_mut(action, count), velocity)
        };
        let (answer, fresh) = client.motion_at(t_ns, action, velocity)?;
        if !info.is_null() {
            let delay_rows = client.player().and_then(|player| player.delay()).unwrap_or(0);
            // SAFETY: the size was checked.
            unsafe { output(info, &info_of(&answer, delay_rows)) };
        }
        Ok(fresh?)
    })
}

fn info_of(answer: &Answer, delay_rows: u32) -> pi0rt_action_info {
    let Answer { stage, reason, chunk, ticket, notes, row, age_ns, left_ns, limited, .. } = *answer;
    let flags = [
        (answer.submit_now, PI0RT_ACTION_SUBMIT_NOW),
        (answer.horizon_too_short, PI0RT_ACTION_HORIZON_TOO_SHORT),
        (answer.past_end, PI0RT_ACTION_PAST_END),
    ];
    pi0rt_action_info {
        struct_size: 0,
        reason: reason.into(),
        chunk,
        row,
        age_ns,
        stage: stage.into(),
        flags: flags.into_iter().fold(0, |flags, (is, flag)| flags | if is { flag } else { 0 }),
        limited: limited.dimensions,
        limits: limited.kinds,
        delay_rows,
        ticket,
        rows_left_ns: left_ns,
        prompt_id: notes.prompt_id,
        episode: notes.episode,
        guided: notes.guidance.into(),
        delay: notes.delay,
        guidance_horizon: notes.guidance_horizon,
        prefix_age: notes.prefix_age,
        reserved: [0; 2],
    }
}

/// Sets the robot's present command, from which it starts at rest: the next commands move to the chunks from there,
/// within the limits. Before the first pi0rt_action_at; after pi0rt_client_reset, if the robot was moved; and after
/// an emergency stop. Without it the first command is the first chunk's own. count is the policy's action_dim.
///
/// Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_RATE when neither the options nor the daemon declare a control rate;
/// PI0RT_STATUS_INVALID_ARGUMENT, also for a count that is not action_dim, and for a value that is not finite or
/// outside its dimension's limits: the last error has the dimension, the value and the limits; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
/// PI0RT_STATUS_OK nothing has changed.
///
/// # Safety
/// command is NULL or has count values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_start_from(
    client: *mut pi0rt_client,
    command: *const f32,
    count: usize,
) -> Status {
    guard(|| {
        let mut client = enter::<Actions>(client)?;
        if command.is_null() {
            return Err(Failure::Null("command"));
        }
        let expected = client.action_dim();
        if count != expected {
            return Err(ClientError::CommandLength { got: count, expected }.into());
        }
        // SAFETY: the caller's promise; count is known to be small.
        Ok(client.start_from(unsafe { std::slice::from_raw_parts(command, count) })?)
    })
}
