//! A device that has stopped answering.
//!
//! A call that waits for it can't be interrupted, and its thread can't be freed. Whoever watches
//! the call says so here; another thread, if there is one with something to answer for, has a
//! moment to do so before the process ends.

use std::sync::OnceLock;

static LOST: OnceLock<String> = OnceLock::new();

/// Why this process is about to end, if one of its devices has stopped answering.
pub fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Says it. The first reason stays.
#[cfg(feature = "_ttnn")]
pub(super) fn declare(why: String) -> &'static str {
    LOST.get_or_init(|| why)
}
