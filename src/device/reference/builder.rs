//! Loading: tensors stay where they are mapped, everything else is a vector.

use std::ops::Range;

use super::{Cache, Matrix, Reference, Storage, expect, shape};
use crate::checkpoint::Tensor;
use crate::device::{Buffer, Builder, Device, DeviceError, KvCache, Progress, Role, Table, Vector, Weight};

/// The reference device being loaded.
#[derive(Default)]
pub struct ReferenceBuilder(Reference);

impl ReferenceBuilder {
    /// Without weights or buffers.
    pub fn new() -> Self {
        Self::default()
    }

    fn push_weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let width = parts.first().map_or(0, |t| t.cols());
        for part in parts {
            if part.cols() != width {
                return Err(shape("weight", format!("{width} columns"), format!("{part:?}")));
            }
        }
        let cols = cols.unwrap_or(0..width);
        if cols.end > width {
            return Err(shape("weight", format!("columns within {width}"), format!("{cols:?}")));
        }
        self.0.weights.push(Matrix { parts: parts.iter().map(|&t| t.clone()).collect(), cols });
        Ok(Weight(self.0.weights.len() as u32 - 1))
    }
}

impl Builder for ReferenceBuilder {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.push_weight(parts, cols)
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        expect("geglu", gate.rows(), up.rows())?;
        self.push_weight(&[gate, up], None)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.0.vectors.push(values.to_vec());
        Ok(Vector(self.0.vectors.len() as u32 - 1))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.0.tables.push(tensor.clone());
        Ok(Table(self.0.tables.len() as u32 - 1))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        let (floats, ids) = if role == Role::Tokens { (0, rows) } else { (rows * cols, 0) };
        self.0.buffers.push(Storage { role, rows, cols, values: vec![0.0; floats], ids: vec![0; ids] });
        Ok(Buffer(self.0.buffers.len() as u32 - 1))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let rows = runs.iter().sum::<usize>();
        let len = layers * rows * heads * head_dim;
        self.0.caches.push(Cache { layers, rows, heads, head_dim, k: vec![0.0; len], v: vec![0.0; len] });
        Ok(KvCache(self.0.caches.len() as u32 - 1))
    }

    fn seal(self: Box<Self>, _: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        Ok(Box::new(self.0))
    }
}
