//! The text of a thread's last error.

use std::cell::RefCell;
use std::fmt::{self, Write};

use crate::control::beginning;

const LEN: usize = 512;

struct Text {
    bytes: [u8; LEN],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let text = beginning(text, LEN - self.len);
        self.bytes[self.len..][..text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

thread_local! {
    // Not on the heap: errors may occur in a loop that must not allocate.
    static LAST: RefCell<Text> = const { RefCell::new(Text { bytes: [0; LEN], len: 0 }) };
}

/// Stores the text of an error.
pub(super) fn set(error: &dyn fmt::Display) {
    LAST.with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last.len = 0;
            let _ = write!(last, "{error}");
        }
    });
}

/// Copies the text to `into`: as much as fits, NUL-terminated. Returns the length of the whole text in bytes.
pub(super) fn copy(into: &mut [u8]) -> usize {
    LAST.with(|last| {
        let Ok(last) = last.try_borrow() else { return 0 };
        if let Some(room) = into.len().checked_sub(1) {
            let len = last.len.min(room);
            into[..len].copy_from_slice(&last.bytes[..len]);
            into[len] = 0;
        }
        last.len
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_and_short_buffers_are_terminated() {
        set(&"no such camera");
        let mut buffer = [1; 8];
        assert_eq!(copy(&mut buffer), 14);
        assert_eq!(&buffer, b"no such\0");
        assert_eq!(copy(&mut []), 14);
        set(&"ö".repeat(400));
        assert_eq!(copy(&mut []), 512);
        set(&format!("x{}", "ö".repeat(400)));
        assert_eq!(copy(&mut []), 511);
    }
}
