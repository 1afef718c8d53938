//! Ways in which one chunk follows another.

use pi0rt::client::player::Stitching;

/// A way in which one chunk follows another.
#[derive(Clone, Copy)]
pub struct Mode {
    pub name: &'static str,
    pub stitching: Stitching,
    pub guided: bool,
}

const CROSSFADE: Stitching = Stitching::Crossfade { ns: 100_000_000 };

/// The ways that are measured.
pub const MODES: [Mode; 5] = [
    Mode { name: "replace", stitching: Stitching::Replace, guided: false },
    Mode { name: "crossfade", stitching: CROSSFADE, guided: false },
    Mode { name: "ensemble", stitching: Stitching::Ensemble { m: 0.01 }, guided: false },
    Mode { name: "guided", stitching: Stitching::Replace, guided: true },
    Mode { name: "guided-crossfade", stitching: CROSSFADE, guided: true },
];
