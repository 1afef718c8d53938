//! Functions of the ABI for control loops: real-time safe, except for pi0rt_wait.

use super::boundary::{Failure, check_size, guard, input, known, output};
use super::handle::enter;
use super::last_error;
use super::types::*;
use crate::client::{Actions, Completions, Observation, Submissions};
use crate::control::Fault;
use crate::shm::{self, Camera, Count, Geometry, LatencyKind, PixelLayout};

/// Reads the clock that all times of this interface use.
///
/// Real-time safe: read without a system call. Thread safe.
///
/// Returns nanoseconds of CLOCK_MONOTONIC.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_now_ns() -> u64 {
    shm::clock::now_ns()
}

/// Acquires a free observation slot: sets slot, cameras, state, state_dim and each frame's data and capacity.
/// Write the frames and the state there, in place; set each frame's width, height, stride and format; then
/// submit. All other fields keep their values.
///
/// Content that was written for an earlier observation doesn't count: the whole state, and each frame that has
/// a format and at least 16 bytes, must be written again before the slot is submitted. Otherwise the
/// observation is answered with PI0RT_STATUS_BAD_OBSERVATION.
///
/// Real-time safe: no system call, no lock, no allocation. Class: submissions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_BUSY when all slots are in use (poll to get them back);
/// PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// observation is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_observation_acquire(
    client: *mut pi0rt_client,
    observation: *mut pi0rt_observation,
) -> Status {
    guard(|| {
        let mut client = enter::<Submissions>(client)?;
        // SAFETY: the caller's promise.
        let mut to = unsafe { known("observation", observation) }?;
        let slot = client.acquire()?;
        let Geometry { cameras, state_dim, frame_bytes, .. } = *client.geometry()?;
        to.slot = slot;
        to.cameras = cameras;
        to.state = client.state(slot).unwrap_or(std::ptr::null_mut());
        to.state_dim = state_dim as usize;
        for (index, frame) in to.frames.iter_mut().enumerate() {
            let data = client.frame(slot, index);
            frame.data = data.unwrap_or(std::ptr::null_mut());
            frame.capacity = data.map_or(0, |_| frame_bytes as usize);
        }
        // SAFETY: the size was checked.
        unsafe { output(observation, &to) };
        Ok(())
    })
}

/// Releases an acquired slot without submitting it.
///
/// Real-time safe: no system call, no lock, no allocation. Class: submissions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT for a slot that was not acquired;
/// PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
/// PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// observation is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_observation_release(
    client: *mut pi0rt_client,
    observation: *const pi0rt_observation,
) -> Status {
    guard(|| {
        let mut client = enter::<Submissions>(client)?;
        // SAFETY: the caller's promise.
        let observation = unsafe { input("observation", observation) }?;
        Ok(client.release(observation.slot)?)
    })
}

/// Submits an acquired observation to the daemon and stores the ticket that its completion will carry. From
/// then on the slot must not be written to. The newest observation wins: an older one whose turn hasn't come is
/// answered with PI0RT_STATUS_SUPERSEDED.
///
/// Real-time safe: no lock, no allocation; no system call unless the daemon sleeps (then one, to wake it).
/// Class: submissions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_BUSY when as many requests are unanswered as the ring has entries
/// (poll first); PI0RT_STATUS_GONE when nobody would answer; PI0RT_STATUS_RESTARTED once for each
/// thread after a restart: submit again; PI0RT_STATUS_RESTARTED, too, for an observation that was acquired before a
/// reconnect, which is given back: acquire again; PI0RT_STATUS_FRAME_SIZE
/// for a frame that doesn't fit its capacity; PI0RT_STATUS_INVALID_ARGUMENT for a slot that was not acquired,
/// an unknown format or flag, or a frame of a camera that doesn't exist; PI0RT_STATUS_PROTOCOL when the daemon has
/// damaged the ring; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
/// PI0RT_STATUS_OK the slot stays acquired.
///
/// # Safety
/// observation is NULL or points to a struct of its struct_size; ticket is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_submit(
    client: *mut pi0rt_client,
    observation: *const pi0rt_observation,
    ticket: *mut u64,
) -> Status {
    guard(|| {
        let mut client = enter::<Submissions>(client)?;
        // SAFETY: the caller's promise.
        let observation = unsafe { input("observation", observation) }?;
        let mut cameras = [Camera::default(); PI0RT_MAX_CAMERAS];
        for (camera, frame) in cameras.iter_mut().zip(&observation.frames) {
            let pi0rt_frame { width, height, stride, format, .. } = *frame;
            // A width that the format can't have is refused with the frame's sizes.
            let row = match (format, PixelLayout::from_number(format)) {
                (0, _) => 0,
                (_, Some(pixel)) => pixel.row_bytes(width as usize).unwrap_or(0),
                (got, None) => {
                    let what = "format of a frame";
                    return Err(Failure::Value { what, got: got.into(), expected: "a pi0rt_format" });
                }
            };
            let stride = if stride == 0 { row.try_into().unwrap_or(u32::MAX) } else { stride };
            *camera = Camera { width, height, stride, format };
        }
        let submitted = client.submit(&Observation {
            slot: observation.slot,
            prompt_id: observation.prompt_id,
            observed_ns: observation.observed_ns,
            seed: observation.seed,
            deadline_ns: observation.deadline_ns,
            frames_observed_ns: observation.frame_observed_ns,
            // A number that doesn't fit its word differs from the policy's, too.
            state_values: observation.state_dim.try_into().unwrap_or(u32::MAX),
            cameras,
            flags: match observation.flags & !(PI0RT_OBSERVATION_STATE_ONLY | PI0RT_OBSERVATION_UNGUIDED) {
                0 => observation.flags,
                _ => {
                    let (what, got) = ("observation.flags", observation.flags.into());
                    return Err(Failure::Value { what, got, expected: "PI0RT_OBSERVATION_*, combined" });
                }
            },
        })?;
        if !ticket.is_null() {
            // SAFETY: the caller's promise.
            unsafe { ticket.write(submitted) };
        }
        Ok(())
    })
}

/// Takes one completion. Each ticket gets exactly one; its slot is then free again. completion->status tells
/// whether there is a chunk. If there is none, completion->reason tells why and, unless a newer observation
/// superseded it, pi0rt_last_error has it in words.
///
/// Real-time safe: no lock, no allocation; no system call (up to three once pi0rt_client_fd was called).
/// Class: completions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_EMPTY when there is none; PI0RT_STATUS_STALE when one is overdue by
/// more than the options' stale_after_ns, if set; PI0RT_STATUS_GONE when there won't be any
/// more; PI0RT_STATUS_RESTARTED once for each thread after a restart: poll again; PI0RT_STATUS_PROTOCOL when the daemon answers a request that was not made; PI0RT_STATUS_SYSTEM when a
/// system call failed (only once pi0rt_client_fd was called); PI0RT_STATUS_STRUCT_SIZE;
/// PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
/// PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// completion is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_poll(client: *mut pi0rt_client, completion: *mut pi0rt_completion) -> Status {
    guard(|| {
        let mut client = enter::<Completions>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("completion", completion) }?;
        let taken = client.poll()?;
        // SAFETY: the size was checked.
        unsafe { output(completion, &completion_of(&client, &taken)) };
        Ok(())
    })
}

fn completion_of(client: &Completions, completion: &shm::Completion) -> pi0rt_completion {
    let fault = Fault::from_word(completion.detail);
    // Superseding is what the client asked for by submitting again: no error.
    if completion.status < 0 && completion.status != Status::Superseded as i32 {
        last_error::set(&client.explain(completion));
    }
    pi0rt_completion {
        struct_size: 0,
        status: Status::from_number(completion.status).unwrap_or(Status::Internal),
        ticket: completion.ticket,
        chunk: completion.chunk,
        observed_ns: completion.observed_ns,
        submitted_ns: completion.submitted_ns,
        started_ns: completion.started_ns,
        finished_ns: completion.finished_ns,
        reason: fault.into(),
        index: fault.and_then(|fault| fault.index()).map_or(-1, i32::from),
        value: fault.map_or(0.0, |fault| fault.value()),
    }
}

/// Copies the latest chunk, if it is new, and points chunk->actions at the copy.
///
/// Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_EMPTY before the first chunk; PI0RT_STATUS_STALE when its observation
/// is older than the options' stale_after_ns, if set, with everything set as for PI0RT_STATUS_OK;
/// PI0RT_STATUS_OTHER_CLOCK likewise when its observation lies in the future; PI0RT_STATUS_GONE or
/// PI0RT_STATUS_RESTARTED when no newer one will come, with the last chunk filled in if there was one (else
/// chunk->chunk is 0); PI0RT_STATUS_BUSY when chunks are published faster than they can be copied;
/// PI0RT_STATUS_PROTOCOL when a chunk is not as announced; PI0RT_STATUS_STRUCT_SIZE;
/// PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
/// PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// chunk is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_chunk_latest(client: *mut pi0rt_client, chunk: *mut pi0rt_chunk) -> Status {
    guard(|| {
        let mut client = enter::<Actions>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("chunk", chunk) }?;
        // SAFETY: the size was checked: both fields were there from the first version on.
        unsafe {
            (*chunk).chunk = 0;
            (*chunk).actions = std::ptr::null();
        }
        let (header, actions, life) = client.chunk_latest()?;
        let known = pi0rt_chunk {
            struct_size: 0,
            horizon: header.horizon,
            action_dim: header.action_dim,
            reserved: 0,
            actions: actions.as_ptr(),
            ticket: header.ticket,
            chunk: header.chunk,
            observed_ns: header.observed_ns,
            submitted_ns: header.submitted_ns,
            started_ns: header.started_ns,
            finished_ns: header.finished_ns,
            prompt_id: header.notes.prompt_id,
            episode: header.notes.episode,
            guided: header.notes.guidance.into(),
            delay: header.notes.delay,
            guidance_horizon: header.notes.guidance_horizon,
            prefix_age: header.notes.prefix_age,
            prefix_observed_ns: header.notes.prefix_observed_ns,
        };
        // SAFETY: the size was checked.
        unsafe { output(chunk, &known) };
        Ok(life?)
    })
}

/// Reads the session's counters and latencies. Available as long as the client is open, even if the daemon is
/// gone. Latencies may lag behind a completion by some nanoseconds.
///
/// Real-time safe: no system call, no lock, no allocation. Class: actions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// statistics is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_statistics(
    client: *mut pi0rt_client,
    statistics: *mut pi0rt_statistics,
) -> Status {
    guard(|| {
        let mut client = enter::<Actions>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("statistics", statistics) }?;
        let stats = client.statistics();
        let latency = |stage| {
            let shm::Latency { count, mean_ns, p50_ns, p90_ns, p99_ns, max_ns } = stats.latency(stage);
            pi0rt_latency { count, mean_ns, p50_ns, p90_ns, p99_ns, max_ns }
        };
        let known = pi0rt_statistics {
            struct_size: 0,
            reserved: 0,
            submitted: stats.count(Count::Submitted),
            published: stats.count(Count::Published),
            superseded: stats.count(Count::Superseded),
            stale: stats.count(Count::Stale),
            bad_observations: stats.count(Count::BadObservation),
            invalid_chunks: stats.count(Count::InvalidChunk),
            device_failures: stats.count(Count::DeviceLost),
            missed_deadlines: stats.count(Count::MissedDeadline),
            stalls: stats.count(Count::Stall),
            waiting: latency(LatencyKind::Waiting),
            inference: latency(LatencyKind::Inference),
            age: latency(LatencyKind::Age),
        };
        // SAFETY: the size was checked.
        unsafe { output(statistics, &known) };
        Ok(())
    })
}

/// Waits for the completion of a ticket, or of any if ticket is 0. Completions of other tickets that come first
/// are kept for pi0rt_poll.
///
/// Not real-time safe: may sleep. Class: completions.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_TIMEOUT; PI0RT_STATUS_UNKNOWN_TICKET, without waiting, for a ticket
/// that was never given out or whose completion was taken; PI0RT_STATUS_GONE or PI0RT_STATUS_RESTARTED when it
/// won't come; PI0RT_STATUS_PROTOCOL as pi0rt_poll; PI0RT_STATUS_SYSTEM when a system call failed;
/// PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// completion is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_wait(
    client: *mut pi0rt_client,
    ticket: u64,
    timeout_ns: u64,
    completion: *mut pi0rt_completion,
) -> Status {
    guard(|| {
        let mut client = enter::<Completions>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("completion", completion) }?;
        let taken = client.wait((ticket != 0).then_some(ticket), timeout_ns)?;
        // SAFETY: the size was checked.
        unsafe { output(completion, &completion_of(&client, &taken)) };
        Ok(())
    })
}
