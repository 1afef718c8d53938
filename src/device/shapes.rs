//! Shapes of everything a device holds, and the checks of what operations are given.
//!
//! A device enters what its builder creates in an [`Inventory`] and asks it before each operation:
//! all devices refuse the same arguments, with the same words. What only one device can't do it
//! checks itself.

use std::ops::Range;

use super::{
    Attention, Buffer, DeviceError, Keys, KvCache, PatchEmbed, Role, Rope, Table, Then, Vector, View, Weight,
};
use crate::checkpoint::{Dtype, Tensor};

/// Shape of a matrix, or of each of a gated pair.
#[derive(Clone, Copy, Debug)]
pub struct MatrixShape {
    /// Outputs; the hidden width of a gated pair.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Whether it is a gated pair.
    pub gated: bool,
}

/// Shape of an activation buffer.
#[derive(Clone, Copy, Debug)]
pub struct BufferShape {
    /// What it holds.
    pub role: Role,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// Shape of a KV cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Attention layers.
    pub layers: usize,
    /// Tokens, of all runs.
    pub rows: usize,
    /// Key heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// Columns of its keys and of its values.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// The shape of everything a device holds, by handle.
pub struct Inventory {
    device: &'static str,
    weights: Vec<MatrixShape>,
    vectors: Vec<usize>,
    tables: Vec<(usize, usize)>,
    buffers: Vec<BufferShape>,
    caches: Vec<CacheShape>,
}

const ANY: &[Role] = &[Role::Stream, Role::Operand];
const STREAM: &[Role] = &[Role::Stream];
const OPERAND: &[Role] = &[Role::Operand];

impl Inventory {
    /// Of a device, by name, that holds nothing yet.
    pub fn new(device: &'static str) -> Self {
        Self {
            device,
            weights: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
        }
    }

    fn floating(&self, tensor: &Tensor) -> Result<(), DeviceError> {
        match tensor.dtype() {
            Dtype::F32 | Dtype::Bf16 | Dtype::F16 => Ok(()),
            other => Err(DeviceError::Unsupported {
                what: format!("{}: dtype {other}", tensor.name()),
                device: self.device.into(),
                why: "not a floating type".into(),
            }),
        }
    }

    /// Enters a matrix of the rows of `parts`; its columns are those returned.
    pub fn add_weight(
        &mut self,
        parts: &[&Tensor],
        cols: Option<Range<usize>>,
    ) -> Result<(Weight, Range<usize>), DeviceError> {
        const OP: &str = "weight";
        let Some(first) = parts.first() else {
            return Err(shape(OP, "at least one tensor", "none"));
        };
        let width = first.cols();
        for part in parts {
            self.floating(part)?;
            if part.cols() != width {
                return Err(shape(OP, format!("{width} columns, as {first:?}"), format!("{part:?}")));
            }
        }
        let cols = cols.unwrap_or(0..width);
        if cols.start >= cols.end || cols.end > width {
            return Err(shape(OP, format!("columns within {width} of {first:?}"), format!("{cols:?}")));
        }
        let rows = parts.iter().map(|part| part.rows()).sum();
        self.weights.push(MatrixShape { rows, cols: cols.len(), gated: false });
        Ok((Weight(self.weights.len() as u32 - 1), cols))
    }

    /// Enters the pair of a gated MLP.
    pub fn add_gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        if gate.rows() != up.rows() {
            return Err(shape(
                "gated_weight",
                format!("{} rows, as {gate:?}", gate.rows()),
                format!("{up:?}"),
            ));
        }
        let (weight, _) = self.add_weight(&[gate, up], None)?;
        if let Some(matrix) = self.weights.last_mut() {
            (matrix.rows, matrix.gated) = (gate.rows(), true);
        }
        Ok(weight)
    }

    /// Enters a vector of so many values.
    pub fn add_vector(&mut self, len: usize) -> Vector {
        self.vectors.push(len);
        Vector(self.vectors.len() as u32 - 1)
    }

    /// Enters an embedding table.
    pub fn add_table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.floating(tensor)?;
        self.tables.push((tensor.rows(), tensor.cols()));
        Ok(Table(self.tables.len() as u32 - 1))
    }

    /// Enters a buffer.
    pub fn add_buffer(&mut self, role: Role, rows: usize, cols: usize) -> Buffer {
        self.buffers.push(BufferShape { role, rows, cols });
        Buffer(self.buffers.len() as u32 - 1)
    }

    /// Enters keys and values.
    pub fn add_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<(KvCache, CacheShape), DeviceError> {
        if heads == 0 || head_dim == 0 {
            return Err(shape("kv_cache", "heads", format!("{heads} heads of {head_dim}")));
        }
        let rows = runs.iter().fold(0, |sum: usize, rows| sum.saturating_add(*rows));
        let cache = CacheShape { layers, rows, heads, head_dim };
        self.caches.push(cache);
        Ok((KvCache(self.caches.len() as u32 - 1), cache))
    }

    /// The shape of a matrix.
    pub fn weight(&self, op: &'static str, weight: Weight) -> Result<MatrixShape, DeviceError> {
        item(op, &self.weights, weight.0).copied()
    }

    /// The shape of the buffer that a view of one of these roles lies in.
    pub fn view(&self, op: &'static str, view: View, roles: &[Role]) -> Result<BufferShape, DeviceError> {
        let s = *item(op, &self.buffers, view.buffer.0)?;
        if !roles.contains(&s.role) {
            return Err(shape(op, format!("a view of {roles:?}"), format!("{:?}", s.role)));
        }
        let inside = |at: usize, n: usize, all: usize| at.checked_add(n).is_some_and(|end| end <= all);
        if !inside(view.row, view.rows, s.rows) || !inside(view.col, view.cols, s.cols) {
            return Err(shape(
                op,
                format!("a view inside [{}, {}]", s.rows, s.cols),
                format!("rows {}+{}, columns {}+{}", view.row, view.rows, view.col, view.cols),
            ));
        }
        Ok(s)
    }

    /// As [`view`](Self::view), of a view from row 0.
    fn top(&self, op: &'static str, view: View, roles: &[Role]) -> Result<BufferShape, DeviceError> {
        if view.row != 0 {
            return Err(shape(op, "a view from row 0", format!("row {}", view.row)));
        }
        self.view(op, view, roles)
    }

    fn values(&self, op: &'static str, vector: Vector, len: usize) -> Result<(), DeviceError> {
        expect(op, "values in a vector", len, *item(op, &self.vectors, vector.0)?)
    }

    /// The shape of a cache that has the layer.
    pub fn layer(&self, op: &'static str, cache: KvCache, layer: usize) -> Result<CacheShape, DeviceError> {
        let c = *item(op, &self.caches, cache.0)?;
        if layer >= c.layers {
            return Err(shape(op, format!("a layer below {}", c.layers), layer.to_string()));
        }
        Ok(c)
    }

    /// Checks [`Device::write`](super::Device::write); the buffer's shape.
    pub fn write(&self, values: &[f32], out: View) -> Result<BufferShape, DeviceError> {
        expect("write", "values", out.rows.saturating_mul(out.cols), values.len())?;
        self.view("write", out, &[Role::Image, Role::Stream, Role::Operand])
    }

    /// Checks [`Device::write_tokens`](super::Device::write_tokens).
    pub fn write_tokens(&self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        expect("write_tokens", "ids", out.rows, ids.len())?;
        expect("write_tokens", "columns", 1, out.cols)?;
        self.view("write_tokens", out, &[Role::Tokens])?;
        Ok(())
    }

    /// Checks [`Device::read`](super::Device::read).
    pub fn read(&self, view: View, out: &[f32]) -> Result<(), DeviceError> {
        expect("read", "values", view.rows.saturating_mul(view.cols), out.len())?;
        self.view("read", view, ANY)?;
        Ok(())
    }

    /// Checks [`Device::read_kv`](super::Device::read_kv).
    pub fn read_kv(
        &self,
        cache: KvCache,
        layer: usize,
        rows: &Range<usize>,
        k: &[f32],
        v: &[f32],
    ) -> Result<(), DeviceError> {
        const OP: &str = "read_kv";
        let c = self.layer(OP, cache, layer)?;
        if rows.start > rows.end || rows.end > c.rows {
            return Err(shape(OP, format!("rows within {}", c.rows), format!("{rows:?}")));
        }
        expect(OP, "keys", rows.len() * c.width(), k.len())?;
        expect(OP, "values", rows.len() * c.width(), v.len())
    }

    /// Checks [`Device::patch_embed`](super::Device::patch_embed).
    pub fn patch_embed(&self, images: View, args: &PatchEmbed, out: View) -> Result<(), DeviceError> {
        const OP: &str = "patch_embed";
        let matrix = self.weight(OP, args.weight)?;
        let &(positions, width) = item(OP, &self.tables, args.position.0)?;
        let (size, patch) = (args.image_size, args.patch_size);
        let side = size.checked_div(patch).unwrap_or(0);
        expect(OP, "pixels in an image", size.saturating_mul(size).saturating_mul(3), images.cols)?;
        expect(OP, "weights a patch", patch.saturating_mul(patch).saturating_mul(3), matrix.cols)?;
        expect(OP, "output columns", matrix.rows, out.cols)?;
        expect(OP, "output rows", images.rows.saturating_mul(side * side), out.rows)?;
        expect(OP, "rows of positions", side * side, positions)?;
        expect(OP, "columns of positions", out.cols, width)?;
        let s = self.view(OP, images, &[Role::Image])?;
        if images.row != 0 || images.cols != s.cols {
            return Err(shape(OP, "whole images from row 0", format!("{images:?}")));
        }
        self.values(OP, args.bias, out.cols)?;
        self.top(OP, out, STREAM)?;
        Ok(())
    }

    /// Checks [`Device::embed`](super::Device::embed); the rows of the table.
    pub fn embed(&self, table: Table, ids: View, out: View) -> Result<usize, DeviceError> {
        const OP: &str = "embed";
        let &(rows, cols) = item(OP, &self.tables, table.0)?;
        expect(OP, "columns", cols, out.cols)?;
        expect(OP, "rows", ids.rows, out.rows)?;
        expect(OP, "column of ids", 1, ids.cols)?;
        self.view(OP, ids, &[Role::Tokens])?;
        self.view(OP, out, STREAM)?;
        Ok(rows)
    }

    /// Checks a norm, with a bias or shift if it has one.
    pub fn norm(
        &self,
        op: &'static str,
        x: View,
        weight: Vector,
        bias: Option<Vector>,
        out: View,
    ) -> Result<(), DeviceError> {
        same(op, x, out)?;
        apart(op, x, out, true)?;
        self.top(op, x, STREAM)?;
        self.top(op, out, ANY)?;
        self.values(op, weight, x.cols)?;
        bias.map_or(Ok(()), |bias| self.values(op, bias, x.cols))
    }

    /// Checks [`Device::linear`](super::Device::linear).
    pub fn linear(
        &self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        then: Then,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "linear";
        self.product(OP, x, weight, false, out, if then.adds() { STREAM } else { ANY })?;
        if let Then::AddGated(gate) = then {
            self.values(OP, gate, out.cols)?;
        }
        bias.map_or(Ok(()), |bias| self.values(OP, bias, out.cols))
    }

    /// Checks [`Device::geglu`](super::Device::geglu).
    pub fn geglu(&self, x: View, weight: Weight, out: View) -> Result<(), DeviceError> {
        self.product("geglu", x, weight, true, out, ANY)
    }

    fn product(
        &self,
        op: &'static str,
        x: View,
        weight: Weight,
        gated: bool,
        out: View,
        roles: &[Role],
    ) -> Result<(), DeviceError> {
        let matrix = self.weight(op, weight)?;
        if matrix.gated != gated {
            let kind = |gated| if gated { "a gated pair" } else { "a plain matrix" };
            return Err(shape(op, kind(gated), kind(matrix.gated)));
        }
        expect(op, "input columns", matrix.cols, x.cols)?;
        expect(op, "output columns", matrix.rows, out.cols)?;
        expect(op, "rows", x.rows, out.rows)?;
        apart(op, x, out, false)?;
        self.top(op, x, ANY)?;
        self.top(op, out, roles)?;
        Ok(())
    }

    /// Checks [`Device::rope`](super::Device::rope).
    pub fn rope(&self, x: View, rope: Option<Rope>, out: View) -> Result<(), DeviceError> {
        const OP: &str = "rope";
        same(OP, x, out)?;
        apart(OP, x, out, true)?;
        if let Some(Rope { head_dim, .. }) = rope
            && (head_dim == 0 || !head_dim.is_multiple_of(2) || !x.cols.is_multiple_of(head_dim))
        {
            return Err(shape(
                OP,
                "whole heads of an even width",
                format!("{} columns of {head_dim}", x.cols),
            ));
        }
        self.top(OP, x, STREAM)?;
        self.top(OP, out, ANY)?;
        Ok(())
    }

    /// Checks [`Device::cache_write`](super::Device::cache_write); the cache's shape.
    pub fn cache_write(
        &self,
        cache: KvCache,
        layer: usize,
        row: usize,
        (k, v): (View, View),
        rope: Option<Rope>,
    ) -> Result<CacheShape, DeviceError> {
        const OP: &str = "cache_write";
        let c = self.layer(OP, cache, layer)?;
        same(OP, k, v)?;
        expect(OP, "columns", c.width(), k.cols)?;
        if row.checked_add(k.rows).is_none_or(|end| end > c.rows) {
            return Err(shape(OP, format!("rows within {}", c.rows), format!("{row}+{}", k.rows)));
        }
        if let Some(rope) = rope {
            expect(OP, "columns in a head", c.head_dim, rope.head_dim)?;
            if !rope.head_dim.is_multiple_of(2) {
                return Err(shape(OP, "whole heads of an even width", rope.head_dim.to_string()));
            }
        }
        self.top(OP, k, STREAM)?;
        self.top(OP, v, STREAM)?;
        Ok(c)
    }

    /// Checks [`Device::attention`](super::Device::attention); the cache's shape.
    pub fn attention(
        &self,
        q: View,
        cache: KvCache,
        layer: usize,
        args: &Attention,
        out: View,
    ) -> Result<CacheShape, DeviceError> {
        const OP: &str = "attention";
        let c = self.layer(OP, cache, layer)?;
        same(OP, q, out)?;
        apart(OP, q, out, true)?;
        if args.heads == 0 || !args.heads.is_multiple_of(c.heads) {
            return Err(shape(OP, format!("a multiple of {} heads", c.heads), args.heads.to_string()));
        }
        expect(OP, "columns", args.heads.saturating_mul(c.head_dim), q.cols)?;
        let (n, last) = match args.keys {
            Keys::First(n) => (n, n),
            Keys::Blocks(n) => (n, q.rows.div_ceil(n.max(1)).saturating_mul(n)),
        };
        if n == 0 || last > c.rows {
            return Err(shape(OP, format!("from 1 to {} keys", c.rows), last.to_string()));
        }
        self.top(OP, q, OPERAND)?;
        self.top(OP, out, OPERAND)?;
        Ok(c)
    }

    /// Checks [`Device::copy`](super::Device::copy).
    pub fn copy(&self, x: View, out: View) -> Result<(), DeviceError> {
        same("copy", x, out)?;
        apart("copy", x, out, true)?;
        self.view("copy", x, STREAM)?;
        self.view("copy", out, STREAM)?;
        Ok(())
    }

    /// Checks [`Device::blend`](super::Device::blend).
    pub fn blend(&self, y: View, x: View, target: View, row_weights: View) -> Result<(), DeviceError> {
        const OP: &str = "blend";
        same(OP, x, y)?;
        same(OP, target, y)?;
        expect(OP, "row weights", y.rows, row_weights.rows)?;
        expect(OP, "column of row weights", 1, row_weights.cols)?;
        for view in [y, x, target, row_weights] {
            self.top(OP, view, STREAM)?;
        }
        Ok(())
    }

    /// Checks [`Device::euler_step`](super::Device::euler_step).
    pub fn euler_step(&self, x: View, v: View) -> Result<(), DeviceError> {
        const OP: &str = "euler_step";
        same(OP, v, x)?;
        self.top(OP, x, STREAM)?;
        self.top(OP, v, STREAM)?;
        Ok(())
    }
}

/// The error of arguments that do not fit together.
pub fn shape(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> DeviceError {
    DeviceError::Shape { op, expected: expected.into(), got: got.into() }
}

/// Refuses another number than the expected one.
pub fn expect(op: &'static str, what: &str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(shape(op, format!("{expected} {what}"), got.to_string())) }
}

fn item<'a, T>(op: &'static str, items: &'a [T], index: u32) -> Result<&'a T, DeviceError> {
    items
        .get(index as usize)
        .ok_or_else(|| shape(op, format!("one of {} handles", items.len()), format!("handle {index}")))
}

fn same(op: &'static str, x: View, out: View) -> Result<(), DeviceError> {
    expect(op, "rows", x.rows, out.rows)?;
    expect(op, "columns", x.cols, out.cols)
}

/// Refuses views of one buffer that overlap, or with `in_place` those that overlap and differ.
fn apart(op: &'static str, x: View, out: View, in_place: bool) -> Result<(), DeviceError> {
    let beside = |a: usize, n: usize, b: usize, m: usize| {
        a.checked_add(n).is_none_or(|end| end <= b) || b.checked_add(m).is_none_or(|end| end <= a)
    };
    if x.buffer != out.buffer
        || (in_place && x == out)
        || beside(x.col, x.cols, out.col, out.cols)
        || beside(x.row, x.rows, out.row, out.rows)
    {
        return Ok(());
    }
    Err(shape(op, "an output apart from the input", "overlapping views of one buffer"))
}
