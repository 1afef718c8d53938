//! Matrix products.

use std::rc::Rc;

use super::blocks::{self, NEAR_ROWS, Product, room_for_blocks};
use super::bridge::{self, Activation, Blocks, Dtype, Tensor};
use super::card::{Constant, Handle, Ttnn};
use super::failure::failed;
use super::options;
use super::value::Value;
use super::weight::pad_heads;
use crate::device::{DeviceError, Epilogue, PrecisionClass, RowVector, Vector, View, Weight};
use crate::tenstorrent::WeightDtype;
use crate::tenstorrent::board::{TILE, tiled};

/// Bytes of a tile in that format.
fn tile_bytes(dtype: Dtype) -> usize {
    let format = match dtype {
        Dtype::F32 => WeightDtype::F32,
        Dtype::Bfp8 => WeightDtype::Bfp8,
        Dtype::Bfp4 => WeightDtype::Bfp4,
        _ => WeightDtype::Bf16,
    };
    format.tile_bytes()
}

/// The vector of all rows: TTNN's norms and products take one.
pub(super) fn whole(op: &'static str, vector: RowVector) -> Result<Vector, DeviceError> {
    match vector {
        RowVector::Same(vector) => Ok(vector),
        RowVector::Split { .. } => Err(one_for_all_rows(op)),
    }
}

/// The error that rows can't have different vectors.
pub(super) fn one_for_all_rows(what: &str) -> DeviceError {
    let (device, why) = ("ttnn".into(), "all rows have one vector".into());
    DeviceError::Unsupported { what: what.into(), device, why }
}

impl Ttnn {
    pub(super) fn bias(&mut self, bias: Option<Vector>, wide: bool) -> Result<Option<Handle>, DeviceError> {
        bias.map(|bias| self.row(bias, wide)).transpose()
    }

    /// A bias or gate as a tensor of one row, in f32 if `wide`.
    fn row(&mut self, vector: Vector, wide: bool) -> Result<Handle, DeviceError> {
        let (values, head) = self.vectors[vector.0 as usize].clone();
        let values = pad_heads(&values, head);
        let dtype = if wide { Dtype::F32 } else { Dtype::Bf16 };
        let dims = [1, 1, 1, values.len()];
        self.constant(Constant::Bias(vector.0, wide), dims, dtype, || values)
    }

    /// `activation(x·W + b)`.
    pub(super) fn product(
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
        let compute = self.options.compute(w.class);
        let bias = bias.map_or(std::ptr::null(), |bias| std::ptr::from_ref::<Tensor>(bias));
        let blocks = self.blocks(x, matrix, w.class, dtype)?;
        // All rows in one block: another name for the same memory.
        let flat = (blocks.columns > 0 && x.batch > 1).then(|| x.flat()).transpose()?;
        let rows = flat.as_ref().unwrap_or(x);
        // SAFETY: the bias is alive or null.
        let y = unsafe { bridge::linear(&rows.tensor, matrix, bias, fused, dtype, &compute, &blocks) };
        let mut y = y.map_err(failed("linear"))?;
        if flat.is_some() {
            let cols = bridge::dims(&y).map_err(failed("linear"))?[3];
            let dims = [x.batch as u32, 1, x.rows as u32, cols];
            y = bridge::reshape(&y, dims).map_err(failed("linear"))?;
        }
        if fused != activation {
            y = bridge::activate(&y, activation).map_err(failed("activation"))?;
        }
        let tensor = Rc::new(y);
        Ok(Value { tensor, cols: w.rows, head: w.head, split: false, dtype, ..x.clone() })
    }

    /// How the product of `x` and a matrix goes through the cores: in the blocks that keep them busy for the shortest time, where
    /// rows come in whole tiles; otherwise as TTNN chooses.
    fn blocks(
        &self,
        x: &Value,
        matrix: &Tensor,
        class: PrecisionClass,
        output: Dtype,
    ) -> Result<Blocks, DeviceError> {
        if x.split || x.batch > 1 && !x.rows.is_multiple_of(TILE) {
            return Ok(Blocks::default());
        }
        let [.., inner, cols] =
            bridge::dims(matrix).map_err(failed("linear"))?.map(|n| (n as usize).div_ceil(TILE));
        let precision = self.options.precision(class);
        let rows = x.batch * tiled(x.rows);
        let product = Product {
            rows: rows / TILE,
            inner,
            cols,
            input: tile_bytes(x.dtype),
            weight: precision.weights.tile_bytes(),
            output: tile_bytes(output),
            passes: precision.fidelity.phases(),
            wide: self.options.f32_accumulate,
        };
        let grid = (self.facts.grid_x as usize, self.facts.grid_y as usize);
        let room = room_for_blocks(self.facts.l1_bytes as usize);
        let found = blocks::Blocks::of(&product, grid, room);
        Ok(found.map_or_else(Blocks::default, |b| Blocks {
            columns: b.grid.0,
            lines: b.grid.1,
            both: b.both,
            share_rows: b.share.0,
            share_cols: b.share.1,
            block_rows: b.block.0,
            block_cols: b.block.1,
            register_rows: b.registers.0,
            register_cols: b.registers.1,
            depth: b.depth,
            near: rows <= NEAR_ROWS,
        }))
    }

    pub(super) fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "linear";
        let at = weight.0 as usize;
        let value = self.get(OP, x)?;
        let class = self.weights[at].class;
        let wide = class == PrecisionClass::Exact;
        let mut old = None;
        if epilogue.adds() {
            // A stream that comes from elsewhere is stored from here on as this class stores it.
            let residual = options::dtype(self.options.precision(class).residual);
            let stream = self.get(OP, out)?;
            old = Some(self.cast(stream, residual)?);
        }
        // Heads go to attention, which takes bf16.
        let dtype = match &old {
            Some(old) => old.dtype,
            None if self.weights[at].head.is_some() => Dtype::Bf16,
            None => self.dtype_of(out.buffer.0),
        };
        let bias = self.bias(bias, wide)?;
        let activation = match epilogue {
            Epilogue::Gelu => self.options.gelu(),
            Epilogue::Silu => Activation::Silu,
            Epilogue::Store | Epilogue::Add | Epilogue::AddGated(_) => Activation::None,
        };
        let mut y = self.product(&value, at, false, bias.as_ref(), activation, dtype)?;
        if let Some(old) = old {
            let sum = match epilogue {
                Epilogue::AddGated(gate) => {
                    let gate = self.row(whole(OP, gate)?, dtype == Dtype::F32)?;
                    bridge::add_product(&old.tensor, &y.tensor, &gate)
                }
                _ => bridge::add(&old.tensor, &y.tensor, dtype),
            };
            y = old.with(sum.map_err(failed(OP))?, dtype);
        }
        self.put(OP, out, y)
    }

    pub(super) fn geglu(&mut self, x: View, weight: Weight, out: View) -> Result<(), DeviceError> {
        const OP: &str = "geglu";
        let at = weight.0 as usize;
        let value = self.get(OP, x)?;
        let gate = self.product(&value, at, false, None, Activation::None, Dtype::Bf16)?;
        let up = self.product(&value, at, true, None, Activation::None, Dtype::Bf16)?;
        let gelu = self.options.gelu();
        let gated = if self.options.fuse_activations {
            bridge::multiply_activated(&gate.tensor, &up.tensor, gelu, Dtype::Bf16)
        } else {
            let gate = bridge::activate(&gate.tensor, gelu).map_err(failed(OP))?;
            bridge::multiply(&gate, &up.tensor, Dtype::Bf16)
        };
        let gated = gated.map_err(failed(OP))?;
        self.put(OP, out, gate.with(gated, Dtype::Bf16))
    }
}
