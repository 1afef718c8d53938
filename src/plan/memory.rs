//! DRAM and L1 a model needs.

use serde::Serialize;

use super::Sizes;
use super::trace::{Record, Work};
use crate::checkpoint::Part;
use crate::device::{DeviceError, Role};
use crate::tenstorrent::board::tiled;
use crate::tenstorrent::{Board, WeightDtype};

/// Code and arguments of one compiled program, kept in DRAM. An estimate on the safe side.
const PROGRAM_BYTES: u64 = 256 << 10;

/// What a model needs.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Weights by part, as stored: padded to tiles, heads too.
    pub weights: Vec<Weights>,
    /// DRAM of everything else.
    pub rest: Vec<Item>,
    /// All of DRAM.
    pub dram_bytes: u64,
    /// What one core's L1 must hold, by part: its largest operation.
    pub l1: Vec<L1>,
}

/// Weights of one part.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Weights {
    /// The part.
    pub part: Part,
    /// Parameters, without padding.
    pub parameters: u64,
    /// How they are stored.
    pub dtype: WeightDtype,
    /// Bytes, padding included.
    pub bytes: u64,
}

/// DRAM for one purpose.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Item {
    /// The purpose.
    pub what: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// The largest operation of a part.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct L1 {
    /// The part.
    pub part: Part,
    /// The operation.
    pub op: &'static str,
    /// Bytes of circular buffers on one core.
    pub bytes: u64,
    /// Into how many rounds each core's share of the output is cut to get there.
    pub rounds: u64,
}

impl Memory {
    /// # Errors
    /// [`DeviceError::Memory`] with the figures, if the board is too small.
    pub fn check(&self, board: &Board) -> Result<(), DeviceError> {
        let refuse = |what: &str, bytes: u64, why: String| {
            let what = format!("{what} of {}", board.name);
            Err(DeviceError::Memory { what, bytes: usize::try_from(bytes).unwrap_or(usize::MAX), why })
        };
        if self.dram_bytes > board.dram_bytes {
            let weights: u64 = self.weights.iter().map(|w| w.bytes).sum();
            return refuse(
                "DRAM",
                self.dram_bytes,
                format!(
                    "the chip has {}; weights take {weights}, all else {}",
                    board.dram_bytes,
                    self.dram_bytes - weights
                ),
            );
        }
        match self.l1.iter().find(|l1| l1.bytes > board.l1_usable() as u64) {
            Some(l1) => refuse(
                "L1",
                l1.bytes,
                format!(
                    "{} of {} needs it on every core, {} are usable",
                    l1.op,
                    l1.part.name(),
                    board.l1_usable()
                ),
            ),
            None => Ok(()),
        }
    }
}

pub(super) fn memory(sizes: &Sizes<'_>, record: &Record) -> Memory {
    let weights = weights(sizes, record);
    let rest = rest(sizes, record);
    let dram_bytes = weights.iter().map(|w| w.bytes).chain(rest.iter().map(|r| r.bytes)).sum();
    Memory { weights, rest, dram_bytes, l1: l1(sizes, record) }
}

fn weights(sizes: &Sizes<'_>, record: &Record) -> Vec<Weights> {
    let mut list: Vec<Weights> = Part::ALL
        .iter()
        .map(|&part| Weights { part, parameters: 0, dtype: sizes.config.format(part).weights, bytes: 0 })
        .collect();
    let mut add = |part: Part, parameters: usize, bytes: usize| {
        list[part as usize].parameters += parameters as u64;
        list[part as usize].bytes += bytes as u64;
    };
    for matrix in &record.matrices {
        let part = matrix.part;
        let (rows, cols) = sizes.stored(matrix);
        let dtype = sizes.config.format(part).weights;
        add(part, matrix.rows * matrix.cols, dtype.matrix_bytes(rows, cols));
    }
    for &(part, rows, cols) in &record.tables {
        // Embedding looks rows up: row-major. Positions are added: f32 tiles.
        let bytes = match part {
            Part::Text => 2 * rows * cols,
            _ => WeightDtype::F32.matrix_bytes(rows, cols),
        };
        add(part, rows * cols, bytes);
    }
    list
}

fn rest(sizes: &Sizes<'_>, record: &Record) -> Vec<Item> {
    let f32 = |rows, cols| WeightDtype::F32.matrix_bytes(rows, cols) as u64;
    let bf16 = |rows, cols| WeightDtype::Bf16.matrix_bytes(rows, cols) as u64;
    let vectors = record.vectors.iter().map(|&len| f32(1, len)).sum();
    let caches =
        record.caches.iter().map(|c| (2 * c.layers * c.heads) as u64 * bf16(c.rows, tiled(c.head_dim)));
    let (mut inputs, mut activations, mut largest) = (0, 0, 0);
    for &(role, rows, cols) in &record.buffers {
        match role {
            Role::Image | Role::Tokens => inputs += 4 * (rows * cols) as u64,
            Role::Stream => activations += f32(rows, cols),
            Role::Operand => activations += bf16(rows, cols),
        }
        largest = largest.max(f32(rows, cols));
    }
    // Distinct programs: those that a cache of compiled programs tells apart.
    let mut programs: Vec<_> = record.ops.iter().map(|t| (t.op, t.then, t.work, t.part)).collect();
    let mut seen = Vec::new();
    programs.retain(|&(op, then, work, part)| {
        let work = match work {
            Work::Product { matrix, rows, out, f32 } => {
                let m = &record.matrices[matrix];
                (rows, m.rows, m.cols, out, f32)
            }
            Work::Attend { rows, heads, block, keys, .. } => (rows, heads, block, keys, false),
            Work::Elements { rows, read, written } => (rows, read, written, 0, false),
        };
        let key = (op, then, work, part);
        let new = !seen.contains(&key);
        if new {
            seen.push(key);
        }
        new
    });
    vec![
        Item { what: "biases and norms", bytes: vectors },
        Item { what: "keys and values", bytes: caches.sum() },
        Item { what: "activations", bytes: activations },
        // Operations without an output argument make their result before it is copied or used.
        Item { what: "intermediate results", bytes: 3 * largest },
        Item { what: "inputs", bytes: inputs },
        Item { what: "trace region", bytes: sizes.config.trace_region },
        Item { what: "compiled programs", bytes: programs.len() as u64 * PROGRAM_BYTES },
    ]
}

fn l1(sizes: &Sizes<'_>, record: &Record) -> Vec<L1> {
    let mut list: Vec<L1> = Vec::new();
    for traced in &record.ops {
        let (bytes, rounds) = need(sizes, record, traced.part, traced.work);
        match list.iter_mut().find(|l1| l1.part == traced.part) {
            Some(l1) if l1.bytes >= bytes => {}
            Some(l1) => *l1 = L1 { part: l1.part, op: traced.op.name(), bytes, rounds },
            None => list.push(L1 { part: traced.part, op: traced.op.name(), bytes, rounds }),
        }
    }
    list.sort_by_key(|l1| l1.part as usize);
    list
}

/// Circular buffers of one operation on one core, and rounds.
fn need(sizes: &Sizes<'_>, record: &Record, part: Part, work: Work) -> (u64, u64) {
    let (bf16, f32) = (WeightDtype::Bf16.tile_bytes(), WeightDtype::F32.tile_bytes());
    let tiles = |n: usize| tiled(n) / 32;
    let (columns, lines) = sizes.board.grid;
    match work {
        Work::Product { matrix, rows, .. } => {
            let (n, k) = sizes.stored(&record.matrices[matrix]);
            let weight = sizes.config.format(part).weights.tile_bytes();
            // Few rows: every core has all of them and a share of the columns. Many: a grid.
            let few = tiles(rows) < lines;
            let mut m = if few { tiles(rows) } else { tiles(rows).div_ceil(lines) };
            let mut n = tiles(n).div_ceil(if few { columns * lines } else { columns });
            // Two tiles of depth at a time, double-buffered, an f32 sum and the output.
            let depth = 2.min(tiles(k));
            let mut rounds = 1;
            loop {
                let bytes = 2 * depth * (m * bf16 + n * weight) + m * n * (f32 + f32);
                if bytes <= sizes.board.l1_usable() || m * n == 1 {
                    return (bytes as u64, rounds);
                }
                if n >= m {
                    n = n.div_ceil(2);
                } else {
                    m = m.div_ceil(2);
                }
                rounds *= 2;
            }
        }
        Work::Attend { cache, block, keys, .. } => {
            let depth = tiles(record.caches[cache].head_dim);
            let (q, k) = (tiles(block).min(4), tiles(keys).min(8));
            let bytes = 2 * (q + 2 * k) * depth * bf16 + 2 * q * k * f32 + 2 * q * depth * f32;
            (bytes as u64, 1)
        }
        // A row of tiles in and out, and the norm's weight.
        Work::Elements { read, written, .. } => {
            ((tiles(read) * (f32 + f32) + tiles(written) * f32) as u64, 1)
        }
    }
}
