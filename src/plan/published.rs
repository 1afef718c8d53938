//! Times of a chunk that Tenstorrent publishes for its own port.

use serde::Serialize;

use crate::checkpoint::{Arch, Variant};
use crate::tenstorrent::Board;

/// A published time of the full-size model, trace replayed, weights in bfp8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Where.
    pub source: &'static str,
    /// The whole chunk, milliseconds.
    pub total_ms: f64,
    /// Vision tower, projector, text and prefix; None: not published for this chunk.
    pub prefix_ms: Option<f64>,
    /// One Euler step; None: not published for this chunk.
    pub step_ms: Option<f64>,
}

const SOURCE: &str = "tt-metal models/experimental/pi0_5, p150a";
/// Cameras, steps, and the chunk's time.
const PI05_P150: [(usize, usize, f64); 4] = [(2, 5, 35.36), (2, 10, 50.42), (3, 5, 39.43), (3, 10, 55.69)];
/// Stages of the chunk with three cameras and 10 steps.
const PREFIX_MS: f64 = 23.0;
const STEP_MS: f64 = 3.26;

/// What is published for a chunk of this model on this board.
pub(super) fn published(board: &Board, arch: &Arch, cameras: usize, steps: usize) -> Option<Published> {
    let full =
        Arch { state_dim: arch.state_dim, action_dim: arch.action_dim, ..Arch::published(Variant::PI05) };
    if board.name != Board::P150.name || *arch != full {
        return None;
    }
    let &(.., total_ms) = PI05_P150.iter().find(|chunk| (chunk.0, chunk.1) == (cameras, steps))?;
    let staged = (cameras, steps) == (3, 10);
    let stage = |ms| staged.then_some(ms);
    Some(Published { source: SOURCE, total_ms, prefix_ms: stage(PREFIX_MS), step_ms: stage(STEP_MS) })
}
