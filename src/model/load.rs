//! A checkpoint's tensors, by name, onto a device.

use super::error::ModelError;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::device::{Buffer, Device, HeadSide, Role, Table, Vector, View, Weight};

/// Loads one part of the model: names are relative to `prefix`.
pub struct Loader<'a> {
    /// Where tensors come from.
    pub checkpoint: &'a Checkpoint,
    /// Where they go.
    pub device: &'a mut dyn Device,
    prefix: String,
}

impl<'a> Loader<'a> {
    /// Names as in the checkpoint.
    pub fn new(checkpoint: &'a Checkpoint, device: &'a mut dyn Device) -> Self {
        Self { checkpoint, device, prefix: String::new() }
    }

    /// The same, names relative to `prefix`.
    pub fn within(&mut self, prefix: &str) -> Loader<'_> {
        Loader {
            checkpoint: self.checkpoint,
            device: self.device,
            prefix: format!("{}{prefix}", self.prefix),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// As [`weight`](Self::weight), for operands of at most `rows` rows in every chunk.
    pub fn weight_for(&mut self, rows: usize, names: &[&str]) -> Result<Weight, ModelError> {
        let weight = self.weight(names)?;
        self.device.expect(weight, rows)?;
        Ok(weight)
    }

    /// The rows of `NAME.weight` of every name, one below the other.
    pub fn weight(&mut self, names: &[&str]) -> Result<Weight, ModelError> {
        let parts = self.parts(names)?;
        Ok(self.device.weight(&parts, None)?)
    }

    /// As [`weight_for`](Self::weight_for), for a projection from or to attention heads.
    pub fn head_weight_for(
        &mut self,
        rows: usize,
        names: &[&str],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, ModelError> {
        let parts = self.parts(names)?;
        let weight = self.device.head_weight(&parts, side, head_dim)?;
        self.device.expect(weight, rows)?;
        Ok(weight)
    }

    fn parts(&self, names: &[&str]) -> Result<Vec<&'a Tensor>, ModelError> {
        let tensor = |name: &&str| Ok(self.checkpoint.tensor(&self.name(&format!("{name}.weight")))?);
        names.iter().map(tensor).collect()
    }

    /// Gate and up projection of a gated MLP, for operands of at most `rows` rows in every chunk.
    pub fn gated_weight_for(&mut self, rows: usize, gate: &str, up: &str) -> Result<Weight, ModelError> {
        let gate = self.checkpoint.tensor(&self.name(&format!("{gate}.weight")))?;
        let up = self.checkpoint.tensor(&self.name(&format!("{up}.weight")))?;
        let weight = self.device.gated_weight(gate, up)?;
        self.device.expect(weight, rows)?;
        Ok(weight)
    }

    /// `NAMES` one after the other as a vector.
    pub fn vector(&mut self, names: &[&str]) -> Result<Vector, ModelError> {
        let values = self.joined(names)?;
        Ok(self.device.vector(&values)?)
    }

    /// The same, for the bias of a projection to attention heads.
    pub fn head_vector(&mut self, names: &[&str], head_dim: usize) -> Result<Vector, ModelError> {
        let values = self.joined(names)?;
        Ok(self.device.head_vector(&values, head_dim)?)
    }

    fn joined(&self, names: &[&str]) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::new();
        for name in names {
            values.extend(self.values(name)?);
        }
        Ok(values)
    }

    /// A tensor as f32.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor(&self.name(name))?.to_f32())
    }

    /// An embedding table.
    pub fn table(&mut self, name: &str) -> Result<Table, ModelError> {
        let tensor = self.checkpoint.tensor(&self.name(name))?;
        Ok(self.device.table(tensor)?)
    }

    /// An activation buffer.
    pub fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Slot, ModelError> {
        Ok(Slot { buffer: self.device.buffer(role, rows, cols)?, rows, cols })
    }
}

/// A buffer and its size.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    buffer: Buffer,
    /// Rows it has room for.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl Slot {
    /// The first `rows` rows.
    pub fn first(self, rows: usize) -> View {
        debug_assert!(rows <= self.rows);
        View { buffer: self.buffer, row: 0, rows, col: 0, cols: self.cols }
    }

    /// All of it.
    pub fn all(self) -> View {
        self.first(self.rows)
    }
}
