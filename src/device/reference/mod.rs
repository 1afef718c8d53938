//! Device `reference`: plain f32 loops, the oracle the other devices are compared with.
//!
//! Written to be read next to the paper: row-major buffers, one loop nest per operation, one
//! thread. Weights are converted from the map row by row, so that even the full-size model needs
//! no second copy of them.

mod builder;
mod kind;
mod math;

pub use builder::ReferenceBuilder;

use std::ops::Range;

use super::{
    Attention, Blend, Device, DeviceError, Epilogue, Keys, KvCache, OpResult, PatchEmbed, Ran, Rope,
    RowVector, Table, Vector, View, Weight,
};
use crate::checkpoint::Tensor;
use crate::device::error::shape;
use crate::device::inventory::{CacheShape, Inventory};
pub use kind::{ReferenceKind, ReferenceOptions};
use math::{dot, gelu_tanh, rotate, silu, softmax};

/// Device `reference`, with a loaded model.
pub struct Reference {
    inventory: Inventory,
    weights: Vec<MappedMatrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    buffers: Vec<Storage>,
    caches: Vec<KeysValues>,
}

/// The rows of `parts`, one below the other, cut to `cols`.
struct MappedMatrix {
    parts: Vec<Tensor>,
    cols: Range<usize>,
}

impl MappedMatrix {
    fn rows(&self) -> usize {
        self.parts.iter().map(Tensor::rows).sum()
    }

    /// Calls `each(row, values)` for every row, converted to f32.
    fn for_each_row(&self, mut each: impl FnMut(usize, &[f32])) {
        let mut values = vec![0.0; self.cols.len()];
        let mut row = 0;
        for part in &self.parts {
            for r in 0..part.rows() {
                let start = r * part.cols() + self.cols.start;
                part.read_f32(start..start + self.cols.len(), &mut values);
                each(row, &values);
                row += 1;
            }
        }
    }
}

/// A buffer, row-major. Token ids use the integers, everything else the floats.
struct Storage {
    cols: usize,
    values: Vec<f32>,
    ids: Vec<u32>,
}

/// Keys and values, each `[layers, rows, heads · head_dim]`.
struct KeysValues {
    shape: CacheShape,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KeysValues {
    /// Index of the first element of `row` of `layer`.
    fn at(&self, layer: usize, row: usize) -> usize {
        (layer * self.shape.rows + row) * self.shape.width()
    }
}

// Every operation has its arguments checked before it uses these.
impl Reference {
    fn new() -> Self {
        Self {
            inventory: Inventory::new("reference"),
            weights: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
        }
    }

    /// The view as a dense row-major copy.
    fn load(&self, view: View) -> Vec<f32> {
        let s = &self.buffers[view.buffer.0 as usize];
        let mut out = Vec::with_capacity(view.rows * view.cols);
        for r in view.row..view.row + view.rows {
            let start = r * s.cols + view.col;
            out.extend_from_slice(&s.values[start..start + view.cols]);
        }
        out
    }

    /// Applies `f(row, column, element)` to every element of a view.
    fn update(&mut self, view: View, mut f: impl FnMut(usize, usize, &mut f32)) {
        let s = &mut self.buffers[view.buffer.0 as usize];
        for r in 0..view.rows {
            let start = (view.row + r) * s.cols + view.col;
            for (c, value) in s.values[start..start + view.cols].iter_mut().enumerate() {
                f(r, c, value);
            }
        }
    }

    fn store(&mut self, view: View, values: &[f32]) {
        self.update(view, |r, c, out| *out = values[r * view.cols + c]);
    }

    fn vector_of(&self, vector: Vector) -> Vec<f32> {
        self.vectors[vector.0 as usize].clone()
    }

    /// `x·Wᵀ`, `[rows, W.rows()]`.
    fn product(&self, x: View, weight: Weight) -> Vec<f32> {
        let w = &self.weights[weight.0 as usize];
        let input = self.load(x);
        let n = w.rows();
        let mut y = vec![0.0; x.rows * n];
        w.for_each_row(|row, values| {
            for (r, tokens) in input.chunks_exact(x.cols).enumerate() {
                y[r * n + row] = dot(tokens, values);
            }
        });
        y
    }
}

impl Device for Reference {
    fn describe(&self) -> String {
        "reference (f32, plain loops)".into()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        let bytes = |w: &MappedMatrix| -> usize {
            w.parts.iter().map(|t| t.rows() * w.cols.len() * t.dtype().size()).sum()
        };
        self.weights.get(weight.0 as usize).map_or(0, bytes)
    }

    fn bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(|b| b.values.len() + b.ids.len()).sum();
        let vectors: usize = self.vectors.iter().map(Vec::len).sum();
        let caches: usize = self.caches.iter().map(|c| c.k.len() + c.v.len()).sum();
        4 * (buffers + vectors + caches)
    }

    fn write(&mut self, values: &[f32], out: View) -> OpResult {
        self.inventory.write(values, out)?;
        self.store(out, values);
        Ok(Ran::Device)
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        self.inventory.write_tokens(ids, out)?;
        self.buffers[out.buffer.0 as usize].ids[out.row..out.row + out.rows].copy_from_slice(ids);
        Ok(())
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        self.inventory.read(view, out)?;
        out.copy_from_slice(&self.load(view));
        Ok(())
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        self.inventory.read_kv(cache, layer, &rows, k, v)?;
        let c = &self.caches[cache.0 as usize];
        let range = c.at(layer, rows.start)..c.at(layer, rows.end);
        k.copy_from_slice(&c.k[range.clone()]);
        v.copy_from_slice(&c.v[range]);
        Ok(())
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        self.inventory.patch_embed(images, &args, out)?;
        let (size, patch) = (args.image_size, args.patch_size);
        let side = size / patch;
        let weight = &self.weights[args.weight.0 as usize];
        let bias = self.vector_of(args.bias);
        let position = self.tables[args.position.0 as usize].to_f32();
        let pixels = self.load(images);

        // Unfolded patches, [images · patches, 3 · patch · patch].
        let mut patches = Vec::with_capacity(out.rows * weight.cols.len());
        for image in pixels.chunks_exact(images.cols) {
            for (py, px) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
                for (channel, dy) in (0..3).flat_map(|c| (0..patch).map(move |y| (c, y))) {
                    let start = (channel * size + py * patch + dy) * size + px * patch;
                    patches.extend_from_slice(&image[start..start + patch]);
                }
            }
        }
        let mut y = vec![0.0; out.rows * out.cols];
        weight.for_each_row(|n, w| {
            for (r, x) in patches.chunks_exact(w.len()).enumerate() {
                y[r * out.cols + n] = dot(x, w) + bias[n] + position[(r % (side * side)) * out.cols + n];
            }
        });
        self.store(out, &y);
        Ok(Ran::Device)
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        let (known, ..) = self.inventory.embed(table, ids, out)?;
        let tensor = self.tables[table.0 as usize].clone();
        let mut values = vec![0.0; out.cols];
        for r in 0..ids.rows {
            let id = self.buffers[ids.buffer.0 as usize].ids[ids.row + r] as usize;
            if id >= known {
                let got = format!("{id} at row {}", ids.row + r);
                return Err(shape("embed", format!("a token below {known}"), got));
            }
            tensor.read_f32(id * out.cols..(id + 1) * out.cols, &mut values);
            self.update(out.rows(r..r + 1), |_, c, y| *y = values[c] * scale);
        }
        Ok(Ran::Device)
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        self.inventory.norm("layer_norm", x, weight.into(), Some(bias.into()), out)?;
        let (w, b) = (self.vector_of(weight), self.vector_of(bias));
        let mut values = self.load(x);
        for row in values.chunks_exact_mut(x.cols) {
            let n = row.len() as f32;
            let mean = row.iter().sum::<f32>() / n;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            for (c, x) in row.iter_mut().enumerate() {
                *x = (*x - mean) * inverse * w[c] + b[c];
            }
        }
        self.store(out, &values);
        Ok(Ran::Device)
    }

    fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> OpResult {
        self.inventory.norm("rms_norm", x, weight, shift, out)?;
        let mut values = self.load(x);
        for (r, row) in values.chunks_exact_mut(x.cols).enumerate() {
            let w = self.vector_of(weight.of(r));
            let shift = shift.map_or_else(|| vec![0.0; x.cols], |shift| self.vector_of(shift.of(r)));
            let mean_square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
            let inverse = 1.0 / (mean_square + epsilon).sqrt();
            for (c, x) in row.iter_mut().enumerate() {
                *x = *x * inverse * (1.0 + w[c]) + shift[c];
            }
        }
        self.store(out, &values);
        Ok(Ran::Device)
    }

    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult {
        self.inventory.linear(x, weight, bias, epilogue, out)?;
        let bias = bias.map_or_else(|| vec![0.0; out.cols], |bias| self.vector_of(bias));
        let gates: Vec<Vec<f32>> = match epilogue {
            Epilogue::AddGated(gate) => (0..out.rows).map(|r| self.vector_of(gate.of(r))).collect(),
            _ => Vec::new(),
        };
        let y = self.product(x, weight);
        self.update(out, |r, c, out| {
            let value = y[r * bias.len() + c] + bias[c];
            *out = match epilogue {
                Epilogue::Store => value,
                Epilogue::Gelu => gelu_tanh(value),
                Epilogue::Silu => silu(value),
                Epilogue::Add => *out + value,
                Epilogue::AddGated(_) => *out + gates[r][c] * value,
            };
        });
        Ok(Ran::Device)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.inventory.geglu(x, weight, out)?;
        let y = self.product(x, weight);
        self.update(out, |r, c, y_out| {
            let (gate, up) = (y[2 * r * out.cols + c], y[(2 * r + 1) * out.cols + c]);
            *y_out = gelu_tanh(gate) * up;
        });
        Ok(Ran::Device)
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        self.inventory.rope(x, rope, out)?;
        let mut values = self.load(x);
        if let Some(rope) = rope {
            rotate(&mut values, x.cols, rope);
        }
        self.store(out, &values);
        Ok(Ran::Device)
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
        self.inventory.cache_write(cache, layer, row, (k, v), rope)?;
        let (mut keys, values) = (self.load(k), self.load(v));
        if let Some(rope) = rope {
            rotate(&mut keys, k.cols, rope);
        }
        let c = &mut self.caches[cache.0 as usize];
        let start = c.at(layer, row);
        c.k[start..start + keys.len()].copy_from_slice(&keys);
        c.v[start..start + values.len()].copy_from_slice(&values);
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        let (CacheShape { heads: key_heads, head_dim: d, .. }, ..) =
            self.inventory.attention(q, cache, layer, &args, out)?;
        let c = &self.caches[cache.0 as usize];
        let queries = self.load(q);
        let mut result = vec![0.0; queries.len()];
        let mut scores = Vec::new();
        for (r, h) in (0..q.rows).flat_map(|r| (0..args.heads).map(move |h| (r, h))) {
            let keys = match args.keys {
                Keys::First(n) => 0..n,
                Keys::Blocks(n) => r / n * n..(r / n + 1) * n,
            };
            let head = h * key_heads / args.heads * d;
            let at = |key: usize| c.at(layer, key) + head;
            let query = &queries[(r * args.heads + h) * d..][..d];
            scores.clear();
            scores.extend(keys.clone().map(|key| dot(query, &c.k[at(key)..][..d]) * args.scale));
            softmax(&mut scores);
            let y = &mut result[(r * args.heads + h) * d..][..d];
            for (key, p) in keys.zip(&scores) {
                for (y, v) in y.iter_mut().zip(&c.v[at(key)..][..d]) {
                    *y += p * v;
                }
            }
        }
        self.store(out, &result);
        Ok(Ran::Device)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        self.inventory.copy(x, out)?;
        let values = self.load(x);
        self.store(out, &values);
        Ok(Ran::Device)
    }

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        self.inventory.blend(y, x, target, row_weights)?;
        let (x, target, weights) = (self.load(x), self.load(target), self.load(row_weights));
        self.update(y, |r, c, value| {
            let i = r * y.cols + c;
            let reached = x[i] - args.alpha * *value;
            *value -= args.beta * ((target[i] - reached) * weights[r]);
        });
        Ok(Ran::Device)
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        self.inventory.euler_step(x, v)?;
        let velocity = self.load(v);
        self.update(x, |r, c, x| *x += dt * velocity[r * v.cols + c]);
        Ok(Ran::Device)
    }
}
