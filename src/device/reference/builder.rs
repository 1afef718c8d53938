//! Loading: tensors stay where they are mapped, everything else is a vector.

use std::ops::Range;

use super::{KeysValues, MappedMatrix, Reference, Storage};
use crate::checkpoint::Tensor;
use crate::device::{Buffer, Builder, Device, DeviceError, KvCache, Progress, Role, Table, Vector, Weight};

/// The reference device being loaded.
pub struct ReferenceBuilder(Reference);

impl ReferenceBuilder {
    /// Without weights or buffers.
    pub fn new() -> Self {
        Self(Reference::new())
    }
}

impl Default for ReferenceBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder for ReferenceBuilder {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let (shape, cols) = self.0.inventory.weight_shape(parts, cols)?;
        self.0.weights.push(MappedMatrix { parts: parts.iter().map(|&t| t.clone()).collect(), cols });
        Ok(self.0.inventory.add_weight(shape))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        let shape = self.0.inventory.gated_shape(gate, up)?;
        self.0.weights.push(MappedMatrix { parts: vec![gate.clone(), up.clone()], cols: 0..gate.cols() });
        Ok(self.0.inventory.add_weight(shape))
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.0.vectors.push(values.to_vec());
        Ok(self.0.inventory.add_vector(values.len()))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        let shape = self.0.inventory.table_shape(tensor)?;
        self.0.tables.push(tensor.clone());
        Ok(self.0.inventory.add_table(shape))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        let (floats, ids) = if role == Role::Tokens { (0, rows) } else { (rows * cols, 0) };
        self.0.buffers.push(Storage { cols, values: vec![0.0; floats], ids: vec![0; ids] });
        Ok(self.0.inventory.add_buffer(role, rows, cols))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let shape = self.0.inventory.cache_shape(layers, runs, heads, head_dim)?;
        let len = layers * shape.rows * shape.width();
        self.0.caches.push(KeysValues { shape, k: vec![0.0; len], v: vec![0.0; len] });
        Ok(self.0.inventory.add_cache(shape))
    }

    fn seal(self: Box<Self>, _: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        Ok(Box::new(self.0))
    }
}
