//! A device that computes nothing and writes down what it is asked: the model's own list of
//! operations.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::phase::Phase;
use crate::checkpoint::{Arch, Part, Tensor};
use crate::device::demand::{Demand, MatrixDemand, OpDemand, TableDemand, Work};
use crate::device::{
    Attention, Blend, Buffer, BufferShape, Builder, CacheShape, Device, DeviceError, Epilogue, HeadSide,
    Keys, KvCache, OpResult, PatchEmbed, Progress, Ran, Role, Rope, RowVector, Table, Vector, View, Weight,
};
use crate::model::ledger::Op;
use crate::model::{Source, Stage, Tap};

/// Everything the model has asked for, and when.
#[derive(Default)]
pub struct TracedChunk {
    pub demand: Demand,
    /// Where in the forward pass each operation is.
    pub phases: Vec<Phase>,
    /// Operations that no stage has closed yet.
    open: Vec<(Op, Option<Epilogue>, Work)>,
}

impl TracedChunk {
    /// Puts the open operations into `phase`. One without a matrix belongs to the part of the next
    /// product (a norm goes before one), else of the last (a cache is written after one).
    fn close(&mut self, phase: Phase) {
        let parts: Vec<Option<Part>> = self
            .open
            .iter()
            .map(|(_, _, work)| match work {
                Work::Product { matrix, .. } => Some(self.demand.matrices[*matrix].part),
                _ => None,
            })
            .collect();
        for (i, (op, epilogue, work)) in self.open.drain(..).enumerate() {
            let next = parts[i..].iter().flatten().next();
            let last = parts[..i].iter().flatten().next_back();
            let part = *next.or(last).unwrap_or(&phase.embedding());
            self.demand.ops.push(OpDemand { op, epilogue, work, part });
            self.phases.push(phase);
        }
    }
}

/// The tracing device, and the tap that tells it where in the forward pass it is.
#[derive(Clone)]
pub struct Trace {
    record: Arc<Mutex<TracedChunk>>,
    /// Parts of the model's weights, by name.
    parts: Arc<HashMap<String, Part>>,
}

impl Trace {
    /// For a model of these sizes.
    pub fn new(arch: &Arch) -> Self {
        Self { record: Arc::default(), parts: Arc::new(arch.parts()) }
    }

    fn part(&self, tensor: &Tensor) -> Result<Part, DeviceError> {
        self.parts.get(tensor.name()).copied().ok_or_else(|| DeviceError::Unsupported {
            what: format!("tensor {}", tensor.name()),
            device: "trace".into(),
            why: "no weight of this model has its name".into(),
        })
    }

    fn matrix(
        &self,
        parts: &[&Tensor],
        cols: Option<Range<usize>>,
        heads: Option<(HeadSide, usize)>,
    ) -> Result<Weight, DeviceError> {
        let Some(first) = parts.first() else {
            let (expected, got) = ("at least one tensor".into(), "none".into());
            return Err(DeviceError::Shape { op: "weight", expected, got });
        };
        let matrix = MatrixDemand {
            part: self.part(first)?,
            heads,
            rows: parts.iter().map(|t| t.rows()).sum(),
            cols: cols.map_or(first.cols(), |c| c.len()),
        };
        Ok(Weight(push(&mut self.record().demand.matrices, matrix)))
    }

    /// The recorded chunk.
    pub fn record(&self) -> MutexGuard<'_, TracedChunk> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, op: Op, work: Work) -> OpResult {
        self.enter_product(op, None, work)
    }

    fn enter_product(&self, op: Op, epilogue: Option<Epilogue>, work: Work) -> OpResult {
        self.record().open.push((op, epilogue, work));
        Ok(Ran::Device)
    }

    fn product(
        &self,
        op: Op,
        epilogue: Option<Epilogue>,
        x: View,
        weight: Weight,
        rows: usize,
        out: usize,
    ) -> OpResult {
        let f32 = self.record().demand.buffers[x.buffer.0 as usize].role == Role::Stream;
        self.enter_product(op, epilogue, Work::Product { matrix: weight.0 as usize, rows, out, f32 })
    }

    fn elements(&self, op: Op, x: View, inputs: usize, out: View) -> OpResult {
        self.enter(op, Work::Elements { rows: x.rows, read: inputs * x.cols, written: out.cols })
    }
}

impl Tap for Trace {
    fn at(&mut self, stage: Stage, _: Source<'_>, _: &mut dyn Device) -> Result<(), DeviceError> {
        self.record().close(Phase::of(stage));
        Ok(())
    }
}

fn push<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    list.len() as u32 - 1
}

impl Builder for Trace {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.matrix(parts, cols, None)
    }

    fn head_weight(
        &mut self,
        parts: &[&Tensor],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        self.matrix(parts, None, Some((side, head_dim)))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        self.weight(&[gate, up], None)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        Ok(Vector(push(&mut self.record().demand.vectors, values.len())))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        let table = TableDemand { part: self.part(tensor)?, rows: tensor.rows(), cols: tensor.cols() };
        Ok(Table(push(&mut self.record().demand.tables, table)))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        Ok(Buffer(push(&mut self.record().demand.buffers, BufferShape { role, rows, cols })))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let rows = runs.iter().sum();
        Ok(KvCache(push(&mut self.record().demand.caches, CacheShape { layers, rows, heads, head_dim })))
    }

    fn seal(self: Box<Self>, _: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        Ok(self)
    }
}

impl Device for Trace {
    fn describe(&self) -> String {
        "trace (computes nothing)".into()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        let record = self.record();
        record.demand.matrices.get(weight.0 as usize).map_or(0, |m| m.rows * m.cols * 2)
    }

    fn reuses(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        0
    }

    fn write(&mut self, _: &[f32], _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn write_tokens(&mut self, _: &[u32], _: View) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&mut self, _: View, out: &mut [f32]) -> Result<(), DeviceError> {
        out.fill(0.0);
        Ok(())
    }

    fn read_kv(
        &mut self,
        _: KvCache,
        _: usize,
        _: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        k.fill(0.0);
        v.fill(0.0);
        Ok(())
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        self.product(Op::PatchEmbed, None, images, args.weight, out.rows, out.cols)
    }

    fn embed(&mut self, _: Table, ids: View, _: f32, out: View) -> OpResult {
        self.enter(Op::Embed, Work::Elements { rows: ids.rows, read: out.cols, written: out.cols })
    }

    fn layer_norm(&mut self, x: View, _: Vector, _: Vector, _: f32, out: View) -> OpResult {
        self.elements(Op::LayerNorm, x, 1, out)
    }

    fn rms_norm(&mut self, x: View, _: RowVector, _: Option<RowVector>, _: f32, out: View) -> OpResult {
        self.elements(Op::RmsNorm, x, 1, out)
    }

    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        _: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult {
        // One program for all gates.
        let epilogue = match epilogue {
            Epilogue::AddGated(_) => Epilogue::AddGated(Vector(0).into()),
            other => other,
        };
        self.product(Op::Linear, Some(epilogue), x, weight, x.rows, out.cols)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.product(Op::Geglu, None, x, weight, x.rows, out.cols)
    }

    fn rope(&mut self, x: View, _: Option<Rope>, out: View) -> OpResult {
        self.elements(Op::Rope, x, 1, out)
    }

    fn cache_write(&mut self, _: KvCache, _: usize, _: usize, k: View, v: View, _: Option<Rope>) -> OpResult {
        let cols = k.cols + v.cols;
        self.enter(Op::CacheWrite, Work::Elements { rows: k.rows, read: cols, written: cols })
    }

    fn attention(&mut self, q: View, cache: KvCache, _: usize, args: Attention, _: View) -> OpResult {
        let (block, keys) = match args.keys {
            Keys::First(n) => (q.rows, n),
            Keys::Blocks(n) => (n, n),
        };
        let work = Work::Attend { cache: cache.0 as usize, rows: q.rows, heads: args.heads, block, keys };
        self.enter(Op::Attention, work)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        self.elements(Op::Copy, x, 1, out)
    }

    fn blend(&mut self, y: View, x: View, _: View, _: View, _: Blend) -> OpResult {
        self.elements(Op::Blend, x, 3, y)
    }

    fn euler_step(&mut self, x: View, v: View, _: f32) -> OpResult {
        self.elements(Op::EulerStep, v, 2, x)
    }
}
