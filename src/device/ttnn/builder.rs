//! The [`Builder`] trait, watched.

use std::ops::Range;

use super::card::Ttnn;
use super::product::one_for_all_rows;
use super::watch::Watched;
use crate::checkpoint::Tensor;
use crate::device::{
    Buffer, Builder, Device, DeviceError, HeadSide, KvCache, PrecisionClass, Progress, Role, Shapes, Table,
    Vector, Weight,
};

/// A card being loaded.
pub struct TtnnBuilder(pub(super) Watched);

impl Builder for TtnnBuilder {
    fn precision(&mut self, class: PrecisionClass) {
        self.0.card_mut().class = class;
    }

    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.0.over("uploading weights", |card| card.weight(parts, cols))
    }

    fn head_weight(
        &mut self,
        parts: &[&Tensor],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        self.0.over("uploading weights", |card| card.head_weight(parts, side, head_dim))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        self.0.over("uploading weights", |card| card.gated_weight(gate, up))
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        Ok(self.0.card_mut().vector(values, None))
    }

    fn head_vector(&mut self, values: &[f32], head_dim: usize) -> Result<Vector, DeviceError> {
        Ok(self.0.card_mut().vector(values, Some(head_dim)))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.0.over("uploading a table", |card| card.table(tensor))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        Ok(self.0.card_mut().buffer(role, rows, cols))
    }

    fn patches(&mut self, images: Buffer, patch_size: usize) {
        self.0.card_mut().patches.insert(images.0, patch_size);
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        self.0.over("making a cache", |card| card.kv_cache(layers, runs, heads, head_dim))
    }

    fn shapes(&self) -> Option<&Shapes> {
        Some(&self.0.card().shapes)
    }

    fn splits_rows(&self) -> Result<(), DeviceError> {
        Err(one_for_all_rows("other scales, shifts and gates for a chunk's first rows"))
    }

    fn seal(mut self: Box<Self>, _: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        self.0.over("the end of uploading", Ttnn::synchronize)?;
        Ok(Box::new(self.0))
    }
}
