//! Weights from the mapped checkpoint to the card.

use std::ops::Range;
use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::{self, Dtype, Tensor};
use super::card::{Ttnn, UploadedMatrix, bytes};
use super::failure::{failed, refuse};
use super::options::dtype;
use crate::checkpoint::{Dtype as Stored, Tensor as Mapped};
use crate::device::inventory::MatrixShape;
use crate::device::{DeviceError, HeadSide, Table, Vector, Weight};
use crate::tenstorrent::board::{TILE, tiled};

/// How a matrix's rows and columns are to be laid out.
#[derive(Clone, Default)]
pub struct MatrixLayout {
    /// Columns to take.
    pub cols: Option<Range<usize>>,
    /// Rows are heads of this width, to be padded.
    pub head_rows: Option<usize>,
    /// Columns are.
    pub head_cols: Option<usize>,
}

impl MatrixLayout {
    /// A stored matrix can be used as it is.
    fn is_plain(&self) -> bool {
        let whole = |head: Option<usize>| head.is_none_or(|head| head.is_multiple_of(TILE));
        self.cols.is_none() && whole(self.head_rows) && whole(self.head_cols)
    }
}

/// Bytes of a bf16 tensor as its elements, where they lie.
pub fn as_bf16(tensor: &Mapped) -> Option<&[u16]> {
    if tensor.dtype() != Stored::Bf16 || cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every bit pattern is a u16.
    let (before, elements, after) = unsafe { tensor.bytes().align_to::<u16>() };
    (before.is_empty() && after.is_empty()).then_some(elements)
}

/// Where a padded row or column comes from.
fn sources(n: usize, head: Option<usize>) -> Vec<Option<usize>> {
    let Some(head) = head else { return (0..n).map(Some).collect() };
    let wide = tiled(head);
    (0..n / head * wide).map(|i| (i % wide < head).then_some(i / wide * head + i % wide)).collect()
}

/// A vector with its heads padded by zeros.
pub fn pad_heads(values: &[f32], head: Option<usize>) -> Vec<f32> {
    sources(values.len(), head).into_iter().map(|at| at.map_or(0.0, |at| values[at])).collect()
}

impl Ttnn {
    /// `[in, out]` on the card from the rows of `parts`. bf16 is read where it is mapped.
    pub(super) fn matrix(
        &mut self,
        parts: &[&Mapped],
        layout: &MatrixLayout,
        dtype: Dtype,
    ) -> Result<UniquePtr<Tensor>, DeviceError> {
        let mut whole: Option<UniquePtr<Tensor>> = None;
        for part in parts {
            let tensor = match as_bf16(part) {
                Some(elements) if layout.is_plain() && dtype != Dtype::F32 => {
                    let (rows, cols) = (part.rows() as u32, part.cols() as u32);
                    bridge::upload_rows(self.handle()?, elements, rows, cols)
                        .and_then(|rows| bridge::tilize(&rows))
                        .and_then(|tiles| bridge::transpose(&tiles))
                        .and_then(|turned| bridge::reshape(&turned, [1, 1, cols, rows]))
                }
                _ => {
                    let cols = layout.cols.clone().unwrap_or(0..part.cols());
                    let (ins, outs) =
                        (sources(cols.len(), layout.head_cols), sources(part.rows(), layout.head_rows));
                    let mut turned = vec![0.0; ins.len() * outs.len()];
                    let mut row = vec![0.0; part.cols()];
                    for (n, out) in outs.iter().enumerate() {
                        let Some(out) = out else { continue };
                        part.read_f32(out * part.cols()..(out + 1) * part.cols(), &mut row);
                        for (k, at) in ins.iter().enumerate() {
                            turned[k * outs.len() + n] = at.map_or(0.0, |at| row[cols.start + at]);
                        }
                    }
                    let dims = [1, 1, ins.len() as u32, outs.len() as u32];
                    let whole = if dtype == Dtype::F32 { Dtype::F32 } else { Dtype::Bf16 };
                    bridge::upload(self.handle()?, &turned, dims, whole)
                }
            };
            let tensor = tensor.map_err(|error| match failed("weight")(error) {
                DeviceError::Memory { bytes, why, .. } => {
                    DeviceError::Memory { what: part.name().into(), bytes, why }
                }
                other => other,
            })?;
            whole = Some(match whole {
                None => tensor,
                Some(before) => bridge::concat(&before, &tensor, 3).map_err(failed("weight"))?,
            });
        }
        let whole = whole.ok_or_else(|| refuse("weight", "no tensor"))?;
        let stored = match dtype {
            Dtype::Bfp8 | Dtype::Bfp4 => bridge::typecast(&whole, dtype).map_err(failed("weight"))?,
            _ => whole,
        };
        let [_, _, ins, outs] = bridge::dims(&stored).map_err(failed("weight"))?;
        self.bytes += bytes([1, 1, ins as usize, outs as usize], dtype);
        Ok(stored)
    }

    pub(super) fn weight(
        &mut self,
        parts: &[&Mapped],
        cols: Option<Range<usize>>,
    ) -> Result<Weight, DeviceError> {
        let (shape, _) = self.inventory.weight_shape(parts, cols.clone())?;
        self.add_matrix(shape, parts, None, MatrixLayout { cols, ..MatrixLayout::default() })
    }

    pub(super) fn head_weight(
        &mut self,
        parts: &[&Mapped],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        let on = |wanted| (side == wanted).then_some(head_dim);
        let layout =
            MatrixLayout { cols: None, head_rows: on(HeadSide::Output), head_cols: on(HeadSide::Input) };
        let (shape, _) = self.inventory.weight_shape(parts, None)?;
        self.add_matrix(shape, parts, None, layout)
    }

    pub(super) fn gated_weight(&mut self, gate: &Mapped, up: &Mapped) -> Result<Weight, DeviceError> {
        let shape = self.inventory.gated_shape(gate, up)?;
        self.add_matrix(shape, &[gate], Some(up), MatrixLayout::default())
    }

    /// Uploads parts as one matrix, and what it is gated with.
    fn add_matrix(
        &mut self,
        shape: MatrixShape,
        parts: &[&Mapped],
        up: Option<&Mapped>,
        layout: MatrixLayout,
    ) -> Result<Weight, DeviceError> {
        let dtype = dtype(self.options.precision(self.class).weights);
        let before = self.bytes;
        let tensor = self.matrix(parts, &layout, dtype)?;
        let up = up.map(|up| self.matrix(&[up], &layout, dtype)).transpose()?;
        self.weights.push(UploadedMatrix {
            tensor,
            up,
            rows: shape.rows,
            head: layout.head_rows,
            class: self.class,
            bytes: self.bytes - before,
        });
        Ok(self.inventory.add_weight(shape))
    }

    pub(super) fn vector(&mut self, values: &[f32], head: Option<usize>) -> Vector {
        self.vectors.push((values.to_vec(), head));
        self.inventory.add_vector(values.len())
    }

    pub(super) fn table(&mut self, tensor: &Mapped) -> Result<Table, DeviceError> {
        let shape = self.inventory.table_shape(tensor)?;
        let (rows, cols) = (shape.rows, shape.cols);
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
        Ok(self.inventory.add_table(shape))
    }
}
