//! Times of a chunk that Tenstorrent publishes for its own port.

use serde::Serialize;

use super::port::Port;
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
    /// The port's programs, and the time that this crate's model gives them.
    pub port: Port,
}

const SOURCE: &str = "tt-metal models/experimental/pi0_5, p150a";
/// Cameras, steps, and the chunk's time.
pub(super) const PI05_P150: [(usize, usize, f64); 4] =
    [(2, 5, 35.36), (2, 10, 50.42), (3, 5, 39.43), (3, 10, 55.69)];
/// Stages of the chunk with three cameras and 10 steps.
const PREFIX_MS: f64 = 23.0;
const STEP_MS: f64 = 3.26;

/// Published time of a chunk of this model on this board.
pub(super) fn published(board: &Board, arch: &Arch, cameras: usize, steps: usize) -> Option<Published> {
    let full =
        Arch { state_dim: arch.state_dim, action_dim: arch.action_dim, ..Arch::published(Variant::PI05) };
    if board.name != Board::P150.name || *arch != full {
        return None;
    }
    let &(.., total_ms) = PI05_P150.iter().find(|chunk| (chunk.0, chunk.1) == (cameras, steps))?;
    let staged = (cameras, steps) == (3, 10);
    let stage = |ms| staged.then_some(ms);
    let port = Port::new(board, cameras, steps);
    Some(Published { source: SOURCE, total_ms, prefix_ms: stage(PREFIX_MS), step_ms: stage(STEP_MS), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model explains what the port was measured to take, from the port's programs alone.
    #[test]
    fn the_ports_chunks_are_explained() {
        let near = |what: &str, expected: f64, measured: f64| {
            let off = expected / measured - 1.0;
            assert!(off.abs() < 0.1, "{what}: {expected:.2} ms expected, {measured} measured");
        };
        for (cameras, steps, measured) in PI05_P150 {
            let port = Port::new(&Board::P150, cameras, steps);
            near(&format!("{cameras} cameras, {steps} steps"), port.total.expected_ms, measured);
        }
        let port = Port::new(&Board::P150, 3, 10);
        near("vision and prefix", port.vision.and(port.prefix).expected_ms, PREFIX_MS);
        near("a step", port.step.expected_ms, STEP_MS);
        // 17 programs a layer of the expert, three of them its own kernels; 13 a block of the vision tower.
        assert_eq!((port.step.programs, port.vision.programs), (18 * 17 + 5, 27 * 13 + 10));
        assert_eq!(port.prefix.programs, 17 * 20 + 10 + 11);
    }

    #[test]
    fn other_chunks_have_no_published_time() {
        let full = Arch::published(Variant::PI05);
        assert!(published(&Board::P150, &full, 3, 10).is_some());
        assert!(published(&Board::P150, &full, 1, 10).is_none());
        assert!(published(&Board::N150, &full, 3, 10).is_none());
        assert!(published(&Board::P150, &Arch::full(), 3, 10).is_none());
    }
}
