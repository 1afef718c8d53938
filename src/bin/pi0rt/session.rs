//! A session over the C interface, as a program in C holds it: only functions of `pi0rt.h` are used.

use std::error::Error;
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use pi0rt::capi::*;
use pi0rt::control::Status;

/// Rate used if neither the user nor the checkpoint declares one: no robot moves here.
const SHOWN_AT_HZ: f32 = 50.0;

/// A zeroed struct of the ABI with its size set.
macro_rules! sized {
    ($name:ident) => {{
        // SAFETY: numbers, pointers, arrays of them, and enums that have a value 0.
        let mut value: $name = unsafe { std::mem::zeroed() };
        value.struct_size = size_of::<$name>() as u32;
        value
    }};
}
pub(crate) use sized;

/// A session, closed when dropped.
pub struct Session {
    client: *mut pi0rt_client,
    /// The policy and the session's sizes.
    pub info: pi0rt_policy_info,
}

/// A client's handle for another thread: a number that is never dereferenced.
#[derive(Clone, Copy)]
pub struct Handle(usize);

impl Handle {
    /// The client's handle as the C interface takes it.
    pub fn client(self) -> *mut pi0rt_client {
        ptr::without_provenance_mut(self.0)
    }
}

impl Session {
    /// Connects; while nothing listens yet, retries as long as `go_on` agrees.
    ///
    /// # Errors
    /// The library's error, or that of `go_on`.
    pub fn open(
        socket: &Path,
        mut options: pi0rt_client_options,
        mut go_on: impl FnMut() -> Result<(), Box<dyn Error>>,
    ) -> Result<Session, Box<dyn Error>> {
        let path = CString::new(socket.as_os_str().as_bytes())?;
        options.socket_path = path.as_ptr();
        loop {
            go_on()?;
            let mut session = Session { client: ptr::null_mut(), info: sized!(pi0rt_policy_info) };
            // SAFETY: valid pointers; the path outlives the call.
            match unsafe { pi0rt_client_open(&options, &mut session.client) } {
                Status::NoDaemon => std::thread::sleep(Duration::from_millis(10)),
                status => {
                    check("pi0rt_client_open", status)?;
                    // SAFETY: a live handle and a struct with its size.
                    let status = unsafe { pi0rt_client_describe(session.client, &mut session.info) };
                    check("pi0rt_client_describe", status)?;
                    if session.info.rate_source != pi0rt_rate_source::None {
                        return Ok(session);
                    }
                    options.control_rate_hz = SHOWN_AT_HZ;
                }
            }
        }
    }

    /// The client, for calls of the C interface.
    pub fn client(&self) -> *mut pi0rt_client {
        self.client
    }

    /// The client's handle for another thread.
    pub fn handle(&self) -> Handle {
        Handle(self.client.addr())
    }

    /// Registers an instruction and returns its number.
    ///
    /// # Errors
    /// The library's error.
    pub fn set_prompt(&self, prompt: &str) -> Result<u32, Box<dyn Error>> {
        set_prompt(self.handle(), prompt)
    }

    /// Tells where the robot stands.
    ///
    /// # Errors
    /// The library's error.
    pub fn start_from(&self, present: &[f32]) -> Result<(), Box<dyn Error>> {
        // SAFETY: a live handle and the given number of values.
        let status = unsafe { pi0rt_start_from(self.client, present.as_ptr(), present.len()) };
        check("pi0rt_start_from", status)
    }

    /// The rate at which chunks are played, and its source.
    pub fn rate(&self) -> String {
        let source = match self.info.rate_source {
            pi0rt_rate_source::Checkpoint => "config.json",
            pi0rt_rate_source::Profile => "profile",
            pi0rt_rate_source::Configuration => "configuration",
            pi0rt_rate_source::Session | pi0rt_rate_source::None => "this command's choice",
        };
        format!("{} Hz ({source})", self.info.rate_hz)
    }

    /// The model and its sizes.
    pub fn model(&self) -> String {
        let i = &self.info;
        let size = i.image_size;
        format!(
            "{}: images {size}x{size}, state {}, actions {} x {}, {} steps",
            text(&i.model),
            i.state_dim,
            i.horizon,
            i.action_dim,
            i.steps
        )
    }

    /// The device.
    pub fn device(&self) -> String {
        text(&self.info.device)
    }

    /// Names of the cameras.
    pub fn cameras(&self) -> Vec<String> {
        self.info.camera_names[..self.info.cameras as usize].iter().map(|name| text(name)).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        pi0rt_client_close(self.client);
    }
}

/// Registers an instruction, perhaps from another thread than the control loop's, and returns its number.
///
/// # Errors
/// The library's error.
pub fn set_prompt(handle: Handle, prompt: &str) -> Result<u32, Box<dyn Error>> {
    let prompt = CString::new(prompt)?;
    let mut prompt_id = 0;
    // SAFETY: a live handle, a string, a place for the number.
    let status = unsafe { pi0rt_client_set_prompt(handle.client(), prompt.as_ptr(), &mut prompt_id) };
    check("pi0rt_client_set_prompt", status)?;
    Ok(prompt_id)
}

/// Checks a call's status.
///
/// # Errors
/// The library's error.
pub fn check(call: &str, status: Status) -> Result<(), Box<dyn Error>> {
    if status == Status::Ok {
        return Ok(());
    }
    Err(format!("{call}: {}: {}", status.text().to_string_lossy(), last_error()).into())
}

/// The library's last error of this thread.
pub fn last_error() -> String {
    let mut words = [0 as c_char; 512];
    // SAFETY: the buffer has the given size, and is terminated in any case.
    let words = unsafe {
        pi0rt_last_error(words.as_mut_ptr(), words.len());
        CStr::from_ptr(words.as_ptr())
    };
    words.to_string_lossy().into_owned()
}

fn text(name: &[c_char]) -> String {
    let bytes: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
