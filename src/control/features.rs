//! What was added to the protocol compatibly. A hello names the features that a client can't do without, and
//! those it makes use of where they are there; a welcome names those of the daemon.

/// Sessions have names, one writer and any number of observers.
pub const FEATURE_NAMES: u64 = 1;
/// The welcome says what the numbers mean, see [`Dimension`](super::Dimension).
pub const FEATURE_CONTRACT: u64 = 1 << 1;
/// Completions without a chunk say why, see [`Fault`](super::Fault).
pub const FEATURE_FAULTS: u64 = 1 << 2;
/// Answers carry the number of their request.
pub const FEATURE_NUMBERS: u64 = 1 << 3;
/// The welcome has a token, by which a client takes its own session over.
pub const FEATURE_TOKEN: u64 = 1 << 4;
/// All features of this version.
pub const FEATURES: u64 = FEATURE_NAMES | FEATURE_CONTRACT | FEATURE_FAULTS | FEATURE_NUMBERS | FEATURE_TOKEN;
