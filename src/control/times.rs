//! How far times may lie apart before they can't be of the same clock.
//!
//! All times that client and daemon exchange are CLOCK_MONOTONIC. A camera driver or a middleware may stamp
//! by another one: CLOCK_REALTIME is decades ahead, CLOCK_BOOTTIME ahead by all the time the machine has
//! slept, a camera's own counter began when it was switched on. Such a time is refused and never reckoned
//! with: a chunk would stay fresh for ever, or be over before it began.

/// How far the time of an observation may lie ahead of its submission.
pub const AHEAD_NS: u64 = 1_000_000;
/// Greatest age of an observation when it is submitted: many times what a camera and a driver take, and more
/// than any chunk lasts.
pub const SUBMITTED_WITHIN_NS: u64 = 10_000_000_000;
/// Longest that a submission may wait for its turn, and longest that a deadline may have passed.
pub const WAITING_NS: u64 = 600_000_000_000;
/// How far a deadline may lie ahead.
pub const DEADLINE_WITHIN_NS: u64 = 86_400_000_000_000;
/// How far the moment of an action may lie before the chunk's observation: what comes before it is no
/// business of the chunk's.
pub const MOMENT_BEFORE_NS: u64 = 1_000_000_000;
/// How far the moment of an action may lie from now.
pub const MOMENT_WITHIN_NS: u64 = 600_000_000_000;

/// Whether a deadline is a moment near now, passed or not.
pub fn is_deadline(deadline_ns: u64, now_ns: u64) -> bool {
    deadline_ns <= now_ns.saturating_add(DEADLINE_WITHIN_NS)
        && deadline_ns >= now_ns.saturating_sub(WAITING_NS)
}
