//! Checks of what operations are given.

use std::ops::Range;

use super::error::{expect, shape};
use super::inventory::{CacheShape, Checked, Inventory};
use super::{
    Attention, DeviceError, Epilogue, Keys, KvCache, PatchEmbed, Role, Rope, RowVector, Table, Vector, View,
    Weight,
};

const ANY: &[Role] = &[Role::Stream, Role::Operand];
const STREAM: &[Role] = &[Role::Stream];
const OPERAND: &[Role] = &[Role::Operand];

/// An operation's input and output, both inside their buffers.
type Pair = (Checked, Checked);

impl Inventory {
    /// Checks a view that has to begin at row 0.
    fn top(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Checked, DeviceError> {
        if view.row != 0 {
            return Err(shape(op, "a view from row 0", format!("row {}", view.row)));
        }
        self.view(op, view, roles)
    }

    /// Checks [`Device::write`](super::Device::write).
    pub fn write(&self, values: &[f32], out: View) -> Result<Checked, DeviceError> {
        expect("write", "values", out.rows.saturating_mul(out.cols), values.len())?;
        self.view("write", out, &[Role::Image, Role::Stream, Role::Operand])
    }

    /// Checks [`Device::write_tokens`](super::Device::write_tokens).
    pub fn write_tokens(&self, ids: &[u32], out: View) -> Result<Checked, DeviceError> {
        expect("write_tokens", "ids", out.rows, ids.len())?;
        expect("write_tokens", "columns", 1, out.cols)?;
        self.view("write_tokens", out, &[Role::Tokens])
    }

    /// Checks [`Device::read`](super::Device::read).
    pub fn read(&self, view: View, out: &[f32]) -> Result<Checked, DeviceError> {
        expect("read", "values", view.rows.saturating_mul(view.cols), out.len())?;
        self.view("read", view, ANY)
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
    pub fn patch_embed(&self, images: View, args: &PatchEmbed, out: View) -> Result<Pair, DeviceError> {
        const OP: &str = "patch_embed";
        let matrix = self.weight(OP, args.weight)?;
        let positions = self.table(OP, args.position)?;
        let (size, patch) = (args.image_size, args.patch_size);
        let side = size.checked_div(patch).unwrap_or(0);
        expect(OP, "pixels in an image", size.saturating_mul(size).saturating_mul(3), images.cols)?;
        expect(OP, "weights a patch", patch.saturating_mul(patch).saturating_mul(3), matrix.cols)?;
        expect(OP, "output columns", matrix.rows, out.cols)?;
        expect(OP, "output rows", images.rows.saturating_mul(side * side), out.rows)?;
        expect(OP, "rows of positions", side * side, positions.rows)?;
        expect(OP, "columns of positions", out.cols, positions.cols)?;
        let checked = self.view(OP, images, &[Role::Image])?;
        if images.row != 0 || images.cols != checked.shape().cols {
            return Err(shape(OP, "whole images from row 0", format!("{images:?}")));
        }
        self.vector(OP, args.bias, out.cols)?;
        Ok((checked, self.top(OP, out, STREAM)?))
    }

    /// Checks [`Device::embed`](super::Device::embed), all but the ids; the rows of the table.
    pub fn embed(
        &self,
        table: Table,
        ids: View,
        out: View,
    ) -> Result<(usize, Checked, Checked), DeviceError> {
        const OP: &str = "embed";
        let table = self.table(OP, table)?;
        expect(OP, "columns", table.cols, out.cols)?;
        expect(OP, "rows", ids.rows, out.rows)?;
        expect(OP, "column of ids", 1, ids.cols)?;
        Ok((table.rows, self.view(OP, ids, &[Role::Tokens])?, self.view(OP, out, STREAM)?))
    }

    /// Checks a norm, with a bias or shift if it has one.
    pub fn norm(
        &self,
        op: &'static str,
        x: View,
        weight: RowVector,
        bias: Option<RowVector>,
        out: View,
    ) -> Result<Pair, DeviceError> {
        same(op, x, out)?;
        apart(op, x, out, true)?;
        let checked = (self.top(op, x, STREAM)?, self.top(op, out, ANY)?);
        self.row_vector(op, weight, x)?;
        bias.map_or(Ok(()), |bias| self.row_vector(op, bias, x))?;
        Ok(checked)
    }

    /// A vector for every row of a view.
    fn row_vector(&self, op: &'static str, vector: RowVector, view: View) -> Result<(), DeviceError> {
        if let RowVector::Split { first_rows, first, .. } = vector {
            self.vector(op, first, view.cols)?;
            if first_rows > view.rows {
                return Err(shape(op, format!("at most {} first rows", view.rows), first_rows.to_string()));
            }
        }
        self.vector(op, vector.of(usize::MAX), view.cols)
    }

    /// Checks [`Device::linear`](super::Device::linear).
    pub fn linear(
        &self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> Result<Pair, DeviceError> {
        const OP: &str = "linear";
        let roles = if epilogue.adds() { STREAM } else { ANY };
        let checked = self.product(OP, x, weight, false, out, roles)?;
        if let Epilogue::AddGated(gate) = epilogue {
            self.row_vector(OP, gate, out)?;
        }
        bias.map_or(Ok(()), |bias| self.vector(OP, bias, out.cols))?;
        Ok(checked)
    }

    /// Checks [`Device::geglu`](super::Device::geglu).
    pub fn geglu(&self, x: View, weight: Weight, out: View) -> Result<Pair, DeviceError> {
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
    ) -> Result<Pair, DeviceError> {
        let matrix = self.weight(op, weight)?;
        if matrix.gated != gated {
            let kind = |gated| if gated { "a gated pair" } else { "a plain matrix" };
            return Err(shape(op, kind(gated), kind(matrix.gated)));
        }
        expect(op, "input columns", matrix.cols, x.cols)?;
        expect(op, "output columns", matrix.rows, out.cols)?;
        expect(op, "rows", x.rows, out.rows)?;
        apart(op, x, out, false)?;
        Ok((self.top(op, x, ANY)?, self.top(op, out, roles)?))
    }

    /// Checks [`Device::rope`](super::Device::rope).
    pub fn rope(&self, x: View, rope: Option<Rope>, out: View) -> Result<Pair, DeviceError> {
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
        Ok((self.top(OP, x, STREAM)?, self.top(OP, out, ANY)?))
    }

    /// Checks [`Device::cache_write`](super::Device::cache_write); the cache's shape, keys and values.
    pub fn cache_write(
        &self,
        cache: KvCache,
        layer: usize,
        row: usize,
        (k, v): (View, View),
        rope: Option<Rope>,
    ) -> Result<(CacheShape, Checked, Checked), DeviceError> {
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
        Ok((c, self.top(OP, k, STREAM)?, self.top(OP, v, STREAM)?))
    }

    /// Checks [`Device::attention`](super::Device::attention); the cache's shape, queries and output.
    pub fn attention(
        &self,
        q: View,
        cache: KvCache,
        layer: usize,
        args: &Attention,
        out: View,
    ) -> Result<(CacheShape, Checked, Checked), DeviceError> {
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
        Ok((c, self.top(OP, q, OPERAND)?, self.top(OP, out, OPERAND)?))
    }

    /// Checks [`Device::copy`](super::Device::copy).
    pub fn copy(&self, x: View, out: View) -> Result<Pair, DeviceError> {
        same("copy", x, out)?;
        apart("copy", x, out, true)?;
        Ok((self.view("copy", x, STREAM)?, self.view("copy", out, STREAM)?))
    }

    /// Checks [`Device::blend`](super::Device::blend); its views, in the order of the arguments.
    pub fn blend(
        &self,
        y: View,
        x: View,
        target: View,
        row_weights: View,
    ) -> Result<[Checked; 4], DeviceError> {
        const OP: &str = "blend";
        same(OP, x, y)?;
        same(OP, target, y)?;
        expect(OP, "row weights", y.rows, row_weights.rows)?;
        expect(OP, "column of row weights", 1, row_weights.cols)?;
        let top = |view| self.top(OP, view, STREAM);
        Ok([top(y)?, top(x)?, top(target)?, top(row_weights)?])
    }

    /// Checks [`Device::euler_step`](super::Device::euler_step).
    pub fn euler_step(&self, x: View, v: View) -> Result<Pair, DeviceError> {
        const OP: &str = "euler_step";
        same(OP, v, x)?;
        Ok((self.top(OP, x, STREAM)?, self.top(OP, v, STREAM)?))
    }
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
