//! Calls the C interface from Rust as a C program does.

use std::ffi::CStr;

use pi0rt::capi::pi0rt_last_error;

/// A struct of the C interface, zero except for its size, which is its first member.
pub fn sized<T: Copy>() -> T {
    // SAFETY: zero is valid for each of them, and a u32 comes first.
    unsafe {
        let mut value: T = std::mem::zeroed();
        (&raw mut value).cast::<u32>().write(size_of::<T>() as u32);
        value
    }
}

pub fn last_error() -> String {
    let mut words = [0; 512];
    // SAFETY: the buffer has the given size.
    unsafe {
        pi0rt_last_error(words.as_mut_ptr(), words.len());
        CStr::from_ptr(words.as_ptr()).to_str().unwrap().to_owned()
    }
}
