//! Checks of what operations are given: views, handles, shapes.

use super::kv_cache::Layer;
use super::layout::Slab;
use super::rope::Rotation;
use super::{Cache, Cpu, Storage};
use crate::device::{DeviceError, KvCache, Role, Rope, Vector, View};

impl Cpu {
    pub(super) fn storage(
        &self,
        op: &'static str,
        view: View,
        roles: &[Role],
    ) -> Result<&Storage, DeviceError> {
        let s = item(op, &self.buffers, view.buffer.0)?;
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

    /// The columns of a view, rows counted from the buffer's first.
    pub(super) fn columns(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Slab, DeviceError> {
        let s = self.storage(op, view, roles)?;
        let panel = self.kernels.panel;
        let step = if s.pairs { 2 } else { 1 };
        let slab = Slab {
            base: s.memory.words(),
            stride: s.cols.div_ceil(step) * panel,
            panel,
            pairs: s.pairs,
            rows: view.rows,
            whole: view.row + view.rows == s.rows,
        };
        let end = view.col + view.cols;
        if s.pairs && (!view.col.is_multiple_of(2) || (!end.is_multiple_of(2) && end != s.cols)) {
            return Err(shape(op, "operand columns in whole pairs".into(), format!("{}..{end}", view.col)));
        }
        // SAFETY: the column is the buffer's, or the one after its last of an empty view.
        Ok(Slab { base: unsafe { slab.column(0, view.col) }, ..slab })
    }

    /// As `columns`, from row 0.
    pub(super) fn slab(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Slab, DeviceError> {
        if view.row != 0 {
            return Err(shape(op, "a view from row 0".into(), format!("row {}", view.row)));
        }
        self.columns(op, view, roles)
    }

    pub(super) fn vector_of(
        &self,
        op: &'static str,
        vector: Vector,
        len: usize,
    ) -> Result<&[f32], DeviceError> {
        let v = item(op, &self.vectors, vector.0)?;
        expect(op, "values in a vector", len, v.len())?;
        Ok(v)
    }

    pub(super) fn rotation(
        &self,
        op: &'static str,
        cols: usize,
        rope: Option<Rope>,
        head_dim: usize,
    ) -> Result<Rotation<'_>, DeviceError> {
        if head_dim == 0
            || !cols.is_multiple_of(head_dim)
            || rope.is_some_and(|r| !r.head_dim.is_multiple_of(2))
        {
            return Err(shape(
                op,
                "whole heads of an even width".into(),
                format!("{cols} columns of {head_dim}"),
            ));
        }
        if head_dim * self.kernels.panel > self.sealed.words {
            let most = self.sealed.words / self.kernels.panel;
            return Err(shape(op, format!("heads of at most {most}"), head_dim.to_string()));
        }
        let angles = self.sealed.angles.iter().find(|a| a.head_dim == head_dim);
        Ok(Rotation { head_dim, rope, angles })
    }

    pub(super) fn layer(
        &self,
        op: &'static str,
        cache: KvCache,
        layer: usize,
    ) -> Result<(&Cache, Layer), DeviceError> {
        let c = item(op, &self.caches, cache.0)?;
        if layer >= c.layers {
            return Err(shape(op, format!("a layer below {}", c.layers), layer.to_string()));
        }
        let width = c.heads * c.head_dim;
        let words = width * c.room / if self.kernels.pairs { 2 } else { 1 };
        // SAFETY: the cache has 2·layers·words words.
        let keys = unsafe { c.memory.words().add(2 * layer * words) };
        // SAFETY: as above.
        let values = unsafe { keys.add(words) };
        Ok((c, Layer { keys, values, rows: c.room, width, pairs: self.kernels.pairs }))
    }
}

pub(super) fn shape(op: &'static str, expected: String, got: String) -> DeviceError {
    DeviceError::Shape { op, expected, got }
}

pub(super) fn expect(op: &'static str, what: &str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(shape(op, format!("{expected} {what}"), got.to_string())) }
}

pub(super) fn item<'a, T>(op: &'static str, items: &'a [T], index: u32) -> Result<&'a T, DeviceError> {
    items
        .get(index as usize)
        .ok_or_else(|| shape(op, format!("one of {} handles", items.len()), format!("handle {index}")))
}

pub(super) fn same(op: &'static str, x: View, out: View) -> Result<(), DeviceError> {
    expect(op, "rows", x.rows, out.rows)?;
    expect(op, "columns", x.cols, out.cols)
}

/// Refuses views of one buffer that overlap, or with `in_place` those that overlap and differ.
pub(super) fn apart(op: &'static str, x: View, out: View, in_place: bool) -> Result<(), DeviceError> {
    let beside = |a: usize, n: usize, b: usize, m: usize| a + n <= b || b + m <= a;
    if x.buffer != out.buffer
        || (in_place && x == out)
        || beside(x.col, x.cols, out.col, out.cols)
        || beside(x.row, x.rows, out.row, out.rows)
    {
        return Ok(());
    }
    Err(shape(op, "an output apart from the input".into(), "overlapping views of one buffer".into()))
}
