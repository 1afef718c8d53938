//! Device `reference`: plain f32 loops, the oracle the other devices are compared with.
//!
//! Written to be read next to the paper: row-major buffers, one loop nest per operation, one
//! thread. Weights are converted from the map row by row, so that even the full-size model needs
//! no second copy of them.

mod builder;
mod math;

pub use builder::ReferenceBuilder;

use std::ops::Range;

use super::{
    Attention, Blend, Device, DeviceError, Keys, KvCache, OpResult, PatchEmbed, Ran, Role, Rope, Table, Then,
    Vector, View, Weight,
};
use crate::checkpoint::Tensor;
use math::{dot, gelu_tanh, rotate, silu, softmax};

/// The reference device.
#[derive(Default)]
pub struct Reference {
    weights: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    buffers: Vec<Storage>,
    caches: Vec<Cache>,
}

/// The rows of `parts`, one below the other, cut to `cols`.
struct Matrix {
    parts: Vec<Tensor>,
    cols: Range<usize>,
}

impl Matrix {
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

/// A buffer `[rows, cols]`, row-major. Token ids use the integers, everything else the floats.
struct Storage {
    role: Role,
    rows: usize,
    cols: usize,
    values: Vec<f32>,
    ids: Vec<u32>,
}

/// Keys and values, each `[layers, rows, heads · head_dim]`.
struct Cache {
    layers: usize,
    rows: usize,
    heads: usize,
    head_dim: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Cache {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Index of the first element of `row` of `layer`.
    fn at(&self, layer: usize, row: usize) -> usize {
        (layer * self.rows + row) * self.width()
    }
}

impl Reference {
    fn check(&self, op: &'static str, view: View) -> Result<&Storage, DeviceError> {
        let s = &self.buffers[view.buffer.0 as usize];
        if view.row + view.rows > s.rows || view.col + view.cols > s.cols {
            return Err(shape(
                op,
                format!("a view inside [{}, {}]", s.rows, s.cols),
                format!("rows {}+{}, columns {}+{}", view.row, view.rows, view.col, view.cols),
            ));
        }
        Ok(s)
    }

    /// The view as a dense row-major copy.
    fn load(&self, op: &'static str, view: View) -> Result<Vec<f32>, DeviceError> {
        let s = self.check(op, view)?;
        let mut out = Vec::with_capacity(view.rows * view.cols);
        for r in view.row..view.row + view.rows {
            let start = r * s.cols + view.col;
            out.extend_from_slice(&s.values[start..start + view.cols]);
        }
        Ok(out)
    }

    /// Applies `f(row, column, element)` to every element of a view.
    fn update(
        &mut self,
        op: &'static str,
        view: View,
        mut f: impl FnMut(usize, usize, &mut f32),
    ) -> Result<(), DeviceError> {
        self.check(op, view)?;
        let s = &mut self.buffers[view.buffer.0 as usize];
        for r in 0..view.rows {
            let start = (view.row + r) * s.cols + view.col;
            for (c, value) in s.values[start..start + view.cols].iter_mut().enumerate() {
                f(r, c, value);
            }
        }
        Ok(())
    }

    fn store(&mut self, op: &'static str, view: View, values: &[f32]) -> Result<(), DeviceError> {
        expect(op, view.rows * view.cols, values.len())?;
        self.update(op, view, |r, c, out| *out = values[r * view.cols + c])
    }

    fn vector_of(&self, op: &'static str, vector: Vector, len: usize) -> Result<Vec<f32>, DeviceError> {
        let v = &self.vectors[vector.0 as usize];
        expect(op, len, v.len())?;
        Ok(v.clone())
    }

    /// `x·Wᵀ`, `[rows, W.rows()]`.
    fn product(&self, op: &'static str, x: View, weight: Weight) -> Result<Vec<f32>, DeviceError> {
        let w = &self.weights[weight.0 as usize];
        expect(op, w.cols.len(), x.cols)?;
        let input = self.load(op, x)?;
        let n = w.rows();
        let mut y = vec![0.0; x.rows * n];
        w.for_each_row(|row, values| {
            for (r, tokens) in input.chunks_exact(x.cols).enumerate() {
                y[r * n + row] = dot(tokens, values);
            }
        });
        Ok(y)
    }
}

fn shape(op: &'static str, expected: String, got: String) -> DeviceError {
    DeviceError::Shape { op, expected, got }
}

fn expect(op: &'static str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(shape(op, expected.to_string(), got.to_string())) }
}

impl Device for Reference {
    fn describe(&self) -> String {
        "reference (f32, plain loops)".into()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        let bytes = |w: &Matrix| -> usize {
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
        self.store("write", out, values)?;
        Ok(Ran::Device)
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        expect("write_tokens", out.rows, ids.len())?;
        let s = &mut self.buffers[out.buffer.0 as usize];
        if s.role != Role::Tokens || out.row + out.rows > s.rows {
            return Err(shape(
                "write_tokens",
                format!("tokens [{}]", s.rows),
                format!("rows {}+{} of {:?}", out.row, out.rows, s.role),
            ));
        }
        s.ids[out.row..out.row + out.rows].copy_from_slice(ids);
        Ok(())
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        let values = self.load("read", view)?;
        expect("read", values.len(), out.len())?;
        out.copy_from_slice(&values);
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
        let c = &self.caches[cache.0 as usize];
        if layer >= c.layers || rows.end > c.rows {
            return Err(shape(
                "read_kv",
                format!("{} layers of {} rows", c.layers, c.rows),
                format!("layer {layer}, rows {rows:?}"),
            ));
        }
        let range = c.at(layer, rows.start)..c.at(layer, rows.end);
        expect("read_kv", range.len(), k.len())?;
        expect("read_kv", range.len(), v.len())?;
        k.copy_from_slice(&c.k[range.clone()]);
        v.copy_from_slice(&c.v[range]);
        Ok(())
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        let (size, patch) = (args.image_size, args.patch_size);
        let side = size / patch;
        let weight = &self.weights[args.weight.0 as usize];
        expect("patch_embed", 3 * patch * patch, weight.cols.len())?;
        expect("patch_embed", 3 * size * size, images.cols)?;
        expect("patch_embed", images.rows * side * side, out.rows)?;
        let bias = self.vector_of("patch_embed", args.bias, out.cols)?;
        let position = self.tables[args.position.0 as usize].to_f32();
        let pixels = self.load("patch_embed", images)?;

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
        self.store("patch_embed", out, &y)?;
        Ok(Ran::Device)
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        let tensor = self.tables[table.0 as usize].clone();
        expect("embed", tensor.cols(), out.cols)?;
        expect("embed", ids.rows, out.rows)?;
        let mut values = vec![0.0; out.cols];
        for r in 0..ids.rows {
            let id = self.check("embed", ids)?.ids[ids.row + r] as usize;
            if id >= tensor.rows() {
                return Err(shape(
                    "embed",
                    format!("a token below {}", tensor.rows()),
                    format!("{id} at row {r}"),
                ));
            }
            tensor.read_f32(id * out.cols..(id + 1) * out.cols, &mut values);
            self.update("embed", out.rows(r..r + 1), |_, c, y| *y = values[c] * scale)?;
        }
        Ok(Ran::Device)
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        let (w, b) =
            (self.vector_of("layer_norm", weight, x.cols)?, self.vector_of("layer_norm", bias, x.cols)?);
        let mut values = self.load("layer_norm", x)?;
        for row in values.chunks_exact_mut(x.cols) {
            let n = row.len() as f32;
            let mean = row.iter().sum::<f32>() / n;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            for (c, x) in row.iter_mut().enumerate() {
                *x = (*x - mean) * inverse * w[c] + b[c];
            }
        }
        self.store("layer_norm", out, &values)?;
        Ok(Ran::Device)
    }

    fn rms_norm(&mut self, x: View, weight: Vector, epsilon: f32, out: View) -> OpResult {
        let w = self.vector_of("rms_norm", weight, x.cols)?;
        let mut values = self.load("rms_norm", x)?;
        for row in values.chunks_exact_mut(x.cols) {
            let mean_square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
            let inverse = 1.0 / (mean_square + epsilon).sqrt();
            for (c, x) in row.iter_mut().enumerate() {
                *x = *x * inverse * (1.0 + w[c]);
            }
        }
        self.store("rms_norm", out, &values)?;
        Ok(Ran::Device)
    }

    fn linear(&mut self, x: View, weight: Weight, bias: Option<Vector>, then: Then, out: View) -> OpResult {
        expect("linear", self.weights[weight.0 as usize].rows(), out.cols)?;
        expect("linear", x.rows, out.rows)?;
        let bias = match bias {
            Some(b) => self.vector_of("linear", b, out.cols)?,
            None => vec![0.0; out.cols],
        };
        let y = self.product("linear", x, weight)?;
        self.update("linear", out, |r, c, out| {
            let value = y[r * bias.len() + c] + bias[c];
            *out = match then {
                Then::Store => value,
                Then::Gelu => gelu_tanh(value),
                Then::Silu => silu(value),
                Then::Add => *out + value,
            };
        })?;
        Ok(Ran::Device)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        let n = self.weights[weight.0 as usize].rows();
        expect("geglu", n, 2 * out.cols)?;
        expect("geglu", x.rows, out.rows)?;
        let y = self.product("geglu", x, weight)?;
        self.update("geglu", out, |r, c, out| {
            let (gate, up) = (y[r * n + c], y[r * n + n / 2 + c]);
            *out = gelu_tanh(gate) * up;
        })?;
        Ok(Ran::Device)
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        expect("rope", x.rows * x.cols, out.rows * out.cols)?;
        let mut values = self.load("rope", x)?;
        if let Some(rope) = rope {
            rotate(&mut values, x.cols, rope);
        }
        self.store("rope", out, &values)?;
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
        let (mut keys, values) = (self.load("cache_write", k)?, self.load("cache_write", v)?);
        if let Some(rope) = rope {
            rotate(&mut keys, k.cols, rope);
        }
        let c = &mut self.caches[cache.0 as usize];
        expect("cache_write", c.width(), k.cols)?;
        expect("cache_write", c.width(), v.cols)?;
        expect("cache_write", k.rows, v.rows)?;
        if layer >= c.layers || row + k.rows > c.rows {
            return Err(shape(
                "cache_write",
                format!("{} layers of {} rows", c.layers, c.rows),
                format!("layer {layer}, rows {row}+{}", k.rows),
            ));
        }
        let start = c.at(layer, row);
        c.k[start..start + keys.len()].copy_from_slice(&keys);
        c.v[start..start + values.len()].copy_from_slice(&values);
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        let c = &self.caches[cache.0 as usize];
        let d = c.head_dim;
        expect("attention", args.heads * d, q.cols)?;
        expect("attention", q.rows * q.cols, out.rows * out.cols)?;
        let last = match args.keys {
            Keys::First(n) => n,
            Keys::Blocks(n) => q.rows.next_multiple_of(n.max(1)),
        };
        if layer >= c.layers || last > c.rows || !args.heads.is_multiple_of(c.heads) {
            return Err(shape(
                "attention",
                format!("{} layers of {} keys, a multiple of {} heads", c.layers, c.rows, c.heads),
                format!("layer {layer}, {last} keys, {} heads", args.heads),
            ));
        }
        let queries = self.load("attention", q)?;
        let mut result = vec![0.0; queries.len()];
        let mut scores = Vec::with_capacity(last);
        for (r, h) in (0..q.rows).flat_map(|r| (0..args.heads).map(move |h| (r, h))) {
            let keys = match args.keys {
                Keys::First(n) => 0..n,
                Keys::Blocks(n) => r / n * n..(r / n + 1) * n,
            };
            let head = h * c.heads / args.heads * d;
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
        self.store("attention", out, &result)?;
        Ok(Ran::Device)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        let values = self.load("copy", x)?;
        self.store("copy", out, &values)?;
        Ok(Ran::Device)
    }

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        let x = self.load("blend", x)?;
        let target = self.load("blend", target)?;
        let weights = self.load("blend", row_weights)?;
        expect("blend", y.rows * y.cols, x.len())?;
        expect("blend", y.rows * y.cols, target.len())?;
        expect("blend", y.rows, weights.len())?;
        self.update("blend", y, |r, c, y| {
            let i = r * (x.len() / weights.len()) + c;
            let reached = x[i] - args.alpha * *y;
            *y -= args.beta * ((target[i] - reached) * weights[r]);
        })?;
        Ok(Ran::Device)
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        expect("euler_step", x.rows * x.cols, v.rows * v.cols)?;
        let velocity = self.load("euler_step", v)?;
        self.update("euler_step", x, |r, c, x| *x += dt * velocity[r * v.cols + c])?;
        Ok(Ran::Device)
    }
}
