//! Functions of the ABI that are not real-time safe, or need no session.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

use super::boundary::{Failure, check_size, guard, input, output, text};
use super::description::{describe, describe_dimension};
use super::handle::{close, enter, keep};
use super::last_error;
use super::options::choose;
use super::types::*;
use crate::client::{Client, ClientError, Completions, Instruction, Options, Requests};
use crate::shm::clock::now_ns;

/// The ABI version of the library. A program compiled against a header with the same PI0RT_ABI_VERSION
/// can use it, whichever of the two is newer.
///
/// Real-time safe. Thread safe.
///
/// Returns the version.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_version() -> u32 {
    PI0RT_ABI_VERSION
}

/// Describes a status in one line of English.
///
/// Real-time safe. Thread safe.
///
/// Returns a static string, never NULL; "unknown status" for a number that is no status.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_status_string(status: c_int) -> *const c_char {
    Status::from_number(status).map_or(c"unknown status", Status::text).as_ptr()
}

/// Copies the text of this thread's last error to buffer: as much as fits, NUL-terminated unless size is 0.
///
/// A call that succeeds or returns a "nothing yet" status leaves the text as it is. A completion without a
/// chunk sets it to the reason, unless a newer observation superseded it.
///
/// Real-time safe. Thread safe: each thread has its own.
///
/// Returns the length of the whole text without its NUL, even if it was cut; 0 if there was no error.
///
/// # Safety
/// buffer is NULL or has room for size bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_last_error(buffer: *mut c_char, size: usize) -> usize {
    if buffer.is_null() || size == 0 {
        return last_error::copy(&mut []);
    }
    // Longer than any text is as good as any size, and no slice may be longer than half the
    // address space.
    let size = size.min(1 << 16);
    // SAFETY: the caller's promise; bytes have no alignment.
    last_error::copy(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), size) })
}

/// Opens a session with the daemon. options may be NULL: all defaults. On success *client is a handle, to be
/// closed by pi0rt_client_close; on an error it is NULL.
///
/// The session belongs to the process that opens it and ends with that process, even if a child has inherited
/// the connection; its name is then free. In a forked child the handle can only be closed, which frees the
/// child's copy; every other use returns PI0RT_STATUS_FORKED. The child can open a session of its own. A
/// program that daemonizes by a fork opens its session afterwards.
///
/// Not real-time safe: connects, maps memory. Thread safe.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_DAEMON when nothing listens on the socket, or the daemon ended
/// before it answered; PI0RT_STATUS_VERSION when the daemon speaks another version; PI0RT_STATUS_REFUSED with
/// the daemon's reason, when this user may not connect, or when this process has 64 sessions open;
/// PI0RT_STATUS_PROTOCOL when the daemon's answer makes no sense; PI0RT_STATUS_TIMEOUT without an answer within
/// the options' reply_timeout_ns; PI0RT_STATUS_SYSTEM when a system call failed; PI0RT_STATUS_STRUCT_SIZE;
/// PI0RT_STATUS_INVALID_ARGUMENT, also for an option that is out of range.
///
/// # Safety
/// options is NULL or points to a struct of its struct_size; its socket_path and session_name are NULL or
/// strings; client is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_open(
    options: *const pi0rt_client_options,
    client: *mut *mut pi0rt_client,
) -> Status {
    guard(|| {
        if client.is_null() {
            return Err(Failure::Null("client"));
        }
        // SAFETY: the caller's promise.
        unsafe { client.write(std::ptr::null_mut()) };
        let chosen = if options.is_null() {
            Options::default()
        } else {
            // SAFETY: the caller's promise.
            unsafe { choose(&input("options", options)?) }?
        };
        let handle = keep(Client::open(&chosen)?)?;
        // Costs that the first use would pay are paid here, not in a control loop.
        last_error::copy(&mut []);
        now_ns();
        // SAFETY: as above.
        unsafe { client.write(handle) };
        Ok(())
    })
}

/// Closes a session. Requests in flight are dropped, and the memory that pi0rt_observation_acquire and
/// pi0rt_chunk_latest pointed to is unmapped. NULL is allowed: nothing is done. In a child forked from the
/// process that opened it, the child's copy is freed and the session goes on.
///
/// Not real-time safe: unmaps memory. Thread safe. Belongs to all classes, and waits for none.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_CLOSED when it was closed before; PI0RT_STATUS_BAD_HANDLE;
/// PI0RT_STATUS_IN_USE when another thread is in a call with it, of any class: then it stays open.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_client_close(client: *mut pi0rt_client) -> Status {
    guard(|| if client.is_null() { Ok(()) } else { close(client) })
}

/// Describes the policy the daemon serves and the sizes of the session.
///
/// Real-time safe. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// info is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_describe(
    client: *mut pi0rt_client,
    info: *mut pi0rt_policy_info,
) -> Status {
    guard(|| {
        let client = enter::<Requests>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("info", info) }?;
        // SAFETY: the size was checked.
        unsafe { output(info, &describe(&client)) };
        Ok(())
    })
}

/// Describes one value of the state or of an action: its name, quantity, unit and limits. which is a
/// pi0rt_vector; index counts from 0 to state_dim or action_dim. Where nothing is declared the name and the
/// unit are empty, the quantity is PI0RT_QUANTITY_UNKNOWN and the limits are infinite. Of actions it also says how
/// they are played.
///
/// Real-time safe. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT, also for an index that is too large;
/// PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
/// PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// dimension is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_dimension(
    client: *mut pi0rt_client,
    which: u32,
    index: u32,
    dimension: *mut pi0rt_dimension,
) -> Status {
    guard(|| {
        let client = enter::<Requests>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("dimension", dimension) }?;
        let known = describe_dimension(&client, which, index)?;
        // SAFETY: the size was checked.
        unsafe { output(dimension, &known) };
        Ok(())
    })
}

/// Finds a camera's index among an observation's frames by its name: one of pi0rt_policy_info.camera_names or,
/// if none matches, the model's name of the camera.
///
/// Real-time safe when the camera exists. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT when the policy has no such camera;
/// PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused
/// client.
///
/// # Safety
/// name is NULL or a string; index is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_camera(
    client: *mut pi0rt_client,
    name: *const c_char,
    index: *mut u32,
) -> Status {
    guard(|| {
        let client = enter::<Requests>(client)?;
        // SAFETY: the caller's promise.
        let name = unsafe { text("name", name) }?;
        if index.is_null() {
            return Err(Failure::Null("index"));
        }
        let found = client.policy().camera(name).ok_or_else(|| Failure::Camera(name.into()))?;
        // SAFETY: the caller's promise.
        unsafe { index.write(found as u32) };
        Ok(())
    })
}

/// Registers an instruction, UTF-8, and stores its number for pi0rt_observation.prompt_id. Chunks of the one before
/// are played on until the first one of this instruction, which they guide. The same text gets
/// the same number, which stays valid across daemons. Where the checkpoint truncates long instructions,
/// pi0rt_client_prompt tells whether this one was.
///
/// Not real-time safe: waits for the daemon. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_BAD_PROMPT with the reason for an instruction that is empty, too long
/// or can't be tokenized; PI0RT_STATUS_REFUSED when too many were registered; PI0RT_STATUS_TIMEOUT without an
/// answer within the options' reply_timeout_ns: it may be registered all the same, but has no number;
/// PI0RT_STATUS_RESTARTED when the daemon was restarted meanwhile: ask again; PI0RT_STATUS_GONE;
/// PI0RT_STATUS_PROTOCOL when the answer makes no sense; PI0RT_STATUS_SYSTEM when a system call failed;
/// PI0RT_STATUS_INVALID_ARGUMENT, also for a text of more than 16384 bytes or one that is not UTF-8;
/// PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
/// PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// utf8 is NULL or a string; prompt_id is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_set_prompt(
    client: *mut pi0rt_client,
    utf8: *const c_char,
    prompt_id: *mut u32,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { register(client, utf8, prompt_id, Requests::set_prompt) }
}

/// Registers an instruction as pi0rt_client_set_prompt does, and lets it take effect at once: what was computed for
/// earlier instructions isn't played any more and doesn't guide chunks. The robot comes to rest, by the player's
/// stages and with PI0RT_REASON_FLUSHED, until the first chunk of an observation submitted after that.
///
/// Not real-time safe: waits for the daemon. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_BAD_PROMPT, PI0RT_STATUS_REFUSED, PI0RT_STATUS_TIMEOUT,
/// PI0RT_STATUS_RESTARTED, PI0RT_STATUS_GONE, PI0RT_STATUS_PROTOCOL, PI0RT_STATUS_SYSTEM,
/// PI0RT_STATUS_INVALID_ARGUMENT or PI0RT_STATUS_OBSERVER as pi0rt_client_set_prompt does; PI0RT_STATUS_BAD_HANDLE,
/// PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
/// PI0RT_STATUS_OK nothing is flushed here; the daemon may guide no chunk all the same.
///
/// # Safety
/// utf8 is NULL or a string; prompt_id is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_set_prompt_flush(
    client: *mut pi0rt_client,
    utf8: *const c_char,
    prompt_id: *mut u32,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { register(client, utf8, prompt_id, Requests::set_prompt_flush) }
}

/// Registers an instruction in one of two ways.
///
/// # Safety
/// As pi0rt_client_set_prompt.
unsafe fn register(
    client: *mut pi0rt_client,
    utf8: *const c_char,
    prompt_id: *mut u32,
    set: fn(&mut Requests, &str) -> Result<u32, ClientError>,
) -> Status {
    guard(|| {
        let mut client = enter::<Requests>(client)?;
        // SAFETY: the caller's promise.
        let text = unsafe { text("utf8", utf8) }?;
        let id = set(&mut client, text)?;
        if !prompt_id.is_null() {
            // SAFETY: the caller's promise.
            unsafe { prompt_id.write(id) };
        }
        Ok(())
    })
}

/// Tells whether a registered instruction was truncated. prompt_id is a number that pi0rt_client_set_prompt
/// stored; 0: the instruction set last.
///
/// Real-time safe. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT, also for a number that was never given out;
/// PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
/// PI0RT_STATUS_IN_USE for a misused client.
///
/// # Safety
/// prompt is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_prompt(
    client: *mut pi0rt_client,
    prompt_id: u32,
    prompt: *mut pi0rt_prompt,
) -> Status {
    guard(|| {
        let client = enter::<Requests>(client)?;
        // SAFETY: the caller's promise.
        unsafe { check_size("prompt", prompt) }?;
        let unknown = if prompt_id == 0 { Failure::NoPrompt } else { Failure::Prompt(prompt_id) };
        let Instruction { id, truncated } = client.instruction(prompt_id).ok_or(unknown)?;
        let known = pi0rt_prompt { struct_size: 0, prompt_id: id, truncated: truncated.into(), reserved: 0 };
        // SAFETY: the size was checked.
        unsafe { output(prompt, &known) };
        Ok(())
    })
}

/// Begins a new episode: chunks of the old one are no longer shown or played, and requests in flight are answered
/// with PI0RT_STATUS_SUPERSEDED. The player holds the last command, with PI0RT_REASON_EPISODE, until the first chunk of
/// the new episode; if the robot is moved meanwhile, call pi0rt_start_from.
///
/// Not real-time safe: waits for the daemon. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_TIMEOUT; PI0RT_STATUS_RESTARTED when the daemon was restarted
/// meanwhile: ask again; PI0RT_STATUS_GONE; PI0RT_STATUS_PROTOCOL when the answer makes no sense;
/// PI0RT_STATUS_SYSTEM when a system call failed; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER;
/// PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused
/// client.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_client_reset(client: *mut pi0rt_client) -> Status {
    guard(|| Ok(enter::<Requests>(client)?.reset()?))
}

/// Reopens the session after a restart or a silence of the daemon, with the options it was opened with. If the
/// daemon still has the session, the new one replaces it under the same name.
///
/// Instructions are registered again and keep their numbers. Every ticket still gets one completion: tickets
/// the previous daemon left unanswered get PI0RT_STATUS_GONE. The latest chunk is played until there is a new
/// one; limits and stages go on from the last command. Where the new daemon plays otherwise (limits, stages), the
/// player goes on from the last command, too, and where it says something else of what the actions are, from
/// nothing. The descriptor that pi0rt_client_fd returned is readable and of no more use: ask again.
///
/// Threads in calls of the other classes go on meanwhile; each class goes over to the new connection by its next
/// call, and the next request frees what they have left. Observations that were acquired before have to be
/// acquired again: submitting or releasing one gives it back. Until then, or until the client
/// reconnects once more, they can be written to.
///
/// Not real-time safe: connects, maps memory, waits for the daemon. Class: requests.
///
/// Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_DAEMON when nothing listens on the socket yet, or the daemon ended
/// before all was done; PI0RT_STATUS_REFUSED with the daemon's reason, or when something the program may rely
/// on has changed: the state's or the actions' dimensions (their number, and the name, quantity, unit, gripper
/// and limits of each declared one), the horizon, the cameras, the control rate where there was one, or the
/// capacity for frames where it is smaller now; PI0RT_STATUS_VERSION, PI0RT_STATUS_PROTOCOL,
/// PI0RT_STATUS_BAD_PROMPT, PI0RT_STATUS_TIMEOUT and PI0RT_STATUS_SYSTEM as pi0rt_client_open and
/// pi0rt_client_set_prompt; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
/// PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns PI0RT_STATUS_OK the
/// client is unchanged, and the call can be repeated.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_client_reconnect(client: *mut pi0rt_client) -> Status {
    guard(|| Ok(enter::<Requests>(client)?.reconnect()?))
}

/// A descriptor for poll and epoll that becomes readable when there are completions, or when the daemon
/// is gone. It belongs to the client: don't read, write or close it. Each time it is readable, call pi0rt_poll
/// until it returns PI0RT_STATUS_EMPTY. It may be readable when there is nothing new, after a request.
///
/// Not real-time safe, and from the first call on pi0rt_poll makes one to three system calls. Class: completions.
///
/// Returns the descriptor, or -1 for a client that is NULL or misused; the last error says how.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_client_fd(client: *mut pi0rt_client) -> c_int {
    let mut fd = -1;
    guard(|| {
        fd = enter::<Completions>(client)?.fd()?.as_raw_fd();
        Ok(())
    });
    fd
}
