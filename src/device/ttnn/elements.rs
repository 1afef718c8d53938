//! Operations element by element, and rows that are looked up.

use super::bridge::{self, Dtype};
use super::card::Ttnn;
use super::failure::{failed, refuse};
use super::value::Value;
use crate::device::error::shape;
use crate::device::{Blend, DeviceError, Table, View};
use crate::tenstorrent::board::tiled;

impl Ttnn {
    pub(super) fn embed(
        &mut self,
        table: Table,
        ids: View,
        scale: f32,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "embed";
        let at = ids.buffer.0 as usize;
        let known = self.inventory.table(OP, table)?.rows;
        // Rows below those that were written have id 0.
        let written = &self.buffers[at].ids;
        let (Some((_, tokens)), 0) = (self.buffers[at].pieces.first(), ids.row) else {
            return Err(refuse(OP, "tokens are looked up from the first that was written"));
        };
        if let Some(row) = written.iter().take(ids.rows).position(|&id| id as usize >= known) {
            return Err(shape(
                OP,
                format!("a token below {known}"),
                format!("{} at row {row}", written[row]),
            ));
        }
        let tokens = tokens.clone();
        let (table, cols) = self.tables[table.0 as usize].clone();
        let rows = bridge::embedding(&tokens.tensor, &table).map_err(failed(OP))?;
        let all = tiled(self.buffers[at].rows) as u32;
        let mut rows = bridge::reshape(&rows, [1, 1, all, cols as u32]).map_err(failed(OP))?;
        let wanted = tiled(ids.rows) as u32;
        if wanted < all {
            rows = bridge::slice(&rows, [0; 4], [1, 1, wanted, cols as u32]).map_err(failed(OP))?;
        }
        let dtype = self.dtype_of(out.buffer.0);
        let scaled = bridge::scale(&rows, scale).map_err(failed(OP))?;
        let value = self.cast(Value::matrix(scaled, ids.rows, cols, Dtype::Bf16), dtype)?;
        self.put(OP, out, value)
    }

    pub(super) fn copy(&mut self, x: View, out: View) -> Result<(), DeviceError> {
        // Values are replaced, never changed: a second name is a copy.
        let value = self.get("copy", x)?;
        self.put("copy", out, value)
    }

    pub(super) fn blend(
        &mut self,
        y: View,
        x: View,
        target: View,
        row_weights: View,
        args: Blend,
    ) -> Result<(), DeviceError> {
        const OP: &str = "blend";
        let (blended, x) = (self.get(OP, y)?, self.get(OP, x)?);
        let (target, weights) = (self.get(OP, target)?, self.get(OP, row_weights)?);
        let moved = || {
            let reached = bridge::add_scaled(&x.tensor, &blended.tensor, -args.alpha, Dtype::F32)?;
            let error = bridge::subtract(&target.tensor, &reached)?;
            let weighted = bridge::multiply(&error, &weights.tensor, Dtype::F32)?;
            bridge::add_scaled(&blended.tensor, &weighted, -args.beta, Dtype::F32)
        };
        let moved = moved().map_err(failed(OP))?;
        self.put(OP, y, blended.with(moved, Dtype::F32))
    }

    pub(super) fn euler_step(&mut self, x: View, v: View, dt: f32) -> Result<(), DeviceError> {
        const OP: &str = "euler_step";
        let (state, velocity) = (self.get(OP, x)?, self.get(OP, v)?);
        let stepped =
            bridge::add_scaled(&state.tensor, &velocity.tensor, dt, Dtype::F32).map_err(failed(OP))?;
        self.put(OP, x, state.with(stepped, Dtype::F32))
    }
}
