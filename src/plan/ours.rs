//! The programs that device `ttnn` launches for an operation: as counted on the mock device of TTNN 0.66, with the sizes and the
//! places that the bridge gives them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::program::{Program, Work};
use crate::checkpoint::Part;
use crate::device::demand::{Demand, MatrixDemand, OpDemand, Work as Asked};
use crate::device::ttnn::blocks::{Blocks, NEAR_ROWS, Product, room_for_blocks};
use crate::device::ttnn::memory::{Format, Room};
use crate::device::{Epilogue, HeadSide};
use crate::model::ledger::Op;
use crate::tenstorrent::board::{TILE, tiled};
use crate::tenstorrent::{Fidelity, WeightDtype};

/// Blocks of each product on each grid; None: TTNN's own.
type Choices = HashMap<(Product, (usize, usize)), Option<Blocks>>;

/// Rates and sizes that a chunk's operations are held against, with the blocks of products already chosen.
pub(super) struct Launches<'a> {
    room: &'a Room,
    demand: &'a Demand,
    blocks: RefCell<Choices>,
}

const BF16: WeightDtype = WeightDtype::Bf16;
const F32: WeightDtype = WeightDtype::F32;

fn tiles(n: usize) -> usize {
    n.div_ceil(TILE)
}

impl<'a> Launches<'a> {
    pub(super) fn new(room: &'a Room, demand: &'a Demand) -> Self {
        Self { room, demand, blocks: RefCell::default() }
    }

    /// Programs of an operation.
    pub(super) fn of(&self, asked: &OpDemand) -> Vec<Program> {
        match asked.work {
            Asked::Product { matrix, rows, out, f32 } => self.product(asked, (matrix, rows, out), f32),
            Asked::Attend { cache, rows, heads, block, keys } => {
                let cache = &self.demand.caches[cache];
                self.attend(asked.part, (rows / block, block, keys), (heads, cache.heads, cache.head_dim))
            }
            Asked::Elements { rows, read, written } => self.elements(asked, rows, read, written),
        }
    }

    fn product(
        &self,
        asked: &OpDemand,
        (matrix, rows, out): (usize, usize, usize),
        f32: bool,
    ) -> Vec<Program> {
        let Format { weights, fidelity } = self.room.formats.of(asked.part);
        let (all, inner) = self.room.stored(&self.demand.matrices[matrix]);
        let adds = matches!(asked.epilogue, Some(Epilogue::Add | Epilogue::AddGated(_)));
        let input = if f32 { F32 } else { BF16 };
        let output = if adds || f32 { F32 } else { BF16 };
        let fidelity = if f32 { Fidelity::HiFi4 } else { fidelity };
        let rows = tiled(rows);
        let one = |cols: usize| {
            let (work, near) = self.blocks((rows, inner, cols), (input, weights, output), fidelity);
            let mut bytes = weights.matrix_bytes(cols, inner) as f64;
            if !near {
                bytes += (input.matrix_bytes(rows, inner) + output.matrix_bytes(rows, cols)) as f64;
            }
            Program { name: "product", work, bytes }
        };
        let elements =
            |name, cols: usize, dtypes: &[WeightDtype]| self.moved(name, (rows, cols), ALL, dtypes);
        match asked.op {
            // Gate and up, each a product, and the activated gate times up.
            Op::Geglu => vec![one(all / 2), one(all / 2), elements("multiply", tiled(out), &[BF16; 3])],
            Op::PatchEmbed => {
                let tilize = elements("tilize", inner, &[BF16; 2]);
                vec![tilize, one(all), elements("positions", all, &[F32; 3])]
            }
            // A product adds its bias and applies an activation; a residual, gated or not, is a program of its own.
            _ if adds => vec![one(all), elements("residual", all, &[F32; 3])],
            _ => vec![one(all)],
        }
    }

    /// The work of a product of that many rows, inner columns and columns, and whether its input and result stay in L1.
    fn blocks(
        &self,
        (rows, inner, cols): (usize, usize, usize),
        (input, weight, output): (WeightDtype, WeightDtype, WeightDtype),
        fidelity: Fidelity,
    ) -> (Work, bool) {
        let board = &self.room.board;
        let product = Product {
            rows: tiles(rows),
            inner: tiles(inner),
            cols: tiles(cols),
            input: input.tile_bytes(),
            weight: weight.tile_bytes(),
            output: output.tile_bytes(),
            passes: fidelity.phases(),
            wide: true,
        };
        let room = room_for_blocks(board.l1_bytes);
        let mut known = self.blocks.borrow_mut();
        let of = || Blocks::of(&product, board.grid, room);
        let (pairs, rounds) = match known.entry((product, board.grid)).or_insert_with(of) {
            Some(blocks) => (blocks.share.0 * blocks.share.1 * product.inner, blocks.rounds(&product)),
            // TTNN's own choice.
            None => (product.rows * product.cols.div_ceil(board.cores()) * product.inner, product.inner),
        };
        (Work::Product { pairs, rounds, fidelity }, rows <= NEAR_ROWS)
    }

    /// Programs of attention: (blocks of queries, queries of a block, keys), (heads, those of keys, width of one).
    fn attend(
        &self,
        part: Part,
        (blocks, queries, keys): (usize, usize, usize),
        (heads, key_heads, width): (usize, usize, usize),
    ) -> Vec<Program> {
        let (rows, keys, width) = (tiled(queries), tiled(keys), tiled(width));
        let near = blocks * rows <= NEAR_ROWS;
        // Queries are cut so that the cores are busy for the shortest time.
        let cores = self.room.board.cores();
        let time = |chunk: usize| (blocks * heads * rows / chunk).div_ceil(cores) * chunk;
        let fitting = [256, 128, 64, 32].into_iter().filter(|chunk| rows.is_multiple_of(*chunk));
        let chunk = fitting.min_by_key(|&chunk| time(chunk)).unwrap_or(TILE);
        let work = Work::Attend {
            pieces: blocks * heads * rows / chunk,
            rows: chunk / TILE,
            keys: keys / TILE,
            width: width / TILE,
            fidelity: Fidelity::HiFi4,
        };
        let mut bytes = (2 * blocks * key_heads * BF16.matrix_bytes(keys, width)) as f64;
        if !near {
            bytes += 2.0 * BF16.matrix_bytes(blocks * rows, heads * width) as f64;
        }
        let join = self.moved("join heads", (blocks * rows, heads * width), blocks * tiles(rows), &[BF16; 2]);
        let mut programs = vec![Program { name: "attention", work, bytes }, join];
        // The state's keys are cut out of the cache: actions lie before them.
        if blocks == 1 && queries == 1 && part == Part::ExpertAttention {
            programs.extend(["keys", "values"].map(|name| self.moved(name, (keys, width), ALL, &[BF16; 2])));
        }
        programs
    }

    fn elements(&self, asked: &OpDemand, rows: usize, read: usize, written: usize) -> Vec<Program> {
        let part = asked.part;
        let (high, wide) = (tiled(rows), tiled(read));
        let moved =
            |name, cols: usize, cores, dtypes: &[WeightDtype]| self.moved(name, (high, cols), cores, dtypes);
        let norm = |name, cols: usize, cores: usize| {
            let near = high <= NEAR_ROWS;
            let bytes = if near {
                0.0
            } else {
                (F32.matrix_bytes(high, cols) + BF16.matrix_bytes(high, cols)) as f64
            };
            Program { name, work: Work::Norm { tiles: tiles(high) * tiles(cols), cores }, bytes }
        };
        let lines = tiles(high);
        match asked.op {
            Op::Write | Op::Read | Op::Copy => Vec::new(),
            Op::LayerNorm | Op::RmsNorm => vec![norm("norm", wide, lines)],
            Op::EulerStep => vec![moved("euler step", wide, ALL, &[F32; 3])],
            Op::Blend => ["reach", "error", "weigh", "move"].map(|n| moved(n, wide, ALL, &[F32; 3])).into(),
            Op::Embed => vec![moved("embed", wide, lines, &[BF16; 2]), moved("scale", wide, ALL, &[BF16; 2])],
            // Queries, keys and values are split into heads at once; the queries are rotated, except in the vision tower.
            Op::Rope => {
                let fused = self.fused_cols(part).unwrap_or(wide);
                let split = moved("split heads", fused, lines, &[BF16; 2]);
                match part {
                    Part::VisionAttention => vec![split],
                    _ => vec![split, norm("rotate queries", wide, lines * self.heads(wide))],
                }
            }
            Op::CacheWrite => {
                let half = tiled(written) / 2;
                // What the vision tower has just written is attended to as it is.
                if part == Part::VisionAttention {
                    return Vec::new();
                }
                let mut programs = vec![norm("rotate keys", half, lines)];
                let parts = ["keys", "values"];
                // Rows that lie behind others in the cache are written together with zeros before them.
                if part == Part::PrefixAttention || rows == 1 {
                    programs.extend(parts.map(|name| moved(name, half, ALL, &[BF16; 2])));
                }
                programs.extend(parts.map(|name| moved(name, half, lines, &[BF16; 2])));
                programs
            }
            _ => vec![moved(asked.op.name(), wide, ALL, &[F32; 2])],
        }
    }

    /// Elements of that many rows and columns, in and out in these formats.
    fn moved(
        &self,
        name: &'static str,
        (rows, cols): (usize, usize),
        cores: usize,
        dtypes: &[WeightDtype],
    ) -> Program {
        let l1 = rows <= NEAR_ROWS;
        let bytes: usize = dtypes.iter().map(|dtype| dtype.matrix_bytes(rows, cols)).sum();
        let work = Work::Move { tiles: tiles(rows) * tiles(cols), cores, l1 };
        Program { name, work, bytes: if l1 { 0.0 } else { bytes as f64 } }
    }

    /// Columns of a part's queries, keys and values as stored.
    fn fused_cols(&self, part: Part) -> Option<usize> {
        let fused = |m: &&MatrixDemand| m.part == part && matches!(m.heads, Some((HeadSide::Output, _)));
        self.demand.matrices.iter().find(fused).map(|matrix| self.room.stored(matrix).0)
    }

    /// Heads of that many columns of queries.
    fn heads(&self, cols: usize) -> usize {
        let width = self.demand.caches.iter().map(|cache| cache.head_dim).max();
        width.map_or(1, |width| cols / tiled(width).max(1)).max(1)
    }
}

const ALL: usize = usize::MAX;
