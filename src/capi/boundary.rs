//! Crossing the boundary: arguments in, statuses out, no unwinding.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::last_error;
use super::types::{Sized32, pi0rt_client};
use crate::client::{Client, ClientError};
use crate::control::Status;

/// What a live handle begins with.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"pi0rt\0c1");

/// What a function of the ABI fails with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("client is not one that pi0rt_client_open made, or is closed")]
    Handle,
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    #[error("{what} is {got}, expected {expected}")]
    Value { what: &'static str, got: u64, expected: &'static str },
    #[error("{what}.struct_size is {got}, expected at least {expected}")]
    StructSize { what: &'static str, got: u32, expected: usize },
    #[error("{what} has {got} bytes, {expected} are known and those beyond are not zero")]
    Newer { what: &'static str, got: u32, expected: usize },
    #[error("no camera is called {0:?}")]
    Camera(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::StructSize { .. } | Failure::Newer { .. } => Status::StructSize,
            Failure::Client(error) => error.status(),
            _ => Status::InvalidArgument,
        }
    }
}

/// Runs the body of a function; keeps the words of its error. "Nothing yet" is no error and leaves
/// the words of the last one.
#[inline]
pub(super) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(failure)) => {
            let status = failure.status();
            if (status as i32) < 0 {
                last_error::set(&failure);
            }
            status
        }
        Err(_) => {
            last_error::set(&"internal error: a panic was caught");
            Status::Internal
        }
    }
}

/// The client behind a handle.
///
/// # Safety
/// NULL, or readable memory; a handle is used by one thread at a time.
#[inline]
pub(super) unsafe fn client<'a>(handle: *mut pi0rt_client) -> Result<&'a mut Client, Failure> {
    if handle.is_null() {
        return Err(Failure::Null("client"));
    }
    // SAFETY: the caller's promise. Looked at before a reference to the whole is made.
    if !handle.is_aligned() || unsafe { (&raw const (*handle).magic).read() } != MAGIC {
        return Err(Failure::Handle);
    }
    // SAFETY: made by pi0rt_client_open and not closed; one thread at a time.
    Ok(unsafe { &mut (*handle).client })
}

/// Checks a struct's size.
///
/// # Safety
/// NULL, or readable for as many bytes as its struct_size says.
#[inline]
pub(super) unsafe fn check_size<T: Sized32>(what: &'static str, at: *const T) -> Result<(), Failure> {
    if at.is_null() {
        return Err(Failure::Null(what));
    }
    if !at.is_aligned() {
        return Err(Failure::Value { what, got: at.addr() as u64, expected: "an aligned pointer" });
    }
    // SAFETY: struct_size comes first.
    let got = unsafe { at.cast::<u32>().read() };
    let expected = size_of::<T>();
    if (got as usize) < expected {
        return Err(Failure::StructSize { what, got, expected });
    }
    Ok(())
}

/// Reads a struct that the caller has filled in. One that is longer than known here is a later
/// version's: it can be used as long as it asks for nothing that isn't known.
///
/// # Safety
/// As [`check_size`].
#[inline]
pub(super) unsafe fn input<T: Sized32 + Copy>(what: &'static str, at: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { check_size(what, at) }?;
    // SAFETY: as long as its size says; in bounds of that.
    let (got, value) = unsafe { (at.cast::<u32>().read(), at.read()) };
    let expected = size_of::<T>();
    for i in expected..(got as usize).min(expected + 4096) {
        // SAFETY: within struct_size.
        if unsafe { at.cast::<u8>().add(i).read() } != 0 {
            return Err(Failure::Newer { what, got, expected });
        }
    }
    Ok(value)
}

/// A C string as text.
///
/// # Safety
/// NULL, or a NUL-terminated string.
pub(super) unsafe fn text<'a>(what: &'static str, at: *const c_char) -> Result<&'a str, Failure> {
    if at.is_null() {
        return Err(Failure::Null(what));
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(at) }.to_str().map_err(|_| Failure::Text(what))
}

/// A C string as a path.
///
/// # Safety
/// NULL, or a NUL-terminated string.
pub(super) unsafe fn path(at: *const c_char) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    if at.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(at) }.to_bytes();
    (!bytes.is_empty()).then(|| std::ffi::OsStr::from_bytes(bytes).into())
}
