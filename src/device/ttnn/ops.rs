//! The operations of [`Device`] as calls of TTNN.

use std::ops::Range;
use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::{self, Activation, Dtype, Tensor};
use super::load::{Layout, as_bf16, pad_heads};
use super::value::Value;
use super::{Cache, Constant, Fresh, HIDDEN, Layer, Matrix, Split, Storage, TILE, Ttnn};
use super::{expect, failed, padded, refuse, shape};
use crate::checkpoint::Tensor as Mapped;
use crate::device::{
    Attention, Begin, Buffer, ChunkShape, Device, DeviceError, Guidance, HeadSide, Keys, KvCache, OpResult,
    Part, PatchEmbed, Ran, Role, Rope, Shapes, Table, Then, Vector, View, Weight,
};

type Handle = Rc<UniquePtr<Tensor>>;

impl Ttnn {
    pub(super) fn buffer_at(&self, op: &'static str, view: View) -> Result<usize, DeviceError> {
        let at = view.buffer.0 as usize;
        let inside = |s: &Storage| view.row + view.rows <= s.rows && view.col + view.cols <= s.cols;
        match self.buffers.get(at) {
            Some(storage) if inside(storage) => Ok(at),
            _ => Err(shape(op, "a view inside a buffer".into(), format!("{view:?}"))),
        }
    }

    /// The rows of a view, all columns.
    fn get(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        let at = self.buffer_at(op, view)?;
        let pieces = &mut self.buffers[at].pieces;
        let end = view.row + view.rows;
        if let Some((_, value)) = pieces.iter().find(|(row, v)| *row == view.row && row + v.all_rows() == end)
        {
            return Ok(value.clone());
        }
        let mut next = view.row;
        let mut whole: Option<Value> = None;
        pieces.sort_by_key(|(row, _)| *row);
        for (row, value) in pieces.iter().filter(|(row, _)| (view.row..end).contains(row)) {
            if *row != next {
                break;
            }
            next = row + value.all_rows();
            whole = Some(match whole {
                None => value.clone(),
                Some(above) => above.join(value)?,
            });
        }
        match whole {
            Some(value) if next == end => {
                self.buffers[at].pieces = vec![(view.row, value.clone())];
                Ok(value)
            }
            _ => Err(shape(
                op,
                format!("rows {}..{end} of what was written", view.row),
                format!("up to row {next}"),
            )),
        }
    }

    fn put(&mut self, op: &'static str, out: View, value: Value) -> OpResult {
        let at = self.buffer_at(op, out)?;
        expect(op, "rows", out.rows, value.all_rows())?;
        expect(op, "columns", out.cols, value.cols)?;
        let end = out.row + out.rows;
        let pieces = &mut self.buffers[at].pieces;
        pieces.retain(|(row, v)| row + v.all_rows() <= out.row || *row >= end);
        pieces.push((out.row, value));
        Ok(Ran::Device)
    }

    fn cast(&self, value: Value, dtype: Dtype) -> Result<Value, DeviceError> {
        if value.dtype == dtype {
            return Ok(value);
        }
        let tensor = bridge::typecast(&value.tensor, dtype).map_err(failed("typecast"))?;
        Ok(value.with(tensor, dtype))
    }

    fn bias(&mut self, bias: Option<Vector>, wide: bool) -> Result<Option<Handle>, DeviceError> {
        let Some(bias) = bias else { return Ok(None) };
        let (values, head) = self.vectors[bias.0 as usize].clone();
        let values = pad_heads(&values, head);
        let dtype = if wide { Dtype::F32 } else { Dtype::Bf16 };
        let dims = [1, 1, 1, values.len()];
        self.constant(Constant::Bias(bias.0, wide), dims, dtype, || values).map(Some)
    }

    /// `activation(x·W + b)`.
    fn product(
        &mut self,
        x: &Value,
        weight: usize,
        up: bool,
        bias: Option<&Handle>,
        activation: Activation,
        dtype: Dtype,
    ) -> Result<Value, DeviceError> {
        let w = &self.weights[weight];
        let matrix = if up { w.up.as_ref().unwrap_or(&w.tensor) } else { &w.tensor };
        let fused = if self.options.fuse_activations { activation } else { Activation::None };
        let compute = self.options.compute(w.part);
        let bias = bias.map_or(std::ptr::null(), |bias| std::ptr::from_ref::<Tensor>(bias));
        // SAFETY: the bias is alive or null.
        let y = unsafe { bridge::linear(&x.tensor, matrix, bias, fused, dtype, &compute) };
        let mut y = y.map_err(failed("linear"))?;
        if fused != activation {
            y = bridge::activate(&y, activation).map_err(failed("activation"))?;
        }
        let tensor = Rc::new(y);
        Ok(Value { tensor, cols: w.rows, head: w.head, split: false, dtype, ..x.clone() })
    }

    fn norm(
        &mut self,
        op: &'static str,
        x: View,
        out: View,
        call: impl FnOnce(&mut Self, &Value) -> Result<UniquePtr<Tensor>, DeviceError>,
    ) -> OpResult {
        let mut value = self.get(op, x)?;
        let wanted = self.dtype_of(out.buffer.0);
        if wanted == Dtype::F32 {
            value = self.cast(value, Dtype::F32)?;
        }
        let tensor = call(self, &value)?;
        // An operand in f32 is as good as one in bf16.
        let normed = value.with(tensor, value.dtype);
        self.put(op, out, normed)
    }

    fn gamma(
        &mut self,
        op: &'static str,
        weight: Vector,
        plus: f32,
        cols: usize,
    ) -> Result<Handle, DeviceError> {
        let values = self.vectors[weight.0 as usize].0.clone();
        expect(op, "values in a norm's weight", cols, values.len())?;
        let key = if plus == 0.0 { Constant::Gamma(weight.0) } else { Constant::GammaPlusOne(weight.0) };
        let dims = [1, 1, 1, cols];
        self.constant(key, dims, Dtype::F32, || values.iter().map(|v| v + plus).collect())
    }

    /// Cosines and sines for rows from `position` on, `[1, 1, padded rows, head_dim]`.
    fn angles(&mut self, rope: Rope, rows: usize) -> Result<(Handle, Handle), DeviceError> {
        let (head, rows_padded) = (rope.head_dim, padded(rows));
        if rope.position == 0 {
            let dims = [1, 1, rows_padded, head];
            let mut of = |sine| {
                let values = || table(head, rows_padded, sine);
                self.constant(Constant::Angles(head, rows_padded, sine), dims, Dtype::Bf16, values)
            };
            return Ok((of(false)?, of(true)?));
        }
        let at = self.position(rope.position, rows)?;
        if let Some(angles) = &self.positions[at].angles {
            return Ok(angles.clone());
        }
        let positions = self.caches.iter().map(|cache| cache.rows).max().unwrap_or(rows_padded);
        let mut of = |sine| {
            let key = Constant::AngleTable(head, sine);
            let table = match self.constants.get(&key) {
                Some(table) => table.clone(),
                None => {
                    self.make_room()?;
                    let values: Vec<u16> = table(head, positions, sine)
                        .iter()
                        .map(|v| half::bf16::from_f32(*v).to_bits())
                        .collect();
                    let rows = bridge::upload_rows(self.handle()?, &values, positions as u32, head as u32);
                    let rows = Rc::new(rows.map_err(failed("rope"))?);
                    self.constants.insert(key, rows.clone());
                    rows
                }
            };
            let found = bridge::embedding(self.position_ids(at), &table).map_err(failed("rope"))?;
            let dims = [1, 1, rows_padded as u32, head as u32];
            Ok::<_, DeviceError>(Rc::new(bridge::reshape(&found, dims).map_err(failed("rope"))?))
        };
        let angles = (of(false)?, of(true)?);
        self.positions[at].angles = Some(angles.clone());
        Ok(angles)
    }

    /// Rotates heads.
    fn rotate(&mut self, x: Value, rope: Option<Rope>) -> Result<Value, DeviceError> {
        let Some(rope) = rope else { return Ok(x) };
        let (cos, sin) = self.angles(rope, x.all_rows())?;
        let compute = self.options.compute(Part::Projections);
        if self.options.fuse_rotary && rope.head_dim.is_multiple_of(2 * TILE) {
            let tensor = bridge::rotary(&x.tensor, &cos, &sin, &compute).map_err(failed("rope"))?;
            return Ok(x.with(tensor, x.dtype));
        }
        let head = rope.head_dim;
        if !head.is_multiple_of(TILE) {
            return Err(refuse("rope", format!("heads of {head}: a multiple of {TILE} is needed")));
        }
        let rotation = self.constant(Constant::Rotation(head), [1, 1, head, head], Dtype::Bf16, || {
            let mut matrix = vec![0.0; head * head];
            for i in 0..head / 2 {
                matrix[(i + head / 2) * head + i] = -1.0;
                matrix[i * head + i + head / 2] = 1.0;
            }
            matrix
        })?;
        // SAFETY: there is no bias.
        let turned = unsafe {
            bridge::linear(&x.tensor, &rotation, std::ptr::null(), Activation::None, x.dtype, &compute)
        };
        let turned = turned.map_err(failed("rope"))?;
        let along = bridge::multiply(&x.tensor, &cos, Dtype::F32).map_err(failed("rope"))?;
        let across = bridge::multiply(&turned, &sin, Dtype::F32).map_err(failed("rope"))?;
        let sum = bridge::add(&along, &across, Dtype::F32).map_err(failed("rope"))?;
        let tensor = bridge::typecast(&sum, x.dtype).map_err(failed("rope"))?;
        Ok(x.with(tensor, x.dtype))
    }

    /// Heads `cols` of a fused `[queries | keys | values]` value.
    fn heads(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        if let Some(split) = self.split.take_if(|s| s.buffer == view.buffer.0 && s.col == view.col) {
            let Split { k, v, buffer, col } = split;
            self.split = Some(Split { buffer, col: col + view.cols, k: v, v: k.clone() });
            return Ok(k);
        }
        let whole = self.buffers[self.buffer_at(op, view)?].cols;
        let value = self.get(op, View { col: 0, cols: whole, ..view })?;
        let Some(head) = value.head else {
            return Err(refuse(op, "its input is not a projection to heads"));
        };
        let (first, count, all) = (view.col / head, view.cols / head, value.heads());
        let keys = (all - count.min(all)) / 2;
        if self.options.fuse_heads && first == 0 && keys > 0 && count + 2 * keys == all && count >= keys {
            let (mut q, mut k, mut v) = (UniquePtr::null(), UniquePtr::null(), UniquePtr::null());
            bridge::split_heads(&value.tensor, count as u32, keys as u32, &mut q, &mut k, &mut v)
                .map_err(failed("split_heads"))?;
            let of = |tensor, heads: usize| Value {
                tensor: Rc::new(tensor),
                cols: heads * head,
                split: true,
                ..value.clone()
            };
            self.split =
                Some(Split { buffer: view.buffer.0, col: view.cols, k: of(k, keys), v: of(v, keys) });
            return Ok(of(q, count));
        }
        value.split_heads(first, count)
    }

    /// A mask over `visible` keys for that many rows of queries.
    fn mask(&mut self, rows: usize, visible: Vec<bool>) -> Result<Handle, DeviceError> {
        let keys = visible.len();
        let key = Constant::Mask(rows, visible.clone());
        self.constant(key, [1, 1, rows, keys], Dtype::Bf16, || {
            let row: Vec<f32> = visible.iter().map(|seen| if *seen { 0.0 } else { HIDDEN }).collect();
            row.repeat(rows)
        })
    }

    /// Writes the latest run of a layer to its place in the cache.
    fn flush(&mut self, cache: usize, layer: usize) -> Result<(), DeviceError> {
        let Some(fresh) = self.caches[cache].layers[layer].fresh.take() else { return Ok(()) };
        let (heads, width) = (self.caches[cache].heads, padded(self.caches[cache].head_dim));
        let start = self.caches[cache].runs[fresh.run].1;
        for (value, keys) in [(fresh.k, true), (fresh.v, false)] {
            let mut rows = value.flat_heads()?;
            if start > 0 {
                // What lies before is written later.
                let zeros = self.constant(
                    Constant::Zeros(heads, start, width),
                    [1, heads, start, width],
                    Dtype::Bf16,
                    || vec![0.0; heads * start * width],
                )?;
                rows = Rc::new(bridge::concat(&zeros, &rows, 2).map_err(failed("cache_write"))?);
            }
            let layer = &self.caches[cache].layers[layer];
            let Some(held) = (if keys { &layer.k } else { &layer.v }) else {
                return Err(refuse("cache_write", "a cache of one run holds only what was written last"));
            };
            let mut held = bridge::share(held).map_err(failed("cache_write"))?;
            bridge::fill_cache(held.pin_mut(), &rows).map_err(failed("cache_write"))?;
        }
        Ok(())
    }

    fn cache_at(&self, op: &'static str, cache: KvCache, layer: usize) -> Result<usize, DeviceError> {
        let at = cache.0 as usize;
        match self.caches.get(at) {
            Some(cache) if layer < cache.layers.len() => Ok(at),
            _ => Err(shape(op, "a layer of a cache".into(), format!("{cache:?}, layer {layer}"))),
        }
    }

    /// Keys, values and mask for queries of `rows` padded rows that see the first `n` rows.
    fn first_keys(
        &mut self,
        cache: usize,
        layer: usize,
        rows: usize,
        n: usize,
    ) -> Result<(Handle, Handle, Handle), DeviceError> {
        let fresh = self.caches[cache].layers[layer].fresh.clone();
        let hidden = self.caches[cache].hidden.clone();
        let whole = |f: &Fresh| f.run == 0 && f.k.batch == 1 && f.k.rows == n;
        if let Some(Fresh { k, v, .. }) = fresh.filter(whole) {
            let mut mask = self.mask(rows, (0..padded(n)).map(|key| key < n).collect())?;
            if let Some(hidden) = hidden {
                let start = self.caches[cache].runs[0].1 as u32;
                let to = start + padded(n) as u32;
                let part = bridge::slice(&hidden, [0, 0, 0, start], [1, 1, 1, to]).map_err(failed("mask"))?;
                mask = Rc::new(bridge::add(&mask, &part, Dtype::Bf16).map_err(failed("mask"))?);
            }
            return Ok((k.tensor, v.tensor, mask));
        }
        self.flush(cache, layer)?;
        let c = &self.caches[cache];
        let mut visible = vec![false; c.rows];
        for ((first, count), (_, start)) in c.layers[layer].written.iter().zip(&c.runs) {
            for row in 0..*count {
                visible[start + row] = first + row < n;
            }
        }
        let (Some(k), Some(v), Some(hidden)) = (&c.layers[layer].k, &c.layers[layer].v, &c.hidden) else {
            return Err(refuse("attention", "a cache of one run is attended to as it was written"));
        };
        let (k, v, hidden) = (k.clone(), v.clone(), hidden.clone());
        let mask = self.mask(rows, visible)?;
        let mask = bridge::add(&mask, &hidden, Dtype::Bf16).map_err(failed("mask"))?;
        Ok((k, v, Rc::new(mask)))
    }
}

/// Cosines or sines of every position's angles, both halves: angles in f32, as the model was trained.
fn table(head: usize, positions: usize, sine: bool) -> Vec<f32> {
    let frequency = |i: usize| 1.0 / 10_000f32.powf(2.0 * i as f32 / head as f32);
    let frequencies: Vec<f32> = (0..head / 2).map(frequency).collect();
    let value = |position: usize, i: usize| {
        let angle = f64::from(position as f32 * frequencies[i % (head / 2)]);
        (if sine { angle.sin() } else { angle.cos() }) as f32
    };
    (0..positions * head).map(|at| value(at / head, at % head)).collect()
}

impl Value {
    /// Split heads of one block.
    fn flat_heads(&self) -> Result<Handle, DeviceError> {
        if self.batch == 1 && self.split {
            return Ok(self.tensor.clone());
        }
        Err(refuse("cache_write", "blocks of rows are not kept"))
    }
}

impl Device for Ttnn {
    fn describe(&self) -> String {
        let f = &self.facts;
        format!(
            "ttnn ({}, {} {}x{}, weights {:?}/{:?}/{:?}, {})",
            bridge::implementation(),
            f.arch,
            f.grid_x,
            f.grid_y,
            self.options.precision[0].weights,
            self.options.precision[1].weights,
            self.options.precision[2].weights,
            if self.options.trace { "recorded" } else { "not recorded" }
        )
    }

    fn part(&mut self, part: Part) {
        self.part = part;
    }

    fn weight(&mut self, parts: &[&Mapped], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let layout = Layout { cols: cols.clone(), ..Layout::default() };
        let dtype = self.options.precision[self.part as usize].weights;
        let before = self.bytes;
        let tensor = self.matrix(parts, &layout, dtype)?;
        let cols = cols.map_or(parts[0].cols(), |cols| cols.len());
        let rows = parts.iter().map(|t| t.rows()).sum();
        self.weights.push(Matrix {
            tensor,
            up: None,
            rows,
            cols,
            head: None,
            part: self.part,
            bytes: self.bytes - before,
        });
        Ok(Weight(self.weights.len() as u32 - 1))
    }

    fn head_weight(
        &mut self,
        parts: &[&Mapped],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        let out = (side == HeadSide::Output).then_some(head_dim);
        let layout =
            Layout { cols: None, head_rows: out, head_cols: (side == HeadSide::Input).then_some(head_dim) };
        let dtype = self.options.precision[self.part as usize].weights;
        let before = self.bytes;
        let tensor = self.matrix(parts, &layout, dtype)?;
        let (rows, cols) = (parts.iter().map(|t| t.rows()).sum(), parts[0].cols());
        self.weights.push(Matrix {
            tensor,
            up: None,
            rows,
            cols,
            head: out,
            part: self.part,
            bytes: self.bytes - before,
        });
        Ok(Weight(self.weights.len() as u32 - 1))
    }

    fn gated_weight(&mut self, gate: &Mapped, up: &Mapped) -> Result<Weight, DeviceError> {
        expect("gated_weight", "rows", gate.rows(), up.rows())?;
        let dtype = self.options.precision[self.part as usize].weights;
        let before = self.bytes;
        let tensor = self.matrix(&[gate], &Layout::default(), dtype)?;
        let second = self.matrix(&[up], &Layout::default(), dtype)?;
        let (rows, cols) = (gate.rows(), gate.cols());
        self.weights.push(Matrix {
            tensor,
            up: Some(second),
            rows,
            cols,
            head: None,
            part: self.part,
            bytes: self.bytes - before,
        });
        Ok(Weight(self.weights.len() as u32 - 1))
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.vectors.push((values.to_vec(), None));
        Ok(Vector(self.vectors.len() as u32 - 1))
    }

    fn head_vector(&mut self, values: &[f32], head_dim: usize) -> Result<Vector, DeviceError> {
        self.vectors.push((values.to_vec(), Some(head_dim)));
        Ok(Vector(self.vectors.len() as u32 - 1))
    }

    fn table(&mut self, tensor: &Mapped) -> Result<Table, DeviceError> {
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let converted: Vec<u16>;
        let elements = match as_bf16(tensor) {
            Some(elements) => elements,
            None => {
                converted = tensor.to_f32().iter().map(|v| half::bf16::from_f32(*v).to_bits()).collect();
                &converted
            }
        };
        let table = bridge::upload_rows(self.handle()?, elements, rows as u32, cols as u32);
        let table = table.map_err(failed("table"))?;
        self.bytes += rows * cols * 2;
        self.tables.push((Rc::new(table), cols));
        Ok(Table(self.tables.len() as u32 - 1))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.buffers.push(Storage { role, rows, cols, part: self.part, pieces: Vec::new(), input: None });
        Ok(Buffer(self.buffers.len() as u32 - 1))
    }

    fn patches(&mut self, images: Buffer, patch_size: usize) {
        self.patches.insert(images.0, patch_size);
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let (mut starts, mut next) = (vec![(0, 0); runs.len()], 0);
        for (run, rows) in runs.iter().enumerate().rev() {
            starts[run] = (*rows, next);
            next += padded(*rows);
        }
        let rows = next.next_multiple_of(self.options.attention_chunk);
        let mut cache = Cache { heads, head_dim, runs: starts, rows, hidden: None, layers: Vec::new() };
        let kept = runs.len() > 1;
        let dims = [1, heads, rows, padded(head_dim)];
        let zeros = vec![0.0; if kept { dims.iter().product() } else { 0 }];
        for _ in 0..layers {
            let mut layer = Layer::default();
            if kept {
                layer.k = Some(Rc::new(self.upload(&zeros, dims, Dtype::Bf16)?));
                layer.v = Some(Rc::new(self.upload(&zeros, dims, Dtype::Bf16)?));
            }
            cache.layers.push(layer);
        }
        if kept {
            cache.hidden = Some(Rc::new(self.upload(&vec![0.0; rows], [1, 1, 1, rows], Dtype::Bf16)?));
        }
        self.caches.push(cache);
        Ok(KvCache(self.caches.len() as u32 - 1))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        self.finish()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, values: &[f32], out: View) -> Result<(), DeviceError> {
        self.write_values(values, out)
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        self.write_ids(ids, out)
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        let at = self.buffer_at("read", view)?;
        expect("read", "values", view.rows * view.cols, out.len())?;
        let mut found = 0;
        for (row, value) in self.buffers[at].pieces.clone() {
            let (from, to) = (row.max(view.row), (row + value.all_rows()).min(view.row + view.rows));
            if from >= to || value.cols < view.col + view.cols {
                continue;
            }
            let values = self.read_value(&value)?;
            for r in from..to {
                let line = &values[(r - row) * value.cols + view.col..][..view.cols];
                out[(r - view.row) * view.cols..][..view.cols].copy_from_slice(line);
            }
            found += to - from;
        }
        expect("read", "rows written before", view.rows, found)
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        let at = self.cache_at("read_kv", cache, layer)?;
        let Some(fresh) = self.caches[at].layers[layer].fresh.clone() else {
            return Err(refuse("read_kv", "rows are read when they have just been written"));
        };
        let first = self.caches[at].layers[layer].written[fresh.run].0;
        for (value, out) in [(fresh.k, k), (fresh.v, v)] {
            let values = self.read_value(&value)?;
            if rows.start < first || rows.end > first + value.all_rows() {
                return Err(shape(
                    "read_kv",
                    format!("rows from {first}, {}", value.all_rows()),
                    format!("{rows:?}"),
                ));
            }
            out.copy_from_slice(&values[(rows.start - first) * value.cols..(rows.end - first) * value.cols]);
        }
        Ok(())
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.weights.get(weight.0 as usize).map_or(0, |w| w.bytes)
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
        self.begin(shape, padding, observed)
    }

    fn end_chunk(&mut self) -> Result<(), DeviceError> {
        self.end()
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.finish()
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        const OP: &str = "patch_embed";
        let at = self.buffer_at(OP, images)?;
        let Some((_, mut x)) = self.buffers[at].pieces.first().cloned() else {
            return Err(shape(OP, "images that were written".into(), "none".into()));
        };
        if images.rows < x.batch {
            let to = [images.rows as u32, 1, padded(x.rows) as u32, x.cols as u32];
            let present = bridge::slice(&x.tensor, [0; 4], to).map_err(failed(OP))?;
            x = Value { batch: images.rows, ..x.with(present, x.dtype) };
        }
        let dtype = self.dtype_of(out.buffer.0);
        let bias = self.bias(Some(args.bias), false)?;
        let y = self.product(&x, args.weight.0 as usize, false, bias.as_ref(), Activation::None, dtype)?;
        let position = match self.constants.get(&Constant::Positions(args.position.0)) {
            Some(position) => position.clone(),
            None => {
                let (table, cols) = self.tables[args.position.0 as usize].clone();
                expect(OP, "columns of positions", out.cols, cols)?;
                // Rows of padding get the last positions' neighbours' zeros.
                let tiles = bridge::tilize(&table).map_err(failed(OP))?;
                let [_, _, rows, cols] = bridge::dims(&tiles).map_err(failed(OP))?;
                let mut position = bridge::reshape(&tiles, [1, 1, rows, cols]).map_err(failed(OP))?;
                let missing = padded(rows as usize) - rows as usize;
                if missing > 0 {
                    let zeros = self.constant(
                        Constant::Zeros(1, missing, cols as usize),
                        [1, 1, missing, cols as usize],
                        Dtype::Bf16,
                        || vec![0.0; missing * cols as usize],
                    )?;
                    position = bridge::concat(&position, &zeros, 2).map_err(failed(OP))?;
                }
                let position = Rc::new(position);
                self.constants.insert(Constant::Positions(args.position.0), position.clone());
                position
            }
        };
        let sum = bridge::add(&y.tensor, &position, dtype).map_err(failed(OP))?;
        self.put(OP, out, y.with(sum, dtype))
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        const OP: &str = "embed";
        let at = self.buffer_at(OP, ids)?;
        let Some((_, tokens)) = self.buffers[at].pieces.first().cloned() else {
            return Err(shape(OP, "tokens that were written".into(), "none".into()));
        };
        let (table, cols) = self.tables[table.0 as usize].clone();
        let rows = bridge::embedding(&tokens.tensor, &table).map_err(failed(OP))?;
        let all = padded(self.buffers[at].rows) as u32;
        let mut rows = bridge::reshape(&rows, [1, 1, all, cols as u32]).map_err(failed(OP))?;
        if ids.rows < all as usize {
            rows = bridge::slice(&rows, [0; 4], [1, 1, ids.rows as u32, cols as u32]).map_err(failed(OP))?;
        }
        let dtype = self.dtype_of(out.buffer.0);
        let scaled = bridge::scale(&rows, scale).map_err(failed(OP))?;
        let value = self.cast(Value::matrix(scaled, ids.rows, cols, Dtype::Bf16), dtype)?;
        self.put(OP, out, value)
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        const OP: &str = "layer_norm";
        self.norm(OP, x, out, |device, value| {
            let gamma = device.gamma(OP, weight, 0.0, x.cols)?;
            let beta = device.gamma(OP, bias, 0.0, x.cols)?;
            let compute = device.options.compute(Part::Projections);
            bridge::layer_norm(&value.tensor, &gamma, &beta, epsilon, &compute).map_err(failed(OP))
        })
    }

    fn rms_norm(&mut self, x: View, weight: Vector, epsilon: f32, out: View) -> OpResult {
        const OP: &str = "rms_norm";
        self.norm(OP, x, out, |device, value| {
            let gamma = device.gamma(OP, weight, 1.0, x.cols)?;
            let compute = device.options.compute(Part::Projections);
            bridge::rms_norm(&value.tensor, &gamma, epsilon, &compute).map_err(failed(OP))
        })
    }

    fn linear(&mut self, x: View, weight: Weight, bias: Option<Vector>, then: Then, out: View) -> OpResult {
        const OP: &str = "linear";
        let at = weight.0 as usize;
        expect(OP, "input columns", self.weights[at].cols, x.cols)?;
        expect(OP, "output columns", self.weights[at].rows, out.cols)?;
        let value = self.get(OP, x)?;
        let old = if then == Then::Add { Some(self.get(OP, out)?) } else { None };
        let wide = self.weights[at].part == Part::Projections;
        // Heads go to attention, which takes bf16.
        let dtype = match &old {
            Some(old) => old.dtype,
            None if self.weights[at].head.is_some() => Dtype::Bf16,
            None => self.dtype_of(out.buffer.0),
        };
        let bias = self.bias(bias, wide)?;
        let activation = match then {
            Then::Gelu => self.options.gelu(),
            Then::Silu => Activation::Silu,
            Then::Store | Then::Add => Activation::None,
        };
        let mut y = self.product(&value, at, false, bias.as_ref(), activation, dtype)?;
        if let Some(old) = old {
            let sum = bridge::add(&old.tensor, &y.tensor, dtype).map_err(failed(OP))?;
            y = old.with(sum, dtype);
        }
        self.put(OP, out, y)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        const OP: &str = "geglu";
        let at = weight.0 as usize;
        expect(OP, "input columns", self.weights[at].cols, x.cols)?;
        let value = self.get(OP, x)?;
        let gelu = self.options.gelu();
        let gate = self.product(&value, at, false, None, gelu, Dtype::Bf16)?;
        let up = self.product(&value, at, true, None, Activation::None, Dtype::Bf16)?;
        let gated = bridge::multiply(&gate.tensor, &up.tensor, Dtype::Bf16).map_err(failed(OP))?;
        self.put(OP, out, gate.with(gated, Dtype::Bf16))
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        let heads = self.heads("rope", x)?;
        let rotated = self.rotate(heads, rope)?;
        self.put("rope", out, rotated)
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
        const OP: &str = "cache_write";
        let at = self.cache_at(OP, cache, layer)?;
        let keys = self.heads(OP, k)?;
        let values = self.heads(OP, v)?;
        self.split = None;
        let keys = self.rotate(keys, rope)?;
        let written = &mut self.caches[at].layers[layer].written;
        if row == 0 {
            written.clear();
        }
        let run = match written.iter().position(|(first, _)| *first == row) {
            Some(run) => run,
            None if row == written.last().map_or(0, |(first, rows)| first + rows) => written.len(),
            None => return Err(shape(OP, format!("a row that continues {written:?}"), row.to_string())),
        };
        let declared = self.caches[at].runs.get(run).map_or(0, |(rows, _)| *rows);
        if k.rows > declared {
            return Err(shape(OP, format!("at most {declared} rows in run {run}"), k.rows.to_string()));
        }
        if self.caches[at].layers[layer].fresh.as_ref().is_some_and(|fresh| fresh.run != run) {
            self.flush(at, layer)?;
        }
        let layer = &mut self.caches[at].layers[layer];
        layer.written.truncate(run + 1);
        layer.written.resize(run + 1, (row, k.rows));
        layer.fresh = Some(Fresh { run, k: keys, v: values });
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        const OP: &str = "attention";
        let at = self.cache_at(OP, cache, layer)?;
        let queries = self.get(OP, q)?;
        if !queries.split {
            return Err(refuse(OP, "queries have to be split into heads before"));
        }
        expect(OP, "heads", args.heads, queries.heads())?;
        let rows = padded(queries.rows);
        let (k, v, mask) = match args.keys {
            Keys::First(n) => {
                let (k, v, mask) = self.first_keys(at, layer, rows, n)?;
                (k, v, Some(mask))
            }
            Keys::Blocks(n) => {
                let Some(Fresh { k, v, .. }) = self.caches[at].layers[layer].fresh.clone() else {
                    return Err(refuse(OP, "blocks are attended to when they have just been written"));
                };
                expect(OP, "rows in a block", n, k.rows)?;
                let mask = match n.is_multiple_of(TILE) {
                    true => None,
                    false => Some(self.mask(rows, (0..padded(n)).map(|key| key < n).collect())?),
                };
                (k.tensor, v.tensor, mask)
            }
        };
        let keys = bridge::dims(&k).map_err(failed(OP))?[2] as usize;
        let chunks = self.options.chunks(rows, keys);
        let compute = self.options.compute(Part::Projections);
        let mask = mask.as_ref().map_or(std::ptr::null(), |mask| std::ptr::from_ref::<Tensor>(mask));
        // SAFETY: the mask is alive or null.
        let attended =
            unsafe { bridge::attention(&queries.tensor, &k, &v, mask, args.scale, &chunks, &compute) };
        let attended = attended.map_err(failed(OP))?;
        let joined = bridge::join_heads(&attended).map_err(failed(OP))?;
        let value = Value { split: false, ..queries.with(joined, queries.dtype) };
        self.put(OP, out, value)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        // Values are replaced, never changed: a second name is a copy.
        let value = self.get("copy", x)?;
        self.put("copy", out, value)
    }

    fn guide(&mut self, v: View, x: View, left_over: View, row_weights: View, args: Guidance) -> OpResult {
        const OP: &str = "guide";
        let (velocity, state) = (self.get(OP, v)?, self.get(OP, x)?);
        let (left_over, weights) = (self.get(OP, left_over)?, self.get(OP, row_weights)?);
        let guided = || {
            let clean = bridge::subtract(&state.tensor, &*bridge::scale(&velocity.tensor, args.time)?)?;
            let error = bridge::subtract(&left_over.tensor, &clean)?;
            let weighted = bridge::multiply(&error, &weights.tensor, Dtype::F32)?;
            bridge::subtract(&velocity.tensor, &*bridge::scale(&weighted, args.weight)?)
        };
        let guided = guided().map_err(failed(OP))?;
        self.put(OP, v, velocity.with(guided, Dtype::F32))
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        const OP: &str = "euler_step";
        let (state, velocity) = (self.get(OP, x)?, self.get(OP, v)?);
        let stepped = || {
            let step = bridge::scale(&velocity.tensor, dt)?;
            bridge::add(&state.tensor, &step, Dtype::F32)
        };
        let stepped = stepped().map_err(failed(OP))?;
        self.put(OP, x, state.with(stepped, Dtype::F32))
    }
}
