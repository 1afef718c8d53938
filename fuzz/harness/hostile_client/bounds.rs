//! Bounds on what the daemon may take and what its clients may ask for.

use std::time::Duration;

/// Longest wait for anything: beyond it, the daemon hangs.
pub const LONG: Duration = Duration::from_secs(30);
/// Largest frame that the daemon allows, bytes.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;
