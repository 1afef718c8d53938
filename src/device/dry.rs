//! Device `dry`: computes nothing.
//!
//! A model runs on it as on any other, so its ledger tells what a chunk costs without a multiply.
//! Shapes are not checked; what is read is zero.

use std::ops::Range;

use super::{
    Attention, Buffer, Device, DeviceError, Guidance, KvCache, OpResult, PatchEmbed, Ran, Role, Rope, Table,
    Then, Vector, View, Weight,
};
use crate::checkpoint::Tensor;

/// The device.
#[derive(Debug, Default)]
pub struct Dry {
    /// Bytes of each matrix, as stored.
    weights: Vec<usize>,
    vectors: u32,
    tables: u32,
    buffers: u32,
    caches: u32,
    bytes: usize,
}

/// The number of the next handle.
fn next(count: &mut u32) -> u32 {
    *count += 1;
    *count - 1
}

type Done = Result<(), DeviceError>;

impl Device for Dry {
    fn describe(&self) -> String {
        "dry (computes nothing)".into()
    }

    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let cols = |t: &Tensor| cols.as_ref().map_or(t.cols(), Range::len);
        self.weights.push(parts.iter().map(|t| t.rows() * cols(t) * t.dtype().size()).sum());
        Ok(Weight(self.weights.len() as u32 - 1))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        self.weight(&[gate, up], None)
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.weights.get(weight.0 as usize).copied().unwrap_or(0)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.bytes += size_of_val(values);
        Ok(Vector(next(&mut self.vectors)))
    }

    fn table(&mut self, _: &Tensor) -> Result<Table, DeviceError> {
        Ok(Table(next(&mut self.tables)))
    }

    fn buffer(&mut self, _: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.bytes += rows * cols * size_of::<f32>();
        Ok(Buffer(next(&mut self.buffers)))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        rows: usize,
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        self.bytes += 2 * layers * rows * heads * head_dim * size_of::<f32>();
        Ok(KvCache(next(&mut self.caches)))
    }

    fn seal(&mut self) -> Done {
        Ok(())
    }

    /// What would be there in f32.
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, _: &[f32], _: View) -> Done {
        Ok(())
    }

    fn write_tokens(&mut self, _: &[u32], _: View) -> Done {
        Ok(())
    }

    fn read(&mut self, _: View, out: &mut [f32]) -> Done {
        out.fill(0.0);
        Ok(())
    }

    fn read_kv(&mut self, _: KvCache, _: usize, _: Range<usize>, k: &mut [f32], v: &mut [f32]) -> Done {
        k.fill(0.0);
        v.fill(0.0);
        Ok(())
    }

    fn patch_embed(&mut self, _: View, _: PatchEmbed, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn embed(&mut self, _: Table, _: View, _: f32, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn layer_norm(&mut self, _: View, _: Vector, _: Vector, _: f32, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn rms_norm(&mut self, _: View, _: Vector, _: f32, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn linear(&mut self, _: View, _: Weight, _: Option<Vector>, _: Then, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn geglu(&mut self, _: View, _: Weight, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn rope(&mut self, _: View, _: Option<Rope>, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn cache_write(&mut self, _: KvCache, _: usize, _: usize, _: View, _: View, _: Option<Rope>) -> OpResult {
        Ok(Ran::Device)
    }

    fn attention(&mut self, _: View, _: KvCache, _: usize, _: Attention, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn copy(&mut self, _: View, _: View) -> OpResult {
        Ok(Ran::Device)
    }

    fn guide(&mut self, _: View, _: View, _: View, _: View, _: Guidance) -> OpResult {
        Ok(Ran::Device)
    }

    fn euler_step(&mut self, _: View, _: View, _: f32) -> OpResult {
        Ok(Ran::Device)
    }
}
