//! Tensors as the device's operations hand them on: never changed, replaced.

use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::{self, Dtype, Tensor};
use super::failure::failed;
use crate::device::DeviceError;
use crate::tenstorrent::board::{TILE, tiled};

/// A tensor on the device and what its dimensions mean: `[batch, heads or 1, padded rows, columns]`.
#[derive(Clone)]
pub struct Value {
    /// The tensor.
    pub tensor: Rc<UniquePtr<Tensor>>,
    /// Blocks of rows (one image each), each padded on its own.
    pub batch: usize,
    /// Rows of a block.
    pub rows: usize,
    /// Columns, all heads together.
    pub cols: usize,
    /// Width of a head, if columns are heads; on the device each head is padded to whole tiles.
    pub head: Option<usize>,
    /// Heads are a dimension of the tensor.
    pub split: bool,
    /// How elements are stored.
    pub dtype: Dtype,
}

impl Value {
    /// A matrix.
    pub fn matrix(tensor: UniquePtr<Tensor>, rows: usize, cols: usize, dtype: Dtype) -> Self {
        Self { tensor: Rc::new(tensor), batch: 1, rows, cols, head: None, split: false, dtype }
    }

    /// The same rows in another tensor.
    pub fn with(&self, tensor: UniquePtr<Tensor>, dtype: Dtype) -> Self {
        Self { tensor: Rc::new(tensor), dtype, ..self.clone() }
    }

    /// Rows of all blocks.
    pub fn all_rows(&self) -> usize {
        self.batch * self.rows
    }

    /// Heads in the columns.
    pub fn heads(&self) -> usize {
        self.head.map_or(1, |head| self.cols / head)
    }

    /// Columns on the device.
    pub fn device_cols(&self) -> usize {
        self.head.map_or(self.cols, |head| self.cols / head * tiled(head))
    }

    /// All rows in one block, without padding between blocks.
    pub fn flat(&self) -> Result<Value, DeviceError> {
        let (rows, cols) = (self.rows as u32, self.device_cols() as u32);
        if self.batch == 1 && (self.rows.is_multiple_of(TILE)) {
            return Ok(self.clone());
        }
        let flat =
            |tensor| Value { tensor: Rc::new(tensor), batch: 1, rows: self.all_rows(), ..self.clone() };
        if self.rows.is_multiple_of(TILE) {
            let dims = [1, 1, self.all_rows() as u32, cols];
            return Ok(flat(bridge::reshape(&self.tensor, dims).map_err(failed("reshape"))?));
        }
        let block = |b: u32| {
            bridge::slice(&self.tensor, [b, 0, 0, 0], [b + 1, 1, rows, cols]).map_err(failed("slice"))
        };
        let mut joined = block(0)?;
        for b in 1..self.batch as u32 {
            joined = bridge::concat(&joined, &*block(b)?, 2).map_err(failed("concat"))?;
        }
        Ok(flat(joined))
    }

    /// The other rows below these.
    pub fn join(&self, below: &Value) -> Result<Value, DeviceError> {
        let (a, b) = (self.flat()?, below.flat()?);
        let tensor = bridge::concat(&a.tensor, &b.tensor, 2).map_err(failed("concat"))?;
        Ok(Value { tensor: Rc::new(tensor), rows: a.rows + b.rows, ..a })
    }

    /// `count` heads from `first` on as a dimension of the tensor.
    pub fn split_heads(&self, first: usize, count: usize) -> Result<Value, DeviceError> {
        let head = self.head.unwrap_or(self.cols);
        let (width, rows) = (tiled(head) as u32, tiled(self.rows) as u32);
        let one = |h: usize| {
            let (from, to) = (h as u32 * width, (h as u32 + 1) * width);
            bridge::slice(&self.tensor, [0, 0, 0, from], [self.batch as u32, 1, rows, to])
                .map_err(failed("slice"))
        };
        let mut joined = one(first)?;
        for h in first + 1..first + count {
            joined = bridge::concat(&joined, &*one(h)?, 1).map_err(failed("concat"))?;
        }
        Ok(Value {
            tensor: Rc::new(joined),
            cols: count * head,
            head: Some(head),
            split: true,
            ..self.clone()
        })
    }

    /// Everything the tensor holds as row-major `[all_rows, cols]`, from its elements in `raw`.
    pub fn unpack(&self, raw: &[f32], out: &mut [f32]) {
        let head = self.head.unwrap_or(self.cols);
        let (wide, heads) = (self.head.map_or(self.cols, tiled), self.cols / head);
        let rows = tiled(self.rows);
        for (r, line) in out.chunks_exact_mut(self.cols).enumerate() {
            let (b, row) = (r / self.rows, r % self.rows);
            for (h, values) in line.chunks_exact_mut(head).enumerate() {
                let at = if self.split {
                    ((b * heads + h) * rows + row) * wide
                } else {
                    (b * rows + row) * wide * heads + h * wide
                };
                values.copy_from_slice(&raw[at..at + head]);
            }
        }
    }
}
