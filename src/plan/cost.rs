//! Operations held against a board's rates.
//!
//! Two figures per line. The *bound* is what no implementation can go below: every operation takes
//! the longer of its products at the published peak and its weights and keys at the published
//! bandwidth. The *expected* time is that of the programs that device `ttnn` launches ([`program`](super::program)).

use std::ops::{Add, Div};

use serde::Serialize;

use super::ours::Launches;
use super::phase::Phase;
use super::program::GAP_SECONDS;
use super::trace::TracedChunk;
use crate::checkpoint::Part;
use crate::device::demand::{Demand, OpDemand, Work};
use crate::device::ttnn::memory::{Format, Room};
use crate::tenstorrent::board::tiled;
use crate::tenstorrent::{Fidelity, WeightDtype};

/// Cost of a number of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Number of programs launched.
    pub programs: f64,
    /// Multiplications and additions of products and attention.
    pub flops: f64,
    /// The same with every size padded to tiles, and heads too: what the matrix engine does.
    pub tiled_flops: f64,
    /// Weights read from DRAM, as stored.
    pub weight_bytes: f64,
    /// Keys and values read by attention.
    pub cache_bytes: f64,
    /// Activations read and written, if they are in DRAM.
    pub activation_bytes: f64,
    /// Products at peak, milliseconds.
    pub arithmetic_ms: f64,
    /// Weights, keys and values at full bandwidth.
    pub bandwidth_ms: f64,
    /// The longer of the two, operation by operation.
    pub bound_ms: f64,
    /// Time between programs, ms.
    pub dispatch_ms: f64,
    /// With the losses seen, `dispatch_ms` included.
    pub expected_ms: f64,
}

impl Cost {
    /// The bound: `arithmetic` or `DRAM`.
    pub fn bound_by(&self) -> &'static str {
        if self.arithmetic_ms >= self.bandwidth_ms { "arithmetic" } else { "DRAM" }
    }

    fn fields(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            programs: f(self.programs, other.programs),
            flops: f(self.flops, other.flops),
            tiled_flops: f(self.tiled_flops, other.tiled_flops),
            weight_bytes: f(self.weight_bytes, other.weight_bytes),
            cache_bytes: f(self.cache_bytes, other.cache_bytes),
            activation_bytes: f(self.activation_bytes, other.activation_bytes),
            arithmetic_ms: f(self.arithmetic_ms, other.arithmetic_ms),
            bandwidth_ms: f(self.bandwidth_ms, other.bandwidth_ms),
            bound_ms: f(self.bound_ms, other.bound_ms),
            dispatch_ms: f(self.dispatch_ms, other.dispatch_ms),
            expected_ms: f(self.expected_ms, other.expected_ms),
        }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.fields(other, |a, b| a + b)
    }
}

impl Div<usize> for Cost {
    type Output = Self;

    fn div(self, n: usize) -> Self {
        self.fields(self, |a, _| a / n as f64)
    }
}

/// Costs of the operations of one phase with one part's weights.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Line {
    /// Phase of the chunk.
    pub phase: Phase,
    /// Part of the model whose weights are used.
    pub part: Part,
    /// How their products are computed.
    pub format: Format,
    /// Cost of its operations.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Costs by phase and part.
pub(super) fn lines(room: &Room, record: &TracedChunk) -> Vec<Line> {
    let demand = &record.demand;
    let launches = Launches::new(room, demand);
    let mut lines = Vec::new();
    for &phase in Phase::ALL {
        for &part in Part::ALL {
            let ops = demand.ops.iter().zip(&record.phases);
            let mut ops = ops.filter(|(op, of)| (**of, op.part) == (phase, part)).peekable();
            if ops.peek().is_some() {
                let cost = ops.fold(Cost::default(), |sum, (op, _)| sum + cost(room, demand, &launches, op));
                lines.push(Line { phase, part, format: room.formats.of(part), cost });
            }
        }
    }
    lines
}

fn cost(room: &Room, demand: &Demand, launches: &Launches<'_>, asked: &OpDemand) -> Cost {
    let Format { weights, fidelity } = room.formats.of(asked.part);
    let programs = launches.of(asked);
    let mut cost = Cost { programs: programs.len() as f64, ..Cost::default() };
    let mut fidelity = fidelity;
    // Products read bf16, write f32 (the residual stream is f32); all else is f32 on both sides.
    match asked.work {
        Work::Product { matrix, rows, out, f32 } => {
            let matrix = &demand.matrices[matrix];
            let (n, k) = room.stored(matrix);
            cost.flops = flops(rows, matrix.rows, matrix.cols);
            cost.tiled_flops = flops(tiled(rows), n, k);
            cost.weight_bytes = weights.matrix_bytes(n, k) as f64;
            cost.activation_bytes = bytes(WeightDtype::Bf16, rows, k) + bytes(WeightDtype::F32, rows, out);
            if f32 {
                fidelity = Fidelity::HiFi4;
            }
        }
        Work::Attend { cache, rows, heads, block, keys } => {
            let cache = demand.caches[cache];
            let head = tiled(cache.head_dim);
            let blocks = rows / block;
            let pairs = |q: usize, k: usize, d: usize| 2.0 * (heads * blocks) as f64 * flops(q, k, d);
            cost.flops = pairs(block, keys, cache.head_dim);
            cost.tiled_flops = pairs(tiled(block), tiled(keys), head);
            cost.cache_bytes = 2.0 * (blocks * cache.heads) as f64 * bytes(WeightDtype::Bf16, keys, head);
            cost.activation_bytes = 2.0 * bytes(WeightDtype::Bf16, rows, heads * head);
        }
        Work::Elements { rows, read, written } => {
            cost.activation_bytes =
                bytes(WeightDtype::F32, rows, read) + bytes(WeightDtype::F32, rows, written);
        }
    }
    let moved = cost.weight_bytes + cost.cache_bytes;
    let arithmetic = cost.tiled_flops / room.board.peak(fidelity);
    let bandwidth = moved / room.board.dram_rate;
    let dispatch = cost.programs * GAP_SECONDS;
    let busy: f64 = programs.iter().map(|program| program.seconds(&room.board)).sum();
    cost.arithmetic_ms = 1e3 * arithmetic;
    cost.bandwidth_ms = 1e3 * bandwidth;
    cost.bound_ms = 1e3 * arithmetic.max(bandwidth);
    cost.dispatch_ms = 1e3 * dispatch;
    cost.expected_ms = 1e3 * (busy + dispatch);
    cost
}

fn flops(m: usize, n: usize, k: usize) -> f64 {
    2.0 * m as f64 * n as f64 * k as f64
}

fn bytes(dtype: WeightDtype, rows: usize, cols: usize) -> f64 {
    dtype.matrix_bytes(rows, cols) as f64
}
