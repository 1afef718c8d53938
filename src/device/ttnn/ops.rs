//! The [`Device`] trait, checked and watched.

use std::ops::Range;

use super::bridge;
use super::card::Ttnn;
use super::watch::Watched;
use crate::device::{
    Attention, Begin, Blend, ChunkKey, Device, DeviceError, Epilogue, KvCache, OpResult, PatchEmbed,
    PrecisionClass, Rope, RowVector, Shapes, Table, Vector, View, Weight,
};

impl Device for Watched {
    fn describe(&self) -> String {
        let (f, options) = (&self.card().facts, self.card().options());
        let weights = |class: PrecisionClass| {
            let precision = options.precision(class);
            format!("{:?} {:?}", precision.weights, precision.fidelity).to_lowercase()
        };
        format!(
            "ttnn ({}, {} {}x{}, vision {}, language {}, expert {}, {})",
            bridge::implementation(),
            f.arch,
            f.grid_x,
            f.grid_y,
            weights(PrecisionClass::Encoder),
            weights(PrecisionClass::Context),
            weights(PrecisionClass::Iterated),
            if options.trace { "recorded" } else { "not recorded" }
        )
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.card().weights.get(weight.0 as usize).map_or(0, |w| w.bytes)
    }

    fn bytes(&self) -> usize {
        self.card().bytes
    }

    fn write(&mut self, values: &[f32], out: View) -> OpResult {
        self.card().inventory.write(values, out)?;
        self.over("writing inputs", |card| card.write(values, out))
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        self.card().inventory.write_tokens(ids, out)?;
        self.over("writing tokens", |card| card.write_tokens(ids, out))
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        self.card().inventory.read(view, out)?;
        self.over("reading", |card| card.read(view, out))
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        self.card().inventory.read_kv(cache, layer, &rows, k, v)?;
        self.over("reading keys and values", |card| card.read_kv(cache, layer, rows, k, v))
    }

    fn reuses(&self) -> bool {
        // A recording computes all of a chunk.
        false
    }

    fn shapes(&self) -> Option<&Shapes> {
        Some(&self.card().shapes)
    }

    fn begin_chunk(
        &mut self,
        key: ChunkKey,
        padding: Range<usize>,
        tapped: bool,
    ) -> Result<Begin, DeviceError> {
        self.over("starting a chunk", |card| card.begin_chunk(key, padding, tapped))
    }

    fn end_chunk(&mut self) -> Result<(), DeviceError> {
        self.over("recording a chunk", Ttnn::end_chunk)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.over("waiting for the card", Ttnn::synchronize)
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        self.card().inventory.patch_embed(images, &args, out)?;
        self.operation("patch_embed", |card| card.patch_embed(images, args, out))
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        self.card().inventory.embed(table, ids, out)?;
        self.operation("embed", |card| card.embed(table, ids, scale, out))
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        self.card().inventory.norm("layer_norm", x, weight.into(), Some(bias.into()), out)?;
        self.operation("layer_norm", |card| card.layer_norm(x, weight, bias, epsilon, out))
    }

    fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> OpResult {
        self.card().inventory.norm("rms_norm", x, weight, shift, out)?;
        self.operation("rms_norm", |card| card.rms_norm(x, weight, shift, epsilon, out))
    }

    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult {
        self.card().inventory.linear(x, weight, bias, epilogue, out)?;
        self.operation("linear", |card| card.linear(x, weight, bias, epilogue, out))
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.card().inventory.geglu(x, weight, out)?;
        self.operation("geglu", |card| card.geglu(x, weight, out))
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        self.card().inventory.rope(x, rope, out)?;
        self.operation("rope", |card| card.rope(x, rope, out))
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
        self.card().inventory.cache_write(cache, layer, row, (k, v), rope)?;
        self.operation("cache_write", |card| card.cache_write(cache, layer, row, k, v, rope))
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        self.card().inventory.attention(q, cache, layer, &args, out)?;
        self.operation("attention", |card| card.attention(q, cache, layer, args, out))
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        self.card().inventory.copy(x, out)?;
        self.operation("copy", |card| card.copy(x, out))
    }

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        self.card().inventory.blend(y, x, target, row_weights)?;
        self.operation("blend", |card| card.blend(y, x, target, row_weights, args))
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        self.card().inventory.euler_step(x, v)?;
        self.operation("euler_step", |card| card.euler_step(x, v, dt))
    }
}
