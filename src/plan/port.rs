//! The programs of Tenstorrent's own port of PI0.5, counted in its source, on the model that ours are counted on.
//!
//! tt-metal, `models/experimental/pi0_5/p150` at 46d412c8 (`tt/ttnn_{siglip,gemma,paligemma,prefix,suffix,pi0_5_model}.py`), with the flags of
//! its `pi05_production.env`, as its published figures were measured. Weights are bfp8, activations, keys and values in L1. Text is padded to
//! 256 tokens, actions to 64 rows.

use serde::Serialize;

use super::program::{Program, Tally, Work};
use crate::tenstorrent::{Board, Fidelity, WeightDtype};

/// The port's programs for one chunk and the time that the model of this crate gives them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Port {
    /// Images to tokens.
    pub vision: Tally,
    /// The prefix through the language model.
    pub prefix: Tally,
    /// One Euler step.
    pub step: Tally,
    /// The whole chunk.
    pub total: Tally,
}

/// Layers of the vision tower, and of the language model and the expert.
const BLOCKS: usize = 27;
const LAYERS: usize = 18;

/// Tiles: 256 patches or tokens, and rows of actions.
const IMAGE: usize = 8;
const TEXT: usize = 8;
const ACTIONS: usize = 2;

impl Port {
    /// For that many cameras and steps.
    pub fn new(board: &Board, cameras: usize, steps: usize) -> Self {
        let rows = cameras * IMAGE + TEXT;
        let of = |programs: &[Program], times| Tally::of(programs, times, board);
        let vision = of(&vision(cameras * IMAGE), 1).and(of(&block(cameras), BLOCKS));
        let whole = layer(rows);
        // Of the last layer only keys and values are used; its attention and output product are still computed.
        let prefix = of(&text(cameras), 1).and(of(&whole, LAYERS - 1)).and(of(&whole[..10], 1));
        let step = of(&expert(rows), LAYERS).and(of(&ends(), 1));
        let all = Tally { programs: steps * step.programs, expected_ms: steps as f64 * step.expected_ms };
        Self { vision, prefix, step, total: vision.and(prefix).and(all) }
    }
}

fn bfp8(inner: usize, cols: usize) -> f64 {
    (inner * cols * WeightDtype::Bfp8.tile_bytes()) as f64
}

/// A product whose rows and columns are shared out to a grid.
fn product(
    name: &'static str,
    (rows, inner, cols): (usize, usize, usize),
    grid: (usize, usize),
    depth: usize,
    fidelity: Fidelity,
) -> Program {
    let pairs = rows.div_ceil(grid.1) * cols.div_ceil(grid.0) * inner;
    let work = Work::Product { pairs, rounds: inner.div_ceil(depth), fidelity };
    Program { name, work, bytes: bfp8(inner, cols) }
}

fn moved(name: &'static str, tiles: usize, cores: usize) -> Program {
    Program { name, work: Work::Move { tiles, cores, l1: true }, bytes: 0.0 }
}

fn norm(name: &'static str, tiles: usize, cores: usize) -> Program {
    Program { name, work: Work::Norm { tiles, cores }, bytes: 0.0 }
}

const ALL: usize = usize::MAX;
/// Cores of the vision tower's blocks, which stay on them; of the language model's MLP; of the whole card.
const VISION: (usize, usize) = (12, 8);
const MLP: (usize, usize) = (12, 10);
const CARD: (usize, usize) = (13, 10);

/// What is before and behind the tower's blocks.
fn vision(rows: usize) -> Vec<Program> {
    vec![
        moved("fold", rows * 19, ALL),
        moved("tilize", rows * 19, ALL),
        moved("pad", rows * 19, ALL),
        Program {
            bytes: 2048.0 / 1088.0 * bfp8(19, 36),
            ..product("patches", (rows, 19, 36), CARD, 1, Fidelity::HiFi2)
        },
        moved("position", rows * 36, ALL),
        moved("add", rows * 36, ALL),
        moved("shard", rows * 36, 96),
        moved("unshard", rows * 36, 96),
        norm("norm", rows * 36, rows),
        product("projector", (rows, 36, 64), CARD, 4, Fidelity::HiFi2),
    ]
}

/// A block of the vision tower: 36 tiles wide, 16 heads of 3 tiles, an MLP of 144.
fn block(cameras: usize) -> Vec<Program> {
    let (rows, cores, fidelity) = (cameras * IMAGE, VISION.0 * VISION.1, Fidelity::HiFi2);
    vec![
        norm("norm", rows * 36, cores),
        product("qkv", (rows, 36, 144), VISION, 3, fidelity),
        moved("unshard", rows * 144, cores),
        moved("split heads", rows * 144, ALL),
        Program {
            name: "attention",
            work: Work::Attend { pieces: cameras * 16 * IMAGE / 2, rows: 2, keys: IMAGE, width: 3, fidelity },
            bytes: 0.0,
        },
        moved("join heads", rows * 48, ALL),
        moved("shard", rows * 48, cores),
        product("out", (rows, 48, 36), VISION, 4, fidelity),
        moved("add", rows * 36, cores),
        norm("norm", rows * 36, cores),
        product("fc1", (rows, 36, 144), VISION, 3, fidelity),
        product("fc2", (rows, 144, 36), VISION, 4, fidelity),
        moved("add", rows * 36, cores),
    ]
}

/// Text embedded and joined to the images, and the masks of both.
fn text(cameras: usize) -> Vec<Program> {
    let slices = (0..cameras).flat_map(|_| [moved("slice", IMAGE * 64, ALL), moved("mask", IMAGE, ALL)]);
    let rest = ["embed", "tilize", "scale"].map(|name| moved(name, TEXT * 64, ALL));
    let join = [moved("join", (cameras * IMAGE + TEXT) * 64, ALL), moved("join masks", TEXT, ALL)];
    slices.chain(rest).chain(join).collect()
}

/// A layer of the language model: 64 tiles wide, 8 heads of 8 tiles, an MLP of 512. Up to the product behind attention
/// there are 10 programs.
fn layer(rows: usize) -> Vec<Program> {
    let lofi = Fidelity::LoFi;
    let wide = rows * 64;
    vec![
        moved("shard", wide, 64),
        norm("norm", wide, 64),
        moved("unshard", wide, 64),
        product("qkv", (rows, 64, 80), CARD, 8, lofi),
        moved("split heads", rows * 80, ALL),
        norm("rotate queries", rows * 64, rows * 8),
        norm("rotate keys", rows * 8, rows),
        Program {
            name: "attention",
            work: Work::Attend {
                pieces: 8 * rows / 2,
                rows: 2,
                keys: rows,
                width: 8,
                fidelity: Fidelity::HiFi2,
            },
            bytes: 0.0,
        },
        moved("join heads", wide, ALL),
        product("out", (rows, 64, 64), CARD, 8, lofi),
        moved("add", wide, ALL),
        moved("shard", wide, 64),
        norm("norm", wide, 64),
        moved("unshard", wide, 64),
        moved("bfp8", wide, ALL),
        product("gate", (rows, 64, 512), MLP, 8, lofi),
        product("up", (rows, 64, 512), MLP, 8, lofi),
        moved("multiply", rows * 512, ALL),
        product("down", (rows, 512, 64), MLP, 8, lofi),
        moved("add", wide, ALL),
    ]
}

/// A layer of the expert: 32 tiles wide, an MLP of 128. Three of its programs are kernels of the port's own.
fn expert(prefix: usize) -> Vec<Program> {
    let (rows, lofi, wide) = (ACTIONS, Fidelity::LoFi, ACTIONS * 32);
    // Every core has all rows and some columns.
    let few = |name, inner: usize, cols: usize, cores: usize, depth: usize| {
        product(name, (rows, inner, cols), (cores, 1), depth, lofi)
    };
    vec![
        moved("shard", wide, 16),
        norm("norm", wide, 16),
        moved("unshard", wide, 16),
        few("qkv", 32, 80, 80, 8),
        // Own kernel: splits into heads and rotates.
        norm("split and rotate heads", rows * 80, rows * 10),
        // Own kernel: attends to the cache and to the new keys without joining them.
        Program {
            name: "attention",
            work: Work::Attend {
                pieces: 8 * rows,
                rows: 1,
                keys: prefix + rows,
                width: 8,
                fidelity: Fidelity::HiFi2,
            },
            bytes: 0.0,
        },
        moved("join heads", rows * 64, 16),
        product("out", (rows, 64, 32), CARD, 8, lofi),
        moved("add times gate", wide, ALL),
        moved("shard", wide, 16),
        norm("norm", wide, 16),
        moved("unshard", wide, 16),
        few("gate", 32, 128, 128, 16),
        few("up", 32, 128, 128, 16),
        moved("multiply", rows * 128, ALL),
        few("down", 128, 32, 32, 16),
        moved("add times gate", wide, ALL),
    ]
}

/// What is before and behind the expert's layers in a step.
fn ends() -> Vec<Program> {
    vec![
        product("actions in", (ACTIONS, 1, 32), (32, 1), 1, Fidelity::HiFi2),
        norm("norm", ACTIONS * 32, ACTIONS),
        product("actions out", (ACTIONS, 32, 1), (1, 1), 2, Fidelity::HiFi2),
        moved("times dt", ACTIONS, ALL),
        moved("add", ACTIONS, ALL),
    ]
}
