//! Statuses and errors of the C interface as errors of Rust.

use std::error::Error;
use std::ffi::{CStr, c_char};

use pi0rt::capi::pi0rt_last_error;
use pi0rt::control::Status;

/// An error with the call's name, the status and its explanation, unless the status is OK.
pub fn check(call: &str, status: Status) -> Result<(), Box<dyn Error>> {
    if status == Status::Ok {
        return Ok(());
    }
    Err(format!("{call}: {}: {}", status.text().to_string_lossy(), last_error()).into())
}

/// The text of this thread's last error.
pub fn last_error() -> String {
    let mut words = [0 as c_char; 512];
    // SAFETY: the buffer has the given size, and is terminated in any case.
    let words = unsafe {
        pi0rt_last_error(words.as_mut_ptr(), words.len());
        CStr::from_ptr(words.as_ptr())
    };
    words.to_string_lossy().into_owned()
}
