//! The layout of a checkpoint's directory: whose it is, and the names of its files.

use std::fmt;

/// File of weights that are in one piece.
pub(super) const MODEL: &str = "model.safetensors";
/// List of the shards of weights that are in several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Name of a profile's file that lies beside the weights.
pub const PROFILE_FILE: &str = "pi0rt.toml";

/// The project whose file layout and conventions a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `config.json`, `policy_preprocessor.json`, `policy_postprocessor.json`.
    Lerobot,
    /// `assets/<asset_id>/norm_stats.json`.
    OpenPi,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lerobot => "lerobot",
            Self::OpenPi => "openpi",
        })
    }
}
