//! The [`Builder`] trait: every call that may wait for the card is watched.

use std::ops::Range;

use super::Ttnn;
use crate::checkpoint::Tensor;
use crate::device::{
    Buffer, Builder, Device, DeviceError, HeadSide, KvCache, Part, Progress, Role, Shapes, Table, Vector,
    Weight,
};

/// A card being loaded.
pub struct TtnnBuilder(pub(super) Ttnn);

impl Builder for TtnnBuilder {
    fn part(&mut self, part: Part) {
        self.0.part = part;
    }

    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.0.watched("uploading weights", |device| device.add_weight(parts, cols))
    }

    fn head_weight(
        &mut self,
        parts: &[&Tensor],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        self.0.watched("uploading weights", |device| device.add_head_weight(parts, side, head_dim))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        self.0.watched("uploading weights", |device| device.add_gated_weight(gate, up))
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.0.vectors.push((values.to_vec(), None));
        Ok(Vector(self.0.vectors.len() as u32 - 1))
    }

    fn head_vector(&mut self, values: &[f32], head_dim: usize) -> Result<Vector, DeviceError> {
        self.0.vectors.push((values.to_vec(), Some(head_dim)));
        Ok(Vector(self.0.vectors.len() as u32 - 1))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.0.watched("uploading a table", |device| device.add_table(tensor))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.0.add_buffer(role, rows, cols)
    }

    fn patches(&mut self, images: Buffer, patch_size: usize) {
        self.0.patches.insert(images.0, patch_size);
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        self.0.watched("making a cache", |device| device.add_cache(layers, runs, heads, head_dim))
    }

    fn shapes(&self) -> Option<&Shapes> {
        Some(&self.0.shapes)
    }

    fn seal(mut self: Box<Self>, _: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        self.0.watched("the end of uploading", Ttnn::finish)?;
        Ok(Box::new(self.0))
    }
}
