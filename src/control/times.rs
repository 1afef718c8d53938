//! Limits between times, beyond which they can't be of the same clock.
//!
//! All times that client and daemon exchange are CLOCK_MONOTONIC. A camera driver or a middleware may stamp by
//! another clock: CLOCK_REALTIME is decades ahead, CLOCK_BOOTTIME is ahead by all the time the machine has
//! slept, a camera's own counter began when it was switched on. Such a time is refused and never used in a
//! calculation: a chunk would stay fresh for ever, or be over before it began.

/// How far an observation may be stamped after its submission, ns.
pub const AHEAD_NS: u64 = 1_000_000;
/// Maximum age of an observation at its submission, ns: many times what a camera and a driver take, and longer
/// than any chunk lasts.
pub const SUBMITTED_WITHIN_NS: u64 = 10_000_000_000;
/// Longest wait of a submission for its turn, and longest time since a deadline passed, ns.
pub const WAITING_NS: u64 = 600_000_000_000;
/// How far a deadline may lie in the future, ns.
pub const DEADLINE_WITHIN_NS: u64 = 86_400_000_000_000;
/// How far the moment of an action may lie before the chunk's observation, ns: the chunk has nothing to say
/// about earlier moments.
pub const MOMENT_BEFORE_NS: u64 = 1_000_000_000;
/// How far the moment of an action may lie in the future, ns: a command is sent when it is due. The player's time would
/// be there, and nothing before could be asked for any more.
pub const MOMENT_AHEAD_NS: u64 = 1_000_000_000;
/// How far the moment of an action may lie in the past, ns: a loop that was stopped catches up tick by tick.
pub const MOMENT_PAST_NS: u64 = 10_000_000_000;

/// True if a deadline is near enough to now, before or after, to be of the same clock.
pub fn is_deadline(deadline_ns: u64, now_ns: u64) -> bool {
    deadline_ns <= now_ns.saturating_add(DEADLINE_WITHIN_NS)
        && deadline_ns >= now_ns.saturating_sub(WAITING_NS)
}
