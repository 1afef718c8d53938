//! The [`Device`] trait: every call that may wait for the card is watched.

use std::ops::Range;

use super::bridge;
use super::{Ttnn, expect};
use crate::device::{
    Attention, Begin, ChunkShape, Device, DeviceError, Guidance, KvCache, OpResult, Part, PatchEmbed, Rope,
    Shapes, Table, Then, Vector, View, Weight,
};

impl Device for Ttnn {
    fn describe(&self) -> String {
        let f = &self.facts;
        let weights = |part: Part| {
            let precision = self.options.precision(part);
            format!("{:?} {:?}", precision.weights, precision.fidelity).to_lowercase()
        };
        format!(
            "ttnn ({}, {} {}x{}, vision {}, language {}, expert {}, {})",
            bridge::implementation(),
            f.arch,
            f.grid_x,
            f.grid_y,
            weights(Part::Vision),
            weights(Part::Language),
            weights(Part::Expert),
            if self.options.trace { "recorded" } else { "not recorded" }
        )
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.weights.get(weight.0 as usize).map_or(0, |w| w.bytes)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, values: &[f32], out: View) -> Result<(), DeviceError> {
        self.watched("writing inputs", |device| device.write_values(values, out))
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        self.watched("writing tokens", |device| device.write_ids(ids, out))
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        expect("read", "values", view.rows * view.cols, out.len())?;
        self.watched("reading", |device| device.read_view(view, out))
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        self.watched("reading keys and values", |device| device.read_cache(cache, layer, rows, k, v))
    }

    fn reuses(&self) -> bool {
        // A recording computes all of a chunk.
        false
    }

    fn shapes(&self) -> Option<&Shapes> {
        Some(&self.shapes)
    }

    fn begin_chunk(
        &mut self,
        shape: ChunkShape,
        padding: Range<usize>,
        observed: bool,
    ) -> Result<Begin, DeviceError> {
        self.watched("starting a chunk", |device| device.begin(shape, padding, observed))
    }

    fn end_chunk(&mut self) -> Result<(), DeviceError> {
        self.watched("recording a chunk", Self::end)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.watched("waiting for the card", Self::finish)
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        self.watched("patch_embed", |device| device.embed_patches(images, args, out))
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        self.watched("embed", |device| device.look_up(table, ids, scale, out))
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        self.watched("layer_norm", |device| device.normalize_layer(x, weight, bias, epsilon, out))
    }

    fn rms_norm(&mut self, x: View, weight: Vector, epsilon: f32, out: View) -> OpResult {
        self.watched("rms_norm", |device| device.normalize_rms(x, weight, epsilon, out))
    }

    fn linear(&mut self, x: View, weight: Weight, bias: Option<Vector>, then: Then, out: View) -> OpResult {
        self.watched("linear", |device| device.multiply(x, weight, bias, then, out))
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.watched("geglu", |device| device.gate(x, weight, out))
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        self.watched("rope", |device| device.rotate_view(x, rope, out))
    }

    fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> OpResult {
        self.watched("cache_write", |device| device.keep(cache, layer, row, k, v, rope))
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        self.watched("attention", |device| device.attend(q, cache, layer, args, out))
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        self.watched("copy", |device| device.alias(x, out))
    }

    fn guide(&mut self, v: View, x: View, left_over: View, row_weights: View, args: Guidance) -> OpResult {
        self.watched("guide", |device| device.guide_velocity(v, x, left_over, row_weights, args))
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        self.watched("euler_step", |device| device.integrate(x, v, dt))
    }
}
