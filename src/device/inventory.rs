//! The shapes of everything a device holds, by handle.
//!
//! A device's builder asks for the shape of what it is about to create, which refuses tensors that do not fit,
//! creates it, and enters it. Before each operation the device has its arguments checked against what was entered
//! (`checks.rs`): all devices refuse the same arguments, with the same words. Limits of one device it checks itself,
//! and refuses them as [`DeviceError::Unsupported`].

use std::ops::Range;

use super::error::{expect, shape};
use super::{Buffer, DeviceError, KvCache, Role, Table, Vector, View, Weight};
use crate::checkpoint::{Dtype, Tensor};

/// Shape of a matrix, or of each of a gated pair.
#[derive(Clone, Copy, Debug)]
pub struct MatrixShape {
    /// Outputs; the hidden width of a gated pair.
    pub rows: usize,
    /// Columns, the inputs.
    pub cols: usize,
    /// True for a gated pair.
    pub gated: bool,
}

/// Shape of an embedding table.
#[derive(Clone, Copy, Debug)]
pub struct TableShape {
    /// Rows that can be looked up.
    pub rows: usize,
    /// Columns of the table.
    pub cols: usize,
}

/// Shape of an activation buffer.
#[derive(Clone, Copy, Debug)]
pub struct BufferShape {
    /// Kind of content.
    pub role: Role,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

/// Shape of a KV cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Number of attention layers.
    pub layers: usize,
    /// Number of tokens, of all runs.
    pub rows: usize,
    /// Number of key heads.
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

/// A view that lies inside its buffer. Only an [`Inventory`] makes one, so that memory can be reached by it without
/// another check.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    view: View,
    shape: BufferShape,
}

impl Checked {
    /// The view that was checked.
    pub fn view(&self) -> View {
        self.view
    }

    /// The shape of its buffer.
    pub fn shape(&self) -> BufferShape {
        self.shape
    }
}

/// The shape of everything a device holds, by handle.
pub struct Inventory {
    device: &'static str,
    weights: Vec<MatrixShape>,
    vectors: Vec<usize>,
    tables: Vec<TableShape>,
    buffers: Vec<BufferShape>,
    caches: Vec<CacheShape>,
}

impl Inventory {
    /// The inventory of a device, by name, that holds nothing yet.
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

    /// The shape of a matrix of the rows of `parts`, and which of their columns it has.
    pub fn weight_shape(
        &self,
        parts: &[&Tensor],
        cols: Option<Range<usize>>,
    ) -> Result<(MatrixShape, Range<usize>), DeviceError> {
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
        Ok((MatrixShape { rows, cols: cols.len(), gated: false }, cols))
    }

    /// The shape of each matrix of a gated MLP's pair.
    pub fn gated_shape(&self, gate: &Tensor, up: &Tensor) -> Result<MatrixShape, DeviceError> {
        if gate.rows() != up.rows() {
            let expected = format!("{} rows, as {gate:?}", gate.rows());
            return Err(shape("gated_weight", expected, format!("{up:?}")));
        }
        let (both, _) = self.weight_shape(&[gate, up], None)?;
        Ok(MatrixShape { rows: gate.rows(), gated: true, ..both })
    }

    /// The shape of an embedding table.
    pub fn table_shape(&self, tensor: &Tensor) -> Result<TableShape, DeviceError> {
        self.floating(tensor)?;
        Ok(TableShape { rows: tensor.rows(), cols: tensor.cols() })
    }

    /// The shape of keys and values.
    pub fn cache_shape(
        &self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<CacheShape, DeviceError> {
        if heads == 0 || head_dim == 0 {
            return Err(shape("kv_cache", "heads", format!("{heads} heads of {head_dim}")));
        }
        let rows = runs.iter().fold(0, |sum: usize, rows| sum.saturating_add(*rows));
        Ok(CacheShape { layers, rows, heads, head_dim })
    }

    /// Enters a matrix, or a gated pair.
    pub fn add_weight(&mut self, shape: MatrixShape) -> Weight {
        self.weights.push(shape);
        Weight(self.weights.len() as u32 - 1)
    }

    /// Enters a vector of so many values.
    pub fn add_vector(&mut self, len: usize) -> Vector {
        self.vectors.push(len);
        Vector(self.vectors.len() as u32 - 1)
    }

    /// Enters an embedding table.
    pub fn add_table(&mut self, shape: TableShape) -> Table {
        self.tables.push(shape);
        Table(self.tables.len() as u32 - 1)
    }

    /// Enters a buffer and returns its handle.
    pub fn add_buffer(&mut self, role: Role, rows: usize, cols: usize) -> Buffer {
        self.buffers.push(BufferShape { role, rows, cols });
        Buffer(self.buffers.len() as u32 - 1)
    }

    /// Enters a KV cache and returns its handle.
    pub fn add_cache(&mut self, shape: CacheShape) -> KvCache {
        self.caches.push(shape);
        KvCache(self.caches.len() as u32 - 1)
    }

    /// The shape of a matrix.
    pub fn weight(&self, op: &'static str, weight: Weight) -> Result<MatrixShape, DeviceError> {
        item(op, &self.weights, weight.0).copied()
    }

    /// The shape of an embedding table.
    pub fn table(&self, op: &'static str, table: Table) -> Result<TableShape, DeviceError> {
        item(op, &self.tables, table.0).copied()
    }

    /// Refuses a vector of another length.
    pub fn vector(&self, op: &'static str, vector: Vector, len: usize) -> Result<(), DeviceError> {
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

    /// A view inside a buffer of one of these roles.
    pub fn view(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Checked, DeviceError> {
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
        Ok(Checked { view, shape: s })
    }
}

fn item<'a, T>(op: &'static str, items: &'a [T], index: u32) -> Result<&'a T, DeviceError> {
    items
        .get(index as usize)
        .ok_or_else(|| shape(op, format!("one of {} handles", items.len()), format!("handle {index}")))
}
