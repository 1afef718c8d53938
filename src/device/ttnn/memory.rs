//! DRAM and L1 of a board that a model needs, told from what it asks for. In every build.

use serde::Serialize;

use crate::checkpoint::{Part, PrecisionClass};
use crate::device::demand::{Demand, MatrixDemand, TableDemand, Work};
use crate::device::{BufferShape, Capacity, DeviceError, HeadSide, Role};
use crate::tenstorrent::board::tiled;
use crate::tenstorrent::{Board, Fidelity, WeightDtype};

/// How one part's products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Format {
    /// Weights in DRAM.
    pub weights: WeightDtype,
    /// Passes of the matrix engine.
    pub fidelity: Fidelity,
}

/// The format of every part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Formats([Format; Part::ALL.len()]);

impl Default for Formats {
    /// bfp8 weights at HiFi2; the embedding table in bf16, the suffix in f32.
    fn default() -> Self {
        let format = Format { weights: WeightDtype::Bfp8, fidelity: Fidelity::HiFi2 };
        let mut formats = [format; Part::ALL.len()];
        formats[Part::Text as usize].weights = WeightDtype::Bf16;
        formats[Part::Suffix as usize] = Format { weights: WeightDtype::F32, fidelity: Fidelity::HiFi4 };
        Self(formats)
    }
}

impl Formats {
    /// The format of a part.
    pub fn of(&self, part: Part) -> Format {
        self.0[part as usize]
    }

    /// The format of a part, to change.
    pub fn of_mut(&mut self, part: Part) -> &mut Format {
        &mut self.0[part as usize]
    }

    /// Gives all parts of a class this format.
    pub fn set(&mut self, class: PrecisionClass, format: Format) {
        let parts = Part::ALL.iter().filter(|part| part.class() == Some(class));
        parts.for_each(|part| *self.of_mut(*part) = format);
    }
}

/// A board, and how it will hold a model.
#[derive(Clone, Debug)]
pub struct Room {
    /// The board.
    pub board: Board,
    /// DRAM kept for recordings, bytes.
    pub trace_region: u64,
    /// How weights are stored and products computed.
    pub formats: Formats,
}

impl Capacity for Room {
    fn name(&self) -> &str {
        self.board.name
    }

    fn check(&self, demand: &Demand) -> Result<(), DeviceError> {
        self.memory(demand).check(&self.board)
    }
}

impl Room {
    /// Memory that a model needs.
    pub fn memory(&self, demand: &Demand) -> Memory {
        let weights = weights(self, demand);
        let rest = rest(self, demand);
        let dram_bytes = weights.iter().map(|w| w.bytes).chain(rest.iter().map(|r| r.bytes)).sum();
        Memory { weights, rest, dram_bytes, l1: l1(self, demand) }
    }

    /// Rows and columns of a matrix as stored: heads padded to whole tiles (SDPA takes no other),
    /// then the matrix.
    pub fn stored(&self, matrix: &MatrixDemand) -> (usize, usize) {
        let (mut rows, mut cols) = (matrix.rows, matrix.cols);
        if let Some((side, head)) = matrix.heads {
            let n = if side == HeadSide::Output { &mut rows } else { &mut cols };
            *n = *n / head * tiled(head);
        }
        (tiled(rows), tiled(cols))
    }
}

/// DRAM kept for recordings unless something else is asked for, bytes.
pub const TRACE_REGION: u64 = 256 << 20;

/// Code and arguments of one compiled program, kept in DRAM. An estimate on the safe side.
const PROGRAM_BYTES: u64 = 256 << 10;

/// Memory that a model needs.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Weights by part, as stored: padded to tiles, heads too.
    pub weights: Vec<Weights>,
    /// DRAM of everything else.
    pub rest: Vec<Item>,
    /// All of DRAM.
    pub dram_bytes: u64,
    /// L1 needed on one core, by part: that of its largest operation.
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

fn weights(room: &Room, demand: &Demand) -> Vec<Weights> {
    let mut list: Vec<Weights> = Part::ALL
        .iter()
        .map(|&part| Weights { part, parameters: 0, dtype: room.formats.of(part).weights, bytes: 0 })
        .collect();
    let mut add = |part: Part, parameters: usize, bytes: usize| {
        list[part as usize].parameters += parameters as u64;
        list[part as usize].bytes += bytes as u64;
    };
    for matrix in &demand.matrices {
        let part = matrix.part;
        let (rows, cols) = room.stored(matrix);
        let dtype = room.formats.of(part).weights;
        add(part, matrix.rows * matrix.cols, dtype.matrix_bytes(rows, cols));
    }
    for &TableDemand { part, rows, cols } in &demand.tables {
        // Embedding looks rows up: row-major. Positions are added: f32 tiles.
        let bytes = match part {
            Part::Text => 2 * rows * cols,
            _ => WeightDtype::F32.matrix_bytes(rows, cols),
        };
        add(part, rows * cols, bytes);
    }
    list
}

fn rest(room: &Room, demand: &Demand) -> Vec<Item> {
    let f32 = |rows, cols| WeightDtype::F32.matrix_bytes(rows, cols) as u64;
    let bf16 = |rows, cols| WeightDtype::Bf16.matrix_bytes(rows, cols) as u64;
    let vectors = demand.vectors.iter().map(|&len| f32(1, len)).sum();
    let caches =
        demand.caches.iter().map(|c| (2 * c.layers * c.heads) as u64 * bf16(c.rows, tiled(c.head_dim)));
    let (mut inputs, mut activations, mut largest) = (0, 0, 0);
    for &BufferShape { role, rows, cols } in &demand.buffers {
        match role {
            Role::Image | Role::Tokens => inputs += 4 * (rows * cols) as u64,
            Role::Stream => activations += f32(rows, cols),
            Role::Operand => activations += bf16(rows, cols),
        }
        largest = largest.max(f32(rows, cols));
    }
    // Distinct programs: those that a cache of compiled programs tells apart.
    let mut programs: Vec<_> = demand.ops.iter().map(|t| (t.op, t.epilogue, t.work, t.part)).collect();
    let mut seen = Vec::new();
    programs.retain(|&(op, epilogue, work, part)| {
        let work = match work {
            Work::Product { matrix, rows, out, f32 } => {
                let m = &demand.matrices[matrix];
                (rows, m.rows, m.cols, out, f32)
            }
            Work::Attend { rows, heads, block, keys, .. } => (rows, heads, block, keys, false),
            Work::Elements { rows, read, written } => (rows, read, written, 0, false),
        };
        let key = (op, epilogue, work, part);
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
        Item { what: "trace region", bytes: room.trace_region },
        Item { what: "compiled programs", bytes: programs.len() as u64 * PROGRAM_BYTES },
    ]
}

fn l1(room: &Room, demand: &Demand) -> Vec<L1> {
    let mut list: Vec<L1> = Vec::new();
    for asked in &demand.ops {
        let (bytes, rounds) = need(room, demand, asked.part, asked.work);
        match list.iter_mut().find(|l1| l1.part == asked.part) {
            Some(l1) if l1.bytes >= bytes => {}
            Some(l1) => *l1 = L1 { part: l1.part, op: asked.op.name(), bytes, rounds },
            None => list.push(L1 { part: asked.part, op: asked.op.name(), bytes, rounds }),
        }
    }
    list.sort_by_key(|l1| l1.part as usize);
    list
}

/// Circular buffers of one operation on one core, and rounds.
fn need(room: &Room, demand: &Demand, part: Part, work: Work) -> (u64, u64) {
    let (bf16, f32) = (WeightDtype::Bf16.tile_bytes(), WeightDtype::F32.tile_bytes());
    let tiles = |n: usize| tiled(n) / 32;
    let (columns, lines) = room.board.grid;
    match work {
        Work::Product { matrix, rows, .. } => {
            let (n, k) = room.stored(&demand.matrices[matrix]);
            let weight = room.formats.of(part).weights.tile_bytes();
            // Few rows: every core has all of them and a share of the columns. Many: a grid.
            let few = tiles(rows) < lines;
            let mut m = if few { tiles(rows) } else { tiles(rows).div_ceil(lines) };
            let mut n = tiles(n).div_ceil(if few { columns * lines } else { columns });
            // Two tiles of depth at a time, double-buffered, an f32 sum and the output.
            let depth = 2.min(tiles(k));
            let mut rounds = 1;
            loop {
                let bytes = 2 * depth * (m * bf16 + n * weight) + m * n * (f32 + f32);
                if bytes <= room.board.l1_usable() || m * n == 1 {
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
            let depth = tiles(demand.caches[cache].head_dim);
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
