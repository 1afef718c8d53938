//! Rotary embedding.

use std::rc::Rc;

use super::bridge::{self, Activation, Blocks, Dtype};
use super::card::{Constant, Handle, Ttnn};
use super::failure::{failed, refuse};
use super::value::Value;
use crate::device::{DeviceError, PrecisionClass, Rope, View};
use crate::tenstorrent::board::{TILE, tiled};

impl Ttnn {
    /// Cosines and sines for rows from `position` on, `[1, 1, padded rows, head_dim]`.
    pub(super) fn angles(&mut self, rope: Rope, rows: usize) -> Result<(Handle, Handle), DeviceError> {
        let (head, rows_padded) = (rope.head_dim, tiled(rows));
        if rope.position == 0 {
            let dims = [1, 1, rows_padded, head];
            let mut of = |sine| {
                let values = || table(head, rows_padded, sine);
                self.constant(Constant::Angles(head, rows_padded, sine), dims, Dtype::Bf16, values)
            };
            return Ok((of(false)?, of(true)?));
        }
        let positions = self.caches.iter().map(|cache| cache.rows).max().unwrap_or(0);
        if rope.position + rows > positions {
            return Err(refuse("rope", "positions are those of a cache's rows"));
        }
        let at = self.position(rope.position, rows)?;
        if let Some(angles) = &self.positions[at].angles {
            return Ok(angles.clone());
        }
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
    pub(super) fn rotate(&mut self, x: Value, rope: Option<Rope>) -> Result<Value, DeviceError> {
        let Some(rope) = rope else { return Ok(x) };
        let (cos, sin) = self.angles(rope, x.all_rows())?;
        let compute = self.options.compute(PrecisionClass::Exact);
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
            let blocks = Blocks::default();
            bridge::linear(
                &x.tensor,
                &rotation,
                std::ptr::null(),
                Activation::None,
                x.dtype,
                &compute,
                &blocks,
            )
        };
        let turned = turned.map_err(failed("rope"))?;
        let along = bridge::multiply(&x.tensor, &cos, Dtype::F32).map_err(failed("rope"))?;
        let across = bridge::multiply(&turned, &sin, Dtype::F32).map_err(failed("rope"))?;
        let sum = bridge::add(&along, &across, Dtype::F32).map_err(failed("rope"))?;
        let tensor = bridge::typecast(&sum, x.dtype).map_err(failed("rope"))?;
        Ok(x.with(tensor, x.dtype))
    }

    pub(super) fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> Result<(), DeviceError> {
        let heads = self.heads("rope", x, rope.map(|rope| rope.head_dim), true)?;
        let rotated = self.rotate(heads, rope)?;
        self.put("rope", out, rotated)
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
