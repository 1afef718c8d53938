//! Conversions at the C boundary: arguments in, statuses out, no unwinding.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::handle::PLACES;
use super::last_error;
use super::types::Versioned;
use crate::client::ClientError;
use crate::control::Status;

/// Largest excess of a struct_size over the size known here, bytes; beyond it the size is nonsense.
const MOST_LATER: usize = 4096;

/// Why a function of the ABI failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("client is not one that pi0rt_client_open made")]
    Handle,
    #[error("client is closed")]
    Closed,
    #[error("client was opened by the process that this one was forked from")]
    Forked,
    #[error("client is in use by another thread, in a call of class {0}")]
    InUse(&'static str),
    #[error("{PLACES} clients are open in this process, the most allowed")]
    TooMany,
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    #[error("{what} is {got}, expected {expected}")]
    Value { what: &'static str, got: u64, expected: &'static str },
    #[error("{what} is {got}, expected a finite number, not negative")]
    Number { what: &'static str, got: f32 },
    #[error("{what}.struct_size is {got}, expected {least} to {most}")]
    StructSize { what: &'static str, got: u32, least: usize, most: usize },
    #[error("{what} has {got} bytes, {expected} are known and those beyond are not zero")]
    Newer { what: &'static str, got: u32, expected: usize },
    #[error("index is {index}, there are {count} values")]
    Index { index: u32, count: u32 },
    #[error("no camera is called {0:?}")]
    Camera(String),
    #[error("no instruction was set")]
    NoPrompt,
    #[error("no instruction has the number {0}")]
    Prompt(u32),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::StructSize { .. } | Failure::Newer { .. } => Status::StructSize,
            Failure::Handle => Status::BadHandle,
            Failure::Closed => Status::Closed,
            Failure::Forked => Status::Forked,
            Failure::InUse(_) => Status::InUse,
            Failure::TooMany => Status::Refused,
            Failure::Client(error) => error.status(),
            _ => Status::InvalidArgument,
        }
    }
}

/// Runs the body of a function and stores the text of its error. "Nothing yet" is no error and leaves the last
/// text.
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

/// Checks a struct's size: at least that of its first version.
///
/// # Safety
/// NULL, or readable for as many bytes as its struct_size says.
#[inline]
pub(super) unsafe fn check_size<T: Versioned>(what: &'static str, at: *const T) -> Result<usize, Failure> {
    if at.is_null() {
        return Err(Failure::Null(what));
    }
    if !at.is_aligned() {
        return Err(Failure::Value { what, got: at.addr() as u64, expected: "an aligned pointer" });
    }
    // SAFETY: struct_size comes first.
    let got = unsafe { at.cast::<u32>().read() };
    let (least, most) = (T::FIRST, size_of::<T>() + MOST_LATER);
    if !(least..=most).contains(&(got as usize)) {
        return Err(Failure::StructSize { what, got, least, most });
    }
    Ok(got as usize)
}

/// Reads a struct that the caller has filled in. Fields an earlier version lacks are zero. A later version is
/// accepted as long as the fields unknown here are zero.
///
/// # Safety
/// As [`check_size`].
#[inline]
pub(super) unsafe fn input<T: Versioned>(what: &'static str, at: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let (value, got) = unsafe { (known(what, at)?, check_size(what, at)?) };
    let expected = size_of::<T>();
    for i in expected..got {
        // SAFETY: within struct_size.
        if unsafe { at.cast::<u8>().add(i).read() } != 0 {
            return Err(Failure::Newer { what, got: got as u32, expected });
        }
    }
    Ok(value)
}

/// Reads the part of a struct that both sides know; the rest is zero.
///
/// # Safety
/// As [`check_size`].
#[inline]
pub(super) unsafe fn known<T: Versioned>(what: &'static str, at: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let got = unsafe { check_size(what, at) }?;
    if got >= size_of::<T>() {
        // SAFETY: as long as its size says; every bit pattern that C may write is valid.
        return Ok(unsafe { at.read() });
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: as long as its size says, and shorter than the value; zero is valid, as above.
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(at.cast(), got);
        Ok(value.assume_init())
    }
}

/// Writes the part of a struct that both sides know, and leaves its struct_size unchanged.
///
/// # Safety
/// A struct that [`check_size`] has found good and that can be written to.
#[inline]
pub(super) unsafe fn output<T: Versioned>(at: *mut T, value: &T) {
    // SAFETY: struct_size comes first; nothing beyond it is touched.
    unsafe {
        let struct_size = at.cast::<u32>().read();
        if struct_size as usize >= size_of::<T>() {
            at.write(*value);
        } else {
            at.cast::<u8>().copy_from_nonoverlapping((&raw const *value).cast(), struct_size as usize);
        }
        at.cast::<u32>().write(struct_size);
    }
}

/// Borrows a C string as text.
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

/// Converts a C string to a path; None for NULL or an empty one.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct of which the first version had no `added`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Grown {
        struct_size: u32,
        value: u32,
        added: u64,
    }

    // SAFETY: as the trait says.
    unsafe impl Versioned for Grown {
        const FIRST: usize = 8;
    }

    /// The struct as a program of a later version passes it.
    #[repr(C)]
    struct Later {
        known: Grown,
        unknown: u64,
    }

    #[test]
    fn structs_of_other_versions_are_used_as_far_as_both_sides_know_them() {
        let mut short = Grown { struct_size: 8, value: 5, added: 7 };
        // SAFETY: a struct as long as it says; so below.
        assert_eq!(unsafe { input("x", &short) }.unwrap(), Grown { added: 0, ..short });
        // SAFETY: as above.
        unsafe { output(&mut short, &Grown { struct_size: 0, value: 6, added: 9 }) };
        assert_eq!(short, Grown { struct_size: 8, value: 6, added: 7 });

        let struct_size = size_of::<Later>() as u32;
        let mut later = Later { known: Grown { struct_size, ..short }, unknown: 0 };
        let at = (&raw mut later).cast::<Grown>();
        // SAFETY: as above.
        assert_eq!(unsafe { input("x", at) }.unwrap(), Grown { struct_size, ..short });
        later.unknown = 1 << 40;
        let at = (&raw mut later).cast::<Grown>();
        // SAFETY: as above.
        let error = unsafe { input("x", at) }.unwrap_err();
        assert_eq!(error.to_string(), "x has 24 bytes, 16 are known and those beyond are not zero");
        // SAFETY: as above.
        unsafe { output(at, &Grown { struct_size: 0, value: 1, added: 2 }) };
        assert_eq!(later.known, Grown { struct_size, value: 1, added: 2 });
        assert_eq!(later.unknown, 1 << 40);
    }

    #[test]
    fn sizes_that_no_version_has_are_refused() {
        for struct_size in [0, 4, 7, 16 + 4096 + 1, u32::MAX] {
            let wrong = Grown { struct_size, value: 0, added: 0 };
            // SAFETY: nothing beyond struct_size is looked at.
            let error = unsafe { input("x", &wrong) }.unwrap_err();
            assert_eq!(error.to_string(), format!("x.struct_size is {struct_size}, expected 8 to 4112"));
        }
    }
}
