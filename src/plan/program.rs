//! The time of one program on a board.
//!
//! Every constant is a published measurement of something else than a whole chunk; `docs/tenstorrent.md` names where each was
//! read. None was fitted to the chunks that they are held against (`published.rs`).

use serde::Serialize;

use crate::tenstorrent::{Board, Fidelity};

/// From the end of one program to the start of the next in a replayed trace: 58 µs for 36 programs.
pub const GAP_SECONDS: f64 = 1.6e-6;

/// The shortest program, an addition of one tile on each of 32 cores.
pub const LEAST_SECONDS: f64 = 1.4e-6;

/// Share of the peak that products reach on the cores that they use: 185 of 265 TFLOP/s, those of a vision tower on 96 cores.
pub const PRODUCT_EFFICIENCY: f64 = 0.70;

/// Share of the bandwidth that reads of interleaved tensors reach: 190 of 288 GB/s on Wormhole, 340 of 512 on Blackhole.
pub const DRAM_EFFICIENCY: f64 = 190.0 / 288.0;

/// A block of a product's inner dimension, from the request to the last core that has it: what products take that are bound by
/// nothing else.
pub const ROUND_SECONDS: f64 = 1.0e-6;

/// Share of the peak that the products in attention reach, their exponentials taking as long as they do at HiFi2:
/// 0.59 TFLOP/s on a core of Blackhole at HiFi2, half as long again at HiFi4.
pub const ATTENTION_EFFICIENCY: f64 = 0.42;

/// A tile that a core moves, from and to other cores' L1: 15 µs for 96 tiles.
pub const MOVE_L1_SECONDS: f64 = 0.2e-6;

/// A tile that a core moves, from and to DRAM: 64 µs for 96 tiles.
pub const MOVE_DRAM_SECONDS: f64 = 0.6e-6;

/// A tile that a core norms or rotates: 32 µs for 32 tiles.
pub const NORM_SECONDS: f64 = 1.0e-6;

/// Cycles of the matrix engine for a pass over a pair of tiles.
const PAIR_CYCLES: f64 = 16.0;

/// What a program does. Sizes are in tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// A product.
    Product {
        /// Pairs of tiles that the busiest core multiplies.
        pairs: usize,
        /// Blocks of the inner dimension that it waits for.
        rounds: usize,
        /// Passes.
        fidelity: Fidelity,
    },
    /// Attention, in pieces of queries that a core takes as a whole.
    Attend {
        /// Pieces.
        pieces: usize,
        /// Queries of a piece.
        rows: usize,
        /// Keys.
        keys: usize,
        /// Width of a head.
        width: usize,
        /// Passes.
        fidelity: Fidelity,
    },
    /// Elements moved, added or multiplied.
    Move {
        /// Tiles in all.
        tiles: usize,
        /// Cores that share them.
        cores: usize,
        /// True if they lie in L1.
        l1: bool,
    },
    /// Rows normed or rotated.
    Norm {
        /// Tiles in all.
        tiles: usize,
        /// Cores that share them.
        cores: usize,
    },
}

/// One program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Program {
    /// What it is.
    pub name: &'static str,
    /// What it does.
    pub work: Work,
    /// Bytes that cross to or from DRAM.
    pub bytes: f64,
}

impl Program {
    /// Time on that board, without the gap to the next program.
    pub fn seconds(&self, board: &Board) -> f64 {
        let passes = |fidelity: Fidelity| fidelity.phases() as f64;
        let pair = PAIR_CYCLES / board.clock;
        let share = |tiles: usize, cores: usize| tiles.div_ceil(cores.clamp(1, board.cores())) as f64;
        let busy = match self.work {
            Work::Product { pairs, rounds, fidelity } => {
                let products = pairs as f64 * passes(fidelity) * pair / PRODUCT_EFFICIENCY;
                products.max(rounds as f64 * ROUND_SECONDS)
            }
            Work::Attend { pieces, rows, keys, width, fidelity } => {
                let pairs = share(pieces, board.cores()) * (2 * rows * keys * width) as f64;
                let exponentials = passes(Fidelity::HiFi2);
                pairs * (passes(fidelity) + exponentials) * pair / ATTENTION_EFFICIENCY
            }
            Work::Move { tiles, cores, l1 } => {
                share(tiles, cores) * if l1 { MOVE_L1_SECONDS } else { MOVE_DRAM_SECONDS }
            }
            Work::Norm { tiles, cores } => share(tiles, cores) * NORM_SECONDS,
        };
        LEAST_SECONDS + busy.max(self.bytes / (board.dram_rate * DRAM_EFFICIENCY))
    }
}

/// Programs of one stage, and their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Number of programs.
    pub programs: usize,
    /// Their time with the gaps between them, milliseconds.
    pub expected_ms: f64,
}

impl Tally {
    /// Of each of these programs `times` times.
    pub fn of(programs: &[Program], times: usize, board: &Board) -> Self {
        let seconds: f64 = programs.iter().map(|p| p.seconds(board) + GAP_SECONDS).sum();
        Self { programs: times * programs.len(), expected_ms: 1e3 * times as f64 * seconds }
    }

    /// The sum of both.
    pub fn and(self, other: Self) -> Self {
        Self { programs: self.programs + other.programs, expected_ms: self.expected_ms + other.expected_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenstorrent::WeightDtype::{self, Bf16, Bfp8};

    /// Products as TTNN configures them by itself, measured on a p150, microseconds: tt-metal,
    /// `models/experimental/pi0_5/docs/mmdecode/all_runs_comprehensive.md` and, for 32 rows, `pi05_denoise_integration.md`.
    const MEASURED: [(usize, usize, usize, WeightDtype, f64); 14] = [
        (256, 1152, 4608, Bf16, 55.0),
        (256, 1536, 1152, Bf16, 47.7),
        (256, 1152, 4320, Bfp8, 54.5),
        (256, 4320, 1152, Bfp8, 173.0),
        (288, 2048, 2560, Bf16, 73.0),
        (288, 2048, 2048, Bf16, 63.9),
        (288, 2048, 16384, Bf16, 259.4),
        (288, 16384, 2048, Bfp8, 415.7),
        (64, 1024, 4096, Bf16, 24.7),
        (64, 4096, 1024, Bfp8, 66.1),
        (32, 1024, 2560, Bfp8, 20.65),
        (32, 1024, 4096, Bfp8, 20.59),
        (32, 2048, 1024, Bfp8, 29.98),
        (32, 4096, 1024, Bfp8, 58.67),
    ];

    #[test]
    fn single_products_take_what_was_measured() {
        let board = Board::P150;
        let ratios = MEASURED.map(|(rows, inner, cols, weights, measured)| {
            let (m, k, n) = (rows / 32, inner / 32, cols / 32);
            // Few rows: two tiles of the inner dimension at a time, columns over all cores. Others: one, on both sides.
            let (share, depth) = match m {
                1 | 2 => (m * n.div_ceil(board.cores()), 2),
                _ => (m.div_ceil(board.grid.1) * n.div_ceil(board.grid.0), 1),
            };
            let work = Work::Product { pairs: share * k, rounds: k / depth, fidelity: Fidelity::HiFi2 };
            let bytes = weights.matrix_bytes(inner, cols) as f64;
            let expected = 1e6 * Program { name: "product", work, bytes }.seconds(&board);
            let ratio = expected / measured;
            assert!(
                (0.6..1.35).contains(&ratio),
                "{rows}x{inner}x{cols}: {expected:.1} us, measured {measured}"
            );
            ratio
        });
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!((mean - 1.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn the_longest_of_its_parts_decides() {
        let board = Board::P150;
        let of = |pairs, rounds, bytes| {
            let work = Work::Product { pairs, rounds, fidelity: Fidelity::HiFi2 };
            Program { name: "product", work, bytes }.seconds(&board) - LEAST_SECONDS
        };
        assert_eq!(of(0, 64, 0.0), 64.0 * ROUND_SECONDS);
        assert!((of(1000, 1, 0.0) * PRODUCT_EFFICIENCY - 1000.0 * 32.0 / board.clock).abs() < 1e-12);
        assert!((of(1, 1, 1e6) - 1e6 / (board.dram_rate * DRAM_EFFICIENCY)).abs() < 1e-12);
        assert_eq!(of(1000, 100, 1e6), of(1000, 0, 0.0).max(of(0, 100, 0.0)).max(of(0, 0, 1e6)));
    }
}
