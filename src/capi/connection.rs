//! The part of the ABI that is not real time.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

use super::boundary::{Failure, MAGIC, check_size, client, guard, input, path, text};
use super::last_error;
use super::types::*;
use crate::client::{Client, Interpolation, Options};
use crate::shm::clock::now_ns;

/// Version of the library's ABI: PI0RT_ABI_VERSION of the header it was built with.
///
/// Real-time safe. Thread safe.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_version() -> u32 {
    PI0RT_ABI_VERSION
}

/// One line in English about a status. Never NULL, never to be freed; "unknown status" for a
/// number that is none.
///
/// Real-time safe. Thread safe.
#[unsafe(no_mangle)]
pub extern "C" fn pi0rt_status_string(status: c_int) -> *const c_char {
    Status::from_number(status).map_or(c"unknown status", Status::text).as_ptr()
}

/// Copies what the last error in this thread was, in words and with its particulars, to buffer:
/// as much as fits, always terminated if size is not 0. Returns the length of the whole text
/// without its NUL; 0 if there was no error. "Nothing yet" statuses leave it as it was.
///
/// Real-time safe. Thread safe: each thread has its own.
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

/// Opens a session with the daemon. options may be NULL: all defaults. On success *client is a
/// handle for pi0rt_client_close to close; on an error it is NULL.
///
/// Not real-time safe: connects, maps memory. Thread safe.
///
/// Returns NO_DAEMON when nothing listens on the socket, VERSION when the daemon speaks another
/// version, REFUSED with the daemon's reason, TIMEOUT when it doesn't answer, SYSTEM when a system
/// call failed, STRUCT_SIZE, INVALID_ARGUMENT.
///
/// # Safety
/// options is NULL or points to a struct of its struct_size; its socket_path is NULL or a
/// string; client is NULL or can be written to.
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
        let mut chosen = Options::default();
        if !options.is_null() {
            // SAFETY: the caller's promise.
            let options = unsafe { input("options", options) }?;
            chosen = Options {
                // SAFETY: the caller's promise.
                socket: unsafe { path(options.socket_path) },
                frame_bytes: options.frame_bytes,
                slots: options.slots,
                entries: options.ring_entries,
                gone_after_ns: options.gone_after_ns,
                reply_timeout_ns: options.reply_timeout_ns,
                control_rate_hz: options.control_rate_hz,
                interpolation: match options.interpolation {
                    0 => Interpolation::Hold,
                    1 => Interpolation::Linear,
                    got => {
                        let what = "options.interpolation";
                        return Err(Failure::Value {
                            what,
                            got: got.into(),
                            expected: "a pi0rt_interpolation",
                        });
                    }
                },
            };
            if !chosen.control_rate_hz.is_finite() || chosen.control_rate_hz < 0.0 {
                let got = u64::from(chosen.control_rate_hz.to_bits());
                return Err(Failure::Value {
                    what: "options.control_rate_hz (bits)",
                    got,
                    expected: "a finite number, not negative",
                });
            }
        }
        let opened = Box::new(pi0rt_client { magic: MAGIC, client: Client::open(&chosen)? });
        // What the first use of these would do is done here, not in a control loop.
        last_error::copy(&mut []);
        now_ns();
        // SAFETY: as above.
        unsafe { client.write(Box::into_raw(opened)) };
        Ok(())
    })
}

/// Closes a session and frees the handle. Requests under way are dropped. NULL is fine.
///
/// Not real-time safe: unmaps memory. The handle must not be in use by another thread.
///
/// # Safety
/// client is NULL or a handle that is not closed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_close(client: *mut pi0rt_client) {
    guard(|| {
        if client.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self::client(client) }?;
        // SAFETY: a live handle, made by Box::into_raw.
        let mut closed = unsafe { Box::from_raw(client) };
        closed.magic = 0;
        drop(closed);
        Ok(())
    });
}

/// Says what policy is served and what the session's sizes are.
///
/// Real-time safe. One thread at a time.
///
/// Returns OK, STRUCT_SIZE, INVALID_ARGUMENT.
///
/// # Safety
/// client is NULL or a live handle; info is NULL or points to a struct of its struct_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_describe(
    client: *mut pi0rt_client,
    info: *mut pi0rt_policy_info,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let client = unsafe { self::client(client) }?;
        // SAFETY: the caller's promise.
        unsafe { check_size("info", info) }?;
        let (policy, welcome) = (client.policy(), client.welcome());
        let geometry = welcome.layout.geometry;
        let mut camera_names = [[0; PI0RT_NAME_BYTES]; PI0RT_MAX_CAMERAS];
        for (to, name) in camera_names.iter_mut().zip(&policy.cameras) {
            *to = c_name(name);
        }
        // SAFETY: the caller's promise; struct_size is left as it is.
        unsafe {
            let struct_size = info.cast::<u32>().read();
            info.write(pi0rt_policy_info {
                struct_size,
                cameras: policy.cameras.len() as u32,
                state_dim: policy.state_dim,
                action_dim: policy.action_dim,
                horizon: policy.horizon,
                steps: policy.steps,
                max_tokens: policy.max_tokens,
                image_size: policy.image_size,
                control_rate_hz: policy.control_rate_hz,
                frame_bytes: geometry.frame_bytes,
                slots: geometry.slots,
                ring_entries: geometry.entries,
                max_age_ns: welcome.max_age_ns,
                heartbeat_ns: welcome.heartbeat_ns,
                session: welcome.session,
                epoch: welcome.epoch,
                model: c_name(&policy.model),
                device: c_name(&policy.device),
                camera_names,
            });
        }
        Ok(())
    })
}

/// As much of a name as fits, terminated.
fn c_name(name: &str) -> [c_char; PI0RT_NAME_BYTES] {
    let mut len = name.len().min(PI0RT_NAME_BYTES - 1);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    let mut to = [0; PI0RT_NAME_BYTES];
    for (to, byte) in to.iter_mut().zip(&name.as_bytes()[..len]) {
        *to = *byte as c_char;
    }
    to
}

/// Finds a camera's place among an observation's frames by its name.
///
/// Real-time safe when the camera exists. One thread at a time.
///
/// Returns OK; INVALID_ARGUMENT when the policy has no such camera.
///
/// # Safety
/// client is NULL or a live handle; name is NULL or a string; index is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_camera(
    client: *mut pi0rt_client,
    name: *const c_char,
    index: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (client, name) = unsafe { (self::client(client)?, text("name", name)?) };
        if index.is_null() {
            return Err(Failure::Null("index"));
        }
        let found = client.policy().cameras.iter().position(|camera| camera == name);
        let found = found.ok_or_else(|| Failure::Camera(name.into()))?;
        // SAFETY: the caller's promise.
        unsafe { index.write(found as u32) };
        Ok(())
    })
}

/// Registers an instruction, UTF-8, and stores its number for pi0rt_observation.prompt_id. The same
/// text gets the same number.
///
/// Not real-time safe: waits for the daemon, which looks at it between two chunks. One thread at
/// a time.
///
/// Returns OK; BAD_PROMPT with the reason for an instruction that is empty, too long or can't be
/// tokenized; REFUSED when too many were registered; TIMEOUT; GONE; INVALID_ARGUMENT.
///
/// # Safety
/// client is NULL or a live handle; utf8 is NULL or a string; prompt_id is NULL or can be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_set_prompt(
    client: *mut pi0rt_client,
    utf8: *const c_char,
    prompt_id: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (client, text) = unsafe { (self::client(client)?, text("utf8", utf8)?) };
        let id = client.set_prompt(text)?;
        if !prompt_id.is_null() {
            // SAFETY: the caller's promise.
            unsafe { prompt_id.write(id) };
        }
        Ok(())
    })
}

/// Begins a new episode: chunks of the old one are not shown any more, and a request whose turn
/// hasn't come is answered with SUPERSEDED.
///
/// Not real-time safe: waits for the daemon. One thread at a time.
///
/// Returns OK, TIMEOUT, GONE, INVALID_ARGUMENT.
///
/// # Safety
/// client is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_reset(client: *mut pi0rt_client) -> Status {
    // SAFETY: the caller's promise.
    guard(|| Ok(unsafe { self::client(client) }?.reset()?))
}

/// A descriptor for poll and epoll that becomes readable when there are completions, or when the
/// daemon is gone. It belongs to the client: don't read, write or close it. Call pi0rt_poll until
/// it returns EMPTY each time it is readable. Returns -1 for an invalid handle.
///
/// Not real-time safe, and from the first call on pi0rt_poll makes a system call. One thread at
/// a time.
///
/// # Safety
/// client is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pi0rt_client_fd(client: *mut pi0rt_client) -> c_int {
    let mut fd = -1;
    guard(|| {
        // SAFETY: the caller's promise.
        fd = unsafe { self::client(client) }?.fd().as_raw_fd();
        Ok(())
    });
    fd
}
