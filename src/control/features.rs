//! Feature bits: compatible additions to the protocol.
//!
//! A hello names the features the client requires and those it uses if available; a welcome names those of the
//! daemon.

/// Sessions have names, one writer and any number of observers.
pub const FEATURE_NAMES: u64 = 1;
/// The welcome describes the policy's numbers, see [`Dimension`](super::Dimension).
pub const FEATURE_CONTRACT: u64 = 1 << 1;
/// Completions without a chunk carry the reason, see [`Fault`](super::Fault).
pub const FEATURE_FAULTS: u64 = 1 << 2;
/// Replies carry the number of their request.
pub const FEATURE_NUMBERS: u64 = 1 << 3;
/// The welcome has a token by which a client takes over its own session.
pub const FEATURE_TOKEN: u64 = 1 << 4;
/// Guidance, episodes and motion: chunks carry notes, the client reports what it plays, hello and prompt have the
/// session's choices, the welcome says how actions are to be played.
pub const FEATURE_MOTION: u64 = 1 << 5;
/// All features of this version.
pub const FEATURES: u64 =
    FEATURE_NAMES | FEATURE_CONTRACT | FEATURE_FAULTS | FEATURE_NUMBERS | FEATURE_TOKEN | FEATURE_MOTION;
