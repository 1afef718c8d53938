//! Matrix products, and the two embeddings that feed the model.

use std::rc::Rc;

use super::bridge::{self, Activation, Dtype, Tensor};
use super::load::pad_heads;
use super::value::Value;
use super::{Constant, Handle, Ttnn, expect, failed, padded, shape};
use crate::device::{DeviceError, OpResult, Part, PatchEmbed, Table, Then, Vector, View, Weight};

impl Ttnn {
    pub(super) fn bias(&mut self, bias: Option<Vector>, wide: bool) -> Result<Option<Handle>, DeviceError> {
        let Some(bias) = bias else { return Ok(None) };
        let (values, head) = self.vectors[bias.0 as usize].clone();
        let values = pad_heads(&values, head);
        let dtype = if wide { Dtype::F32 } else { Dtype::Bf16 };
        let dims = [1, 1, 1, values.len()];
        self.constant(Constant::Bias(bias.0, wide), dims, dtype, || values).map(Some)
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

    pub(super) fn multiply(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        then: Then,
        out: View,
    ) -> OpResult {
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

    pub(super) fn gate(&mut self, x: View, weight: Weight, out: View) -> OpResult {
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

    pub(super) fn embed_patches(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
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

    pub(super) fn look_up(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
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
}
